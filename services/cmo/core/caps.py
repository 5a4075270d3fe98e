"""What power placements may take of each site in each hour: caps of grid events, and hours that are closed for their price."""

from __future__ import annotations

from math import floor
from typing import TYPE_CHECKING, TypeAlias

from services.cmo.core.ledger import SLOT_S

if TYPE_CHECKING:
    from collections.abc import Iterable

    from services.cmo.core.sites import Sites
    from solyx.events import GridEventAnnounced

Span: TypeAlias = tuple[float, float]  # begin and end, Unix time
Caps: TypeAlias = dict[int, list[tuple[int, int, int]]]  # by site: first hour, end hour, W above the idle floor


def joined(span: Span, others: Iterable[Span]) -> Span:
    """The span and all that overlap or touch it, one through another, as one: a battery must last through all of them."""
    begin_s, end_s = span
    left = sorted(others)
    grown = True
    while grown:
        grown = False
        for other_begin_s, other_end_s in left:
            if (
                other_begin_s <= end_s
                and other_end_s >= begin_s
                and not (begin_s <= other_begin_s and other_end_s <= end_s)
            ):
                begin_s, end_s, grown = min(begin_s, other_begin_s), max(end_s, other_end_s), True
    return begin_s, end_s


class GridCaps:
    """The grid's events as they are known."""

    def __init__(self, sites: Sites) -> None:
        self._sites = sites
        self._events: dict[tuple[str, str], GridEventAnnounced] = {}

    def announce(self, event: GridEventAnnounced) -> bool:
        """Take over an event, unless a later word on it is known; whether it was."""
        known = self._events.get((event.site, event.event_id))
        if known is not None and event.announced_at < known.announced_at:
            return False
        self._events[event.site, event.event_id] = event
        return True

    def caps(self, closed: Iterable[tuple[str, Span]], now_s: float) -> Caps:
        """By site and hour. ``closed``: sites and the spans in which nothing is to start or run on there."""
        caps: Caps = {}
        open_events = [event for event in self._events.values() if event.status == "announced"]
        for (name, _), event in list(self._events.items()):
            site = self._sites.by_name.get(name)
            if event.end.timestamp() <= now_s:
                del self._events[name, event.event_id]
            elif site is not None and event.status == "announced":
                span = _span(event)
                begin_s, end_s = joined(span, (_span(other) for other in open_events if other.site == name))
                battery_w = site.battery_w(end_s - begin_s)
                watts = max(0, floor(event.power_cap_w + battery_w - site.idle_w))
                caps.setdefault(site.index, []).append((*_hours(span), watts))
        for name, span in closed:
            site = self._sites.by_name.get(name)
            if site is not None:
                caps.setdefault(site.index, []).append((*_hours(span), 0))
        return caps


def _span(event: GridEventAnnounced) -> Span:
    return event.start.timestamp(), event.end.timestamp()


def _hours(span: Span) -> tuple[int, int]:
    return floor(span[0] / SLOT_S), -floor(-span[1] / SLOT_S)
