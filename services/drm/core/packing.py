"""Which of the nodes that can hold a pod is taken, and which of its devices.

1. Where pods share devices and enough of them have come to say what is typical: the node and the device whose loss hurts the
   typical pods least (``fragmentation.py``). Of equals, the best fit.
2. Else best fit (Coffman, Garey and Johnson, "Approximation algorithms for bin packing", 1984, section 2): the node on which
   least is left over. For a whole device that is the node with the fewest free devices left, for a share of a device
   the fullest device that still fits, and pods without devices prefer nodes without devices.
3. Of equals, a pod with several devices prefers those of one domain. A gang fills whole nodes in that order; it prefers one rack
   that holds all of it, of several the fullest, and else the racks that hold most. Before that it prefers one model for all its pods.

The simple algorithm scores every node for every pod. Equal to it, but independent of the number of nodes up to one search for a
minimum: a ``Ranking`` keeps the scores of one demand and computes those of changed nodes anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from services.drm.model import WHOLE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.drm.core.capacity import Capacity
    from services.drm.core.inventory import Ints, Layout, Mask
    from services.drm.model import Demand
    from solyx.events import DeviceRequest

UNFIT = np.iinfo(np.int64).max
_DEVICE_WEIGHT = 8.0  # what is left of devices goes before what is left of CPU and memory, which adds up to 2 at most
_NODE_WEIGHT = 4.0
_DOMAIN_WEIGHT = 4.0
_RESOLUTION = 2**18  # of what is left over; below 2^22 where a loss goes before it
_LOSS_UNIT = 2**22
_CHUNK = 2048  # nodes scored at a time: the columns over classes stay in the cache
_FEW = 16
_REMEMBERED_STATES = 50_000


class Ranking:
    """The scores of all nodes for one demand; the least is the best, and ``UNFIT`` where no pod of it fits."""

    __slots__ = ("_basis", "_demand", "_known", "columns", "position", "scores")

    def __init__(self, capacity: Capacity, demand: Demand) -> None:
        self._demand = demand
        self._known: dict[tuple[object, ...], tuple[int, int]] = {}
        self._basis: tuple[object, object] = (None, None)
        self.position = 0
        self.scores: Ints = np.zeros(0, dtype=np.int64)
        self.columns: NDArray[np.int16] = np.zeros(0, dtype=np.int16)  # the device for a share, where losses choose it
        self._rebuild(capacity)

    def _rebuild(self, capacity: Capacity) -> None:
        self._basis = (capacity.open, capacity.typical)
        self._known = {}
        nodes = len(capacity.cpu)
        self.scores = np.full(nodes, UNFIT, dtype=np.int64)
        self.columns = np.full(nodes, -1, dtype=np.int16)
        self._score(capacity, fitting(capacity, self._demand).nonzero()[0])

    def _score(self, capacity: Capacity, nodes: Ints) -> None:
        for start in range(0, nodes.size, _CHUNK):
            chunk = nodes[start : start + _CHUNK]
            self.scores[chunk], self.columns[chunk] = score(capacity, self._demand, chunk)

    def update(self, capacity: Capacity, changed: Sequence[int]) -> None:
        """Take up what changed on these nodes since the last time."""
        if self._basis[0] is not capacity.open or self._basis[1] is not capacity.typical:
            self._rebuild(capacity)
        elif len(changed) > _FEW:
            nodes: Ints = np.unique(np.array(changed, dtype=np.int64))
            self.scores[nodes] = UNFIT
            self._score(capacity, nodes[fitting(capacity, self._demand, nodes)])
        else:
            for node in dict.fromkeys(changed):
                self._update_one(capacity, node)

    def _update_one(self, capacity: Capacity, node: int) -> None:
        if not capacity.holds_one(self._demand, node):
            self.scores[node] = UNFIT
            return
        # Nodes in the same state have the same score; sites have few kinds of nodes, and often the same pods on them.
        state = capacity.state(node)
        known = self._known.get(state)
        if known is None:
            if len(self._known) >= _REMEMBERED_STATES:
                self._known.clear()
            scores, columns = score(capacity, self._demand, np.array([node], dtype=np.int64))
            known = self._known[state] = (int(scores[0]), int(columns[0]))
        self.scores[node], self.columns[node] = known

    def fit_nodes(self) -> Ints:
        """The nodes that hold a pod."""
        return (self.scores != UNFIT).nonzero()[0]

    def best(self) -> int | None:
        """The node to take, the lowest row of equals."""
        if not self.scores.size:
            return None
        best = int(self.scores.argmin())
        return None if self.scores[best] == UNFIT else best


def fitting(capacity: Capacity, demand: Demand, nodes: Ints | slice = slice(None)) -> Mask:
    """Which nodes hold a pod, looking at each request by itself."""
    fit = capacity.open[nodes] & (capacity.cpu[nodes] >= demand.cpu_milli)
    fit &= capacity.memory[nodes] >= demand.memory_bytes
    if capacity.inventory.any_tainted:
        fit &= capacity.inventory.tolerated(demand.tolerations)[nodes]
    for request in demand.devices:
        whole, largest = capacity.free_devices(request)
        if request.share_milli == WHOLE:
            fit &= whole[nodes] >= request.count
        else:
            fit &= largest[nodes] >= request.share_milli
    return fit


def score(capacity: Capacity, demand: Demand, nodes: Ints) -> tuple[Ints, Ints]:
    """The scores of nodes that hold a pod, and the device that a share would get; -1: by best fit."""
    unassignable: Mask | None = None
    taken: Ints | None = None
    if _compete(demand):
        taken, unassignable = _assigned(capacity, demand, nodes)
    if capacity.typical is None:
        columns: Ints = np.full(nodes.size, -1, dtype=np.int64)
        scores = (_left_over(capacity, demand, nodes, devices=True) * _RESOLUTION).astype(np.int64)
    else:
        losses, columns = _losses(capacity, demand, nodes, taken)
        left = (_left_over(capacity, demand, nodes, devices=False) * _RESOLUTION).astype(np.int64)
        scores = losses * _LOSS_UNIT + left
    if unassignable is not None:
        scores[unassignable] = UNFIT
    return scores, columns


def _compete(demand: Demand) -> bool:
    """Whether several requests may want the same devices: what fits one by one may not fit together."""
    return len(demand.devices) > 1 or any(r.share_milli < WHOLE and r.count > 1 for r in demand.devices)


def _assigned(capacity: Capacity, demand: Demand, nodes: Ints) -> tuple[Ints, Mask]:
    taken: Ints = np.zeros((nodes.size, capacity.inventory.width), dtype=np.int64)
    failed: Mask = np.zeros(nodes.size, dtype=np.bool_)
    for index, node in enumerate(nodes.tolist()):
        picked = assign(capacity, demand, node, capacity.devices[node].tolist())
        if picked is None:
            failed[index] = True
            continue
        for column, share in picked:
            taken[index, column] += share
    return taken, failed


def _left_over(capacity: Capacity, demand: Demand, nodes: Ints, *, devices: bool) -> NDArray[np.float64]:
    """What would be left over on each node, devices first if they are looked at; the least is the best fit."""
    inventory = capacity.inventory
    left = (capacity.cpu[nodes] - demand.cpu_milli) / inventory.cpu_scale
    left += (capacity.memory[nodes] - demand.memory_bytes) / inventory.memory_scale
    if not demand.devices:
        return left + _NODE_WEIGHT * inventory.has_devices[nodes]
    for request in demand.devices:
        if request.share_milli == WHOLE and request.count > 1 and inventory.domains:
            left += _DOMAIN_WEIGHT * ~_one_domain_holds(capacity, request, nodes)
        if not devices:
            continue
        whole, _ = capacity.free_devices(request)
        if request.share_milli == WHOLE:
            left += _DEVICE_WEIGHT * (whole[nodes] - request.count)
        else:
            free = capacity.devices[nodes]
            fits = inventory.view((request.kind, request.models)).mask[nodes] & (free >= request.share_milli)
            left += _DEVICE_WEIGHT * np.where(fits, free - request.share_milli, WHOLE).min(axis=1)
            left += _NODE_WEIGHT * whole[nodes] / (inventory.width + 1)
    return left


def _one_domain_holds(capacity: Capacity, request: DeviceRequest, nodes: Ints) -> Mask:
    inventory = capacity.inventory
    free = inventory.view((request.kind, request.models)).mask[nodes] & (capacity.devices[nodes] == WHOLE)
    domains = inventory.domain_of[inventory.layout_of[nodes]]
    holds: Mask = np.zeros(nodes.size, dtype=np.bool_)
    for domain in range(inventory.domains):
        holds |= (free & (domains == domain)).sum(axis=1) >= request.count
    return holds


def _losses(capacity: Capacity, demand: Demand, nodes: Ints, taken: Ints | None) -> tuple[Ints, Ints]:
    """What the typical pods lose on each node, and the device whose share costs them least (-1: devices are equal)."""
    typical, inventory = capacity.typical, capacity.inventory
    assert typical is not None
    cpu, memory, devices = capacity.cpu[nodes], capacity.memory[nodes], capacity.devices[nodes]
    usable, copies = typical.sums(inventory, nodes, devices)
    before = typical.worth(cpu, memory, usable, copies)
    cpu, memory = cpu - demand.cpu_milli, memory - demand.memory_bytes
    columns: Ints = np.full(nodes.size, -1, dtype=np.int64)
    if taken is None and demand.devices:
        request = demand.devices[0]
        fits = inventory.view((request.kind, request.models)).mask[nodes] & (devices >= request.share_milli)
        if request.share_milli < WHOLE:
            return _share_losses(capacity, request, nodes, fits, (before, cpu, memory, usable, copies))
        taken = np.where(fits & (fits.cumsum(axis=1) <= request.count), WHOLE, 0)
    if taken is not None:
        usable, copies = typical.sums(inventory, nodes, devices - taken)
    return (before - typical.worth(cpu, memory, usable, copies)).astype(np.int64), columns


def _share_losses(
    capacity: Capacity,
    request: DeviceRequest,
    nodes: Ints,
    fits: Mask,
    state: tuple[NDArray[np.float64], Ints, Ints, NDArray[np.float64], NDArray[np.float64]],
) -> tuple[Ints, Ints]:
    """The same for a share of one device: every device that fits is tried, equal ones of a node once."""
    typical, inventory = capacity.typical, capacity.inventory
    assert typical is not None
    before, cpu, memory, usable, copies = state
    free = capacity.devices[nodes]
    if not inventory.mixed:
        for column in range(1, inventory.width):
            same = (free[:, :column] == free[:, column, None]) & fits[:, :column]
            fits[:, column] &= ~same.any(axis=1)
    rows, picks = fits.nonzero()
    shares = free[rows, picks]
    less_usable, fewer_copies = typical.taking(inventory, nodes[rows], picks, shares, request.share_milli)
    after = typical.worth(cpu[rows], memory[rows], usable[rows] - less_usable, copies[rows] - fewer_copies)
    # Of equals the fullest device, then the lowest.
    order = (before[rows] - after).astype(np.int64) * _LOSS_UNIT + shares * inventory.width + picks
    starts = np.searchsorted(rows, np.arange(nodes.size))
    least = np.minimum.reduceat(order, starts)
    return least // _LOSS_UNIT, least % _LOSS_UNIT % inventory.width


def gang_order(capacity: Capacity, nodes: Ints, scores: Ints, pods: Ints, parallelism: int) -> list[int]:
    """Positions of nodes in the order in which a gang fills them."""
    inventory = capacity.inventory
    if not inventory.racks:
        return np.argsort(scores, kind="stable").tolist()
    racks = inventory.rack_of[nodes]
    held = np.bincount(racks, weights=pods, minlength=inventory.racks + 1)
    held[inventory.racks] = 0  # nodes of unknown racks are no rack
    enough = held >= parallelism
    order = racks != int(np.where(enough, held, np.inf).argmin()) if enough.any() else -held[racks]
    return np.lexsort((scores, order)).tolist()


def assign(
    capacity: Capacity, demand: Demand, node: int, free: list[int], chosen: int = -1
) -> tuple[tuple[int, int], ...] | None:
    """Devices of ``node`` for one pod, taken from ``free`` (the shares that its columns have left)."""
    if chosen >= 0:
        return ((chosen, demand.devices[0].share_milli),)
    layout = capacity.inventory.layouts[node]
    picked: list[tuple[int, int]] = []
    for request in demand.devices:
        columns = capacity.inventory.view((request.kind, request.models)).columns[layout.number]
        share = request.share_milli
        fits = [column for column in columns if free[column] >= share]
        if len(fits) < request.count:
            return None
        if share < WHOLE:
            fits.sort(key=free.__getitem__)  # the fullest that fits; stable: then the lowest
        elif layout.has_domains:
            fits = _by_domain(layout, fits, request.count)
        for column in fits[: request.count]:
            free[column] -= share
            picked.append((column, share))
    return tuple(picked)


def _by_domain(layout: Layout, columns: Sequence[int], count: int) -> list[int]:
    """Free columns with those first that a request for ``count`` takes: of the fullest domain that has enough, else of the emptiest."""
    by_domain: dict[str, list[int]] = {}
    for column in columns:
        by_domain.setdefault(layout.domains[column], []).append(column)
    order = sorted(
        by_domain.values(), key=lambda free: (len(free) < count, len(free) if len(free) >= count else -len(free))
    )
    return [column for free in order for column in free]
