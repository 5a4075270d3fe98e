"""Energy that meters measured: what Prometheus writes to the collector is what the tenant is billed."""

import json
import uuid
from collections.abc import Callable
from typing import Any

import cramjam
import httpx
import pytest

from benchmarks.installation import Installation
from solyx.client import Client, Job
from tests.unit.collector.writes import series

WATTS = 1000.0
JOB = {
    "image": "registry.example/train:1",
    "resources": {"cpu": 1, "memory": "1Gi", "devices": [{"kind": "gpu", "count": 1}]},
    "duration_estimate": "20m",
    "max_delay": 0,
}


def write(system: Installation, job: Job, *, minutes: int) -> None:
    """A counter that grows evenly from the start of the run on, as Prometheus sends it."""
    assert job.started_at is not None
    labels = {
        "__name__": "solyx_workload_joules_total",
        "site": str(job.site),
        "workload": job.id,
        "revision": str(job.revision),
        "pod": "train-0",
    }
    start_ms = round(job.started_at.timestamp() * 1000)
    samples = [(minute * 60 * WATTS, start_ms + minute * 60_000) for minute in range(minutes + 1)]
    (collector,) = [process for process in system.stack.services if process.name == "collector"]
    httpx.post(
        f"http://127.0.0.1:{collector.port}/api/v1/write",
        content=bytes(cramjam.snappy.compress_raw(series(labels, *samples))),
        headers={"Content-Encoding": "snappy", "Content-Type": "application/x-protobuf"},
    ).raise_for_status()


@pytest.mark.timeout(400)
def test_a_measured_run_is_billed_by_what_its_meter_read(
    system: Installation,
    client: Client,
    tenant_key: Callable[[str], str],
    command_line: Callable[[str], Any],
    until_state: Callable[[str, str], Job],
) -> None:
    own = command_line(tenant_key(f"meter-{uuid.uuid4().hex[:8]}"))
    (answer,) = own.json("submit", "-", text="---\n".join(json.dumps(JOB) + "\n" for _ in range(2)))
    measured_id, modelled_id = answer["ids"]
    running = until_state(measured_id, "running")
    for _ in range(2):  # the second time nothing of it is news
        write(system, running, minutes=60)
    until_state(measured_id, "succeeded")
    until_state(modelled_id, "succeeded")

    (run,) = client.job(measured_id).runs
    (site,) = [site for site in client.sites() if site.site == run.site]
    hours = (run.ended_at - run.started_at).total_seconds() / 3600
    assert run.energy_kwh == pytest.approx(WATTS / 1000 * site.power.pue * hours, rel=0.01)
    assert run.measured_kwh == pytest.approx(run.energy_kwh)
    (other,) = client.job(modelled_id).runs
    assert other.measured_kwh == 0
    assert other.energy_kwh > 0

    (usage,) = own.json("usage")
    assert usage["total"]["measured_kwh"] == pytest.approx(run.measured_kwh)
    assert usage["total"]["energy_kwh"] == pytest.approx(run.energy_kwh + other.energy_kwh)
    assert "measured)" in own.run("job", measured_id).stdout
    assert "measured)" not in own.run("job", modelled_id).stdout
    # the release of what it had is an event of another topic, which may come before or after its end
    (finished,) = [entry for entry in client.job(measured_id).history if entry.type == "io.solyx.job.finished.v1"]
    assert finished.figures["usage"]["measured_kwh"] == pytest.approx(run.measured_kwh)
