"""The bus on Apache Kafka, by confluent-kafka: a shard is a consumer with a manual assignment and a transactional producer.

Replicas share shards through the consumer group of a topic that holds no records (``shards.<service>``): who is assigned
partition ``s`` owns shard ``s``. A zombie is fenced twice: by the producer epoch of the shard's ``transactional.id``, which
the new owner's ``init_transactions`` raises, and by the group generation that every offset commit carries. What was tried
is in docs/decisions/0001-one-bus.md.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Self

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # pyright: ignore[reportPrivateImportUsage]

from solyx.bus.partition import partition_of
from solyx.bus.port import Fenced, Ownership, Partition, Received, Transient
from solyx.topics import BY_NAME, shards_topic

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from solyx.events import Record
    from solyx.topics import Topic

CALL_TIMEOUT_S = 20.0
"""Longest wait for one answer of the broker."""
SESSION_TIMEOUT_MS = 6000
"""After this long without a heartbeat a replica counts as dead; the least that brokers allow by default."""
COMMIT_ATTEMPTS = 4
"""A rebalance between two commits changes the group generation: the transaction is aborted and tried again."""

_FENCED = frozenset(
    {KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED}  # noqa: SLF001 - the library's names
)


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


def _passes(error: KafkaError) -> bool:
    """Whether the error goes away by itself: a partition's leader is being elected or has just moved."""
    return error.retriable() or error.code() in (
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
    )


class KafkaBus:
    """One installation's Kafka cluster."""

    def __init__(
        self, bootstrap_servers: str, *, client_name: str = "solyx", transaction_timeout_s: float = 20.0
    ) -> None:
        self._servers = bootstrap_servers
        self._client = client_name
        self._transaction_timeout_s = transaction_timeout_s
        self._counts: dict[str, int] = {}

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
    ) -> _KafkaShardLog:
        """Read from the beginning; ``lead`` makes it the writer."""
        name = f"{service}-{shard}"
        consumer = Consumer(_consumer_config(self._servers, f"solyx.{service}", f"{self._client}-{name}-in"))
        return _KafkaShardLog(self, consumer, name, tuple(inputs), tuple(own), ownership)

    def transactional_producer(self, name: str) -> Producer:
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
    ) -> _KafkaOwnership:
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
        return _KafkaOwnership(Consumer(config), topic.name, on_revoked)

    def publisher(self, *, name: str) -> _KafkaPublisher:
        """An idempotent producer."""
        return _KafkaPublisher(self, Producer(_producer_config(self._servers, f"{self._client}-{name}")))

    def tail(
        self, topics: Sequence[str], *, from_offsets: Mapping[Partition, int] | None = None, at_end: bool = False
    ) -> _KafkaReader:
        """Read whole topics."""
        partitions = [Partition(topic, number) for topic in topics for number in range(self.partitions_of(topic))]
        consumer = Consumer(_consumer_config(self._servers, "solyx.tail", f"{self._client}-tail"))
        return _KafkaReader(consumer, partitions, dict(from_offsets or {}), at_end=at_end)

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

    def _partition_counts(self, admin: AdminClient) -> dict[str, int]:
        try:
            metadata = admin.list_topics(timeout=CALL_TIMEOUT_S)
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


