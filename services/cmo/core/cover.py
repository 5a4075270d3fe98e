"""The cheapest set that together gives what is needed: a covering problem.

The simple algorithm: of all sets whose members give enough of everything, the one whose costs add up to the least. Equal to it where
there are few: branch and bound (Land and Doig, "An automatic method of solving discrete programming problems", Econometrica 1960), which
leaves out every set that cannot beat the best so far, because what is still needed of one thing alone would cost too much even if
parts of members could be had. The problem is NP-hard, so after ``NODES`` looks the best so far is taken; it begins with that of a greedy walk
from which whoever can be spared is spared, the dearest first.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    Ints: TypeAlias = NDArray[np.int64]
    Floats: TypeAlias = NDArray[np.float64]

NODES = 512
"""Sets that are looked at; enough for all sets of eight."""
_LEAST_GAIN = 1e-12  # below this a difference of costs is rounding


def cheapest_cover(needs: Ints, offers: Ints, costs: Floats) -> tuple[int, ...] | None:
    """Whose offers, over (member, thing), add up to the needs at the least cost; None: not even all of them do.

    ``costs`` are positive, so nobody is in it who can be spared.
    """
    missing = needs > 0
    needs, offers = needs[missing], np.minimum(offers[:, missing], needs[missing])
    if not needs.size:
        return ()
    if not (offers.sum(axis=0) >= needs).all():
        return None
    with np.errstate(divide="ignore"):
        ratio = costs / (offers / needs).sum(axis=1)
    order = np.flatnonzero(offers.any(axis=1))
    order = order[np.argsort(ratio[order], kind="stable")]
    by_cost = order[np.argsort(costs[order], kind="stable")]
    walks = [_walk(needs, offers, costs, walk) for walk in (order, by_cost)]
    least, best = min((float(costs[walk].sum()), walk) for walk in walks)
    better = _search(needs, offers[order], costs[order], least)
    taken = best if better is None else [int(order[index]) for index in better]
    # A search that was broken off may have found a set that costs less and of which somebody can still be spared.
    return tuple(sorted(_spare(needs, offers, costs, taken)))


def _walk(needs: Ints, offers: Ints, costs: Floats, order: Ints) -> list[int]:
    """The shortest beginning that is enough, less whoever can be spared, the dearest first."""
    given = np.cumsum(offers[order], axis=0)
    enough = int((given >= needs).all(axis=1).argmax())
    return _spare(needs, offers, costs, [int(index) for index in order[: enough + 1]])


def _spare(needs: Ints, offers: Ints, costs: Floats, taken: list[int]) -> list[int]:
    """The same without those who can be spared, the dearest first."""
    total, left = offers[taken].sum(axis=0), list(taken)
    for index in sorted(taken, key=lambda one: -float(costs[one])):
        if (total - offers[index] >= needs).all():
            total = total - offers[index]
            left.remove(index)
    return left


def _search(needs: Ints, offers: Ints, costs: Floats, best: float) -> Iterable[int] | None:
    """A set that costs less than ``best``; members are decided upon in the order given."""
    count = len(costs)
    rest = np.zeros((count + 1, needs.size), np.int64)  # what those from here on offer together
    rest[:count] = np.cumsum(offers[::-1], axis=0)[::-1]
    cheapest = np.full((count + 1, needs.size), inf)  # what a unit costs at least, from here on
    with np.errstate(divide="ignore"):
        cheapest[:count] = np.minimum.accumulate((costs[:, None] / offers)[::-1], axis=0)[::-1]
    found: Iterable[int] | None = None
    open_sets: list[tuple[int, float, Ints, tuple[int, ...]]] = [(0, 0.0, needs, ())]
    for _ in range(NODES):
        if not open_sets:
            break
        index, cost, left, taken = open_sets.pop()
        short = left > 0
        if not short.any():
            found, best = taken, cost
            continue
        if (left > rest[index]).any():
            continue
        if cost + float((left[short] * cheapest[index][short]).max()) >= best - _LEAST_GAIN:
            continue
        open_sets.append((index + 1, cost, left, taken))
        with_it = cost + float(costs[index])
        if with_it < best - _LEAST_GAIN:
            open_sets.append((index + 1, with_it, left - offers[index], (*taken, index)))
    return found
