"""Where and when one job runs.

The simple algorithm: for every site that may take the job and every start within its time limit, add up what the run costs
there and then (energy, carbon, movement of its data, delay), and take the cheapest pair in whose hours there is room.
Here the pairs are one array over (site, start): run costs are differences of prefix sums, and what depends only on
the kind of job (which sites, which power, which movement) is remembered for the next job of that kind.
Jobs are placed one after another at marginal cost: each sees what those before it have taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf
from typing import TYPE_CHECKING

import numpy as np

from services.cmo.core.ledger import SLOT_S, Demand, Room
from services.cmo.model import Choice, Refuse, Wait
from solyx.energy import cores_of, gpus_of, movement_eur
from solyx.events import Alternative, CostBreakdown, FinishReason, PlacementReason

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from services.cmo.core.jobs import Job
    from services.cmo.core.ledger import Ledger
    from services.cmo.core.outlook import Outlook, Prices
    from services.cmo.core.sites import Site, Sites
    from services.cmo.model import Policy, Verdict
    from solyx.events import DataSet, JobSpec

    Floats = NDArray[np.float64]

_KINDS_KEPT = 4096
_PREFER_EARLIER_EUR_PER_H = 1e-9  # of two starts that cost the same, the earlier; above the rounding of prefix sums


@dataclass(frozen=True, slots=True)
class Kind:
    """What all jobs share that ask for the same, with the same data and constraints."""

    obstacle: Refuse | Wait | None  # no site may take them now
    demand: Demand
    candidates: NDArray[np.bool_]  # by site
    only: str  # in words, why one site is left; empty when there are more
    power_mw: Floats  # by site
    movement_eur: Floats  # by site
    bias_eur: Floats  # by site, as a column: the movement, infinite where they may not run


@dataclass(frozen=True, slots=True)
class Limit:
    """The latest start that the job's owner allows."""

    latest_s: float
    words: str  # empty: there is no limit