class _KafkaReader:
    """A consumer with a manual assignment that knows how far it has read, transaction markers included."""

    def __init__(
        self,
        consumer: Consumer,
        partitions: Sequence[Partition],
        starts: Mapping[Partition, int],
        *,
        at_end: bool = False,
    ) -> None:
        self._consumer = consumer
        self._reached = dict.fromkeys(partitions, 0)
        self._targets: dict[Partition, int] = {}
        try:
            for partition in partitions:
                low, high = self._watermarks(partition)
                self._targets[partition] = high
                self._reached[partition] = max(starts.get(partition, high if at_end else low), low)
            consumer.assign([TopicPartition(p.topic, p.number, offset) for p, offset in self._reached.items()])
        except KafkaException as error:
            consumer.close()
            raise Transient(str(error)) from error

    def read(self, *, max_records: int, timeout_s: float) -> list[Received]:
        deadline = time.monotonic() + timeout_s
        batch: list[Received] = []
        while True:
            # The first message is waited for, what else is there is taken at once: consume(n, t) alone would wait t for n.
            first = self._consumer.poll(max(deadline - time.monotonic(), 0))
            if first is None:
                return batch
            self._take(first, batch)
            for message in self._consumer.consume(max_records, 0):
                self._take(message, batch)
            if batch or time.monotonic() >= deadline:
                return batch

    def _take(self, message: Message, batch: list[Received]) -> None:
        error = message.error()
        topic, number, offset = message.topic(), message.partition(), message.offset()
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - the library's name
                self._reach(Partition(str(topic), int(number or 0)), int(offset or 0))
                return
            if error.fatal():
                raise KafkaException(error)
            return  # librdkafka retries by itself and has said so in its log
        assert topic is not None
        assert number is not None
        assert offset is not None
        self._reach(Partition(topic, number), offset + 1)
        key = message.key()
        batch.append(
            Received(
                topic,
                number,
                offset,
                message.timestamp()[1],
                key.decode(errors="replace") if isinstance(key, bytes) else (key or ""),
                message.value(),  # pyright: ignore[reportArgumentType]
                message.headers() or [],  # pyright: ignore[reportArgumentType]
            )
        )

    def _reach(self, partition: Partition, offset: int) -> None:
        if partition in self._reached:
            self._reached[partition] = max(self._reached[partition], offset)

    def _watermarks(self, partition: Partition) -> tuple[int, int]:
        """The first offset and the one after the last committed record; a leader election is waited for."""
        asked = TopicPartition(partition.topic, partition.number)
        deadline = time.monotonic() + CALL_TIMEOUT_S
        while True:
            try:
                answer = self._consumer.get_watermark_offsets(asked, timeout=CALL_TIMEOUT_S)
            except KafkaException as error:
                if not _passes(error.args[0]) or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
                continue
            if answer is None:  # pyright: ignore[reportUnnecessaryComparison] - None on a timeout, whatever the stub says
                msg = f"no answer about {partition.topic}/{partition.number} in {CALL_TIMEOUT_S} s"
                raise Transient(msg)
            return answer

    def caught_up(self) -> bool:
        return all(self._reached[p] >= end for p, end in self._targets.items() if p in self._reached)

    def lag(self) -> int:
        total = 0
        for partition, reached in self._reached.items():
            answer = self._consumer.get_watermark_offsets(
                TopicPartition(partition.topic, partition.number), cached=True
            )
            if answer is not None:  # pyright: ignore[reportUnnecessaryComparison]
                total += max(answer[1] - reached, 0)
        return total

    def close(self) -> None:
        self._consumer.close()


