"""What a site has and what of it is free, as columns over nodes, and the packing of pods into it.

Packing is best fit (Coffman, Garey and Johnson, "Approximation algorithms for bin packing", 1984, section 2): of the nodes
that can hold a pod, the one on which least is left over. For a whole device that is the node with the fewest free devices
left, for a share of a device the fullest device that still fits, and pods without devices prefer nodes without devices.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from services.drm.model import WHOLE, Demand, Spot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from solyx.events import DeviceRequest, PodAssignment
    from solyx.events.job import DeviceKind
    from solyx.events.site import DeviceGroup, Node

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
Mask: TypeAlias = NDArray[np.bool_]
ViewKey: TypeAlias = tuple[str, tuple[str, ...]]

_DEVICE_WEIGHT = 8.0  # what is left of devices goes before what is left of CPU and memory, which adds up to 2 at most
_NODE_WEIGHT = 4.0


class _Layout:
    """The devices of a node as columns, in the order of its groups; an index counts the devices of one kind and model."""

    def __init__(self, groups: Sequence[DeviceGroup]) -> None:
        self.devices: list[tuple[DeviceKind, str, int]] = []  # kind, model, index
        counts: dict[tuple[str, str], int] = {}
        for group in groups:
            for _ in range(group.count):
                index = counts.get((group.kind, group.model), 0)
                counts[group.kind, group.model] = index + 1
                self.devices.append((group.kind, group.model, index))
        self.columns = {device: column for column, device in enumerate(self.devices)}


class _View:
    """Which devices a request may use: a mask over nodes × devices, and the same as columns of each node."""

    def __init__(self, key: ViewKey, layouts: Sequence[_Layout], width: int) -> None:
        kind, models = key
        allowed: dict[int, tuple[int, ...]] = {}
        self.columns: list[tuple[int, ...]] = []
        self.mask = np.zeros((len(layouts), width), dtype=np.bool_)
        for row, layout in enumerate(layouts):
            if id(layout) not in allowed:
                allowed[id(layout)] = tuple(
                    column
                    for column, (its_kind, model, _) in enumerate(layout.devices)
                    if its_kind == kind and (not models or model in models)
                )
            columns = allowed[id(layout)]
            self.columns.append(columns)
            self.mask[row, list(columns)] = True


class Inventory:
    """The nodes of one site; never changes."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        layouts: dict[tuple[DeviceGroup, ...], _Layout] = {}
        self.names = [node.name for node in nodes]
        self.rows = {name: row for row, name in enumerate(self.names)}
        self.layouts = [layouts.setdefault(node.devices, _Layout(node.devices)) for node in nodes]
        self.width = max((len(layout.devices) for layout in self.layouts), default=0)
        self.cpu: Ints = np.array([node.cpu_milli for node in nodes], dtype=np.int64)
        self.memory: Ints = np.array([node.memory_bytes for node in nodes], dtype=np.int64)
        self.devices: Ints = np.zeros((len(nodes), self.width), dtype=np.int64)
        for row, layout in enumerate(self.layouts):
            self.devices[row, : len(layout.devices)] = WHOLE
        self.has_devices: Mask = np.array([bool(layout.devices) for layout in self.layouts], dtype=np.bool_)
        self.ready: Mask = np.array([node.ready for node in nodes], dtype=np.bool_)
        self.cpu_scale = float(max(self.cpu.max(initial=0), 1))
        self.memory_scale = float(max(self.memory.max(initial=0), 1))
        self._views: dict[ViewKey, _View] = {}

    def view(self, key: ViewKey) -> _View:
        """The devices that requests of this kind and these models may use."""
        view = self._views.get(key)
        if view is None:
            view = self._views[key] = _View(key, self.layouts, self.width)
        return view

    def totals(self) -> tuple[int, int, int]:
        """CPU, memory and accelerators of all nodes, ready or not."""
        return int(self.cpu.sum()), int(self.memory.sum()), int(self.devices.sum())

    def spots(self, pods: Sequence[PodAssignment]) -> tuple[Spot, ...]:
        """Pods in terms of this inventory; what it does not know is left out."""
        spots: list[Spot] = []
        for pod in pods:
            row = self.rows.get(pod.node)
            if row is None:
                continue
            columns = self.layouts[row].columns
            spots.append(
                Spot(
                    row,
                    tuple(
                        (columns[device.kind, device.model, device.index], device.share_milli)
                        for device in pod.devices
                        if (device.kind, device.model, device.index) in columns
                    ),
                )
            )
        return tuple(spots)