class Placer:
    """Chooses for one job at a time against the ledger as it is."""

    def __init__(self, policy: Policy, sites: Sites, ledger: Ledger, outlook: Outlook) -> None:
        self._policy, self._sites, self._ledger, self._outlook = policy, sites, ledger, outlook
        self._kinds: dict[object, Kind] = {}
        self._kinds_of = -1  # generation of the sites
        self._unit_costs: dict[tuple[float, int], Floats] = {}
        self._prices: Prices | None = None
        self._now_s = 0.0

    def choose(self, job: Job, spec: JobSpec, now: datetime) -> Verdict:
        """Where and when, or why not."""
        self._look(now)
        limit = _limit(job, spec)
        if spec.deadline is not None and limit.latest_s < self._now_s:
            return _too_late(spec, self._now_s)
        kind = self._kind(spec)
        if kind.obstacle is not None:
            return kind.obstacle
        prices = self._prices
        assert prices is not None
        avoided = self._avoided(job, kind)
        usable = kind.candidates & prices.known
        if avoided is not None:
            usable[avoided] = False
        if not usable.any():
            return self._at_home(job, spec, kind, avoided)
        return self._cheapest(job, spec, kind, limit, usable)

    def has_room_elsewhere(self, job: Job, spec: JobSpec, now: datetime) -> str | None:
        """Another site where the job could start now, in its time limit."""
        self._look(now)
        kind = self._kind(spec)
        here = self._sites.by_name.get(job.site)
        if kind.obstacle is not None or here is None or (spec.deadline and _limit(job, spec).latest_s < self._now_s):
            return None
        room = Room(self._ledger, kind.demand, spec.duration_estimate_s, self._now_s).starts(1)[:, 0] & kind.candidates
        room[here.index] = False
        return self._sites.all[int(room.argmax())].name if room.any() else None

    def _look(self, now: datetime) -> None:
        """Bring what does not depend on the job up to the present."""
        now_s = now.timestamp()
        prices = self._outlook.prices([site.name for site in self._sites.all], now_s)
        if prices is not self._prices or now_s != self._now_s:
            self._prices, self._now_s = prices, now_s
            self._unit_costs.clear()

    # 1. What depends only on the kind of job.

    def _kind(self, spec: JobSpec) -> Kind:
        data = (spec.data.site, spec.data.size_bytes) if spec.data else None
        key = (spec.resources, spec.parallelism, spec.allowed_sites, spec.max_latency, data)
        if self._sites.generation != self._kinds_of or len(self._kinds) >= _KINDS_KEPT:
            self._kinds.clear()
            self._kinds_of = self._sites.generation
        kind = self._kinds.get(key)
        if kind is None:
            kind = self._kinds[key] = self._make_kind(spec)
        return kind

    def _make_kind(self, spec: JobSpec) -> Kind:
        sites, demand = self._sites.all, Demand.of(spec)
        found = self._sites.candidates(spec)
        candidates = np.zeros(len(sites), np.bool_)
        obstacle = found if isinstance(found, Refuse | Wait) else None
        only = ""
        if not isinstance(found, Refuse | Wait):
            candidates[[site.index for site in found]] = True
            only = _only(spec, found[0].name) if len(found) == 1 else ""
        cores, gpus = cores_of(spec), gpus_of(spec)
        power = np.array([site.power.dynamic_w(cores=cores, gpus=gpus) for site in sites]) / 1e6
        movement = np.zeros(len(sites))
        if spec.data is not None:
            movement = np.array([self._movement_eur(spec.data, site) for site in sites])
        bias = np.where(candidates, movement, inf)[:, None]
        return Kind(obstacle, demand, candidates, only, power, movement, bias)

    def _movement_eur(self, data: DataSet, to: Site) -> float:
        """Egress is paid where the data leaves; if nobody knows that place, at the price of the place it goes to."""
        source = self._sites.by_name.get(data.site, to)
        return movement_eur(data, to_site=to.name, egress_eur_per_gib=source.observed.egress_eur_per_gib)

    def _avoided(self, job: Job, kind: Kind) -> int | None:
        """The site to stay away from, unless it is the only one."""
        site = self._sites.by_name.get(job.avoid or "")
        return (
            site.index if site is not None and int(kind.candidates.sum()) > int(kind.candidates[site.index]) else None
        )

    # 2. What depends on how long it runs.

    def _unit_cost(self, prices: Prices, duration_s: float, count: int) -> Floats:
        """EUR/MW over (site, start), the same for all jobs of one length."""
        key = (duration_s, count)
        costs = self._unit_costs.get(key)
        if costs is None:
            costs = self._unit_costs[key] = prices.unit_costs(duration_s, self._now_s, count)
        return costs

    # 3. The choice.

    def _cheapest(self, job: Job, spec: JobSpec, kind: Kind, limit: Limit, usable: NDArray[np.bool_]) -> Choice:
        prices, now_s, duration_s = self._prices, self._now_s, spec.duration_estimate_s
        assert prices is not None
        allowed = self._starts_until(limit.latest_s)
        count = min(allowed, int(prices.starts[usable].max()))
        starts_s = self._starts_s(count)
        late_h = (starts_s - now_s) / SLOT_S
        costs = self._unit_cost(prices, duration_s, count) * kind.power_mw[:, None]
        costs += kind.bias_eur
        costs += late_h * (self._policy.delay_eur_per_job_h + _PREFER_EARLIER_EUR_PER_H)
        costs[~usable] = inf
        for site in np.flatnonzero(usable & (prices.starts < count)):
            costs[site, prices.starts[site] :] = inf
        room = Room(self._ledger, kind.demand, duration_s, now_s)
        open_to_it = np.where(room.starts(count), costs, inf)
        wish, best = _least(costs), _least(open_to_it)
        bound_by, reason = kind.only, PlacementReason.ONLY_SITE if kind.only else PlacementReason.LEAST_COST
        if open_to_it[best] == inf:
            best = (int(np.where(usable, room.load(), inf).argmin()), 0)
            bound_by = (
                f"capacity: no feasible site has room within {limit.words or 'the horizon'}; waits in the site's queue"
            )
        elif wish != best:
            bound_by = f"capacity: {self._sites.all[wish[0]].name} has no room from {_iso(starts_s[wish[1]])}"
        elif limit.words and best[1] == allowed - 1 < self._policy.horizon_h:
            bound_by, reason = limit.words, PlacementReason.DEADLINE
        costs[best] = open_to_it[best] = inf
        return self._choice(
            job,
            spec,
            kind,
            best[0],
            float(starts_s[best[1]]),
            reason,
            bound_by,
            self._second(job, open_to_it, starts_s),
        )

    def _at_home(self, job: Job, spec: JobSpec, kind: Kind, avoided: int | None) -> Choice:
        """No prices: the home site at once, else the first site with room, else wherever it waits least."""
        candidates = kind.candidates.copy()
        if avoided is not None:
            candidates[avoided] = False
        room = Room(self._ledger, kind.demand, spec.duration_estimate_s, self._now_s)
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
        return self._choice(job, spec, kind, site, self._now_s, PlacementReason.NO_FORECAST, bound_by, None)

    def _choice(
        self,
        job: Job,
        spec: JobSpec,
        kind: Kind,
        site: int,
        start_s: float,
        reason: PlacementReason,
        bound_by: str,
        alternative: Alternative | None,
    ) -> Choice:
        prices, duration_s = self._prices, spec.duration_estimate_s
        assert prices is not None
        power_mw = float(kind.power_mw[site])
        price, carbon = prices.integrals(site, start_s, duration_s) if prices.known[site] else (0.0, 0.0)
        carbon_kg = power_mw * carbon
        cost = CostBreakdown(
            energy_eur=power_mw * price,
            carbon_eur=carbon_kg * self._policy.carbon_eur_per_t / 1000.0,
            movement_eur=float(kind.movement_eur[site]),
            delay_eur=self._delay_eur(job, start_s),
            energy_kwh=power_mw * 1000.0 * duration_s / SLOT_S,
            carbon_kg=carbon_kg,
        )
        again = job.revision > 0 and reason is not PlacementReason.NO_FORECAST
        return Choice(
            site=self._sites.all[site].name,
            start_at=datetime.fromtimestamp(start_s, UTC),
            reason=PlacementReason.RETRY if again else reason,
            cost=cost,
            alternative=alternative,
            bound_by=bound_by,
        )

    def _second(self, job: Job, open_to_it: Floats, starts_s: Floats) -> Alternative | None:
        """The best pair that was not taken; the chosen one is already struck out."""
        site, start = _least(open_to_it)
        cost = float(open_to_it[site, start])
        if cost == inf:
            return None
        waited = self._delay_eur(job, self._now_s)
        return Alternative(
            site=self._sites.all[site].name,
            start_at=datetime.fromtimestamp(float(starts_s[start]), UTC),
            total_eur=cost + waited,
        )

    def _delay_eur(self, job: Job, start_s: float) -> float:
        assert job.submitted_at is not None
        return max(0.0, start_s - job.submitted_at.timestamp()) / SLOT_S * self._policy.delay_eur_per_job_h

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


