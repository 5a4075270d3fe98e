"""OpenADR 3 events to power caps, and responses to OpenADR reports. Pure.

Objects are those of the OpenADR 3.0.1 and 3.1.0 OpenAPI documents; of the two, targets are written differently (lists of typed
values, and plain names), and both are read. Payload types that ask for a power (OpenADR 3 Definitions, "Event enumerations"):

- ``IMPORT_CAPACITY_LIMIT``: the most that the site may draw; ``DISPATCH_SETPOINT``: what it shall draw, taken as the most;
- ``SIMPLE``: level 1, 2 or 3, which the configuration turns into a power; level 0 is normal operation.

Anything else (prices, alerts, charge states) asks for no cap and is passed over. What asks for one and cannot be read is a problem
that names the event, and the others are followed all the same.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import inf
from typing import TYPE_CHECKING, Any

import msgspec

from services.collector.core.grid import MAX_WINDOW, Listed
from services.collector.core.mapping import Times, number
from services.collector.core.paths import MappingError
from services.collector.model import POWER_FACTORS_W

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from services.collector.model import OpenAdrFeed, OpenAdrSite
    from solyx.events import DemandResponseReported

_POWERS = ("IMPORT_CAPACITY_LIMIT", "DISPATCH_SETPOINT")
_DURATION = re.compile(
    r"P(?=\d|T\d)(?:(?P<years>\d+)Y)?(?:(?P<months>\d+)M)?(?:(?P<weeks>\d+)W)?(?:(?P<days>\d+)D)?"
    r"(?:T(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?(?:(?P<seconds>\d+(?:\.\d+)?)S)?)?"
)
_MOST_LOOPS = 1000


class _Object(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Fields that we do not use are ignored, as the specification asks of clients."""


class ValuesMap(_Object, frozen=True, kw_only=True):
    """Values of one type."""

    type: str
    values: tuple[Any, ...] = ()


class Descriptor(_Object, frozen=True, kw_only=True):
    """The unit of a payload type."""

    payload_type: str
    units: str | None = None


class Period(_Object, frozen=True, kw_only=True):
    """When intervals begin and how long each lasts."""

    start: str
    duration: str | None = None


class Interval(_Object, frozen=True, kw_only=True):
    """One span of an event with its payloads."""

    id: int
    interval_period: Period | None = None
    payloads: tuple[ValuesMap, ...] = ()


class Program(_Object, frozen=True, kw_only=True):
    """What events belong to."""

    id: str
    program_name: str
    payload_descriptors: tuple[Descriptor, ...] | None = None


class OadrEvent(_Object, frozen=True, kw_only=True):
    """An event as the VTN has it now."""

    id: str
    program_id: str = msgspec.field(name="programID")
    priority: int | None = None  # the lower, the more important
    targets: tuple[str | ValuesMap, ...] | None = None
    payload_descriptors: tuple[Descriptor, ...] | None = None
    interval_period: Period | None = None
    intervals: tuple[Interval, ...] | None = None
    duration: str | None = None  # 3.1: intervals are repeated for so long
    modification_date_time: str


@dataclass(frozen=True, slots=True)
class Origin:
    """Which part of which OpenADR event a grid event stands for."""

    program_id: str
    event_id: str
    interval_id: int
    resource: str


@dataclass(frozen=True, slots=True)
class Asked:
    """What a VTN asks for now."""

    listed: tuple[Listed, ...]
    origins: Mapping[tuple[str, str], Origin]  # by site and id of the grid event
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Span:
    """A cap at one site, before more important events have cut it."""

    start: datetime
    end: datetime
    cap_w: float
    rank: float  # priority; none is the least important
    origin: Origin


