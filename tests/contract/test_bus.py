"""One contract, two buses: what the services rely on holds on real Kafka and on the in-memory twin alike."""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from solyx.bus.kafka import KafkaBus
from solyx.bus.memory import MemoryBus
from solyx.bus.partition import partition_of
from solyx.bus.port import Fenced, Partition, Transient
from solyx.events import Record
from solyx.topics import Topic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from solyx.bus.port import Bus, Ownership, Received, ShardLog, Tail


@pytest.fixture(params=["memory", "kafka"])
def bus(request: pytest.FixtureRequest) -> Iterator[Bus]:
    if request.param == "memory":
        yield MemoryBus()
        return
    broker = request.getfixturevalue("kafka")
    with KafkaBus(
        broker.bootstrap_servers, client_name=f"test-{uuid4().hex[:6]}", transaction_timeout_s=10
    ) as kafka_bus:
        yield kafka_bus


@pytest.fixture
def service() -> str:
    return f"svc{uuid4().hex[:8]}"


@pytest.fixture
def topics(bus: Bus) -> tuple[Topic, Topic]:
    """An input and an output of two partitions each."""
    suffix = uuid4().hex[:8]
    made = tuple(
        Topic(
            name=f"{name}-{suffix}",
            partitions=2,
            keyed_by="key",
            ordered_by="key",
            cleanup="compact",
            retention_ms=-1,
            description="test",
        )
        for name in ("in", "out")
    )
    bus.ensure_topics(made)
    return made[0], made[1]


def record(topic: Topic, key: str, value: str, ordering_key: str | None = None) -> Record:
    return Record(topic.name, key, ordering_key or key, value.encode(), [("n", b"1")])


def partitions(topic: Topic) -> list[Partition]:
    return [Partition(topic.name, number) for number in range(topic.partitions)]


def drain(source: Tail | ShardLog, *, seconds: float = 20.0) -> list[Received]:
    """Everything up to what was there at the opening."""
    deadline = time.monotonic() + seconds
    read: list[Received] = []
    while not source.caught_up():
        assert time.monotonic() < deadline, "not caught up in time"
        read.extend(source.read(max_records=100, timeout_s=0.1))
    return read


def content(bus: Bus, topic: Topic) -> list[str]:
    tail = bus.tail([topic.name])
    try:
        return sorted(received.value.decode() for received in drain(tail) if received.value is not None)
    finally:
        tail.close()


def test_ensuring_topics_twice_changes_nothing(bus: Bus, topics: tuple[Topic, Topic]) -> None:
    bus.ensure_topics(topics)
    assert content(bus, topics[0]) == []


def test_records_of_one_ordering_key_share_a_partition_and_keep_their_order(
    bus: Bus, topics: tuple[Topic, Topic]
) -> None:
    publisher = bus.publisher(name="test")
    publisher.publish([record(topics[0], f"site-a/{n}", str(n), ordering_key="site-a") for n in range(50)])
    publisher.close()
    tail = bus.tail([topics[0].name])
    received = drain(tail)
    tail.close()
    assert [r.value for r in received] == [str(n).encode() for n in range(50)]
    assert len({r.partition for r in received}) == 1
    assert received[0].headers == [("n", b"1")]
    assert received[0].key == "site-a/0"


def test_both_ways_to_a_partition_agree(bus: Bus, topics: tuple[Topic, Topic]) -> None:
    """A key that orders itself is partitioned by the client, any other by us: they must be the same function."""
    publisher = bus.publisher(name="test")
    keys = [uuid4().hex[: n % 20 + 1] for n in range(200)]
    publisher.publish([record(topics[0], key, "x") for key in keys])
    publisher.close()
    tail = bus.tail([topics[0].name])
    received = drain(tail)
    tail.close()
    assert {r.key: r.partition for r in received} == {key: partition_of(key, 2) for key in keys}


def test_a_tail_resumes_where_it_is_told(bus: Bus, topics: tuple[Topic, Topic]) -> None:
    publisher = bus.publisher(name="test")
    publisher.publish([record(topics[0], "k", str(n)) for n in range(10)])
    first = bus.tail([topics[0].name])
    place = {Partition(r.topic, r.partition): r.offset + 1 for r in drain(first)[:4]}
    first.close()
    second = bus.tail([topics[0].name], from_offsets=place)
    assert [r.value for r in drain(second)] == [str(n).encode() for n in range(4, 10)]
    second.close()
    publisher.close()


def test_a_tail_at_the_end_sees_only_what_comes(bus: Bus, topics: tuple[Topic, Topic]) -> None:
    publisher = bus.publisher(name="test")
    publisher.publish([record(topics[0], "k", "old")])
    tail = bus.tail([topics[0].name], at_end=True)
    publisher.publish([record(topics[0], "k", "new")])
    deadline = time.monotonic() + 20
    read: list[Received] = []
    while not read and time.monotonic() < deadline:
        read.extend(tail.read(max_records=10, timeout_s=0.2))
    assert [r.value for r in read] == [b"new"]
    tail.close()
    publisher.close()


