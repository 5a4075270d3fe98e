"""One job at one site: its revisions that are not over yet, what to do next about them, and what to report.

Revisions are worked off from the lowest: a higher one is applied only after every lower one is reported ended, so a job
never runs under two revisions at a time. What to do follows from the state alone, whichever event came last.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from services.actuator.model import Apply, Command, Delete, Phase, WorkloadState
from solyx.events import AllocationReleased, JobAllocated, WorkloadReason, WorkloadReported

if TYPE_CHECKING:
    from datetime import datetime

    from solyx.events.outcome import WorkloadStatus

_STATUS: dict[Phase, WorkloadStatus] = {
    Phase.SUCCEEDED: "succeeded",
    Phase.FAILED: "failed",
    Phase.STOPPED: "stopped",
}


@dataclass(slots=True, kw_only=True)
class Workload:
    """A job under one revision."""

    revision: int
    tenant: str = ""
    allocation: JobAllocated | None = None
    released: bool = False
    started_reported: bool = False
    end_reported: bool = False
    present: bool = False  # an object of this revision is believed to be on the cluster
    grace_s: float = 0.0  # from being told to stop to being killed
    stopping: bool = False  # told to stop; its end is to be observed
    leftover: bool = False  # found on the cluster although no allocation explains it
    state: WorkloadState | None = None  # as last observed

    def observed(self, state: WorkloadState) -> None:
        """Merge what the cluster says. An end is final: a late report of a running workload does not revive it."""
        if self.state is None or not self.state.phase.ended:
            self.state = state

    def _reported(self, site: str, status: WorkloadStatus, state: WorkloadState, at: datetime) -> WorkloadReported:
        started = status == "started"
        # What an allocation starts from is kept even if nothing of it ever ran, and whether or not its cluster knows.
        kept_s = self.allocation.progress_s if self.allocation is not None and self.allocation.spec.suspendable else 0.0
        return WorkloadReported(
            job_id=state.job_id,
            tenant=self.tenant,
            site=site,
            revision=self.revision,
            status=status,
            reason=WorkloadReason.APPLIED if started else state.reason,
            message="" if started else state.message,
            started_at=state.started_at,
            progress_s=max(kept_s, 0.0 if started else state.progress_s),
            at=at,
        )

    def reports(self, site: str, now: datetime) -> list[WorkloadReported]:
        """What is to be told and was not told yet; told once it is returned."""
        state = self.state
        if state is None or self.end_reported:
            return []
        reports: list[WorkloadReported] = []
        if state.started_at is not None and not self.started_reported:
            self.started_reported = True
            reports.append(self._reported(site, "started", state, state.started_at))
        if state.phase.ended:
            self.end_reported = True
            reports.append(self._reported(site, _STATUS[state.phase], state, state.ended_at or now))
        return reports


@dataclass(slots=True, kw_only=True)
class Job:
    """The revisions of a job at a site that are not over, ascending."""

    job_id: str
    floor: int = 0  # every revision up to this one is over
    workloads: list[Workload] = field(default_factory=list["Workload"])
    in_flight: bool = False  # a command is under way; no other is given before its outcome
    attempts: int = 0  # failures in a row of this job's commands

    def find(self, revision: int) -> Workload | None:
        """The workload of a revision that is not over."""
        for workload in self.workloads:
            if workload.revision == revision:
                return workload
        return None

    def admit(self, revision: int) -> Workload | None:
        """The workload to merge an event into; None: the revision is over, or lower than one that was seen."""
        if revision <= self.floor:
            return None
        if not self.workloads or revision > self.workloads[-1].revision:
            self.workloads.append(Workload(revision=revision))
            return self.workloads[-1]
        return self.find(revision)

    def allocated(self, event: JobAllocated) -> bool:
        """Merge an allocation; False: refused, its revision is over or lower than one that was seen."""
        workload = self.admit(event.revision)
        if workload is None:
            return False
        if workload.leftover and not self.in_flight:  # its allocation came after all
            workload.leftover = workload.released = workload.end_reported = workload.present = False
            workload.state = None
        workload.allocation = event
        workload.tenant = event.tenant
        return True

    def released(self, event: AllocationReleased) -> bool:
        """Merge a release; it wins over the allocation of its revision in whichever order the two come."""
        workload = self.admit(event.revision)
        if workload is None:
            return False
        workload.released = True
        workload.grace_s = event.grace_s
        workload.tenant = event.tenant
        return True

    def waits(self, revision: int) -> None:
        """The DRM considers ``revision``: every lower one was released, even if compaction has removed the release."""
        for workload in self.workloads:
            if workload.revision < revision:
                workload.released = True

    def reported(self, event: WorkloadReported) -> None:
        """Merge an own report, during recovery. A report implies that every lower revision was reported ended before."""
        workload = self.admit(event.revision)
        if workload is None:
            return
        workload.tenant = event.tenant
        workload.started_reported = True
        workload.end_reported |= event.status != "started"
        self.floor = max(self.floor, event.revision - 1)
        self.workloads = [other for other in self.workloads if other.revision > self.floor]

    def prune(self) -> None:
        """Drop workloads of which nothing is left to do."""
        kept: list[Workload] = []
        for position, workload in enumerate(self.workloads):
            superseded = position < len(self.workloads) - 1
            if workload.end_reported and not workload.present and (workload.released or superseded):
                self.floor = max(self.floor, workload.revision)
            else:
                kept.append(workload)
        self.workloads = kept

    def _stop(self, workload: Workload) -> Delete:
        return Delete(job_id=self.job_id, revision=workload.revision, grace_s=workload.grace_s)

    def next_command(self) -> Command | None:
        """What the cluster is to do about this job now; None: nothing, or nothing before a report is published."""
        for position, workload in enumerate(self.workloads):
            over = workload.released or position < len(self.workloads) - 1
            if workload.end_reported:
                if over and workload.present:
                    return Delete(job_id=self.job_id, revision=workload.revision)
                continue
            if workload.state is not None and workload.state.phase.ended:
                return None  # its end is reported first
            if over:
                return None if workload.stopping else self._stop(workload)
            if workload.present or workload.allocation is None:
                return None
            return Apply(allocation=workload.allocation)
        return None
