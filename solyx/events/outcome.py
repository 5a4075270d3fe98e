"""What clusters and networks did (topic ``actuations``, written by the actuator)."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar, Literal

from solyx.events.event import Event, NonNegative, PositiveInt, Time, WorkloadEvent

WorkloadStatus = Literal["started", "succeeded", "failed", "stopped"]


class WorkloadReason(StrEnum):
    """What made a workload change its status."""

    APPLIED = "applied"
    COMPLETED = "completed"
    EXIT_CODE = "exit_code"
    NODE_LOST = "node_lost"
    REJECTED = "rejected"  # the cluster refused the manifest for good
    RELEASED = "released"  # stopped because its allocation was released


class WorkloadReported(WorkloadEvent, frozen=True, kw_only=True):
    """What a cluster did with an allocation. The last status of a workload is kept by compaction."""

    TYPE: ClassVar[str] = "io.solyx.workload.reported.v1"
    TOPIC: ClassVar[str] = "actuations"

    status: WorkloadStatus
    reason: WorkloadReason
    message: str = ""
    started_at: Time | None = None
    progress_s: NonNegative = 0.0  # work done so far and kept in a checkpoint, by this run and those before it
    at: Time  # when it happened

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
