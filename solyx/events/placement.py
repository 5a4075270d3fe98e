"""Where and when each job runs, and how it ends (topic ``placements``, written by the CMO).

One counter, ``revision``, grows over a job's life. The CMO raises it with every placement; the DRM's allocation and the
actuator's report carry the revision of the placement that they answer. Under one revision a workload runs at most once;
whoever holds a higher revision refuses a lower one.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar, Literal

from solyx.events.event import Event, Model, Time
from solyx.events.job import JobSpec, NonNegativeInt, PositiveInt

NOWHERE = "-"  # the site in the key of a job that ended without ever having been placed


class PlacementReason(StrEnum):
    """Why a job was put where and when it was."""

    LEAST_COST = "least_cost"  # the cheapest feasible pair of site and start
    ONLY_SITE = "only_site"  # constraints left one site
    DEADLINE = "deadline"  # the start was bound by the deadline or the maximum delay
    RETRY = "retry"  # placed again after a failure
    MIGRATION = "migration"  # moved because the gain pays for the movement
    NO_FORECAST = "no_forecast"  # prices or carbon unknown: at home, at once


class WithdrawalReason(StrEnum):
    """Why a placement was taken back."""

    CANCELLED = "cancelled"
    MIGRATION = "migration"
    STUCK = "stuck"  # admitted nowhere in time at that site
    SITE_LOST = "site_lost"
    GRID_EVENT = "grid_event"


class FinishReason(StrEnum):
    """Why a job ended."""

    COMPLETED = "completed"
    CANCELLED = "cancelled"
    RETRIES_EXHAUSTED = "retries_exhausted"
    NO_SITE_FITS = "no_site_fits"
    DEADLINE_PASSED = "deadline_passed"
    LATENCY_UNREACHABLE = "latency_unreachable"
    UNKNOWN_SITE = "unknown_site"


class CostBreakdown(Model, frozen=True, kw_only=True):
    """The components of a placement's expected cost, in EUR."""

    energy_eur: float = 0.0
    carbon_eur: float = 0.0
    movement_eur: float = 0.0
    delay_eur: float = 0.0
    energy_kwh: float = 0.0
    carbon_kg: float = 0.0

    @property
    def total_eur(self) -> float:
        """What the CMO minimises."""
        return self.energy_eur + self.carbon_eur + self.movement_eur + self.delay_eur


class Alternative(Model, frozen=True, kw_only=True):
    """The best pair of site and start that was not taken."""

    site: str
    start_at: Time
    total_eur: float


class JobPlaced(Event, frozen=True, kw_only=True):
    """The CMO chose where and when a job runs."""

    TYPE: ClassVar[str] = "io.solyx.job.placed.v1"
    TOPIC: ClassVar[str] = "placements"

    job_id: str
    tenant: str
    spec: JobSpec
    submitted_at: Time
    site: str
    start_at: Time
    revision: PositiveInt
    attempt: PositiveInt = 1
    reason: PlacementReason
    cost: CostBreakdown
    alternative: Alternative | None = None
    bound_by: str = ""  # the constraint that bound, in words
    decided_at: Time

    @property
    def key(self) -> str:
        return f"{self.site}/{self.job_id}"

    @property
    def ordering_key(self) -> str:
        return self.site

    @property
    def subject(self) -> str:
        return self.job_id

    @property
    def id(self) -> str:
        return f"{self.job_id}.{self.revision}.placed"


class PlacementWithdrawn(Event, frozen=True, kw_only=True):
    """The CMO takes a placement back: whatever runs under it must stop, and nothing of it may start any more."""

    TYPE: ClassVar[str] = "io.solyx.placement.withdrawn.v1"
    TOPIC: ClassVar[str] = "placements"

    job_id: str
    tenant: str
    spec: JobSpec
    submitted_at: Time
    site: str
    revision: PositiveInt  # of the placement that is taken back
    attempt: PositiveInt = 1
    reason: WithdrawalReason
    decided_at: Time

    @property
    def key(self) -> str:
        return f"{self.site}/{self.job_id}"

    @property
    def ordering_key(self) -> str:
        return self.site

    @property
    def subject(self) -> str:
        return self.job_id

    @property
    def id(self) -> str:
        return f"{self.job_id}.{self.revision}.withdrawn"


JobOutcome = Literal["succeeded", "failed", "cancelled"]


class JobFinished(Event, frozen=True, kw_only=True):
    """The one terminal outcome of a job."""

    TYPE: ClassVar[str] = "io.solyx.job.finished.v1"
    TOPIC: ClassVar[str] = "placements"

    job_id: str
    tenant: str
    site: str = NOWHERE
    revision: NonNegativeInt = 0  # of the last placement; 0: never placed
    outcome: JobOutcome
    reason: FinishReason
    message: str = ""
    finished_at: Time

    @property
    def key(self) -> str:
        return f"{self.site}/{self.job_id}"

    @property
    def ordering_key(self) -> str:
        return self.site if self.site != NOWHERE else self.job_id

    @property
    def subject(self) -> str:
        return self.job_id

    @property
    def id(self) -> str:
        return f"{self.job_id}.finished"
