"""Over which path two sites talk, and how far they are from each other (topics ``routes`` and ``latencies``, written by the SDN)."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from solyx.events.event import Event, Model, NonNegative, PositiveInt, Time


class RouteReason(StrEnum):
    """Why a route was published."""

    FIRST = "first"  # the pair had no route
    LINK_DOWN = "link_down"
    CONGESTED = "congested"
    BETTER_PATH = "better_path"  # better by more than the hysteresis
    NO_PATH = "no_path"  # the pair is disconnected; path is empty


class RouteDecided(Event, frozen=True, kw_only=True):
    """The path between two sites, and a link-disjoint backup where there is one."""

    TYPE: ClassVar[str] = "io.solyx.route.decided.v1"
    TOPIC: ClassVar[str] = "routes"

    source: str  # site
    target: str  # site
    revision: PositiveInt
    path: tuple[str, ...]  # network nodes, ends included
    backup: tuple[str, ...] = ()
    latency_ms: NonNegative = 0.0
    headroom_bps: NonNegative = 0.0  # least spare capacity along the path
    free_bps: tuple[
        NonNegative, ...
    ] = ()  # of each link of the path: what all but moving job data leaves; empty: not told
    reason: RouteReason
    decided_at: Time

    @property
    def key(self) -> str:
        return f"{self.source}>{self.target}"

    @property
    def id(self) -> str:
        return f"{self.key}.{self.revision}"


class PlaceLatency(Model, frozen=True, kw_only=True):
    """How far a place is, along the paths that traffic to it and back takes now."""

    round_trip_ms: NonNegative | None = None  # None: the network has no way there now
    since: Time  # it has been at least this far from then on


class SiteLatenciesMeasured(Event, frozen=True, kw_only=True):
    """How far other sites and named places are from a site, as the network measures it, whole; a later one replaces it."""

    TYPE: ClassVar[str] = "io.solyx.site.latencies_measured.v1"
    TOPIC: ClassVar[str] = "latencies"

    site: str
    places: dict[str, PlaceLatency]  # what is not here is not measured
    measured_at: Time
    valid_until: Time  # from then on it says nothing

    @property
    def key(self) -> str:
        return self.site

    @property
    def id(self) -> str:
        return f"{self.site}.latencies.{self.measured_at.isoformat()}"
