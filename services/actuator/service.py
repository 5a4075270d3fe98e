"""The actuator beside its log: brings observations into the core, hands its commands to the workers, waits for them at the end.

Commands go out before ``decide`` already: what was folded is committed by its writer, and the core holds back whatever must
wait for a report that is not committed yet. A quick cluster's answer is waited for, briefly, so that a job's ``started``
leaves in the same transaction in which its allocation was taken note of.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Protocol, TypeVar

from services.actuator.backoff import Backoff, Breaker
from services.actuator.core import ActuatorCore
from services.actuator.metrics import ACTUATIONS, QUEUE
from services.actuator.model import Command, CommandsDone, CommandsFailed, Observation, RoutesDone, RoutesFailed
from services.actuator.workers import NETWORK, Calls, ClusterCalls, Inbox, NetworkCalls, Worker
from solyx.bus.runner import Role
from solyx.clock import monotonic_s
from solyx.events import RouteDecided
from solyx.telemetry import get_logger
from solyx.topics import ACTUATIONS as ACTUATIONS_TOPIC
from solyx.topics import ALLOCATIONS, ROUTES, SITE_PARTITIONS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from services.actuator.settings import ActuatorSettings
    from services.actuator.targets import ClusterTarget, NetworkTarget
    from solyx.bus.runner import Core

log = get_logger()

C = TypeVar("C")

TICK_S = 0.02
"""Longest wait for input: how late a completion that a worker saw can be reported."""
ANSWER_WAIT_S = 0.01
"""How long the shard waits for answers to what it has just handed out; only for targets whose last call was quicker than this."""
STOP_S = 10.0
"""How long calls at hand may take to end when the shard goes. A longer one is fenced by its revision."""


class Targets(Protocol):
    """Where the clusters and the network are."""

    def cluster(self, site: str) -> ClusterTarget:
        """The cluster of a site."""
        ...

    def network(self) -> NetworkTarget:
        """The network between the sites."""
        ...


class ShardHands:
    """The hooks of one shard, from its recovery until it goes."""

    def __init__(self, shard: int, targets: Targets, settings: ActuatorSettings) -> None:
        self._shard, self._targets, self._settings = shard, targets, settings
        self._backoff = Backoff(seed=shard)
        self._inbox = Inbox()
        self._clusters: dict[str, Worker[Command]] = {}
        self._network: Worker[RouteDecided] | None = None
        self._unanswered: Counter[str] = Counter()  # commands handed out and not observed, by target

    def started(self, core: Core) -> None:
        """Look at every site and hand out what is due."""
        self._hand_out(_own(core))

    def before_decide(self, core: Core, now: datetime) -> None:
        """Bring in what workers saw, hand out what that allows, and take the quick answers along."""
        del now
        actuator = _own(core)
        self._bring_in(actuator)
        awaited = self._hand_out(actuator)
        deadline_s = monotonic_s() + ANSWER_WAIT_S
        while any(self._unanswered[name] for name in awaited) and (left_s := deadline_s - monotonic_s()) > 0:
            if self._inbox.wait(left_s):
                self._bring_in(actuator)

    def after_commit(self, core: Core, now: datetime) -> None:
        """Hand out what waited for a report, and count."""
        del now
        actuator = _own(core)
        self._hand_out(actuator)
        for (site, status), count in actuator.take_tally().items():
            ACTUATIONS.labels(site, status).inc(count)
        for site in self._clusters:
            QUEUE.labels(site).set(actuator.backlog(site) + self._unanswered[site])

    def stopped(self) -> None:
        """Return when no call is under way, or after ``STOP_S``."""
        workers = [*self._clusters.values(), *([self._network] if self._network else [])]
        for worker in workers:
            worker.ask_to_stop()
        deadline_s = monotonic_s() + STOP_S
        left = [worker for worker in workers if not worker.join(max(0.0, deadline_s - monotonic_s()))]
        if left:
            log.warning("calls_still_under_way", shard=self._shard, targets=[worker.name for worker in left])

    # ------------------------------------------------------------------------------------------------------------------

    def _bring_in(self, core: ActuatorCore) -> None:
        for worker in (*self._clusters.values(), self._network):
            if worker is not None and worker.error is not None:
                raise worker.error
        wall_s = monotonic_s()
        for observation in self._inbox.take():
            self._note_answers(observation)
            core.observe(observation, wall_s=wall_s)

    def _note_answers(self, observation: Observation) -> None:
        match observation:
            case CommandsDone(site=site, outcomes=answered) | CommandsFailed(site=site, commands=answered):
                self._unanswered[site] -= len(answered)
            case RoutesDone(outcomes=answered) | RoutesFailed(routes=answered):
                self._unanswered[NETWORK] -= len(answered)
            case _:
                pass

    def _hand_out(self, core: ActuatorCore) -> list[str]:
        """Give workers what they have room for; returns the targets whose answers are worth waiting for."""
        wall_s = monotonic_s()
        awaited: list[str] = []
        for site in core.sites:
            worker = self._cluster(site)
            room = worker.room()
            if room and (commands := core.commands(site, limit=room, wall_s=wall_s)):
                self._offer(worker, commands, awaited)
        if core.has_routes():
            worker = self._network_worker()
            room = worker.room()
            if room and (routes := core.route_commands(limit=room, wall_s=wall_s)):
                self._offer(worker, routes, awaited)
        return awaited

    def _offer(self, worker: Worker[C], commands: Sequence[C], awaited: list[str]) -> None:
        self._unanswered[worker.name] += len(commands)
        worker.offer(commands)
        if worker.last_call_s < ANSWER_WAIT_S:
            awaited.append(worker.name)

    def _cluster(self, site: str) -> Worker[Command]:
        worker = self._clusters.get(site)
        if worker is None:
            worker = self._clusters[site] = self._worker(site, ClusterCalls(site, self._targets.cluster(site)))
        return worker

    def _network_worker(self) -> Worker[RouteDecided]:
        if self._network is None:
            self._network = self._worker(NETWORK, NetworkCalls(self._targets.network()))
        return self._network

    def _worker(self, name: str, calls: Calls[C]) -> Worker[C]:
        worker = Worker(
            name,
            calls,
            self._inbox,
            Breaker(name, self._backoff),
            poll_s=self._settings.poll_s,
            list_interval_s=self._settings.list_interval_s,
            batch=self._settings.batch_commands,
        )
        worker.start()
        return worker


def _own(core: Core) -> ActuatorCore:
    """The role's own core; the runner knows it only as a core."""
    assert isinstance(core, ActuatorCore)
    return core


def role(targets: Targets, settings: ActuatorSettings) -> Role:
    """What the actuator does with its shards. A standby would have nothing to do: the clusters hold the state."""
    return Role(
        service="actuator",
        inputs=(ALLOCATIONS, ROUTES),
        outputs=(ACTUATIONS_TOPIC,),
        shards=SITE_PARTITIONS,
        by="site",
        standby=False,
        make_core=lambda shard: ActuatorCore(backoff=Backoff(seed=shard)),
        hooks=lambda shard: ShardHands(shard, targets, settings),
        tick_s=TICK_S,
    )
