"""One pass over a site's queue: who starts now, who goes ahead, who is evicted, and why the others wait.

The simple algorithm:

1. Take the waiting jobs by priority (highest first), then submission, then id.
2. A job whose tenant would exceed its quota waits; it holds up nobody.
3. Until a job does not fit: a job that fits is admitted.
4. The first job that does not fit is the head. If evicting preemptible jobs of lower priority makes it fit, the fewest
   and lowest are told to stop. It gets the earliest reservation. One that no ready node could hold gets none.
5. After the head: a job is admitted if it does not delay the reservation.
6. If anyone went ahead, look once more: the head's reservation may have moved to where others fit.

The pass is equal to it but looks at lanes (``queue.py``) and remembers what did not fit until capacity grows.
"""

from __future__ import annotations

import heapq
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

import numpy as np

from services.drm.core.capacity import Capacity
from services.drm.core.reservation import Reservation, choose_victims, reserve
from solyx.events import AllocationReason, DeferralReason

if TYPE_CHECKING:
    from services.drm.core.pool import Pool
    from services.drm.core.queue import Lane, Order, Queue, Waiting
    from services.drm.model import Demand, Holding, Spot


class Outcome(Protocol):
    """Where the decisions go. Each is part of the state when the call returns."""

    def allocate(self, waiting: Waiting, spots: tuple[Spot, ...], reason: AllocationReason) -> None:
        """It starts now."""
        ...

    def preempt(self, holding: Holding) -> None:
        """It is told to stop."""
        ...

    def defer(self, waiting: Waiting, reason: DeferralReason, detail: str) -> None:
        """It waits."""
        ...


class Admission:
    """The passes over one site, and what they remember from one to the next."""

    def __init__(self, pool: Pool, queue: Queue, outcome: Outcome) -> None:
        self._pool, self._queue, self._outcome = pool, queue, outcome
        self._reservation: Reservation | None = None
        self._blocked: list[tuple[Lane, DeferralReason]] = []
        self._ahead = False  # whether this pass let anybody go ahead of the head

    def admit(self, now_s: float) -> None:
        """Admit until nothing more can be, then say why the others wait."""
        if self._pool.inventory is None:
            self._blocked = [(lane, DeferralReason.SITE_UNKNOWN) for lane in self._queue.lanes()]
        else:
            self._ahead = True
            while self._ahead:
                self._pass(now_s)
        for lane, reason in self._blocked:
            untold = lane.untold(reason)
            if untold:
                detail = self._detail(lane, reason)
                for waiting in untold:
                    self._outcome.defer(waiting, reason, detail)
        self._blocked = []

    def _pass(self, now_s: float) -> None:
        self._ahead = False
        self._blocked = []
        head: Reservation | None = None
        turns: list[tuple[Order, Lane, int]] = []
        for lane in self._queue.lanes():
            _queue_turn(turns, lane, lane.first())
        while turns:
            _, lane, position = heapq.heappop(turns)
            waiting = lane.entries[position][1]
            if self._pool.over_quota(lane.tenant, lane.demand) is not None:
                self._blocked.append((lane, DeferralReason.QUOTA))
            elif head is not None:
                _queue_turn(turns, lane, self._go_ahead(waiting, lane, position, head, now_s))
            elif (spots := self._place(lane)) is not None:
                self._outcome.allocate(waiting, spots, AllocationReason.FITS)
                _queue_turn(turns, lane, lane.first(position))
            else:
                head = self._become_head(waiting, lane)
        self._reservation = head

    def _place(self, lane: Lane) -> tuple[Spot, ...] | None:
        """Places in what is free now."""
        if lane.fit.unfit_since == self._pool.growth:
            return None
        spots = self._pool.free.place(lane.demand)
        if spots is None:
            lane.fit.unfit_since = self._pool.growth
        return spots

    def _go_ahead(self, waiting: Waiting, lane: Lane, position: int, head: Reservation, now_s: float) -> int | None:
        """Admit a job beside the reservation if it does not delay it; returns the position of the lane's next to look at."""
        window_s = head.at_s - now_s
        if waiting.duration_s <= window_s:
            spots = self._place(lane)
        elif lane.fit.unfit_since == self._pool.growth:
            spots = None
        else:
            spots = head.extra.place(lane.demand) if lane.fit.unfit_beside is not head else None
            if spots is None:
                lane.fit.unfit_beside = head
                shorter = lane.first_within(window_s, position + 1)
                if shorter is not None:
                    return shorter
        if spots is None:
            self._blocked.append((lane, DeferralReason.NO_CAPACITY))
            return None
        self._outcome.allocate(waiting, spots, AllocationReason.BACKFILL)
        head.took(lane.demand, spots, until_s=now_s + waiting.duration_s)
        self._ahead = True
        return lane.first(position)

    def _become_head(self, waiting: Waiting, lane: Lane) -> Reservation | None:
        """Evict for it and reserve for it; None when there is nothing to wait for but other nodes."""
        pool = self._pool
        if lane.fit.hopeless_since != pool.growth and self._empty(pool.free.open).place(lane.demand) is None:
            lane.fit.hopeless_since = pool.growth
        if lane.fit.hopeless_since == pool.growth:
            reason = DeferralReason.NO_CAPACITY if self._node_fits(lane.demand) else DeferralReason.NO_NODE_FITS
            self._blocked.append((lane, reason))
            return None
        self._blocked.append((lane, DeferralReason.NO_CAPACITY))
        known = self._reservation
        if known is not None and known.head is waiting and known.version == pool.version:
            return known
        for victim in choose_victims(pool, waiting):
            self._outcome.preempt(victim)
        return reserve(pool, waiting)

    def _empty(self, open_nodes: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Capacity:
        assert self._pool.inventory is not None
        return Capacity.empty(self._pool.inventory, open_nodes)

    def _node_fits(self, demand: Demand) -> bool:
        """Whether any node, ready or not, holds one pod when it is empty."""
        return self._empty(np.ones_like(self._pool.free.open)).count(demand) > 0

    def _detail(self, lane: Lane, reason: DeferralReason) -> str:
        """Which figure must change, in words."""
        pool, demand = self._pool, lane.demand
        match reason:
            case DeferralReason.SITE_UNKNOWN:
                return "no inventory of the site has been published yet"
            case DeferralReason.QUOTA:
                return pool.over_quota(lane.tenant, demand) or ""
            case DeferralReason.NO_NODE_FITS:
                return f"asks for {demand.words()}: no node of the site holds one such pod, even when it is empty"
            case DeferralReason.NO_CAPACITY:
                room = f"asks for {demand.words()}: {pool.free.count(demand)} fit now"
        if lane.fit.hopeless_since == pool.growth:
            return f"{room}, {self._empty(pool.free.open).count(demand)} if nothing else ran on the ready nodes"
        head = self._reservation
        if head is None or head.head.lane is lane:
            return room
        at = "soon" if head.at_s == float("-inf") else f"at {datetime.fromtimestamp(head.at_s, UTC).isoformat()}"
        return f"{room}, but would delay {head.head.placed.job_id}, which is expected to start {at}"


def _queue_turn(turns: list[tuple[Order, Lane, int]], lane: Lane, position: int | None) -> None:
    if position is not None:
        heapq.heappush(turns, (lane.entries[position][0], lane, position))
