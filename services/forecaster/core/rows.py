"""Panes to table rows and back. A row holds up to 128 series of a pane, whole: rows of one pane need not be of one moment.

A row keeps the times seen with the samples, so what is read again after a crash and was already in the row changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from services.forecaster.core.sketch import CAPACITY, Level
from services.forecaster.core.windows import Layout, Pane, SourceWindows

if TYPE_CHECKING:
    from collections.abc import Iterator

_SERIES_IN_ROW = 128  # with all levels of the sketch full it stays below Kafka's default record limit of 1 MB
_VERSION = 1


class RowKey(msgspec.Struct, frozen=True, kw_only=True):
    """Names a row; its first part is the partition that the source belongs to."""

    partition: int
    start_us: int
    first: int  # the row's first series among the pane's
    source: str

    def encode(self) -> bytes:
        """``partition/start/first/source``."""
        return f"{self.partition}/{self.start_us}/{self.first}/{self.source}".encode()

    @classmethod
    def decode(cls, key: bytes) -> RowKey:
        """The reverse of ``encode``."""
        partition, start_us, first, source = key.decode().split("/", 3)
        return cls(partition=int(partition), start_us=int(start_us), first=int(first), source=source)


class _LevelRow(msgspec.Struct, array_like=True):
    width: int
    fill: bytes
    odd: bytes
    values: bytes


class _Row(msgspec.Struct, array_like=True):
    version: int
    names: list[str]
    count: bytes
    total: bytes
    least: bytes
    most: bytes
    last: bytes
    last_us: bytes
    times: bytes
    seen: bytes  # times × series, one bit each
    levels: list[_LevelRow]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Row)


def save(pane: Pane) -> Iterator[tuple[int, bytes]]:
    """The rows of a pane: the number of a row's first series, and the row."""
    times = np.fromiter(pane.seen, np.int64, len(pane.seen)).tobytes()
    for first in range(0, len(pane.names), _SERIES_IN_ROW):
        part = slice(first, min(first + _SERIES_IN_ROW, len(pane.names)))
        seen = np.array([mask[part] for mask in pane.seen.values()], dtype=np.bool_)
        row = _Row(
            version=_VERSION,
            names=pane.names[part],
            count=pane.count[part].tobytes(),
            total=pane.total[part].tobytes(),
            least=pane.least[part].tobytes(),
            most=pane.most[part].tobytes(),
            last=pane.last[part].tobytes(),
            last_us=pane.last_us[part].tobytes(),
            times=times,
            seen=np.packbits(seen, axis=1).tobytes(),
            levels=[_save_level(level, part) for level in pane.sketch.levels],
        )
        yield first, _encoder.encode(row)


def firsts(pane: Pane) -> range:
    """The first series of each row that the table holds for a pane."""
    return range(0, len(pane.names) if pane.saved else 0, _SERIES_IN_ROW)


def _save_level(level: Level, part: slice) -> _LevelRow:
    width = int(level.fill[part].max())
    return _LevelRow(width, level.fill[part].tobytes(), level.odd[part].tobytes(), level.values[part, :width].tobytes())


def restore(source: SourceWindows, start_us: int, value: bytes) -> None:
    """Put a saved row back into its pane.

    Raises:
        ValueError: the row was written by another version.
    """
    row = _decoder.decode(value)
    if row.version != _VERSION:
        msg = f"window row of version {row.version}, this is version {_VERSION}: empty the table's changelog topic"
        raise ValueError(msg)
    pane = source.panes.setdefault(start_us, Pane(start_us))
    columns = pane.columns(Layout(row.names), len(pane.names) + len(row.names))
    assert columns is not None
    pane.count[columns] = np.frombuffer(row.count, np.int64)
    pane.total[columns] = np.frombuffer(row.total)
    pane.least[columns] = np.frombuffer(row.least)
    pane.most[columns] = np.frombuffer(row.most)
    pane.last[columns] = np.frombuffer(row.last)
    pane.last_us[columns] = np.frombuffer(row.last_us, np.int64)
    series = len(row.names)
    times = np.frombuffer(row.times, np.int64)
    packed = np.frombuffer(row.seen, np.uint8).reshape(len(times), -1)
    seen = np.unpackbits(packed, axis=1, count=series).astype(np.bool_)
    for at_us, mask in zip(times.tolist(), seen, strict=True):
        known = pane.seen.setdefault(at_us, np.zeros(len(pane.names), np.bool_))
        known[columns] = mask
    for number, saved in enumerate(row.levels):
        if number == len(pane.sketch.levels):
            pane.sketch.levels.append(Level(len(pane.names), CAPACITY))
        level = pane.sketch.levels[number]
        while level.values.shape[1] < min(saved.width + 1, CAPACITY):
            level.widen(2 * level.values.shape[1])
        level.values[columns, : saved.width] = np.frombuffer(saved.values).reshape(series, saved.width)
        level.fill[columns] = np.frombuffer(saved.fill, np.int64)
        level.odd[columns] = np.frombuffer(saved.odd, np.bool_)
        level.uniform = -1
    pane.newest_us = max(pane.newest_us, int(pane.last_us[columns].max()))
    source.watermark_us = max(source.watermark_us, pane.newest_us)
