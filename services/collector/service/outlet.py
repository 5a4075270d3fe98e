"""The one way out of the collector: events wait in a bounded buffer until Kafka has them.

Whatever feeds the collector waits for its events to be safe before it reads on, so a broker that is slow or away slows every
source down (back-pressure) and no event is dropped. One batch is under way at a time: records of one key stay in order,
also when a batch is repeated.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

from services.collector.service.meters import BUFFERED, EVENTS, RETRIES
from solyx.bus.port import Transient
from solyx.events import Record, encode
from solyx.telemetry import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from solyx.bus.port import Publisher
    from solyx.clock import Clock
    from solyx.events import Event

log = get_logger()

SOURCE = "solyx/collector"
MAX_BATCH_RECORDS = 2000
MAX_BACKOFF_S = 10.0
PUBLISH_TIMEOUT_S = 10.0  # of one attempt; also the longest that stopping waits for a broker that is away
RECORD_OVERHEAD_BYTES = 400  # headers and objects of one record


class BufferFull(Exception):  # noqa: N818 - says what is the case; the sender may try again later
    """There is no room: Kafka is slower than what comes in."""


class _Parcel:
    """What one caller wants to be safe."""

    __slots__ = ("records", "safe", "size_bytes")

    def __init__(self, records: list[Record], safe: asyncio.Future[None]) -> None:
        self.records = records
        self.safe = safe
        self.size_bytes = sum(len(record.value or b"") + RECORD_OVERHEAD_BYTES for record in records)


class Outlet:
    """Publishes for all sources of this process."""

    def __init__(self, open_publisher: Callable[[], Publisher], clock: Clock, *, capacity_bytes: int) -> None:
        self._open_publisher, self._clock, self._capacity_bytes = open_publisher, clock, capacity_bytes
        self._publisher: Publisher | None = None
        self._waiting: deque[_Parcel] = deque()
        self._arrived = asyncio.Event()
        self._room = asyncio.Condition()
        self._buffered_bytes = 0
        self.last_error = ""  # why Kafka did not take the batch at hand; empty: it does

    @property
    def buffered_bytes(self) -> int:
        """What waits for Kafka."""
        return self._buffered_bytes

    async def publish(self, events: Sequence[Event]) -> None:
        """Wait for room, then until the events are safe."""
        parcel = self._parcel(events)
        if parcel is None:
            return
        async with self._room:
            await self._room.wait_for(lambda: self._fits(parcel))
            self._accept(parcel)
        await parcel.safe

    def offer(self, events: Sequence[Event]) -> asyncio.Future[None]:
        """Take the events at once; the future is done when they are safe.

        Raises:
            BufferFull: there is no room for them now.
        """
        parcel = self._parcel(events)
        if parcel is None:
            done = asyncio.get_running_loop().create_future()
            done.set_result(None)
            return done
        if not self._fits(parcel):
            msg = f"{self._buffered_bytes} bytes wait for Kafka" + (f" ({self.last_error})" if self.last_error else "")
            raise BufferFull(msg)
        self._accept(parcel)
        return parcel.safe

    def is_full(self) -> bool:
        """Whether nothing more is taken now."""
        return self._buffered_bytes >= self._capacity_bytes

    async def run(self) -> None:
        """Publish until cancelled."""
        while True:
            await self._arrived.wait()
            batch, records = self._next_batch()
            await self._deliver(records)
            async with self._room:
                self._buffered_bytes -= sum(parcel.size_bytes for parcel in batch)
                BUFFERED.set(self._buffered_bytes)
                self._room.notify_all()
            for parcel in batch:
                if not parcel.safe.done():  # whoever waited may have been cancelled
                    parcel.safe.set_result(None)

    async def close(self) -> None:
        """Let go of the publisher."""
        if self._publisher is not None:
            await asyncio.to_thread(self._publisher.close)
            self._publisher = None

    async def drained(self) -> None:
        """Wait until nothing is left."""
        async with self._room:
            await self._room.wait_for(lambda: not self._buffered_bytes)

    def _parcel(self, events: Sequence[Event]) -> _Parcel | None:
        now = self._clock.now()
        records = [encode(event, source=SOURCE, time=now) for event in events]
        return _Parcel(records, asyncio.get_running_loop().create_future()) if records else None

    def _fits(self, parcel: _Parcel) -> bool:
        """An empty buffer takes anything, so that no parcel waits for ever."""
        return not self._buffered_bytes or self._buffered_bytes + parcel.size_bytes <= self._capacity_bytes

    def _accept(self, parcel: _Parcel) -> None:
        self._waiting.append(parcel)
        self._buffered_bytes += parcel.size_bytes
        BUFFERED.set(self._buffered_bytes)
        self._arrived.set()

    def _next_batch(self) -> tuple[list[_Parcel], list[Record]]:
        batch: list[_Parcel] = []
        records: list[Record] = []
        while self._waiting and (not records or len(records) + len(self._waiting[0].records) <= MAX_BATCH_RECORDS):
            parcel = self._waiting.popleft()
            batch.append(parcel)
            records.extend(parcel.records)
        if not self._waiting:
            self._arrived.clear()
        return batch, records

    async def _deliver(self, records: list[Record]) -> None:
        """Publish all, however often Kafka has to be asked: ids repeat, so a repeat is harmless."""
        backoff_s = 0.0
        while True:
            try:
                if self._publisher is None:
                    self._publisher = self._open_publisher()
                await asyncio.to_thread(self._publisher.publish, records, timeout_s=PUBLISH_TIMEOUT_S)
            except Transient as error:
                RETRIES.inc()
                self.last_error = str(error)
                backoff_s = min(max(error.after_s, 2 * backoff_s), MAX_BACKOFF_S)
                log.warning("publish_retried", error=str(error), records=len(records), after_s=backoff_s)
                # What a producer could not deliver stays in its queue: repeated into the same one, a long outage would
                # fill memory with copies of the batch. A new producer begins empty.
                await self.close()
                await asyncio.sleep(backoff_s)
            else:
                self.last_error = ""
                for record in records:
                    EVENTS.labels(record.topic).inc()
                return


async def safe_within(safe: asyncio.Future[Any], timeout_s: float) -> bool:
    """Whether it became safe in time. It goes on being published in any case."""
    done, _ = await asyncio.wait({safe}, timeout=timeout_s)
    return bool(done)
