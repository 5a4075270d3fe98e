"""A link grows slow and a running job goes to a nearer site, if it may: the whole line on a real broker, from a link's counters on."""

from __future__ import annotations

import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeVar

import msgspec
import pytest

from devstack.broker import KafkaBroker
from devstack.checker import TOPICS as CHECKED
from devstack.checker import check
from services.actuator.service import role as actuator_role
from services.actuator.settings import ActuatorSettings
from services.actuator.simulated.course import Chance
from services.actuator.simulated.targets import SimulatedTargets
from services.actuator.simulated.work import Checkpoints
from services.cmo.service import role as cmo_role
from services.cmo.settings import CmoSettings
from services.drm.service import role as drm_role
from services.drm.settings import DrmSettings
from services.sdn.service import role as sdn_role
from services.sdn.settings import SdnSettings
from solyx.bus.kafka import KafkaBus
from solyx.bus.runner import ServiceRunner
from solyx.clock import ManualClock
from solyx.events import (
    EnergySeriesPublished,
    Event,
    JobFinished,
    JobPlaced,
    JobSpec,
    JobSubmitted,
    LatencyBound,
    LatencyBoundReported,
    LatencyReason,
    LinkObserved,
    Node,
    PlacementReason,
    PlacementWithdrawn,
    Resources,
    SiteObserved,
    WithdrawalReason,
    WorkloadReported,
    decode,
    encode,
)
from solyx.topics import TOPICS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

T = TypeVar("T", bound=Event)
START = datetime(2026, 6, 1, tzinfo=UTC)
SITES = ("north", "south")
EXCHANGE = "exchange"  # a network node that is a place, and no site
SPEC = JobSpec(
    name="serve",
    image="busybox",
    resources=Resources(cpu_milli=1000),
    duration_estimate_s=7200,
    max_delay_s=0.0,
    suspendable=True,
    home_site="north",
    max_latency=LatencyBound(to=EXCHANGE, max_ms=30),
    labels={"solyx.io/simulated-duration-s": "7200", "solyx.io/simulated-checkpoint-s": "5"},
)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[KafkaBroker]:
    """Its own: the CMO would place other tests' jobs, too."""
    started = KafkaBroker(tmp_path / "kafka").start()
    yield started
    started.stop()


class World:
    """Sites and links as the collector tells them, on scenario time that the test moves."""

    def __init__(self, bus: KafkaBus) -> None:
        self.clock, self.bus = ManualClock(START), bus
        bus.ensure_topics(TOPICS)
        self._tail = bus.tail(["placements", "latencies", "actuations", "responses"])
        self._publisher = bus.publisher(name="test")
        self.seen: list[Event] = []
        self.ways_ms = {"north": 5.0, "south": 12.0}  # one way to the exchange

    def publish(self, *events: Event) -> None:
        self._publisher.publish([encode(event, source="test", time=self.clock.now()) for event in events])

    def begin(self) -> None:
        for name in SITES:
            node = Node(name=f"{name}-1", cpu_milli=8000, memory_bytes=2**36)
            self.publish(
                SiteObserved(site=name, observed_at=START, nodes=(node,), latency_ms={EXCHANGE: 1.0}),
                *(
                    EnergySeriesPublished(
                        site=name, kind=kind, start=START, values=(value,) * 96, published_at=START, source="test"
                    )
                    for kind, value in (("price_eur_per_mwh", 50.0), ("carbon_gco2_per_kwh", 100.0))
                ),
            )

    def observe_links(self) -> None:
        now = self.clock.now()
        self.publish(
            *(
                LinkObserved(
                    link=f"{source}>{target}",
                    source=source,
                    target=target,
                    capacity_bps=1e10,
                    latency_ms=latency_ms,
                    observed_at=now,
                )
                for name, latency_ms in self.ways_ms.items()
                for source, target in ((name, EXCHANGE), (EXCHANGE, name))
            )
        )

    def until(self, holds: Callable[[list[Event]], object], step_s: float = 20.0) -> None:
        """Links are observed and time goes on until it is so."""
        deadline = time.monotonic() + 120
        while not holds(self.seen):
            assert time.monotonic() < deadline, self.seen[-5:]
            self.clock.advance(step_s)
            self.observe_links()
            for record in self._tail.read(max_records=1000, timeout_s=0.2):
                self.seen.append(decode(record.value, record.headers).event)  # pyright: ignore[reportArgumentType]

    def of(self, kind: type[T]) -> list[T]:
        return [event for event in self.seen if isinstance(event, kind)]


