"""One trace follows a job from the POST through every topic to its actuation (docs/decisions/0003-tracing.md)."""

import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec

from benchmarks.installation import Installation
from solyx.client import Client, Job
from solyx.events import decode
from solyx.telemetry import trace_id_of

TOPICS = ("jobs", "placements", "allocations", "actuations")
JOB = {
    "image": "registry.example/sum:1",
    "resources": {"cpu": 1, "memory": "1Gi"},
    "duration_estimate": 30,
    "max_delay": 0,
}


def traces_by_topic(system: Installation, job_id: str) -> dict[str, set[str]]:
    """Topic → trace ids in the headers of the records about the job."""
    found: dict[str, set[str]] = {topic: set() for topic in TOPICS}
    for record in system.read_all(TOPICS):
        if record.value is not None and job_id in record.key:
            envelope = decode(record.value, record.headers)
            found[record.topic].add(trace_id_of(envelope.traceparent))
    return found


def spans_of(trace_file: Path, trace_id: str) -> list[dict[str, Any]]:
    lines = trace_file.read_bytes().split(b"\n")[:-1] if trace_file.exists() else []
    return [span for span in map(msgspec.json.decode, lines) if span["trace_id"] == trace_id]


def test_one_trace_id_is_on_every_record_about_a_job(
    system: Installation, client: Client, until_state: Callable[[str, str], Job]
) -> None:
    job_id = client.submit(JOB).id
    job = until_state(job_id, "succeeded")
    assert len(job.trace_id) == 32
    assert traces_by_topic(system, job_id) == {topic: {job.trace_id} for topic in TOPICS}


def test_the_callers_trace_goes_on_and_its_spans_form_one_tree(
    system: Installation,
    admin_key: str,
    trace_file: Path,
    until_state: Callable[[str, str], Job],
) -> None:
    trace_id, caller = secrets.token_hex(16), secrets.token_hex(8)
    headers = {"Authorization": f"Bearer {admin_key}", "traceparent": f"00-{trace_id}-{caller}-01"}
    answer = httpx.post(f"{system.stack.api}/v1/jobs", json=JOB, headers=headers).raise_for_status()
    job = until_state(answer.json()["id"], "succeeded")
    assert job.trace_id == trace_id
    assert traces_by_topic(system, job.id) == {topic: {trace_id} for topic in TOPICS}

    expected = {"solyx-gateway", "solyx-cmo", "solyx-drm", "solyx-actuator"}
    deadline = time.monotonic() + 30
    spans = spans_of(trace_file, trace_id)
    while {span["service"] for span in spans} != expected:  # they are exported a moment after they end
        assert time.monotonic() < deadline, spans
        time.sleep(0.2)
        spans = spans_of(trace_file, trace_id)
    ids = {span["span_id"] for span in spans}
    roots = [span for span in spans if span["parent_id"] not in ids]
    assert [(span["service"], span["parent_id"]) for span in roots] == [("solyx-gateway", caller)]
    assert all(span["attributes"]["job_id"] for span in spans)
