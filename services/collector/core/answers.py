"""Answers of the Prometheus HTTP API to samples, and which window a range query asks for next. Pure.

Format: Prometheus HTTP API v1, "Expression query result formats": vector, matrix, scalar.
"""

from __future__ import annotations

import math
from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec

from services.collector.core.paths import MappingError
from services.collector.core.series import Sample, SeriesError, canonical

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from services.collector.model import Query

MAX_POINTS = 10_000
"""Of one series in one range query; Prometheus refuses more than 11,000."""

_LATEST_S = 7_258_118_400.0  # the year 2200; later is no time in s

_Value = tuple[float, str]


class _Series(msgspec.Struct, frozen=True):
    metric: dict[str, str] = {}
    value: _Value | None = None  # of a vector
    values: tuple[_Value, ...] = ()  # of a matrix


class _Data(msgspec.Struct, frozen=True):
    resultType: str = ""  # noqa: N815 - Prometheus names it
    result: msgspec.Raw = msgspec.Raw(b"[]")


class _Answer(msgspec.Struct, frozen=True):
    status: str
    data: _Data = _Data()
    error: str = ""


_ANSWERS = msgspec.json.Decoder(_Answer)
_SERIES = msgspec.json.Decoder(tuple[_Series, ...])
_SCALAR = msgspec.json.Decoder(_Value)


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """Samples by source, and how many were left out: too old, or no finite number."""

    by_source: dict[str, list[Sample]]
    stale: int = 0
    not_finite: int = 0

    @property
    def count(self) -> int:
        """Samples that are there."""
        return sum(map(len, self.by_source.values()))


def read_answer(
    body: bytes,
    *,
    query: Query,
    labels: Mapping[str, str],
    source_labels: Sequence[str],
    default_source: str,
    oldest_s: float,
) -> Answered:
    """The samples of an answer, not older than ``oldest_s`` (Unix time). ``labels`` are the server's: a series' own label stays.

    A series without a name (the result of an expression) is named after the query, dots and dashes as underscores.

    Raises:
        MappingError: it is no answer, or says that the query failed.
    """
    by_source: dict[str, list[Sample]] = {}
    stale = not_finite = 0
    for series in _series_of(body):
        named = {**labels, **series.metric}
        named.setdefault("__name__", query.name.replace(".", "_").replace("-", "_"))
        source = next((named[label] for label in source_labels if named.get(label)), default_source)
        try:
            name = canonical(named)
        except SeriesError as error:
            raise MappingError(str(error)) from error
        samples: list[Sample] = []
        for time_s, text in (series.value,) if series.value else series.values:
            if not 0 <= time_s < _LATEST_S:
                raise MappingError(f"a sample of {name[:100]} has the time {time_s}")
            value = _number(text)
            if not math.isfinite(value):
                not_finite += 1
            elif time_s < oldest_s:
                stale += 1
            else:
                samples.append((name, value, time_s))
        if samples:
            by_source.setdefault(source, []).extend(samples)
    return Answered(by_source=by_source, stale=stale, not_finite=not_finite)


def _series_of(body: bytes) -> tuple[_Series, ...]:
    try:
        answer = _ANSWERS.decode(body)
        if answer.status != "success":
            raise MappingError(f"Prometheus says: {answer.error or answer.status}")
        match answer.data.resultType:
            case "vector" | "matrix":
                return _SERIES.decode(answer.data.result)
            case "scalar":
                return (_Series(value=_SCALAR.decode(answer.data.result)),)
            case kind:
                raise MappingError(
                    f"the result is a {kind or 'nothing'}; a query must yield a vector, matrix or scalar"
                )
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MappingError(f"this is no answer of Prometheus ({error}): {body[:80]!r}") from error


def _number(text: str) -> float:
    try:
        return float(text)  # also NaN, +Inf and -Inf
    except ValueError as error:
        raise MappingError(f"a sample is {text[:40]!r}, not a number") from error


class RangeCursor:
    """Which points of a range query are still to be asked for: each once, in order, also after an outage."""

    def __init__(self, query: Query) -> None:
        self._query = query
        self._last: datetime | None = None  # the latest point that was taken

    def window(self, now: datetime) -> tuple[datetime, datetime] | None:
        """The first and the last point to ask for; None when the next one is yet to come.

        Points lie on multiples of the step, so that whoever asks gets the same ones. What is further back than the query
        catches up is skipped.
        """
        step_s = self._query.step_s
        end_s = now.timestamp() // step_s * step_s
        if self._last is None:
            begin_s = end_s - self._query.lookback_s // step_s * step_s
        else:
            earliest_s = end_s - self._query.max_catch_up_s // step_s * step_s
            begin_s = max(self._last.timestamp() + step_s, earliest_s)
        if begin_s > end_s:
            return None
        end_s = min(end_s, begin_s + (MAX_POINTS - 1) * step_s)
        epoch = now - timedelta(seconds=now.timestamp())
        return epoch + timedelta(seconds=begin_s), epoch + timedelta(seconds=end_s)

    def taken(self, until: datetime) -> None:
        """The points to ``until`` are safe."""
        self._last = until
