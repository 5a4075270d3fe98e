"""Over which path two sites talk (topic ``routes``, written by the SDN)."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from solyx.events.event import Event, NonNegative, PositiveInt, Time


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
    reason: RouteReason
    decided_at: Time

    @property
    def key(self) -> str:
        return f"{self.source}>{self.target}"

    @property
    def id(self) -> str:
        return f"{self.key}.{self.revision}"
