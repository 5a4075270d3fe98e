"""The life of one job as the topics tell it, whatever the order in which they are read: the highest revision decides."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal, TypeAlias

from solyx.events import (
    AllocationDeferred,
    JobAllocated,
    JobCancellationRequested,
    JobFinished,
    JobPlaced,
    JobSubmitted,
    PlacementWithdrawn,
    WorkloadReported,
)

if TYPE_CHECKING:
    from solyx.events import JobSpec
    from solyx.events.outcome import WorkloadStatus

JobState: TypeAlias = Literal["submitted", "placed", "allocated", "running", "succeeded", "failed", "cancelled"]
JOB_STATES: tuple[JobState, ...] = ("submitted", "placed", "allocated", "running", "succeeded", "failed", "cancelled")

JobEvent: TypeAlias = (
    JobSubmitted
    | JobCancellationRequested
    | JobPlaced
    | PlacementWithdrawn
    | JobAllocated
    | AllocationDeferred
    | WorkloadReported
    | JobFinished
)


@dataclass(slots=True)
class Run:
    """A workload on a cluster; ``end`` None: it runs. Progress is work that checkpoints keep, over all runs of the job."""

    site: str
    start: datetime
    end: datetime | None = None
    status: WorkloadStatus = "started"
    from_s: float = 0.0  # progress when it started
    kept_s: float = 0.0  # progress when it ended

    def reached(self, now: datetime) -> timedelta:
        """How much of the job's work was done when this run ended or, if it runs, is done now.

        What a run that failed had done counts although it is lost: it was done once.
        """
        if self.status in ("succeeded", "stopped") and self.kept_s:
            return timedelta(seconds=self.kept_s)
        return timedelta(seconds=self.from_s) + (max(self.end or now, self.start) - self.start)


@dataclass(slots=True)
class Job:
    """What the topics say about one job. Revisions are 0 until there is one."""

    id: str
    tenant: str = ""
    spec: JobSpec | None = None
    submitted_at: datetime | None = None
    submitted_ms: int = 0  # when its submission was appended to the log, Unix ms; 0: it was not
    allocated_ms: int = 0  # when its first allocation was
    at_once: bool = False  # its first placement was to start without delay
    deferred: bool = False  # its first placement waited for capacity or quota
    placed: int = 0
    withdrawn: int = 0
    allocated: int = 0
    started: int = 0
    ended: int = 0
    site: str = ""
    site_revision: int = 0
    outcome: JobState | None = None
    runs: dict[int, Run] = field(default_factory=dict[int, Run])

    def work_done(self, now: datetime) -> timedelta:
        """How much of its work has been done, each part counted once; of one that succeeded, the whole."""
        whole = [run.reached(now) for run in self.runs.values() if run.status == "succeeded"]
        return max(whole or (run.reached(now) for run in self.runs.values()), default=timedelta())

    @property
    def state(self) -> JobState:
        """The state by the highest revision; between two placements a job counts as submitted."""
        if self.outcome is not None:
            return self.outcome
        revision = max(self.placed, self.allocated, self.started)
        if revision == 0 or self.ended >= revision:
            return "submitted"
        if self.started >= revision:
            return "running"
        if self.allocated >= revision:
            return "allocated"
        return "submitted" if self.withdrawn >= revision else "placed"


def merge(job: Job, event: JobEvent, timestamp_ms: int) -> bool:
    """Take the event into the job; True when its bill changes."""
    match event:
        case JobPlaced():
            job.placed = max(job.placed, event.revision)
            _at_site(job, event.site, event.revision)
            if event.revision == 1:
                job.at_once = event.start_at <= event.decided_at
        case PlacementWithdrawn():
            job.withdrawn = max(job.withdrawn, event.revision)
        case JobAllocated():
            job.allocated = max(job.allocated, event.revision)
            _at_site(job, event.site, event.revision)
            if event.revision == 1:
                job.allocated_ms = timestamp_ms
        case AllocationDeferred():
            job.deferred = job.deferred or event.revision == 1
        case WorkloadReported():
            return _merge_report(job, event)
        case JobFinished():
            job.outcome = event.outcome
            return bool(job.runs)
        case JobSubmitted() | JobCancellationRequested():
            pass
    return False


def _merge_report(job: Job, event: WorkloadReported) -> bool:
    """A report; an end names its start too, so the last report alone makes a run."""
    if event.status == "started":
        job.started = max(job.started, event.revision)
        _at_site(job, event.site, event.revision)
    else:
        job.ended = max(job.ended, event.revision)
    start = event.started_at or (event.at if event.status == "started" else None)
    if start is None:
        return False  # it never started
    job.started = max(job.started, event.revision)
    run = job.runs.setdefault(event.revision, Run(event.site, start))
    if event.status == "started":
        run.from_s = event.progress_s
    else:
        run.end, run.status, run.kept_s = event.at, event.status, event.progress_s
    return True


def _at_site(job: Job, site: str, revision: int) -> None:
    if revision >= job.site_revision:
        job.site, job.site_revision = site, revision
