"""What typical pods could still use of a node's devices, and how much of that a placement takes away.

Fragmentation gradient descent (Weng et al., "Beware of Fragmentation: Scheduling GPU-Sharing Workloads with Fragmentation
Gradient Descent", USENIX ATC 2023, sections 3 and 4): of a node's idle devices, what a class of pods cannot use is a fragment
to it; a node's fragmentation is the mean over the typical pods, the most frequent classes up to 95 % of all; a pod goes
where it adds least. Since what it takes itself is the same everywhere, that is where the typical pods lose least.

Two things are added, because the paper's measure only asks whether *one* more pod of a class fits:

1. How many fit. A node's worth to a class is also the devices that it would fill with pods of that class alone, which CPU,
   memory and shares bound together; so CPU that GPUs will need is kept before it is gone, not when.
2. There the small shares count most, by the cube: they are what fills the rest that others leave.

All weights and amounts are whole numbers below 2^53, so a sum is exact in any order and an incremental score is equal to one
that is computed anew.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from services.drm.model import WHOLE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from services.drm.core.inventory import Floats, Ints, Inventory, Mask
    from services.drm.model import Demand

TYPICAL_SHARE = 0.95
"""Of all pods, how many the typical classes make up (Weng et al., section 6.1)."""
MIN_HISTORY = 10
"""Pods with devices below which nothing is called typical yet. Few are enough: the first placements are the hardest to mend."""
MAX_HISTORY = 20_000
"""Pods at which all counts are halved: older demand fades, and the state stays small."""
MATERIAL_CHANGE = 0.05
"""The share of the distribution that must have moved before scores are computed anew."""
_SCALE = 2**20
_FILL = 0.5  # the weight of how many fit against whether one fits; chosen on perturbed traces, flat from 0.3 to 0.7
_SMALLNESS = 3
_UNBOUNDED = 2.0**50


class PodClass(msgspec.Struct, frozen=True, order=True):
    """What one pod asks for; ``count`` is 0 without devices."""

    cpu_milli: int
    memory_bytes: int
    kind: str = ""
    models: tuple[str, ...] = ()
    count: int = 0
    share_milli: int = 0


def pod_class(demand: Demand) -> PodClass:
    """The class of a demand's pods. Of several requests for devices the largest speaks for all."""
    if not demand.devices:
        return PodClass(demand.cpu_milli, demand.memory_bytes)
    request = max(demand.devices, key=lambda r: r.count * r.share_milli)
    return PodClass(
        demand.cpu_milli, demand.memory_bytes, request.kind, request.models, request.count, request.share_milli
    )