def _limit(job: Job, spec: JobSpec) -> Limit:
    assert job.submitted_at is not None
    if spec.deadline is not None:
        words = f"the deadline {_iso(spec.deadline.timestamp())}"
        return Limit(spec.deadline.timestamp() - spec.duration_estimate_s, words)
    if spec.max_delay_s is not None:
        return Limit(
            job.submitted_at.timestamp() + spec.max_delay_s, f"the maximum delay of {spec.max_delay_s / SLOT_S:.4g} h"
        )
    return Limit(inf, "")


def _too_late(spec: JobSpec, now_s: float) -> Refuse:
    assert spec.deadline is not None
    left_h = (spec.deadline.timestamp() - now_s) / SLOT_S
    away = f"{left_h:.3g} h away" if left_h > 0 else f"{-left_h:.3g} h ago"
    return Refuse(
        reason=FinishReason.DEADLINE_PASSED,
        message=f"needs {spec.duration_estimate_s / SLOT_S:.3g} h; the deadline {_iso(spec.deadline.timestamp())} is {away}",
    )


def _only(spec: JobSpec, name: str) -> str:
    if len(spec.allowed_sites) == 1:
        return f"allowed_sites: only {name}"
    if spec.max_latency is not None:
        return f"latency or size: only {name} is within {spec.max_latency.max_ms:g} ms of {spec.max_latency.to} and can hold it"
    return f"size: only {name} can hold it"


def _iso(moment_s: float) -> str:
    return datetime.fromtimestamp(moment_s, UTC).isoformat(timespec="minutes")
