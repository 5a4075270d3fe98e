"""Where and when each job runs, and how it ends (topic ``placements``, written by the CMO).

One counter, ``revision``, grows over a job's life. The CMO raises it with every placement; the DRM's allocation and the
actuator's report carry the revision of the placement that they answer. Under one revision a workload runs at most once;
whoever holds a higher revision refuses a lower one.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar, Literal

from solyx.events.event import Model, NonNegative, NonNegativeInt, PositiveInt, Time, WorkloadEvent
from solyx.events.job import JobSpec

NOWHERE = "-"  # the site in the key of a job that ended without ever having been placed


class PlacementReason(StrEnum):
    """Why a job was put where and when it was."""

    LEAST_COST = "least_cost"  # the cheapest feasible pair of site and start
    ONLY_SITE = "only_site"  # constraints left one site
    DEADLINE = "deadline"  # the start was bound by the deadline or the maximum delay
    RETRY = "retry"  # placed again after a failure
    MIGRATION = "migration"  # moved because the gain pays for the movement
    RESUMED = "resumed"  # goes on where it was suspended or preempted, with its progress kept
    GRID_EVENT = "grid_event"  # moved or delayed to keep a site below its power cap
    PRICE_BOUND = "price_bound"  # moved or delayed because its site's price is above the bound of its owner
    LATENCY = "latency"  # moved because the site before it was not within the latency that the job asks for any more
    NO_FORECAST = "no_forecast"  # prices or carbon unknown: at home, at once


class WithdrawalReason(StrEnum):
    """Why a placement was taken back."""

    CANCELLED = "cancelled"
    MIGRATION = "migration"
    STUCK = "stuck"  # admitted nowhere in time at that site
    SITE_LOST = "site_lost"
    GRID_EVENT = "grid_event"  # its site must keep below a power cap
    PRICE_BOUND = "price_bound"  # its site's price is above the bound of the site's owner
    LATENCY = "latency"  # its site is not within the latency that the job asks for any more, and another is
    SUSPENSION = "suspension"  # goes on later, when energy is cheaper or cleaner
    PREEMPTION = "preemption"  # had not started, and makes room for a job of higher priority


class DeferralCause(StrEnum):
    """Why a job has no placement yet."""

    NO_READY_SITE = "no_ready_site"  # who can hold it is lost, has too few ready nodes, or no path to its data
    LATENCY = "latency"  # as measured now, no site is within the latency that it asks for
    BUDGET = "budget"  # its tenant's budget for the window is used up


class FinishReason(StrEnum):
    """Why a job ended."""

    COMPLETED = "completed"
    CANCELLED = "cancelled"
    RETRIES_EXHAUSTED = "retries_exhausted"
    NO_SITE_FITS = "no_site_fits"
    DEADLINE_PASSED = "deadline_passed"
    LATENCY_UNREACHABLE = "latency_unreachable"
    UNKNOWN_SITE = "unknown_site"


class Usage(Model, frozen=True, kw_only=True):
    """What a job's runs took, above the idle floor of their sites."""

    cpu_h: float = 0.0  # core-hours held
    gpu_h: float = 0.0  # device-hours held, by share
    energy_kwh: float = 0.0  # at the meter
    cost_eur: float = 0.0  # energy and data movement
    carbon_kg: float = 0.0
    measured_kwh: float = 0.0  # of energy_kwh: what meters read; the rest is modelled

    def plus(self, other: Usage) -> Usage:
        """The sum of both."""
        return Usage(
            cpu_h=self.cpu_h + other.cpu_h,
            gpu_h=self.gpu_h + other.gpu_h,
            energy_kwh=self.energy_kwh + other.energy_kwh,
            cost_eur=self.cost_eur + other.cost_eur,
            carbon_kg=self.carbon_kg + other.carbon_kg,
            measured_kwh=self.measured_kwh + other.measured_kwh,
        )


class Run(Model, frozen=True, kw_only=True):
    """A run of a job that is over, with what it took."""

    revision: PositiveInt  # of the placement under which it ran
    site: str
    started_at: Time
    ended_at: Time
    usage: Usage = Usage()


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


