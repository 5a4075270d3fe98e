"""A site's price passes the bound of its owner: what the DRM asks for (topic ``grid``), and what the CMO did (topic ``responses``)."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from solyx.events.event import Model, NonNegative, NonNegativeInt, PositiveInt, SiteEvent, Time


class ReliefReason(StrEnum):
    """Why the DRM asks."""

    ANNOUNCED = "announced"  # the price will be above the bound in these hours, as published
    PRICE_BOUND = "price_bound"  # it is above the bound now
    LIFTED = "lifted"  # it is not, as is known now: what was asked before ends here


class ReliefJob(Model, frozen=True, kw_only=True):
    """Work that runs at the site and is worth stopping."""

    job_id: str
    revision: PositiveInt  # of the placement under which it runs
    power_w: NonNegative = 0.0  # that it takes above the idle floor
    saves_eur: float = 0.0  # what its power costs above the bound in the window, less what stopping it loses


class PriceWindow(SiteEvent, frozen=True, kw_only=True):
    """About one site in the hours in which its price is above its bound; a later record of the site replaces it."""

    site: str
    start: Time
    end: Time

    @property
    def key(self) -> str:
        return f"{self.site}/price-bound"


class ReliefRequested(PriceWindow, frozen=True, kw_only=True):
    """The DRM asks the CMO to move or suspend the least valuable work of a site; a later record replaces it.

    In the window nothing new is to start there, either.
    """

    TYPE: ClassVar[str] = "io.solyx.relief.requested.v1"
    TOPIC: ClassVar[str] = "grid"

    reason: ReliefReason
    price_bound_eur_per_mwh: float
    price_eur_per_mwh: float  # the highest of the window
    jobs: tuple[ReliefJob, ...] = ()  # the least valuable first; none before the window begins
    detail: str = ""  # in words, with the figures
    requested_at: Time

    @property
    def id(self) -> str:
        return f"{self.key}.{self.reason}.{self.requested_at.isoformat()}"


class KeptReason(StrEnum):
    """Why a job stays although its site asks for relief."""

    PROTECTED = "protected"  # it runs, and may be neither suspended nor preempted
    DEADLINE = "deadline"  # waiting, or moving to where there is room, would miss its deadline or maximum delay
    DELAY_WEIGHT = "delay_weight"  # by its owner's own weight of delay, waiting costs more than it saves
    RECENT = "recent"  # it was taken back for the same window, or less than an hour ago
    NO_SITE = "no_site"  # no site could take it now


class ReliefKept(Model, frozen=True, kw_only=True):
    """A job that stays."""

    job_id: str
    reason: KeptReason


class ReliefAnswered(PriceWindow, frozen=True, kw_only=True):
    """What the CMO did about a request: each is answered once. A later record of the site replaces it."""

    TYPE: ClassVar[str] = "io.solyx.relief.answered.v1"
    TOPIC: ClassVar[str] = "responses"

    requested_at: Time  # of the request
    asked_w: NonNegative = 0.0  # of the jobs that were named
    relieved_w: NonNegative = 0.0  # of what ran and was taken back
    suspended: NonNegativeInt = 0  # jobs
    migrated: NonNegativeInt = 0
    delayed: NonNegativeInt = 0  # starts that were planned or queued
    stopped: NonNegativeInt = 0  # preempted: their progress is lost
    kept: tuple[ReliefKept, ...] = ()
    answered_at: Time

    @property
    def id(self) -> str:
        return f"{self.key}.{self.requested_at.isoformat()}"
