"""Metric series by their canonical names, and samples packed into events."""

from __future__ import annotations

import re
import zlib
from array import array
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeAlias

from solyx.events import MetricsScraped

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Sample: TypeAlias = tuple[str, float, float]
"""Canonical series name, value, time in s since the Unix epoch."""

MAX_SAMPLES = 500
"""Of one event: the batch in which a faust agent folds 1.7 M samples/s (kafka.md)."""

MAX_NAMES_BYTES = 700_000
"""Of the series names of one event as JSON; with its numbers it stays below the 1 MB that a Kafka producer takes."""

MAX_NAME_BYTES = 32_768
"""Of one series name. A longer one is refused: it is an error of whoever made the labels."""

METRIC_NAME = "__name__"
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


class SeriesError(Exception):
    """Labels that name no series; says which."""


def canonical(labels: Mapping[str, str]) -> str:
    """``metric{label="value",…}``, labels sorted, empty values left out (to Prometheus they are absent), values escaped as in its
    text format.

    Raises:
        SeriesError: a label's name is none, or the name is longer than ``MAX_NAME_BYTES``.
    """
    pairs: list[str] = []
    for name in sorted(labels):
        value = labels[name]
        if name == METRIC_NAME or not value:
            continue
        if _LABEL.fullmatch(name) is None:
            msg = f"label name {name[:100]!r} does not match {_LABEL.pattern}"
            raise SeriesError(msg)
        pairs.append(f'{name}="{value.translate(_ESCAPES)}"')
    metric = labels.get(METRIC_NAME, "")
    text = f"{metric}{{{','.join(pairs)}}}" if pairs else metric
    if len(text) > MAX_NAME_BYTES // 4 and len(text.encode()) > MAX_NAME_BYTES:  # at most 4 bytes a letter
        msg = f"series {text[:100]}… is longer than {MAX_NAME_BYTES} bytes"
        raise SeriesError(msg)
    return text


def batches(source: str, samples: Iterable[Sample]) -> list[MetricsScraped]:
    """Events of at most ``MAX_SAMPLES`` samples each. Values that are no finite numbers (JSON has none) must be left out before.

    The id of an event is its source, ``scraped_at`` and length. The samples carry their own times, so ``scraped_at`` is the newest
    one's second plus a fingerprint of series and times in µs: two parts of one write, two queries of one source, or two scrapes in
    one second do not share an id, and a repeat of the same write repeats its ids.
    """
    rest = list(samples)
    events: list[MetricsScraped] = []
    while rest:
        count = _fitting(rest)
        series, values, times_s = zip(*rest[:count], strict=True)
        fingerprint = zlib.crc32(array("d", times_s).tobytes(), zlib.crc32("\n".join(series).encode()))
        at = instant(float(int(max(times_s)))) + timedelta(microseconds=fingerprint % 1_000_000)
        events.append(MetricsScraped(source=source, scraped_at=at, series=series, values=values, times_s=times_s))
        rest = rest[count:]
    return events


def _fitting(samples: list[Sample]) -> int:
    """How many of the first samples fit into one event: at least one."""
    size = 0.0
    for count, (name, _, _) in enumerate(samples[:MAX_SAMPLES]):
        # JSON escapes a quote with one byte more, a control character with five more; a letter has at most 4 bytes.
        size += len(name) * (1.25 if name.isascii() and name.isprintable() else 6.0)
        if size > MAX_NAMES_BYTES and count:
            return count
    return min(len(samples), MAX_SAMPLES)


def instant(time_s: float) -> datetime:
    """Seconds since the Unix epoch, to the millisecond that Prometheus keeps, as UTC."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=round(time_s * 1000))
