"""One shard on Kafka: its reader, its transactions and the group that says whose it is. Wired by ``solyx.bus.kafka``."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from solyx.bus.port import Fenced, Ownership, Partition, Received, Transient, next_offsets
from solyx.clock import monotonic_s

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from solyx.events import Record

CALL_TIMEOUT_S = 20.0
"""Longest wait for one answer of the broker."""
COMMIT_ATTEMPTS = 4
"""A rebalance between two commits changes the group generation: the transaction is aborted and tried again."""

REJOIN_WITHIN_S = 10.0
"""How long after its shards were taken a replica waits to hear what it owns, before it joins anew."""
CLOSE_WITHIN_S = 5.0
METADATA_INTERVAL_S = 0.3
"""Age of the group metadata; well below the time that a refused commit goes on trying."""

_FENCED = frozenset(
    {KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED}  # noqa: SLF001 - the library's names
)


def _passes(error: KafkaError) -> bool:
    """Whether the error goes away by itself: a partition's leader is being elected or has just moved."""
    return error.retriable() or error.code() in (
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
    )


class KafkaReader:
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
            for partition, offset in next_offsets(batch).items():
                self._reach(partition, offset)
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
        key = message.key()
        batch.append(
            Received(  # a message without an error has a place
                topic,  # pyright: ignore[reportArgumentType]
                number,  # pyright: ignore[reportArgumentType]
                offset,  # pyright: ignore[reportArgumentType]
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


class KafkaShardLog(KafkaReader):
    def __init__(
        self,
        consumer: Consumer,
        make_producer: Callable[[], Producer],
        produce: Callable[[Producer, Record], None],
        inputs: tuple[Partition, ...],
        own: tuple[Partition, ...],
        ownership: Ownership | None,
    ) -> None:
        super().__init__(consumer, (*inputs, *own), {})
        self._make_producer, self._produce, self._inputs, self._own = make_producer, produce, inputs, own
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
        self._producer = self._make_producer()
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
        deadline = time.monotonic() + CALL_TIMEOUT_S
        for attempt in range(COMMIT_ATTEMPTS):
            if attempt and time.monotonic() > deadline:
                break  # the broker is slow to refuse, too: begin anew from the log
            try:
                producer.begin_transaction()
                for record in outputs:
                    self._produce(producer, record)
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
        if isinstance(self._ownership, KafkaOwnership):
            return self._ownership.group_metadata()
        return self._consumer.consumer_group_metadata()

    def close(self) -> None:
        """Leave; an open transaction is aborted by the next writer, or by the broker after its timeout."""
        self._producer = None
        super().close()


class KafkaOwnership:
    def __init__(self, consumer: Consumer, topic: str, on_revoked: Callable[[frozenset[int]], None]) -> None:
        self._consumer = consumer
        self._on_revoked = on_revoked
        self._owned: set[int] = set()
        self._told = False
        self._moved = False  # shards came or went: the group has a new generation
        self._metadata: Any = consumer.consumer_group_metadata()
        self._metadata_at = monotonic_s()
        self._gone_since: float | None = None  # shards were taken, and the group has not said since what we own
        consumer.subscribe([topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked)

    def _assigned(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._moved = True
        self._owned.update(partition.partition for partition in partitions)
        self._told = True
        self._gone_since = None

    def _revoked(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        leaving = frozenset(partition.partition for partition in partitions) & self._owned
        if leaving:
            self._on_revoked(leaving)
        self._owned -= leaving
        self._moved = True
        self._told = False
        self._gone_since = monotonic_s()

    def poll(self, timeout_s: float) -> frozenset[int]:
        message = self._consumer.poll(timeout_s)
        if message is not None and (error := message.error()) is not None and error.fatal():
            raise Fenced(error.str())  # another process carries this replica's name
        if self._gone_since is not None and monotonic_s() - self._gone_since > REJOIN_WITHIN_S:
            # Seen after a broker was killed: librdkafka 2.16 gave its shards up as lost and never joined again.
            msg = f"the group has not taken this replica back within {REJOIN_WITHIN_S:.0f} s"
            raise Transient(msg, after_s=0.1)
        if self._owned and (self._moved or monotonic_s() - self._metadata_at > METADATA_INTERVAL_S):
            # Asked for here because the call waits for ever while another thread is in poll; a shard that commits with the
            # generation of a moment ago is refused, and tries again with the next.
            self._metadata, self._metadata_at = self._consumer.consumer_group_metadata(), monotonic_s()
            self._moved = False
        return frozenset(self._owned)

    def joined(self) -> bool:
        """Whether the group has said what this replica owns; a member id comes earlier, and says nothing of that."""
        return self._told

    def group_metadata(self) -> Any:
        """Member and generation as of the last poll, for the fence on offset commits."""
        return self._metadata

    def close(self) -> None:
        """Leave the group. In the state described in ``poll`` the library's close does not return: it is not waited for."""
        if self._owned:
            self._on_revoked(frozenset(self._owned))
        closing = threading.Thread(target=self._consumer.close, name="leave-group", daemon=True)
        closing.start()
        closing.join(CLOSE_WITHIN_S)
