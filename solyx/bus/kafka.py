"""The bus on Apache Kafka, by confluent-kafka: a shard is a consumer with a manual assignment and a transactional producer.

Replicas share shards through the consumer group of a topic that holds no records (``shards.<service>``): who is assigned
partition ``s`` owns shard ``s``. A zombie is fenced twice: by the producer epoch of the shard's ``transactional.id``, which
the new owner's ``init_transactions`` raises, and by the group generation that every offset commit carries. What was tried
is in docs/decisions/0001-one-bus.md.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Self

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer
from confluent_kafka.admin import AdminClient, NewTopic  # pyright: ignore[reportPrivateImportUsage]

from solyx.bus.kafka_shard import CALL_TIMEOUT_S, KafkaOwnership, KafkaReader, KafkaShardLog
from solyx.bus.partition import partition_of
from solyx.bus.port import Ownership, Partition, Transient
from solyx.topics import BY_NAME, shards_topic

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from solyx.events import Record
    from solyx.topics import Topic

DELIVERY_TIMEOUT_MS = 20_000
"""How long one record may wait for its acknowledgement; below the time-out of a whole publish."""
SESSION_TIMEOUT_MS = 6000
"""After this long without a heartbeat a replica counts as dead; the least that brokers allow by default."""


def _consumer_config(bootstrap_servers: str, group: str, client: str) -> dict[str, Any]:
    return {
        "bootstrap.servers": bootstrap_servers,
        "group.id": group,
        "client.id": client,
        "log_level": 2,  # lost connections are retried; what does not pass shows as Transient, with its reason
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "isolation.level": "read_committed",
        "enable.partition.eof": True,
        "fetch.wait.max.ms": 100,
        "queued.max.messages.kbytes": 16384,  # back-pressure: what a process prefetches is bounded
        "queued.min.messages": 5000,
        "reconnect.backoff.max.ms": 1000,
        "topic.metadata.refresh.interval.ms": 30000,
    }


def _producer_config(bootstrap_servers: str, client: str) -> dict[str, Any]:
    return {
        "bootstrap.servers": bootstrap_servers,
        "client.id": client,
        "log_level": 2,  # lost connections are retried; what does not pass shows as Transient, with its reason
        "enable.idempotence": True,
        "acks": "all",
        "partitioner": "murmur2_random",
        "linger.ms": 2,
        "compression.type": "lz4",
        "queue.buffering.max.messages": 100_000,
        "reconnect.backoff.max.ms": 1000,
    }


class KafkaBus:
    """One installation's Kafka cluster."""

    def __init__(
        self, bootstrap_servers: str, *, client_name: str = "solyx", transaction_timeout_s: float = 20.0
    ) -> None:
        self._servers = bootstrap_servers
        self._client = client_name
        self._transaction_timeout_s = transaction_timeout_s
        self._counts: dict[str, int] = {}
        self._asking: AdminClient | None = None  # kept: a new one for every question would leave connections behind

    def ask(self, *, timeout_s: float) -> None:
        """A round trip to the broker.

        Raises:
            Transient: no answer in time.
        """
        if self._asking is None:
            self._asking = AdminClient(
                {
                    "bootstrap.servers": self._servers,
                    "client.id": f"{self._client}-probe",
                    "log_level": 2,
                    "reconnect.backoff.max.ms": 1000,
                }
            )
        self._partition_counts(self._asking, timeout_s)

    def ensure_topics(self, topics: Sequence[Topic]) -> None:
        """Create the missing ones and wait until the broker shows all.

        Raises:
            Transient: no answer in time.
            ValueError: a topic exists with another number of partitions than the catalogue's; keys would change places.
        """
        admin = AdminClient({"bootstrap.servers": self._servers, "client.id": self._client})
        present = self._partition_counts(admin)
        missing = [topic for topic in topics if topic.name not in present]
        if missing:
            created = admin.create_topics([_new_topic(topic) for topic in missing], request_timeout=CALL_TIMEOUT_S)
            for future in created.values():
                try:
                    future.result(timeout=CALL_TIMEOUT_S)
                except KafkaException as error:
                    if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                        raise Transient(str(error)) from error
        deadline = time.monotonic() + CALL_TIMEOUT_S
        while any(topic.name not in (present := self._partition_counts(admin)) for topic in topics):
            if time.monotonic() > deadline:
                msg = "topics were created but the broker does not show them"
                raise Transient(msg)
            time.sleep(0.05)
        for topic in topics:
            if present[topic.name] != topic.partitions:
                msg = (
                    f"topic {topic.name} has {present[topic.name]} partitions, needed are {topic.partitions}: "
                    "recreate it, or point SOLYX_KAFKA_BOOTSTRAP_SERVERS at another cluster"
                )
                raise ValueError(msg)
        self._counts.update(present)

    def open_shard(
        self,
        *,
        service: str,
        shard: int,
        inputs: Sequence[Partition],
        own: Sequence[Partition],
        ownership: Ownership | None,
    ) -> KafkaShardLog:
        """Read from the beginning; ``lead`` makes it the writer."""
        name = f"{service}-{shard}"
        consumer = Consumer(_consumer_config(self._servers, f"solyx.{service}", f"{self._client}-{name}-in"))
        return KafkaShardLog(
            consumer, lambda: self._transactional_producer(name), self.produce, tuple(inputs), tuple(own), ownership
        )

    def _transactional_producer(self, name: str) -> Producer:
        """A producer for one shard; ``init_transactions`` fences every earlier one of that name."""
        return Producer(
            _producer_config(self._servers, f"{self._client}-{name}-out")
            | {
                "transactional.id": f"solyx.{name}",
                "transaction.timeout.ms": int(self._transaction_timeout_s * 1000),
            }
        )

    def join(
        self, *, service: str, replica: str, shards: int, on_revoked: Callable[[frozenset[int]], None]
    ) -> KafkaOwnership:
        """Become a replica of the service. A restarted replica of the same name takes its shards back at once."""
        topic = shards_topic(service, shards)
        self.ensure_topics([topic])
        config = _consumer_config(self._servers, f"solyx.{service}", f"{self._client}-{service}-{replica}") | {
            "partition.assignment.strategy": "cooperative-sticky",
            "group.instance.id": f"{service}-{replica}",
            "session.timeout.ms": SESSION_TIMEOUT_MS,
            "heartbeat.interval.ms": SESSION_TIMEOUT_MS // 4,
            "max.poll.interval.ms": int(max(self._transaction_timeout_s * 2, 30) * 1000),
        }
        return KafkaOwnership(Consumer(config), topic.name, on_revoked)

    def publisher(self, *, name: str) -> _KafkaPublisher:
        """An idempotent producer."""
        # A record that was not acknowledged fails before its publish gives up, so that a retry does not pile up copies.
        config = _producer_config(self._servers, f"{self._client}-{name}") | {"message.timeout.ms": DELIVERY_TIMEOUT_MS}
        return _KafkaPublisher(self, Producer(config))

    def tail(
        self, topics: Sequence[str], *, from_offsets: Mapping[Partition, int] | None = None, at_end: bool = False
    ) -> KafkaReader:
        """Read whole topics."""
        partitions = [Partition(topic, number) for topic in topics for number in range(self.partitions_of(topic))]
        consumer = Consumer(_consumer_config(self._servers, "solyx.tail", f"{self._client}-tail"))
        return KafkaReader(consumer, partitions, dict(from_offsets or {}), at_end=at_end)

    def partitions_of(self, topic: str) -> int:
        """The number of partitions of a topic that exists."""
        if topic not in self._counts:
            self._counts.update(self._partition_counts(AdminClient({"bootstrap.servers": self._servers})))
        return self._counts.get(topic) or BY_NAME[topic].partitions

    def produce(self, producer: Producer, record: Record, on_delivery: Callable[..., None] | None = None) -> None:
        """Hand a record to a producer; waits while its queue is full."""
        arguments: dict[str, Any] = {"key": record.key, "headers": record.headers}
        if record.ordering_key != record.key:
            arguments["partition"] = partition_of(record.ordering_key, self.partitions_of(record.topic))
        if on_delivery is not None:
            arguments["on_delivery"] = on_delivery
        while True:
            try:
                producer.produce(record.topic, record.value, **arguments)
            except BufferError:
                producer.poll(0.05)
            else:
                return

    def _partition_counts(self, admin: AdminClient, timeout_s: float | None = None) -> dict[str, int]:
        try:
            metadata = admin.list_topics(timeout=CALL_TIMEOUT_S if timeout_s is None else timeout_s)
        except KafkaException as error:
            raise Transient(str(error.args[0].str())) from error
        return {name: len(topic.partitions) for name, topic in metadata.topics.items() if topic.error is None}

    def close(self) -> None:
        """Clients are closed by who opened them."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _new_topic(topic: Topic) -> NewTopic:
    config = {"cleanup.policy": topic.cleanup, "retention.ms": str(topic.retention_ms)}
    return NewTopic(topic.name, num_partitions=topic.partitions, replication_factor=-1, config=config)


class _KafkaPublisher:
    def __init__(self, bus: KafkaBus, producer: Producer) -> None:
        self._bus = bus
        self._producer = producer

    def publish(self, records: Sequence[Record], *, timeout_s: float = 30.0) -> None:
        failures: list[str] = []

        def delivered(error: KafkaError | None, _message: Message) -> None:
            if error is not None:
                failures.append(error.str())

        for record in records:
            self._bus.produce(self._producer, record, delivered)
        unsent = self._producer.flush(timeout_s)
        if unsent:
            self._producer.purge()
            self._producer.flush(CALL_TIMEOUT_S)
        if failures or unsent:
            raise Transient(failures[0] if failures else f"{unsent} records not acknowledged in {timeout_s} s")

    def close(self) -> None:
        self._producer.flush(CALL_TIMEOUT_S)