class _KafkaShardLog(_KafkaReader):
    def __init__(
        self,
        bus: KafkaBus,
        consumer: Consumer,
        name: str,
        inputs: tuple[Partition, ...],
        own: tuple[Partition, ...],
        ownership: Ownership | None,
    ) -> None:
        super().__init__(consumer, (*inputs, *own), {})
        self._bus, self._name, self._inputs, self._own = bus, name, inputs, own
        self._ownership = ownership
        self._producer: Producer | None = None

    def committed(self) -> dict[Partition, int]:
        asked = [TopicPartition(p.topic, p.number) for p in self._inputs]
        try:
            answer = self._consumer.committed(asked, timeout=CALL_TIMEOUT_S)
        except KafkaException as error:
            raise Transient(str(error)) from error
        return {Partition(t.topic, t.partition): t.offset for t in answer if t.offset >= 0}

    def lead(self) -> None:
        self._producer = self._bus.transactional_producer(self._name)
        try:
            self._producer.init_transactions(CALL_TIMEOUT_S)
            for partition in self._reached:
                self._targets[partition] = self._watermarks(partition)[1]
        except KafkaException as error:
            raise Transient(str(error)) from error

    def stop_following(self) -> None:
        for partition in self._own:
            self._reached.pop(partition, None)
            self._targets.pop(partition, None)
        self._consumer.incremental_unassign([TopicPartition(p.topic, p.number) for p in self._own])

    def commit(self, outputs: Sequence[Record], offsets: Mapping[Partition, int]) -> None:
        """One transaction. The ladder: fatal → fenced; abort required → abort and try again; anything else is transient."""
        producer = self._producer
        assert producer is not None, "lead() comes first"
        positions = [TopicPartition(p.topic, p.number, offset) for p, offset in offsets.items()]
        failure = ""
        for attempt in range(COMMIT_ATTEMPTS):
            try:
                producer.begin_transaction()
                for record in outputs:
                    self._bus.produce(producer, record)
                if positions:
                    producer.send_offsets_to_transaction(positions, self._group_metadata(), CALL_TIMEOUT_S)
                self._commit_transaction(producer)
            except KafkaException as exception:
                error: KafkaError = exception.args[0]
                failure = error.str()
                if error.fatal() or error.code() in _FENCED:
                    raise Fenced(failure) from exception
                if not error.txn_requires_abort():
                    raise Transient(failure) from exception
                self._abort(producer)
                time.sleep(0.05 * 2**attempt)  # a rebalance is under way; the next generation comes with it
            else:
                return
        raise Transient(failure)

    @staticmethod
    def _commit_transaction(producer: Producer) -> None:
        """Resumes after a retriable error: until the deadline the outcome is open, and only the broker knows it."""
        deadline = time.monotonic() + CALL_TIMEOUT_S
        while True:
            try:
                producer.commit_transaction(CALL_TIMEOUT_S)
            except KafkaException as exception:
                if not exception.args[0].retriable() or time.monotonic() > deadline:
                    raise
            else:
                return

    @staticmethod
    def _abort(producer: Producer) -> None:
        try:
            producer.abort_transaction(CALL_TIMEOUT_S)
        except KafkaException as exception:
            if exception.args[0].fatal() or exception.args[0].code() in _FENCED:
                raise Fenced(exception.args[0].str()) from exception
            raise Transient(exception.args[0].str()) from exception

    def _group_metadata(self) -> Any:
        if isinstance(self._ownership, _KafkaOwnership):
            return self._ownership.group_metadata()
        return self._consumer.consumer_group_metadata()

    def close(self) -> None:
        """Leave; an open transaction is aborted by the next writer, or by the broker after its timeout."""
        self._producer = None
        super().close()


class _KafkaOwnership:
    def __init__(self, consumer: Consumer, topic: str, on_revoked: Callable[[frozenset[int]], None]) -> None:
        self._consumer = consumer
        self._on_revoked = on_revoked
        self._owned: set[int] = set()
        self._metadata: Any = consumer.consumer_group_metadata()
        consumer.subscribe([topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked)

    def _assigned(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._owned.update(partition.partition for partition in partitions)

    def _revoked(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        leaving = frozenset(partition.partition for partition in partitions) & self._owned
        if leaving:
            self._on_revoked(leaving)
        self._owned -= leaving

    def poll(self, timeout_s: float) -> frozenset[int]:
        message = self._consumer.poll(timeout_s)
        if message is not None and (error := message.error()) is not None and error.fatal():
            raise Fenced(error.str())  # another process carries this replica's name
        # Asked for here because the call waits for ever while another thread is in poll; a shard that commits with the
        # generation of a moment ago is refused, and tries again with the next.
        self._metadata = self._consumer.consumer_group_metadata()
        return frozenset(self._owned)

    def joined(self) -> bool:
        """Whether the group has taken this replica in."""
        return bool(self._consumer.memberid())

    def group_metadata(self) -> Any:
        """Member and generation as of the last poll, for the fence on offset commits."""
        return self._metadata

    def close(self) -> None:
        if self._owned:
            self._on_revoked(frozenset(self._owned))
        self._consumer.close()


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
        if failures or unsent:
            raise Transient(failures[0] if failures else f"{unsent} records not acknowledged in {timeout_s} s")

    def close(self) -> None:
        self._producer.flush(CALL_TIMEOUT_S)
