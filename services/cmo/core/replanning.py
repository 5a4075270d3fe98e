"""Whether a placement that was made should be taken back: plans are looked at again when something is new, or when they pause or end.

The simple algorithm: for every live placement, what would be decided if it were placed now? If that is another site, or another
time, and saves more than the move costs and a margin, take the placement back; once it has stopped it is placed anew, with
its progress. A job that may pause is compared at the expected cost of the best plan that begins as its placement does, one that may not at
the cost of its planned hours. The margin (hysteresis) keeps plans from following every ripple of a forecast.

One job after the other, each against the hours that the others have taken: a descent on the cost of the whole plan in which
no step makes it dearer (Aarts and Lenstra, "Local Search in Combinatorial Optimization", 1997, §1.3).
"""

from __future__ import annotations

from collections import deque
from datetime import timedelta
from math import inf
from typing import TYPE_CHECKING

from services.cmo.core.interruption import NOW
from services.cmo.core.ledger import SLOT_S
from services.cmo.core.limits import done_s
from services.cmo.core.news import News
from services.cmo.model import Choice
from solyx.events import PlacementReason, WithdrawalReason

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from services.cmo.core.expected import ExpectedUse
    from services.cmo.core.jobs import Job
    from services.cmo.core.ledger import Commitment, Ledger
    from services.cmo.core.outlook import Outlook
    from services.cmo.core.placing import Placer
    from services.cmo.core.sites import Site, Sites
    from services.cmo.model import Policy
    from solyx.events import JobSpec

_SAME_START_S = 60.0
_SAME_START = timedelta(seconds=_SAME_START_S)
_PERIOD_H = 3  # all plans are looked at this often, whatever is new


