"""The SDN says how much of a path is free, and the CMO lets a job start when its data can be there: on a real broker."""

from __future__ import annotations

import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from prometheus_client import REGISTRY

from devstack.broker import KafkaBroker
from services.cmo.service import role as cmo_role
from services.cmo.settings import CmoSettings
from services.sdn.service import role as sdn_role
from services.sdn.settings import SdnSettings
from solyx.bus.kafka import KafkaBus
from solyx.bus.runner import ServiceRunner
from solyx.clock import ManualClock
from solyx.events import (
    DataSet,
    EnergySeriesPublished,
    Event,
    JobPlaced,
    JobSpec,
    JobSubmitted,
    LinkObserved,
    Node,
    PowerModel,
    Resources,
    RouteDecided,
    SiteObserved,
    decode,
    encode,
)
from solyx.topics import TOPICS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

START = datetime(2026, 6, 1, tzinfo=UTC)
PRICES = {"north": 200.0, "south": 1.0}
LINK_BPS = 1e9
POWER = PowerModel(idle_w_per_node=100, w_per_core=10, w_per_gpu=300, pue=1.0)
SPEC = JobSpec(
    name="train",
    image="busybox",
    resources=Resources(cpu_milli=4000),
    duration_estimate_s=7200,
    data=DataSet(size_bytes=75_000_000_000, site="north"),  # 600 s on the empty link
)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[KafkaBroker]:
    """Its own: the CMO would place other tests' jobs, too."""
    started = KafkaBroker(tmp_path / "kafka").start()
    yield started
    started.stop()


@pytest.mark.timeout(180)
def test_a_job_starts_when_the_headroom_of_its_path_has_let_its_data_through(broker: KafkaBroker) -> None:
    bus, clock = KafkaBus(broker.bootstrap_servers, client_name="test"), ManualClock(START)
    bus.ensure_topics(TOPICS)
    tail, publisher = bus.tail(["placements", "routes"]), bus.publisher(name="test")
    seen: list[Event] = []
    read_before = {topic: read_by_cmo(topic) for topic in ("sites", "energy", "routes")}

    def publish(*events: Event) -> None:
        publisher.publish([encode(event, source="test", time=clock.now()) for event in events])

    def until(holds: Callable[[], object]) -> None:
        deadline = time.monotonic() + 90
        while not holds():
            assert time.monotonic() < deadline, seen[-5:]
            clock.advance(1.0)
            records = tail.read(max_records=1000, timeout_s=0.2)
            seen.extend(decode(record.value, record.headers).event for record in records)  # pyright: ignore[reportArgumentType]

    def of(kind: type[Event]) -> list[Event]:
        return [event for event in seen if isinstance(event, kind)]

    with ExitStack() as stack:
        for role, settings in (
            (cmo_role(CmoSettings(), speed=1.0), CmoSettings()),
            (sdn_role(SdnSettings().policy(speed=1.0)), SdnSettings()),
        ):
            runner = ServiceRunner(role, settings, bus, clock)
            runner.start()
            stack.callback(runner.stop)
        publish(
            *(SiteObserved(site=name, observed_at=START, nodes=(_node(name),), power=POWER) for name in PRICES),
            *(_series(name, "price_eur_per_mwh", price) for name, price in PRICES.items()),
            *(_series(name, "carbon_gco2_per_kwh", 100.0) for name in PRICES),
            *(_link(*pair) for pair in (("north", "south"), ("south", "north"))),
        )
        until(lambda: {event.key for event in of(RouteDecided)} >= {"north>south", "south>north"})
        told = {"sites": len(PRICES), "energy": 2 * len(PRICES), "routes": len(of(RouteDecided))}
        until(lambda: all(read_by_cmo(topic) - read_before[topic] >= count for topic, count in told.items()))
        jobs = [JobSubmitted(job_id=f"j{n}", tenant="t", spec=SPEC, submitted_at=clock.now()) for n in range(2)]
        publish(*jobs)
        until(lambda: len(of(JobPlaced)) == len(jobs))

    first, second = sorted(of(JobPlaced), key=lambda placed: placed.start_at)  # pyright: ignore[reportAttributeAccessIssue]
    assert isinstance(first, JobPlaced)
    assert isinstance(second, JobPlaced)
    assert (first.site, second.site) == ("south", "south")
    takes = timedelta(seconds=SPEC.data.size_bytes * 8 / LINK_BPS) if SPEC.data else timedelta(0)
    assert first.start_at == first.data_at
    assert (first.data_from, second.data_from) == (first.decided_at, first.data_at)  # one after the other
    assert {route.free_bps for route in of(RouteDecided)} == {(LINK_BPS,)}  # pyright: ignore[reportAttributeAccessIssue]
    assert takes <= first.start_at - first.decided_at <= takes + timedelta(seconds=2)
    assert takes <= second.start_at - first.start_at <= takes + timedelta(seconds=2)
    assert "WAN: 69.8 GiB from north reach south at" in first.bound_by


def read_by_cmo(topic: str) -> float:
    """Records of a topic that the CMOs of this process have read."""
    return REGISTRY.get_sample_value("solyx_records_total", {"service": "cmo", "topic": topic}) or 0.0


def _node(name: str) -> Node:
    return Node(name=f"{name}-1", cpu_milli=16000, memory_bytes=2**36)


def _series(name: str, kind: str, value: float) -> EnergySeriesPublished:
    return EnergySeriesPublished(
        site=name, kind=kind, start=START, values=(value,) * 96, published_at=START, source="test"
    )


def _link(source: str, target: str) -> LinkObserved:
    return LinkObserved(
        link=f"{source}>{target}",
        source=source,
        target=target,
        capacity_bps=LINK_BPS,
        latency_ms=5.0,
        observed_at=START,
    )
