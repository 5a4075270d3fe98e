"""What sites delivered when the grid asked them to save power (topic ``responses``, written by the CMO)."""

from __future__ import annotations

from typing import ClassVar, Literal

from solyx.events.energy import GridWindow
from solyx.events.event import NonNegative, NonNegativeInt, Time

ResponseStatus = Literal["planned", "active", "short", "ended", "cancelled"]


class DemandResponseReported(GridWindow, frozen=True, kw_only=True):
    """How one site answers one grid event; a later record replaces it.

    Powers are at the site's meter, from its power model and what runs there.
    """

    TYPE: ClassVar[str] = "io.solyx.grid.response_reported.v1"
    TOPIC: ClassVar[str] = "responses"

    status: ResponseStatus  # short: the ask cannot be met, or is not met now; `detail` says why
    detail: str = ""  # in words
    baseline_w: NonNegative = 0.0  # when shedding was first planned: what ran then
    planned_w: NonNegative = 0.0  # what the plan leaves at most
    now_w: NonNegative = 0.0  # as the grid sees it: less what the battery gives
    battery_w: NonNegative = 0.0  # what a battery can give all through the window; it counts towards the cap
    mean_w: NonNegative | None = None  # over the window so far; None before it begins
    peak_w: NonNegative | None = None  # in the window so far, from 30 s after its start on
    capped_at: Time | None = None  # since when the power has been at or below the cap
    suspended: NonNegativeInt = 0  # jobs
    migrated: NonNegativeInt = 0
    delayed: NonNegativeInt = 0
    stopped: NonNegativeInt = 0  # preempted: their progress is lost
    protected_deadlines_missed: NonNegativeInt = 0
    reported_at: Time

    @property
    def id(self) -> str:
        return f"{self.key}.{self.status}.{self.reported_at.isoformat()}"
