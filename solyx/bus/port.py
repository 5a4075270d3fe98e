"""What a bus is to the services: three small protocols with one contract, kept by Kafka and by the in-memory bus.

- ``ShardLog``: one shard's inputs in order, and one atomic verb, ``commit``: outputs and offsets together, or nothing.
- ``Ownership``: which shards of a service this replica owns now.
- ``Publisher`` and ``Tail``: writing and reading without decisions (feeds, the outbox relay, read models).

A shard has one writer. Opening it for writing fences whoever had it before: the predecessor's open transaction is aborted
and every later commit of it raises ``Fenced``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType
    from typing import Self

    from solyx.events import Record
    from solyx.topics import Topic


class Partition(msgspec.Struct, frozen=True, order=True):
    """One partition of a topic."""

    topic: str
    number: int


class Received(msgspec.Struct, frozen=True):
    """A record that was read. ``value`` None is a tombstone."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: str
    value: bytes | None
    headers: list[tuple[str, bytes]]


def next_offsets(batch: Sequence[Received]) -> dict[Partition, int]:
    """The offset after the last record of each partition in a batch (each partition's records are in order)."""
    last = {(received.topic, received.partition): received.offset for received in batch}
    return {Partition(topic, number): offset + 1 for (topic, number), offset in last.items()}


class Transient(Exception):  # noqa: N818 - one of the project's two error words
    """It may work in ``after_s`` seconds: back off in place."""

    def __init__(self, message: str, *, after_s: float = 1.0) -> None:
        super().__init__(message)
        self.after_s = after_s


class Fenced(Exception):  # noqa: N818 - says what happened to the writer
    """Somebody else writes this shard now. Whatever was not committed never happened."""


class ShardLog(Protocol):
    """The inputs and outputs of one shard. Used by one thread."""

    def read(self, *, max_records: int, timeout_s: float) -> Sequence[Received]:
        """Next records of the inputs (and, until ``lead``, of the own outputs); waits at most ``timeout_s`` for the first."""
        ...

    def caught_up(self) -> bool:
        """Whether everything that was in the log when the shard was opened (or began to lead) has been read."""
        ...

    def committed(self) -> Mapping[Partition, int]:
        """The next offset to process of each input as of the opening; absent where nothing was ever committed."""
        ...

    def lead(self) -> None:
        """Become the shard's one writer: fence the predecessor. Read on until ``caught_up``, then call ``stop_following``."""
        ...

    def stop_following(self) -> None:
        """Read the own outputs no more: from here on this shard is the only one that writes them."""
        ...

    def commit(self, outputs: Sequence[Record], offsets: Mapping[Partition, int]) -> None:
        """Publish outputs and commit offsets (the next to process) in one transaction.

        Raises:
            Fenced: another writer took over; nothing was published.
            Transient: nothing was published; the shard must be opened anew and recovered.
        """
        ...

    def lag(self) -> int:
        """Records in the inputs that have not been read."""
        ...

    def close(self) -> None:
        """Abort what is open and leave."""
        ...


class Ownership(Protocol):
    """Membership in the group of a service's replicas. Used by one thread."""

    def poll(self, timeout_s: float) -> frozenset[int]:
        """The shards this replica owns now. ``on_revoked`` is called, and has returned, before another may get them."""
        ...

    def joined(self) -> bool:
        """Whether the group has taken this replica in (it may own nothing)."""
        ...

    def close(self) -> None:
        """Leave the group."""
        ...


class Publisher(Protocol):
    """Writes records in order of each key; every record is acknowledged by all replicas of the broker, or an error is raised."""

    def publish(self, records: Sequence[Record], *, timeout_s: float = 30.0) -> None:
        """Write all and wait until they are safe.

        Raises:
            Transient: some may not have been written; publishing all again is safe (ids repeat).
        """
        ...

    def close(self) -> None:
        """Flush and leave."""
        ...


class Tail(Protocol):
    """Reads topics from a position on, without a group that shares them."""

    def read(self, *, max_records: int, timeout_s: float) -> Sequence[Received]:
        """Next committed records; waits at most ``timeout_s`` for the first."""
        ...

    def caught_up(self) -> bool:
        """Whether everything that was there at the opening has been read."""
        ...

    def lag(self) -> int:
        """Records that have not been read."""
        ...

    def close(self) -> None:
        """Leave."""
        ...


class Bus(Protocol):
    """A place to get all of these."""

    def ask(self, *, timeout_s: float) -> None:
        """A question that the broker only has to answer.

        Raises:
            Transient: it did not in time.
        """
        ...

    def ensure_topics(self, topics: Sequence[Topic]) -> None:
        """Create the topics that are missing, with their partitions, compaction and retention.

        Raises:
            Transient: the broker did not answer in time.
        """
        ...

    def open_shard(
        self,
        *,
        service: str,
        shard: int,
        inputs: Sequence[Partition],
        own: Sequence[Partition],
        ownership: Ownership | None,
    ) -> ShardLog:
        """Read ``inputs`` and ``own`` from their beginning. Writes nothing until ``lead``."""
        ...

    def join(
        self, *, service: str, replica: str, shards: int, on_revoked: Callable[[frozenset[int]], None]
    ) -> Ownership:
        """Become one of the replicas that share the service's shards."""
        ...

    def publisher(self, *, name: str) -> Publisher:
        """A writer without transactions."""
        ...

    def tail(
        self, topics: Sequence[str], *, from_offsets: Mapping[Partition, int] | None = None, at_end: bool = False
    ) -> Tail:
        """Read whole topics: from ``from_offsets`` where given, else from the beginning, or ``at_end`` only what comes."""
        ...

    def close(self) -> None:
        """Release what the bus holds."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
