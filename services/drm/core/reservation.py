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
    """The earliest reservation, or None if the head would not fit even if all that runs had ended."""
    ends = pool.occupancy.ends()
    demand = head.demand

    def free_by(time_s: float) -> Capacity:
        return pool.free.plus(*pool.occupancy.freed_by(time_s))

    if ends.size == 0 or not free_by(float(ends[-1])).fits(demand):
        return None
    # More free capacity never makes a gang of equal pods fit worse, so the first end at which it fits is found by halving.
    first = _first_true(ends.size - 1, lambda index: free_by(float(ends[index])).fits(demand))
    at_s = float(ends[first])
    after = free_by(at_s)
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
