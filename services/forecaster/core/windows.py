"""Samples to windows, pure: events of one source in, aggregates of its series in tumbling and hopping windows out.

The simple algorithm: keep every sample of a window in a set of (series, time) and aggregate the set when asked. The fast one
is equal to it: time is cut into *panes* (the greatest common divisor of all window sizes and hops); a pane keeps its series
as a struct of arrays that one event updates with a dozen vector operations; a window is the merge of its panes
("No pane, no gain", Li et al., SIGMOD Record 2005). Per pane the times already seen are kept with the series seen at each,
so a repeated sample changes nothing.

Time is event time, in whole microseconds since the Unix epoch. The watermark of a source is its newest sample. A sample is
*late* when its pane ended more than the allowed lateness before the watermark; it is counted and dropped. Otherwise it goes to
its window, whose next aggregate replaces the earlier one.
"""

from __future__ import annotations

from enum import StrEnum
from math import gcd
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from services.forecaster.core.sketch import Columns, Floats, Ints, Sketch, quantiles
from services.forecaster.model import QUANTILE_LEVELS, Aggregate, WindowSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Mask: TypeAlias = npt.NDArray[np.bool_]

SECOND_US = 1_000_000
_FUTURE_TOLERANCE_US = 3600 * SECOND_US
"""A sample further ahead of the present is a wrong clock; as the watermark it would make everything after it late."""


class Refusal(StrEnum):
    """Why a sample is in no window."""

    REPEATED = "repeated"
    LATE = "late"
    FUTURE = "future"
    NOT_FINITE = "not_finite"
    TOO_MANY_SERIES = "too_many_series"


class Layout:
    """The series of an event, in its order. Events of one scrape target share one layout, which is what makes them cheap.

    ``shared``: the layout comes again, so panes remember where its series are.
    """

    __slots__ = ("length", "names", "picked", "shared")

    def __init__(self, names: Sequence[str], *, shared: bool = False) -> None:
        self.shared = shared
        self.length = len(names)
        first: dict[str, int] = {}
        for position, name in enumerate(names):
            first.setdefault(name, position)
        self.names = tuple(first)
        # A series named twice in one event is one sample; None: each name occurs once.
        self.picked: Ints | None = None if len(first) == len(names) else np.fromiter(first.values(), np.int64)


class Pane:
    """All series of a source in one pane."""

    def __init__(self, start_us: int) -> None:
        self.start_us = start_us
        self.names: list[str] = []
        self.count: Ints = np.zeros(0, np.int64)
        self.total: Floats = np.zeros(0)
        self.least: Floats = np.zeros(0)
        self.most: Floats = np.zeros(0)
        self.last: Floats = np.zeros(0)
        self.last_us: Ints = np.zeros(0, np.int64)
        self.newest_us = -(1 << 62)
        self.seen: dict[int, Mask] = {}  # sample time -> series that have a sample of that time
        self.sketch = Sketch(0)
        self.changed = False  # since its windows were last marked as due
        self.unsaved = False  # since its table rows were last written
        self.saved = False  # has rows in the table
        self._index: dict[str, int] = {}
        self._columns: dict[Layout, Columns] = {}

    def columns(self, layout: Layout, most_series: int) -> Columns | None:
        """Where the series of ``layout`` are; None when the pane may hold no more series."""
        known = self._columns.get(layout)
        if known is None:
            new = [name for name in layout.names if name not in self._index]
            if len(self.names) + len(new) > most_series:
                return None
            self._grow(new)
            known = np.fromiter((self._index[name] for name in layout.names), np.int64, len(layout.names))
            if len(known) and bool((np.diff(known) == 1).all()):
                known = slice(int(known[0]), int(known[-1]) + 1)
            if layout.shared:
                self._columns[layout] = known
        return known

    def _grow(self, new: Sequence[str]) -> None:
        if not new:
            return
        for name in new:
            self._index[name] = len(self.names)
            self.names.append(name)
        more = len(new)
        self.count = np.concatenate([self.count, np.zeros(more, np.int64)])
        self.total = np.concatenate([self.total, np.zeros(more)])
        self.least = np.concatenate([self.least, np.full(more, np.inf)])
        self.most = np.concatenate([self.most, np.full(more, -np.inf)])
        self.last = np.concatenate([self.last, np.zeros(more)])
        self.last_us = np.concatenate([self.last_us, np.full(more, -(1 << 62), np.int64)])
        self.seen = {at: np.concatenate([mask, np.zeros(more, np.bool_)]) for at, mask in self.seen.items()}
        self.sketch.grow(len(self.names))

    def unseen(self, at_us: int, columns: Columns) -> Mask | None:
        """Which of ``columns`` have no sample of this time yet; None: all of them. They are taken as seen from now on."""
        mask = self.seen.get(at_us)
        if mask is None:
            mask = self.seen[at_us] = np.zeros(len(self.names), np.bool_)
            mask[columns] = True
            return None
        fresh = ~mask[columns]
        mask[columns] = True
        return fresh

    def add(self, at_us: int, columns: Columns, values: Floats) -> None:
        """One new sample of each of ``columns``."""
        self.count[columns] += 1
        self.total[columns] += values
        self.least[columns] = np.minimum(self.least[columns], values)
        self.most[columns] = np.maximum(self.most[columns], values)
        if at_us >= self.newest_us:
            self.newest_us = at_us
            self.last[columns] = values
            self.last_us[columns] = at_us
        else:
            newer = self.last_us[columns] < at_us
            self.last[columns] = np.where(newer, values, self.last[columns])
            self.last_us[columns] = np.where(newer, at_us, self.last_us[columns])
        self.sketch.add(columns, values)


