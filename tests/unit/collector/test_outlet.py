"""The buffer towards Kafka: bounded, in order, and nothing is dropped."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

import pytest

from services.collector.service.outlet import BufferFull, Outlet, safe_within
from solyx.bus.port import Transient
from solyx.clock import ManualClock
from solyx.events import MetricsScraped, Record

NOW = datetime(2023, 6, 1, tzinfo=UTC)


class Broker:
    """Takes records unless told not to."""

    def __init__(self) -> None:
        self.records: list[str] = []
        self.refusals = 0
        self.attempts = 0
        self.connections = 0
        self.open = 0

    def connect(self) -> "Broker":
        self.connections += 1
        self.open += 1
        return self

    def publish(self, records: Sequence[Record], *, timeout_s: float = 30.0) -> None:
        del timeout_s
        self.attempts += 1
        if self.refusals:
            self.refusals -= 1
            raise Transient("no leader", after_s=0.01)
        self.records.extend(record.key for record in records)

    def close(self) -> None:
        self.open -= 1


def event(source: str) -> MetricsScraped:
    return MetricsScraped(source=source, scraped_at=NOW, series=("m",), values=(1.0,))


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def outlet(broker) -> Outlet:
    return Outlet(broker.connect, ManualClock(NOW), capacity_bytes=1500)  # room for two or three events


@pytest.fixture
async def running(outlet) -> AsyncIterator[Outlet]:
    task = asyncio.create_task(outlet.run())
    yield outlet
    task.cancel()
    await asyncio.wait([task])


async def test_published_means_safe(running, broker):
    await running.publish([event("a"), event("b")])
    assert broker.records == ["a", "b"]
    assert running.buffered_bytes == 0


async def test_nothing_to_publish_is_safe_at_once(outlet):
    await outlet.publish([])
    assert outlet.offer([]).done()


async def test_a_refused_batch_is_repeated_whole_and_in_order(running, broker):
    broker.refusals = 2
    await asyncio.gather(running.publish([event("a")]), running.publish([event("b")]))
    assert broker.records == ["a", "b"]
    assert broker.attempts >= 3
    assert (broker.connections, broker.open) == (3, 1)  # a refused batch is left to the producer that failed
    assert running.last_error == ""


async def test_a_full_buffer_refuses_what_cannot_wait_and_holds_up_what_can(outlet, broker):
    offered = [outlet.offer([event(f"{n}")]) for n in range(2)]
    with pytest.raises(BufferFull, match="bytes wait for Kafka"):
        outlet.offer([event("more")] * 2)
    waiting = asyncio.create_task(outlet.publish([event("late"), event("late")]))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    assert broker.records == []
    run = asyncio.create_task(outlet.run())
    await waiting
    assert all(one.done() for one in offered)
    assert broker.records[-2:] == ["late", "late"]
    run.cancel()


async def test_a_parcel_larger_than_the_buffer_passes_when_the_buffer_is_empty(running, broker):
    await running.publish([event("a")] * 20)
    assert len(broker.records) == 20


async def test_who_gives_up_waiting_does_not_stop_the_delivery(running, broker):
    broker.refusals = 3
    safe = running.offer([event("a")])
    assert not await safe_within(safe, 0.001)
    await running.drained()
    assert broker.records == ["a"]


async def test_a_cancelled_source_takes_nobody_with_it(running, broker):
    broker.refusals = 1
    first = asyncio.create_task(running.publish([event("a")]))
    await asyncio.sleep(0)
    first.cancel()
    await running.publish([event("b")])
    assert broker.records[-1] == "b"


async def test_a_bug_of_the_publisher_ends_the_delivery(outlet, broker):
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("bug")

    broker.publish = broken
    outlet.offer([event("a")])
    with pytest.raises(RuntimeError, match="bug"):
        await outlet.run()
