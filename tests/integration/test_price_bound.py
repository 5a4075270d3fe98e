"""A site's price passes its owner's bound: the whole line on a real broker and database, with a restart of both who decide."""

from __future__ import annotations

from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, TypeGuard

import pytest

from devstack.broker import KafkaBroker
from services.actuator.service import role as actuator_role
from services.actuator.settings import ActuatorSettings
from services.actuator.simulated.course import Chance
from services.actuator.simulated.targets import SimulatedTargets
from services.actuator.simulated.work import Checkpoints
from services.cmo.service import role as cmo_role
from services.cmo.settings import CmoSettings
from services.drm.service import role as drm_role
from services.drm.settings import DrmSettings
from solyx.bus.kafka import KafkaBus
from solyx.bus.runner import ServiceRunner
from solyx.events import (
    EnergySeriesPublished,
    Node,
    PowerModel,
    ReliefAnswered,
    ReliefReason,
    ReliefRequested,
    SiteObserved,
    decode,
)
from tests.gateway_app import running, until
from tests.integration.test_job_life import entries, job_when

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from tests.gateway_app import Running

WORK_S = 4 * 3600.0
BATCH = {
    "name": "batch",
    "image": "busybox",
    "resources": {"cpu": 4},
    "duration_estimate": "4h",
    "suspendable": True,
    "max_delay": "1d",
    "labels": {"solyx.io/simulated-duration-s": str(WORK_S), "solyx.io/simulated-checkpoint-s": "60"},
}
PROTECTED = {**BATCH, "name": "protected", "suspendable": False, "max_delay": "0s"}
BOUND, CHEAP, DEAR = 100.0, 50.0, 300.0


def hour_of(solyx: Running) -> datetime:
    return solyx.clock.now().replace(minute=0, second=0, microsecond=0)


def site(solyx: Running) -> SiteObserved:
    return SiteObserved(
        site="oslo",
        observed_at=solyx.clock.now(),
        nodes=(Node(name="a", cpu_milli=16000, memory_bytes=2**36),),
        power=PowerModel(idle_w_per_node=100, w_per_core=10),
        price_bound_eur_per_mwh=BOUND,
    )


def series(solyx: Running, kind: str, start: datetime, *values: float) -> EnergySeriesPublished:
    return EnergySeriesPublished(
        site="oslo",
        kind=kind,  # pyright: ignore[reportArgumentType]
        start=start,
        values=values,
        published_at=solyx.clock.now(),
    )


class Deciders:
    """CMO and DRM, which can be replaced by others that know nothing but the topics."""

    def __init__(self, bus: KafkaBus, solyx: Running) -> None:
        self._bus, self._solyx = bus, solyx
        self._runners: dict[str, ServiceRunner] = {}

    def start(self) -> None:
        """Those that do not work yet."""
        for role, settings in (
            (cmo_role(CmoSettings(), speed=1.0), CmoSettings()),
            (drm_role(DrmSettings()), DrmSettings()),
        ):
            if role.service not in self._runners:
                runner = ServiceRunner(role, settings, self._bus, self._solyx.clock)
                runner.start()
                self._runners[role.service] = runner

    def stop(self, *services: str) -> None:
        """Some, or all."""
        for service in services or tuple(self._runners):
            self._runners.pop(service).stop()


@asynccontextmanager
async def line(url: str, bus: KafkaBus, state: Path) -> AsyncIterator[tuple[Running, Deciders]]:
    async with AsyncExitStack() as outer:
        solyx = await outer.enter_async_context(running(url, bus=bus))
        with ExitStack() as stack:
            targets = stack.enter_context(
                SimulatedTargets(state, solyx.clock, chance=Chance(), checkpoints=Checkpoints(restart_overhead_s=30.0))
            )
            deciders = Deciders(bus, solyx)
            stack.callback(deciders.stop)
            deciders.start()
            actuator = ServiceRunner(actuator_role(targets, ActuatorSettings()), ActuatorSettings(), bus, solyx.clock)
            actuator.start()
            stack.callback(actuator.stop)
            yield solyx, deciders


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[KafkaBroker]:
    """Its own: the CMO would place other tests' jobs, too."""
    started = KafkaBroker(tmp_path / "kafka").start()
    yield started
    started.stop()


