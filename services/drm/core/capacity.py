"""What of a site's nodes is free, as columns; whether and where pods fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from services.drm.core.inventory import Inventory
from services.drm.core.models import one_model_each
from services.drm.core.packing import Ranking, assign, fitting, gang_order
from services.drm.model import WHOLE, Demand, Spot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.drm.core.fragmentation import Typical
    from services.drm.core.inventory import Ints, Mask, ViewKey
    from solyx.events import DeviceRequest

_RANKINGS = 256  # demands whose scores are kept


class Capacity:
    """Free capacity of a site's nodes. Below zero where an inventory shrank under its allocations: nothing fits there."""

    __slots__ = ("_changes", "_rankings", "_views", "cpu", "devices", "inventory", "memory", "open", "typical")

    def __init__(
        self,
        inventory: Inventory,
        *,
        cpu: Ints,
        memory: Ints,
        devices: Ints,
        open_nodes: Mask,
        typical: Typical | None = None,
    ) -> None:
        self.inventory = inventory
        self.cpu, self.memory, self.devices = cpu, memory, devices
        self.open = open_nodes  # where something may start; replaced, never changed in place
        self.typical = typical  # what the site expects; None: pack by best fit
        self._views: dict[ViewKey, tuple[Ints, Ints]] = {}  # free whole devices and the largest free share, by node
        self._rankings: dict[Demand, Ranking] = {}
        self._changes: list[int] = []  # nodes, in order; rankings know how far they have read

    @classmethod
    def empty(cls, inventory: Inventory, open_nodes: Mask, typical: Typical | None = None) -> Capacity:
        """The site with nothing on it."""
        return cls(
            inventory,
            cpu=inventory.cpu.copy(),
            memory=inventory.memory.copy(),
            devices=inventory.devices.copy(),
            open_nodes=open_nodes,
            typical=typical,
        )

    def plus(self, cpu: Ints, memory: Ints, devices: Ints) -> Capacity:
        """What is free with this added."""
        return Capacity(
            self.inventory,
            cpu=self.cpu + cpu,
            memory=self.memory + memory,
            devices=self.devices + devices,
            open_nodes=self.open,
            typical=self.typical,
        )

    def limited_by(self, other: Capacity) -> Capacity:
        """What is free in both."""
        return Capacity(
            self.inventory,
            cpu=np.minimum(self.cpu, other.cpu),
            memory=np.minimum(self.memory, other.memory),
            devices=np.minimum(self.devices, other.devices),
            open_nodes=self.open,
            typical=self.typical,
        )

    def limit(self, nodes: Sequence[int], first: Capacity, second: Capacity) -> None:
        """Set these nodes to what is free in both ``first`` and ``second``."""
        for node in nodes:
            self.cpu[node] = min(first.cpu[node], second.cpu[node])
            self.memory[node] = min(first.memory[node], second.memory[node])
            self.devices[node] = np.minimum(first.devices[node], second.devices[node])
            self._refresh(node)
        self._changed(nodes)

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
        self._changed([spot.node for spot in spots])

    def _refresh(self, node: int) -> None:
        if not self._views:
            return
        free = self.devices[node].tolist()
        layout = self.inventory.layouts[node].number
        for key, (whole, largest) in self._views.items():
            columns = self.inventory.view(key).columns[layout]
            if columns:
                shares = [free[column] for column in columns]
                whole[node] = shares.count(WHOLE)
                largest[node] = max(shares)

    def _changed(self, nodes: Sequence[int]) -> None:
        if not self._rankings:
            return
        changes = self._changes
        changes.extend(nodes)
        if len(changes) > 2 * self.cpu.size + 1024:
            # Whoever has not read that far is cheaper computed anew.
            self._rankings = {d: r for d, r in self._rankings.items() if r.position >= len(changes) - self.cpu.size}
            first = min((ranking.position for ranking in self._rankings.values()), default=len(changes))
            del changes[:first]
            for ranking in self._rankings.values():
                ranking.position -= first

    def free_devices(self, request: DeviceRequest) -> tuple[Ints, Ints]:
        """By node, of the devices that a request may use: how many are free as a whole, and the largest free share."""
        key = (request.kind, request.models)
        view = self._views.get(key)
        if view is None:
            mask = self.inventory.view(key).mask
            whole = np.count_nonzero(mask & (self.devices == WHOLE), axis=1).astype(np.int64)
            largest = np.where(mask, self.devices, 0).max(axis=1, initial=0)
            view = self._views[key] = (whole, largest)
        return view

    def holds_one(self, demand: Demand, node: int) -> bool:
        """Whether a node holds a pod, looking at each request by itself."""
        if self.cpu[node] < demand.cpu_milli or self.memory[node] < demand.memory_bytes or not self.open[node]:
            return False
        if self.inventory.is_tainted[node] and not self.inventory.tolerated(demand.tolerations)[node]:
            return False
        for request in demand.devices:
            whole, largest = self.free_devices(request)
            if (whole[node] < request.count) if request.share_milli == WHOLE else largest[node] < request.share_milli:
                return False
        return True

    def state(self, node: int) -> tuple[object, ...]:
        """All that tells a node from another for packing."""
        layout = self.inventory.layouts[node].number
        return (layout, int(self.cpu[node]), int(self.memory[node]), self.devices[node].tobytes())

    # ------------------------------------------------------------------------------------------------ where pods fit

    def place(self, demand: Demand) -> tuple[Spot, ...] | None:
        """Places for all pods of a gang, or None. Takes nothing.

        The simple algorithm: for each pod take the node with the least score. Pods of a gang are equal, and a node that
        was best for one has even less left for the next, so whole nodes are filled in the order of their score. Where that
        leaves the pods with different models, it is done again for each model that the gang takes, and the model is taken
        that holds all of it and whose best node has the least score; if none holds it, the models stay mixed.
        """
        ranking = self._ranking(demand)
        if demand.parallelism > 1:
            spots = self._place_gang(demand, ranking)
            return spots if spots is None or self._alike(spots) else self._on_one_model(demand) or spots
        best = ranking.best()
        if best is None:
            return None
        if not demand.devices:
            return (Spot(best, ()),)
        devices = assign(self, demand, best, self.devices[best].tolist(), int(ranking.columns[best]))
        assert devices is not None
        return (Spot(best, devices),)

    def fits(self, demand: Demand) -> bool:
        """Whether ``place`` finds places; cheaper where it is asked once."""
        if len(demand.devices) > 1:
            return self.place(demand) is not None
        if demand.parallelism == 1:
            return bool(fitting(self, demand).any())
        return self.count(demand) == demand.parallelism

    def lacks(self, demand: Demand) -> tuple[int, ...]:
        """Of which resources there is too little, in the order of ``quotas.RESOURCES``; none where it fits.

        Those that are not free in any places by themselves; if each by itself is, they are free in different places: all that it asks for.
        """
        if self.fits(demand):
            return ()
        asked = tuple(index for index, part in enumerate(demand.parts()) if part is not None)
        return self._lacks_alone(demand) or asked

    def _lacks_alone(self, demand: Demand) -> tuple[int, ...]:
        parts = enumerate(demand.parts())
        return tuple(index for index, part in parts if part is not None and not self.fits(part))

    def lack_words(self, demand: Demand) -> str:
        """For people: of what by itself there is too little for it, ``CPU and gpu``; nothing where that is no matter of one resource."""
        names = ("CPU", "memory", demand.kind_words())
        return " and ".join(names[index] for index in self._lacks_alone(demand))

    def fits_on(self, demand: Demand, nodes: Ints, cpu: Ints, memory: Ints, devices: Ints) -> bool:
        """Whether one of these nodes holds a pod with so much more free; of one request for devices at most."""
        fit = self.open[nodes] & (self.cpu[nodes] + cpu >= demand.cpu_milli)
        fit &= self.memory[nodes] + memory >= demand.memory_bytes
        if self.inventory.any_tainted:
            fit &= self.inventory.tolerated(demand.tolerations)[nodes]
        for request in demand.devices:
            free = self.devices[nodes] + devices >= request.share_milli
            allowed = self.inventory.view((request.kind, request.models)).mask[nodes]
            count = request.count if request.share_milli == WHOLE else 1
            fit &= np.count_nonzero(free & allowed, axis=1) >= count
        return bool(fit.any())

    def count(self, demand: Demand) -> int:
        """How many of the gang's pods fit at the same time, at most all of them."""
        nodes = self._ranking(demand).fit_nodes() if demand in self._rankings else fitting(self, demand).nonzero()[0]
        return min(int(self._pods_by_node(demand, nodes).sum()), demand.parallelism) if nodes.size else 0

    def behind_taints(self, demand: Demand) -> tuple[int, tuple[str, ...]]:
        """How many more of the gang's pods would fit if they tolerated every taint, and the taints in the way."""
        inventory = self.inventory
        if not inventory.any_tainted:
            return 0, ()
        everything = tuple(sorted({taint for taints in inventory.taints for taint in taints}))
        bold = msgspec.structs.replace(demand, tolerations=everything)
        nodes = (fitting(self, bold) & ~inventory.tolerated(demand.tolerations)).nonzero()[0]
        if not nodes.size:
            return 0, ()
        taints = {taint for node in nodes.tolist() for taint in inventory.taints[node]} - set(demand.tolerations)
        return self.count(bold) - self.count(demand), tuple(sorted(taints))

    def _ranking(self, demand: Demand) -> Ranking:
        ranking = self._rankings.get(demand)
        if ranking is None:
            if len(self._rankings) >= _RANKINGS:
                del self._rankings[next(iter(self._rankings))]
            ranking = self._rankings[demand] = Ranking(self, demand)
        else:
            ranking.update(self, self._changes[ranking.position :])
        ranking.position = len(self._changes)
        return ranking

    def _pods_by_node(self, demand: Demand, nodes: Ints) -> Ints:
        pods = np.full(nodes.size, demand.parallelism, dtype=np.int64)
        if demand.cpu_milli:
            pods = np.minimum(pods, self.cpu[nodes] // demand.cpu_milli)
        if demand.memory_bytes:
            pods = np.minimum(pods, self.memory[nodes] // demand.memory_bytes)
        for request in demand.devices:
            if request.share_milli == WHOLE:
                pods = np.minimum(pods, self.free_devices(request)[0][nodes] // request.count)
            else:
                mask = self.inventory.view((request.kind, request.models)).mask[nodes]
                shares = np.where(mask, self.devices[nodes], 0) // request.share_milli
                pods = np.minimum(pods, shares.sum(axis=1) // request.count)
        return pods

    def _alike(self, spots: tuple[Spot, ...]) -> bool:
        """Whether all pods have devices of the same models."""
        if not self.inventory.several_models:
            return True
        layouts = self.inventory.layouts
        models = {tuple(sorted(layouts[spot.node].devices[column][:2] for column, _ in spot.devices)) for spot in spots}
        return len(models) == 1

    def _on_one_model(self, demand: Demand) -> tuple[Spot, ...] | None:
        """The gang with the same models for all its pods: mixed, those with the quicker devices would wait for the others."""
        found: list[tuple[int, int, tuple[Spot, ...]]] = []
        for number, variant in enumerate(one_model_each(demand, self.inventory)):
            ranking = self._ranking(variant)
            spots = self._place_gang(variant, ranking)
            if spots is not None:
                found.append((int(ranking.scores.min()), number, spots))
        return min(found)[2] if found else None

    def _place_gang(self, demand: Demand, ranking: Ranking) -> tuple[Spot, ...] | None:
        nodes = ranking.fit_nodes()
        if not nodes.size:
            return None
        pods = self._pods_by_node(demand, nodes)
        if int(pods.sum()) < demand.parallelism:
            return None
        spots: list[Spot] = []
        for position in gang_order(self, nodes, ranking.scores[nodes], pods, demand.parallelism):
            node = int(nodes[position])
            free = self.devices[node].tolist()
            for _ in range(min(int(pods[position]), demand.parallelism - len(spots))):
                devices = assign(self, demand, node, free)
                if devices is None:
                    break
                spots.append(Spot(node, devices))
            if len(spots) == demand.parallelism:
                return tuple(spots)
        return None
