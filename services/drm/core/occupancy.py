"""Who holds what until when, as columns: what will be free at a time is one masked sum."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from services.drm.model import IMMINENT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.drm.core.inventory import Floats, Ints, Mask
    from services.drm.model import Holding

_NEVER = float("inf")


class _Rows:
    """Amounts at places, each with the time at which it becomes free. Freed rows are used again."""

    def __init__(self, amounts: int) -> None:
        self.end_s: Floats = np.full(64, _NEVER)
        self.place: Ints = np.zeros(64, dtype=np.int64)
        self.amounts: Ints = np.zeros((amounts, 64), dtype=np.int64)
        self._free = list(range(63, -1, -1))

    def add(self, end_s: float, place: int, amounts: Sequence[int]) -> int:
        if not self._free:
            size = self.end_s.size
            self.end_s = np.concatenate([self.end_s, np.full(size, _NEVER)])
            self.place = np.concatenate([self.place, np.zeros(size, dtype=np.int64)])
            self.amounts = np.concatenate([self.amounts, np.zeros_like(self.amounts)], axis=1)
            self._free = list(range(2 * size - 1, size - 1, -1))
        row = self._free.pop()
        self.end_s[row], self.place[row] = end_s, place
        for column, amount in enumerate(amounts):
            self.amounts[column, row] = amount
        return row

    def remove(self, row: int) -> None:
        self.end_s[row] = _NEVER
        self._free.append(row)

    def freed(self, ending: Mask, places: int) -> list[Ints]:
        rows = ending.nonzero()[0]
        at = self.place[rows]
        # Weights are doubles: sums of bytes are exact up to 2^53, eight pebibytes a node.
        return [
            np.bincount(at, weights=column[rows], minlength=places).astype(np.int64)[:places] for column in self.amounts
        ]


class Occupancy:
    """The pods and devices of all holdings of a site."""

    def __init__(self, nodes: int, width: int) -> None:
        self._nodes, self._width = nodes, width
        self._pods = _Rows(2)
        self._devices = _Rows(1)

    def add(self, holding: Holding) -> None:
        """Enter a holding with its spots and estimated end."""
        demand, end_s = holding.demand, holding.end_s
        amounts = (demand.cpu_milli, demand.memory_bytes)
        pods = [self._pods.add(end_s, spot.node, amounts) for spot in holding.spots]
        devices = [
            self._devices.add(end_s, spot.node * self._width + column, (share,))
            for spot in holding.spots
            for column, share in spot.devices
        ]
        holding.rows = (pods, devices)

    def remove(self, holding: Holding) -> None:
        """Strike a holding out."""
        for row in holding.rows[0]:
            self._pods.remove(row)
        for row in holding.rows[1]:
            self._devices.remove(row)
        holding.rows = ([], [])

    def set_end(self, holding: Holding) -> None:
        """Its estimated end changed."""
        self._pods.end_s[holding.rows[0]] = holding.end_s
        if holding.rows[1]:
            self._devices.end_s[holding.rows[1]] = holding.end_s

    def ends(self, pods: int) -> Floats:
        """The estimated ends of the ``pods`` that end first, ascending, each once."""
        ends = self._pods.end_s
        if pods < ends.size:
            ends = np.partition(ends, pods)[:pods]
        ends = np.unique(ends)
        return ends[ends < _NEVER]

    @property
    def pods(self) -> int:
        """At least as many as there are."""
        return self._pods.end_s.size

    def freed_on(self, time_s: float) -> tuple[Ints, Ints, Ints, Ints]:
        """The nodes on which something will be free by a time, and how much: ``freed_by`` without the others."""
        pods, devices = self._pods, self._devices
        rows = (pods.end_s <= time_s).nonzero()[0]
        nodes, position = np.unique(pods.place[rows], return_inverse=True)
        cpu, memory = (np.bincount(position, column[rows], nodes.size).astype(np.int64) for column in pods.amounts)
        rows = (devices.end_s <= time_s).nonzero()[0]
        node, column = np.divmod(devices.place[rows], max(self._width, 1))
        place = np.searchsorted(nodes, node) * self._width + column
        shares = np.bincount(place, devices.amounts[0][rows], nodes.size * self._width).astype(np.int64)
        return nodes, cpu, memory, shares.reshape(nodes.size, self._width)

    def freed_by(self, time_s: float) -> tuple[Ints, Ints, Ints]:
        """CPU and memory by node, and devices by node and column, that will be free at a time, beyond what is free now."""
        return self._freed(self._pods.end_s <= time_s, self._devices.end_s <= time_s)

    def freed_between(self, first_s: float, last_s: float) -> tuple[bool, tuple[Ints, Ints, Ints]]:
        """Whether anything is expected to end between two times, and what that and all that was told to stop leaves free."""
        pods, devices = self._pods.end_s, self._devices.end_s
        expected = (pods >= first_s) & (pods <= last_s)
        also = (devices >= first_s) & (devices <= last_s)
        return bool(expected.any()), self._freed(expected | (pods == IMMINENT), also | (devices == IMMINENT))

    def _freed(self, pods: Mask, devices: Mask) -> tuple[Ints, Ints, Ints]:
        cpu, memory = self._pods.freed(pods, self._nodes)
        (shares,) = self._devices.freed(devices, self._nodes * self._width)
        return cpu, memory, shares.reshape(self._nodes, self._width)
