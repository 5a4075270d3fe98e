"""One pass over a site's queue: who starts now, who goes ahead, who is evicted, and why the others wait.

The simple algorithm:

1. Of the waiting jobs take the next in turn: jobs within what is guaranteed to their tenant before those that borrow; then
   the highest priority; then the tenant with the least weighted dominant share (``accounts.py``); then submission, then
   id. Without cohorts only priority, submission and id count.
2. A job whose quota does not let it start waits for that, and may have others stopped (``waits.py``, ``victims.py``). One that takes
   several models that quotas tell from each other chooses one first (``models.py``).
3. Until a job does not fit: a job that fits is admitted.
4. The first job that does not fit is the head. If it fits once others go on in other places, they are moved (``consolidation.py``);
   else, if stopping preemptible workloads makes it fit, the fewest and cheapest are told to stop. It gets the earliest reservation.
   One that no ready node could hold gets none.
5. After the head: a job is admitted if it does not delay the reservation.
6. If anyone went ahead, look once more: the head's reservation may have moved to where others fit.

The pass is equal to it but looks at lanes (``queue.py``) and remembers what did not fit until capacity grows.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Protocol

import msgspec
import numpy as np

from services.drm.core.capacity import Capacity
from services.drm.core.consolidation import choose_moves
from services.drm.core.models import settle
from services.drm.core.queue import Turns
from services.drm.core.reservation import Reservation, reserve
from services.drm.core.victims import choose_victims
from services.drm.core.waits import QuotaWaits, quota_words
from solyx.events import AllocationReason, DeferralReason

if TYPE_CHECKING:
    from services.drm.core.pool import Pool
    from services.drm.core.queue import Lane, Queue, Waiting
    from services.drm.core.waits import Obstacle
    from services.drm.model import Demand, Holding, Spot


class Outcome(Protocol):
    """Where the decisions go. Each is part of the state when the call returns."""

    def allocate(self, waiting: Waiting, spots: tuple[Spot, ...], reason: AllocationReason) -> None:
        """It starts now."""
        ...

    def move(self, holding: Holding) -> None:
        """It is told to stop, so that it goes on elsewhere."""
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
        self._blocked: list[tuple[Lane, DeferralReason, Waiting | None]] = []  # and whom it would delay
        self._ahead = False  # whether this pass let anybody go ahead of the head

    def admit(self, now_s: float) -> None:
        """Admit until nothing more can be, then say why the others wait."""
        if self._pool.inventory is None:
            self._blocked = [(lane, DeferralReason.SITE_UNKNOWN, None) for lane in self._queue.lanes()]
        else:
            self._queue.know(self._pool.inventory)
            self._ahead = True
            while self._ahead:
                self._pass(now_s)
        for lane, reason, before in self._blocked:
            untold = lane.untold(reason)
            if untold:
                lane.take(untold[0])
                detail = self._detail(lane, untold[0], reason, before)
                for waiting in untold:
                    self._outcome.defer(waiting, reason, detail)
        self._blocked = []

    def _pass(self, now_s: float) -> None:
        self._ahead = False
        self._blocked = []
        head: Reservation | None = None
        lanes = self._queue.lanes()
        turns, quotas = Turns(self._pool.accounts), QuotaWaits(self._pool, lanes, now_s)
        for lane in lanes:
            turns.push(lane, lane.first())
        while (turn := turns.pop()) is not None:
            lane, position = turn
            waiting = lane.entries[position][1]
            beside = partial(self._fits, waiting, lane, head, now_s)
            if (obstacle := settle(waiting, lane, quotas, self._pool, beside)) is not None:
                turns.push(lane, self._wait_for_quota(waiting, lane, position, obstacle, quotas))
            elif head is not None:
                turns.push(lane, self._go_ahead(waiting, lane, position, head, quotas, now_s))
            elif (spots := self._place(lane)) is not None:
                ahead = quotas.goes_ahead(waiting)
                self._outcome.allocate(waiting, spots, AllocationReason.BACKFILL if ahead else AllocationReason.FITS)
                quotas.took(waiting, spots)
                turns.push(lane, lane.first(position))
            else:
                head = self._become_head(waiting, lane, now_s)
                turns.push(lane, lane.first_within(lane.further_s, position + 1) if lane.flexible else None)
        self._reservation = head

    def _wait_for_quota(
        self, waiting: Waiting, lane: Lane, position: int, obstacle: Obstacle, quotas: QuotaWaits
    ) -> int | None:
        """It waits for quota; returns the position of the lane's next to look at."""
        if obstacle.before is None:
            promised, victims = quotas.wait(waiting)
            for victim in victims:
                self._outcome.preempt(victim)
            further = lane.first(position + 1) if promised else None
        else:
            further = lane.first_within(obstacle.within_s, position + 1)
        if further is None and lane.flexible:
            further = lane.first_within(lane.further_s, position + 1)
        if further is None or obstacle.before is None:
            self._blocked.append((lane, DeferralReason.QUOTA, obstacle.before))
        return further

    def _place(self, lane: Lane) -> tuple[Spot, ...] | None:
        """Places in what is free now."""
        if lane.fit.unfit_since == self._pool.growth:
            return None
        spots = self._pool.free.place(lane.demand)
        if spots is None:
            lane.fit.unfit_since = self._pool.growth
        return spots

    def _beside(self, waiting: Waiting, lane: Lane, head: Reservation, now_s: float) -> tuple[Spot, ...] | None:
        """Places that do not delay the head."""
        if waiting.duration_s <= head.at_s - now_s:
            return self._place(lane)
        if lane.fit.unfit_since == self._pool.growth or lane.fit.unfit_beside is head:
            return None
        spots = head.extra.place(lane.demand)
        if spots is None:
            lane.fit.unfit_beside = head
        return spots

    def _fits(self, waiting: Waiting, lane: Lane, head: Reservation | None, now_s: float) -> bool:
        """Whether it may start now as far as capacity goes."""
        return (self._place(lane) if head is None else self._beside(waiting, lane, head, now_s)) is not None

    def _go_ahead(
        self, waiting: Waiting, lane: Lane, position: int, head: Reservation, quotas: QuotaWaits, now_s: float
    ) -> int | None:
        """Admit a job beside the reservation if it does not delay it; returns the position of the lane's next to look at."""
        window_s = head.at_s - now_s
        spots = self._beside(waiting, lane, head, now_s)
        if spots is None:
            shorter = None
            if lane.flexible:
                shorter = lane.first_within(max(window_s, lane.further_s), position + 1)
            elif waiting.duration_s > window_s and lane.fit.unfit_since != self._pool.growth:
                shorter = lane.first_within(window_s, position + 1)
            if shorter is not None:
                return shorter
            self._blocked.append((lane, DeferralReason.NO_CAPACITY, None))
            return None
        self._outcome.allocate(waiting, spots, AllocationReason.BACKFILL)
        quotas.took(waiting, spots)
        head.took(lane.demand, spots, until_s=now_s + waiting.duration_s)
        self._ahead = True
        return lane.first(position)

    def _become_head(self, waiting: Waiting, lane: Lane, now_s: float) -> Reservation | None:
        """Evict for it and reserve for it; None when there is nothing to wait for but other nodes."""
        pool = self._pool
        if not pool.could_hold(lane.demand):
            reason = DeferralReason.NO_CAPACITY if self._node_fits(lane.demand) else DeferralReason.NO_NODE_FITS
            self._blocked.append((lane, reason, None))
            return None
        self._blocked.append((lane, DeferralReason.NO_CAPACITY, None))
        known = self._reservation
        if known is not None and known.head is waiting and known.version == pool.version:
            return known
        found = reserve(pool, waiting)
        moved = choose_moves(pool, waiting, inf if found is None else found.at_s, now_s)
        for holding in moved:
            self._outcome.move(holding)
        victims = [] if moved else choose_victims(pool, waiting, now_s)
        for victim in victims:
            self._outcome.preempt(victim)
        return reserve(pool, waiting) if moved or victims else found

    def _empty(self, open_nodes: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Capacity:
        assert self._pool.inventory is not None
        return Capacity.empty(self._pool.inventory, open_nodes)

    def _node_fits(self, demand: Demand) -> bool:
        """Whether any node, ready or not, holds one pod when it is empty."""
        return self._empty(np.ones_like(self._pool.free.open)).count(demand) > 0

    def _detail(self, lane: Lane, waiting: Waiting, reason: DeferralReason, before: Waiting | None) -> str:
        """Which figure must change, in words."""
        pool, demand = self._pool, lane.demand
        match reason:
            case DeferralReason.SITE_UNKNOWN:
                return "no inventory of the site has been published yet"
            case DeferralReason.QUOTA:
                return _waits_for(before) if before is not None else quota_words(pool.accounts, waiting)
            case DeferralReason.NO_NODE_FITS:
                none = f"asks for {demand.words()}: no node of the site holds one such pod, even when it is empty"
                one = msgspec.structs.replace(demand, parallelism=1)
                return none + _in_the_way(self._empty(np.ones_like(pool.free.open)), one)
            case DeferralReason.NO_CAPACITY:
                room = f"asks for {demand.words()}: {pool.free.count(demand)} fit now"
        if not pool.could_hold(demand):
            empty = self._empty(pool.free.open)
            ready = f"{room}, {empty.count(demand)} if nothing else ran on the ready nodes"
            return ready + _in_the_way(empty, demand) + _unmixed(lane, empty)
        room += _in_the_way(pool.free, demand)
        head = self._reservation
        if head is None or head.head.lane is lane:
            return room
        at = "soon" if head.at_s == float("-inf") else f"at {datetime.fromtimestamp(head.at_s, UTC).isoformat()}"
        return f"{room}, but would delay {head.head.placed.job_id}, which is expected to start {at}"


def _waits_for(before: Waiting) -> str:
    return f"its quota has room, but {before.placed.job_id} of {before.placed.tenant} waits for it and goes first"


def _unmixed(lane: Lane, capacity: Capacity) -> str:
    """What stands against a gang that only several models together would hold."""
    if not lane.flexible or not capacity.fits(lane.asked):
        return ""
    return "; on several models together all would, but quotas tell these apart, and then all its pods get the same"


def _in_the_way(capacity: Capacity, demand: Demand) -> str:
    """Which taints, if tolerating them would help; else of what there is too little."""
    more, taints = capacity.behind_taints(demand)
    if more:
        return f"; {more} more on nodes with taints that it does not tolerate: {', '.join(taints)}"
    lacking = capacity.lack_words(demand)
    return f", for lack of {lacking}" if lacking else ""
