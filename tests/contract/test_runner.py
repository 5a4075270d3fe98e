"""The runner around a core, on both buses: every cause gets one decision, whatever stops in between."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from solyx.bus.kafka import KafkaBus
from solyx.bus.memory import MemoryBus
from solyx.bus.runner import Role, ServiceRunner
from solyx.bus.worker import parse_dead_letter
from solyx.clock import ManualClock
from solyx.events import AnomalyDetected, Event, Record, SiteObserved, decode, encode
from solyx.settings import Settings
from solyx.topics import ANOMALIES, DEADLETTERS, SITES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from solyx.bus.port import Bus, Received, ShardLog

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class EchoCore:
    """Answers every site once: the smallest core with state."""

    def __init__(self, shard: int) -> None:
        self.shard = shard
        self.seen: set[str] = set()
        self.answered: set[str] = set()

    def fold(self, event: Event) -> None:
        match event:
            case SiteObserved(site=site):
                self.seen.add(site)
            case AnomalyDetected(source=source):
                self.answered.add(source)
            case _:
                pass

    def decide(self, now: datetime) -> list[Event]:
        waiting = sorted(self.seen - self.answered)
        self.answered.update(waiting)
        return [
            AnomalyDetected(source=site, series="s", at=now, value=float(self.shard), score=0.0, expected=0.0)
            for site in waiting
        ]


@pytest.fixture(params=["memory", "kafka"])
def bus(request: pytest.FixtureRequest) -> Iterator[Bus]:
    """A bus whose topics are the catalogue's own: on Kafka each test has a broker-wide fresh service name and sites."""
    if request.param == "memory":
        yield MemoryBus()
        return
    broker = request.getfixturevalue("kafka")
    with KafkaBus(broker.bootstrap_servers, client_name=f"t{uuid4().hex[:6]}", transaction_timeout_s=10) as kafka_bus:
        yield kafka_bus


def role(service: str, **changes: object) -> Role:
    fields: dict[str, object] = {
        "service": service,
        "inputs": (SITES,),
        "outputs": (ANOMALIES,),
        "shards": 4,
        "by": "site",
        "standby": False,
        "make_core": EchoCore,
    }
    return Role(**(fields | changes))  # type: ignore[arg-type]


def site(name: str) -> Record:
    return encode(SiteObserved(site=name, observed_at=NOW, nodes=()), source="test", time=NOW)


def start(role: Role, bus: Bus, replica: str = "0") -> ServiceRunner:
    runner = ServiceRunner(role, Settings(replica=replica), bus, ManualClock(NOW))
    runner.start()
    return runner


