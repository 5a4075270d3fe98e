"""What is known of one series, in equal steps; a gap stays a gap."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.forecaster.core.sketch import Floats

_ROOM = 256


class History:
    """Values of a series in steps of ``step_s`` seconds. Each slot keeps the value with the highest stamp it was given."""

    def __init__(self, step_s: int, keep_s: float) -> None:
        """``keep_s``: how far back from the newest value it reaches at least."""
        self.step_s = step_s
        self.version = 0
        self._keep = int(keep_s // step_s) + 1
        self._first = 0  # slot of _values[0]; a slot is Unix time // step_s
        self._values: Floats = np.full(0, np.nan)
        self._stamps: Floats = np.full(0, -np.inf)
        self._newest = -(1 << 62)  # slot

    def put(self, start_s: float, values: Sequence[float | None], stamp: float) -> None:
        """Take ``values`` from ``start_s`` (a multiple of the step) on; None says nothing."""
        if not values:
            return
        slot = int(start_s // self.step_s)
        new = np.array(values, np.float64)
        known = np.flatnonzero(np.isfinite(new))
        if not len(known):
            return
        newest = max(self._newest, slot + int(known[-1]))
        oldest = newest - self._keep
        if slot < oldest:
            new, slot = new[oldest - slot :], oldest
            if not len(new):
                return
        self._reach(slot, slot + len(new), oldest)
        at = slice(slot - self._first, slot - self._first + len(new))
        better = np.isfinite(new) & (stamp >= self._stamps[at])
        if bool((better & (new != self._values[at])).any()):
            self.version += 1
        self._values[at][better] = new[better]
        self._stamps[at][better] = stamp
        self._newest = newest

    def _reach(self, first: int, end: int, oldest: int) -> None:
        """Make room for the slots from ``first`` to ``end``, and drop those before ``oldest``."""
        if len(self._values) and first >= self._first and end <= self._first + len(self._values):
            return
        low = first if not len(self._values) else max(min(first, self._first), oldest)
        high = max(end, self._first + len(self._values) if len(self._values) else end) + _ROOM
        values, stamps = np.full(high - low, np.nan), np.full(high - low, -np.inf)
        if len(self._values):
            begin = max(low, self._first)
            kept = slice(begin - self._first, len(self._values))
            values[begin - low : begin - low + len(self._values[kept])] = self._values[kept]
            stamps[begin - low : begin - low + len(self._stamps[kept])] = self._stamps[kept]
        self._first, self._values, self._stamps = low, values, stamps

    @property
    def end_s(self) -> int | None:
        """The end of the last known step, Unix time in s; None: nothing is known."""
        return (self._newest + 1) * self.step_s if len(self._values) else None

    def until(self, before_s: int) -> tuple[Floats, int]:
        """The values before ``before_s`` up to the newest known of them, and where that one ends; NaN: a gap."""
        end = max(0, min(before_s // self.step_s, self._newest + 1) - self._first)
        known = np.flatnonzero(np.isfinite(self._values[:end]))
        last = int(known[-1]) + 1 if len(known) else 0
        return self._values[:last], (self._first + last) * self.step_s

    def between(self, start_s: int, steps: int) -> Floats:
        """The values of ``steps`` steps from ``start_s`` on; NaN where nothing is known."""
        slot = start_s // self.step_s
        out = np.full(steps, np.nan)
        low, high = max(slot, self._first), min(slot + steps, self._first + len(self._values))
        if low < high:
            out[low - slot : high - slot] = self._values[low - self._first : high - self._first]
        return out

    def in_steps_of(self, step_s: int, start_s: int, steps: int) -> Floats:
        """As ``between``, in other steps: shorter ones repeat a value, longer ones are the mean of theirs, NaN where one is missing."""
        first = start_s // self.step_s * self.step_s
        count = -(-(start_s + steps * step_s - first) // self.step_s)
        piece_s = math.gcd(self.step_s, step_s, start_s - first)
        pieces = np.repeat(self.between(first, count), self.step_s // piece_s)[(start_s - first) // piece_s :]
        return pieces[: steps * step_s // piece_s].reshape(steps, -1).mean(axis=1)


def leading(values: Floats) -> int:
    """How many leading values are known."""
    missing = np.flatnonzero(~np.isfinite(values))
    return int(missing[0]) if len(missing) else len(values)
