"""On which nodes and devices each job runs (topic ``allocations``, written by the DRM)."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from solyx.events.event import Model, NonNegative, NonNegativeInt, PositiveInt, Time, WorkloadEvent
from solyx.events.job import DeviceKind, JobSpec


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
    DRAINED = "drained"  # its node is to be empty
    CONSOLIDATED = "consolidated"  # it goes on elsewhere, so that a larger one fits where it was

    @property
    def stops(self) -> bool:
        """Whether the workload is told to stop; else it has ended."""
        return self not in (ReleaseReason.FINISHED, ReleaseReason.FAILED)


class JobAllocated(WorkloadEvent, frozen=True, kw_only=True):
    """The DRM admitted a job and chose its nodes and devices."""

    TYPE: ClassVar[str] = "io.solyx.job.allocated.v1"
    TOPIC: ClassVar[str] = "allocations"

    spec: JobSpec
    pods: tuple[PodAssignment, ...]
    reason: AllocationReason
    waited_s: NonNegative = 0.0  # since the placement's start time
    progress_s: NonNegative = 0.0  # work that earlier runs did and kept; this one goes on from there
    submitted_at: Time
    decided_at: Time

    @property
    def id(self) -> str:
        return f"{self.job_id}.{self.revision}.allocated"


class AllocationDeferred(WorkloadEvent, frozen=True, kw_only=True):
    """A placed job has to wait; published once for each reason."""

    TYPE: ClassVar[str] = "io.solyx.allocation.deferred.v1"
    TOPIC: ClassVar[str] = "allocations"

    reason: DeferralReason
    told: tuple[
        DeferralReason, ...
    ] = ()  # for which it was deferred before, under this revision: the topic keeps the last record
    detail: str = ""  # which figure must change, in words
    decided_at: Time

    @property
    def id(self) -> str:
        return f"{self.job_id}.{self.revision}.deferred.{self.reason}"


class AllocationReleased(WorkloadEvent, frozen=True, kw_only=True):
    """Nothing of the job under this revision holds resources any more, or may: the actuator stops what still runs."""

    TYPE: ClassVar[str] = "io.solyx.allocation.released.v1"
    TOPIC: ClassVar[str] = "allocations"

    reason: ReleaseReason
    grace_s: NonNegative = 0.0  # how long the workload may take to write its checkpoint before it is killed
    decided_at: Time

    @property
    def id(self) -> str:
        return f"{self.job_id}.{self.revision}.released"
