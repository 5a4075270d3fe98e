"""What passes between the reconciler, the workers and the targets: commands out, outcomes and observations back.

A workload is one revision of a job at a site; a cluster holds at most one object a job.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import TypeAlias

import msgspec

from solyx.events import JobAllocated, RouteDecided, WorkloadReason


class Phase(StrEnum):
    """Where a workload stands on its cluster."""

    PENDING = "pending"  # accepted, nothing of it runs yet
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"  # ended because it was deleted or replaced

    @property
    def ended(self) -> bool:
        """Whether nothing of the workload runs any more, or ever will."""
        return self not in {Phase.PENDING, Phase.RUNNING}


class WorkloadState(msgspec.Struct, frozen=True, kw_only=True):
    """What a cluster says of a workload."""

    job_id: str
    revision: int
    phase: Phase
    reason: WorkloadReason = WorkloadReason.APPLIED
    message: str = ""
    started_at: datetime | None = None  # None: it never ran
    ended_at: datetime | None = None
    progress_s: float = 0.0  # work that a checkpoint keeps, of this run and those before it


class Apply(msgspec.Struct, frozen=True, kw_only=True):
    """Make the workload of this allocation exist, in place of any lower revision of its job."""

    allocation: JobAllocated

    @property
    def job_id(self) -> str:
        """The job."""
        return self.allocation.job_id

    @property
    def revision(self) -> int:
        """The workload's revision."""
        return self.allocation.revision


class Delete(msgspec.Struct, frozen=True, kw_only=True):
    """Make sure that nothing of the job at this revision or a lower one exists, or can ever start again."""

    job_id: str
    revision: int
    grace_s: float = 0.0  # how long it may take to write its checkpoint before it is killed


Command: TypeAlias = Apply | Delete


class Verdict(StrEnum):
    """What a target did with one item of a batch."""

    APPLIED = "applied"  # it is so now, or was so already
    STALE = "stale"  # refused: the target has seen a higher revision, or a deletion of this one
    REJECTED = "rejected"  # refused for good: the manifest or route is wrong
    UNAVAILABLE = "unavailable"  # this item may work later; others of the batch are not concerned


class ClusterOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to one ``Apply`` or ``Delete``. ``state``: the workload's, where the cluster knows it."""

    job_id: str
    revision: int
    verdict: Verdict
    message: str = ""
    state: WorkloadState | None = None


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """What a cluster's watch saw. ``complete``: ``states`` are all objects that exist, not only those that changed."""

    states: tuple[WorkloadState, ...]
    cursor: str  # where to go on watching
    complete: bool = False
    next_in_s: float | None = None  # wall seconds until the next change that is known already; None: none is


class RouteOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to one route."""

    route: RouteDecided
    verdict: Verdict
    message: str = ""
    at: datetime | None = None  # since when the network has it


class InstalledRoute(msgspec.Struct, frozen=True, kw_only=True):
    """A route that the network has."""

    key: str  # "source>target"
    revision: int


class CommandsFailed(msgspec.Struct, frozen=True, kw_only=True):
    """A whole call failed: the site, not the items, is in trouble, and its breaker decides when to try again."""

    site: str
    commands: tuple[Command, ...]


class CommandsDone(msgspec.Struct, frozen=True, kw_only=True):
    """A call's outcomes, in the order of its commands."""

    site: str
    outcomes: tuple[tuple[Command, ClusterOutcome], ...]


class SiteSeen(msgspec.Struct, frozen=True, kw_only=True):
    """A look at a cluster."""

    site: str
    changes: Changes


class RoutesFailed(msgspec.Struct, frozen=True, kw_only=True):
    """A whole call to the network failed."""

    routes: tuple[RouteDecided, ...]


class RoutesDone(msgspec.Struct, frozen=True, kw_only=True):
    """A call's outcomes."""

    outcomes: tuple[RouteOutcome, ...]


class RoutesSeen(msgspec.Struct, frozen=True, kw_only=True):
    """All routes that the network has."""

    installed: tuple[InstalledRoute, ...]


ClusterObservation: TypeAlias = CommandsDone | CommandsFailed | SiteSeen
NetworkObservation: TypeAlias = RoutesDone | RoutesFailed | RoutesSeen
Observation: TypeAlias = ClusterObservation | NetworkObservation
