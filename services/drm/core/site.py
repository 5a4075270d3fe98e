"""One site: facts in, decisions out. What is to be done follows from the state of each job, not from the last event."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from services.drm.core.admission import Admission
from services.drm.core.job import JobState
from services.drm.core.pool import Pool
from services.drm.core.queue import Queue
from services.drm.core.quota_report import QuotaReports
from services.drm.core.relief import PriceRelief
from services.drm.model import IMMINENT, WHOLE, Holding
from solyx.events import (
    AllocationDeferred,
    AllocationReleased,
    DeviceAssignment,
    Event,
    JobAllocated,
    PodAssignment,
    ReleaseReason,
)
from solyx.nodes import under

if TYPE_CHECKING:
    from services.drm.core.queue import Waiting
    from services.drm.model import Spot
    from services.drm.quotas import SiteQuotas
    from solyx.events import AllocationReason, DeferralReason, NodesOrdered, SiteObserved

REMEMBERED_JOBS = 100_000
"""Of how many jobs that are over the last revision is kept, so that a repeated placement starts nothing again."""


class SiteState:
    """The nodes, the queue and the jobs of one site."""

    def __init__(self, name: str, quotas: SiteQuotas) -> None:
        self._name = name
        self._jobs: dict[str, JobState] = {}
        self._touched: dict[str, None] = {}  # jobs of which something was learned since the last decision, in order
        self._settled: dict[str, int] = {}  # jobs that are over here → their last revision
        self._unknown_holdings: set[str] = set()
        self._pool = Pool(quotas)
        self._queue = Queue(self._pool.accounts)
        self.relief = PriceRelief(name)
        self._admission = Admission(self._pool, self._queue, self)
        self.quotas = QuotaReports(name, self._pool, self._queue)
        self._observed: SiteObserved | None = None  # the latest, as it was published
        self._ordered: NodesOrdered | None = None  # the latest
        self._decided_for = (-1, -1)
        self._now = datetime.min  # noqa: DTZ901 - replaced before anything is decided
        self._now_s = 0.0
        self._decisions: list[Event] = []

    # ------------------------------------------------------------------------------------------------------- facts

    def observe(self, event: SiteObserved) -> None:
        """A new inventory."""
        if self._observed is None or event.observed_at >= self._observed.observed_at:
            self._observed = event
            self._take_over(event)

    def order(self, event: NodesOrdered) -> None:
        """What operators ordered about the nodes, all of it."""
        if self._ordered is None or event.revision > self._ordered.revision:
            self._ordered = event
            if self._observed is not None:
                self._take_over(self._observed)

    def _take_over(self, observed: SiteObserved) -> None:
        event = under(observed, self._ordered)
        self._pool.observe(event)
        self.relief.observe(event)
        if event.lost:
            self._touched.update(dict.fromkeys(self._pool.holdings))
        else:
            leaving = (job_id for job_id, holding in self._pool.holdings.items() if self._pool.must_leave(holding))
            self._touched.update(dict.fromkeys(leaving))

    def learn(self, job_id: str, tenant: str, revision: int, fact: Callable[[JobState], None]) -> None:
        """Something about one job; what is older than what was settled is a repeat."""
        if self._settled.get(job_id, -1) >= revision:
            return
        job = self._jobs.get(job_id)
        if job is None:
            job = self._jobs[job_id] = JobState(job_id, tenant)
        self._touched[job_id] = None
        fact(job)
        holding = job.holding
        if holding is not None and job.node_lost[0] == holding.revision:
            self._pool.lose_nodes(holding, *job.node_lost[1:])

    # --------------------------------------------------------------------------------------------------- decisions

    def is_due(self, now_s: float) -> bool:
        """Whether ``decide`` may have anything to do."""
        again = self._pool.look_again_at_s <= now_s
        due = self._queue.is_due(now_s) or self.relief.is_due(now_s) or self.quotas.is_due(now_s, self._version)
        return bool(self._touched) or due or again or self._decided_for != self._version

    def decide(self, now: datetime, decisions: list[Event]) -> None:
        """Release, admit, defer, ask for relief, tell how quotas are used; appends to ``decisions``."""
        self._now, self._now_s, self._decisions = now, now.timestamp(), decisions
        touched, self._touched = self._touched, {}
        for job_id in touched:
            job = self._jobs[job_id]
            self._settle(job)
            self._forget_if_over(job)
        self._queue.start_due(self._now_s)
        self._pool.looks_again(self._now_s)
        self._admit()
        if self.relief.is_due(self._now_s):
            request = self.relief.ask(self._pool.holdings.values(), now)
            if request is not None:
                decisions.append(request)
        if self.quotas.is_due(self._now_s, self._version):
            report = self.quotas.look(now, self._version)
            if report is not None:
                decisions.append(report)

    def _admit(self) -> None:
        if self._unknown_holdings or self._decided_for == self._version:
            return
        self._pool.learn()
        if self._queue.length:
            self._admission.admit(self._now_s)
        self._decided_for = self._version

    @property
    def _version(self) -> tuple[int, int]:
        return self._pool.version, self._queue.version

    def _settle(self, job: JobState) -> None:
        """Make releases, charges and the queue agree with what is known of the job."""
        for revision, reason in job.due_releases():
            self._release(job, revision, reason)
        holding = job.holding
        if holding is not None and not job.stopping and self._pool.must_leave(holding):
            self._release(job, holding.revision, ReleaseReason.DRAINED)
        self._settle_holding(job)
        placed = job.placed
        waiting = job.waiting
        if waiting is not None and waiting.placed is not placed:
            self._queue.remove(waiting)
            waiting = job.waiting = None
        if waiting is None and placed is not None:
            job.waiting = self._queue.add(job, placed)
            self._pool.history.note(job.waiting.demand)
        if job.unknown_holding:
            self._unknown_holdings.add(job.job_id)
        else:
            self._unknown_holdings.discard(job.job_id)

    def _settle_holding(self, job: JobState) -> None:
        holding, charge = job.holding, None
        if holding is not None:
            if not job.is_over(holding.revision) and not self._pool.outlived(holding):
                charge = holding
            elif job.released >= holding.revision:
                job.holding = None
        if job.charged is not charge:
            if job.charged is not None:
                self._pool.discharge(job.charged)
            if charge is not None:
                self._pool.charge(charge)
            job.charged = charge
        if charge is not None:
            revision, started_s = job.started
            since_s = started_s if revision == charge.revision else charge.decided_at_s
            self._pool.set_end(charge, IMMINENT if job.stopping else since_s + charge.duration_s)

    def _forget_if_over(self, job: JobState) -> None:
        if job.holding is not None or job.waiting is not None or job.unknown_holding:
            return
        del self._jobs[job.job_id]
        self._settled.pop(job.job_id, None)  # to the end: the oldest is dropped first
        self._settled[job.job_id] = job.latest_revision
        if len(self._settled) > REMEMBERED_JOBS:
            del self._settled[next(iter(self._settled))]

    def _release(self, job: JobState, revision: int, reason: ReleaseReason) -> None:
        job.note_release(revision, reason)
        self._decisions.append(
            AllocationReleased(
                job_id=job.job_id,
                tenant=job.tenant,
                site=self._name,
                revision=revision,
                reason=reason,
                grace_s=job.grace[1] if reason.stops else 0.0,
                decided_at=self._now,
            )
        )

    # ---------------------------------------------------------------------------------------- outcome of admission

    def allocate(self, waiting: Waiting, spots: tuple[Spot, ...], reason: AllocationReason) -> None:
        """It starts now."""
        placed, job = waiting.placed, waiting.job
        event = JobAllocated(
            job_id=placed.job_id,
            tenant=placed.tenant,
            spec=placed.spec,
            site=self._name,
            revision=placed.revision,
            pods=tuple(self._pod(index, spot) for index, spot in enumerate(spots)),
            reason=reason,
            waited_s=max(self._now_s - waiting.start_s, 0.0),
            progress_s=placed.progress_s,
            submitted_at=placed.submitted_at,
            decided_at=self._now,
        )
        self._queue.remove(waiting)
        job.note_allocation(Holding(event, spots))
        self._settle_holding(job)
        self._decisions.append(event)

    def _pod(self, index: int, spot: Spot) -> PodAssignment:
        inventory = self._pool.inventory
        assert inventory is not None
        devices: list[DeviceAssignment] = []
        for column, share in spot.devices:
            kind, model, number = inventory.layouts[spot.node].devices[column]
            devices.append(DeviceAssignment(kind=kind, model=model, index=number, share_milli=min(share, WHOLE)))
        return PodAssignment(index=index, node=inventory.names[spot.node], devices=tuple(devices))

    def move(self, holding: Holding) -> None:
        """It is told to stop, and goes on elsewhere under its next revision."""
        self._stop(holding, ReleaseReason.CONSOLIDATED)

    def preempt(self, holding: Holding) -> None:
        """It is told to stop."""
        self._stop(holding, ReleaseReason.PREEMPTED)

    def _stop(self, holding: Holding, reason: ReleaseReason) -> None:
        """What it holds is free when the actuator reports that it has stopped."""
        job = self._jobs[holding.job_id]
        self._release(job, holding.revision, reason)
        self._settle_holding(job)

    def defer(self, waiting: Waiting, reason: DeferralReason, detail: str) -> None:
        """It waits; said once for each reason."""
        placed = waiting.placed
        told = waiting.job.note_deferral(placed.revision, reason)
        if told is not None:
            self._decisions.append(
                AllocationDeferred(
                    job_id=placed.job_id,
                    tenant=placed.tenant,
                    site=self._name,
                    revision=placed.revision,
                    reason=reason,
                    told=told,
                    detail=detail,
                    decided_at=self._now,
                )
            )
