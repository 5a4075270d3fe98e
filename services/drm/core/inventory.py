"""What a site has, as columns over its nodes: CPU, memory, devices, models, taints, racks, domains."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from services.drm.model import WHOLE, Spot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from solyx.events import PodAssignment
    from solyx.events.job import DeviceKind
    from solyx.events.site import DeviceGroup, Node

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
Mask: TypeAlias = NDArray[np.bool_]
ViewKey: TypeAlias = tuple[str, tuple[str, ...]]


class Layout:
    """The devices of a node as columns, in the order of its groups; an index counts the devices of one kind and model."""

    def __init__(self, groups: Sequence[DeviceGroup], number: int) -> None:
        self.number = number
        self.devices: list[tuple[DeviceKind, str, int]] = []  # kind, model, index
        self.domains: list[str] = []  # of each column; empty where unknown
        counts: dict[tuple[str, str], int] = {}
        for group in groups:
            for _ in range(group.count):
                index = counts.get((group.kind, group.model), 0)
                counts[group.kind, group.model] = index + 1
                self.devices.append((group.kind, group.model, index))
                self.domains.append(group.domain)
        self.columns = {device: column for column, device in enumerate(self.devices)}
        self.mixed = len({(kind, model) for kind, model, _ in self.devices}) > 1
        self.has_domains = len({domain for domain in self.domains if domain}) > 1


class View:
    """Which devices a request may use: a mask over layouts × devices, the same over nodes, and columns of each layout."""

    def __init__(self, key: ViewKey, layouts: Sequence[Layout], layout_of: Ints, width: int) -> None:
        kind, models = key
        self.columns: list[tuple[int, ...]] = [
            tuple(
                column
                for column, (its_kind, model, _) in enumerate(layout.devices)
                if its_kind == kind and (not models or model in models)
            )
            for layout in layouts
        ]
        self.by_layout = np.zeros((len(layouts), width), dtype=np.bool_)
        for row, columns in enumerate(self.columns):
            self.by_layout[row, list(columns)] = True
        self.mask: Mask = self.by_layout[layout_of] if layouts else np.zeros((0, width), dtype=np.bool_)


class Inventory:
    """The nodes of one site; never changes."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        layouts: dict[tuple[DeviceGroup, ...], Layout] = {}
        for node in nodes:
            if node.devices not in layouts:
                layouts[node.devices] = Layout(node.devices, len(layouts))
        self.names = [node.name for node in nodes]
        self.rows = {name: row for row, name in enumerate(self.names)}
        self.distinct_layouts = list(layouts.values())
        self.layouts = [layouts[node.devices] for node in nodes]
        self.layout_of: Ints = np.array([layout.number for layout in self.layouts], dtype=np.int64)
        self.mixed = any(layout.mixed for layout in layouts.values())  # a node's devices may differ in kind or model
        self.several_models = len({device[:2] for layout in layouts.values() for device in layout.devices}) > 1
        self.width = max((len(layout.devices) for layout in self.layouts), default=0)
        self.cpu: Ints = np.array([node.cpu_milli for node in nodes], dtype=np.int64)
        self.memory: Ints = np.array([node.memory_bytes for node in nodes], dtype=np.int64)
        self.devices: Ints = np.zeros((len(nodes), self.width), dtype=np.int64)
        for row, layout in enumerate(self.layouts):
            self.devices[row, : len(layout.devices)] = WHOLE
        self.has_devices: Mask = np.array([bool(layout.devices) for layout in self.layouts], dtype=np.bool_)
        self.ready: Mask = np.array([node.ready for node in nodes], dtype=np.bool_)
        racks = {rack: number for number, rack in enumerate(sorted({node.rack for node in nodes if node.rack}))}
        self.rack_of: Ints = np.array([racks.get(node.rack, len(racks)) for node in nodes], dtype=np.int64)
        self.racks = len(racks)  # a node whose rack is unknown has this number
        domains = {d: number for number, d in enumerate(sorted({d for lay in layouts.values() for d in lay.domains}))}
        self.domains = len(domains) if any(layout.has_domains for layout in layouts.values()) else 0
        self.domain_of: Ints = np.full((len(layouts), self.width), -1, dtype=np.int64)  # of each layout's columns
        for layout in layouts.values():
            self.domain_of[layout.number, : len(layout.domains)] = [domains[domain] for domain in layout.domains]
        self.taints = [node.taints for node in nodes]
        self.is_tainted: Mask = np.array([bool(node.taints) for node in nodes], dtype=np.bool_)
        self.any_tainted = bool(self.is_tainted.any())
        self.cpu_scale = float(max(self.cpu.max(initial=0), 1))
        self.memory_scale = float(max(self.memory.max(initial=0), 1))
        self._views: dict[ViewKey, View] = {}
        self._tolerated: dict[tuple[str, ...], Mask] = {}

    def view(self, key: ViewKey) -> View:
        """The devices that requests of this kind and these models may use."""
        view = self._views.get(key)
        if view is None:
            view = self._views[key] = View(key, self.distinct_layouts, self.layout_of, self.width)
        return view

    def tolerated(self, tolerations: tuple[str, ...]) -> Mask:
        """The nodes of which a pod with these tolerations accepts every taint."""
        mask = self._tolerated.get(tolerations)
        if mask is None:
            accepted = frozenset(tolerations)
            mask = np.array([accepted.issuperset(taints) for taints in self.taints], dtype=np.bool_)
            self._tolerated[tolerations] = mask
        return mask

    def totals(self) -> tuple[int, int, int]:
        """CPU, memory and accelerators of all nodes, ready or not."""
        return int(self.cpu.sum()), int(self.memory.sum()), int(self.devices.sum())

    def total_of(self, kind: str, model: str) -> int:
        """Accelerators of a kind, and of a model if one is named, of all nodes, ready or not."""
        view = self.view((kind, (model,) if model else ()))
        return int(np.count_nonzero(view.mask)) * WHOLE

    def models(self, kind: str) -> tuple[str, ...]:
        """The models of a kind that the site has, sorted."""
        return tuple(sorted({model for layout in self.distinct_layouts for k, model, _ in layout.devices if k == kind}))

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
