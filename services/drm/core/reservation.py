"""What the first job that does not fit waits for: a reservation that others must not delay.

Backfill is EASY: one reservation, for the head of the queue (Lifka, "The ANL/IBM SP scheduling system", JSSPP 1995; Mu'alem
and Feitelson, "Utilization, predictability, workloads, and user runtime estimates in scheduling the IBM SP2 with
backfilling", IEEE TPDS 2001, section 3): its shadow time is the first estimated end of a running job at which it fits; what
is free beside it then are the extra resources. A later job goes ahead if it is to end by the shadow time, or fits
into what is both free now and extra. Here the resources are those of single nodes and devices instead of a count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from services.drm.core.capacity import Capacity
    from services.drm.core.pool import Pool
    from services.drm.core.queue import Waiting
    from services.drm.model import Demand, Spot


_SOON = 64


class Reservation:
    """Nodes and devices that ``head`` will have at ``at_s`` (Unix time; in the past where estimates were too short)."""

    def __init__(self, head: Waiting, at_s: float, after: Capacity, free: Capacity, version: int) -> None:
        """``after`` is what is free at that time once the head has started."""
        self.head, self.at_s, self.version = head, at_s, version
        self._after, self._free = after, free
        self.extra = free.limited_by(after)

    def took(self, demand: Demand, spots: Sequence[Spot], *, until_s: float) -> None:
        """Another job was admitted and is expected to run until ``until_s``."""
        if until_s > self.at_s:
            self._after.take(demand, spots)
        self.extra.limit(sorted({spot.node for spot in spots}), self._free, self._after)


def reserve(pool: Pool, head: Waiting) -> Reservation | None:
    """The earliest reservation, or None if the head would not fit even if all that runs had ended.

    The head does not fit now.
    """
    demand, at_s = head.demand, _first_fit_s(pool, head.demand)
    if at_s is None:
        return None
    after = pool.free.plus(*pool.occupancy.freed_by(at_s))
    after.take(demand, after.place(demand) or ())
    return Reservation(head, at_s, after, pool.free, pool.version)


def _first_true(last: int, holds: Callable[[int], bool]) -> int:
    """The first index from 0 to ``last`` at which a condition holds that stays true and is true at ``last``."""
    low, high = 0, last
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low


def _first_fit_s(pool: Pool, demand: Demand) -> float | None:
    """The first estimated end at which a demand fits that does not fit now; looked for among the soonest ends first."""
    occupancy = pool.occupancy

    def fits_by(time_s: float) -> bool:
        if demand.parallelism == 1 and len(demand.devices) <= 1:  # where nothing ends it fits no better than now
            return pool.free.fits_on(demand, *occupancy.freed_on(time_s))
        return pool.free.plus(*occupancy.freed_by(time_s)).fits(demand)

    for pods in (_SOON, _SOON**2, occupancy.pods):
        ends = occupancy.ends(pods)
        if ends.size and fits_by(float(ends[-1])):
            # More free capacity never makes a gang of equal pods fit worse: the first end is found by halving.
            return float(ends[_first_true(ends.size - 1, lambda index, ends=ends: fits_by(float(ends[index])))])
    return None
