"""Demand-response signals to ``GridEventAnnounced``: as they are posted to us, and as a mapped source lists them. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import msgspec

from services.collector.core.mapping import Times, number
from services.collector.core.paths import MappingError, look_up, parse_path
from services.collector.model import POWER_FACTORS_W
from solyx.events import GridEventAnnounced

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from services.collector.model import GridFeed

MAX_DISTANCE = timedelta(days=3660)
"""A window that begins further away is a wrong year."""

MAX_WINDOW = timedelta(days=31)
"""A longer cap is a planning matter, or a wrong unit in a duration."""


class Posted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of ``POST /v1/grid-events``."""

    event_id: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    site: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    start: Annotated[datetime, msgspec.Meta(tz=True)]
    end: Annotated[datetime, msgspec.Meta(tz=True)]
    power_cap_w: Annotated[float, msgspec.Meta(ge=0, le=1e12)]
    status: Literal["announced", "cancelled"] = "announced"


class FieldProblem(msgspec.Struct, frozen=True, kw_only=True):
    """One field that must change."""

    field: str
    message: str
    cure: str


def read_posted(body: bytes, *, now: datetime, sites: Collection[str]) -> GridEventAnnounced | tuple[FieldProblem, ...]:
    """The event in a request, or everything that is wrong with it. ``sites``: those that are known; empty: any."""
    try:
        posted = msgspec.json.decode(body, type=Posted)
    except msgspec.ValidationError as error:
        return (_field_problem(error),)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return (FieldProblem(field="", message=f"The body is no JSON: {error}", cure="Send one JSON object."),)
    problems = _problems(posted, now, sites)
    return problems or GridEventAnnounced(
        event_id=posted.event_id,
        site=posted.site,
        start=posted.start.astimezone(UTC),
        end=posted.end.astimezone(UTC),
        power_cap_w=posted.power_cap_w,
        status=posted.status,
        announced_at=now,
    )


def _field_problem(error: msgspec.ValidationError) -> FieldProblem:
    message, _, path = str(error).partition(" - at `$")
    field = path.strip("`.")
    if not field and "`" in message:  # a missing or unknown field is named in the message
        field = message.split("`")[1] if "field" in message else ""
    cure = f"An event has the fields {', '.join(Posted.__struct_fields__)}; times are RFC 3339 with a zone."
    return FieldProblem(field=field, message=message, cure=cure)


def _problems(posted: Posted, now: datetime, sites: Collection[str]) -> tuple[FieldProblem, ...]:
    problems: list[FieldProblem] = []
    if abs(posted.start - now) > MAX_DISTANCE:
        message = f"It is more than {MAX_DISTANCE.days} days away."
        problems.append(FieldProblem(field="start", message=message, cure="Correct the year."))
    if posted.end <= posted.start:
        problems.append(FieldProblem(field="end", message="It is not after start.", cure="Give a later time."))
    elif posted.end - posted.start > MAX_WINDOW:
        message = f"It is more than {MAX_WINDOW.days} days after start."
        problems.append(FieldProblem(field="end", message=message, cure="Announce shorter windows one by one."))
    elif posted.end <= now and posted.status == "announced":
        message = f"The window is over; it is {now.isoformat()}."
        problems.append(FieldProblem(field="end", message=message, cure="Give a time that is to come."))
    if sites and posted.site not in sites:
        known = f"Known sites: {', '.join(sorted(sites)[:20])}."
        problems.append(FieldProblem(field="site", message=f"There is no site {posted.site!r}.", cure=known))
    return tuple(problems)


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """What a source says of one event."""

    event_id: str
    site: str
    start: datetime
    end: datetime
    power_cap_w: float
    status: Literal["announced", "cancelled"]


def listed_events(document: Any, feed: GridFeed) -> list[Listed]:
    """The events of a document.

    Raises:
        MappingError: the document does not look as the mapping says, or an event is impossible.
    """
    elements = look_up(document, parse_path(feed.json.list))
    if not isinstance(elements, list):
        raise MappingError(f"{feed.json.list or 'the document'} is no list of events")
    listed: list[Listed] = []
    for index, element in enumerate(cast("list[Any]", elements)):
        try:
            listed.append(_listed(element, feed))
        except MappingError as error:
            raise MappingError(f"event {index}: {error}") from None
    return listed


def _listed(element: Any, feed: GridFeed) -> Listed:
    mapping = feed.json
    times = Times(feed.time_format, feed.timezone)

    def at(path: str) -> Any:
        return look_up(element, parse_path(path))

    start = times.read(at(mapping.start), mapping.start)
    if mapping.end:
        end = times.read(at(mapping.end), mapping.end)
    else:
        end = start + timedelta(seconds=min(max(number(at(mapping.duration_s), mapping.duration_s), 0.0), 1e9))
    if not timedelta() < end - start <= MAX_WINDOW:
        raise MappingError(f"its window is {start.isoformat()} to {end.isoformat()}")
    cap_w = number(at(mapping.power_cap), mapping.power_cap) * POWER_FACTORS_W[feed.power_unit]
    if cap_w < 0:
        raise MappingError(f"{mapping.power_cap} is {cap_w:g} W")
    event_id, site = _text(at(mapping.event_id)), feed.site or _text(at(mapping.site))
    if not event_id or not site:
        raise MappingError("it has no id or no site")
    is_cancelled = bool(mapping.status) and _text(at(mapping.status)) in mapping.cancelled
    return Listed(
        event_id=event_id,
        site=site,
        start=start,
        end=end,
        power_cap_w=cap_w,
        status="cancelled" if is_cancelled else "announced",
    )


def _text(value: Any) -> str:
    return str(value).strip() if isinstance(value, (str, int)) else ""


class GridBook:
    """What a source has announced; says what is new in its next list."""

    def __init__(self, *, cancel_when_absent: bool) -> None:
        self._cancel_when_absent = cancel_when_absent
        self._known: dict[tuple[str, str], Listed] = {}

    def recall(self, event: GridEventAnnounced) -> None:
        """Know what an earlier process announced."""
        self._known[event.site, event.event_id] = msgspec.convert(event, Listed, from_attributes=True)

    def changes(self, listed: Iterable[Listed], now: datetime) -> list[GridEventAnnounced]:
        """Events that are new or differ. One that was over before we first saw it is history, and left out."""
        current = {(event.site, event.event_id): event for event in listed}
        changed = [
            event
            for key, event in current.items()
            if self._known.get(key) != event and (event.end > now or key in self._known)
        ]
        if self._cancel_when_absent:
            changed.extend(
                msgspec.structs.replace(event, status="cancelled")
                for key, event in self._known.items()
                if key not in current and event.end > now and event.status == "announced"
            )
        for event in changed:
            self._known[event.site, event.event_id] = event
        self._known = {key: event for key, event in self._known.items() if key in current or event.end > now}
        return [GridEventAnnounced(**msgspec.structs.asdict(event), announced_at=now) for event in changed]
