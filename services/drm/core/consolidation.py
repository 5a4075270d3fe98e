"""Whose work goes on in other places of its site, so that what is free is in one piece and the first job that does not fit, fits.

Pods come and go, and what is left on the nodes falls into pieces: a job finds no place although the site has enough free for it. Work that
is suspendable loses little when it is stopped and goes on elsewhere, so what is free can be brought together (the classic remedy for
external fragmentation: compaction; Knuth, "The Art of Computer Programming", volume 1, section 2.5).

The simple algorithm, for the head of the queue alone:

1. The pods of the gang that fit take their places, one after the other.
2. For one that does not: of each node take the sets of suspendable work without which it holds the pod, none larger than needed; of all nodes'
   sets the one that costs least, of those of which all find other places beside the pod.
3. They are moved if all fit as they will be packed, first the gang, and if what they repeat is at most ``WORTH`` of what the head would
   do in the time that it would else wait. Both are counted in dominant shares of the site × time; a move repeats ``RESTART_S``.

Not moved is who is about to end, or was allocated less than ``SETTLED_S`` ago: nobody is moved all the time. Whoever is moved keeps its
progress and comes back under a new revision from the CMO. Its other place is not held for it meanwhile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import msgspec
import numpy as np

from services.drm.core.packing import fitting
from services.drm.core.victims import is_ending, when_ended
from services.drm.model import RESTART_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from services.drm.core.capacity import Capacity
    from services.drm.core.inventory import Ints
    from services.drm.core.pool import Pool
    from services.drm.core.queue import Waiting
    from services.drm.model import Demand, Holding, Spot

    Places: TypeAlias = list[tuple[Holding, tuple[Spot, ...]]]

SETTLED_S = 300.0
WORTH = 0.5
_NODES = 32
"""On which places are looked for: those with most room."""


def choose_moves(pool: Pool, head: Waiting, otherwise_s: float, now_s: float) -> Sequence[Holding]:
    """Who is to go on elsewhere so that the head can start; empty if nobody has to, or it is not worth it, or in vain.

    ``otherwise_s``: when it is expected to start else, Unix time; in the past where estimates were too short.
    """
    if not pool.suspendable:
        return ()
    room = when_ended(pool, now_s)
    if room.fits(head.demand) or not _is_enough(room, head.demand):
        return ()
    wait_s = head.duration_s
    if otherwise_s > now_s:
        wait_s = min(wait_s, otherwise_s - now_s)
        pool.look_again(otherwise_s)  # then nobody knows when, and more is worth it
    limit = WORTH / RESTART_S * wait_s * pool.accounts.dominant([*head.amounts])
    moved = _Search(pool, room, head.demand, now_s).find(limit)
    return moved if moved and _all_fit(when_ended(pool, now_s), head.demand, moved) else ()


def _is_enough(room: Capacity, demand: Demand) -> bool:
    """Whether the nodes that its pods tolerate have enough free of everything, if it were in one piece."""
    nodes = room.open & room.inventory.tolerated(demand.tolerations)
    enough = room.cpu[nodes].clip(0).sum() >= demand.total_cpu_milli
    enough &= room.memory[nodes].clip(0).sum() >= demand.total_memory_bytes
    for request in demand.devices:
        of_it = room.inventory.view((request.kind, request.models)).mask & nodes[:, None]
        asked = request.count * request.share_milli * demand.parallelism
        enough &= room.devices[of_it].clip(0).sum() >= asked
    return bool(enough)


class _Search:
    """``room`` is what is free; places are taken and given back in it."""

    def __init__(self, pool: Pool, room: Capacity, demand: Demand, now_s: float) -> None:
        self._room, self._pods = room, demand.parallelism
        self._pod = msgspec.structs.replace(demand, parallelism=1)
        self._moved: list[Holding] = []
        self._share: dict[str, float] = {}
        self._on = {node: self._movable(pool, node, now_s) for node in self._nodes()}

    def _movable(self, pool: Pool, node: int, now_s: float) -> list[Holding]:
        """What may go on elsewhere, the smallest first."""
        found: list[Holding] = []
        for holding in pool.suspendable.get(node, {}).values():
            if is_ending(holding, now_s):
                continue
            if now_s < (settled_s := holding.decided_at_s + SETTLED_S):
                pool.look_again(settled_s)
                continue
            self._share[holding.job_id] = pool.accounts.dominant([*holding.amounts])
            found.append(holding)
        return sorted(found, key=lambda holding: (self._share[holding.job_id], holding.job_id))

    def _nodes(self) -> list[int]:
        """Nodes that are large enough for a pod when they are empty, those with most room first."""
        room, pod = self._room, self._pod
        nodes = fitting(type(room).empty(room.inventory, room.open), pod).nonzero()[0]
        free: Ints = room.cpu[nodes]
        if pod.devices:
            of_it = room.inventory.view((pod.devices[0].kind, pod.devices[0].models)).mask[nodes]
            free = np.where(of_it, room.devices[nodes], 0).sum(axis=1)
        return nodes[np.argsort(-free, kind="stable")][:_NODES].tolist()

    def find(self, limit: float) -> list[Holding]:
        """Who is moved; empty if the gang finds no places, or they are not worth it. ``limit``: the most they may hold, in shares."""
        for _ in range(self._pods):
            spots = self._room.place(self._pod)
            if spots is not None:
                self._room.take(self._pod, spots)
                continue
            cost = self._clear(limit)
            if cost is None:
                return []
            limit -= cost
        return self._moved

    def _clear(self, limit: float) -> float | None:
        """Room for one more pod; what those hold that are moved for it."""
        sets = [
            (self._cost(holdings), len(holdings), node, number, holdings)
            for node in self._on
            for number, holdings in enumerate(self._sets(node))
        ]
        for cost, *_, holdings in sorted(sets, key=lambda one: one[:4]):
            if cost <= limit and self._try(holdings):
                self._moved += holdings
                return cost
        return None

    def _cost(self, holdings: Iterable[Holding]) -> float:
        return sum(self._share[holding.job_id] for holding in holdings)

    def _sets(self, node: int) -> list[list[Holding]]:
        """Without each of which a node holds the pod, and which are not larger than needed."""
        here = [holding for holding in self._on[node] if holding not in self._moved]
        return [found for order in (here, here[::-1]) if (found := self._without(node, order))]

    def _without(self, node: int, order: Sequence[Holding]) -> list[Holding]:
        """Who of these goes, in this order, until it does; less whoever can stay, the first first."""
        room = self._room
        gone: list[Holding] = []
        for holding in order:
            if room.holds_one(self._pod, node):
                break
            room.give(holding.demand, holding.spots)
            gone.append(holding)
        enough = room.holds_one(self._pod, node)
        for holding in gone.copy() if enough else ():
            room.take(holding.demand, holding.spots)
            if room.holds_one(self._pod, node):
                gone.remove(holding)
            else:
                room.give(holding.demand, holding.spots)
        for holding in gone:
            room.take(holding.demand, holding.spots)
        return gone if enough else []

    def _try(self, holdings: Sequence[Holding]) -> bool:
        """Put the pod in their place, and them elsewhere."""
        room = self._room
        for holding in holdings:
            room.give(holding.demand, holding.spots)
        pod = room.place(self._pod)
        if pod is not None:
            room.take(self._pod, pod)
            if _take_places(room, holdings):
                return True
            room.give(self._pod, pod)
        for holding in holdings:
            room.take(holding.demand, holding.spots)
        return False


def _all_fit(room: Capacity, demand: Demand, moved: Sequence[Holding]) -> bool:
    """As they will be packed: first the gang, then who was moved."""
    for holding in moved:
        room.give(holding.demand, holding.spots)
    spots = room.place(demand)
    if spots is None:
        return False
    room.take(demand, spots)
    return _take_places(room, moved)


def _take_places(room: Capacity, holdings: Sequence[Holding]) -> bool:
    """For all, the largest pods first; if one finds none, nothing is taken."""
    found: Places = []
    for holding in sorted(holdings, key=lambda one: (-one.demand.total_gpu_milli, -one.demand.cpu_milli, one.job_id)):
        spots = room.place(holding.demand)
        if spots is None:
            for other, taken in found:
                room.give(other.demand, taken)
            return False
        room.take(holding.demand, spots)
        found.append((holding, spots))
    return True