class History:
    """How often each class of pods was asked for, of late.

    Losing it loses no promise: it says which of the places that fit is taken, never whether a job starts. After a restart it
    grows again from what waits and runs.
    """

    def __init__(self) -> None:
        self.typical: Typical | None = None  # None: too little is known, nobody shares devices, or few use any
        self._counts: Counter[PodClass] = Counter()
        self._noted = 0
        self._due_at = MIN_HISTORY

    def note(self, demand: Demand) -> None:
        """A job with these pods has come."""
        self._counts[pod_class(demand)] += demand.parallelism
        self._noted += demand.parallelism

    def refresh(self) -> bool:
        """Take up what was noted; whether ``typical`` has changed. What came since the last call counts in any order."""
        if self._noted < self._due_at:
            return False
        if self._noted > MAX_HISTORY:
            self._counts = Counter({key: count // 2 for key, count in self._counts.items() if count > 1})
            self._noted = self._counts.total()
        self._due_at = self._noted + max(self._noted // 8, MIN_HISTORY)
        shares = any(0 < key.share_milli < WHOLE for key in self._counts)
        if not shares or sum(count for key, count in self._counts.items() if key.count) < MIN_HISTORY:
            changed = self.typical is not None
            self.typical = None
            return changed
        if self.typical is not None and self.typical.distance(self._counts) < MATERIAL_CHANGE:
            return False
        typical = Typical(self._counts)
        if not typical.uses_devices:  # its losses would all be equal: best fit looks at devices
            changed = self.typical is not None
            self.typical = None
            return changed
        self.typical = typical
        return True


class Typical:
    """The typical pods as columns, and what nodes are worth to them."""

    def __init__(self, counts: Mapping[PodClass, int]) -> None:
        """``counts``: how often each class was asked for."""
        total = sum(counts.values())
        self.shares = {key: count / total for key, count in counts.items()}
        classes: list[tuple[PodClass, int]] = []
        covered = 0
        for key, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
            if covered >= TYPICAL_SHARE * total:
                break
            covered += count
            classes.append((key, count))
        classes = [(key, count) for key, count in classes if key.count]
        self.uses_devices = bool(classes)  # False: pods with devices are too rare to be typical
        groups = list(dict.fromkeys((key.kind, key.models, key.share_milli) for key, _ in classes))
        self._groups = groups
        self._group_of: Ints = np.array(
            [groups.index((k.kind, k.models, k.share_milli)) for k, _ in classes], dtype=np.int64
        )
        self._cpu: Floats = np.array([max(key.cpu_milli, 1) for key, _ in classes], dtype=np.float64)
        self._no_cpu: Floats = np.array([0.0 if key.cpu_milli else _UNBOUNDED for key, _ in classes])
        self._memory: Floats = np.array([max(key.memory_bytes, 1) for key, _ in classes], dtype=np.float64)
        self._no_memory: Floats = np.array([0.0 if key.memory_bytes else _UNBOUNDED for key, _ in classes])
        self._count: Floats = np.array([key.count for key, _ in classes], dtype=np.float64)
        asked: Floats = np.array([key.count * key.share_milli for key, _ in classes], dtype=np.float64)
        often: Floats = np.array([count for _, count in classes], dtype=np.float64)
        small = often / asked**_SMALLNESS
        self._one_fits: Floats = np.floor(_SCALE * (1 - _FILL) * often / max(covered, 1))
        self._each_that_fits: Floats = np.floor(_SCALE * _FILL * small / max(small.sum(), 1e-300)) * asked
        free: Ints = np.arange(WHOLE + 1, dtype=np.int64)[:, None]
        share: Ints = np.array([group[2] for group in groups], dtype=np.int64)[None, :]
        self._usable: Floats = np.where(free >= share, free, 0).astype(np.float64)  # by free share and group
        self._copies: Floats = (free // np.maximum(share, 1)).astype(np.float64)
        self._access: dict[int, tuple[Inventory, Floats]] = {}

    def distance(self, counts: Mapping[PodClass, int]) -> float:
        """The total variation between these counts and those that it was made of."""
        total = sum(counts.values())
        keys = self.shares.keys() | counts.keys()
        return sum(abs(self.shares.get(key, 0.0) - counts.get(key, 0) / total) for key in keys) / 2

    # --------------------------------------------------------------------------------------------- what nodes are worth

    def sums(self, inventory: Inventory, nodes: Ints, devices: Ints) -> tuple[Floats, Floats]:
        """What each group could use of each node's devices, in thousandths, and how many of its shares they hold."""
        free = np.minimum(np.maximum(devices, 0), WHOLE)
        access = self._access_of(inventory)[inventory.layout_of[nodes]]
        return (self._usable[free] * access).sum(axis=1), (self._copies[free] * access).sum(axis=1)

    def worth(self, cpu: Ints, memory: Ints, usable: Floats, copies: Floats) -> Floats:
        """What the typical pods could use of nodes with this much free; by node."""
        fit = np.floor((cpu[:, None] + self._no_cpu) / self._cpu)
        np.minimum(fit, np.floor((memory[:, None] + self._no_memory) / self._memory), out=fit)
        np.minimum(fit, np.floor(copies[:, self._group_of] / self._count), out=fit)
        np.maximum(fit, 0.0, out=fit)
        return (usable[:, self._group_of] * (fit > 0.0)) @ self._one_fits + fit @ self._each_that_fits

    def taking(
        self, inventory: Inventory, nodes: Ints, columns: Ints, free: Ints, share_milli: int
    ) -> tuple[Floats, Floats]:
        """By how much ``sums`` shrinks when a share is taken of one device, of which this much is free; by node."""
        access = self._access_of(inventory)[inventory.layout_of[nodes], columns]
        left = free - share_milli
        return (self._usable[free] - self._usable[left]) * access, (self._copies[free] - self._copies[left]) * access

    def _access_of(self, inventory: Inventory) -> Floats:
        """Which groups may use which devices: layouts × devices × groups."""
        known = self._access.get(id(inventory))
        if known is None or known[0] is not inventory:
            access: Mask = np.zeros(
                (len(inventory.distinct_layouts), inventory.width, len(self._groups)), dtype=np.bool_
            )
            for number, (kind, models, _) in enumerate(self._groups):
                access[:, :, number] = inventory.view((kind, models)).by_layout
            known = (inventory, access.astype(np.float64))
            self._access = {id(inventory): known}
        return known[1]
