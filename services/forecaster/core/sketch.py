"""Quantiles of many series at a time: exact for up to 128 samples a series, a compactor sketch with a rank bound above.

Up to ``CAPACITY`` samples every one is kept, and a quantile is the exact order statistic ``sorted(samples)[⌈q·n⌉ − 1]``.
A full buffer is then *compacted*: sorted, every second sample kept, each standing for two, and handed to the next level
(Manku, Rajagopalan, Lindsay: "Approximate medians and other quantiles in one pass and with limited memory", SIGMOD 1998,
section 3; the level scheme is that of Karnin, Lang, Liberty: "Optimal quantile approximation in streams", FOCS 2016).
Whether the odd or the even ones stay alternates instead of being drawn, so that the same samples give the same sketch.
The rank of a quantile is off by at most ``log2(n / CAPACITY) · n / CAPACITY`` samples, in practice by well under 1 % of n.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Sequence

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Columns: TypeAlias = "slice | Ints"

CAPACITY = 128  # samples of one level; even
_FIRST_CAPACITY = 8


class Level:
    """A buffer of samples of equal weight: row = series, ``fill[i]`` samples in row i, in no order."""

    __slots__ = ("fill", "odd", "uniform", "values")

    def __init__(self, series: int, capacity: int) -> None:
        self.values: Floats = np.full((series, capacity), np.inf)
        self.fill: Ints = np.zeros(series, np.int64)
        self.odd: npt.NDArray[np.bool_] = np.zeros(series, np.bool_)  # which half stays at the next compaction
        self.uniform = 0  # the fill of every row, while it is the same; -1 when it is not

    def widen(self, capacity: int) -> None:
        """Make room for ``capacity`` samples a series."""
        series, old = self.values.shape
        wider = np.full((series, capacity), np.inf)
        wider[:, :old] = self.values
        self.values = wider

    def grow(self, series: int) -> None:
        """Make room for ``series`` rows."""
        old, capacity = self.values.shape
        taller = np.full((series, capacity), np.inf)
        taller[:old] = self.values
        self.values = taller
        self.fill = np.concatenate([self.fill, np.zeros(series - old, np.int64)])
        self.odd = np.concatenate([self.odd, np.zeros(series - old, np.bool_)])
        self.uniform = int(self.fill[0]) if bool((self.fill == self.fill[0]).all()) else -1


class Sketch:
    """The quantile sketches of all series of a pane. Level ``l`` holds samples that stand for 2^l samples each."""

    __slots__ = ("_series", "levels")

    def __init__(self, series: int) -> None:
        self._series = series
        self.levels: list[Level] = [Level(series, _FIRST_CAPACITY)]

    def grow(self, series: int) -> None:
        """Make room for ``series`` rows."""
        if series > self._series:
            self._series = series
            for level in self.levels:
                level.grow(series)

    def add(self, columns: Columns, values: Floats) -> None:
        """Add one sample to each of the rows ``columns`` (no row twice)."""
        level = self.levels[0]
        everything = isinstance(columns, slice) and columns == slice(0, self._series)
        if everything and level.uniform >= 0:
            if level.uniform == level.values.shape[1]:
                level.widen(2 * level.uniform)
            level.values[:, level.uniform] = values
            level.uniform += 1
            level.fill[:] = level.uniform
            if level.uniform == CAPACITY:
                self._compact(0, np.arange(self._series))
            return
        rows = np.arange(columns.start, columns.stop) if isinstance(columns, slice) else columns
        at = level.fill[rows]
        if int(at.max()) >= level.values.shape[1]:
            level.widen(2 * level.values.shape[1])
        level.values[rows, at] = values
        level.fill[rows] = at + 1
        level.uniform = -1
        full = rows[at + 1 == CAPACITY]
        if len(full):
            self._compact(0, full)

    def _compact(self, number: int, rows: Ints) -> None:
        """Move half of the full ``rows`` of a level, each sample with twice the weight, one level up."""
        level = self.levels[number]
        if number + 1 == len(self.levels):
            self.levels.append(Level(self._series, CAPACITY))
        above = self.levels[number + 1]
        ordered = np.sort(level.values[rows], axis=1)
        odd = level.odd[rows]
        kept = np.where(odd[:, None], ordered[:, 1::2], ordered[:, 0::2])
        level.odd[rows] = ~odd
        level.values[rows] = np.inf
        level.fill[rows] = 0
        level.uniform = 0 if len(rows) == self._series else -1
        at = above.fill[rows]
        above.values[rows[:, None], at[:, None] + np.arange(CAPACITY // 2)] = kept
        above.fill[rows] = at + CAPACITY // 2
        above.uniform = -1
        full = rows[at + CAPACITY // 2 == CAPACITY]
        if len(full):
            self._compact(number + 1, full)

    def points(self, rows: Columns) -> list[tuple[int, Floats]]:
        """Per level its weight and the samples of ``rows``; +∞ where a row has fewer samples than others."""
        taken: list[tuple[int, Floats]] = []
        for number, level in enumerate(self.levels):
            deepest = int(level.fill[rows].max()) if self._series else 0
            if deepest:
                taken.append((1 << number, level.values[rows, :deepest]))
        return taken


def quantiles(points: Sequence[tuple[int, Floats]], counts: Ints, levels: Sequence[float]) -> list[Floats]:
    """For each of ``levels`` the order statistic of rank ⌈q·n⌉ of every row.

    ``points`` are blocks of (weight, samples of shape rows × k, padded with +∞); ``counts`` says how many samples a row
    stands for in all.
    """
    values = points[0][1] if len(points) == 1 else np.concatenate([block for _, block in points], axis=1)
    ranks = [np.clip(np.ceil(level * counts - 1e-9).astype(np.int64), 1, counts) for level in levels]
    rows = np.arange(len(counts))
    if all(weight == 1 for weight, _ in points):
        ordered = np.sort(values, axis=1)
        return [ordered[rows, rank - 1] for rank in ranks]
    weights = np.concatenate([np.full(block.shape[1], weight) for weight, block in points])
    order = np.argsort(values, axis=1)
    ordered = np.take_along_axis(values, order, axis=1)
    reached = np.cumsum(weights[order], axis=1)
    return [ordered[rows, (reached >= rank[:, None]).argmax(axis=1)] for rank in ranks]
