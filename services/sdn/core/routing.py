"""Decides the path of each ordered pair of sites.

The simple algorithm: for every pair, compute the protected path of least weight now; publish it when the pair has no route, when its
route has lost a link, when its route is congested and the new path is not, or when the new path is lighter by more than the
hysteresis. Here only the pairs that something has happened to are computed: a link that went down or grew busier touches the routes
over it, anything that could attract a route touches all. Links lost and sites found are decided at once; what only counters ask for
waits for the evaluation interval, and a change by choice for the route's dwell time.
"""

from __future__ import annotations

import heapq
import itertools
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from services.sdn.core.latencies import Latencies, Survey
from services.sdn.core.links import Ends, LinkState, observe
from services.sdn.core.movements import Movements
from services.sdn.core.paths import Graph, least_path, protected_path
from services.sdn.model import LOCAL_HEADROOM_BPS, Pair, Path, Policy, Protected
from solyx.events import (
    Event,
    JobFinished,
    JobPlaced,
    LinkObserved,
    PlacementWithdrawn,
    RouteDecided,
    RouteReason,
    RouteReported,
    SiteLatenciesMeasured,
    SiteObserved,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class _Dirty:
    """Pairs that must be looked at again."""

    def __init__(self) -> None:
        self._pairs: set[Pair] = set()
        self._all = False

    def add(self, *pairs: Pair) -> None:
        self._pairs.update(pairs)

    def add_all(self) -> None:
        self._all = True

    def __bool__(self) -> bool:
        return self._all or bool(self._pairs)

    def take(self, every: Iterable[Pair]) -> set[Pair]:
        pairs = set(every) if self._all else self._pairs
        self._pairs, self._all = set(), False
        return pairs


class SdnCore:
    """Folds links, sites, placements and routes; decides routes."""

    def __init__(self, policy: Policy | None = None) -> None:
        self._policy = policy or Policy()
        self._links: dict[str, LinkState] = {}
        self._graph = Graph({})
        self._sites: dict[
            str, tuple[datetime, str, frozenset[str]]
        ] = {}  # when observed, network node, places it names
        self._routes: dict[Pair, RouteDecided] = {}
        self._reports: dict[Pair, RouteReported] = {}  # the network's last word on each route
        self._latencies = Latencies(self._policy)
        self._surveyed_at: datetime | None = None
        self._movements = Movements(self._policy.movement_s)
        self._urgent = _Dirty()  # to be decided at once
        self._routine = _Dirty()  # at the next evaluation
        self._wakes: list[tuple[datetime, Pair | None]] = []  # None: all pairs
        self._evaluated_at: datetime | None = None
        self._topology_changed = False
        self._settled_at: datetime | None = None

    # ---- fold -------------------------------------------------------------------------------------------------------

    def fold(self, event: Event) -> None:
        """Merge an event: the later observation and the higher revision win, a repeat changes nothing."""
        match event:
            case LinkObserved():
                self._fold_link(event)
            case SiteObserved():
                self._fold_site(event)
            case RouteDecided():
                self._fold_route(event)
            case RouteReported():
                self._fold_report(event)
            case SiteLatenciesMeasured():
                self._latencies.fold(event)
            case JobPlaced() | PlacementWithdrawn() | JobFinished():
                if self._movements.fold(event):
                    self._routine.add_all()
            case _:
                pass

    def _fold_link(self, event: LinkObserved) -> None:
        known = self._links.get(event.link)
        if known is not None and known.observed_at >= event.observed_at:
            return
        state = observe(known, event, self._policy)
        self._links[event.link] = state
        if known is None or known.ends != state.ends:
            self._topology_changed = True
            self._urgent.add_all()
        elif known.stands() and not state.stands():
            self._urgent.add(*self._pairs_over(state.ends))
        elif not known.stands() and state.stands():
            usable_from = state.usable_from(self._policy) or state.observed_at
            heapq.heappush(self._wakes, (usable_from, None))
        elif self._movements and state.rate_bps != known.rate_bps:
            self._routine.add_all()  # with the reserve on top, the step may be another one
        elif state.weight(self._policy) != known.weight(self._policy):
            if state.weight(self._policy) > known.weight(self._policy):
                self._routine.add(*self._pairs_over(state.ends))
            else:
                self._routine.add_all()

    def _fold_site(self, event: SiteObserved) -> None:
        known = self._sites.get(event.site)
        if known is not None and known[0] >= event.observed_at:
            return
        node = event.network_node or event.site
        self._sites[event.site] = (event.observed_at, node, frozenset(event.latency_ms))
        if known is None or known[1] != node:
            self._topology_changed = True
            self._urgent.add_all()

    def _fold_route(self, event: RouteDecided) -> None:
        pair = (event.source, event.target)
        known = self._routes.get(pair)
        if known is None or event.revision > known.revision:
            self._routes[pair] = event
            self._routine.add(pair)

    def _fold_report(self, event: RouteReported) -> None:
        pair = (event.source, event.target)
        known = self._reports.get(pair)
        if known is None or (event.revision, event.at) > (known.revision, known.at):
            self._reports[pair] = event
            self._routine.add(pair)

    def _pairs(self) -> Iterable[Pair]:
        return ((source, target) for source in self._sites for target in self._sites if source != target)

    def _pairs_over(self, ends: Ends) -> list[Pair]:
        """Pairs whose path or backup crosses the link."""
        hop = (ends.source, ends.target)
        return [pair for pair, route in self._routes.items() if hop in _hops(route.path) or hop in _hops(route.backup)]

    # ---- decide -----------------------------------------------------------------------------------------------------

    def decide(self, now: datetime) -> list[Event]:
        """Routes, then latencies along them, to publish now; they are part of the state already."""
        routes = self._decide_routes(now)
        return [*routes, *self._measure(now, at_once=bool(routes))]

    def _measure(self, now: datetime, *, at_once: bool) -> list[SiteLatenciesMeasured]:
        """How far places are: after every change of a route, else at every evaluation interval."""
        interval = timedelta(seconds=self._policy.evaluation_interval_s)
        due = self._surveyed_at is None or now >= self._surveyed_at + interval
        if not self._links or not (due or at_once):
            return []
        self._surveyed_at = now
        weights = {name: link.weight(self._policy) for name, link in self._links.items() if self._usable(link, now)}
        survey = Survey(links=self._links, graph=self._graph, weights=weights, now=now, policy=self._policy)
        sites = {name: node for name, (_, node, _) in self._sites.items()}
        places = {place for _, _, named in self._sites.values() for place in named}
        return self._latencies.tell(survey, sites=sites, places=places, routes=self._routes, now=now)

    def _decide_routes(self, now: datetime) -> list[RouteDecided]:
        self._wake(now)
        if not self._urgent and not self._routine:
            return []
        if not self._links:
            return []  # nothing is known of the network: to call it disconnected would be a guess
        due = self._urgent.take(self._pairs())
        interval = timedelta(seconds=self._policy.evaluation_interval_s)
        if self._routine and (self._evaluated_at is None or now >= self._evaluated_at + interval):
            due |= self._routine.take(self._pairs())
            self._evaluated_at = now
        known = [pair for pair in sorted(due) if pair[0] in self._sites and pair[1] in self._sites]
        return self._evaluate(known, now) if known else []

    def _wake(self, now: datetime) -> None:
        if self._topology_changed:
            self._topology_changed = False
            self._graph = Graph({name: link.ends for name, link in self._links.items()})
            self._settled_at = now + timedelta(seconds=self._policy.settle_s)
        while self._wakes and self._wakes[0][0] <= now:
            _, pair = heapq.heappop(self._wakes)
            if pair is None:
                self._urgent.add_all()
            else:
                self._urgent.add(pair)
        if self._movements.expire(now):
            self._routine.add_all()

    def _evaluate(self, pairs: list[Pair], now: datetime) -> list[RouteDecided]:
        decided: list[RouteDecided] = []
        usable = [name for name, link in self._links.items() if self._usable(link, now)]
        demands = self._movements.demands()
        reserved = self._reserved(demands)
        total = _sums(reserved)
        moving = _sums(self._reserved(self._movements.under_way(now)))
        shared = {name: self._links[name].weight(self._policy, total.get(name, 0.0)) for name in usable}
        for pair in pairs:
            others = dict(total)
            for name, by_pair in reserved.items():
                if pair in by_pair:
                    others[name] = sum(bps for other, bps in by_pair.items() if other != pair)
            view = _View(self._links, self._policy, others, demands.get(pair, 0.0), moving)
            weights = {name: view.weight(name) for name in usable} if pair in demands else shared
            route = self._choose(pair, view, weights, now)
            if route is not None:
                self._routes[pair] = route
                decided.append(route)
                # A repair keeps what still works; what would be better than that is looked for when the route may change.
                heapq.heappush(self._wakes, (now + timedelta(seconds=self._policy.dwell_s), pair))
                if pair in demands:
                    self._routine.add_all()  # its traffic goes elsewhere now
        return decided

    def _reserved(self, demands: Mapping[Pair, float]) -> dict[str, dict[Pair, float]]:
        """What the movements of each pair put on each link of its present route, in bit/s."""
        reserved: dict[str, dict[Pair, float]] = {}
        for pair, demand_bps in demands.items():
            route = self._routes.get(pair)
            for name in self._names(route.path) if route is not None else ():
                reserved.setdefault(name, {})[pair] = demand_bps
        return reserved

    def _usable(self, link: LinkState, now: datetime) -> bool:
        if not link.stands():
            return False
        usable_from = link.usable_from(self._policy)
        return usable_from is None or now >= usable_from

    def _names(self, path: tuple[str, ...]) -> list[str]:
        return [name for hop in _hops(path) if (name := self._graph.between.get(hop)) is not None]

    def _choose(self, pair: Pair, view: _View, weights: Mapping[str, float], now: datetime) -> RouteDecided | None:
        """Steps: a route that cannot stay is replaced; one that can is changed by choice, or given a new backup."""
        source, target = self._sites[pair[0]][1], self._sites[pair[1]][1]
        best = protected_path(self._graph, weights, source, target)
        current = self._routes.get(pair)
        if current is None and self._settled_at is not None and now < self._settled_at:
            heapq.heappush(self._wakes, (self._settled_at, pair))
            return None
        if current is None or not current.path or (current.path[0], current.path[-1]) != (source, target):
            if best is None and current is not None and not current.path:
                return None
            return self._route(pair, view, best, RouteReason.FIRST, now)
        if not self._stands(current.path):
            return self._route(pair, view, best, RouteReason.LINK_DOWN, now)
        may_change_at = current.decided_at + timedelta(seconds=self._policy.dwell_s)
        reason = self._reason_to_change(current, view, best) if best is not None else None
        if reason is not None and now >= may_change_at:
            return self._route(pair, view, best, reason, now)
        if reason is not None:
            heapq.heappush(self._wakes, (may_change_at, pair))
        return self._mend(pair, view, current, weights, best, now)

    def _reason_to_change(self, current: RouteDecided, view: _View, best: Protected) -> RouteReason | None:
        names = self._names(current.path)
        bound = self._policy.max_utilisation
        if view.worst(names) > bound >= view.worst(best.path.links):
            return RouteReason.CONGESTED
        if best.path.weight < sum(view.weight(name) for name in names) * (1 - self._policy.hysteresis):
            return RouteReason.BETTER_PATH
        report = self._reports.get((current.source, current.target))
        if report is not None and report.status == "failed" and report.revision == current.revision:
            return current.reason  # the network did not take it: ask again
        return None

    def _mend(
        self,
        pair: Pair,
        view: _View,
        current: RouteDecided,
        weights: Mapping[str, float],
        best: Protected | None,
        now: datetime,
    ) -> RouteDecided | None:
        """A new backup for a path that stays: at once where the old one broke, else when the dwell time is over."""
        if (current.backup and self._stands(current.backup)) or len(current.path) == 1:
            return None
        names = tuple(self._names(current.path))
        standing = Path(links=names, weight=sum(view.weight(name) for name in names))
        backup = least_path(self._graph, weights, current.path[0], current.path[-1], self._graph.cables(names))
        if current.backup:
            return self._route(pair, view, Protected(path=standing, backup=backup), RouteReason.LINK_DOWN, now)
        found = Protected(path=standing, backup=backup) if backup is not None else best
        if found is None or found.backup is None:
            return None
        may_change_at = current.decided_at + timedelta(seconds=self._policy.dwell_s)
        if now < may_change_at:
            heapq.heappush(self._wakes, (may_change_at, pair))
            return None
        return self._route(pair, view, found, RouteReason.BETTER_PATH, now)

    def _stands(self, path: tuple[str, ...]) -> bool:
        names = self._names(path)
        return len(names) == len(path) - 1 and all(self._links[name].stands() for name in names)

    def _route(
        self, pair: Pair, view: _View, chosen: Protected | None, reason: RouteReason, now: datetime
    ) -> RouteDecided:
        current = self._routes.get(pair)
        revision = current.revision + 1 if current is not None else 1
        if chosen is None:
            return RouteDecided(
                source=pair[0], target=pair[1], revision=revision, path=(), reason=RouteReason.NO_PATH, decided_at=now
            )
        links = [self._links[name] for name in chosen.path.links]
        return RouteDecided(
            source=pair[0],
            target=pair[1],
            revision=revision,
            path=self._nodes(chosen.path, self._sites[pair[0]][1]),
            backup=self._nodes(chosen.backup, self._sites[pair[0]][1]) if chosen.backup is not None else (),
            latency_ms=sum(link.latency_ms for link in links),
            headroom_bps=min((view.headroom_bps(name) for name in chosen.path.links), default=LOCAL_HEADROOM_BPS),
            free_bps=tuple(view.free_bps(name) for name in chosen.path.links),
            reason=reason,
            decided_at=now,
        )

    def _nodes(self, path: Path, source: str) -> tuple[str, ...]:
        return (source, *(self._graph.ends[name].target for name in path.links))


class _View:
    """The network as one pair sees it: counters, the reserve for other pairs' movements, and its own demand on top."""

    def __init__(
        self,
        links: Mapping[str, LinkState],
        policy: Policy,
        others_bps: Mapping[str, float],
        own_bps: float,
        moving_bps: Mapping[str, float],
    ) -> None:
        self._links, self._policy, self._others_bps, self._own_bps = links, policy, others_bps, own_bps
        self._moving_bps = moving_bps

    def _extra_bps(self, name: str) -> float:
        return self._others_bps.get(name, 0.0) + self._own_bps

    def weight(self, name: str) -> float:
        return self._links[name].weight(self._policy, self._extra_bps(name))

    def worst(self, names: Iterable[str]) -> float:
        """The highest utilisation along a path."""
        return max((self._links[name].utilisation(self._extra_bps(name)) for name in names), default=0.0)

    def headroom_bps(self, name: str) -> float:
        """Capacity that neither counters nor other pairs' movements use."""
        link = self._links[name]
        return max(link.capacity_bps - link.rate_bps - self._others_bps.get(name, 0.0), 0.0)

    def free_bps(self, name: str) -> float:
        """Capacity that no traffic but movements uses: what of the counters is data under way ends when that has arrived."""
        link = self._links[name]
        return max(link.capacity_bps - max(link.rate_bps - self._moving_bps.get(name, 0.0), 0.0), 0.0)


def _sums(by_link: Mapping[str, Mapping[Pair, float]]) -> dict[str, float]:
    """Of all pairs, by link."""
    return {name: sum(by_pair.values()) for name, by_pair in by_link.items()}


def _hops(path: tuple[str, ...]) -> list[tuple[str, str]]:
    return list(itertools.pairwise(path))
