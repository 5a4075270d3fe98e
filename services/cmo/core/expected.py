"""The use that live placements are expected to have, kept in the ledger: from their start, renewed when they are late or long."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from services.cmo.core.ledger import SLOT_S, Demand
from services.cmo.core.patience import Patience
from services.cmo.core.timers import Due

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from services.cmo.core.accounts import Accounts
    from services.cmo.core.costing import Then
    from services.cmo.core.jobs import Job
    from services.cmo.core.ledger import Commitment, Ledger, Stretch
    from services.cmo.core.placing import Placer
    from services.cmo.core.sites import Site, Sites
    from services.cmo.core.timers import Timers
    from services.cmo.model import Choice, Policy
    from solyx.events import JobSpec

_EXTENSION_SHARE = 0.1  # a run that outlasts its estimate is expected to take a tenth of it more, at least an hour
_USE_SHARE = 0.2  # of the reaction time: how often, at most, the use of a run that is late or long is written down anew
_NEXT = "/next"  # suffix of the key under which room is held for a job that is being moved


class ExpectedUse:
    """Writes live placements down, and knows which jobs are at which site."""

    def __init__(
        self,
        policy: Policy,
        sites: Sites,
        ledger: Ledger,
        placer: Placer,
        timers: Timers,
        accounts: Accounts,
    ) -> None:
        self._policy, self._sites, self._ledger, self._placer, self._timers = policy, sites, ledger, placer, timers
        self._accounts = accounts
        self.patience = Patience(policy)
        self._at_site: dict[str, dict[int, set[str]]] = {}  # by priority
        self._rank: dict[str, tuple[str, int]] = {}  # site and priority of each

    def at_site(self, name: str) -> list[str]:
        """Live placements there."""
        return sorted(job_id for jobs in self._at_site.get(name, {}).values() for job_id in jobs)

    def everywhere(self) -> Iterable[str]:
        """All live placements."""
        return iter(self._rank)

    def lowest_priority(self) -> float:
        """Of all live placements; infinite when there is none."""
        return min((priority for ranks in self._at_site.values() for priority in ranks), default=inf)

    def below(self, name: str, priority: int) -> Iterator[str]:
        """Live placements there of a lower priority, the lowest first."""
        ranks = self._at_site.get(name, {})
        return (job_id for rank in sorted(ranks) if rank < priority for job_id in sorted(ranks[rank]))

    def write_down(
        self, job: Job, spec: JobSpec, now_s: float, stretches: tuple[Stretch, ...] = (), then: Then = ()
    ) -> None:
        """Commit the run of the live placement, and arm its timers. Without stretches: in one piece from its start."""
        self._stand(job.job_id, job.site, spec.priority)
        self._sites.wan.watch(job, spec)
        self._accounts.plan(job, spec)
        site = self._sites.by_name.get(job.site)
        if site is None:
            return
        start_s = now_s if job.start_at is None else job.start_at.timestamp()
        if job.started and job.report is not None:
            start_s = (job.report.started_at or job.report.at).timestamp()
        job.committed = (job.revision, job.started)
        if not stretches:
            known = self._ledger.committed(job.job_id)
            stretches = ((start_s, self._placer.left_s(job, spec)),)
            if known is not None and known.site is site and abs(known.stretches[0][0] - start_s) < SLOT_S:
                stretches, then = known.stretches, then_of(known)
        end_s = self.commit(job, spec, site, stretches, now_s, then)
        if job.started:
            self._timers.set(end_s, Due.USE, job.job_id, job.revision)
        else:
            self._timers.set(start_s + self._again_s(spec), Due.USE, job.job_id, job.revision)
            self.watch_for_stuck(job, now_s)

    def watch_for_stuck(self, job: Job, now_s: float) -> None:
        """Look again whether it has started."""
        self._timers.set(self.patience.next_look_s(job, now_s), Due.STUCK, job.job_id, job.revision)

    def commit(
        self, job: Job, spec: JobSpec, site: Site, stretches: tuple[Stretch, ...], now_s: float, then: Then = ()
    ) -> float:
        """Write these hours down instead of what was; returns when the run there should end."""
        return self._write(job.job_id, spec, site, stretches, now_s, then)

    def _write(
        self, key: str, spec: JobSpec, site: Site, stretches: tuple[Stretch, ...], now_s: float, then: Then
    ) -> float:
        known = tuple((there, stretch) for name, stretch in then if (there := self._sites.by_name.get(name)))
        return self._ledger.commit_all(
            key, site=site, demand=Demand.of(spec), stretches=stretches, now_s=now_s, then=known
        )

    def hold(
        self, job: Job, spec: JobSpec, site: Site, stretches: tuple[Stretch, ...], now_s: float, then: Then = ()
    ) -> None:
        """Hold room for a job that is being moved there, so that nobody else is sent after it."""
        self._write(job.job_id + _NEXT, spec, site, stretches, now_s, then)

    def hold_choice(self, job: Job, spec: JobSpec, choice: Choice, now_s: float) -> None:
        """The same, for a choice."""
        self.hold(job, spec, self._sites.by_name[choice.site], choice.stretches, now_s, choice.then)

    def let_go(self, job_id: str) -> None:
        """Give back the room that is held for its next placement."""
        self._ledger.release(job_id + _NEXT)

    def end(self, job_id: str) -> None:
        """The placement is not live any more; room that is held for the next one stays."""
        self._ledger.release(job_id)
        self._sites.wan.forget(job_id)
        self._leave(job_id)

    def _stand(self, job_id: str, site: str, priority: int) -> None:
        if self._rank.get(job_id) != (site, priority):
            self._leave(job_id)
            self._rank[job_id] = site, priority
            self._at_site.setdefault(site, {}).setdefault(priority, set()).add(job_id)

    def _leave(self, job_id: str) -> None:
        known = self._rank.pop(job_id, None)
        if known is not None:
            site, priority = known
            jobs = self._at_site[site][priority]
            jobs.discard(job_id)
            if not jobs:
                del self._at_site[site][priority]

    def renew(self, job: Job, spec: JobSpec, now_s: float) -> None:
        """The run has not started, or is not over, when it was expected to: write it down from now on."""
        commitment = self._ledger.committed(job.job_id)
        if commitment is None:
            return
        if not job.started:
            self.commit(job, spec, commitment.site, ((now_s, self._placer.left_s(job, spec)),), now_s)
            again_s = now_s + self._again_s(spec)
        elif commitment.end_s > now_s:
            again_s = commitment.end_s
        else:
            more_s = max(SLOT_S, _USE_SHARE * self._policy.reaction_s, _EXTENSION_SHARE * spec.duration_estimate_s)
            again_s = self._ledger.extend(job.job_id, more_s, now_s)
            self._accounts.plan(job, spec, until_s=again_s)
        self._timers.set(again_s, Due.USE, job.job_id, job.revision)

    def _again_s(self, spec: JobSpec) -> float:
        """How long after its start a placement that was not seen running is written down anew from the present."""
        return max(SLOT_S, _USE_SHARE * self._policy.reaction_s, spec.duration_estimate_s / 4)


def then_of(known: Commitment) -> Then:
    """Where and when a commitment goes on elsewhere, by name."""
    return tuple((site.name, stretch) for site, stretch in known.then)