class SourceWindows:
    """The panes of one source and what its windows hold."""

    def __init__(self, specs: Sequence[WindowSpec], *, lateness_s: float, most_series: int) -> None:
        """``specs``: sizes and hops of the windows. ``most_series``: series that a pane holds at most."""
        self.specs = tuple(specs)
        self.pane_us = SECOND_US * gcd(*(number for spec in specs for number in (spec.size_s, spec.hop_s)))
        self.lateness_us = int(lateness_s * SECOND_US)
        self.watermark_us = -(1 << 62)
        self.panes: dict[int, Pane] = {}
        self.changed: list[Pane] = []
        self._most_series = most_series

    def fold(
        self, layout: Layout, values: Floats, at_us: int, now_us: int, refused: dict[Refusal, int] | None = None
    ) -> int:
        """Put one sample of each series of ``layout``, all taken at ``at_us``, into its pane. Returns how many were new."""
        if layout.picked is not None:
            values = values[layout.picked]
        refused = {} if refused is None else refused
        start_us = at_us - at_us % self.pane_us
        reason = self._refusal(start_us, at_us, now_us)
        pane = self.panes.get(start_us) or Pane(start_us)
        columns = None if reason is not None else pane.columns(layout, self._most_series)
        if reason is not None or columns is None or not len(values):
            _tally(refused, reason or Refusal.TOO_MANY_SERIES, len(values))
            return 0
        self.panes[start_us] = pane
        finite = np.isfinite(values)
        if not finite.all():
            columns = _rows(columns)[finite]
            _tally(refused, Refusal.NOT_FINITE, len(values) - len(columns))
            values = values[finite]
        self.watermark_us = max(self.watermark_us, at_us)
        fresh = pane.unseen(at_us, columns)
        if fresh is not None and not fresh.all():
            _tally(refused, Refusal.REPEATED, int((~fresh).sum()))
            columns, values = _rows(columns)[fresh], values[fresh]
        if len(values):
            pane.add(at_us, columns, values)
            pane.unsaved = True
            if not pane.changed:
                pane.changed = True
                self.changed.append(pane)
        return len(values)

    def fold_timed(
        self,
        names: Sequence[str],
        values: Floats,
        times_us: Ints,
        now_us: int,
        refused: dict[Refusal, int] | None = None,
    ) -> int:
        """As ``fold`` with a name and a time for each sample: a batch of a remote write holds a series at several times."""
        folded = 0
        for at_us, positions in _by_time(times_us):
            part = Layout([names[int(position)] for position in positions])
            folded += self.fold(part, values[positions], at_us, now_us, refused)
        return folded

    def _refusal(self, start_us: int, at_us: int, now_us: int) -> Refusal | None:
        if start_us + self.pane_us + self.lateness_us <= self.watermark_us:
            return Refusal.LATE
        return Refusal.FUTURE if at_us > now_us + _FUTURE_TOLERANCE_US else None

    def windows_of(self, pane: Pane) -> Iterable[tuple[WindowSpec, int]]:
        """Every window (its spec, its start) that contains ``pane``."""
        for spec in self.specs:
            size, hop = spec.size_s * SECOND_US, spec.hop_s * SECOND_US
            start = pane.start_us - pane.start_us % hop
            while start + size >= pane.start_us + self.pane_us:
                yield spec, start
                start -= hop

    def aggregate(self, spec: WindowSpec, start_us: int) -> Aggregate | None:
        """What the window holds now; None where it holds nothing."""
        end_us = start_us + spec.size_s * SECOND_US
        panes = [self.panes[at] for at in range(start_us, end_us, self.pane_us) if at in self.panes]
        panes = [pane for pane in panes if pane.count.any()]
        return _merge(panes, start_us, end_us) if panes else None

    def is_over(self, pane: Pane) -> bool:
        """Whether no window of ``pane`` can change any more."""
        end_us = max(start + spec.size_s * SECOND_US for spec, start in self.windows_of(pane))
        return end_us + self.lateness_us <= self.watermark_us


