"""What one site does about one event of the grid, and what it delivers: measured from look to look, told in reports."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import inf
from typing import TYPE_CHECKING

from solyx.events import DemandResponseReported

if TYPE_CHECKING:
    from solyx.events import GridEventAnnounced
    from solyx.events.response import ResponseStatus

TO_CAP_S = 30.0
"""After a window's start the power is at its cap (the span of the goal; the peak is taken from there on)."""
TOLERANCE_W = 1.0


@dataclass(slots=True)
class Answer:
    """What one site does about one event."""

    event: GridEventAnnounced
    status: ResponseStatus = "planned"
    detail: str = ""
    baseline_w: float = 0.0
    planned_w: float = 0.0
    now_w: float = 0.0
    mean_w: float | None = None  # over the window, up to `measured_s`
    peak_w: float | None = None
    measured_s: float = 0.0
    capped_at: datetime | None = None
    battery_w: float | None = None  # what a battery gives all through the window
    lead_s: float = 0.0  # the time that others need to make room
    did: dict[str, str] = field(default_factory=dict[str, str])  # by job: suspended, migrated, delayed, stopped
    before: dict[str, int] = field(default_factory=dict[str, int])  # the same, counted by an earlier life
    missed: int = 0
    made_room_w: dict[str, float] = field(default_factory=dict[str, float])  # by job
    back_w: float = 0.0  # of it, what was planned to come back
    deadlines_s: dict[str, float] = field(default_factory=dict[str, float])  # of protected work that was delayed
    told: tuple[str, str] | None = None
    told_s: float = -inf

    @property
    def start_s(self) -> float:
        """When the window begins."""
        return self.event.start.timestamp()

    @property
    def end_s(self) -> float:
        """When it is over."""
        return self.event.end.timestamp()

    def measure(self, now_w: float, now_s: float) -> None:
        """Up to now the power was what it was at the last look, before the first one what it is; from now on it is ``now_w``."""
        since_s, until_s = max(self.measured_s, self.start_s), min(now_s, self.end_s)
        was_w = self.now_w if self.measured_s else now_w
        if until_s > since_s:
            before_s = since_s - self.start_s
            self.mean_w = ((self.mean_w or 0.0) * before_s + was_w * (until_s - since_s)) / (until_s - self.start_s)
            if until_s > self.start_s + TO_CAP_S:
                self.peak_w = max(self.peak_w or 0.0, was_w)
        self.measured_s, self.now_w = now_s, now_w
        if now_w > self.event.power_cap_w + TOLERANCE_W:
            self.capped_at = None
        elif self.capped_at is None:
            self.capped_at = datetime.fromtimestamp(now_s, UTC)

    def report(self, now: datetime) -> DemandResponseReported:
        """As it is told."""
        event, counts = self.event, Counter(self.did.values()) + Counter(self.before)
        return DemandResponseReported(
            event_id=event.event_id,
            site=event.site,
            start=event.start,
            end=event.end,
            power_cap_w=event.power_cap_w,
            status=self.status,
            detail=self.detail,
            baseline_w=self.baseline_w,
            planned_w=self.planned_w,
            now_w=self.now_w,
            battery_w=self.battery_w or 0.0,
            mean_w=self.mean_w,
            peak_w=self.peak_w,
            capped_at=self.capped_at,
            suspended=counts["suspended"],
            migrated=counts["migrated"],
            delayed=counts["delayed"],
            stopped=counts["stopped"],
            protected_deadlines_missed=self.missed,
            reported_at=now,
        )
