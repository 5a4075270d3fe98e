"""The hands of a shard: one thread for each site, and one for the network, between the reconciler and the targets.

The simple algorithm of a worker: look at the whole target first; then for ever carry out what is queued, and look for changes.
A call that fails gives its commands back to the reconciler, waits (``Breaker``), and begins again with a complete look, because
nobody knows which part of the failed call was done.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from services.actuator.backoff import Breaker, BreakerState
from services.actuator.metrics import BREAKER, CALL, FAILURES, VERDICTS
from services.actuator.model import (
    Apply,
    Command,
    CommandsDone,
    CommandsFailed,
    Delete,
    Observation,
    RoutesDone,
    RoutesFailed,
    RoutesSeen,
    SiteSeen,
)
from solyx.bus.port import Transient
from solyx.clock import monotonic_s
from solyx.events import RouteDecided
from solyx.telemetry import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from services.actuator.targets import ClusterTarget, NetworkTarget

log = get_logger()

NETWORK = "(network)"
"""The network's name among the targets in metrics and logs."""
QUEUE_COMMANDS = 2000
"""Commands that may wait at a worker; the rest stays with the reconciler, which knows when they lapse."""
INBOX_OBSERVATIONS = 200
"""Observations that may wait for the shard; workers pause when it does not keep up."""
PAUSE_S = 0.01

C = TypeVar("C")
C_contra = TypeVar("C_contra", contravariant=True)


class Inbox:
    """Observations on their way to the shard's thread."""

    def __init__(self) -> None:
        self._observations: deque[Observation] = deque()
        self._arrived = threading.Condition()

    def put(self, observation: Observation) -> None:
        """Called by workers."""
        with self._arrived:
            self._observations.append(observation)
            self._arrived.notify()

    def take(self) -> list[Observation]:
        """Everything that has arrived, in order."""
        with self._arrived:
            observations = list(self._observations)
            self._observations.clear()
        return observations

    def wait(self, timeout_s: float) -> bool:
        """Wait until something is there."""
        with self._arrived:
            return self._arrived.wait_for(lambda: bool(self._observations), timeout_s)

    @property
    def full(self) -> bool:
        """Whether workers should pause."""
        return len(self._observations) >= INBOX_OBSERVATIONS


class Calls(Protocol[C_contra]):
    """What a worker does with its kind of target; all but ``given_back`` may raise ``Transient``."""

    def carry_out(self, commands: Sequence[C_contra]) -> Observation:
        """One batch."""
        ...

    def look(self, *, complete: bool) -> tuple[Observation | None, float | None]:
        """What is to be told, and in how many wall seconds the next change is known to come."""
        ...

    def given_back(self, commands: Sequence[C_contra]) -> Observation:
        """The batch was not, or not certainly, carried out."""
        ...


class ClusterCalls:
    """A worker's calls to one site's cluster."""

    def __init__(self, site: str, target: ClusterTarget) -> None:
        self._site = site
        self._target = target
        self._cursor: str | None = None

    def carry_out(self, commands: Sequence[Command]) -> Observation:
        """Stops before starts: what a start needs may be what a stop frees."""
        stops = [command for command in commands if isinstance(command, Delete)]
        starts = [command for command in commands if isinstance(command, Apply)]
        outcomes = [*(self._target.delete(stops) if stops else ()), *(self._target.apply(starts) if starts else ())]
        for outcome in outcomes:
            VERDICTS.labels(self._site, outcome.verdict).inc()
        return CommandsDone(site=self._site, outcomes=tuple(zip([*stops, *starts], outcomes, strict=True)))

    def look(self, *, complete: bool) -> tuple[Observation | None, float | None]:
        """The watch, resumed; or the whole list."""
        changes = self._target.observe(None if complete else self._cursor)
        self._cursor = changes.cursor
        seen = SiteSeen(site=self._site, changes=changes) if changes.states or changes.complete else None
        return seen, changes.next_in_s

    def given_back(self, commands: Sequence[Command]) -> Observation:
        """To the reconciler."""
        return CommandsFailed(site=self._site, commands=tuple(commands))


class NetworkCalls:
    """A worker's calls to the network. It has no watch: only complete lists find drift."""

    def __init__(self, target: NetworkTarget) -> None:
        self._target = target

    def carry_out(self, commands: Sequence[RouteDecided]) -> Observation:
        """Install routes."""
        outcomes = self._target.apply(commands)
        for outcome in outcomes:
            VERDICTS.labels(NETWORK, outcome.verdict).inc()
        return RoutesDone(outcomes=tuple(outcomes))

    def look(self, *, complete: bool) -> tuple[Observation | None, float | None]:
        """The whole list, when it is asked for."""
        return (RoutesSeen(installed=tuple(self._target.observe())) if complete else None), None

    def given_back(self, commands: Sequence[RouteDecided]) -> Observation:
        """To the reconciler."""
        return RoutesFailed(routes=tuple(commands))


