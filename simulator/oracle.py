"""A lower bound on what any policy can reach with perfect knowledge of prices, carbon, jobs and their true lengths.

The problem: every job does its work at sites and in hours of its choice, waits no longer than its owner allows, pays the movement
of its data when it leaves home and the overhead of every suspension, and all jobs together stay within each site's cores.

The bound is the Lagrangian one (Geoffrion, "Lagrangean relaxation for integer programming", 1974, §3): with a price λ ≥ 0 (EUR per
core-hour) on the cores of each site and hour, jobs no longer compete, and

    Σ over jobs of the cheapest plan at rates + λ   −   Σ over sites and hours of λ × cores

is at most the cost of every feasible schedule, whatever λ is. λ are the duals of the capacity rows of a linear program (HiGHS) over
classes of jobs × site × hour; how coarse its classes are decides how good the bound is, never whether it holds.
The cheapest plan of one job is either one run without a pause, at the best site and start, which is found exactly; or it pauses or
moves, and then costs at least the larger of two bounds: the cheapest pieces of hours with one overhead (and one movement if away from
home), and a Lagrangian bound that pays the overhead of every suspension and the movement of every change of site
(``simulator/overheads.py``). So the oracle pays for movement and suspension what policies pay.

What it relaxes: packing of pods to nodes (only a site's cores count), devices, and the duality gaps of both relaxations. So no policy
can reach it; the gap is an upper bound on the gap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import csr_matrix

from simulator.overheads import least_paused
from solyx.energy import HOUR_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from simulator.workload import Workload
    from simulator.world import World

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

_ENTRIES = 1_000_000  # of the largest array: job × hour
_UNBOUNDED_WAIT_S = 168 * HOUR_S  # where an owner sets no limit; further ahead nothing is known anyway
_BLOCK_H, _CLASS_H = 168, 6
_LENGTHS_H = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0])


@dataclass(frozen=True, kw_only=True)
class Bound:
    """The lower bounds, EUR."""

    objective_eur: float  # the better of the next two
    alone_eur: float  # every job by itself, λ = 0
    shared_eur: float  # with the prices of the linear program
    contiguous_eur: float  # every job by itself, without suspension


@dataclass(frozen=True, kw_only=True, eq=False)
class _Facts:
    """Jobs as columns, in order of arrival."""

    arrival_h: Floats  # hours from the world's first
    length_h: Floats
    wait_h: Floats
    cores: Floats
    power_kw: Floats  # over (site, job)
    movement_eur: Floats  # when its data leaves home
    leaving_eur: Floats  # when its data leaves a site, over (site, job)
    home: Ints
    suspendable: NDArray[np.bool_]

    def of(self, which: NDArray[np.int64]) -> _Facts:
        return _Facts(
            arrival_h=self.arrival_h[which],
            length_h=self.length_h[which],
            wait_h=self.wait_h[which],
            cores=self.cores[which],
            power_kw=self.power_kw[:, which],
            movement_eur=self.movement_eur[which],
            leaving_eur=self.leaving_eur[:, which],
            home=self.home[which],
            suspendable=self.suspendable[which],
        )


def lower_bound(
    workload: Workload,
    world: World,
    *,
    carbon_eur_per_t: float,
    suspend_overhead_s: float,
    progress: Callable[[float], None] = lambda _share: None,
) -> Bound:
    """See the module."""
    facts = _facts(workload, world)
    rate = world.weighted(carbon_eur_per_t) / 1000.0  # EUR/kWh
    free = np.zeros_like(rate)
    overhead_h = suspend_overhead_s / HOUR_S
    alone, contiguous = _sum_of_plans(facts, rate, free, overhead_h)
    progress(0.1)
    prices = _capacity_prices(facts, rate, world.cores, progress)
    shared, _ = _sum_of_plans(facts, rate, prices, overhead_h)
    shared -= float((prices * world.cores[:, None]).sum())
    return Bound(objective_eur=max(alone, shared), alone_eur=alone, shared_eur=shared, contiguous_eur=contiguous)


def _facts(workload: Workload, world: World) -> _Facts:
    jobs = workload.jobs
    wait_s = np.array([min(job.limit_s, job.deadline_s - job.true_duration_s) - job.arrival_s for job in jobs])
    wait_s = np.where(np.isfinite(wait_s), np.maximum(wait_s, 0.0), _UNBOUNDED_WAIT_S)
    return _Facts(
        arrival_h=workload.arrival_s / HOUR_S - world.first_hour,
        length_h=workload.duration_s / HOUR_S,
        wait_h=wait_s / HOUR_S,
        cores=workload.cores,
        power_kw=world.power_kw(workload.cores, np.array([job.gpus for job in jobs])),
        movement_eur=np.array([job.data_gib * world.egress_eur_per_gib[job.home] for job in jobs]),
        leaving_eur=world.egress_eur_per_gib[:, None] * np.array([job.data_gib for job in jobs]),
        home=workload.home,
        suspendable=np.array([job.spec.suspendable for job in jobs], dtype=np.bool_),
    )


def _sum_of_plans(facts: _Facts, rate: Floats, prices: Floats, overhead_h: float) -> tuple[float, float]:
    """Σ of the cheapest plans, with and without suspension; in pieces of jobs that are about equally long."""
    order = np.argsort(facts.length_h + facts.wait_h, kind="stable")
    best = contiguous = 0.0
    first = 0
    while first < len(order):
        window = 0
        size = max(1, min(len(order) - first, 4096))
        while True:
            longest = order[first + size - 1]
            window = int(facts.length_h[longest] + facts.wait_h[longest]) + 3
            if size * window <= _ENTRIES or size == 1:
                break
            size = max(1, size // 2)
        piece = facts.of(order[first : first + size])
        run = _contiguous(piece, rate, prices)
        paused = _paused(piece, rate, prices, overhead_h, window)
        contiguous += float(run.sum())
        best += float(np.where(piece.suspendable, np.minimum(run, paused), run).sum())
        first += size
    return best, contiguous


def _contiguous(jobs: _Facts, rate: Floats, prices: Floats) -> Floats:
    """The cheapest single run of each job. Rates are constant over each hour, so the best start is the arrival, the last start
    allowed, or one at which the run begins or ends on a full hour.
    """
    hours = int(jobs.wait_h.max()) + 2
    turn = np.floor(jobs.arrival_h)[:, None] + np.arange(hours)
    ends = np.floor(jobs.arrival_h + jobs.length_h)[:, None] + np.arange(hours) - jobs.length_h[:, None]
    latest = jobs.arrival_h + jobs.wait_h
    starts: Floats = np.clip(np.concatenate((turn, ends), axis=1), jobs.arrival_h[:, None], latest[:, None]).astype(
        np.float64
    )
    best = np.full(len(jobs.cores), np.inf)
    for site in range(len(rate)):
        cost = _between(rate[site], starts, jobs.length_h[:, None]) * jobs.power_kw[site][:, None]
        if prices[site].any():
            cost += _between(prices[site], starts, jobs.length_h[:, None]) * jobs.cores[:, None]
        best = np.minimum(best, cost.min(axis=1) + np.where(jobs.home == site, 0.0, jobs.movement_eur))
    return best


def _paused(jobs: _Facts, rate: Floats, prices: Floats, overhead_h: float, window: int) -> Floats:
    """Bounds on plans with pauses, between arrival and the latest end."""
    first = np.floor(jobs.arrival_h).astype(np.int64)
    hour = first[:, None] + np.arange(window)
    opens = np.maximum(hour, jobs.arrival_h[:, None])
    closes = np.minimum(hour + 1, (jobs.arrival_h + jobs.wait_h + jobs.length_h)[:, None])
    room = np.maximum(closes - opens, 0.0)
    held = np.clip(hour, 0, rate.shape[1] - 1)
    costs = [
        rate[site][held] * jobs.power_kw[site][:, None] + prices[site][held] * jobs.cores[:, None]
        for site in range(len(rate))
    ]
    home = np.choose(jobs.home[:, None], costs)
    need = jobs.length_h + np.minimum(overhead_h, jobs.wait_h)
    at_home = _cheapest_pieces(home, room, need)
    anywhere = _cheapest_pieces(np.minimum.reduce(costs), room, need) + jobs.movement_eur
    paid = least_paused(costs, room, jobs.length_h, jobs.home, jobs.leaving_eur, overhead_h)
    return np.maximum(np.minimum(at_home, anywhere), paid)


def _cheapest_pieces(cost: Floats, room: Floats, need: Floats) -> Floats:
    """Fill ``need`` hours from the cheapest of the window's hours, of which each has ``room``."""
    order = np.argsort(cost, axis=1)
    cost, room = np.take_along_axis(cost, order, axis=1), np.take_along_axis(room, order, axis=1)
    before = np.cumsum(room, axis=1) - room
    return (np.clip(need[:, None] - before, 0.0, room) * cost).sum(axis=1)


