"""Where faust-streaming 0.15.3 loses messages when partitions change hands, and what stands in its place.

1. After a recovery it lets the source partitions flow, then seeks them to their committed offsets, then empties the queues
   between its consumer and the agent. What was fetched in between is in a queue that is emptied, and its fetcher goes on behind
   it. So here nothing is taken from the source partitions until all of that is over (``on_rebalance_end``).
2. It tells aiokafka which partitions to take records of by a set that it changes while the call waits. When the set is empty for a
   moment, at the end of a recovery, the call takes records of every partition, and faust drops those that it did not ask for,
   behind its back. So here the set is never empty, and asks at the moment when records are taken.
3. A message that an agent takes out of its queue while a rebalance runs is skipped, *and acknowledged*; and the offset to commit is
   computed as if the first message behind the committed offset had been acknowledged. Either commits a message that nobody
   read. So here nothing is acknowledged to faust; ``Offsets`` knows what may be committed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Container


class Offsets:
    """How far each partition may be committed: behind what was folded, once its rows were saved."""

    def __init__(self) -> None:
        """Nothing was read yet."""
        self._folded: dict[int, int] = {}  # partition → the offset behind its last folded message
        self._saved: dict[int, int] = {}

    def folded(self, partition: int, offset: int) -> None:
        """The message at ``offset`` is in its window now."""
        self._folded[partition] = offset + 1

    def saved(self) -> None:
        """Everything folded so far is in the table's rows."""
        self._saved |= self._folded
        self._folded.clear()

    def due(self) -> dict[int, int]:
        """What to commit: for each partition the offset to go on from."""
        return dict(self._saved)

    def committed(self, offsets: dict[int, int]) -> None:
        """These need not be committed again."""
        for partition, offset in offsets.items():
            if self._saved.get(partition) == offset:
                del self._saved[partition]

    def clear(self) -> None:
        """The partitions are given up, or read anew from what was committed."""
        self._folded.clear()
        self._saved.clear()


def held_app(*arguments: Any, on_ready: Callable[[], None], **settings: Any) -> Any:
    """A ``faust.App`` that calls ``on_ready`` when all of a rebalance and its recovery are over, nothing read yet.

    ``on_ready`` calls ``app.consumer.release()`` to let the source partitions flow.
    """
    import faust  # noqa: PLC0415 - 40 MB; only a process that starts the worker pays

    class HeldApp(faust.App):
        def on_rebalance_end(self) -> None:
            super().on_rebalance_end()
            on_ready()

    app: Any = HeldApp(*arguments, **settings)
    app.transport.Consumer = held_consumer()
    return app


class _Wanted:
    """The partitions that the consumer's thread may take records of now. Never false: an empty set means all to aiokafka."""

    def __init__(self, active: Container[Any], may_flow: Callable[[Any], bool]) -> None:
        self._active, self._may_flow = active, may_flow

    def __contains__(self, partition: object) -> bool:
        return partition in self._active and self._may_flow(partition)


def held_consumer() -> Any:
    """A consumer for faust that takes records of source partitions only between ``release`` and the next revocation."""
    from faust.transport.drivers.aiokafka import Consumer  # noqa: PLC0415

    class HeldConsumer(Consumer):
        _owns = False  # between an assignment and the next revocation
        _released = False

        async def on_partitions_revoked(self, revoked: Any) -> None:
            self._owns = self._released = False
            await super().on_partitions_revoked(revoked)

        async def on_partitions_assigned(self, assigned: Any, generation_id: int = 0) -> None:
            self._owns = True
            await super().on_partitions_assigned(assigned, generation_id)

        async def _getmany(self, active_partitions: Any, timeout: float) -> Any:  # noqa: ASYNC109 - as faust calls it
            wanted: Any = _Wanted(active_partitions, self.may_flow)
            return await super()._getmany(wanted, timeout)

        def may_flow(self, partition: Any) -> bool:
            """Whether records of this partition would reach where they are sent."""
            return self._released or self._is_changelog_tp(partition)

        def recovered_what_it_owns(self) -> bool:
            """Whether the recovery that ends now is of the present assignment, not of one that is being given up."""
            app: Any = self.app
            return self._owns and app.tables.recovery._generation_id == app.consumer_generation_id  # noqa: SLF001

        def release(self) -> None:
            """Let source partitions flow."""
            self._released = True

    return HeldConsumer
