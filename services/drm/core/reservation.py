"""What the first job that does not fit waits for: a reservation that others must not delay, and whom it may evict.

Backfill is EASY: one reservation, for the head of the queue (Lifka, "The ANL/IBM SP scheduling system", JSSPP 1995; Mu'alem
and Feitelson, "Utilization, predictability, workloads, and user runtime estimates in scheduling the IBM SP2 with
backfilling", IEEE TPDS 2001, section 3): its shadow time is the first estimated end of a running job at which it fits; what
is free beside it then are the extra resources. A later job goes ahead if it is to end by the shadow time, or fits
into what is both free now and extra. Here the resources are those of single nodes and devices instead of a count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.drm.model import IMMINENT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from services.drm.core.capacity import Capacity
    from services.drm.core.pool import Pool
    from services.drm.core.queue import Waiting
    from services.drm.model import Demand, Holding, Spot


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

    if ends.size == 0 or free_by(float(ends[-1])).place(demand) is None:
        return None
    # More free capacity never makes a gang of equal pods fit worse, so the first end at which it fits is found by halving.
    first = _first_true(ends.size - 1, lambda index: free_by(float(ends[index])).place(demand) is not None)
    at_s = float(ends[first])
    after = free_by(at_s)
    after.take(demand, after.place(demand) or ())
    return Reservation(head, at_s, after, pool.free, pool.version)


def choose_victims(pool: Pool, head: Waiting) -> list[Holding]:
    """Running preemptible jobs of lower priority, without which the head fits; empty if none help or none are needed.

    Minimal: none of them can be spared. Of two such sets the one whose highest priority is lowest, then the smaller one, then
    the one that loses less work. It is not always the least of all sets: that is a covering problem and NP-hard.
    """
    told_to_stop = pool.free.plus(*pool.occupancy.freed_by(IMMINENT))
    demand, priority = head.demand, -head.order[0]
    if told_to_stop.place(demand) is not None:
        return []
    candidates = [h for h in pool.holdings.values() if h.preemptible and h.priority < priority and h.end_s != IMMINENT]

    def fits_without(victims: Sequence[Holding]) -> bool:
        capacity = told_to_stop.plus(0 * pool.free.cpu, 0 * pool.free.memory, 0 * pool.free.devices)
        for victim in victims:
            capacity.give(victim.demand, victim.spots)
        return capacity.place(demand) is not None

    if not candidates or not fits_without(candidates):
        return []
    youngest_first = sorted(candidates, key=lambda h: (h.priority, -h.decided_at_s, h.job_id))
    largest_first = sorted(candidates, key=lambda h: (h.priority, *_negated_size(h), -h.decided_at_s, h.job_id))
    sets = [_irreducible(order, fits_without) for order in (youngest_first, largest_first)]
    return min(sets, key=lambda s: (max(h.priority for h in s), len(s), -sum(h.decided_at_s for h in s)))


def _negated_size(holding: Holding) -> tuple[int, int]:
    return -holding.demand.total_gpu_milli, -holding.demand.total_cpu_milli


def _irreducible(order: Sequence[Holding], fits_without: Callable[[Sequence[Holding]], bool]) -> list[Holding]:
    """The shortest beginning of ``order`` that helps, less whoever can be spared, from its end."""
    victims = list(order[: _first_true(len(order) - 1, lambda index: fits_without(order[: index + 1])) + 1])
    for victim in reversed(victims.copy()):
        rest = [other for other in victims if other is not victim]
        if rest and fits_without(rest):
            victims = rest
    return victims


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