def asked(events: Iterable[OadrEvent], programs: Iterable[Program], feed: OpenAdrFeed, now: datetime) -> Asked:
    """The caps that the events ask for at the feed's sites.

    In words: lay out the intervals, turn payloads into watts for each site that is targeted, join neighbours of one cap, and
    take from each window the time that a more important event claims; among equals the strictest cap holds.
    """
    by_id = {program.id: program for program in programs}
    spans: dict[str, list[_Span]] = {site.site: [] for site in feed.sites}
    problems: list[str] = []
    for event in events:
        for site in _targeted(event, feed):
            try:
                spans[site.site].extend(_spans(event, by_id.get(event.program_id), feed, site, now))
            except MappingError as error:
                problems.append(f"event {event.id} at {site.site}: {error}")
    listed: list[Listed] = []
    origins: dict[tuple[str, str], Origin] = {}
    for site, found in spans.items():
        for span in found:
            stronger = [one for one in found if one.rank < span.rank and one.origin.event_id != span.origin.event_id]
            for start, end in _without(span, stronger):
                event_id = first_id = f"{feed.name}.{span.origin.event_id}.{span.origin.interval_id}"
                piece = 0
                while (site, event_id) in origins:  # cut in two, or repeated
                    piece += 1
                    event_id = f"{first_id}.{piece}"
                origins[site, event_id] = span.origin
                listed.append(
                    Listed(
                        event_id=event_id,
                        site=site,
                        start=start,
                        end=end,
                        power_cap_w=span.cap_w,
                        status="announced",
                    )
                )
    return Asked(tuple(listed), origins, tuple(problems))


def _targeted(event: OadrEvent, feed: OpenAdrFeed) -> list[OpenAdrSite]:
    """The sites that the event names; all of them when it names nobody, or the VEN as a whole."""
    names: set[str] = set()
    for target in event.targets or ():
        names.update([target] if isinstance(target, str) else map(str, target.values))
    if not names or feed.ven_name in names:
        return list(feed.sites)
    return [site for site in feed.sites if names & {site.site, site.resource, *site.targets}]


def _spans(
    event: OadrEvent, program: Program | None, feed: OpenAdrFeed, site: OpenAdrSite, now: datetime
) -> list[_Span]:
    units = {one.payload_type: one.units for one in (program.payload_descriptors or ()) if program} if program else {}
    units |= {one.payload_type: one.units for one in event.payload_descriptors or ()}
    rank = inf if event.priority is None else float(event.priority)
    spans: list[_Span] = []
    for interval, start, end in _laid_out(event, now):
        cap_w = _cap_w(interval, units, feed, site)
        if cap_w is None:
            continue
        last = spans[-1] if spans else None
        if last is not None and last.end == start and last.cap_w == cap_w:
            spans[-1] = _Span(last.start, end, cap_w, rank, last.origin)
        else:
            origin = Origin(event.program_id, event.id, interval.id, site.resource or site.site)
            spans.append(_Span(start, end, cap_w, rank, origin))
    return spans


def _laid_out(event: OadrEvent, now: datetime) -> list[tuple[Interval, datetime, datetime]]:
    """Intervals with their times: each begins where the one before ended, unless it says when."""
    laid: list[tuple[Interval, datetime, datetime]] = []
    default = event.interval_period
    at = _start(default, event) if default else None
    whole = duration_s(event.duration, "duration") if event.duration else 0.0
    # Intervals with times of their own would come to lie where they are again and again.
    repeats = all(interval.interval_period is None for interval in event.intervals or ())
    until = at + timedelta(seconds=min(whole, 1e9)) if at and whole and repeats else None
    for _ in range(_MOST_LOOPS):
        for interval in event.intervals or ():
            period = interval.interval_period
            start = _start(period, event) if period else at
            if start is None:
                raise MappingError(f"interval {interval.id} has no intervalPeriod, and neither has the event")
            seconds = duration_s((period and period.duration) or (default and default.duration) or "PT0S", "duration")
            end = _end(start, seconds or inf, now)
            at = end
            if end > start:
                laid.append((interval, start, end))
        if until is None or at is None or at >= until or not laid:
            return laid
    return laid


def _start(period: Period, event: OadrEvent) -> datetime:
    """The year 1 means now: the moment at which the VTN wrote the event."""
    text = event.modification_date_time if period.start.startswith("0001-01-01") else period.start
    return Times("iso", "UTC").read(text.replace("Z", "+00:00"), "intervalPeriod.start")


def _end(start: datetime, seconds: float, now: datetime) -> datetime:
    """A window without an end is announced for a month from today on, anew each day."""
    if seconds <= MAX_WINDOW.total_seconds():
        return start + timedelta(seconds=seconds)
    today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    open_end = max(start, today) + MAX_WINDOW
    return open_end if seconds == inf else min(open_end, start + timedelta(seconds=min(seconds, 1e9)))


