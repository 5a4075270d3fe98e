"""The least that a job with pauses costs when it pays for every suspension and every movement, by Lagrangian relaxation of its work.

One job, the rates known: choose for each hour whether it runs and where. Going on after a pause, or at another site, repeats the work
that a suspension loses; data moves, and is paid for, each time it leaves a site. The work that must be done is the one constraint
that couples the hours. With a price μ on it (Geoffrion 1974, §3; Everett, "Generalized Lagrange multiplier method", 1963),

    min over plans of  cost + μ × (work lost − time run)   +   μ × length

is at most what every plan costs that does the job's work, whatever μ ≥ 0 is. The minimum is found by dynamic programming over hours
and (where the data lies, running or not). In an hour the cost is linear in the time run, so whole hours are enough. The best of a
grid of μ, refined twice, is taken: the dual is concave in μ.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

_GRID = 7
_ROUNDS = 3


def least_paused(
    costs: list[Floats], room: Floats, length_h: Floats, home: Ints, leaving_eur: Floats, overhead_h: float
) -> Floats:
    """A lower bound for each job on its plans, with and without pauses.

    ``costs``: for each site, EUR for an hour of work over (job, hour). ``room``: hours that the job may run in each hour.
    ``leaving_eur``: EUR when the job's data leaves a site, over (site, job).
    """
    stacked = np.stack(costs)  # site, job, hour
    # μ < 0 would reward work that is lost, and plans that pause for a moment only: not whole hours.
    low, high = (np.maximum(edge, 0.0) for edge in (stacked.min(axis=(0, 2)), stacked.max(axis=(0, 2))))
    best = np.full(len(length_h), -np.inf)
    share = np.linspace(0.0, 1.0, _GRID)
    for _ in range(_ROUNDS):
        prices = low + (high - low) * share[:, None]  # μ over (grid, job)
        dual = _cheapest(stacked, room, prices, home, leaving_eur, overhead_h) + prices * length_h
        at = dual.argmax(axis=0)
        jobs = np.arange(len(at))
        best = np.maximum(best, dual[at, jobs])
        low, high = prices[np.maximum(at - 1, 0), jobs], prices[np.minimum(at + 1, _GRID - 1), jobs]
    return best


def _cheapest(
    costs: Floats, room: Floats, prices: Floats, home: Ints, leaving_eur: Floats, overhead_h: float
) -> Floats:
    """The least of cost + μ × (work lost − time run), over (grid, job)."""
    sites, jobs, hours = costs.shape
    again = prices * overhead_h
    away = np.where(np.arange(sites)[:, None] == home, 0.0, leaving_eur[home, np.arange(jobs)])[:, None, :]
    running = np.full((sites, *prices.shape), np.inf)
    paused = running.copy()
    for hour in range(hours):
        before = np.minimum(running, paused)
        moved = (before + leaving_eur[:, None, :]).min(axis=0)
        enter = np.minimum(np.minimum(paused, moved) + again, away)
        work = (costs[:, None, :, hour] - prices) * room[:, hour]
        running = np.minimum(running, enter) + work
        paused = before
    return np.minimum(running, paused).min(axis=0)
