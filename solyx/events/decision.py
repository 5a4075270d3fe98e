"""Decisions and their outcomes (topics ``placements``, ``allocations``, ``routes``, ``actuations``).

One counter, ``revision``, grows over a job's life. The CMO raises it with every placement; the DRM's allocation and the
actuator's report carry the revision of the placement that they answer. Under one revision a workload runs at most once;
whoever holds a higher revision refuses a lower one.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar, Literal

from solyx.events.event import Event, Model, Time
from solyx.events.job import DeviceKind, JobSpec, NonNegative, NonNegativeInt, PositiveInt

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


class DeviceAssignment(Model, frozen=True, kw_only=True):
    """A share of one device of a node."""

    kind: DeviceKind = "gpu"
    model: str
    index: NonNegativeInt
    share_milli: PositiveInt


class PodAssignment(Model, frozen=True, kw_only=True):
    """Where one pod of the gang runs."""

    index: NonNegativeInt
    node: str
    devices: tuple[DeviceAssignment, ...] = ()


class AllocationReason(StrEnum):
    """Why a job was admitted now."""

    FITS = "fits"  # its turn, and it fits
    BACKFILL = "backfill"  # went ahead of a larger job that does not fit yet


class DeferralReason(StrEnum):
    """Why a placed job waits at its site."""

    NO_CAPACITY = "no_capacity"
    QUOTA = "quota"
    NO_NODE_FITS = "no_node_fits"  # no single node could hold a pod even when empty
    SITE_UNKNOWN = "site_unknown"  # no inventory yet


class ReleaseReason(StrEnum):
    """Why an allocation ended."""

    FINISHED = "finished"
    FAILED = "failed"
    WITHDRAWN = "withdrawn"
    PREEMPTED = "preempted"


class JobAllocated(Event, frozen=True, kw_only=True):
    """The DRM admitted a job and chose its nodes and devices."""

    TYPE: ClassVar[str] = "io.solyx.job.allocated.v1"
    TOPIC: ClassVar[str] = "allocations"

    job_id: str
    tenant: str
    spec: JobSpec
    site: str
    revision: PositiveInt
    pods: tuple[PodAssignment, ...]
    reason: AllocationReason
    waited_s: NonNegative = 0.0  # since the placement's start time
    submitted_at: Time
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
        return f"{self.job_id}.{self.revision}.allocated"


class AllocationDeferred(Event, frozen=True, kw_only=True):
    """A placed job has to wait; published once for each reason."""

    TYPE: ClassVar[str] = "io.solyx.allocation.deferred.v1"
    TOPIC: ClassVar[str] = "allocations"

    job_id: str
    tenant: str
    site: str
    revision: PositiveInt
    reason: DeferralReason
    detail: str = ""  # which figure must change, in words
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
        return f"{self.job_id}.{self.revision}.deferred.{self.reason}"


class AllocationReleased(Event, frozen=True, kw_only=True):
    """Nothing of the job under this revision holds resources any more, or may: the actuator stops what still runs."""

    TYPE: ClassVar[str] = "io.solyx.allocation.released.v1"
    TOPIC: ClassVar[str] = "allocations"

    job_id: str
    tenant: str
    site: str
    revision: PositiveInt
    reason: ReleaseReason
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
        return f"{self.job_id}.{self.revision}.released"


class RouteReason(StrEnum):
    """Why a route was published."""

    FIRST = "first"  # the pair had no route
    LINK_DOWN = "link_down"
    CONGESTED = "congested"
    BETTER_PATH = "better_path"  # better by more than the hysteresis
    NO_PATH = "no_path"  # the pair is disconnected; path is empty


class RouteDecided(Event, frozen=True, kw_only=True):
    """The path between two sites, and a link-disjoint backup where there is one."""

    TYPE: ClassVar[str] = "io.solyx.route.decided.v1"
    TOPIC: ClassVar[str] = "routes"

    source: str  # site
    target: str  # site
    revision: PositiveInt
    path: tuple[str, ...]  # network nodes, ends included
    backup: tuple[str, ...] = ()
    latency_ms: NonNegative = 0.0
    headroom_bps: NonNegative = 0.0  # least spare capacity along the path
    reason: RouteReason
    decided_at: Time

    @property
    def key(self) -> str:
        return f"{self.source}>{self.target}"

    @property
    def id(self) -> str:
        return f"{self.key}.{self.revision}"


WorkloadStatus = Literal["started", "succeeded", "failed", "stopped"]


class WorkloadReason(StrEnum):
    """What made a workload change its status."""

    APPLIED = "applied"
    COMPLETED = "completed"
    EXIT_CODE = "exit_code"
    NODE_LOST = "node_lost"
    REJECTED = "rejected"  # the cluster refused the manifest for good
    RELEASED = "released"  # stopped because its allocation was released


class WorkloadReported(Event, frozen=True, kw_only=True):
    """What a cluster did with an allocation. The last status of a workload is kept by compaction."""

    TYPE: ClassVar[str] = "io.solyx.workload.reported.v1"
    TOPIC: ClassVar[str] = "actuations"

    job_id: str
    tenant: str
    site: str
    revision: PositiveInt
    status: WorkloadStatus
    reason: WorkloadReason
    message: str = ""
    started_at: Time | None = None
    at: Time  # when it happened

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
        return f"{self.job_id}.{self.revision}.{self.status}"


class RouteReported(Event, frozen=True, kw_only=True):
    """What the network did with a route."""

    TYPE: ClassVar[str] = "io.solyx.route.reported.v1"
    TOPIC: ClassVar[str] = "actuations"

    source: str
    target: str
    revision: PositiveInt
    status: Literal["applied", "failed"]
    message: str = ""
    at: Time

    @property
    def key(self) -> str:
        return f"route/{self.source}>{self.target}"

    @property
    def ordering_key(self) -> str:
        return f"{self.source}>{self.target}"

    @property
    def subject(self) -> str:
        return f"{self.source}>{self.target}"

    @property
    def id(self) -> str:
        return f"{self.subject}.{self.revision}.{self.status}"