class Replanner:
    """Goes through the live placements, a bounded number in each decision."""

    def __init__(
        self, policy: Policy, sites: Sites, ledger: Ledger, outlook: Outlook, placer: Placer, use: ExpectedUse
    ) -> None:
        self._policy, self._sites, self._ledger = policy, sites, ledger
        self._placer, self._use = placer, use
        self._pending: deque[str] = deque()
        self._hour: int | None = None  # in which plans were last looked at
        self._news = News(policy, sites, outlook)

    def due(self, now_s: float) -> bool:
        """Something is left over, an hour has begun, or a site is another than plans were made on.

        A core that has just begun, or recovered, takes what it finds for looked at: a restart changes no plan by itself.
        """
        hour = int(now_s // SLOT_S)
        if self._hour is None:
            self._hour = hour
        return bool(self._news.look(now_s)) or bool(self._pending) or self._hour != hour

    def next_jobs(self, jobs: dict[str, Job], now_s: float) -> Iterator[Job]:
        """Those that are to be looked at in this decision: what runs before what waits, then the oldest first."""
        if not self._pending:
            hour, before = int(now_s // SLOT_S), self._hour
            self._hour, news = hour, self._news.look(now_s)
            # All once in a while, and when something is new; by the hour those that have come to a pause of their plan, or its end.
            everyone = before is None or hour // _PERIOD_H != before // _PERIOD_H
            self._news.plan_on(None if everyone else news, now_s)
            live = (jobs[job_id] for job_id in self._use.everywhere() if job_id in jobs)
            asked = (job for job in live if everyone or _is_of(job, news) or self._is_at_its_end(job, now_s))
            self._pending.extend(self._in_order(asked))
        for _ in range(min(len(self._pending), self._policy.replan_jobs)):
            job = jobs.get(self._pending.popleft())
            if job is not None and job.live and job.withdrawn < job.revision and not job.cancel_requested:
                yield job

    def _is_at_its_end(self, job: Job, now_s: float) -> bool:
        """It runs, and by its plan it pauses now or is over here; one that ran on past that too."""
        known = self._ledger.committed(job.job_id) if job.started else None
        return known is not None and known.stretch_end_s < now_s + _SAME_START_S

    def _in_order(self, jobs: Iterable[Job]) -> list[str]:
        def key(job: Job) -> tuple[bool, float, str]:
            return not job.started, 0.0 if job.submitted_at is None else job.submitted_at.timestamp(), job.job_id

        return [job.job_id for job in sorted(jobs, key=key)]

    def better(self, job: Job, spec: JobSpec, now: datetime) -> tuple[WithdrawalReason, Choice] | None:
        """Why the placement is to be taken back and what should come instead; None: it stays, and its hours are renewed."""
        site, now_s = self._sites.by_name.get(job.site), now.timestamp()
        if site is None or site.lost:
            return None
        if job.started:
            return self._of_run(job, spec, site, now) if spec.suspendable else None
        if job.start_at is None or job.start_at.timestamp() < now_s - _SAME_START_S:
            return None  # it is starting, or queues: that is for whoever looks after stuck placements
        return self._of_plan(job, spec, site, now)

    def _of_plan(self, job: Job, spec: JobSpec, site: Site, now: datetime) -> tuple[WithdrawalReason, Choice] | None:
        known = self._ledger.committed(job.job_id)
        if known is None or job.start_at is None:
            return None
        now_s, start_s = now.timestamp(), job.start_at.timestamp()
        self._ledger.release(job.job_id)
        courses = self._placer.courses(job, spec, now, done_s=job.kept_s)
        if courses is None:
            return self._of_whole(job, spec, site, known, now)
        start = int(start_s // SLOT_S) - int(now_s // SLOT_S) - 1
        keep = courses.at(site.index, start)
        there, then, least_eur = courses.least()
        better = (there, then) != (site.index, max(start, NOW)) and least_eur < inf
        choice = courses.best() if better and (keep is None or self._pays(least_eur, keep.total_eur)) else None
        if choice is not None:
            return _withdrawal(choice, site), choice
        if keep is None:
            self._ledger.restore(job.job_id, known, now_s)
        else:
            self._use.commit(job, spec, site, keep.stretches, now_s, keep.then)
        return None

    def _of_whole(
        self, job: Job, spec: JobSpec, site: Site, known: Commitment, now: datetime
    ) -> tuple[WithdrawalReason, Choice] | None:
        """Of one that runs in one piece; its hours are given back already."""
        keep_eur = self._placer.cost_of(job, spec, site.index, known.stretches, now)
        choice = self._placer.choose(job, spec, now)
        if isinstance(choice, Choice) and not choice.queued and choice.reason is not PlacementReason.NO_FORECAST:
            stays = choice.site == site.name and abs(choice.start_at - (job.start_at or now)) < _SAME_START
            if not stays and self._pays(choice.total_eur, keep_eur):
                return _withdrawal(choice, site), choice
            if stays:
                self._use.commit(job, spec, site, choice.stretches, now.timestamp())
                return None
        self._ledger.restore(job.job_id, known, now.timestamp())
        return None

    def _of_run(self, job: Job, spec: JobSpec, site: Site, now: datetime) -> tuple[WithdrawalReason, Choice] | None:
        now_s, report = now.timestamp(), job.report
        known = self._ledger.committed(job.job_id)
        if report is None or known is None:
            return None
        if now_s - (report.started_at or report.at).timestamp() < self._policy.restart_s:
            return None
        kept_s = done_s(job, spec, now_s, self._policy.restart_s)
        self._ledger.release(job.job_id)
        courses = self._placer.courses(job, spec, now, done_s=kept_s, running=site.index)
        keep = None if courses is None else courses.at(site.index, NOW)
        if courses is None or keep is None:
            self._use.commit(job, spec, site, ((now_s, self._placer.left_s(job, spec, kept_s)),), now_s)
            return None
        courses.forbid(site.index, NOW)
        choice = courses.best() if self._pays(courses.least()[2], keep.total_eur) else None
        if choice is not None:
            return _withdrawal(choice, site), choice
        self._use.commit(job, spec, site, keep.stretches, now_s, keep.then)
        return None

    def _pays(self, new_eur: float, old_eur: float) -> bool:
        return old_eur - new_eur > max(self._policy.worth_eur, self._policy.worth_share * abs(old_eur))


def _is_of(job: Job, sites: frozenset[str]) -> bool:
    """It is at one of these sites, or may go there."""
    return bool(sites) and (
        job.spec is None or not job.spec.allowed_sites or not sites.isdisjoint(job.spec.allowed_sites)
    )


def _withdrawal(choice: Choice, site: Site) -> WithdrawalReason:
    return WithdrawalReason.SUSPENSION if choice.site == site.name else WithdrawalReason.MIGRATION
