"""Where work of lower priority makes room at the least cost, when a job finds room nowhere in its limits.

The simple algorithm: for every site that may take the job, and every set of placements there that would make room for it now, add up
what they lose (``yielding.py``) and what the job costs there; take the site and set

1. whose highest priority is lowest,
2. of these, in which the fewest miss a limit of their own,
3. of these, which costs the least.

Equal to it, the priority is found first, from what all up to each would give; then each site's cheapest set (``cover.py``). The ledger knows
sums, not nodes: of sites where that is equal, those go first in which enough pods of the job fit in the places of single victims.

The CMO knows neither quotas nor nodes. So it takes back only what has not started; who runs is **named** in the placement, and the DRM
of that site stops them if its rules allow it. Whoever is stopped comes back as after any preemption, with its progress; the room
that was found for it is held meanwhile. A named job counts as leaving until the job that it is named for has started or is gone, so
that nobody plans with the same room twice.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf
from typing import TYPE_CHECKING

import numpy as np

from services.cmo.core.cover import cheapest_cover
from services.cmo.core.ledger import SLOT_S, Demand, Room
from services.cmo.core.yielding import Yields, pods_in_place_of
from services.cmo.model import Choice
from solyx.events import Victim, WithdrawalReason

if TYPE_CHECKING:
    from datetime import datetime

    from services.cmo.core.expected import ExpectedUse
    from services.cmo.core.jobs import Job
    from services.cmo.core.ledger import Ledger
    from services.cmo.core.outlook import Outlook
    from services.cmo.core.placing import Placer
    from services.cmo.core.sites import Site, Sites
    from services.cmo.core.yielding import Ints, Yield
    from services.cmo.model import Policy
    from solyx.events import JobSpec

_MISS_EUR = 1e6  # of a limit that is missed: more than any set costs


@dataclass(frozen=True, slots=True)
class Plan:
    """Where the job goes, and who makes room for it."""

    choice: Choice
    stopped: tuple[Yield, ...]  # named: they run, and the DRM stops them
    delayed: tuple[Yield, ...]  # they have not started: taken back at once


@dataclass(frozen=True, slots=True)
class Offer:
    """What is missing at one site, and who could give it."""

    site: Site
    lacks: Ints  # × 3600, over pairs of hour and resource
    yields: list[Yield]
    held: Ints  # over (yield, pair)
    pods: Ints  # of the job, that surely fit where each of them ran, by yield
    lacks_pods: int  # how many have to; 0 where nodes make no difference
    priority: float  # the lowest up to which all together are enough; below any if nobody is needed


class Preemption:
    """Plans for one job at a time, against the ledger as it is."""

    def __init__(
        self, policy: Policy, sites: Sites, ledger: Ledger, outlook: Outlook, placer: Placer, use: ExpectedUse
    ) -> None:
        self._sites, self._ledger, self._outlook, self._placer, self._use = sites, ledger, outlook, placer, use
        self._yields = Yields(policy, sites, ledger, outlook, placer, use)
        self._named: dict[str, str] = {}  # job → the job for which it is to be stopped

    def begin(self) -> None:
        """A decision begins: whatever was folded since the last one counts."""
        self._yields.forget()

    def plan(self, job: Job, spec: JobSpec, choice: Choice, jobs: dict[str, Job], now: datetime) -> Plan | None:
        """For a choice that found no room: the site where work of lower priority makes room; None: there is none.

        Where there is one site only its DRM sees as much as this.
        """
        if len(self._sites.all) < 2 or self._use.lowest_priority() >= spec.priority:
            return None
        length_s = choice.stretches[0][1]
        open_to_it = [site for site in self._open_to(job, spec, choice.site, now) if site.name != job.avoid]
        offers = [one for site in open_to_it if (one := self._offer(site, spec, length_s, jobs, now)) is not None]
        priority = min((offer.priority for offer in offers), default=inf)
        lowest = [offer for offer in offers if offer.priority == priority]
        there = [self._placer.instead_at(offer.site.index, choice, job, spec, now) for offer in lowest]
        best: Plan | None = None
        least = (True, inf)
        for own_eur, index in sorted((_own_eur(one), index) for index, one in enumerate(there)):
            unsure, loss_eur, yields = _cheapest_set(lowest[index], length_s, now)
            if best is None or (unsure, own_eur + loss_eur) < least:
                least, best = (unsure, own_eur + loss_eur), _plan_of(there[index], yields)
        return best

    def is_possible_elsewhere(self, job: Job, spec: JobSpec, jobs: dict[str, Job], now: datetime) -> bool:
        """Whether room could be made at another site for a job for which it was not made where it is: a quota may forbid it there.

        Once: it would go to and fro where the quotas of all sites forbid it.
        """
        if not job.victims or (job.withdrawn == job.revision - 1 and job.withdrawal is WithdrawalReason.STUCK):
            return False
        left_s = self._placer.left_s(job, spec)
        others = [site for site in self._open_to(job, spec, job.site, now) if site.name != job.site]
        return any(self._offer(site, spec, left_s, jobs, now) is not None for site in others)

    def _open_to(self, job: Job, spec: JobSpec, chosen: str, now: datetime) -> list[Site]:
        """The sites that may take it, as for any placement: where prices are known, unless they are known nowhere.

        Room is made for a start now: nobody is stopped where its data is still to come.
        """
        found = self._sites.candidates(spec)
        if not isinstance(found, list):
            return []
        known = self._outlook.prices([site.name for site in self._sites.all], now.timestamp()).known
        priced = known[self._sites.by_name[chosen].index]
        ready_s = self._placer.ready_s(job, spec, now)
        late = np.zeros(len(known), np.bool_) if ready_s is None else ready_s > now.timestamp()
        return [site for site in found if known[site.index] == priced and not late[site.index]]

    def _offer(self, site: Site, spec: JobSpec, length_s: float, jobs: dict[str, Job], now: datetime) -> Offer | None:
        """None: there would be no room even without all that could make room."""
        now_s = now.timestamp()
        slots, columns, lacks = Room(self._ledger, Demand.of(spec), length_s, now_s).lacks(site.index)
        bystanders = self._yields.at(site, spec.priority, jobs, self._named, now_s)
        held = bystanders.holds(slots, columns)
        may: list[int] = []
        for index, one in enumerate(bystanders.yields):
            if one.leaves or one.queues or self._is_leaving(one.job, jobs):
                lacks = lacks - held[index]
            elif one.eur < inf and one.spec.priority < spec.priority and _bears(one, now_s, length_s):
                may.append(index)
        may.sort(key=lambda index: bystanders.yields[index].spec.priority)
        yields = [bystanders.yields[index] for index in may]
        if (lacks <= 0).all():
            return Offer(site, lacks, [], held[:0], lacks[:0], 0, -inf)
        enough = (np.cumsum(held[may], axis=0) >= lacks).all(axis=1)
        if not enough.any():
            return None
        priority = yields[int(enough.argmax())].spec.priority
        yields = [one for one in yields if one.spec.priority <= priority]
        full_now = bool((lacks[slots == int(now_s // SLOT_S)] > 0).any())
        several = full_now and sum(site.ready.values()) > 1
        pods = np.array([0 if one.planned else pods_in_place_of(one.spec, spec) for one in yields], np.int64)
        return Offer(site, lacks, yields, held[may[: len(yields)]], pods, spec.parallelism if several else 0, priority)

    # Who is to be stopped ---------------------------------------------------------------------------------------------

    def _is_leaving(self, job: Job, jobs: dict[str, Job]) -> bool:
        """It is named, and the job for which it is has not started yet."""
        if job.job_id not in self._named:
            return False
        head = jobs.get(self._named[job.job_id])
        return (
            head is not None
            and head.waits_for_room
            and Victim(job_id=job.job_id, revision=job.revision) in head.victims
        )

    def follow(self, job: Job, jobs: dict[str, Job]) -> None:
        """Something became of a job that names victims: who still runs once it has started, or is gone, stays."""
        for victim in job.victims:
            if job.waits_for_room:
                self._named[victim.job_id] = job.job_id
            elif self._named.get(victim.job_id) == job.job_id:
                del self._named[victim.job_id]
                known = jobs.get(victim.job_id)
                if known is not None and known.live and known.withdrawn < known.revision == victim.revision:
                    self._use.let_go(victim.job_id)

    def hold(self, job: Job, plan: Plan, now: datetime) -> None:
        """Once the job itself is written down: remember whom it names, and hold room for all who make room."""
        for one in plan.stopped:
            self._named[one.job.job_id] = job.job_id
        for one in (*plan.stopped, *plan.delayed):
            other, spec = one.job, one.spec
            known = self._ledger.committed(other.job_id)
            self._ledger.release(other.job_id)  # its own hours are no reason why there is no room for it later
            instead = self._placer.choose(other, spec, now, done_s=one.done_s)
            if isinstance(instead, Choice) and not instead.queued:
                self._use.hold_choice(other, spec, instead, now.timestamp())
            if not one.planned and known is not None:
                self._ledger.restore(other.job_id, known, now.timestamp())


def _bears(one: Yield, now_s: float, length_s: float) -> bool:
    """Whether it may be asked to make room: what is not preemptible only if its own limit is kept."""
    return one.spec.preemptible or not one.misses(now_s, length_s)


def _own_eur(choice: Choice) -> float:
    """What the job itself costs there; where no price is known only the victims count."""
    return choice.total_eur if choice.total_eur < inf else 0.0


def _cheapest_set(offer: Offer, length_s: float, now: datetime) -> tuple[bool, float, list[Yield]]:
    """Whether it may be in vain, what it costs, and whose it is.

    The ledger's sums do not know nodes: many small ones may give enough, and no node of it to the job. Sure is a set with enough of those
    in whose own place pods of the job fit. Both sets are given where they differ: the DRM, which knows, takes no more than it needs.
    """
    losses = np.array(
        [one.loss_eur(length_s) + (_MISS_EUR if one.misses(now.timestamp(), length_s) else 0.0) for one in offer.yields]
    )
    cheapest = cheapest_cover(offer.lacks, offer.held, losses) or ()
    if not offer.lacks_pods:
        return False, float(losses[list(cheapest)].sum()), [offer.yields[index] for index in cheapest]
    needs, held = np.append(offer.lacks, offer.lacks_pods), np.column_stack((offer.held, offer.pods))
    sure = cheapest_cover(needs, held, losses)
    chosen = cheapest if sure is None else sure
    named = sorted({*cheapest, *chosen})
    return sure is None, float(losses[list(chosen)].sum()), [offer.yields[index] for index in named]


def _plan_of(choice: Choice, yields: list[Yield]) -> Plan:
    stopped = tuple(one for one in yields if not one.planned)
    delayed = tuple(one for one in yields if one.planned)
    words = choice.bound_by
    if yields:  # no names: whoever asks why this job waits need not know whose work is stopped
        words += f" until {len(yields)} of lower priority {'has' if len(yields) == 1 else 'have'} made room"
    victims = tuple(Victim(job_id=one.job.job_id, revision=one.job.revision) for one in stopped)
    return Plan(replace(choice, victims=victims, bound_by=words), stopped, delayed)