class Worker(Generic[C]):
    """One target's queue, breaker and thread."""

    def __init__(
        self,
        name: str,
        calls: Calls[C],
        inbox: Inbox,
        breaker: Breaker,
        *,
        poll_s: float,
        list_interval_s: float,
        batch: int,
        now_s: Callable[[], float] = monotonic_s,
    ) -> None:
        self.name, self._calls, self._inbox, self._breaker = name, calls, inbox, breaker
        self._poll_s, self._list_interval_s, self._batch, self._now_s = poll_s, list_interval_s, batch, now_s
        self._queue: deque[C] = deque()
        self._wake = threading.Condition()
        self._stopping = False
        self._list_at_s = 0.0  # the next complete look is due; at once
        self._look_at_s = 0.0
        self._reported_state = BreakerState.CLOSED
        self._thread = threading.Thread(target=self._run, name=f"actuator-{name}", daemon=True)
        self.last_call_s = 0.0  # how long the last batch took
        self.error: BaseException | None = None

    # ------------------------------------------------------------------------------------------- the shard's thread

    def start(self) -> None:
        """Look, then work."""
        self._thread.start()

    def room(self) -> int:
        """How many commands may be offered now; none while the target is in trouble."""
        if self._breaker.state is not BreakerState.CLOSED or self._breaker.wait_s(self._now_s()) > 0:
            return 0
        return max(0, QUEUE_COMMANDS - len(self._queue))

    def offer(self, commands: Sequence[C]) -> None:
        """Queue commands and wake the worker."""
        with self._wake:
            self._queue.extend(commands)
            self._wake.notify()

    def __len__(self) -> int:
        return len(self._queue)

    def ask_to_stop(self) -> None:
        """Begin no other call."""
        with self._wake:
            self._stopping = True
            self._wake.notify()

    def join(self, timeout_s: float) -> bool:
        """Whether the call at hand ended in time."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    # ------------------------------------------------------------------------------------------- the worker's thread

    def _run(self) -> None:
        try:
            while not self._stopping:
                wait_s = self.turn()
                with self._wake:
                    if not self._stopping and wait_s > 0 and not (self._queue and self._may_call()):
                        self._wake.wait(wait_s)
        except BaseException as error:
            log.exception("worker_failed", target=self.name)
            self.error = error  # raised on the shard's thread

    def _may_call(self) -> bool:
        return self._breaker.wait_s(self._now_s()) <= 0 and not self._inbox.full

    def turn(self) -> float:
        """Carry out a batch and look, as far as due; returns after how many seconds the next turn is due."""
        if self._inbox.full:
            return PAUSE_S
        if (wait_s := self._breaker.wait_s(self._now_s())) > 0:
            return wait_s
        self._breaker.begin()
        self._show_breaker()
        batch: list[C] = []
        try:
            self._look_if_due(only_complete=True)
            batch = [self._queue.popleft() for _ in range(min(self._batch, len(self._queue)))]
            if batch:
                started_s = self._now_s()
                observation = self._calls.carry_out(batch)
                self.last_call_s = self._now_s() - started_s
                CALL.labels(self.name).observe(self.last_call_s)
                self._inbox.put(observation)
            self._look_if_due(only_complete=False)
        except Transient as error:
            self._give_back(batch, error)
            return self._breaker.wait_s(self._now_s())
        self._breaker.succeeded()
        self._show_breaker()
        return 0.0 if self._queue else max(0.0, self._look_at_s - self._now_s())

    def _look_if_due(self, *, only_complete: bool) -> None:
        now_s = self._now_s()
        complete = now_s >= self._list_at_s
        if not complete and (only_complete or now_s < self._look_at_s):
            return
        observation, next_in_s = self._calls.look(complete=complete)
        if complete:
            self._list_at_s = now_s + self._list_interval_s
        if observation is not None:
            self._inbox.put(observation)
        soonest_s = (
            PAUSE_S if next_in_s else 0.0
        )  # a change that is known already is fetched a hundred times a second at most
        self._look_at_s = now_s + (self._poll_s if next_in_s is None else min(self._poll_s, max(soonest_s, next_in_s)))

    def _give_back(self, batch: list[C], error: Transient) -> None:
        with self._wake:
            commands = [*batch, *self._queue]
            self._queue.clear()
        self._breaker.failed(self._now_s(), after_s=error.after_s)
        self._list_at_s = 0.0
        self.last_call_s = error.after_s
        FAILURES.labels(self.name).inc()
        self._show_breaker(str(error))
        if commands:
            self._inbox.put(self._calls.given_back(commands))

    def _show_breaker(self, error: str = "") -> None:
        state = self._breaker.state
        BREAKER.labels(self.name).set(int(state))
        if state is not self._reported_state:
            self._reported_state = state
            log.info("breaker_changed", target=self.name, state=state.name.lower(), error=error)
