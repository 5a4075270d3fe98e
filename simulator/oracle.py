"""A lower bound on what any policy can reach with perfect knowledge of prices, carbon, jobs and their true lengths.

The problem: every job does its work at sites and in hours of its choice, waits no longer than its owner allows, pays the movement
of its data when it leaves a site and the overhead of every suspension, and all jobs together stay within each site's cores.

The bound is the Lagrangian one (Geoffrion, "Lagrangean relaxation for integer programming", 1974, §3): with a price λ ≥ 0 (EUR per
core-hour) on the cores of each site and hour, jobs no longer compete, and

    Σ over jobs of the cheapest plan at rates + λ   −   Σ over sites and hours of λ × cores

is at most the cost of every feasible schedule, whatever λ is. How good λ is decides how good the bound is, never whether it holds.
First prices come from a linear program over classes of jobs (``simulator/first_prices.py``); from there they climb, jobs taken one
by one (``simulator/ascent.py``). The better of both, and of none at all, counts.
The cheapest plan of one job is bounded from below by ``simulator/overheads.py``, for any number of suspensions and movements. So the
oracle pays for movement and suspension what policies pay. While prices climb, a simpler sum stands for it, in which a suspension costs
what its overhead costs at the hour in which the job goes on; it has plans, and so a use of cores. No bound is made of it.

What it relaxes: packing of pods to nodes (only a site's cores count), devices, and the duality gap. So no policy can reach it; the gap
is an upper bound on the gap. The one schedule that it leaves out suspends often, at negative rates, to be paid for the work that it
repeats (``simulator/overheads.py``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from simulator.ascent import ascend
from simulator.first_prices import first_prices
from simulator.overheads import least_with_overheads, least_without_pause
from simulator.plans import columns, windows
from simulator.stretches import Costs, cheapest
from solyx.energy import HOUR_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from simulator.plans import Jobs, Windows
    from simulator.workload import Workload
    from simulator.world import World

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

_ENTRIES = 250_000  # job × cell × hour of work: what is worked on at a time stays below 100 MB
_ROUNDS = 30
_CLOSED_EUR = 1e9  # for an hour of work where a job may not run: finite, since no time at all of it has to cost nothing


@dataclass(frozen=True, kw_only=True)
class Bound:
    """The lower bounds, EUR."""

    objective_eur: float  # the best of the next three
    alone_eur: float  # every job by itself, λ = 0
    first_eur: float  # with the prices of the linear program
    shared_eur: float  # with those that climbed from there
    contiguous_eur: float  # every job by itself, without suspension


def lower_bound(
    workload: Workload,
    world: World,
    *,
    carbon_eur_per_t: float,
    suspend_overhead_s: float,
    progress: Callable[[float], None] = lambda _share: None,
) -> Bound:
    """See the module."""
    rate = world.weighted(carbon_eur_per_t) / 1000.0
    return bound(columns(workload, world), rate, world.cores, suspend_overhead_s / HOUR_S, progress)


def bound(
    jobs: Jobs,
    rate: Floats,
    cores: Floats,
    overhead_h: float,
    progress: Callable[[float], None] = lambda _share: None,
) -> Bound:
    """The same of columns; ``rate`` in EUR/kWh over (site, hour), ``cores`` by site."""
    rate = _until(int(jobs.end_h.max(initial=0.0)) + 2, rate)
    dual = _Dual(jobs, rate, cores, overhead_h)
    alone, contiguous = dual.bound(np.zeros_like(rate)), dual.without_pause()
    progress(0.1)
    prices = first_prices(jobs, rate, cores, lambda share: progress(0.1 + 0.1 * share))
    first = dual.bound(prices)
    climbed = ascend(dual.climb, prices, rounds=_ROUNDS, progress=lambda share: progress(0.2 + 0.75 * share))
    shared = max(first, dual.bound(climbed))
    return Bound(
        objective_eur=max(alone, shared),
        alone_eur=alone,
        first_eur=first,
        shared_eur=shared,
        contiguous_eur=contiguous,
    )


def _until(hours: int, rate: Floats) -> Floats:
    """Rates for so many hours at least: after the last known one, it is held."""
    return np.pad(rate, ((0, 0), (0, max(0, hours - rate.shape[1]))), mode="edge")


@dataclass(frozen=True, kw_only=True, eq=False)
class _Plans:
    """One plan for each of some jobs, and the cores that they use, as a list."""

    eur: Floats  # by job
    job: Ints
    at: Ints  # site × hours + hour
    core_h: Floats


class _Dual:
    """The sum of the jobs' cheapest plans at prices on cores, over (site, hour)."""

    def __init__(self, jobs: Jobs, rate: Floats, cores: Floats, overhead_h: float) -> None:
        self._windows = tuple(windows(jobs, _ENTRIES))
        self._rate, self._cores, self._overhead_h = rate, cores[:, None], overhead_h
        self._free: tuple[_Plans, ...] = ()

    def bound(self, prices: Floats) -> float:
        """A lower bound on every feasible schedule."""
        plans = sum(
            float(least_with_overheads(some, self._work_eur(some, prices), self._overhead_h).sum())
            for some in self._windows
        )
        return plans - self._paid_for_all(prices)

    def without_pause(self) -> float:
        """The cheapest single runs of all jobs, each by itself."""
        free = np.zeros_like(self._rate)
        return sum(float(least_without_pause(some, self._work_eur(some, free)).sum()) for some in self._windows)

    def climb(self, prices: Floats) -> tuple[float, Floats]:
        """What stands for the bound while prices climb, and its supergradient: cores used less cores there are.

        Prices only add to rates: a job whose plan without prices runs where there is none keeps it.
        """
        if not self._free:
            self._free = tuple(self._plans(some, np.zeros_like(prices)) for some in self._windows)
        value, used = -self._paid_for_all(prices), np.zeros(prices.size)
        for some, free in zip(self._windows, self._free, strict=True):
            touched = np.zeros(len(free.eur), np.bool_)
            touched[free.job[prices.flat[free.at] > 0.0]] = True
            found = self._plans(some.of(np.flatnonzero(touched)), prices)
            kept = ~touched[free.job]
            value += float(free.eur[~touched].sum() + found.eur.sum())
            used += np.bincount(free.at[kept], free.core_h[kept], prices.size)
            used += np.bincount(found.at, found.core_h, prices.size)
        return value, used.reshape(prices.shape) - self._cores

    def _plans(self, some: Windows, prices: Floats) -> _Plans:
        if not len(some.jobs.cores):
            return _Plans(eur=np.zeros(0), job=np.zeros(0, np.int64), at=np.zeros(0, np.int64), core_h=np.zeros(0))
        work = self._work_eur(some, prices)
        again = np.where(some.jobs.suspendable, np.maximum(work, 0.0) * self._overhead_h, np.inf)
        costs = Costs(work_eur=work, again_eur=again, leaving_eur=some.jobs.leaving_eur)
        eur, course = cheapest(some, costs, some.jobs.length_h)
        cell, site, job = np.nonzero(course.run_h)
        busy_h = course.run_h[cell, site, job] + course.again[cell, site, job] * self._overhead_h
        at = site * prices.shape[1] + some.hour[cell, job]
        return _Plans(eur=eur, job=job, at=at, core_h=busy_h * some.jobs.cores[job])

    def _work_eur(self, some: Windows, prices: Floats) -> Floats:
        """What an hour of work costs, over (cell, site, job)."""
        at = (slice(None), some.hour)
        eur = self._rate[at] * some.jobs.power_kw[:, None] + prices[at] * some.jobs.cores
        eur += np.where(some.jobs.closed, _CLOSED_EUR, 0.0)[:, None]
        return np.ascontiguousarray(eur.swapaxes(0, 1))

    def _paid_for_all(self, prices: Floats) -> float:
        return float((prices * self._cores).sum())