def wait_for(condition: object, seconds: float = 40.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "condition not met in time"
        time.sleep(0.05)


def everything(bus: Bus, topic: str) -> list[Received]:
    tail = bus.tail([topic])
    read: list[Received] = []
    deadline = time.monotonic() + 20
    while not tail.caught_up() and time.monotonic() < deadline:
        read.extend(tail.read(max_records=1000, timeout_s=0.1))
    tail.close()
    return read


def answers(bus: Bus, prefix: str) -> list[str]:
    """Sites of this test that were answered, repeats included."""
    events = [decode(r.value, r.headers).event for r in everything(bus, ANOMALIES.name) if r.value is not None]
    return sorted(e.source for e in events if isinstance(e, AnomalyDetected) and e.source.startswith(prefix))


@pytest.fixture
def names() -> list[str]:
    prefix = uuid4().hex[:6]
    return [f"{prefix}-{n:03d}" for n in range(40)]


def publish(bus: Bus, names: list[str]) -> None:
    bus.ensure_topics([SITES, ANOMALIES, DEADLETTERS])
    publisher = bus.publisher(name="test")
    publisher.publish([site(name) for name in names])
    publisher.close()


def test_every_cause_gets_one_decision_and_a_restart_adds_none(bus: Bus, names: list[str]) -> None:
    publish(bus, names[:20])
    service = f"echo{uuid4().hex[:6]}"
    runner = start(role(service), bus)
    wait_for(lambda: len(answers(bus, names[0][:6])) >= 20)
    runner.stop()
    assert runner.failed is None
    publish(bus, names[20:])
    runner = start(role(service), bus)
    wait_for(lambda: len(answers(bus, names[0][:6])) >= 40)
    wait_for(runner.ready)
    runner.stop()
    assert answers(bus, names[0][:6]) == names


def test_two_replicas_share_the_work_and_answer_once(bus: Bus, names: list[str]) -> None:
    service = f"echo{uuid4().hex[:6]}"
    runners = [start(role(service), bus, replica) for replica in "01"]
    publish(bus, names)
    wait_for(lambda: len(answers(bus, names[0][:6])) >= 40)
    wait_for(lambda: all(runner.ready() and runner.details()["leading"] for runner in runners))
    for runner in runners:
        runner.stop()
    assert answers(bus, names[0][:6]) == names


def test_a_standby_has_folded_the_state_and_takes_over(bus: Bus, names: list[str]) -> None:
    service = f"echo{uuid4().hex[:6]}"
    one_writer = role(service, shards=1, by="all", standby=True)
    runners = [start(one_writer, bus, replica) for replica in "01"]
    publish(bus, names[:20])
    wait_for(lambda: len(answers(bus, names[0][:6])) >= 20)
    wait_for(lambda: all(runner.ready() for runner in runners))
    leaders = [runner for runner in runners if runner.details()["leading"]]
    assert len(leaders) == 1
    leaders[0].stop()
    publish(bus, names[20:])
    wait_for(lambda: len(answers(bus, names[0][:6])) >= 40)
    for runner in runners:
        runner.stop()
    assert answers(bus, names[0][:6]) == names


def test_an_unreadable_record_is_parked_once_with_its_bytes_and_the_stream_goes_on(bus: Bus, names: list[str]) -> None:
    bus.ensure_topics([SITES, ANOMALIES, DEADLETTERS])
    poison = Record(SITES.name, names[0], names[0], b"{not json", [("ce_type", SiteObserved.TYPE.encode())])
    unknown = Record(SITES.name, names[0], names[0], b"{}", [("ce_type", b"io.solyx.nobody.knows.v9"), ("x", b"y")])
    publisher = bus.publisher(name="test")
    publisher.publish([poison, unknown, site(names[1])])
    publisher.close()
    service = f"echo{uuid4().hex[:6]}"
    runner = start(role(service), bus)
    wait_for(lambda: answers(bus, names[0][:6]) == [names[1]])
    wait_for(lambda: len(parked(bus, service)) >= 2)
    runner.stop()
    runner = start(role(service), bus)
    publish(bus, [names[2]])
    wait_for(lambda: len(answers(bus, names[0][:6])) >= 2)
    runner.stop()
    letters = [letter for letter in parked(bus, service) if letter.key == names[0]]
    assert [letter.value for letter in letters] == [b"{not json", b"{}"]
    assert "unknown event type" in letters[1].error
    assert ("x", b"y") in letters[1].headers


def parked(bus: Bus, service: str) -> list:
    letters = [parse_dead_letter(received) for received in everything(bus, DEADLETTERS.name)]
    return [letter for letter in letters if letter.service == service]


class FailingCore(EchoCore):
    """A core with a bug."""

    def decide(self, now: datetime) -> list[Event]:
        del now
        if self.seen - self.answered:
            msg = "bug"
            raise RuntimeError(msg)
        return []


def test_a_bug_in_a_core_ends_the_runner_and_publishes_nothing(bus: Bus, names: list[str]) -> None:
    publish(bus, names)
    runner = start(role(f"echo{uuid4().hex[:6]}", make_core=FailingCore), bus)
    assert runner.wait(30)
    assert isinstance(runner.failed, RuntimeError)
    assert not runner.ready()
    assert answers(bus, names[0][:6]) == []


class Hanging:
    """A log whose first commit waits for ever, as librdkafka's has done, until it is let go."""

    def __init__(self, bus: MemoryBus, released: threading.Event) -> None:
        self._open, self._released = bus.open_shard, released
        self.hung = threading.Event()

    def __call__(self, **arguments: Any) -> ShardLog:
        shard_log = self._open(**arguments)
        commit = shard_log.commit

        def hang(*outputs_and_offsets: Any) -> None:
            if not self.hung.is_set():
                self.hung.set()
                self._released.wait(60)
            commit(*outputs_and_offsets)

        vars(shard_log)["commit"] = hang
        return shard_log


def test_a_commit_that_does_not_return_is_not_waited_for_and_never_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    bus, released, names = MemoryBus(), threading.Event(), [f"s-{n}" for n in range(6)]
    hanging = Hanging(bus, released)
    monkeypatch.setattr(bus, "open_shard", hanging)
    monkeypatch.setattr("solyx.bus.runner.COMMIT_WITHIN_S", 0.5)
    publish(bus, names)
    runner = start(role("stuck"), bus)
    try:
        wait_for(lambda: len(answers(bus, "s-")) == len(names))
        assert hanging.hung.is_set()
        released.set()  # the old writer goes on, and is fenced
        time.sleep(0.5)
        assert sorted(answers(bus, "s-")) == sorted(names)
        assert runner.ready()
    finally:
        released.set()
        runner.stop()
