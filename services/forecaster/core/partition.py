"""All sources of one partition of ``metrics``: folds their events, says which aggregates are due and which rows to write.

When an aggregate is due: at once when its window has ended (the watermark passed its end) and at each later change. While it is
open, a tumbling window is due at most once in ``update_s`` seconds. Hopping windows overlap, and to publish each of them at
each change would multiply the topic; an open one waits as long as it is wide, so that it is published even if its source falls
silent before its end. Updates of open windows may be put off when time is short; ended windows never are.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeAlias

import msgspec
import numpy as np

from services.forecaster.core import rows
from services.forecaster.core.rows import RowKey
from services.forecaster.core.windows import SECOND_US, Layout, Refusal, SourceWindows
from services.forecaster.model import Aggregate, WindowSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from services.forecaster.core.windows import Pane

_Window: TypeAlias = tuple[str, WindowSpec, int]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LAYOUT_CACHE_BYTES = 16 << 20


class Scrape(msgspec.Struct, frozen=True):
    """``MetricsScraped`` as far as the windows need it; the series stay JSON, because they rarely change."""

    source: str
    scraped_at: datetime
    series: msgspec.Raw
    values: list[float]
    times_s: list[float] = []


def microseconds(at: datetime) -> int:
    """Since the Unix epoch, exactly."""
    return (at - _EPOCH) // _MICROSECOND


def moment(at_us: int) -> datetime:
    """The reverse of ``microseconds``."""
    return _EPOCH + at_us * _MICROSECOND


class LayoutCache:
    """The layouts of events by the JSON text of their series."""

    def __init__(self) -> None:
        self._layouts: dict[bytes, Layout] = {}
        self._bytes = 0
        self._names = msgspec.json.Decoder(list[str])

    def names(self, series: msgspec.Raw) -> list[str]:
        """The series of an event whose layout is not worth keeping."""
        return self._names.decode(series)

    def layout(self, series: msgspec.Raw) -> Layout:
        """The layout of an event.

        Raises:
            msgspec.DecodeError: these are no names.
        """
        text = bytes(series)
        known = self._layouts.get(text)
        if known is None:
            known = Layout(self._names.decode(text), shared=True)
            if self._bytes > _LAYOUT_CACHE_BYTES:
                self._layouts.clear()
                self._bytes = 0
            self._layouts[text] = known
            self._bytes += len(text)
        return known


class PartitionWindows:
    """The windows of all sources in one partition."""

    def __init__(
        self, number: int, specs: Sequence[WindowSpec], *, lateness_s: float, most_series: int, update_s: float
    ) -> None:
        """``number``: the partition's. The rest as in ``SourceWindows``; ``update_s``: see above."""
        self.number = number
        self.sources: dict[str, SourceWindows] = {}
        self.refused: dict[Refusal, int] = {}
        self._specs = tuple(specs)
        self._lateness_s = lateness_s
        self._most_series = most_series
        self._update_s = update_s
        self._due: dict[_Window, float] = {}
        self._told: dict[_Window, float] = {}
        self._removed: list[RowKey] = []

    def fold(self, scrape: Scrape, layouts: LayoutCache, now_us: int) -> int:
        """Fold one event; returns how many of its samples were new.

        Raises:
            msgspec.DecodeError: the series are no names.
            ValueError: series, values and times are not equally many.
        """
        source = self._source(scrape.source)
        values = np.array(scrape.values, np.float64)
        at_us = microseconds(scrape.scraped_at)
        if scrape.times_s:
            times_us = np.rint(np.array(scrape.times_s) * SECOND_US).astype(np.int64)
            at_us = int(times_us[0])
            if bool((times_us != at_us).any()):
                names = layouts.names(scrape.series)
                if not len(names) == len(values) == len(times_us):
                    raise ValueError(_UNEQUAL)
                return source.fold_timed(names, values, times_us, now_us, self.refused)
        layout = layouts.layout(scrape.series)
        if len(values) != layout.length or (scrape.times_s and len(scrape.times_s) != len(values)):
            raise ValueError(_UNEQUAL)
        return source.fold(layout, values, at_us, now_us, self.refused)

    def _source(self, name: str) -> SourceWindows:
        source = self.sources.get(name)
        if source is None:
            source = SourceWindows(self._specs, lateness_s=self._lateness_s, most_series=self._most_series)
            self.sources[name] = source
        return source

    def due(self, now_s: float, *, time_left: Callable[[], bool]) -> Iterator[tuple[str, Aggregate]]:
        """The aggregates to publish now (``now_s``: any clock that only goes forward), and forget windows that are over."""
        self._mark_due(now_s)
        for window, due_s in sorted(self._due.items(), key=lambda item: item[1]):
            name, spec, start_us = window
            source = self.sources[name]
            ended = start_us + spec.size_s * SECOND_US <= source.watermark_us
            if not ended and (due_s > now_s or not time_left()):
                continue
            del self._due[window]
            self._told[window] = now_s
            aggregate = source.aggregate(spec, start_us)
            if aggregate is not None:
                yield name, aggregate
        self._forget()

    def _mark_due(self, now_s: float) -> None:
        for name, source in self.sources.items():
            for pane in source.changed:
                pane.changed = False
                for spec, start_us in source.windows_of(pane):
                    window = (name, spec, start_us)
                    if window not in self._due:
                        self._due[window] = self._next(spec, self._told.get(window), now_s)
            source.changed.clear()

    def _next(self, spec: WindowSpec, told_s: float | None, now_s: float) -> float:
        """When a window that has changed now is due if it does not end before."""
        if spec.hop_s < spec.size_s:
            return now_s + spec.size_s
        return now_s if told_s is None else told_s + self._update_s

    def _forget(self) -> None:
        """Drop the panes that no window needs any more, and remember the rows to delete."""
        for name, source in self.sources.items():
            over = [pane for pane in source.panes.values() if source.is_over(pane)]
            for pane in over:
                del source.panes[pane.start_us]
                self._removed += [
                    RowKey(partition=self.number, start_us=pane.start_us, first=first, source=name)
                    for first in rows.firsts(pane)
                ]
                for spec, start_us in source.windows_of(pane):
                    if start_us + spec.size_s * SECOND_US + source.lateness_us <= source.watermark_us:
                        self._told.pop((name, spec, start_us), None)

    def rows(self) -> Iterator[tuple[RowKey, bytes | None]]:
        """Every row that changed since the last call; None: the row is to be deleted."""
        removed, self._removed = self._removed, []
        for key in removed:
            yield key, None
        for name, source in self.sources.items():
            for pane in source.panes.values():
                if pane.unsaved:
                    yield from self._rows_of(name, pane)

    def _rows_of(self, name: str, pane: Pane) -> Iterator[tuple[RowKey, bytes]]:
        pane.unsaved = False
        pane.saved = True
        for first, value in rows.save(pane):
            yield RowKey(partition=self.number, start_us=pane.start_us, first=first, source=name), value

    def restore(self, key: RowKey, value: bytes) -> None:
        """Take a row back from the table. Its windows are due again: nobody knows whether they were published."""
        source = self._source(key.source)
        rows.restore(source, key.start_us, value)
        pane = source.panes[key.start_us]
        pane.saved = True
        if not pane.changed:
            pane.changed = True
            source.changed.append(pane)


_UNEQUAL = "series, values and times_s are not equally many"
