"""The routes of one shard: the highest revision of each pair wins, is installed until the network has it, and is reported once."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from services.actuator.model import InstalledRoute, RouteOutcome, Verdict
from solyx.events import RouteDecided, RouteReported

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from services.actuator.backoff import Backoff


@dataclass(slots=True, kw_only=True)
class _Route:
    decided: RouteDecided | None = None
    reported: int = 0  # highest revision whose outcome was told
    installed: int = 0  # revision that the network is believed to have
    refused: int = 0  # highest revision that the network refused for good
    in_flight: bool = False
    attempts: int = 0

    def wanted(self) -> RouteDecided | None:
        """The route to install now; None: nothing."""
        if self.decided is None or self.in_flight:
            return None
        return self.decided if self.decided.revision > max(self.installed, self.refused) else None


class Routes:
    """What the network should carry, and what it does."""

    def __init__(self, backoff: Backoff) -> None:
        self._backoff = backoff
        self._routes: dict[str, _Route] = {}
        self._outcomes: list[RouteOutcome] = []  # not reported yet
        self._wanted: OrderedDict[str, None] = OrderedDict()
        self._waiting: list[tuple[float, str]] = []
        self._listed = False

    def __len__(self) -> int:
        return len(self._routes)

    @property
    def backlog(self) -> int:
        """Routes that wait to be installed."""
        return len(self._wanted) + len(self._waiting)

    def decided(self, event: RouteDecided) -> bool:
        """Merge a decision; False: refused as stale."""
        route = self._routes.setdefault(event.key, _Route())
        if route.decided is not None and event.revision <= route.decided.revision:
            return False
        route.decided = event
        self._queue(event.key, route)
        return True

    def reported(self, event: RouteReported) -> None:
        """Merge an own report, during recovery. What was applied is believed to be there until a list says otherwise."""
        key = event.ordering_key
        route = self._routes.setdefault(key, _Route())
        route.reported = max(route.reported, event.revision)
        if event.status == "applied":
            route.installed = max(route.installed, event.revision)
        else:
            route.refused = max(route.refused, event.revision)
        self._queue(key, route)

    def done(self, outcome: RouteOutcome, *, wall_s: float) -> None:
        """Merge the outcome of an installation."""
        key = outcome.route.key
        route = self._routes[key]
        if outcome.verdict is Verdict.UNAVAILABLE:
            route.attempts += 1
            heapq.heappush(self._waiting, (wall_s + self._backoff.delay_s(key, route.attempts), key))
            return  # still in flight until then
        route.in_flight = False
        route.attempts = 0
        if outcome.verdict is Verdict.APPLIED:
            route.installed = max(route.installed, outcome.route.revision)
        else:
            route.refused = max(route.refused, outcome.route.revision)
        self._outcomes.append(outcome)
        self._queue(key, route)

    def failed(self, routes: Iterable[RouteDecided]) -> None:
        """A whole call failed: its routes are to be given again when the network answers."""
        for event in routes:
            route = self._routes[event.key]
            route.in_flight = False
            self._queue(event.key, route)

    def saw(self, installed: Iterable[InstalledRoute]) -> None:
        """Merge a complete list: what is missing or lower than decided is installed again."""
        self._listed = True
        listed = {route.key: route.revision for route in installed}
        for key, route in self._routes.items():
            if not route.in_flight:
                route.installed = listed.get(key, 0)
                self._queue(key, route)

    def decide(self, now: datetime) -> list[RouteReported]:
        """Report each outcome once."""
        if not self._outcomes:
            return []
        reports: list[RouteReported] = []
        for outcome in self._outcomes:
            route = self._routes[outcome.route.key]
            if outcome.route.revision > route.reported:
                route.reported = outcome.route.revision
                reports.append(_report(outcome, now))
        self._outcomes.clear()
        return reports

    def _queue(self, key: str, route: _Route) -> None:
        if route.wanted() is None:
            self._wanted.pop(key, None)
        else:
            self._wanted[key] = None

    def commands(self, *, limit: int, wall_s: float) -> list[RouteDecided]:
        """At most ``limit`` routes to install; none before the first list."""
        if not self._listed:
            return []
        while self._waiting and self._waiting[0][0] <= wall_s:
            _, key = heapq.heappop(self._waiting)
            self._routes[key].in_flight = False
            self._queue(key, self._routes[key])
        commands: list[RouteDecided] = []
        while self._wanted and len(commands) < limit:
            key, _ = self._wanted.popitem(last=False)
            route = self._routes[key]
            if (wanted := route.wanted()) is not None:
                route.in_flight = True
                commands.append(wanted)
        return commands


def _report(outcome: RouteOutcome, now: datetime) -> RouteReported:
    status: Literal["applied", "failed"] = "applied" if outcome.verdict is Verdict.APPLIED else "failed"
    return RouteReported(
        source=outcome.route.source,
        target=outcome.route.target,
        revision=outcome.route.revision,
        status=status,
        message=outcome.message,
        at=outcome.at or now,
    )
