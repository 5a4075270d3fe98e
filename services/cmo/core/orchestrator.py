"""The compute movement orchestrator: folds what happened, decides where and when each job runs, and sees it to its one outcome.

The simple algorithm: look at every job's record, and do what it asks for: finish it, withdraw it, or place it. Here only the
records that an event or a timer has touched are looked at, and placements are made in batches in order of priority.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from services.cmo.core.accounts import Accounts, beyond
from services.cmo.core.backlog import Backlog
from services.cmo.core.budgets import Over
from services.cmo.core.caps import GridCaps
from services.cmo.core.decisions import deferral_of, outcome_of, placement_of, withdrawal_of
from services.cmo.core.expected import ExpectedUse
from services.cmo.core.jobs import Job
from services.cmo.core.ledger import Ledger
from services.cmo.core.lengths import Lengths
from services.cmo.core.outlook import Outlook
from services.cmo.core.placing import Placer
from services.cmo.core.preemption import Preemption
from services.cmo.core.price_relief import PriceRelief
from services.cmo.core.proximity import Proximity
from services.cmo.core.relief import Relief
from services.cmo.core.replanning import Replanner
from services.cmo.core.sites import Sites
from services.cmo.core.timers import Due, Timers
from services.cmo.model import Choice, Policy, Refuse, Wait
from solyx.events import (
    BudgetSet,
    DemandResponseReported,
    EnergySeriesPublished,
    FinishReason,
    ForecastIssued,
    GridEventAnnounced,
    JobCancellationRequested,
    JobFinished,
    JobPlaced,
    JobSubmitted,
    LatencyBoundReported,
    NodesOrdered,
    PlacementDeferred,
    PlacementWithdrawn,
    ReliefAnswered,
    ReliefRequested,
    RouteDecided,
    SiteLatenciesMeasured,
    SiteObserved,
    WithdrawalReason,
    WorkloadEnergyRead,
    WorkloadReported,
)

if TYPE_CHECKING:
    from datetime import datetime

    from services.cmo.core.answers import Answer
    from services.cmo.core.backlog import Turn
    from services.cmo.core.proximity import TakeBack
    from solyx.events import Event, JobSpec
    from solyx.events.placement import JobOutcome


class CmoCore:
    """State and decisions of one federation (an independent pool of sites)."""

    def __init__(self, policy: Policy | None = None) -> None:
        self._policy = policy or Policy()
        self._sites, self._ledger, self._timers = Sites(), Ledger(), Timers()
        self._outlook, self._lengths = Outlook(self._policy), Lengths()
        self._placer = Placer(self._policy, self._sites, self._ledger, self._outlook, self._lengths)
        self._accounts = Accounts(self._sites, self._outlook)
        self._use = ExpectedUse(self._policy, self._sites, self._ledger, self._placer, self._timers, self._accounts)
        self._replanner = Replanner(self._policy, self._sites, self._ledger, self._outlook, self._placer, self._use)
        self._preemption = Preemption(self._policy, self._sites, self._ledger, self._outlook, self._placer, self._use)
        self._proximity = Proximity(self._policy, self._sites, self._placer)
        self._relief = Relief(self._policy, self._sites, self._ledger, self._placer, self._use)
        self._price_relief = PriceRelief(self._policy, self._sites, self._ledger, self._placer, self._use)
        self._grid = GridCaps(self._sites)
        self._backlog = Backlog(self._policy, self._sites)
        self._jobs: dict[str, Job] = {}
        self._finished: set[str] = set()
        # What the next decision has to look at.
        self._touched: dict[str, None] = {}  # in order of touching
        self._inventory_changed = False
        self._now: datetime | None = None

    # Fold ------------------------------------------------------------------------------------------------------------

    def fold(self, event: Event) -> None:  # noqa: C901, PLR0912 - one case for each kind of event
        """Merge an event; repeats change nothing, and events of different jobs, sites and series commute."""
        match event:
            case JobSubmitted() | JobCancellationRequested() | JobPlaced() | PlacementWithdrawn() | PlacementDeferred():
                if event.job_id not in self._finished:
                    self._job(event.job_id).merge(event)
            case WorkloadReported():
                if event.job_id not in self._finished:
                    self._job(event.job_id).merge_report(event)
            case WorkloadEnergyRead():
                if event.job_id not in self._finished:
                    self._accounts.readings.fold(event)
            case LatencyBoundReported() if event.job_id not in self._finished:
                self._proximity.recall(event)
            case JobFinished():
                self._over(event)
            case SiteObserved() | NodesOrdered():
                if self._sites.fold(event) is not None:
                    self._inventory_changed = True
            case SiteLatenciesMeasured():
                self._sites.latencies.fold(event)
            case RouteDecided():
                self._sites.wan.fold(event)
            case GridEventAnnounced():
                if self._grid.announce(event):
                    self._relief.announce(event)
                    self._inventory_changed = True
            case ReliefRequested() | ReliefAnswered():
                self._inventory_changed |= self._price_relief.fold(event)
            case DemandResponseReported():
                self._relief.recall(event)
            case BudgetSet():
                self._accounts.budgets.set(event)
            case EnergySeriesPublished():
                self._outlook.fold_series(event)
            case ForecastIssued():
                self._outlook.fold_forecast(event)
            case _:
                pass

    def _job(self, job_id: str) -> Job:
        """The record of a job that is being touched."""
        self._touched[job_id] = None
        job = self._jobs.get(job_id)
        if job is None:
            job = self._jobs[job_id] = Job(job_id)
        return job

    def _over(self, event: JobFinished) -> None:
        """Keep no more of a finished job than that it is finished, and what it used."""
        job_id = event.job_id
        if job_id not in self._finished:
            self._accounts.close(event)
        self._finished.add(job_id)
        self._jobs.pop(job_id, None)
        self._touched.pop(job_id, None)
        self._backlog.forget(job_id)
        self._proximity.forget(job_id)
        self._use.let_go(job_id)
        self._use.end(job_id)

    # Decide ----------------------------------------------------------------------------------------------------------

    def decide(self, now: datetime) -> list[Event]:
        """Finish, withdraw and place what is due; the decisions are part of the state when they are returned."""
        decisions: list[Event] = []
        # A clock that is set back must not reopen hours that are over.
        now = self._now = now if self._now is None else max(now, self._now)
        now_s = now.timestamp()
        # 1. The world: inventories, power caps, hours that are over.
        if self._inventory_changed:
            self._take_over_inventory(now_s)
        self._ledger.advance(now_s)
        self._sites.latencies.expire(now)
        self._accounts.keep(self._jobs, now)
        self._preemption.begin()
        # 2. Jobs about which something was said.
        touched, self._touched = self._touched, {}
        for job_id in touched:
            job = self._jobs.get(job_id)
            if job is not None and job.spec is not None:
                self._review(job, job.spec, now, decisions)
        # 3. Jobs whose time has come.
        for due, job_id, revision in self._timers.pop_due(now_s):
            job = self._jobs.get(job_id)
            if job is not None and job.spec is not None and job.revision == revision:
                self._wake(due, job, job.spec, now, decisions)
        # 4. Jobs that no site could take, once the inventory is another or has settled; jobs for which a budget has room again.
        for job_id in self._backlog.stirred(now_s):
            self._enqueue(self._jobs[job_id])
        for job_id in self._accounts.budgets.freed(now):
            self._enqueue(self._jobs[job_id])
        # 5. Work that makes room for the grid or leaves for a price, and what comes back afterwards.
        over = self._make_room(now, decisions)
        # 6. Placements that are too far from where they must be near; then those that are better taken back.
        nearer = self._taking_back(WithdrawalReason.LATENCY, now, decisions)
        decisions.extend(self._proximity.act(self._jobs, now, nearer))
        if self._replanner.due(now_s):
            self._replan(now, decisions)
        # 7. Placements.
        if self._sites.all:
            self._place_batch(now, decisions)
        decisions.extend(self._relief.reports(self._jobs, over, now))
        return decisions

    def _make_room(self, now: datetime, decisions: list[Event]) -> list[Answer]:
        """The answers to the grid that came to their end."""
        take_back = self._taking_back(WithdrawalReason.GRID_EVENT, now, decisions)
        over = self._relief.act(self._jobs, now, take_back)
        if over:
            self._take_over_inventory(now.timestamp())  # their caps hold no more
        self._relief.come_back(self._jobs, now, take_back)
        decisions.extend(
            self._price_relief.act(self._jobs, now, self._taking_back(WithdrawalReason.PRICE_BOUND, now, decisions))
        )
        return over

    def _taking_back(self, reason: WithdrawalReason, now: datetime, decisions: list[Event]) -> TakeBack:
        """Suspends or moves a live job: once its placement is reported to have stopped it is placed anew, with its progress.

        ``instead``: the room that is held for it meanwhile.
        """

        def take_back(job: Job, spec: JobSpec, instead: Choice | None, detail: str = "") -> None:
            self._withdraw(job, spec, reason, now, decisions, detail)
            if instead is not None:
                self._use.hold_choice(job, spec, instead, now.timestamp())
            elif self._ledger.committed(job.job_id) is None:
                self._use.write_down(job, spec, now.timestamp())

        return take_back

    def _take_over_inventory(self, now_s: float) -> None:
        self._inventory_changed = False
        caps = self._grid.caps(self._price_relief.closed(now_s), now_s)
        self._ledger.set_sites(self._sites.all, caps, now_s)
        self._outlook.set_full_w({site.name: site.full_w for site in self._sites.all})
        self._backlog.note_sites(now_s)
        for site in self._sites.all:
            if site.lost:
                self._touched.update(dict.fromkeys(self._use.at_site(site.name)))

    # One job ---------------------------------------------------------------------------------------------------------

    def _review(self, job: Job, spec: JobSpec, now: datetime, decisions: list[Event]) -> None:
        """What its record asks for, except the placement itself."""
        if job.victims:
            self._preemption.follow(job, self._jobs)
        if job.live:
            self._review_live(job, spec, now, decisions)
            if job.live:
                return
        self._use.end(job.job_id)
        if job.end == "succeeded":
            self._lengths.learn(spec.duration_estimate_s, job.took_s)
            self._finish(job, "succeeded", FinishReason.COMPLETED, "", now, decisions)
        elif job.cancel_requested:
            self._finish(job, "cancelled", FinishReason.CANCELLED, "cancelled by its owner", now, decisions)
        elif job.failed_by_itself and job.attempt >= self._policy.max_attempts:
            report = job.report
            assert report is not None
            message = f"failed {job.attempt} times, the last at {job.site}: {report.reason}"
            message += f", {report.message}" if report.message else ""
            self._finish(job, "failed", FinishReason.RETRIES_EXHAUSTED, message, now, decisions)
        else:
            self._accounts.plan(job, spec)
            self._enqueue(job)

    def _review_live(self, job: Job, spec: JobSpec, now: datetime, decisions: list[Event]) -> None:
        site = self._sites.by_name.get(job.site)
        if site is not None and site.lost:
            self._withdraw(job, spec, WithdrawalReason.SITE_LOST, now, decisions)
        elif job.cancel_requested and job.withdrawn < job.revision:
            self._withdraw(job, spec, WithdrawalReason.CANCELLED, now, decisions)
        self._proximity.watch(job, spec)
        if job.live and job.committed != (job.revision, job.started):
            self._use.write_down(job, spec, now.timestamp())

    def _replan(self, now: datetime, decisions: list[Event]) -> None:
        """Take placements back that another plan beats; each is placed anew once it has stopped."""
        for job in self._replanner.next_jobs(self._jobs, now.timestamp()):
            assert job.spec is not None
            found = self._replanner.better(job, job.spec, now)
            if found is not None:
                reason, instead = found
                self._taking_back(reason, now, decisions)(job, job.spec, instead)

    def _withdraw(
        self, job: Job, spec: JobSpec, why: WithdrawalReason, now: datetime, decisions: list[Event], detail: str = ""
    ) -> None:
        withdrawal = withdrawal_of(job, spec, why, now, detail)
        job.merge(withdrawal)
        self._sites.wan.forget(job.job_id)
        decisions.append(withdrawal)

    def _finish(
        self,
        job: Job,
        outcome: JobOutcome,
        reason: FinishReason,
        message: str,
        now: datetime,
        decisions: list[Event],
    ) -> None:
        runs = self._accounts.runs(job, job.spec)
        finished = outcome_of(job, outcome, reason, message, runs, now)
        decisions.append(finished)
        self._over(finished)

    def _wake(self, due: Due, job: Job, spec: JobSpec, now: datetime, decisions: list[Event]) -> None:
        match due:
            case Due.REVIEW:
                if self._backlog.waits(job.job_id) or self._accounts.budgets.waits(job.job_id):
                    self._enqueue(job)
            case Due.USE:
                if job.live:
                    self._use.renew(job, spec, now.timestamp())
            case Due.STUCK:
                if job.live and not job.started and job.withdrawn < job.revision:
                    self._unstick(job, spec, now, decisions)

    def _unstick(self, job: Job, spec: JobSpec, now: datetime, decisions: list[Event]) -> None:
        """Take it back if it is better off elsewhere, and hold the room there so that others are not sent after it."""
        now_s, patience = now.timestamp(), self._use.patience
        found = self._placer.room_elsewhere(job, spec, now)
        if found is None:
            leaves = patience.is_stuck(job, now_s) and self._preemption.is_possible_elsewhere(
                job, spec, self._jobs, now
            )
        else:
            leaves = patience.is_over(job, spec, found[1], now_s)
        if not leaves:
            self._use.watch_for_stuck(job, now_s)
            return
        self._withdraw(job, spec, WithdrawalReason.STUCK, now, decisions)
        if found is not None:
            self._use.hold(job, spec, found[0], ((now_s, self._placer.left_s(job, spec)),), now_s)

    # Placements ------------------------------------------------------------------------------------------------------

    def _enqueue(self, job: Job, *, late: bool = False) -> None:
        """``late``: after all others, because its tenant is beyond a soft budget."""
        if self._backlog.put(job, late=late):
            self._accounts.budgets.leave(job.job_id)

    def _place_batch(self, now: datetime, decisions: list[Event]) -> None:
        for turn, job in self._backlog.take(self._jobs):
            assert job.spec is not None
            self._use.let_go(job.job_id)
            verdict = self._proximity.wait(job, self._placer.choose(job, job.spec, now))
            if isinstance(verdict, Choice):
                verdict = self._within_budget(job, job.spec, verdict, turn, now)
            if isinstance(verdict, Choice):
                self._place(job, job.spec, verdict, now, decisions)
            elif isinstance(verdict, Refuse) and self._backlog.may_tell(verdict):
                self._finish(job, "failed", verdict.reason, verdict.message, now, decisions)
            elif verdict is not None:
                self._wait(job, job.spec, verdict, now, decisions)

    def _within_budget(
        self, job: Job, spec: JobSpec, choice: Choice, turn: Turn, now: datetime
    ) -> Choice | Wait | None:
        """The choice, if its tenant's budgets have room for it; None: it is queued again, after others."""
        late, order = turn[0], (turn[1], turn[2], turn[3])
        verdict = self._accounts.within(job, spec, choice, order, now)
        if not isinstance(verdict, Over):
            return verdict
        if late:
            return beyond(choice, verdict)
        self._enqueue(job, late=True)
        return None

    def _wait(self, job: Job, spec: JobSpec, why: Wait | Refuse, now: datetime, decisions: list[Event]) -> None:
        """Until the inventory changes or settles, the budget has room, or the deadline can no longer be met."""
        if why.about_sites:
            self._backlog.wait(job.job_id)
        # Once; and what goes on is not refused for its deadline: it would be looked at in every decision from then on.
        if spec.deadline is not None and not job.moving and job.reviewed != job.revision:
            job.reviewed = job.revision
            latest_s = spec.deadline.timestamp() - spec.duration_estimate_s
            self._timers.set(latest_s + 1.0, Due.REVIEW, job.job_id, job.revision)
        if isinstance(why, Wait) and self._backlog.may_tell(why):
            deferral = deferral_of(job, spec, why, self._accounts.runs(job, spec), now)
            if deferral is not None:
                job.merge(deferral)
                decisions.append(deferral)

    def _place(self, job: Job, spec: JobSpec, choice: Choice, now: datetime, decisions: list[Event]) -> None:
        plan = self._preemption.plan(job, spec, choice, self._jobs, now) if choice.queued else None
        planned = choice if plan is None else plan.choice
        choice = self._price_relief.in_turn(job, spec, self._relief.in_turn(job, spec, planned, now))
        if choice is not planned:  # it was put off: nobody has to make room yet
            plan, choice = None, replace(choice, victims=())
        for one in () if plan is None else plan.delayed:
            told = f"makes room for a job of priority {spec.priority}"
            self._withdraw(one.job, one.spec, WithdrawalReason.PREEMPTION, now, decisions, told)
        self._proximity.watch(job, spec)
        choice = self._proximity.told(spec, self._placer.with_data(job, spec, choice, planned, now))
        placement = placement_of(job, spec, choice, self._accounts.runs(job, spec), now)
        decisions.append(placement)
        job.merge(placement)
        self._use.write_down(job, spec, now.timestamp(), choice.stretches, choice.then)
        if plan is not None:
            self._preemption.hold(job, plan, now)
