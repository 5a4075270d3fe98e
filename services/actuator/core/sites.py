"""One site: its jobs, which of them need a command now, and the repair of drift.

The simple equivalent algorithm: at every look go through all jobs, report what was not reported, and give each job its next
command. Instead, a job is looked at when something about it changed, and waits in one of two queues (stops before starts, so
that capacity is free before it is used again) or, after a failure of its own, in a heap ordered by time.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from typing import TYPE_CHECKING, assert_never

from services.actuator.core.workloads import Job, Workload
from services.actuator.model import (
    Apply,
    Changes,
    ClusterOutcome,
    Command,
    Delete,
    Phase,
    Verdict,
    WorkloadState,
)
from solyx.events import AllocationDeferred, AllocationReleased, JobAllocated, WorkloadReason, WorkloadReported

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from services.actuator.backoff import Backoff

REMEMBERED_JOBS = 20_000
"""Finished jobs of a site whose highest revision is remembered, so that a repeated event about them is refused here and not only by the cluster."""


class Site:
    """What should be at a site, and what is."""

    def __init__(self, name: str, backoff: Backoff) -> None:
        self.name = name
        self._backoff = backoff
        self._jobs: dict[str, Job] = {}
        self._over: OrderedDict[str, int] = OrderedDict()  # highest revision of jobs that are over
        self._changed: dict[str, None] = {}  # jobs to look at, in order
        self._stops: OrderedDict[str, None] = OrderedDict()
        self._starts: OrderedDict[str, None] = OrderedDict()
        self._waiting: list[tuple[float, str]] = []
        self._suspects: dict[str, int] = {}  # unexplained objects of the last complete list
        self._listed = False

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def backlog(self) -> int:
        """Jobs that wait for a command."""
        return len(self._stops) + len(self._starts) + len(self._waiting)

    # ------------------------------------------------------------------------------------------------------ events in

    def fold(self, event: JobAllocated | AllocationReleased | AllocationDeferred | WorkloadReported) -> bool:
        """Merge an event; False: refused as stale."""
        job = self._jobs.get(event.job_id) or Job(job_id=event.job_id, floor=self._over.get(event.job_id, 0))
        taken = True
        match event:
            case JobAllocated():
                taken = job.allocated(event)
            case AllocationReleased():
                taken = job.released(event)
            case AllocationDeferred():
                job.waits(event.revision)
            case WorkloadReported():
                job.reported(event)
            case _:
                assert_never(event)
        job.prune()  # a recovery folds every job that ever was: those that are over are forgotten as it goes
        if job.workloads:
            self._jobs[job.job_id] = job
            self._changed[job.job_id] = None
        else:
            self._forget(job)
        return taken

    # ------------------------------------------------------------------------------------------------ observations in

    def done(self, command: Command, outcome: ClusterOutcome, *, wall_s: float) -> None:
        """Merge the outcome of a command."""
        job = self._jobs.get(command.job_id)
        if job is None:
            return
        job.in_flight = False
        self._changed[job.job_id] = None
        refused_stop = isinstance(command, Delete) and outcome.verdict is Verdict.REJECTED
        if outcome.verdict is Verdict.UNAVAILABLE or refused_stop:
            job.attempts += 1
            retry_at_s = wall_s + self._backoff.delay_s(job.job_id, job.attempts)
            heapq.heappush(self._waiting, (retry_at_s, job.job_id))
            job.in_flight = True  # until then
            return
        job.attempts = 0
        if (workload := job.find(command.revision)) is None:
            return
        match command:
            case Apply():
                self._applied(job, workload, outcome)
            case Delete():
                workload.observed(outcome.state or _stopped(outcome, workload.state))
                # It may write its checkpoint first: then its end is observed, and a deletion once more leaves the fence.
                workload.stopping = workload.present = workload.state is not None and not workload.state.phase.ended
            case _:
                assert_never(command)

    def _applied(self, job: Job, workload: Workload, outcome: ClusterOutcome) -> None:
        workload.present = outcome.verdict is Verdict.APPLIED
        if workload.present:
            for other in job.workloads:
                other.present = other is workload  # one object a job: the lower revision was replaced
            if outcome.state is not None:
                workload.observed(outcome.state)
        else:
            workload.observed(_refused(outcome))

    def failed(self, commands: Iterable[Command]) -> None:
        """A whole call failed: its commands are to be given again when the site answers."""
        for command in commands:
            if (job := self._jobs.get(command.job_id)) is not None:
                job.in_flight = False
                self._changed[job.job_id] = None

    def saw(self, changes: Changes) -> None:
        """Merge a look at the cluster; a complete one repairs drift."""
        unexplained: dict[str, int] = {}
        for state in changes.states:
            job = self._jobs.get(state.job_id)
            workload = job.find(state.revision) if job is not None else None
            if workload is not None:
                workload.present = True
                workload.observed(state)
                self._changed[state.job_id] = None
            elif changes.complete:
                unexplained[state.job_id] = state.revision
        if changes.complete:
            self._listed = True
            self._note_missing({state.job_id: state.revision for state in changes.states})
            self._note_leftovers(unexplained)

    def _note_missing(self, listed: dict[str, int]) -> None:
        """What should be there and is not is applied again. The outcome of a command under way is newer than the list."""
        for job in self._jobs.values():
            if job.in_flight:
                continue
            for workload in job.workloads:
                if workload.present and listed.get(job.job_id) != workload.revision:
                    workload.present = workload.stopping = False
                    if workload.state is not None and not workload.state.phase.ended:
                        workload.state = None
                    self._changed[job.job_id] = None

    def _note_leftovers(self, unexplained: dict[str, int]) -> None:
        """What is there and should not be is deleted: at once if its revision is known to be over, else if the next complete
        list still has it (its allocation may be in a log that a lagging replica has not read).
        """
        suspects: dict[str, int] = {}
        for job_id, revision in unexplained.items():
            job = self._jobs.get(job_id)
            if job is not None and job.workloads and job.workloads[-1].revision > revision:
                last = job.workloads[-1]
                last.present |= (
                    last.end_reported
                )  # deleting the higher removes the lower; applying it replaces the lower
                self._changed[job_id] = None
            elif self._over.get(job_id, 0) >= revision or self._suspects.get(job_id) == revision:
                job = self._jobs.setdefault(job_id, Job(job_id=job_id))
                job.workloads.append(
                    Workload(revision=revision, end_reported=True, released=True, present=True, leftover=True)
                )
                self._changed[job_id] = None
            else:
                suspects[job_id] = revision
        self._suspects = suspects

    # ------------------------------------------------------------------------------------------------------------ out

    def decide(self, now: datetime) -> list[WorkloadReported]:
        """Report what was not reported, forget what is over, queue what needs a command."""
        reports: list[WorkloadReported] = []
        for job_id in self._changed:
            job = self._jobs.get(job_id)
            if job is None:
                continue
            for workload in job.workloads:
                reports.extend(workload.reports(self.name, now))
            job.prune()
            if job.workloads:
                self._queue(job)
            elif not job.in_flight:
                self._forget(job)
        self._changed.clear()
        return reports

    def _forget(self, job: Job) -> None:
        self._jobs.pop(job.job_id, None)
        self._stops.pop(job.job_id, None)
        self._starts.pop(job.job_id, None)
        if not job.floor:
            return
        self._over[job.job_id] = job.floor
        self._over.move_to_end(job.job_id)
        if len(self._over) > REMEMBERED_JOBS:
            self._over.popitem(last=False)

    def _queue(self, job: Job) -> None:
        self._stops.pop(job.job_id, None)
        self._starts.pop(job.job_id, None)
        if job.in_flight:
            return
        match job.next_command():
            case Apply():
                self._starts[job.job_id] = None
            case Delete():
                self._stops[job.job_id] = None
            case None:
                pass

    def commands(self, *, limit: int, wall_s: float) -> list[Command]:
        """At most ``limit`` commands, stops first. Each is under way until ``done`` or ``failed``.

        Nothing is given before the first complete list: what a predecessor did is known first.
        """
        if not self._listed:
            return []
        for job_id in self._changed:  # what was folded since the last decision need not wait for the next
            if (job := self._jobs.get(job_id)) is not None:
                self._queue(job)
        while self._waiting and self._waiting[0][0] <= wall_s:
            _, job_id = heapq.heappop(self._waiting)
            if (job := self._jobs.get(job_id)) is not None:
                job.in_flight = False
                self._changed[job_id] = None
                self._queue(job)
        commands: list[Command] = []
        while len(commands) < limit and (queue := self._stops or self._starts):
            job_id, _ = queue.popitem(last=False)
            job = self._jobs[job_id]
            if (command := job.next_command()) is not None:
                job.in_flight = True
                commands.append(command)
        return commands


def _refused(outcome: ClusterOutcome) -> WorkloadState:
    return WorkloadState(
        job_id=outcome.job_id,
        revision=outcome.revision,
        phase=Phase.FAILED,
        reason=WorkloadReason.REJECTED,
        message=outcome.message,
    )


def _stopped(outcome: ClusterOutcome, last: WorkloadState | None) -> WorkloadState:
    return WorkloadState(
        job_id=outcome.job_id,
        revision=outcome.revision,
        phase=Phase.STOPPED,
        reason=WorkloadReason.RELEASED,
        message=outcome.message,
        started_at=last.started_at if last is not None else None,
    )
