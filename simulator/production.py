"""Policy ``solyx``: the production cores of CMO and DRM, event by event, with a perfect actuator.

The loop is the production flow with the topics taken out: an event goes to every core that reads its topic, cores decide until
nobody has anything to say, then time moves to the next thing that happens (an arrival, a start time, an end, something published).
The actuator starts an allocation the moment it is made, ends it after the job's true duration and stops it when it is released.
A stopped job that is suspendable keeps its progress, less the work that a suspension loses; another one begins anew.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from typing import TYPE_CHECKING

from services.cmo.core import CmoCore
from services.drm.core import DrmCore
from simulator.runs import Runs
from solyx.events import (
    AllocationReleased,
    JobAllocated,
    JobFinished,
    JobPlaced,
    JobSubmitted,
    PlacementWithdrawn,
    ReliefRequested,
    WorkloadReason,
    WorkloadReported,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from services.cmo.model import Policy
    from simulator.knowledge import Moment
    from simulator.workload import Job, Workload
    from solyx.events import Event
    from solyx.events.outcome import WorkloadStatus

_LAST_WORDS_S = 14 * 86_400.0  # after the last arrival: whoever has not ended by then never will


class _Kind(IntEnum):
    """What happens; of one moment, in this order."""

    END = 0
    LEARN = 1
    ARRIVE = 2
    WAKE = 3


@dataclass(slots=True)
class _Running:
    allocated: JobAllocated
    start_s: float
    restart_s: float  # what it repeats before it goes on


class Production:
    """Both cores, the simulated actuator, and the virtual clock."""

    def __init__(
        self,
        workload: Workload,
        sites: Sequence[str],
        policy: Policy,
        *,
        suspend_overhead_s: float,
    ) -> None:
        self.cmo, self.drm = CmoCore(policy), DrmCore()
        self.runs = Runs()
        self.refusals: dict[str, str] = {}  # job → reason, of those that ended otherwise than well
        self._jobs: dict[str, Job] = {job.job_id: job for job in workload.jobs}
        self._workload = workload
        self._sites = {name: index for index, name in enumerate(sites)}
        self._overhead_s = suspend_overhead_s
        self._running: dict[str, _Running] = {}
        self._allocated_revision: dict[str, int] = {}
        self._heap: list[tuple[float, int, int, object]] = []
        self._serial = 0

    def run(self, moments: Sequence[Moment], progress: Callable[[float], None] = lambda _share: None) -> Runs:
        """Everything, from the first moment until every job has ended."""
        jobs = self._workload.jobs
        for moment in moments:
            self._push(moment.at_s, _Kind.LEARN, moment)
        for job in jobs:
            self._push(job.arrival_s, _Kind.ARRIVE, job)
        end_s = (jobs[-1].arrival_s if jobs else 0.0) + _LAST_WORDS_S
        finished = 0
        while self._heap and self._heap[0][0] <= end_s and len(self.runs.done_s) + len(self.refusals) < len(jobs):
            now_s = self._heap[0][0]
            inbox: list[Event] = []
            while self._heap and self._heap[0][0] == now_s:
                _, kind, _, what = heapq.heappop(self._heap)
                self._happen(_Kind(kind), what, now_s, inbox)
            self._settle(inbox, now_s)
            if len(self.runs.done_s) - finished >= 500:
                finished = len(self.runs.done_s)
                progress(finished / len(jobs))
        return self.runs

    def _push(self, at_s: float, kind: _Kind, what: object) -> None:
        self._serial += 1
        heapq.heappush(self._heap, (at_s, int(kind), self._serial, what))

    def _happen(self, kind: _Kind, what: object, now_s: float, inbox: list[Event]) -> None:
        match kind:
            case _Kind.ARRIVE:
                job: Job = what  # pyright: ignore[reportAssignmentType] - by kind
                inbox.append(
                    JobSubmitted(job_id=job.job_id, tenant=job.tenant, spec=job.spec, submitted_at=_time(now_s))
                )
            case _Kind.LEARN:
                moment: Moment = what  # pyright: ignore[reportAssignmentType]
                inbox.extend(moment.events())
            case _Kind.END:
                running: _Running = what  # pyright: ignore[reportAssignmentType]
                if self._running.get(running.allocated.job_id) is running:
                    inbox.append(self._end(running, "succeeded", WorkloadReason.COMPLETED, now_s))
            case _Kind.WAKE:
                pass

    def _settle(self, inbox: list[Event], now_s: float) -> None:
        """Fold and decide until nobody has anything to say; what is decided is read by everybody else."""
        now = _time(now_s)
        while True:
            for event in inbox:
                self.cmo.fold(event)
                self.drm.fold(event)
            placements = self.cmo.decide(now)
            for event in placements:
                self._note(event)
                self.drm.fold(event)
            allocations = self.drm.decide(now)
            for event in allocations:
                self.cmo.fold(event)
            inbox = [report for event in allocations for report in self._actuate(event, now_s)]
            asked = any(isinstance(event, ReliefRequested) for event in allocations)
            if not placements and not inbox and not asked:
                return

    def _note(self, event: Event) -> None:
        """Wake up at a start time; remember who ended otherwise than well."""
        match event:
            case JobPlaced():
                self._push(event.start_at.timestamp(), _Kind.WAKE, None)
            case JobFinished() if event.outcome != "succeeded":
                self.refusals[event.job_id] = event.reason
            case PlacementWithdrawn() | _:
                pass

    # The actuator -----------------------------------------------------------------------------------------------------

    def _actuate(self, event: Event, now_s: float) -> list[WorkloadReported]:
        match event:
            case JobAllocated():
                return [self._start(event, now_s)]
            case AllocationReleased() if event.reason.stops:
                return self._stop(event, now_s)
            case _:
                return []

    def _start(self, event: JobAllocated, now_s: float) -> WorkloadReported:
        job = self._jobs[event.job_id]
        kept_s = event.progress_s
        restart_s = self._overhead_s if kept_s else 0.0
        running = self._running[event.job_id] = _Running(event, now_s, restart_s)
        self._allocated_revision[event.job_id] = event.revision
        self.runs.queued_s[job.index] = self.runs.queued_s.get(job.index, 0.0) + event.waited_s
        self._push(now_s + job.true_duration_s - kept_s + restart_s, _Kind.END, running)
        return _report(event, "started", WorkloadReason.APPLIED, now_s, now_s)

    def _stop(self, event: AllocationReleased, now_s: float) -> list[WorkloadReported]:
        running = self._running.get(event.job_id)
        if running is not None and running.allocated.revision == event.revision:
            return [self._end(running, "stopped", WorkloadReason.RELEASED, now_s)]
        if self._allocated_revision.get(event.job_id, 0) < event.revision:
            return [_report(event, "stopped", WorkloadReason.RELEASED, now_s, None)]
        return []

    def _end(self, running: _Running, status: WorkloadStatus, reason: WorkloadReason, now_s: float) -> WorkloadReported:
        event = running.allocated
        job = self._jobs[event.job_id]
        del self._running[event.job_id]
        self.runs.add(job.index, self._sites[event.site], running.start_s, now_s)
        kept_s = 0.0
        if status == "succeeded":
            self.runs.done_s[job.index] = now_s
        elif job.spec.suspendable:
            kept_s = event.progress_s + max(0.0, now_s - running.start_s - running.restart_s)
        return _report(event, status, reason, now_s, running.start_s, kept_s)


def _report(
    event: JobAllocated | AllocationReleased,
    status: WorkloadStatus,
    reason: WorkloadReason,
    now_s: float,
    started_s: float | None,
    progress_s: float = 0.0,
) -> WorkloadReported:
    return WorkloadReported(
        job_id=event.job_id,
        tenant=event.tenant,
        site=event.site,
        revision=event.revision,
        status=status,
        reason=reason,
        started_at=None if started_s is None else _time(started_s),
        progress_s=progress_s,
        at=_time(now_s),
    )


def _time(at_s: float) -> datetime:
    return datetime.fromtimestamp(at_s, UTC)
