"""Where and when one job runs.

The simple algorithm: for every site that may take the job and every start within its time limit, add up what the run costs
there and then (energy, carbon, movement of its data, delay), and take the cheapest pair in whose hours there is room.
Here the pairs are one array over (site, start): run costs are differences of prefix sums, and what depends only on
the kind of job (which sites, which power, which movement) is remembered for the next job of that kind.
Jobs are placed one after another at marginal cost: each sees what those before it have taken.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from math import inf
from typing import TYPE_CHECKING

import numpy as np

from services.cmo.core.interruption import Hours, restarts
from services.cmo.core.kinds import Kinds
from services.cmo.core.ledger import SLOT_S, WINDOW_SLOTS, Room
from services.cmo.core.limits import is_too_late, iso, limit_of, too_late
from services.cmo.model import Choice
from solyx.events import Alternative, CostBreakdown, PlacementReason

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from services.cmo.core.jobs import Job
    from services.cmo.core.kinds import Kind
    from services.cmo.core.ledger import Ledger, Stretch
    from services.cmo.core.lengths import Lengths
    from services.cmo.core.limits import Limit
    from services.cmo.core.outlook import Outlook, Prices
    from services.cmo.core.sites import Sites
    from services.cmo.model import Policy, Verdict
    from solyx.events import JobSpec

    Floats = NDArray[np.float64]

_SHORTEST_PAUSED_S = 3600.0
_PREFER_EARLIER_EUR_PER_H = 1e-9  # of two starts that cost the same, the earlier; above the rounding of prefix sums


@dataclass(frozen=True, slots=True)
class Work:
    """What a job still has to do, and within which limits."""

    job: Job
    spec: JobSpec
    kind: Kind
    usable: NDArray[np.bool_]  # by site
    length_s: float  # the work left, with what a restart costs
    limit: Limit
    delay_eur_per_h: float
    restart_s: float  # work lost by one more interruption


@dataclass(frozen=True, slots=True)
class GoingOn:
    """What a run costs that is left alone for now."""

    eur: float
    stretches: tuple[Stretch, ...]
    at_least_eur: float  # of any plan for it


class Placer:
    """Chooses for one job at a time against the ledger as it is."""

    def __init__(self, policy: Policy, sites: Sites, ledger: Ledger, outlook: Outlook, lengths: Lengths) -> None:
        self._policy, self._sites, self._ledger, self._outlook = policy, sites, ledger, outlook
        self._lengths = lengths
        self._kinds = Kinds(sites)
        self._unit_costs: dict[tuple[float, int, float | None], Floats] = {}
        self._prices: Prices | None = None
        self._now_s = 0.0

    def choose(self, job: Job, spec: JobSpec, now: datetime, *, done_s: float | None = None) -> Verdict:
        """Where and when, or why not. ``done_s``: the work done so far, if more than what was reported."""
        self._look(now)
        length_s = self.left_s(job, spec, done_s)
        limit = limit_of(job, spec, length_s, done_s)
        late = not job.moving and is_too_late(spec, self._now_s) if done_s is None else limit.latest_s < self._now_s
        if late and spec.deadline is not None:  # what runs is judged by what it has left, and goes on where it is
            return too_late(spec, self._now_s)
        kind = self._kinds.of(spec, job.ran_at)
        if kind.obstacle is not None:
            return kind.obstacle
        prices = self._prices
        assert prices is not None
        avoided = self._avoided(job, kind)
        usable = kind.candidates & prices.known
        if avoided is not None:
            usable[avoided] = False
        if not usable.any():
            return self._at_home(job, spec, kind, avoided, length_s)
        delay = self._delay_eur_per_h(spec)
        work = Work(job, spec, kind, usable, length_s, limit, delay, self._policy.restart_s)
        choice = self._cheapest(work)
        if not spec.suspendable or length_s <= _SHORTEST_PAUSED_S:
            return choice
        return self._paused(work, choice) or choice

    def moved(self, job: Job, spec: JobSpec, choice: Choice, start_s: float) -> Choice:
        """The same run, begun later, at the cost of its new hours."""
        later_s = start_s - choice.stretches[0][0]
        stretches = tuple((begin_s + later_s, length_s) for begin_s, length_s in choice.stretches)
        site, kind = self._sites.by_name[choice.site], self._kinds.of(spec, job.ran_at)
        again = self._choice(job, spec, kind, site.index, stretches, choice.reason, choice.bound_by)
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

    def cost_of(self, job: Job, spec: JobSpec, site: int, stretches: tuple[Stretch, ...], now: datetime) -> float:
        """EUR of running at a site in these stretches, at what is known now, as plans are compared; infinite if it may not run there."""
        self._look(now)
        kind = self._kinds.of(spec, job.ran_at)
        if self._prices is None or not self._prices.known[site] or not kind.candidates[site]:
            return inf
        prefix = self._prices.weigh(spec.weights.carbon_eur_per_t)[site : site + 1]
        energy = late_h = before_h = 0.0
        for start_s, duration_s in stretches:
            begin_s = max(start_s, self._now_s)
            length_s = max(0.0, start_s + duration_s - begin_s)
            energy += float(self._prices.between(prefix, begin_s, length_s)[0])
            late_h += ((begin_s - self._now_s) / SLOT_S - before_h) * length_s
            before_h += length_s / SLOT_S
        late_h /= max(before_h * SLOT_S, 1.0)
        delay = self._delay_eur_per_h(spec)
        paused_eur = (len(stretches) - 1) * self._policy.restart_s / SLOT_S * energy / max(before_h, 1e-9)
        movement = float(kind.movement_eur[site])
        return float(kind.power_mw[site]) * (energy + paused_eur) + movement + delay * late_h

    def go_on(self, job: Job, spec: JobSpec, site: int, done_s: float, now: datetime) -> GoingOn:
        """The best plan that runs on where it is for now, and what the best of all would cost if stopping cost nothing."""
        self._look(now)
        left_s = self._lengths.left_s(spec.duration_estimate_s, done_s)
        whole = ((self._now_s, left_s),)
        alone = self.cost_of(job, spec, site, whole, now)
        prices, kind = self._prices, self._kinds.of(spec, job.ran_at)
        if prices is None or not prices.known[site] or left_s <= _SHORTEST_PAUSED_S:
            return GoingOn(alone, whole, alone)
        usable = kind.candidates & prices.known
        work = Work(
            job,
            spec,
            kind,
            usable,
            left_s,
            limit_of(job, spec, left_s, done_s),
            self._delay_eur_per_h(spec),
            self._policy.restart_s,
        )
        hours = self._hours(work)
        if len(hours.room_h) > WINDOW_SLOTS:
            return GoingOn(alone, whole, alone)
        costs = self._hourly(work, hours)
        best = float((hours.fill(costs)[0] + kind.movement_eur).min())
        here = costs[site : site + 1]
        if here[0, 0] == inf:
            here = self._hourly(work, hours, room_now=False)[site : site + 1]
        totals, fill = hours.fill(here, begin=True)
        total = float((totals + self._restarts_eur(work, here, fill))[0])
        return GoingOn(total, hours.stretches(fill[0]), best) if total < alone else GoingOn(alone, whole, best)

    def instead_at(self, site: int, choice: Choice, job: Job, spec: JobSpec, now: datetime) -> Choice:
        """The same start at another site, at what it costs there."""
        kind, stretches = self._kinds.of(spec, job.ran_at), choice.stretches
        there = self._choice(job, spec, kind, site, stretches, choice.reason, choice.bound_by)
        total = self.cost_of(job, spec, site, stretches, now)
        return replace(choice, site=there.site, cost=there.cost, total_eur=total)

    def _delay_eur_per_h(self, spec: JobSpec) -> float:
        return self._policy.delay_of(spec)

    def has_room_elsewhere(self, job: Job, spec: JobSpec, now: datetime) -> str | None:
        """Another site where the job could start now, in its time limit."""
        self._look(now)
        kind = self._kinds.of(spec, job.ran_at)
        length_s = self.left_s(job, spec)
        here = self._sites.by_name.get(job.site)
        if (
            kind.obstacle is not None
            or here is None
            or (spec.deadline and limit_of(job, spec, length_s).latest_s < self._now_s)
        ):
            return None
        room = Room(self._ledger, kind.demand, length_s, self._now_s).starts(1)[:, 0] & kind.candidates
        room[here.index] = False
        return self._sites.all[int(room.argmax())].name if room.any() else None

    def _look(self, now: datetime) -> None:
        """Bring what does not depend on the job up to the present."""
        now_s = now.timestamp()
        prices = self._outlook.prices([site.name for site in self._sites.all], now_s)
        if prices is not self._prices or now_s != self._now_s:
            self._prices, self._now_s = prices, now_s
            self._unit_costs.clear()

    def _avoided(self, job: Job, kind: Kind) -> int | None:
        """The site to stay away from, unless it is the only one."""
        site = self._sites.by_name.get(job.avoid or "")
        return (
            site.index if site is not None and int(kind.candidates.sum()) > int(kind.candidates[site.index]) else None
        )

    # The choice.

    def _unit_cost(self, work: Work, count: int) -> Floats:
        """EUR/MW over (site, start), the same for all jobs of one length."""
        weight = work.spec.weights.carbon_eur_per_t
        key = (work.length_s, count, weight)
        costs = self._unit_costs.get(key)
        if costs is None:
            assert self._prices is not None
            costs = self._unit_costs[key] = self._prices.unit_costs(work.length_s, self._now_s, count, weight)
        return costs

    def _cheapest(self, work: Work) -> Choice:
        """In one piece."""
        prices, now_s, kind, usable, limit = self._prices, self._now_s, work.kind, work.usable, work.limit
        assert prices is not None
        allowed = self._starts_until(limit.latest_s)
        count = min(allowed, int(prices.starts[usable].max()))
        starts_s = self._starts_s(count)
        late_h = (starts_s - now_s) / SLOT_S
        costs = self._unit_cost(work, count) * kind.power_mw[:, None]
        costs += kind.bias_eur
        costs += late_h * (work.delay_eur_per_h + _PREFER_EARLIER_EUR_PER_H)
        costs[~usable] = inf
        for site in np.flatnonzero(usable & (prices.starts < count)):
            costs[site, prices.starts[site] :] = inf
        room = Room(self._ledger, kind.demand, work.length_s, now_s)
        open_to_it = np.where(room.starts(count), costs, inf)
        wish, best = _least(costs), _least(open_to_it)
        bound_by, reason = kind.only, PlacementReason.ONLY_SITE if kind.only else PlacementReason.LEAST_COST
        queued = bool(open_to_it[best] == inf)
        if queued:
            best = (int(np.where(usable, room.load(), inf).argmin()), 0)
            bound_by = (
                f"capacity: no feasible site has room within {limit.words or 'the horizon'}; waits in the site's queue"
            )
        elif wish != best:
            bound_by = f"capacity: {self._sites.all[wish[0]].name} has no room from {iso(starts_s[wish[1]])}"
        elif limit.words and best[1] == allowed - 1 < self._policy.horizon_h:
            bound_by, reason = limit.words, PlacementReason.DEADLINE
        total = float(costs[best])
        costs[best] = open_to_it[best] = inf
        stretches = ((float(starts_s[best[1]]), work.length_s),)
        choice = self._choice(work.job, work.spec, kind, best[0], stretches, reason, bound_by)
        return replace(choice, alternative=self._second(work, open_to_it, starts_s), total_eur=total, queued=queued)

    def _hours(self, work: Work) -> Hours:
        slack_s = min(work.limit.latest_s - self._now_s, self._policy.horizon_h * SLOT_S)
        return Hours.until(self._now_s, work.length_s / SLOT_S, slack_s / SLOT_S, work.delay_eur_per_h)

    def _hourly(self, work: Work, hours: Hours, *, room_now: bool = True) -> Floats:
        """EUR for each hour of work, over (site, slot); infinite where it may not run. ``room_now``: slot 0 must have room."""
        prices, kind, count = self._prices, work.kind, len(hours.room_h)
        assert prices is not None
        costs = prices.rates(work.spec.weights.carbon_eur_per_t, count) * kind.power_mw[:, None] + hours.tilt
        fits = Room(self._ledger, kind.demand, work.length_s, self._now_s).hours(count)
        fits[:, 0] |= not room_now
        costs[~fits | (np.arange(count) >= prices.starts[:, None])] = inf
        costs[~work.usable] = inf
        return costs

    def _restarts_eur(self, work: Work, costs: Floats, fill: Floats) -> Floats:
        """What pauses cost, by site: the work they lose, at the rate of the dearest hour of the plan."""
        taken = (fill > 0.0) & np.isfinite(costs)
        return restarts(fill) * np.where(taken, costs, 0.0).max(axis=1) * (work.restart_s / SLOT_S)

    def _paused(self, work: Work, whole: Choice) -> Choice | None:
        """A plan with pauses, if it is cheaper than ``whole``."""
        hours = self._hours(work)
        if len(hours.room_h) > WINDOW_SLOTS:
            return None
        costs = self._hourly(work, hours)
        totals, fill = hours.fill(costs)
        possible = totals < inf
        if not possible.any():
            return None
        totals[possible] += (work.kind.movement_eur + self._restarts_eur(work, costs, fill))[possible]
        site = int(totals.argmin())
        total = float(totals[site])
        if total >= whole.total_eur and not whole.queued:
            return None
        words = "" if whole.reason is PlacementReason.DEADLINE else whole.bound_by
        chosen = self._choice(
            work.job, work.spec, work.kind, site, hours.stretches(fill[site]), PlacementReason.LEAST_COST, words
        )
        second = Alternative(
            site=whole.site, start_at=whole.start_at, total_eur=whole.total_eur + self._waited_eur(work)
        )
        return replace(chosen, alternative=None if whole.queued else second, total_eur=total)

    def _at_home(self, job: Job, spec: JobSpec, kind: Kind, avoided: int | None, length_s: float) -> Choice:
        """No prices: the home site at once, else the first site with room, else wherever it waits least."""
        candidates = kind.candidates.copy()
        if avoided is not None:
            candidates[avoided] = False
        room = Room(self._ledger, kind.demand, length_s, self._now_s)
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
        stretches = ((self._now_s, length_s),)
        choice = self._choice(job, spec, kind, site, stretches, PlacementReason.NO_FORECAST, bound_by)
        return replace(choice, queued=not fits.any())

    def _choice(
        self,
        job: Job,
        spec: JobSpec,
        kind: Kind,
        site: int,
        stretches: tuple[Stretch, ...],
        reason: PlacementReason,
        bound_by: str,
    ) -> Choice:
        prices = self._prices
        assert prices is not None
        power_mw = float(kind.power_mw[site])
        price = carbon = length_s = 0.0
        for start_s, duration_s in stretches:
            length_s += duration_s
            if prices.known[site]:
                more = prices.integrals(site, start_s, duration_s)
                price, carbon = price + more[0], carbon + more[1]
        carbon_kg = power_mw * carbon
        weights, policy = spec.weights, self._policy
        carbon_eur_per_t = policy.carbon_eur_per_t if weights.carbon_eur_per_t is None else weights.carbon_eur_per_t
        delay = self._delay_eur_per_h(spec)
        assert job.submitted_at is not None
        late_s = sum(stretches[-1]) - length_s - job.submitted_at.timestamp() - job.kept_s
        cost = CostBreakdown(
            energy_eur=power_mw * price,
            carbon_eur=carbon_kg * carbon_eur_per_t / 1000.0,
            movement_eur=float(kind.movement_eur[site]),
            delay_eur=max(0.0, late_s) / SLOT_S * delay,
            energy_kwh=power_mw * 1000.0 * length_s / SLOT_S,
            carbon_kg=carbon_kg,
        )
        return Choice(
            site=self._sites.all[site].name,
            start_at=datetime.fromtimestamp(stretches[0][0], UTC),
            reason=reason if reason is PlacementReason.NO_FORECAST else job.reason_after(reason),
            cost=cost,
            alternative=None,
            bound_by=bound_by,
            stretches=stretches,
            total_eur=cost.total_eur,
        )

    def _second(self, work: Work, open_to_it: Floats, starts_s: Floats) -> Alternative | None:
        """The best pair that was not taken; the chosen one is already struck out."""
        site, start = _least(open_to_it)
        cost = float(open_to_it[site, start])
        if cost == inf:
            return None
        return Alternative(
            site=self._sites.all[site].name,
            start_at=datetime.fromtimestamp(float(starts_s[start]), UTC),
            total_eur=cost + self._waited_eur(work),
        )

    def _waited_eur(self, work: Work) -> float:
        """The delay so far, which every plan bears."""
        job = work.job
        assert job.submitted_at is not None
        waited_s = max(0.0, self._now_s - job.submitted_at.timestamp() - job.kept_s)
        return waited_s / SLOT_S * work.delay_eur_per_h

    def _starts_until(self, latest_s: float) -> int:
        """How many starts (now, then every full hour) lie at or before ``latest_s``: at least one, at most the horizon's."""
        turn = (self._now_s // SLOT_S + 1) * SLOT_S
        if latest_s < turn:
            return 1
        return 2 + int(min(self._policy.horizon_h - 1, (latest_s - turn) // SLOT_S))

    def _starts_s(self, count: int) -> Floats:
        starts: Floats = (self._now_s // SLOT_S + np.arange(count, dtype=np.float64)) * SLOT_S
        starts[0] = self._now_s
        return starts


def _least(costs: Floats) -> tuple[int, int]:
    """Site and start of the least cost; of equals the earliest start, then the first site."""
    start, site = divmod(int(costs.T.argmin()), costs.shape[0])
    return site, start
