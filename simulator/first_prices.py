"""First prices on the sites' cores: the duals of a linear program over classes of jobs, a week of arrivals at a time (HiGHS).

Classes: home and the sites that may take them, six hours of arrival, length within a factor of two. Their work is shared out over
site × hour. How coarse they are decides how good the prices are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import csr_matrix

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from simulator.plans import Jobs

    Floats = NDArray[np.float64]

_BLOCK_H, _CLASS_H = 168, 6
_LENGTHS_H = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0])


def first_prices(jobs: Jobs, rate: Floats, cores: Floats, progress: Callable[[float], None]) -> Floats:
    """λ over (site, hour): the capacity duals of one program for each week of arrivals; where weeks overlap, the larger."""
    prices = np.zeros_like(rate)
    last = float(jobs.arrival_h.max()) if len(jobs.arrival_h) else 0.0
    block = 0.0
    while block <= last:
        which = np.flatnonzero((jobs.arrival_h >= block) & (jobs.arrival_h < block + _BLOCK_H))
        if len(which):
            _solve_week(jobs.of(which), rate, cores, prices)
        block += _BLOCK_H
        progress(min(1.0, block / (last + 1.0)))
    return prices


def _solve_week(jobs: Jobs, rate: Floats, cores: Floats, prices: Floats) -> None:
    sites, hours = rate.shape
    length_class = np.searchsorted(_LENGTHS_H, jobs.length_h)
    slot = (jobs.arrival_h // _CLASS_H).astype(np.int64)
    _, which = np.unique(np.stack([jobs.home, *jobs.closed, slot, length_class]), axis=1, return_inverse=True)
    which = which.ravel()
    count = int(which.max()) + 1
    work = np.bincount(which, jobs.cores * jobs.length_h, count)
    width = np.bincount(which, jobs.cores, count)
    energy = np.stack([np.bincount(which, row * jobs.length_h, count) for row in jobs.power_kw]) / work
    movement = np.bincount(which, jobs.movement_eur, count) / work
    home, closed = np.zeros(count, np.int64), np.zeros((sites, count), np.bool_)
    home[which], closed[:, which] = jobs.home, jobs.closed
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
    open_to = ~closed[site, cls]
    cls, hour, site = cls[open_to], hour[open_to], site[open_to]
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