def running_at(site: str, revision: int, job_id: str = "serve") -> Callable[[list[Event]], bool]:
    return lambda seen: any(
        isinstance(event, WorkloadReported)
        and (event.job_id, event.site, event.revision, event.status) == (job_id, site, revision, "started")
        for event in seen
    )


@pytest.mark.timeout(300)
def test_when_a_link_grows_slow_a_run_moves_if_it_may_and_else_its_owner_is_told(
    broker: KafkaBroker, tmp_path: Path
) -> None:
    bus = KafkaBus(broker.bootstrap_servers, client_name="test")
    world = World(bus)
    with ExitStack() as stack:
        checkpoints = Checkpoints(restart_overhead_s=10.0)
        targets = stack.enter_context(
            SimulatedTargets(tmp_path / "state", world.clock, chance=Chance(), checkpoints=checkpoints)
        )
        for role, settings in (
            (cmo_role(CmoSettings(), speed=1.0), CmoSettings()),
            (drm_role(DrmSettings()), DrmSettings()),
            (sdn_role(SdnSettings().policy(speed=1.0)), SdnSettings()),
            (actuator_role(targets, ActuatorSettings()), ActuatorSettings()),
        ):
            runner = ServiceRunner(role, settings, bus, world.clock)
            runner.start()
            stack.callback(runner.stop)
        world.begin()
        world.until(lambda seen: {event.key for event in seen if event.TOPIC == "latencies"} == set(SITES))
        tied = msgspec.structs.replace(SPEC, suspendable=False)
        for job_id, spec in (("serve", SPEC), ("tied", tied)):
            world.publish(JobSubmitted(job_id=job_id, tenant="t", spec=spec, submitted_at=world.clock.now()))
            world.until(running_at("north", 1, job_id))
        world.ways_ms["north"] = 25.0
        slow_since = world.clock.now()
        world.until(running_at("south", 2))
        world.until(lambda seen: sum(isinstance(event, JobFinished) for event in seen) == 2, step_s=120.0)

    (withdrawn,) = world.of(PlacementWithdrawn)
    assert withdrawn.job_id == "serve"
    assert withdrawn.reason is WithdrawalReason.LATENCY
    assert withdrawn.detail.startswith("north is ")
    assert withdrawn.detail.endswith(f"ms from {EXCHANGE} (measured); the job asks for at most 30 ms")
    assert withdrawn.decided_at >= slow_since + timedelta(seconds=CmoSettings().latency_patience_s)
    (moved,) = [event for event in world.of(JobPlaced) if isinstance(event, JobPlaced) and event.revision > 1]
    assert (moved.site, moved.reason) == ("south", PlacementReason.LATENCY)
    assert f"south is 24 ms from {EXCHANGE} (measured)" in moved.bound_by
    assert moved.progress_s > 0
    ran = {event.job_id: [run.site for run in event.runs] for event in world.of(JobFinished)}
    assert ran == {"serve": ["north", "south"], "tied": ["north"]}
    (stays,) = world.of(LatencyBoundReported)
    assert (stays.job_id, stays.reason) == ("tied", LatencyReason.NOT_SUSPENDABLE)
    assert stays.reported_at >= slow_since + timedelta(seconds=CmoSettings().latency_patience_s)
    findings = check(_records(bus), accepted=["serve", "tied"])
    assert findings.clean, findings


def _records(bus: KafkaBus) -> list:
    tail, found = bus.tail(list(CHECKED)), []
    while not tail.caught_up():
        found.extend(tail.read(max_records=1000, timeout_s=0.2))
    tail.close()
    return found
