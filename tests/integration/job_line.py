"""The whole line in one process, on a real broker and a real database, from REST to REST, on scenario time that the test moves."""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack, asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from services.actuator.service import role as actuator_role
from services.actuator.settings import ActuatorSettings
from services.actuator.simulated.course import Chance
from services.actuator.simulated.targets import SimulatedTargets
from services.actuator.simulated.work import Checkpoints
from services.cmo.service import role as cmo_role
from services.cmo.settings import CmoSettings
from services.drm.service import role as drm_role
from services.drm.settings import DrmSettings
from solyx.bus.runner import ServiceRunner
from solyx.events import EnergySeriesPublished
from tests.gateway_app import running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    import httpx

    from solyx.bus.kafka import KafkaBus
    from tests.gateway_app import Running

RESTART_S = 30.0
LONG_STEP_S = 120.0


def energy(solyx: Running, name: str = "oslo") -> list[EnergySeriesPublished]:
    """The same at every hour: nothing is gained by waiting."""
    values = {"price_eur_per_mwh": 50.0, "carbon_gco2_per_kwh": 100.0}
    start = solyx.clock.now().replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
    return [
        EnergySeriesPublished(site=name, kind=kind, start=start, values=(value,) * 96, published_at=start)  # pyright: ignore[reportArgumentType]
        for kind, value in values.items()
    ]


@asynccontextmanager
async def line(url: str, bus: KafkaBus, state: Path) -> AsyncIterator[tuple[Running, httpx.AsyncClient]]:
    """Gateway, CMO, DRM and actuator in this process, on scenario time that the test moves."""
    async with running(url, bus=bus) as solyx, solyx.client() as client:
        with ExitStack() as stack:
            checkpoints = Checkpoints(restart_overhead_s=RESTART_S)
            targets = stack.enter_context(
                SimulatedTargets(state, solyx.clock, chance=Chance(), checkpoints=checkpoints)
            )
            for role, settings in (
                (cmo_role(CmoSettings(), speed=1.0), CmoSettings()),
                (drm_role(DrmSettings()), DrmSettings()),
                (actuator_role(targets, ActuatorSettings()), ActuatorSettings()),
            ):
                runner = ServiceRunner(role, settings, bus, solyx.clock)
                runner.start()
                stack.callback(runner.stop)
            yield solyx, client


async def job_when(
    solyx: Running,
    client: httpx.AsyncClient,
    job_id: str,
    holds: Callable[[dict[str, Any]], object],
    *,
    step_s: float = 10.0,
) -> dict[str, Any]:
    """The job as soon as it is so, scenario time moving on by a step at each look: a longer one where only the end is waited for."""
    deadline = time.monotonic() + 120
    while True:
        job = (await client.get(f"/v1/jobs/{job_id}")).json()
        if holds(job):
            return job
        assert time.monotonic() < deadline, job
        solyx.clock.advance(step_s)
        await asyncio.sleep(0.1)


def entries(job: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [entry for entry in job["history"] if entry["type"] == f"io.solyx.{kind}.v1"]


def is_running(job: dict[str, Any], revision: int | None = None) -> bool:
    """And it is known where: what was allocated is told in another topic than what has started."""
    known = job["revision"] in [entry["revision"] for entry in entries(job, "job.allocated")]
    return job["state"] == "running" and known and revision in (None, job["revision"])