def told(bus: KafkaBus, *topics: str) -> list[object]:
    tail = bus.tail(list(topics))
    try:
        found: list[object] = []
        while not tail.caught_up():
            batch = tail.read(max_records=500, timeout_s=0.2)
            found.extend(decode(one.value, one.headers).event for one in batch if one.value is not None)
        return found
    finally:
        tail.close()


def asks_now(event: object) -> TypeGuard[ReliefRequested]:
    return isinstance(event, ReliefRequested) and event.reason is ReliefReason.PRICE_BOUND


@pytest.mark.timeout(300)
async def test_work_leaves_above_the_bound_and_comes_back_when_the_price_falls_whoever_decides(
    postgres_url: str, broker: KafkaBroker, tmp_path: Path
) -> None:
    bus = KafkaBus(broker.bootstrap_servers, client_name="test")
    async with line(postgres_url, bus, tmp_path) as (solyx, deciders), solyx.client() as client:
        hour = hour_of(solyx)
        flat = [series(solyx, "carbon_gco2_per_kwh", hour - timedelta(days=1), *[100.0] * 96)]
        flat.append(series(solyx, "price_eur_per_mwh", hour - timedelta(days=1), *[CHEAP] * 96))
        solyx.publish(site(solyx), *flat)
        batch, protected = [(await client.post("/v1/jobs", json=job)).json()["id"] for job in (BATCH, PROTECTED)]
        for job_id in (batch, protected):
            await job_when(solyx, client, job_id, lambda job: job["state"] == "running")
        solyx.clock.advance(600)

        deciders.stop("cmo")  # by itself it would suspend for the price, if it heard of that before the DRM asks
        hour = hour_of(solyx)
        end = hour + timedelta(hours=2)
        solyx.publish(*(series(solyx, "price_eur_per_mwh", hour + timedelta(hours=n), DEAR) for n in (1, 0)))
        await until(lambda: any(asks_now(one) for one in told(bus, "grid")))
        deciders.start()
        waiting = await job_when(solyx, client, batch, lambda job: job["revision"] == 2)
        deciders.stop()
        deciders.start()
        solyx.clock.advance((end - solyx.clock.now()).total_seconds() - 60)
        again = await job_when(solyx, client, batch, lambda job: job["state"] == "running" and job["revision"] == 2)
        (go_on,) = [one for one in entries(again, "workload.reported") if one["revision"] == 2]
        assert (await client.get(f"/v1/jobs/{protected}")).json()["revision"] == 1
        solyx.clock.advance(WORK_S - 900)
        story = await job_when(solyx, client, batch, lambda job: job["state"] == "succeeded")
        said = told(bus, "grid", "responses")

    (withdrawn,) = entries(story, "placement.withdrawn")
    assert (withdrawn["reason"], withdrawn["revision"]) == ("price_bound", 1)
    assert withdrawn["figures"]["detail"].startswith("up to 300.00 EUR/MWh until ")
    assert [entry["reason"] for entry in entries(waiting, "job.placed")] == ["only_site", "price_bound"]
    assert datetime.fromisoformat(entries(waiting, "job.placed")[-1]["figures"]["start_at"]) == end
    assert datetime.fromisoformat(go_on["figures"]["started_at"]) >= end
    asked = [one for one in said if asks_now(one)]
    answered = [one for one in said if isinstance(one, ReliefAnswered) and one.relieved_w]
    assert [job.job_id for job in asked[-1].jobs] == [batch]
    assert [(one.suspended, one.relieved_w) for one in answered] == [(1, 40.0)], "once, whoever decides"
