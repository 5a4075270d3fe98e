"""The loop around every decision core: poll a batch → fold → decide → produce decisions and commit offsets in one transaction.

The simple algorithm: for each shard that this replica owns, open its log, fold every record from the beginning (inputs and the
shard's own outputs), then for ever read a batch, fold it, ask the core what it decides now, and commit decisions and offsets
together. Whatever fails between two commits never happened: the core is dropped and recovered from the log.

A shard is one thread (`worker.py`); this module decides which shards run here, follows along where a standby is wanted, and
gives a shard up before another replica gets it.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from solyx.bus.port import Bus, Fenced, Ownership, Transient
from solyx.bus.probe import BrokerProbe
from solyx.bus.worker import ShardWorker
from solyx.clock import monotonic_s
from solyx.telemetry import get_logger
from solyx.topics import DEADLETTERS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from solyx.clock import Clock
    from solyx.events import Event
    from solyx.settings import Settings
    from solyx.topics import Topic

log = get_logger()

JOIN_POLL_S = 0.1
STOP_TIMEOUT_S = 8.0
COMMIT_WITHIN_S = 30.0
"""Longer than any call of a transaction may take by its time-out. One whose time-out does not hold is not waited for."""


class Core(Protocol):
    """A pure decision core."""

    def fold(self, event: Event) -> None:
        """Merge an event, by revision: a repeat changes nothing, events of different subjects commute. Own decisions too."""
        ...

    def decide(self, now: datetime) -> Sequence[Event]:
        """What to do now. The decisions are already part of the state when they are returned."""
        ...


class Hooks(Protocol):
    """Effects beside the log (the actuator's). All are called on the shard's thread."""

    def started(self, core: Core) -> None:
        """The core is recovered and this replica leads the shard."""
        ...

    def before_decide(self, core: Core, now: datetime) -> None:
        """Bring what was observed into the core."""
        ...

    def after_commit(self, core: Core, now: datetime) -> None:
        """Hand out what the committed state asks for."""
        ...

    def stopped(self) -> None:
        """The shard goes. Returns when nothing of it is in flight any more."""
        ...


@dataclass(frozen=True, kw_only=True)
class Role:
    """What a service does with its shards."""

    service: str
    inputs: tuple[Topic, ...]
    outputs: tuple[Topic, ...]
    shards: int
    by: Literal["site", "all"]  # a shard reads its own partition of each input, or all
    standby: bool  # replicas that do not own the shard fold along
    make_core: Callable[[int], Core]
    hooks: Callable[[int], Hooks] | None = None
    tick_s: float = 0.05  # longest wait for input before the core is asked again


class ServiceRunner:
    """Runs one role in this process until ``stop``."""

    def __init__(self, role: Role, settings: Settings, bus: Bus, clock: Clock) -> None:
        self._role, self._settings, self._bus, self._clock = role, settings, bus, clock
        self._workers: dict[int, ShardWorker] = {}
        self._stopping = threading.Event()
        self._failed: BaseException | None = None
        self._owned: frozenset[int] | None = None
        self._progress_at = monotonic_s()
        self._probe = BrokerProbe(bus)
        self._thread = threading.Thread(target=self._run, name=f"{role.service}-shards", daemon=True)

    def start(self) -> None:
        """Join the service's replicas and work."""
        self._probe.start()
        self._thread.start()

    def stop(self) -> None:
        """Finish the batch at hand, leave the group, return when all is closed."""
        self._probe.stop()
        self._stopping.set()
        self._thread.join(STOP_TIMEOUT_S * 2)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for the end; True when it came."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def failed(self) -> BaseException | None:
        """The bug that ended the runner; the process must leave with an error and be started anew."""
        return self._failed

    def ready(self) -> bool:
        """The broker answers, every owned shard is recovered and led; where standbys are wanted, the others caught up."""
        if self._owned is None or self._stopping.is_set() or not self._thread.is_alive() or not self._probe.answers:
            return False
        workers = dict(self._workers)
        return all(shard in workers and workers[shard].leading for shard in self._owned) and all(
            worker.recovered for worker in workers.values()
        )

    def details(self) -> dict[str, object]:
        """For ``/readyz``: shards, lag and broker."""
        workers = dict(self._workers)
        return {
            "shards": sorted(self._owned or ()),
            "leading": sorted(shard for shard, worker in workers.items() if worker.leading),
            "lag": sum(worker.lag for worker in workers.values()),
            "broker": self._probe.status,
        }

    def stalled_s(self) -> float:
        """How long ago the group or, if it was longer, a shard was last heard to go on; for the watchdog."""
        return monotonic_s() - min(
            (self._progress_at, *(worker.progress_at for worker in dict(self._workers).values()))
        )

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                ownership = self._join()
                if ownership is None:
                    return
                try:
                    self._share(ownership)
                except Transient as error:
                    log.warning("group_lost", error=str(error))
                    self._owned = None
                finally:
                    self._give_up(frozenset(self._workers))
                    ownership.close()
        except Fenced as error:
            log.error("replica_fenced", error=str(error))  # noqa: TRY400 - a fact, not a bug: another process has our name
            self._failed = error
        except BaseException as error:
            log.exception("runner_failed")
            self._failed = error

    def _join(self) -> Ownership | None:
        """Topics first, then the group; waits for a broker that is not there yet."""
        role = self._role
        while not self._stopping.is_set():
            self._progress_at = monotonic_s()
            try:
                self._bus.ensure_topics([*role.inputs, *role.outputs, DEADLETTERS])
                self._progress_at = monotonic_s()
                return self._bus.join(
                    service=role.service, replica=self._settings.replica, shards=role.shards, on_revoked=self._give_up
                )
            except Transient as error:
                log.warning("broker_unreachable", error=str(error))
                self._stopping.wait(error.after_s)
        return None

    def _share(self, ownership: Ownership) -> None:
        while not self._stopping.is_set():
            self._progress_at = monotonic_s()
            owned = ownership.poll(JOIN_POLL_S)
            if owned or ownership.joined():
                self._owned = owned
            wanted = frozenset(range(self._role.shards)) if self._role.standby else owned
            for shard in wanted - self._workers.keys():
                self._open(shard, ownership)
            for shard, worker in tuple(self._workers.items()):
                if worker.error is not None:
                    raise worker.error
                if worker.committing_s() > COMMIT_WITHIN_S:
                    log.error("commit_does_not_return", shard=shard, service=self._role.service)
                    worker.ask_to_stop()
                    del self._workers[shard]  # opened again: the new writer fences this one
                elif shard in owned:
                    worker.lead()

    def _open(self, shard: int, ownership: Ownership) -> None:
        worker = ShardWorker(
            role=self._role,
            shard=shard,
            bus=self._bus,
            ownership=ownership,
            clock=self._clock,
            settings=self._settings,
        )
        self._workers[shard] = worker
        worker.start()

    def _give_up(self, shards: frozenset[int]) -> None:
        """Stop leading; called before another replica may own them. Standbys open them again to follow."""
        leaving = [self._workers.pop(shard) for shard in shards if shard in self._workers]
        for worker in leaving:
            worker.ask_to_stop()
        deadline = monotonic_s() + STOP_TIMEOUT_S
        for worker in leaving:
            worker.join(max(0.0, deadline - monotonic_s()))


def run_roles(roles: Sequence[Role], settings: Settings, bus: Bus, clock: Clock) -> list[ServiceRunner]:
    """Start a runner for each role of a process."""
    runners = [ServiceRunner(role, settings, bus, clock) for role in roles]
    for runner in runners:
        runner.start()
    return runners