def test_outputs_and_offsets_are_committed_together(bus: Bus, topics: tuple[Topic, Topic], service: str) -> None:
    source, sink = topics
    publisher = bus.publisher(name="test")
    publisher.publish([record(source, f"k{n}", str(n)) for n in range(20)])
    publisher.close()
    log = bus.open_shard(service=service, shard=0, inputs=partitions(source), own=partitions(sink), ownership=None)
    batch = drain(log)
    log.lead()
    drain(log)
    log.stop_following()
    offsets = {Partition(r.topic, r.partition): r.offset + 1 for r in batch}
    assert log.committed() == {}
    log.commit([record(sink, r.key, f"out-{r.value!r}") for r in batch], offsets)
    assert log.committed() == offsets
    log.close()
    assert len(content(bus, sink)) == 20


def test_a_reopened_shard_reads_its_inputs_and_its_own_outputs_from_the_beginning(
    bus: Bus, topics: tuple[Topic, Topic], service: str
) -> None:
    source, sink = topics
    publisher = bus.publisher(name="test")
    publisher.publish([record(source, "k", "cause")])
    publisher.close()

    def open_and_lead() -> tuple[ShardLog, list[Received]]:
        log = bus.open_shard(service=service, shard=0, inputs=partitions(source), own=partitions(sink), ownership=None)
        read = drain(log)
        log.lead()
        read.extend(drain(log))
        log.stop_following()
        return log, read

    first, read = open_and_lead()
    assert [r.value for r in read] == [b"cause"]
    first.commit([record(sink, "k", "effect")], {Partition(source.name, read[0].partition): 1})
    first.close()
    second, read = open_and_lead()
    assert sorted(r.value or b"" for r in read) == [b"cause", b"effect"]
    second.close()


def test_a_new_writer_fences_the_old_one(bus: Bus, topics: tuple[Topic, Topic], service: str) -> None:
    source, sink = topics
    logs = []
    for _ in range(2):
        log = bus.open_shard(service=service, shard=0, inputs=partitions(source), own=partitions(sink), ownership=None)
        drain(log)
        log.lead()
        log.stop_following()
        logs.append(log)
    zombie, writer = logs
    with pytest.raises(Fenced):
        zombie.commit([record(sink, "k", "stale")], {})
    writer.commit([record(sink, "k", "true")], {})
    assert content(bus, sink) == ["true"]
    zombie.close()
    writer.close()


class Replica:
    """Polls its ownership on a thread, as a service does."""

    def __init__(self, join: Callable[[Callable[[frozenset[int]], None]], Ownership]) -> None:
        self.owned: frozenset[int] = frozenset()
        self.revoked: list[frozenset[int]] = []
        self._stop = threading.Event()
        self._ownership = join(self.revoked.append)
        self._thread = threading.Thread(target=self._poll)
        self._thread.start()

    def _poll(self) -> None:
        while not self._stop.is_set():
            self.owned = self._ownership.poll(0.05)
        self._ownership.close()
        self.owned = frozenset()

    def leave(self) -> None:
        self._stop.set()
        self._thread.join(20)


def wait_until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "condition not met in time"
        time.sleep(0.02)


def test_replicas_share_the_shards_and_none_is_owned_twice(bus: Bus, service: str) -> None:
    first = Replica(lambda revoked: bus.join(service=service, replica="0", shards=4, on_revoked=revoked))
    replicas = [first]
    try:
        wait_until(lambda: first.owned == {0, 1, 2, 3})
        second = Replica(lambda revoked: bus.join(service=service, replica="1", shards=4, on_revoked=revoked))
        replicas.append(second)
        wait_until(lambda: len(first.owned) == 2 and len(second.owned) == 2)
        assert first.owned | second.owned == {0, 1, 2, 3}
        assert frozenset().union(*first.revoked) == second.owned  # what moved was given up first, what stayed was not
        second.leave()
        wait_until(lambda: first.owned == {0, 1, 2, 3})
    finally:
        for replica in replicas:
            replica.leave()


def test_a_broker_that_is_there_answers(bus: Bus) -> None:
    for _ in range(2):
        bus.ask(timeout_s=20.0)


def test_a_broker_that_is_away_is_told_in_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("solyx.bus.kafka.CALL_TIMEOUT_S", 1.0)
    with socket.socket() as nobody_listens:
        nobody_listens.bind(("127.0.0.1", 0))
        away = KafkaBus(f"127.0.0.1:{nobody_listens.getsockname()[1]}")
        began = time.monotonic()
        with pytest.raises(Transient):
            away.ensure_topics([topic_of_nobody()])
        with pytest.raises(Transient):
            away.ask(timeout_s=0.5)
        publisher = away.publisher(name="test")
        with pytest.raises(Transient):
            publisher.publish([record(topic_of_nobody(), "k", "v")], timeout_s=1.0)
        publisher.close()
        assert time.monotonic() - began < 15


def topic_of_nobody() -> Topic:
    return Topic(
        name="nobody", partitions=1, keyed_by="k", ordered_by="k", cleanup="delete", retention_ms=-1, description="test"
    )