class Capacity:
    """Free capacity of a site's nodes. Below zero where an inventory shrank under its allocations: nothing fits there."""

    __slots__ = ("_views", "cpu", "devices", "inventory", "memory", "open")

    def __init__(self, inventory: Inventory, *, cpu: Ints, memory: Ints, devices: Ints, open_nodes: Mask) -> None:
        self.inventory = inventory
        self.cpu, self.memory, self.devices = cpu, memory, devices
        self.open = open_nodes  # where something may start
        self._views: dict[ViewKey, tuple[Ints, Ints]] = {}  # free whole devices and the largest free share, by node

    @classmethod
    def empty(cls, inventory: Inventory, open_nodes: Mask) -> Capacity:
        """The site with nothing on it."""
        return cls(
            inventory,
            cpu=inventory.cpu.copy(),
            memory=inventory.memory.copy(),
            devices=inventory.devices.copy(),
            open_nodes=open_nodes,
        )

    def plus(self, cpu: Ints, memory: Ints, devices: Ints) -> Capacity:
        """What is free with this added."""
        return Capacity(
            self.inventory,
            cpu=self.cpu + cpu,
            memory=self.memory + memory,
            devices=self.devices + devices,
            open_nodes=self.open,
        )

    def limited_by(self, other: Capacity) -> Capacity:
        """What is free in both."""
        return Capacity(
            self.inventory,
            cpu=np.minimum(self.cpu, other.cpu),
            memory=np.minimum(self.memory, other.memory),
            devices=np.minimum(self.devices, other.devices),
            open_nodes=self.open,
        )

    def limit(self, nodes: Sequence[int], first: Capacity, second: Capacity) -> None:
        """Set these nodes to what is free in both ``first`` and ``second``."""
        for node in nodes:
            self.cpu[node] = min(first.cpu[node], second.cpu[node])
            self.memory[node] = min(first.memory[node], second.memory[node])
            self.devices[node] = np.minimum(first.devices[node], second.devices[node])
            self._refresh(node)

    def take(self, demand: Demand, spots: Sequence[Spot]) -> None:
        """Charge pods of this demand."""
        self._add(demand, spots, -1)

    def give(self, demand: Demand, spots: Sequence[Spot]) -> None:
        """Undo ``take``."""
        self._add(demand, spots, 1)

    def _add(self, demand: Demand, spots: Sequence[Spot], sign: int) -> None:
        cpu, memory = sign * demand.cpu_milli, sign * demand.memory_bytes
        for spot in spots:
            self.cpu[spot.node] += cpu
            self.memory[spot.node] += memory
            if spot.devices:
                for column, share in spot.devices:
                    self.devices[spot.node, column] += sign * share
        for node in {spot.node for spot in spots if spot.devices}:
            self._refresh(node)

    def _refresh(self, node: int) -> None:
        free = self.devices[node].tolist()
        for key, (whole, largest) in self._views.items():
            columns = self.inventory.view(key).columns[node]
            if columns:
                shares = [free[column] for column in columns]
                whole[node] = shares.count(WHOLE)
                largest[node] = max(shares)

    def _view(self, request: DeviceRequest) -> tuple[Ints, Ints]:
        key = (request.kind, request.models)
        view = self._views.get(key)
        if view is None:
            mask = self.inventory.view(key).mask
            whole = np.count_nonzero(mask & (self.devices == WHOLE), axis=1).astype(np.int64)
            largest = np.where(mask, self.devices, 0).max(axis=1, initial=0)
            view = self._views[key] = (whole, largest)
        return view

    # ------------------------------------------------------------------------------------------------ where pods fit

    def place(self, demand: Demand) -> tuple[Spot, ...] | None:
        """Places for all pods of a gang, or None. Takes nothing.

        The simple algorithm: for each pod take the node with the least left over. Pods of a gang are equal, and a node that
        was best for one has even less left for the next, so whole nodes are filled in the order of their score.
        """
        nodes = self._candidates(demand)
        if nodes.size == 0:
            return None
        if demand.parallelism > 1:
            return self._place_gang(demand, nodes)
        score = self._score(demand, nodes)
        best = int(nodes[int(score.argmin())])
        if not demand.devices:
            return (Spot(best, ()),)
        devices = self._assign(demand, best, self.devices[best].tolist())
        if devices is not None:
            return (Spot(best, devices),)
        # Several requests that compete for the same devices: what fits one by one may not fit together.
        for node in nodes[np.argsort(score, kind="stable")].tolist():
            devices = self._assign(demand, node, self.devices[node].tolist())
            if devices is not None:
                return (Spot(node, devices),)
        return None

    def count(self, demand: Demand) -> int:
        """How many of the gang's pods fit at the same time, at most all of them."""
        nodes = self._candidates(demand)
        return min(int(self._pods_by_node(demand, nodes).sum()), demand.parallelism) if nodes.size else 0

    def _candidates(self, demand: Demand) -> Ints:
        fit = self.open & (self.cpu >= demand.cpu_milli) & (self.memory >= demand.memory_bytes)
        for request in demand.devices:
            whole, largest = self._view(request)
            fit &= (whole >= request.count) if request.share_milli == WHOLE else (largest >= request.share_milli)
        return fit.nonzero()[0]

    def _score(self, demand: Demand, nodes: Ints) -> Floats:
        """What would be left over on each node, devices first; the least is the best."""
        inventory = self.inventory
        score = (self.cpu[nodes] - demand.cpu_milli) / inventory.cpu_scale
        score += (self.memory[nodes] - demand.memory_bytes) / inventory.memory_scale
        if not demand.devices:
            return score + _NODE_WEIGHT * inventory.has_devices[nodes]
        for request in demand.devices:
            whole, _ = self._view(request)
            if request.share_milli == WHOLE:
                score += _DEVICE_WEIGHT * (whole[nodes] - request.count)
            else:
                free = self.devices[nodes]
                fits = inventory.view((request.kind, request.models)).mask[nodes] & (free >= request.share_milli)
                score += _DEVICE_WEIGHT * np.where(fits, free - request.share_milli, WHOLE).min(axis=1)
                score += _NODE_WEIGHT * whole[nodes] / (inventory.width + 1)
        return score

    def _pods_by_node(self, demand: Demand, nodes: Ints) -> Ints:
        pods = np.full(nodes.size, demand.parallelism, dtype=np.int64)
        if demand.cpu_milli:
            pods = np.minimum(pods, self.cpu[nodes] // demand.cpu_milli)
        if demand.memory_bytes:
            pods = np.minimum(pods, self.memory[nodes] // demand.memory_bytes)
        for request in demand.devices:
            if request.share_milli == WHOLE:
                pods = np.minimum(pods, self._view(request)[0][nodes] // request.count)
            else:
                mask = self.inventory.view((request.kind, request.models)).mask[nodes]
                shares = np.where(mask, self.devices[nodes], 0) // request.share_milli
                pods = np.minimum(pods, shares.sum(axis=1) // request.count)
        return pods

    def _place_gang(self, demand: Demand, nodes: Ints) -> tuple[Spot, ...] | None:
        pods = self._pods_by_node(demand, nodes)
        if int(pods.sum()) < demand.parallelism:
            return None
        spots: list[Spot] = []
        for position in np.argsort(self._score(demand, nodes), kind="stable").tolist():
            node = int(nodes[position])
            free = self.devices[node].tolist()
            for _ in range(min(int(pods[position]), demand.parallelism - len(spots))):
                devices = self._assign(demand, node, free)
                if devices is None:
                    break
                spots.append(Spot(node, devices))
            if len(spots) == demand.parallelism:
                return tuple(spots)
        return None

    def _assign(self, demand: Demand, node: int, free: list[int]) -> tuple[tuple[int, int], ...] | None:
        """Devices of ``node`` for one pod, taken from ``free`` (the shares that its columns have left)."""
        picked: list[tuple[int, int]] = []
        for request in demand.devices:
            columns = self.inventory.view((request.kind, request.models)).columns[node]
            share = request.share_milli
            fitting = [column for column in columns if free[column] >= share]
            if share < WHOLE:
                fitting.sort(key=free.__getitem__)  # the fullest that fits; stable: then the lowest
            if len(fitting) < request.count:
                return None
            for column in fitting[: request.count]:
                free[column] -= share
                picked.append((column, share))
        return tuple(picked)
