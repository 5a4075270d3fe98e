"""The reconciler of one shard: allocations and routes in, commands to targets out, reports of what came of them.

Level-triggered: what to do follows from what should be (folded from the topics) and what is (observed on the targets), not
from which event came last. A repeat, a reorder, a second actuator or a crash between any two steps changes nothing in the end.

Two kinds of time: ``now`` is scenario time, for reports; ``wall_s`` are monotonic wall seconds, for back-off.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from services.actuator.core.routes import Routes
from services.actuator.core.sites import Site
from services.actuator.model import (
    Command,
    CommandsDone,
    CommandsFailed,
    Observation,
    RoutesDone,
    RoutesFailed,
    RoutesSeen,
    SiteSeen,
)
from solyx.events import (
    AllocationDeferred,
    AllocationReleased,
    Event,
    JobAllocated,
    RouteDecided,
    RouteReported,
    WorkloadReported,
)

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from services.actuator.backoff import Backoff


class ActuatorCore:
    """Desired and reported state of the sites and routes of a shard."""

    def __init__(self, *, backoff: Backoff) -> None:
        self._backoff = backoff
        self._sites: dict[str, Site] = {}
        self._routes = Routes(backoff)
        self._tally: Counter[tuple[str, str]] = Counter()

    # ------------------------------------------------------------------------------------------------------ the runner

    def fold(self, event: Event) -> None:
        """Merge an event of the inputs or an own report. Events that concern no target are ignored."""
        match event:
            case JobAllocated() | AllocationReleased() | AllocationDeferred() | WorkloadReported():
                if not self._site(event.site).fold(event):
                    self._tally[event.site, "refused"] += 1
            case RouteDecided():
                self._routes.decided(event)
            case RouteReported():
                self._routes.reported(event)
            case _:
                pass

    def decide(self, now: datetime) -> list[Event]:
        """Reports that were not made yet: each status of a revision once."""
        events: list[Event] = []
        for site in self._sites.values():
            for report in site.decide(now):
                self._tally[report.site, report.status] += 1
                events.append(report)
        events.extend(self._routes.decide(now))
        return events

    # ----------------------------------------------------------------------------------------------------- the targets

    def observe(self, observation: Observation, *, wall_s: float) -> None:
        """Merge what a worker brings back."""
        match observation:
            case CommandsDone(site=name, outcomes=outcomes):
                for command, outcome in outcomes:
                    self._site(name).done(command, outcome, wall_s=wall_s)
            case CommandsFailed(site=name, commands=commands):
                self._site(name).failed(commands)
            case SiteSeen(site=name, changes=changes):
                self._site(name).saw(changes)
            case RoutesDone(outcomes=outcomes):
                for outcome in outcomes:
                    self._routes.done(outcome, wall_s=wall_s)
            case RoutesFailed(routes=routes):
                self._routes.failed(routes)
            case RoutesSeen(installed=installed):
                self._routes.saw(installed)

    def commands(self, site: str, *, limit: int, wall_s: float) -> list[Command]:
        """What a site's cluster is to do next, at most ``limit``; under way until observed."""
        return self._site(site).commands(limit=limit, wall_s=wall_s)

    def route_commands(self, *, limit: int, wall_s: float) -> list[RouteDecided]:
        """What the network is to do next, at most ``limit``; under way until observed."""
        return self._routes.commands(limit=limit, wall_s=wall_s)

    # --------------------------------------------------------------------------------------------------------- figures

    @property
    def sites(self) -> Collection[str]:
        """Every site that an event of this shard named."""
        return self._sites.keys()

    def has_routes(self) -> bool:
        """Whether any route belongs to this shard."""
        return len(self._routes) > 0

    def jobs(self, site: str) -> int:
        """Jobs at a site that are not over."""
        return len(self._site(site))

    def backlog(self, site: str) -> int:
        """Jobs at a site that wait for a command."""
        return self._site(site).backlog

    def take_tally(self) -> Counter[tuple[str, str]]:
        """How many reports were made since the last call, by site and status, and stale events refused."""
        tally, self._tally = self._tally, Counter()
        return tally

    def _site(self, name: str) -> Site:
        site = self._sites.get(name)
        if site is None:
            site = self._sites[name] = Site(name, self._backoff)
        return site