class Victim(Model, frozen=True, kw_only=True):
    """A workload at the same site that may be stopped so that a job can start."""

    job_id: str
    revision: PositiveInt  # of the placement under which it runs


class JobPlaced(WorkloadEvent, frozen=True, kw_only=True):
    """The CMO chose where and when a job runs."""

    TYPE: ClassVar[str] = "io.solyx.job.placed.v1"
    TOPIC: ClassVar[str] = "placements"

    spec: JobSpec
    submitted_at: Time
    start_at: Time
    data_at: Time | None = (
        None  # when its data is there, by what the links of its path have free; None: nothing limits it
    )
    data_from: Time | None = None  # when its data begins to move there
    attempt: PositiveInt = 1
    reason: PlacementReason
    cost: CostBreakdown
    alternative: Alternative | None = None
    bound_by: str = ""  # the constraint that bound, in words
    victims: tuple[Victim, ...] = ()  # whom the CMO chose to make room for it; whether they are stopped decides the DRM
    progress_s: NonNegative = 0.0  # work that earlier runs did and kept; this one goes on from there
    used: Usage = Usage()  # by the runs before this one
    runs: tuple[Run, ...] = ()  # these runs
    decided_at: Time

    @property
    def id(self) -> str:
        return f"{self.job_id}.{self.revision}.placed"


class PlacementWithdrawn(WorkloadEvent, frozen=True, kw_only=True):
    """The CMO takes a placement back: whatever runs under it must stop, and nothing of it may start any more."""

    TYPE: ClassVar[str] = "io.solyx.placement.withdrawn.v1"
    TOPIC: ClassVar[str] = "placements"

    spec: JobSpec
    submitted_at: Time
    attempt: PositiveInt = 1
    reason: WithdrawalReason
    detail: str = ""  # the figures, in words
    data_at: Time | None = None  # of the placement that is taken back, like the next two
    progress_s: NonNegative = 0.0
    used: Usage = Usage()
    runs: tuple[Run, ...] = ()
    decided_at: Time

    @property
    def id(self) -> str:
        return f"{self.job_id}.{self.revision}.withdrawn"


class PlacementDeferred(WorkloadEvent, frozen=True, kw_only=True):
    """The CMO cannot place a job now; published once for each reason, and again when ``until`` has passed.

    ``revision`` is that of the last placement.
    """

    TYPE: ClassVar[str] = "io.solyx.placement.deferred.v1"
    TOPIC: ClassVar[str] = "placements"

    site: str = NOWHERE
    revision: NonNegativeInt = 0
    spec: JobSpec
    submitted_at: Time
    reason: DeferralCause
    detail: str = ""  # which figure must change, in words
    until: Time | None = None  # when it is looked at again at the latest; None: when the world changes
    runs: tuple[Run, ...] = ()  # that it had so far
    decided_at: Time

    @property
    def ordering_key(self) -> str:
        return _order(self)

    @property
    def id(self) -> str:
        told = f"{self.job_id}.{self.revision}.unplaced.{self.reason}"
        return told if self.until is None else f"{told}.{self.until.isoformat()}"


JobOutcome = Literal["succeeded", "failed", "cancelled"]


class JobFinished(WorkloadEvent, frozen=True, kw_only=True):
    """The one terminal outcome of a job."""

    TYPE: ClassVar[str] = "io.solyx.job.finished.v1"
    TOPIC: ClassVar[str] = "placements"

    site: str = NOWHERE
    revision: NonNegativeInt = 0  # of the last placement; 0: never placed
    outcome: JobOutcome
    reason: FinishReason
    message: str = ""
    usage: Usage | None = None  # of all its runs; None: it never ran, or nobody metered it
    runs: tuple[Run, ...] = ()
    finished_at: Time

    @property
    def ordering_key(self) -> str:
        return _order(self)

    @property
    def id(self) -> str:
        return f"{self.job_id}.finished"


def _order(event: PlacementDeferred | JobFinished) -> str:
    """Jobs that were never placed are spread over the partitions by their id."""
    return event.site if event.site != NOWHERE else event.job_id
