"""How far named places are from each site, by what the links were measured at along the paths that traffic takes now.

The simple algorithm: a round trip is the latency of the way there plus that of the way back: between two sites along their two
routes, between a site and a named place that is a network node along the least paths. It is told when it is news: it differs by
more than a share from what was told (ripples are no news), or what was told is half as old as it may become.

What is told of a place also says since when it has been at least that far: a fall keeps the time, a rise begins anew. So whoever
needs to know that a bound has been exceeded for a while reads it off the last record, and a restart of anybody forgets nothing.
"""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

from services.sdn.core.paths import least_paths
from solyx.events import PlaceLatency, SiteLatenciesMeasured

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from services.sdn.core.links import LinkState
    from services.sdn.core.paths import Graph
    from services.sdn.model import Pair, Policy
    from solyx.events import RouteDecided

LEAST_NEWS_MS = 1.0
"""A smaller change of a round trip is no news, whatever its share."""

_DIGITS = 1  # of a round trip that is told, in ms
_NO_WAY = float("inf")


class Survey:
    """What the network looks like at one moment, and how far it is from one of its nodes to another."""

    def __init__(
        self,
        *,
        links: Mapping[str, LinkState],
        graph: Graph,
        weights: Mapping[str, float],
        now: datetime,
        policy: Policy,
    ) -> None:
        """``weights``: of the links that a path may use."""
        self._links, self._graph, self._weights = links, graph, weights
        self._fresh_from = now - timedelta(seconds=policy.latency_fresh_s)
        self.nodes = frozenset(end for link in links.values() for end in (link.ends.source, link.ends.target))

    def along(self, path: Iterable[str]) -> float | None:
        """Latency one way over these links; None where one of them was not observed lately."""
        total = 0.0
        for name in path:
            link = self._links[name]
            if link.observed_at < self._fresh_from:
                return None
            total += link.latency_ms
        return total

    def over(self, nodes: tuple[str, ...]) -> float | None:
        """The same for a route's nodes."""
        names = [name for hop in pairwise(nodes) if (name := self._graph.between.get(hop)) is not None]
        return self.along(names) if len(names) == len(nodes) - 1 else None

    def best(self, source: str, targets: Iterable[str]) -> dict[str, float | None]:
        """One way over the least paths, to each target that is reached."""
        return {
            target: self.along(path.links)
            for target, path in least_paths(self._graph, self._weights, source, targets).items()
        }

    def observed(self) -> bool:
        """Whether any link was observed lately: only then does a missing way mean that there is none."""
        return any(link.observed_at >= self._fresh_from for link in self._links.values())


class Latencies:
    """What was told of each site, and whether something else is to be told."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._told: dict[str, SiteLatenciesMeasured] = {}

    def fold(self, event: SiteLatenciesMeasured) -> None:
        """Recall what was told; the later one counts."""
        known = self._told.get(event.site)
        if known is None or event.measured_at > known.measured_at:
            self._told[event.site] = event

    def tell(
        self,
        survey: Survey,
        *,
        sites: Mapping[str, str],
        places: Iterable[str],
        routes: Mapping[Pair, RouteDecided],
        now: datetime,
    ) -> list[SiteLatenciesMeasured]:
        """What is news of the sites; part of the state already. ``sites``: their network nodes. ``places``: names that may be nodes."""
        others = sorted({place for place in places if place in survey.nodes} - sites.keys())
        nodes = sorted(set(sites.values()) & survey.nodes)
        there = {node: survey.best(node, others) for node in nodes} if others else {}
        back = {place: survey.best(place, nodes) for place in others}
        news: list[SiteLatenciesMeasured] = []
        for site, node in sorted(sites.items()):
            found: dict[str, float | None] = {}
            for target in sorted(sites.keys() - {site}):
                ways = routes.get((site, target)), routes.get((target, site))
                _add(found, target, survey, *(_one_way(survey, way) for way in ways))
            for place in others if node in there else ():
                _add(found, place, survey, there[node].get(place, _NO_WAY), back[place].get(node, _NO_WAY))
            event = self._news(site, found, now)
            if event is not None:
                self._told[site] = event
                news.append(event)
        return news

    def _news(self, site: str, found: Mapping[str, float | None], now: datetime) -> SiteLatenciesMeasured | None:
        told = self._told.get(site)
        before: Mapping[str, PlaceLatency] = {} if told is None else told.places
        fresh = timedelta(seconds=self._policy.latency_fresh_s)
        old = bool(found) and (told is None or now >= told.valid_until - fresh / 2)
        if not old and found.keys() == before.keys() and not any(self._moved(before[p], found[p]) for p in found):
            return None
        places = {place: _since(before.get(place), ms, now) for place, ms in found.items()}
        return SiteLatenciesMeasured(site=site, places=places, measured_at=now, valid_until=now + fresh)

    def _moved(self, told: PlaceLatency, now_ms: float | None) -> bool:
        if told.round_trip_ms is None or now_ms is None:
            return told.round_trip_ms is not now_ms
        return abs(now_ms - told.round_trip_ms) > max(LEAST_NEWS_MS, self._policy.latency_news * told.round_trip_ms)


def _one_way(survey: Survey, route: RouteDecided | None) -> float | None:
    """Along a route: infinite where there is no way, None where nobody measures it."""
    if route is None:
        return None
    return survey.over(route.path) if route.path else _NO_WAY


def _add(found: dict[str, float | None], place: str, survey: Survey, there: float | None, back: float | None) -> None:
    """A place's round trip: left out where it is not measured, None where there is no way."""
    if there is None or back is None:
        return
    if there + back < _NO_WAY:
        found[place] = round(there + back, _DIGITS)
    elif survey.observed():
        found[place] = None


def _since(told: PlaceLatency | None, now_ms: float | None, now: datetime) -> PlaceLatency:
    """It has been at least this far since it was told to be so far or farther."""
    rose = told is None or _height(now_ms) > _height(told.round_trip_ms)
    return PlaceLatency(round_trip_ms=now_ms, since=now if rose or told is None else told.since)


def _height(round_trip_ms: float | None) -> float:
    return _NO_WAY if round_trip_ms is None else round_trip_ms
