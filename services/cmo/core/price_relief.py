"""What is done when a site's price passes the bound of its owner: the DRM names work that is worth stopping, and each request is answered once.

The simple algorithm: the hours of the request are closed at the site, so that the planner puts nothing there while there is room elsewhere or
later. Then ask of each job that was named, the least valuable first, and of each start that is planned or queued there for these hours: where
and when would it be placed now? If that keeps its deadline and maximum delay, take it back; it moves, or waits for the price, whichever costs
less, and comes back with its progress. Otherwise it stays, and the answer says why. The owner's bound is not weighed against the energy that
it costs, with one exception: a job whose own weight of delay is above what the move saves stays.

What runs is taken back once for one window, and not twice within ``SETTLED``, whatever happens to prices. What a request said and whether it was
answered is read off the topics (`ReliefRequested`, `ReliefAnswered`), and when a job was last taken back for it off its placements: so a
recovered core answers nothing twice.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol, TypeAlias

from services.cmo.core.expected import then_of
from services.cmo.core.limits import done_s, is_protected, limit_of
from services.cmo.model import Choice, Refuse
from solyx.energy import dynamic_power_w
from solyx.events import (
    FinishReason,
    KeptReason,
    ReliefAnswered,
    ReliefKept,
    ReliefReason,
    ReliefRequested,
    WithdrawalReason,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from services.cmo.core.caps import Span
    from services.cmo.core.expected import ExpectedUse
    from services.cmo.core.jobs import Job
    from services.cmo.core.ledger import Ledger
    from services.cmo.core.placing import Placer
    from services.cmo.core.sites import Site, Sites
    from services.cmo.model import Policy
    from solyx.events import JobSpec

SETTLED = timedelta(hours=1)
"""So long, at least, a job that was taken back for a price is not taken back for one again."""


class TakeBack(Protocol):
    """Takes a placement back, saying why; the room at ``instead`` is held meanwhile."""

    def __call__(self, job: Job, spec: JobSpec, instead: Choice | None, *, detail: str) -> None: ...


_SOONER = timedelta(minutes=1)
Done: TypeAlias = str  # suspended, migrated, delayed, stopped


@dataclass(slots=True)
class Account:
    """What is done about one request."""

    asked: ReliefRequested
    did: Counter[Done] = field(default_factory=Counter[Done])
    kept: list[ReliefKept] = field(default_factory=list[ReliefKept])
    relieved_w: float = 0.0

    def answer(self, now: datetime) -> ReliefAnswered:
        """As it is told."""
        return ReliefAnswered(
            site=self.asked.site,
            start=self.asked.start,
            end=self.asked.end,
            requested_at=self.asked.requested_at,
            asked_w=sum(job.power_w for job in self.asked.jobs),
            relieved_w=self.relieved_w,
            suspended=self.did["suspended"],
            migrated=self.did["migrated"],
            delayed=self.did["delayed"],
            stopped=self.did["stopped"],
            kept=tuple(self.kept),
            answered_at=now,
        )


class PriceRelief:
    """The latest request of each site, and which of them were answered."""

    def __init__(self, policy: Policy, sites: Sites, ledger: Ledger, placer: Placer, use: ExpectedUse) -> None:
        self._policy, self._sites, self._ledger, self._placer, self._use = policy, sites, ledger, placer, use
        self._asked: dict[str, ReliefRequested] = {}
        self._answered: dict[str, datetime] = {}  # by site: up to which request
        self._open: dict[str, None] = {}  # sites whose request was not answered

    def fold(self, event: ReliefRequested | ReliefAnswered) -> bool:
        """Take over a request, or an own answer; whether other hours are closed now."""
        known = self._asked.get(event.site)
        changed = False
        if isinstance(event, ReliefRequested):
            changed = known is None or event.requested_at > known.requested_at
            if changed:
                known = self._asked[event.site] = event
        else:
            before = self._answered.get(event.site, event.requested_at)
            self._answered[event.site] = max(before, event.requested_at)
        answered = self._answered.get(event.site)
        if known is not None and (answered is None or known.requested_at > answered):
            self._open[event.site] = None
        else:
            self._open.pop(event.site, None)
        return changed

    def closed(self, now_s: float) -> Iterator[tuple[str, Span]]:
        """Sites, and the spans in which nothing is to start or run on there."""
        for name, asked in self._asked.items():
            if asked.reason is not ReliefReason.LIFTED and asked.end.timestamp() > now_s:
                yield name, (asked.start.timestamp(), asked.end.timestamp())

    # What is done ----------------------------------------------------------------------------------------------------

    def act(self, jobs: dict[str, Job], now: datetime, take_back: TakeBack) -> list[ReliefAnswered]:
        """Answer the requests that were not; nothing is asked of anybody any more when a window is over."""
        answers: list[ReliefAnswered] = []
        for name in list(self._open):
            asked, site = self._asked[name], self._sites.by_name.get(name)
            if site is None and asked.end > now:
                continue  # nobody has seen it yet
            del self._open[name]
            self._answered[name] = asked.requested_at
            if site is not None and asked.end > now and asked.reason is not ReliefReason.LIFTED:
                answers.append(self._answer(asked, site, jobs, now, take_back))
            if site is not None:
                self._come_back(asked, site, jobs, now, take_back)
        return answers

    def _come_back(
        self, asked: ReliefRequested, site: Site, jobs: dict[str, Job], now: datetime, take_back: TakeBack
    ) -> None:
        """Work that waits here for the end of hours which have changed, or were lifted, starts earlier if it may now."""
        for job_id in self._use.at_site(site.name):
            job = jobs.get(job_id)
            if job is None or job.spec is None or job.started or job.start_at is None or job.relieved_at is None:
                continue
            if not _is_as_it_was(job, site, None) or job.start_at <= now + _SOONER:
                continue
            known = self._ledger.committed(job_id)
            self._ledger.release(job_id)
            choice = self._placer.choose(job, job.spec, now)
            if isinstance(choice, Choice) and not choice.queued and choice.start_at < job.start_at - _SOONER:
                take_back(job, job.spec, choice, detail=asked.detail)
            elif known is not None:
                self._ledger.restore(job_id, known, now.timestamp())

    def _answer(
        self, asked: ReliefRequested, site: Site, jobs: dict[str, Job], now: datetime, take_back: TakeBack
    ) -> ReliefAnswered:
        account = Account(asked)
        named = {one.job_id: one.revision for one in asked.jobs}
        starts = [job_id for job_id in self._use.at_site(site.name) if job_id not in named]
        for job_id in (*named, *starts):
            job = jobs.get(job_id)
            if job is None or job.spec is None or not _is_as_it_was(job, site, named.get(job_id)):
                continue
            if job_id not in named and not self._is_to_start(job, asked, now):
                continue
            runs = job.started or job_id in named
            found = self._instead(job, job.spec, site, account, now, runs=runs)
            if isinstance(found, KeptReason):
                account.kept.append(ReliefKept(job_id=job_id, reason=found))
                continue
            moves = found is not None and found.site != site.name
            stays = "suspended" if job.spec.suspendable else "stopped"
            account.did["delayed" if not runs else "migrated" if moves else stays] += 1
            account.relieved_w += dynamic_power_w(job.spec, site.power) if runs else 0.0
            take_back(job, job.spec, found, detail=asked.detail)
        return account.answer(now)

    def _is_to_start(self, job: Job, asked: ReliefRequested, now: datetime) -> bool:
        """It is planned to start in the window, or queues at the site since before others could act on its placement.

        One that was to start just now may run already: the DRM names it, or it is not worth stopping.
        """
        if job.started or job.start_at is None:
            return False
        if job.start_at > now:
            return asked.start <= job.start_at < asked.end
        return asked.start <= now and job.start_at < now - timedelta(seconds=self._policy.reaction_s)

    def _instead(
        self, job: Job, spec: JobSpec, site: Site, account: Account, now: datetime, *, runs: bool
    ) -> Choice | KeptReason | None:
        """Where and when it goes on, None where that is seen once it has stopped; or why it stays."""
        asked, now_s = account.asked, now.timestamp()
        if runs and is_protected(spec):
            return KeptReason.PROTECTED
        if runs and job.relieved_at is not None and job.relieved_at >= min(asked.start, now - SETTLED):
            return KeptReason.RECENT
        known = self._ledger.committed(job.job_id)
        self._ledger.release(job.job_id)  # its own hours are no reason why there is no room for it later
        found = self._best(job, spec, asked, now)
        if isinstance(found, Choice) and spec.weights.delay_eur_per_h is not None:
            stretches = ((now_s, self._placer.left_s(job, spec)),) if known is None else known.stretches
            then = () if known is None else then_of(known)
            if found.total_eur > self._placer.cost_of(job, spec, site.index, stretches, now, then):
                found = KeptReason.DELAY_WEIGHT
        if isinstance(found, KeptReason) and known is not None:
            self._ledger.restore(job.job_id, known, now_s)
        return found

    def _best(self, job: Job, spec: JobSpec, asked: ReliefRequested, now: datetime) -> Choice | KeptReason | None:
        """By the planner, for which the hours of the window are closed."""
        kept_s = done_s(job, spec, now.timestamp(), self._policy.restart_s)
        choice = self._placer.choose(job, spec, now, done_s=kept_s)
        if not isinstance(choice, Choice):
            late = isinstance(choice, Refuse) and choice.reason is FinishReason.DEADLINE_PASSED
            return KeptReason.DEADLINE if late else KeptReason.NO_SITE
        if not choice.queued:
            return choice
        latest_s = limit_of(job, spec, self._placer.left_s(job, spec, kept_s), kept_s).latest_s
        return None if latest_s >= asked.end.timestamp() else KeptReason.DEADLINE

    def in_turn(self, job: Job, spec: JobSpec, choice: Choice) -> Choice:
        """The choice; one that found no room anywhere waits for the end of the hours if its limits allow that: there, or where it was."""
        if not self._is_closed(choice.site, spec, choice.start_at):
            return choice
        length_s = choice.run_s
        latest_s = limit_of(job, spec, length_s).latest_s
        left = (
            job.site
            if job.withdrawal is WithdrawalReason.PRICE_BOUND and job.withdrawn == job.revision
            else choice.site
        )
        for name in dict.fromkeys((choice.site, left)):
            site = self._sites.by_name.get(name)
            if site is not None and site.holds(spec) and self._is_closed(name, spec, choice.start_at):
                end_s = self._asked[name].end.timestamp()
                if latest_s >= end_s:
                    return self._placer.moved(job, spec, replace(choice, site=name), end_s)
        return choice

    def _is_closed(self, name: str, spec: JobSpec, at: datetime) -> bool:
        """Nothing that takes power is to start there then."""
        asked, site = self._asked.get(name), self._sites.by_name.get(name)
        if asked is None or site is None or asked.reason is ReliefReason.LIFTED or not asked.start <= at < asked.end:
            return False
        return dynamic_power_w(spec, site.power) > 0.0


def _is_as_it_was(job: Job, site: Site, revision: int | None) -> bool:
    """Its placement is live there, under the revision that was named, and nobody has taken it back."""
    if not job.live or job.site != site.name or job.withdrawn >= job.revision or job.cancel_requested:
        return False
    return revision is None or job.revision == revision
