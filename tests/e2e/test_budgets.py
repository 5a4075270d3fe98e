"""A budget as a tenant meets it: what exceeds it waits, the command line says why, and it runs when the window lets it."""

import json
import re
import uuid
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from benchmarks.installation import Installation
from solyx.client import Client
from tests.e2e.conftest import eventually

GPU_JOB = {
    "image": "registry.example/train:1",
    "resources": {"cpu": 1, "memory": "1Gi", "devices": [{"kind": "gpu", "count": 1}]},
    "duration_estimate": "6m",
    "max_delay": 0,
}
WINDOW_TURNS_S = 180.0
"""An hour and up to another, at a minute of scenario a second, and then the run."""


@pytest.mark.timeout(500)
def test_what_exceeds_a_budget_waits_says_why_and_runs_when_the_window_turns(
    solyx: Any,
    system: Installation,
    client: Client,
    tenant_key: Callable[[str], str],
    command_line: Callable[[str], Any],
) -> None:
    tenant = f"budget-{uuid.uuid4().hex[:8]}"
    own = command_line(tenant_key(tenant))
    # a tenth of a GPU-hour each; one and a half of them fit into any hour
    (stored,) = solyx.json("budgets", "--tenant", tenant, "--set", "gpu_h=0.15/1h")
    assert (stored["tenant"], stored["revision"]) == (tenant, 1)
    eventually(
        lambda: all_read(system, "budgets", tenant), "the CMO's reading of the budget, before it reads of the jobs"
    )

    (answer,) = own.json("submit", "-", text="---\n".join(json.dumps(GPU_JOB) + "\n" for _ in range(3)))
    ids = set(answer["ids"])
    (first,) = eventually(lambda: those(ids, client, "succeeded"), "the first job's end")
    for waiting in ids - {first}:
        eventually(lambda waiting=waiting: client.job(waiting).reason, "what the CMO says of the others")
        (job,) = own.json("job", waiting)
        assert (job["state"], job["reason"]) == ("submitted", "budget")
        told = job["history"][-1]
        assert told["type"] == "io.solyx.placement.deferred.v1"
        assert told["figures"]["detail"].startswith(f"{tenant} has used 0 and planned 0.1 of its 0.15 gpu_h per 1h")
        assert "needs 0.1" in own.run("job", waiting).stdout

    (budget,) = own.json("budgets")
    assert (budget["window"], budget["enforcement"], budget["planned"]) == ("1h", "hard", 0.0)
    # the simulated cluster runs a job for what its estimate says, on a clock that other processes look at now and then
    assert budget["used"] == pytest.approx(0.1, rel=0.2)
    (usage,) = own.json("usage")
    assert usage["total"]["jobs"] == 1
    assert usage["total"]["gpu_h"] == budget["used"]

    def turned() -> set[str]:
        done = those(ids, client, "succeeded")
        return done if len(done) > 1 else set()

    (second,) = eventually(turned, "the turn of the window", within_s=WINDOW_TURNS_S) - {first}
    runs = sorted((run for job_id in (first, second) for run in client.job(job_id).runs), key=lambda run: run.ended_at)
    assert (runs[1].started_at - runs[0].ended_at).total_seconds() > 3600
    (third,) = ids - {first, second}
    assert client.job(third).reason == "budget", "one at a time"
    assert own.run("cancel", third).returncode == 0


def all_read(system: Installation, topic: str, key: str) -> bool:
    """Whether the record of a key is on a topic, and the CMO has read as many as are there."""
    there = system.read_all([topic])
    (cmo,) = [process for process in system.stack.services if process.name == "cmo"]
    metrics = httpx.get(f"http://127.0.0.1:{cmo.port}/metrics").text
    read = re.search(rf'^solyx_records_total{{service="cmo",topic="{topic}"}} (\S+)$', metrics, re.MULTILINE)
    return key in {record.key for record in there} and read is not None and float(read[1]) >= len(there)


def those(ids: set[str], client: Client, state: str) -> set[str]:
    return {job_id for job_id in ids if client.job(job_id).state == state}
