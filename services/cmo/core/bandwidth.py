"""What is promised of a link over time, and the movement that is over first on what links have free.

Rates are whole bit/s: their sums are exact, so promises may come and go in any order.
"""

from __future__ import annotations

from math import ceil, inf
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]
    Ints: TypeAlias = NDArray[np.int64]

ALL_BPS = 1 << 50  # more than any link has: whoever is promised this has it alone


class Promised:
    """A sum of rates, each from a beginning to an end, as steps: from ``times[k]`` on it is ``bps[k]``."""

    def __init__(self) -> None:
        self._times: Floats = np.array([-inf])
        self._bps: Ints = np.zeros(1, np.int64)

    def add(self, begin_s: float, until_s: float, bps: int) -> None:
        """One more; a negative rate takes one back. What lies before the last look is left out."""
        if until_s > self._times[0]:
            begin, until = self._cut(max(begin_s, float(self._times[0]))), self._cut(until_s)
            self._bps[begin:until] += bps

    def look(self, now_s: float) -> None:
        """What is over is forgotten."""
        over = int(np.searchsorted(self._times, now_s, side="right")) - 1
        if over > 0:
            self._times, self._bps = self._times[over:].copy(), self._bps[over:].copy()

    @property
    def turns_s(self) -> Floats:
        """When it changes, after the last look."""
        return self._times[1:]

    def at(self, times_s: Floats) -> Ints:
        """The sum at these times."""
        return self._bps[np.searchsorted(self._times, times_s, side="right") - 1]

    def _cut(self, time_s: float) -> int:
        """The place of the step that begins then, which is made if there is none."""
        place = int(np.searchsorted(self._times, time_s))
        if place == len(self._times) or self._times[place] != time_s:
            self._times = np.insert(self._times, place, time_s)
            self._bps = np.insert(self._bps, place, self._bps[place - 1])
        return place


def whole_bps(bits: float, begin_s: float, until_s: float) -> int:
    """The rate of a movement."""
    return min(ceil(bits / (until_s - begin_s)), ALL_BPS) if until_s > begin_s else 0


def steps(links: Sequence[tuple[int, Promised]], now_s: float) -> tuple[Floats, Floats]:
    """Times from now on, and the bit/s that all of these links, each of so many, have free from then on."""
    turns = [np.array([now_s])]
    for _, promised in links:
        promised.look(now_s)
        turns.append(promised.turns_s)
    times: Floats = np.unique(np.concatenate(turns))
    free: Floats = np.full(len(times), inf)
    for bps, promised in links:
        np.minimum(free, bps - promised.at(times), out=free)
    return times, free


def first_over(times: Floats, free: Floats, bits: float) -> tuple[float, float]:
    """Beginning and end of the movement that is over first: at one rate, which is free from its beginning to its end.

    The simple algorithm: for each beginning, widen the window until the least that is free in it moves all the bits within it. Here
    only those are looked at that, at what is free at their beginning, would be over before one that begins when all else is over.
    """
    best = float(times[-1]), float(times[-1] + bits / free[-1])
    could = np.full(len(times), inf)
    np.divide(bits, free, out=could, where=free > 0.0)
    could += times
    for begin in np.flatnonzero(could < best[1]).tolist():
        begin_s, rate_bps = float(times[begin]), inf
        for step in range(begin, len(times)):
            rate_bps = min(rate_bps, float(free[step]))
            over_s = begin_s + bits / rate_bps if rate_bps > 0.0 else inf
            if over_s >= best[1]:
                break
            if step + 1 == len(times) or over_s <= times[step + 1]:
                best = begin_s, over_s
                break
    return best
