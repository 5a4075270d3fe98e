"""Where and when one job runs.

The simple algorithm: for every site that may take the job and every start within its time limit, add up what the run costs
there and then (energy, carbon, movement of its data, delay), and take the cheapest pair in whose hours there is room.
Here the pairs are one array over (site, start): run costs are differences of prefix sums, and what depends only on
the kind of job (which sites, which power, which movement) is remembered for the next job of that kind.
Jobs are placed one after another at marginal cost: each sees what those before it have taken.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from math import inf
from typing import TYPE_CHECKING

import numpy as np

from services.cmo.core.arrivals import arrival, full, no_room, queue_of, shift_starts, told
from services.cmo.core.costing import Costing, Work, least
from services.cmo.core.kinds import Kinds
from services.cmo.core.ledger import SLOT_S, Room
from services.cmo.core.limits import is_too_late, limit_of, too_late
from services.cmo.core.pausing import Pausing
from solyx.events import PlacementReason

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from services.cmo.core.costing import Floats, Then
    from services.cmo.core.jobs import Job
    from services.cmo.core.kinds import Kind
    from services.cmo.core.ledger import Ledger, Stretch
    from services.cmo.core.lengths import Lengths
    from services.cmo.core.outlook import Outlook
    from services.cmo.core.pausing import Courses
    from services.cmo.core.sites import Site, Sites
    from services.cmo.model import Choice, Policy, Verdict
    from solyx.events import JobSpec

_KNOWN_EUR = 1e15  # what costs more is not known
_PREFER_EARLIER_EUR_PER_H = 1e-9  # of two starts that cost the same, the earlier; above the rounding of prefix sums


class Placer:
    """Chooses for one job at a time against the ledger as it is."""

    def __init__(self, policy: Policy, sites: Sites, ledger: Ledger, outlook: Outlook, lengths: Lengths) -> None:
        self._policy, self._sites, self._ledger, self._lengths = policy, sites, ledger, lengths
        self._kinds = Kinds(sites)
        self._costing = Costing(policy, sites, outlook)
        self._pausing = Pausing(policy, sites, ledger, lengths, self._costing)

    def choose(self, job: Job, spec: JobSpec, now: datetime, *, done_s: float | None = None) -> Verdict:
        """Where and when, or why not. ``done_s``: the work done so far, if more than what was reported."""
        self._costing.look(now)
        length_s = self.left_s(job, spec, done_s)
        limit = limit_of(job, spec, length_s, done_s)
        late = (
            not job.moving and is_too_late(spec, self._costing.now_s)
            if done_s is None
            else limit.latest_s < self._costing.now_s
        )
        if late and spec.deadline is not None:  # what runs is judged by what it has left, and goes on where it is
            return too_late(spec, self._costing.now_s)
        kind = self._kinds.of(spec, job.ran_at)
        if kind.obstacle is not None:
            return kind.obstacle
        usable = self._usable(job, kind)
        if not usable.any():
            return self._at_home(job, spec, kind, length_s)
        ready_s = self._ready_s(job, kind)
        work = Work(job, spec, kind, usable, length_s, limit, self._policy.delay_of(spec), ready_s)
        choice = self._best(work, done_s)
        if ready_s is None and not kind.cut_off:
            return choice
        unhindered = None if ready_s is None else self._best(replace(work, ready_s=None), done_s)
        return told(choice, kind, unhindered, ready_s, self._sites)

    def _best(self, work: Work, done_s: float | None) -> Choice:
        """With pauses if it may, else in one piece."""
        job = work.job
        done_s = job.kept_s if done_s is None else done_s
        courses = self._pausing.courses(job, work.spec, work.kind, work.usable, done_s=done_s, ready_s=work.ready_s)
        choice = None if courses is None else courses.best(told=True)
        return self._cheapest(work) if choice is None else choice

    def courses(
        self, job: Job, spec: JobSpec, now: datetime, *, done_s: float, running: int | None = None
    ) -> Courses | None:
        """All plans of a job that may pause; None: it may not, is too short for it, or no site is open to it."""
        self._costing.look(now)
        kind = self._kinds.of(spec, job.ran_at)
        if kind.obstacle is not None:
            return None
        usable, ready_s = self._usable(job, kind), self._ready_s(job, kind)
        return self._pausing.courses(job, spec, kind, usable, done_s=done_s, running=running, ready_s=ready_s)

    def ready_s(self, job: Job, spec: JobSpec, now: datetime) -> Floats | None:
        """From when on its data is there, by site, if it is moved from now on; None: everywhere at once."""
        self._costing.look(now)
        return self._ready_s(job, self._kinds.of(spec, job.ran_at))

    def _ready_s(self, job: Job, kind: Kind) -> Floats | None:
        if kind.data is None or kind.transfer_s is None:
            return None
        return self._sites.wan.ready_s(kind.data, kind.transfer_s, self._sites.all, job, self._costing.now_s)

    def with_data(self, job: Job, spec: JobSpec, choice: Choice, planned: Choice, now: datetime) -> Choice:
        """The choice with the time when its data is there; it does not begin before that, whoever made it.

        ``planned``: as it was chosen here; it stands if no path leads to where it was put off to.
        """
        now_s, ready_s = now.timestamp(), None if spec.data is None else self.ready_s(job, spec, now)
        if ready_s is None:
            return choice
        if ready_s[self._sites.by_name[choice.site].index] == inf:
            choice = planned
        data_s = float(ready_s[self._sites.by_name[choice.site].index])
        if data_s <= now_s:
            return choice
        if choice.start_at.timestamp() < data_s:
            choice = self.moved(job, spec, choice, data_s)
        data = self._kinds.of(spec, job.ran_at).data
        assert data is not None
        begin_s, _ = self._sites.wan.movement(data, choice.site, job, now_s)
        data_from, data_at = datetime.fromtimestamp(begin_s, UTC), datetime.fromtimestamp(data_s, UTC)
        return replace(choice, data_from=data_from, data_at=data_at)

    def moved(self, job: Job, spec: JobSpec, choice: Choice, start_s: float) -> Choice:
        """The same run, begun later, at the cost of its new hours."""
        later_s = start_s - choice.stretches[0][0]
        stretches = tuple((begin_s + later_s, length_s) for begin_s, length_s in choice.stretches)
        then = tuple((name, (begin_s + later_s, length_s)) for name, (begin_s, length_s) in choice.then)
        site, kind = self._sites.by_name[choice.site], self._kinds.of(spec, job.ran_at)
        again = self._costing.choice(job, spec, kind, site.index, stretches, choice.reason, choice.bound_by, then)
        return replace(
            again,
            reason=choice.reason,
            alternative=choice.alternative,
            total_eur=choice.total_eur,
            queued=choice.queued,
        )

    def left_s(self, job: Job, spec: JobSpec, done_s: float | None = None) -> float:
        """The work that a new run of the job is expected to take."""
        kept_s = job.kept_s if done_s is None else done_s
        restart_s = self._policy.restart_s if kept_s else 0.0
        return self._lengths.left_s(spec.duration_estimate_s, kept_s) + restart_s

    def cost_of(
        self, job: Job, spec: JobSpec, site: int, stretches: tuple[Stretch, ...], now: datetime, then: Then = ()
    ) -> float:
        """EUR of running in these stretches, at what is known now, as plans are compared; infinite where it may not run."""
        self._costing.look(now)
        return self._costing.of_runs(spec, self._kinds.of(spec, job.ran_at), site, stretches, then)

    def instead_at(self, site: int, choice: Choice, job: Job, spec: JobSpec, now: datetime) -> Choice:
        """The same start at another site, at what it costs there."""
        kind, stretches = self._kinds.of(spec, job.ran_at), choice.stretches
        there = self._costing.choice(job, spec, kind, site, stretches, choice.reason, choice.bound_by)
        total = self.cost_of(job, spec, site, stretches, now)
        return replace(choice, site=there.site, cost=there.cost, total_eur=total)

    def room_elsewhere(self, job: Job, spec: JobSpec, now: datetime) -> tuple[Site, float] | None:
        """Of the other sites where the job could start now, in its time limit, the cheapest; and the EUR that it costs more than here."""
        self._costing.look(now)
        now_s, kind, length_s = self._costing.now_s, self._kinds.of(spec, job.ran_at), self.left_s(job, spec)
        here = self._sites.by_name.get(job.site)
        if (
            kind.obstacle is not None
            or here is None
            or (spec.deadline and limit_of(job, spec, length_s).latest_s < now_s)
        ):
            return None
        room = Room(self._ledger, kind.demand, length_s, now_s).starts(1)[:, 0] & kind.candidates
        room[here.index] = False
        ready_s = self._ready_s(job, kind)
        if ready_s is not None:  # what waits for its data elsewhere does not start sooner
            room &= ready_s <= now_s + self._policy.stuck_s
        if not room.any():
            return None
        run = ((now_s, length_s),)
        eur = {int(site): self._costing.of_runs(spec, kind, int(site), run) for site in np.flatnonzero(room)}
        there = min(eur, key=eur.__getitem__)
        return self._sites.all[there], eur[there] - min(self._costing.of_runs(spec, kind, here.index, run), _KNOWN_EUR)

    def _usable(self, job: Job, kind: Kind) -> NDArray[np.bool_]:
        """The sites that may take it and whose prices are known."""
        usable = kind.candidates & self._costing.prices.known
        avoided = self._avoided(job, kind)
        if avoided is not None:
            usable[avoided] = False
        return usable

    def _avoided(self, job: Job, kind: Kind) -> int | None:
        """The site to stay away from, unless it is the only one."""
        site = self._sites.by_name.get(job.avoid or "")
        return (
            site.index if site is not None and int(kind.candidates.sum()) > int(kind.candidates[site.index]) else None
        )

    def _cheapest(self, work: Work) -> Choice:
        """In one piece."""
        prices, now_s = self._costing.prices, self._costing.now_s
        kind, usable, limit = work.kind, work.usable, work.limit
        count = min(self._costing.starts_until(limit.latest_s), int(prices.starts[usable].max()))
        starts_s = self._costing.starts_s(count)
        late_h = (starts_s - now_s) / SLOT_S
        costs = self._costing.unit_cost(work, count) * kind.power_mw[:, None]
        costs += kind.bias_eur
        costs += late_h * (work.delay_eur_per_h + _PREFER_EARLIER_EUR_PER_H)
        costs[~usable] = inf
        for site in np.flatnonzero(usable & (prices.starts < count)):
            costs[site, prices.starts[site] :] = inf
        room = Room(self._ledger, kind.demand, work.length_s, now_s)
        fits = room.starts(count)
        if work.ready_s is not None:
            shift_starts(work, costs, fits, self._costing, self._ledger)
        open_to_it = np.where(fits, costs, inf)
        wish, best = least(costs), least(open_to_it)
        bound_by, reason = kind.only, PlacementReason.ONLY_SITE if kind.only else PlacementReason.LEAST_COST
        queued = bool(open_to_it[best] == inf)
        if queued:
            best, bound_by = queue_of(work, costs, room.load()), no_room(work, costs)
        elif wish != best:
            bound_by = full(self._sites.all[wish[0]], float(starts_s[wish[1]]))
        elif limit.words and self._costing.is_last(best[1], limit.latest_s):
            bound_by, reason = limit.words, PlacementReason.DEADLINE
        total = float(costs[best])
        costs[best] = open_to_it[best] = inf
        stretches = ((work.begins_s(best[0], float(starts_s[best[1]])), work.length_s),)
        choice = self._costing.choice(work.job, work.spec, kind, best[0], stretches, reason, bound_by)
        alternative = self._costing.second(work, open_to_it)
        return replace(choice, alternative=alternative, total_eur=total, queued=queued)

    def _at_home(self, job: Job, spec: JobSpec, kind: Kind, length_s: float) -> Choice:
        """No prices: the home site at once, else the first site with room, else wherever it waits least."""
        candidates, avoided = kind.candidates.copy(), self._avoided(job, kind)
        if avoided is not None:
            candidates[avoided] = False
        room = Room(self._ledger, kind.demand, length_s, self._costing.now_s)
        fits = room.starts(1)[:, 0] & candidates
        home = self._sites.by_name.get(spec.home_site or next(iter(spec.allowed_sites), ""))
        bound_by = "prices or carbon intensity are unknown"
        if home is not None and fits[home.index]:
            site = home.index
        elif fits.any():
            site = int(fits.argmax())
        else:
            site = int(np.where(candidates, room.load(), inf).argmin())
            bound_by += "; capacity: no feasible site has room, waits in the site's queue"
        ready_s = self._ready_s(job, kind)
        start_s = self._costing.now_s if ready_s is None else float(ready_s[site])
        bound_by = "; ".join((bound_by, *arrival(kind, self._sites.all[site], ready_s)))
        stretches = ((start_s, length_s),)
        choice = self._costing.choice(job, spec, kind, site, stretches, PlacementReason.NO_FORECAST, bound_by)
        return replace(choice, queued=not fits.any())