def _rows(columns: Columns) -> Ints:
    return np.arange(columns.start, columns.stop) if isinstance(columns, slice) else columns


def _tally(refused: dict[Refusal, int], reason: Refusal, samples: int) -> None:
    refused[reason] = refused.get(reason, 0) + samples


def _by_time(times_us: Ints) -> Iterable[tuple[int, Ints]]:
    """The positions of each time, oldest first."""
    order = np.argsort(times_us, kind="stable")
    times, first = np.unique(times_us[order], return_index=True)
    return zip(times.tolist(), np.split(order, first[1:]), strict=True)


def _merge(panes: Sequence[Pane], start_us: int, end_us: int) -> Aggregate:
    """One aggregate out of panes, oldest first; their series need not be the same."""
    names = panes[0].names
    if any(pane.names != names for pane in panes[1:]):
        names = list(dict.fromkeys(name for pane in panes for name in pane.names))
    series = len(names)
    position = {name: number for number, name in enumerate(names)}
    count, total = np.zeros(series, np.int64), np.zeros(series)
    least, most, last = np.full(series, np.inf), np.full(series, -np.inf), np.zeros(series)
    points: list[tuple[int, Floats]] = []
    for pane in panes:
        same = pane.names == names
        rows: Columns = slice(0, series) if same else np.array([position[name] for name in pane.names])
        count[rows] += pane.count
        total[rows] += pane.total
        least[rows] = np.minimum(least[rows], pane.least)
        most[rows] = np.maximum(most[rows], pane.most)
        last[rows] = np.where(pane.count > 0, pane.last, last[rows])
        for weight, block in pane.sketch.points(slice(0, len(pane.names))):
            spread = block
            if not same:
                spread = np.full((series, block.shape[1]), np.inf)
                spread[rows] = block
            points.append((weight, spread))
    held = count > 0
    if not held.all():
        names = [name for name, there in zip(names, held.tolist(), strict=True) if there]
        count, total, least, most, last = count[held], total[held], least[held], most[held], last[held]
        points = [(weight, block[held]) for weight, block in points]
    return Aggregate(
        start_us=start_us,
        end_us=end_us,
        series=tuple(names),
        count=count,
        mean=total / count,
        min=least,
        max=most,
        last=last,
        quantiles=quantiles(points, count, QUANTILE_LEVELS),
    )
