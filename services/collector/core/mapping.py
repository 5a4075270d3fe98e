"""Documents and files of others to points in time, by declaration. Pure: what came is given, what it means is returned.

Nothing is guessed: a value that is missing stays missing, and one that cannot be read is an error that says where it stands.
"""

from __future__ import annotations

import csv
import math
import urllib.parse
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast
from zoneinfo import ZoneInfo

from services.collector.core.paths import MappingError, has, look_up, parse_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from services.collector.model import Csv, EnergyFeed, Json

Point = tuple[datetime, float]
"""When a value begins to hold (UTC), and the value."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_YEARS = range(1970, 2200)  # anything else is a wrong unit or a placeholder


class Times:
    """Reads times that may come without a zone.

    Local times of the hour that a clock change repeats are told apart by their order: the second pass is the later one.
    """

    def __init__(self, format: str, timezone: str) -> None:  # noqa: A002 - what it is
        """``format``: iso, unix_s, unix_ms or a strptime pattern; ``timezone``: of times that name none."""
        self._format, self._zone = format, ZoneInfo(timezone)
        self._before: datetime | None = None

    def read(self, value: Any, where: str) -> datetime:
        """The time in UTC.

        Raises:
            MappingError: it is none, or no clock in the time zone ever showed it.
        """
        try:
            at = self._read(value, where)
        except OverflowError:
            at = None
        if at is None or at.year not in _YEARS:
            hint = " Perhaps time_format is unix_ms" if self._format == "unix_s" else ""
            raise MappingError(f"{where} is {value!r}, too far away.{hint}")
        return at

    def _read(self, value: Any, where: str) -> datetime:
        if self._format in {"unix_s", "unix_ms"}:
            return _EPOCH + timedelta(seconds=number(value, where) / (1000.0 if self._format == "unix_ms" else 1.0))
        if not isinstance(value, str):
            raise MappingError(f"{where} is {value!r}, not a time as text")
        try:
            if self._format == "iso":
                at = datetime.fromisoformat(value.strip())
            else:
                at = datetime.strptime(value.strip(), self._format)  # noqa: DTZ007 - its zone is looked at below
        except ValueError as error:
            raise MappingError(f"{where} is {value[:60]!r}, no time in the format {self._format}") from error
        return at.astimezone(UTC) if at.tzinfo else self._local(at, where)

    def _local(self, at: datetime, where: str) -> datetime:
        first, second = (at.replace(tzinfo=self._zone, fold=fold).astimezone(UTC) for fold in (0, 1))
        if first.astimezone(self._zone).replace(tzinfo=None) != at:
            raise MappingError(
                f"{where} is {at}, which no clock in {self._zone.key} showed (the clocks were put forward)"
            )
        repeated = first != second and self._before is not None and self._before >= first
        self._before = second if repeated else first
        return self._before


def number(value: Any, where: str) -> float:
    """A finite number, or the text of one.

    Raises:
        MappingError: it is none.
    """
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            read = float(value)
        except (ValueError, OverflowError):
            read = math.nan
        if math.isfinite(read):
            return read
    raise MappingError(f"{where} is {value!r}, not a finite number")


def json_points(document: Any, feed: EnergyFeed, mapping: Json) -> list[Point]:
    """The points of a document, in the kind's unit; those whose value is null or empty are left out.

    Raises:
        MappingError: the document does not look as the mapping says.
    """
    times, time_path, value_path = _times(feed), parse_path(mapping.time), parse_path(mapping.value)
    listed = look_up(document, parse_path(mapping.list))
    pairs: list[tuple[Any, Any]] = []
    if isinstance(listed, list):
        for index, element in enumerate(cast("list[Any]", listed)):
            if not has(element, value_path) and has(element, time_path):
                continue  # a point without a value is a gap
            pairs.append((_at(element, time_path, index), _at(element, value_path, index)))
    else:
        whens, values = look_up(listed, time_path), look_up(listed, value_path)
        if not isinstance(whens, list) or not isinstance(values, list):
            raise MappingError("there is neither a list of points nor a list of times and one of values")
        if len(cast("list[Any]", whens)) != len(cast("list[Any]", values)):
            raise MappingError(f"{mapping.time} has {len(whens)} elements, {mapping.value} has {len(values)}")
        pairs = list(zip(cast("list[Any]", whens), cast("list[Any]", values), strict=True))
    return [
        (times.read(when, f"time {index}"), number(value, f"value {index}") * feed.multiplier)
        for index, (when, value) in enumerate(pairs)
        if value is not None and value != ""
    ]


def _at(element: Any, path: Any, index: int) -> Any:
    try:
        return look_up(element, path)
    except MappingError as error:
        raise MappingError(f"point {index}: {error}") from None


def csv_points(text: str, feed: EnergyFeed, mapping: Csv) -> list[Point]:
    """The points of a CSV file, in the kind's unit; empty cells are gaps.

    Raises:
        MappingError: a column is missing or a cell cannot be read.
    """
    times = _times(feed)
    rows = csv.DictReader(text.splitlines(), delimiter=mapping.delimiter, strict=True)
    columns = [name.strip() for name in rows.fieldnames or ()]
    for column in (mapping.time, mapping.value):
        if column not in columns:
            raise MappingError(f"there is no column {column!r}; there are {', '.join(columns) or 'none'}")
    rows.fieldnames = columns
    points: list[Point] = []
    try:
        for row in rows:
            cell = (row[mapping.value] or "").strip()
            if cell:
                at = times.read(row[mapping.time], f"line {rows.line_num}, {mapping.time}")
                points.append((at, number(cell, f"line {rows.line_num}, {mapping.value}") * feed.multiplier))
    except csv.Error as error:
        raise MappingError(f"line {rows.line_num}: {error}") from error
    return points


def _times(feed: EnergyFeed) -> Times:
    return Times(feed.time_format, feed.timezone)


def window(now: datetime, *, back_days: int, ahead_days: int) -> tuple[datetime, datetime]:
    """Whole UTC days around the present day. Whole, because a day's record replaces the one before."""
    today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return today - timedelta(days=back_days), today + timedelta(days=1 + ahead_days)


def filled_in(
    url: str, params: Mapping[str, str], *, begin: datetime, end: datetime, window_format: str, site: str
) -> str:
    """The address with its placeholders replaced, everything escaped."""
    values = {"from": _format(begin, window_format), "to": _format(end, window_format), "site": site}
    address = url.format_map({name: urllib.parse.quote(value, safe="") for name, value in values.items()})
    if params:
        query = urllib.parse.urlencode([(name, value.format_map(values)) for name, value in params.items()])
        address += ("&" if "?" in address else "?") + query
    return address


def _format(at: datetime, window_format: str) -> str:
    match window_format:
        case "iso":
            return at.strftime("%Y-%m-%dT%H:%M:%SZ")
        case "unix_s":
            return str(int(at.timestamp()))
        case "unix_ms":
            return str(int(at.timestamp() * 1000))
        case pattern:
            return at.strftime(pattern)


def within(points: Iterable[Point], begin: datetime, end: datetime) -> list[Point]:
    """The points in [begin, end)."""
    return [point for point in points if begin <= point[0] < end]
