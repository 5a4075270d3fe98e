"""Workers: a dead target is left alone and comes back; its commands return; nothing waits without bound."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from services.actuator.backoff import Backoff, Breaker
from services.actuator.model import (
    Apply,
    Changes,
    ClusterOutcome,
    Command,
    CommandsDone,
    CommandsFailed,
    Delete,
    Observation,
    SiteSeen,
    Verdict,
)
from services.actuator.workers import INBOX_OBSERVATIONS, PAUSE_S, QUEUE_COMMANDS, ClusterCalls, Inbox, Worker
from solyx.bus.port import Transient
from tests.unit.actuator.actuator_cases import SITE, allocated


class ScriptedCluster:
    """A cluster that answers, or does not, as a test says."""

    def __init__(self) -> None:
        self.dead = False
        self.looks: list[str | None] = []
        self.done: list[Command] = []
        self.next_in_s: float | None = None

    def apply(self, workloads: Sequence[Apply]) -> list[ClusterOutcome]:
        return self._answer(workloads)

    def delete(self, workloads: Sequence[Delete]) -> list[ClusterOutcome]:
        return self._answer(workloads)

    def _answer(self, commands: Sequence[Command]) -> list[ClusterOutcome]:
        self._must_live()
        self.done += commands
        return [
            ClusterOutcome(job_id=command.job_id, revision=command.revision, verdict=Verdict.APPLIED)
            for command in commands
        ]

    def observe(self, cursor: str | None) -> Changes:
        self._must_live()
        self.looks.append(cursor)
        return Changes(states=(), cursor=str(len(self.looks)), complete=cursor is None, next_in_s=self.next_in_s)

    def _must_live(self) -> None:
        if self.dead:
            raise Transient("no route to host", after_s=0.0)


class Bench:
    """A worker turned by hand on a clock of its own."""

    def __init__(self, **options: float) -> None:
        self.now_s = 1000.0
        self.cluster = ScriptedCluster()
        self.inbox = Inbox()
        self.worker: Worker[Command] = Worker(
            SITE,
            ClusterCalls(SITE, self.cluster),
            self.inbox,
            Breaker(SITE, Backoff(first_s=1.0, cap_s=8.0), threshold=2),
            poll_s=0.05,
            list_interval_s=30.0,
            batch=int(options.get("batch", 10)),
            now_s=lambda: self.now_s,
        )

    def turn(self, after_s: float = 0.0) -> float:
        self.now_s += after_s
        return self.worker.turn()

    def take(self) -> list[Observation]:
        return self.inbox.take()


def applies(count: int) -> list[Command]:
    return [Apply(allocation=allocated(f"job-{n}")) for n in range(count)]


def test_a_worker_begins_with_a_complete_look_and_then_resumes_the_watch():
    bench = Bench()
    assert bench.turn() == pytest.approx(0.05)
    bench.turn(0.05)
    assert bench.cluster.looks == [None, "1"]
    (seen,) = bench.take()
    assert isinstance(seen, SiteSeen), "an incremental look that saw nothing tells nothing"


def test_a_complete_look_comes_back_every_interval():
    bench = Bench()
    bench.turn()
    bench.turn(29.9)
    bench.turn(0.2)
    assert bench.cluster.looks == [None, "1", None]


def test_a_change_that_is_known_to_come_is_fetched_when_it_is_due():
    bench = Bench()
    bench.cluster.next_in_s = 0.02
    assert bench.turn() == pytest.approx(0.02)
    bench.cluster.next_in_s = 0.0001
    assert bench.turn(0.02) == pytest.approx(PAUSE_S)


def test_commands_are_carried_out_in_batches_stops_first():
    bench = Bench(batch=3)
    stop = Delete(job_id="old", revision=1)
    commands = [*applies(2), stop, *applies(2)]
    bench.worker.offer(commands)
    assert bench.turn() == 0.0, "more is queued"
    bench.turn()
    assert bench.cluster.done == [stop, *applies(2), *applies(2)]
    done = [observation for observation in bench.take() if isinstance(observation, CommandsDone)]
    assert [len(observation.outcomes) for observation in done] == [3, 2]
    assert done[0].outcomes[0][0] == stop


def test_a_failed_call_gives_everything_back_and_closes_the_door_for_a_while():
    bench = Bench(batch=2)
    bench.turn()
    bench.take()
    bench.worker.offer(applies(5))
    bench.cluster.dead = True
    wait_s = bench.turn()
    assert 0.5 <= wait_s <= 1.0
    assert bench.take() == [CommandsFailed(site=SITE, commands=tuple(applies(5)))]
    assert bench.worker.room() == 0
    bench.now_s += wait_s
    assert bench.worker.room() == QUEUE_COMMANDS, "one failure does not open the breaker"


def test_an_open_breaker_lets_one_probe_pass_and_a_success_closes_it():
    bench = Bench()
    bench.cluster.dead = True
    for _ in range(4):
        bench.now_s += bench.turn()
    assert bench.worker.room() == 0, "waiting is over, but the breaker is open"
    assert bench.cluster.looks == []
    bench.cluster.dead = False
    bench.turn()
    assert bench.cluster.looks == [None], "nobody knows what a dead cluster has kept: it is listed first"
    assert bench.worker.room() == QUEUE_COMMANDS


def test_room_shrinks_with_the_queue():
    bench = Bench()
    bench.worker.offer(applies(10))
    assert bench.worker.room() == QUEUE_COMMANDS - 10


def test_a_worker_pauses_while_its_shard_does_not_keep_up():
    bench = Bench()
    for _ in range(INBOX_OBSERVATIONS):
        bench.inbox.put(CommandsFailed(site=SITE, commands=()))
    bench.worker.offer(applies(1))
    assert bench.turn() == PAUSE_S
    assert bench.cluster.done == []
    bench.take()
    bench.turn()
    assert bench.cluster.done == applies(1)


def test_a_bug_in_a_target_is_kept_for_the_shard():
    bench = Bench()

    def observe(cursor: str | None) -> Changes:
        raise KeyError(cursor)

    bench.cluster.observe = observe
    bench.worker.start()
    assert bench.worker.join(10.0)
    assert isinstance(bench.worker.error, KeyError)


def test_stopping_waits_for_the_call_at_hand_and_begins_no_other():
    bench = Bench(batch=1)
    entered, leave = threading.Event(), threading.Event()
    answer = bench.cluster._answer

    def slow(commands: Sequence[Command]) -> list[ClusterOutcome]:
        entered.set()
        leave.wait(10.0)
        return answer(commands)

    bench.cluster._answer = slow
    bench.worker.offer(applies(2))
    bench.worker.start()
    assert entered.wait(10.0)
    bench.worker.ask_to_stop()
    assert not bench.worker.join(0.01)
    leave.set()
    assert bench.worker.join(10.0)
    assert bench.cluster.done == applies(1)