def _between(values: Floats, start_h: Floats, length_h: Floats) -> Floats:
    prefix = np.concatenate(([0.0], np.cumsum(values)))

    def upto(at: Floats) -> Floats:
        index = np.clip(at.astype(np.int64), 0, len(values) - 1)
        return prefix[index] + (at - index) * values[index]

    return upto(start_h + length_h) - upto(start_h)


# The linear program, a week at a time -------------------------------------------------------------------------------------


def _capacity_prices(facts: _Facts, rate: Floats, cores: Floats, progress: Callable[[float], None]) -> Floats:
    """λ over (site, hour): the capacity duals of one program for each week of arrivals; where weeks overlap, the larger."""
    prices = np.zeros_like(rate)
    last = float(facts.arrival_h.max()) if len(facts.arrival_h) else 0.0
    block = 0.0
    while block <= last:
        which = np.flatnonzero((facts.arrival_h >= block) & (facts.arrival_h < block + _BLOCK_H))
        if len(which):
            _solve_week(facts.of(which), rate, cores, prices)
        block += _BLOCK_H
        progress(0.1 + 0.8 * min(1.0, block / (last + 1.0)))
    return prices


def _solve_week(jobs: _Facts, rate: Floats, cores: Floats, prices: Floats) -> None:
    """Classes: home, six hours of arrival, length within a factor of two. Their work is shared out over site × hour."""
    sites, hours = rate.shape
    length_class = np.searchsorted(_LENGTHS_H, jobs.length_h)
    slot = (jobs.arrival_h // _CLASS_H).astype(np.int64)
    _, which = np.unique(np.stack([jobs.home, slot, length_class]), axis=1, return_inverse=True)
    which = which.ravel()
    count = int(which.max()) + 1
    work = np.bincount(which, jobs.cores * jobs.length_h, count)
    width = np.bincount(which, jobs.cores, count)
    energy = np.stack([np.bincount(which, row * jobs.length_h, count) for row in jobs.power_kw]) / work
    movement = np.bincount(which, jobs.movement_eur, count) / work
    home = np.zeros(count, np.int64)
    home[which] = jobs.home
    opens = np.full(count, hours)
    np.minimum.at(opens, which, jobs.arrival_h.astype(np.int64))
    closes = np.zeros(count, np.int64)
    np.maximum.at(closes, which, np.ceil(jobs.arrival_h + jobs.wait_h + jobs.length_h).astype(np.int64))
    closes = np.minimum(np.maximum(closes, opens + 1), hours)
    opens = np.minimum(opens, hours - 1)

    spans = closes - opens
    of = np.repeat(np.arange(count), spans)
    at = np.concatenate([np.arange(a, b) for a, b in zip(opens.tolist(), closes.tolist(), strict=True)])
    cls, hour = np.tile(of, sites), np.tile(at, sites)
    site = np.repeat(np.arange(sites), len(of))
    cost = rate[site, hour] * energy[site, cls] + np.where(home[cls] == site, 0.0, movement[cls])
    base = int(opens.min())
    wide = int(closes.max()) - base
    columns = np.arange(len(cls))
    capacity = csr_matrix((np.ones(len(cls)), (site * wide + hour - base, columns)), shape=(sites * wide, len(cls)))
    demand = csr_matrix((np.ones(len(cls)), (cls, columns)), shape=(count, len(cls)))
    result = linprog(
        cost,
        A_ub=capacity,
        b_ub=np.repeat(cores, wide),
        A_eq=demand,
        b_eq=work,
        bounds=np.stack([np.zeros(len(cls)), width[cls]], axis=1),
        method="highs-ds",
    )
    if result.status != 0:
        return  # no prices for this week: the bound holds without them
    duals = np.maximum(-result.ineqlin.marginals.reshape(sites, wide), 0.0)
    span = slice(base, base + wide)
    prices[:, span] = np.maximum(prices[:, span], duals)
