"""The in-memory twin of the Kafka bus, shipped for tests and single-process experiments; same contract, same tests.

It keeps records in lists under one lock. Transactions are atomic, a shard's new writer fences the old one, and shards move
between replicas cooperatively: an owner gives a shard up in its own ``poll`` before another one gets it.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Self

from solyx.bus.partition import partition_of
from solyx.bus.port import Fenced, Partition, Received

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from solyx.events import Record
    from solyx.topics import Topic


class MemoryBus:
    """A broker in this process."""

    def __init__(self) -> None:
        self._arrived = threading.Condition(threading.RLock())
        self._partitions: dict[Partition, list[Received]] = {}
        self._counts: dict[str, int] = {}
        self._committed: dict[tuple[str, Partition], int] = {}
        self._epochs: dict[tuple[str, int], int] = {}
        self._groups: dict[str, _Group] = {}

    def ask(self, *, timeout_s: float) -> None:
        """It is always there."""

    def ensure_topics(self, topics: Sequence[Topic]) -> None:
        """Create the missing ones."""
        with self._arrived:
            for topic in topics:
                if topic.name not in self._counts:
                    self._counts[topic.name] = topic.partitions
                    for number in range(topic.partitions):
                        self._partitions[Partition(topic.name, number)] = []

    def open_shard(
        self, *, service: str, shard: int, inputs: Sequence[Partition], own: Sequence[Partition], ownership: object
    ) -> _MemoryShardLog:
        """Read from the beginning; ``lead`` makes it the writer."""
        del ownership  # the epoch alone fences here
        return _MemoryShardLog(self, service, shard, tuple(inputs), tuple(own))

    def join(
        self, *, service: str, replica: str, shards: int, on_revoked: Callable[[frozenset[int]], None]
    ) -> _MemoryOwnership:
        """Become a replica of the service."""
        with self._arrived:
            group = self._groups.setdefault(service, _Group(shards))
            return _MemoryOwnership(self, group, replica, on_revoked)

    def publisher(self, *, name: str) -> _MemoryPublisher:
        """A plain writer."""
        del name
        return _MemoryPublisher(self)

    def tail(
        self, topics: Sequence[str], *, from_offsets: Mapping[Partition, int] | None = None, at_end: bool = False
    ) -> _MemoryReader:
        """Read whole topics."""
        with self._arrived:
            positions: dict[Partition, int] = {}
            for topic in topics:
                for number in range(self._counts[topic]):
                    partition = Partition(topic, number)
                    beginning = len(self._partitions[partition]) if at_end else 0
                    positions[partition] = (from_offsets or {}).get(partition, beginning)
        return _MemoryReader(self, positions)

    def records(self, topic: str) -> list[Received]:
        """Everything in a topic, partition by partition (for assertions)."""
        with self._arrived:
            return [
                record for number in range(self._counts[topic]) for record in self._partitions[Partition(topic, number)]
            ]

    def append(self, records: Sequence[Record]) -> None:
        """Write all at once and wake the readers."""
        with self._arrived:
            for record in records:
                number = partition_of(record.ordering_key, self._counts[record.topic])
                log = self._partitions[Partition(record.topic, number)]
                stamp = time.time_ns() // 1_000_000
                log.append(
                    Received(record.topic, number, len(log), stamp, record.key, record.value, list(record.headers))
                )
            self._arrived.notify_all()

    # What the logs of this module need:

    def read(self, positions: dict[Partition, int], max_records: int, timeout_s: float) -> list[Received]:
        """Take from each partition in turn and move ``positions`` on."""
        deadline = time.monotonic() + timeout_s
        with self._arrived:
            while True:
                batch: list[Received] = []
                for partition, position in positions.items():
                    records = self._partitions[partition][position : position + max_records - len(batch)]
                    positions[partition] = position + len(records)
                    batch.extend(records)
                remaining = deadline - time.monotonic()
                if batch or remaining <= 0:
                    return batch
                self._arrived.wait(remaining)

    def ends(self, partitions: Sequence[Partition]) -> dict[Partition, int]:
        """The offset after the last record of each."""
        with self._arrived:
            return {partition: len(self._partitions[partition]) for partition in partitions}

    def committed(self, service: str, partitions: Sequence[Partition]) -> dict[Partition, int]:
        """Offsets that the service's group committed."""
        with self._arrived:
            known = {partition: self._committed.get((service, partition)) for partition in partitions}
            return {partition: offset for partition, offset in known.items() if offset is not None}

    def new_epoch(self, service: str, shard: int) -> int:
        """Fence the shard's present writer."""
        with self._arrived:
            epoch = self._epochs.get((service, shard), 0) + 1
            self._epochs[service, shard] = epoch
            return epoch

    def transact(
        self, service: str, shard: int, epoch: int, outputs: Sequence[Record], offsets: Mapping[Partition, int]
    ) -> None:
        """Append and commit, or raise ``Fenced`` and do neither."""
        with self._arrived:
            if self._epochs.get((service, shard)) != epoch:
                msg = f"{service} shard {shard}: another writer took over"
                raise Fenced(msg)
            self.append(outputs)
            for partition, offset in offsets.items():
                self._committed[service, partition] = offset

    @property
    def lock(self) -> threading.Condition:
        """Guards everything; notified when records arrive or shards move."""
        return self._arrived

    def close(self) -> None:
        """Nothing to release."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _MemoryReader:
    def __init__(self, bus: MemoryBus, positions: dict[Partition, int]) -> None:
        self._bus = bus
        self._positions = positions
        self._targets = bus.ends(list(positions))

    def read(self, *, max_records: int, timeout_s: float) -> list[Received]:
        return self._bus.read(self._positions, max_records, timeout_s)

    def caught_up(self) -> bool:
        return all(self._positions[p] >= end for p, end in self._targets.items() if p in self._positions)

    def lag(self) -> int:
        ends = self._bus.ends(list(self._positions))
        return sum(end - self._positions[partition] for partition, end in ends.items())

    def close(self) -> None:
        self._positions.clear()


class _MemoryShardLog(_MemoryReader):
    def __init__(
        self, bus: MemoryBus, service: str, shard: int, inputs: tuple[Partition, ...], own: tuple[Partition, ...]
    ) -> None:
        super().__init__(bus, dict.fromkeys((*inputs, *own), 0))
        self._service, self._shard, self._inputs, self._own = service, shard, inputs, own
        self._epoch = 0

    def committed(self) -> dict[Partition, int]:
        return self._bus.committed(self._service, self._inputs)

    def lead(self) -> None:
        self._epoch = self._bus.new_epoch(self._service, self._shard)
        self._targets = self._bus.ends(list(self._positions))

    def stop_following(self) -> None:
        for partition in self._own:
            self._positions.pop(partition, None)

    def commit(self, outputs: Sequence[Record], offsets: Mapping[Partition, int]) -> None:
        self._bus.transact(self._service, self._shard, self._epoch, outputs, offsets)


class _Group:
    """Replicas of one service and who holds which shard."""

    def __init__(self, shards: int) -> None:
        self.shards = shards
        self.members: dict[str, None] = {}
        self.holder: dict[int, str] = {}

    def target(self) -> dict[int, str]:
        """Who should hold each shard: round robin in the order of joining."""
        members = list(self.members)
        return {shard: members[shard % len(members)] for shard in range(self.shards)} if members else {}


class _MemoryOwnership:
    def __init__(
        self, bus: MemoryBus, group: _Group, replica: str, on_revoked: Callable[[frozenset[int]], None]
    ) -> None:
        self._bus, self._group, self._replica, self._on_revoked = bus, group, replica, on_revoked
        group.members[replica] = None

    def poll(self, timeout_s: float) -> frozenset[int]:
        with self._bus.lock:
            leaving = frozenset(self._mine() - self._wanted())
        if leaving:
            self._on_revoked(leaving)
        with self._bus.lock:
            for shard in leaving:
                del self._group.holder[shard]
            for shard in self._wanted():
                self._group.holder.setdefault(shard, self._replica)
            owned = frozenset(self._mine())
            self._bus.lock.wait(timeout_s)
        return owned

    def joined(self) -> bool:
        return self._replica in self._group.members

    def close(self) -> None:
        mine = frozenset(self._mine())
        if mine:
            self._on_revoked(mine)
        self.vanish()

    def vanish(self) -> None:
        """Be gone without a word, as after kill -9 and the session's timeout."""
        with self._bus.lock:
            for shard in self._mine():
                del self._group.holder[shard]
            self._group.members.pop(self._replica, None)

    def _mine(self) -> set[int]:
        return {shard for shard, holder in self._group.holder.items() if holder == self._replica}

    def _wanted(self) -> set[int]:
        return {shard for shard, member in self._group.target().items() if member == self._replica}


class _MemoryPublisher:
    def __init__(self, bus: MemoryBus) -> None:
        self._bus = bus

    def publish(self, records: Sequence[Record], *, timeout_s: float = 30.0) -> None:
        del timeout_s
        self._bus.append(records)

    def close(self) -> None:
        """Nothing to flush."""