def duration_s(text: str, where: str) -> float:
    """An ISO 8601 duration; infinite where it counts in years (P9999Y).

    Raises:
        MappingError: it is none, or counts in months, whose length nobody knows.
    """
    match = _DURATION.fullmatch(text)
    if match is None or int(match["months"] or 0):
        raise MappingError(f"{where} is {text!r}; a duration is written like PT30M or P1D, without months")
    if int(match["years"] or 0):
        return inf
    parts = {name: float(match[name] or 0) for name in ("weeks", "days", "hours", "minutes", "seconds")}
    return timedelta(**parts).total_seconds()


def _cap_w(interval: Interval, units: Mapping[str, str | None], feed: OpenAdrFeed, site: OpenAdrSite) -> float | None:
    """The strictest cap among an interval's payloads; None when it asks for none."""
    caps: list[float] = []
    for payload in interval.payloads:
        where = f"interval {interval.id}, {payload.type}"
        if payload.type in _POWERS:
            factor = _factor_w(units.get(payload.type) or feed.power_unit, where)
            caps.append(_one_number(payload, where) * factor)
        elif payload.type == "SIMPLE":
            level = _one_number(payload, where)
            if level not in (0, 1, 2, 3):
                raise MappingError(f"{where}: level {level:g} is none of 0, 1, 2, 3")
            if level > len(site.simple_caps_w):
                raise MappingError(f"{where}: simple_caps_w of the site has no power for level {level:g}; add it")
            if level:
                caps.append(site.simple_caps_w[int(level) - 1])
    if any(cap < 0 for cap in caps):
        raise MappingError(f"interval {interval.id}: a cap of {min(caps):g} W")
    return min(caps, default=None)


def _factor_w(unit: str, where: str) -> float:
    for name, factor in POWER_FACTORS_W.items():
        if unit.lower() == name:
            return factor
    raise MappingError(f"{where}: the unit is {unit}, which is no power; known are {', '.join(POWER_FACTORS_W)}")


def _one_number(payload: ValuesMap, where: str) -> float:
    if len(payload.values) != 1:
        raise MappingError(f"{where}: has {len(payload.values)} values instead of one")
    return number(payload.values[0], where)


def _without(span: _Span, stronger: Iterable[_Span]) -> list[tuple[datetime, datetime]]:
    """What is left of a window, in order."""
    left = [(span.start, span.end)]
    for other in stronger:
        left = [
            piece
            for start, end in left
            for piece in ((start, min(end, other.start)), (max(start, other.end), end))
            if piece[0] < piece[1]
        ]
    return sorted(set(left))


def report_of(response: DemandResponseReported, origin: Origin, feed: OpenAdrFeed) -> dict[str, Any]:
    """The report on one interval of one resource: mean power over the window so far, what it was before, how it operates.

    Powers come from the site's power model and what runs there, so their quality is ``ESTIMATED``.
    """
    window_s = (response.end - response.start).total_seconds()
    mean_kw = (response.now_w if response.mean_w is None else response.mean_w) / 1e3
    state = "NORMAL" if response.status in ("ended", "cancelled") else "RUNNING_CURTAILED"
    payloads: Sequence[tuple[str, Any]] = (
        ("DEMAND", round(mean_kw, 3)),
        ("BASELINE", round(response.baseline_w / 1e3, 3)),
        ("OPERATING_STATE", state),
        ("DATA_QUALITY", "ESTIMATED"),
    )
    report: dict[str, Any] = {
        "eventID": origin.event_id,
        "clientName": feed.ven_name,
        "reportName": response.event_id,
        "payloadDescriptors": [
            {"objectType": "REPORT_PAYLOAD_DESCRIPTOR", "payloadType": kind, "readingType": reading, "units": "KW"}
            for kind, reading in (("DEMAND", "MEAN"), ("BASELINE", "DIRECT_READ"))
        ],
        "resources": [
            {
                "resourceName": origin.resource,
                "intervalPeriod": {
                    "start": response.start.astimezone(UTC).isoformat().replace("+00:00", "Z"),
                    "duration": f"PT{window_s:g}S",
                },
                "intervals": [
                    {
                        "id": origin.interval_id,
                        "payloads": [{"type": kind, "values": [value]} for kind, value in payloads],
                    }
                ],
            }
        ],
    }
    return ({"programID": origin.program_id} if feed.version == "3.0" else {"objectType": "REPORT"}) | report
