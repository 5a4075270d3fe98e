"""How far named places are from the sites: as the network measures it, else as the sites declare it.

A measured round trip wins over a declared one while the measurement is valid. What a site neither measures nor declares itself it may
know by way of another site: the measured way there, and from there what that site declares. Everything here is read off the last
record of each site, so a recovered core knows the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from services.cmo.core.sites import Site
    from solyx.events import PlaceLatency, SiteLatenciesMeasured

_AT_HOME = "the site itself"
_DECLARED = "declared"
_MEASURED = "measured"


@dataclass(frozen=True, slots=True)
class Reading:
    """A round trip, and how it is known."""

    ms: float  # infinite: there is no way
    how: str
    since_s: float = -inf  # it has been at least this long from then on; what is declared holds for ever

    def between(self, site: str, place: str) -> str:
        """The same as a sentence."""
        if self.ms == inf:
            return f"{site} has no way to {place} ({self.how})"
        return f"{site} is {self.ms:g} ms from {place} ({self.how})"

    @property
    def words(self) -> str:
        """The figure and where it comes from."""
        return f"no way ({self.how})" if self.ms == inf else f"{self.ms:g} ms ({self.how})"


class Latencies:
    """The last measurements of each site. ``changes`` grows whenever another round trip may come out."""

    def __init__(self) -> None:
        self.changes = 0
        self._last: dict[str, SiteLatenciesMeasured] = {}
        self._valid: dict[str, Mapping[str, PlaceLatency]] = {}

    def fold(self, event: SiteLatenciesMeasured) -> None:
        """The later measurement of a site counts."""
        known = self._last.get(event.site)
        if known is not None and event.measured_at <= known.measured_at:
            return
        self._last[event.site] = event
        if self._valid.get(event.site) != event.places:
            self._valid[event.site] = event.places
            self.changes += 1

    def expire(self, now: datetime) -> None:
        """Forget what is valid no more."""
        for site, event in self._last.items():
            if event.valid_until <= now and self._valid.get(site):
                self._valid[site] = {}
                self.changes += 1

    def reading(self, site: str, place: str, sites: Mapping[str, Site]) -> Reading | None:
        """From a site to a place; None when nobody knows a way. ``sites``: all, by name, with what they declare."""
        if site == place:
            return Reading(0.0, _AT_HOME)
        measured = self._valid.get(site, {})
        if place in measured:
            return _reading(measured[place], 0.0, _MEASURED)
        own = sites[site].observed.latency_ms.get(place)
        if own is not None:
            return Reading(own, _DECLARED)
        ways = [
            _reading(way, further, f"{_MEASURED} to {other}, {_DECLARED} from there")
            for other, way in measured.items()
            if other in sites and (further := sites[other].observed.latency_ms.get(place)) is not None
        ]
        return min(ways, key=lambda way: (way.ms, way.how), default=None)


def _reading(latency: PlaceLatency, further_ms: float, how: str) -> Reading:
    ms = inf if latency.round_trip_ms is None else latency.round_trip_ms + further_ms
    return Reading(ms, how, latency.since.timestamp())
