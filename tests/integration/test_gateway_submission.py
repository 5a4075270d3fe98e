"""Submitting jobs by REST, on a real database: what is accepted and what refused, and what a retry returns."""

import asyncio
import json
import time
from collections.abc import AsyncIterator

import pytest

from solyx.bus.memory import MemoryBus
from solyx.events import decode
from tests.gateway_app import JOB, Running, count, running, until
from tests.gateway_events import at

NDJSON = {"Content-Type": "application/x-ndjson"}


# --- submit ----------------------------------------------------------------------------------------------------------


async def test_an_accepted_job_is_stored_with_its_outbox_row(still: Running, postgres_url: str) -> None:
    async with still.client() as client:
        response = await client.post("/v1/jobs", json=JOB)
        assert response.status_code == 202
        job_id = response.json()["id"]
        assert response.headers["location"] == f"/v1/jobs/{job_id}"
        shown = (await client.get(f"/v1/jobs/{job_id}")).json()
    assert shown["state"] == "submitted"
    assert shown["spec"]["resources"] == {"cpu_milli": 1000}
    assert shown["spec"]["home_site"] == "oslo", "the tenant's home"
    assert (await count(postgres_url, "jobs"), await count(postgres_url, "outbox")) == (1, 1)


async def test_ten_thousand_jobs_are_one_request(solyx: Running, postgres_url: str) -> None:
    body = "\n".join(json.dumps({**JOB, "name": f"n{number}"}) for number in range(10_000))
    async with solyx.client() as client:
        response = await client.post("/v1/jobs", content=body, headers=NDJSON)
        assert response.status_code == 202
        ids = response.json()["ids"]
        assert response.json()["count"] == len(set(ids)) == 10_000
        assert (await client.get(f"/v1/jobs/{ids[1234]}")).json()["name"] == "n1234"
        too_many = await client.post("/v1/jobs", content=body + "\n" + json.dumps(JOB), headers=NDJSON)
        assert too_many.status_code == 422
    bus = solyx.bus
    assert isinstance(bus, MemoryBus)
    await until(lambda: len(bus.records("jobs")) == 10_000)
    assert await count(postgres_url, "jobs") == 10_000


async def test_one_wrong_line_refuses_the_whole_batch(still: Running, postgres_url: str) -> None:
    body = "\n".join([json.dumps(JOB), json.dumps({**JOB, "resources": {"cpu": "much"}}), json.dumps(JOB)])
    async with still.client() as client:
        response = await client.post("/v1/jobs", content=body, headers=NDJSON)
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["type"] == "/problems/invalid"
    assert problem["errors"] == [
        {
            "line": 2,
            "field": "resources.cpu",
            "message": "'much' is not understood",
            "cure": problem["errors"][0]["cure"],
        }
    ]
    assert await count(postgres_url, "jobs") == 0


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"deadline": "2020-01-01T00:00:00Z"}, "deadline"),
        ({"unheard_of": 1}, "unheard_of"),
        ({"duration_estimate": "3 moons"}, "duration_estimate"),
        ({"resources": {"cpu": 1, "memory": "4 Gb/s"}}, "resources.memory"),
        ({"labels": {"a": "nul\0"}}, "labels.a"),
    ],
)
async def test_a_wrong_field_is_named_with_its_cure(still: Running, fields: dict[str, object], field: str) -> None:
    async with still.client() as client:
        response = await client.post("/v1/jobs", json={**JOB, **fields})
    assert response.status_code == 422
    (error,) = response.json()["errors"]
    assert error["field"] == field
    assert error["cure"]


async def test_other_content_types_and_no_json_are_refused(still: Running) -> None:
    async with still.client() as client:
        assert (await client.post("/v1/jobs", content=b"x", headers={"Content-Type": "text/csv"})).status_code == 415
        assert (
            await client.post("/v1/jobs", content=b"{", headers={"Content-Type": "application/json"})
        ).status_code == 422
        assert (await client.put("/v1/jobs", json=JOB)).status_code == 405
        assert (await client.get("/v2/jobs")).status_code == 404


async def test_a_body_over_the_limit_is_refused_announced_or_not(postgres_url: str) -> None:
    async def stream() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 100

    async with running(postgres_url, workers=False, max_body_bytes=5000) as gateway, gateway.client() as client:
        announced = await client.post("/v1/jobs", content=b"x" * 10_000, headers=NDJSON)
        unannounced = await client.post("/v1/jobs", content=stream(), headers=NDJSON)
    for response in (announced, unannounced):
        assert response.status_code == 413
        assert response.json()["type"] == "/problems/too-large"


async def test_requests_over_the_rate_are_told_when_to_come_back(postgres_url: str) -> None:
    allowance = {"requests_per_s": 0.5, "jobs_per_s": 1, "jobs_burst": 3}
    async with (
        running(postgres_url, workers=False, **allowance) as gateway,
        gateway.client() as client,
        gateway.client("other") as other,
    ):
        batch = "\n".join([json.dumps(JOB)] * 4)
        refused = await client.post("/v1/jobs", content=batch, headers=NDJSON)
        assert refused.status_code == 413, "more than it ever may send at a time"
        began = time.monotonic()
        asked = await asyncio.gather(*(client.get("/v1/jobs") for _ in range(20)))
        allowed = sum(answer.status_code == 200 for answer in asked)
        assert allowed <= 1 + 0.5 * (time.monotonic() - began)  # on a busy machine some of the allowance comes back
        assert {answer.status_code for answer in asked} <= {200, 429}
        assert allowed < 20
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in asked if answer.status_code == 429)
        assert (await other.get("/v1/jobs")).status_code == 200


async def test_the_trace_of_the_request_goes_on_in_the_job(solyx: Running) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
    async with solyx.client() as client:
        job_id = (await client.post("/v1/jobs", json=JOB, headers={"traceparent": trace})).json()["id"]
        assert (await client.get(f"/v1/jobs/{job_id}")).json()["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
    bus = solyx.bus
    assert isinstance(bus, MemoryBus)
    await until(lambda: bus.records("jobs"))
    (written,) = bus.records("jobs")
    assert written.value is not None
    assert decode(written.value, written.headers).traceparent == trace


# --- idempotency -----------------------------------------------------------------------------------------------------


async def test_a_retry_returns_the_same_job_and_another_body_is_refused(still: Running, postgres_url: str) -> None:
    key = {"Idempotency-Key": "once"}
    async with still.client() as client, still.client("other") as other:
        first = await client.post("/v1/jobs", json=JOB, headers=key)
        again = await client.post("/v1/jobs", json=JOB, headers=key)
        assert again.json() == first.json()
        assert again.headers["idempotency-replayed"] == "true"
        changed = await client.post("/v1/jobs", json={**JOB, "name": "other"}, headers=key)
        assert changed.status_code == 409
        assert (await other.post("/v1/jobs", json=JOB, headers=key)).json() != first.json(), "keys belong to tenants"
    assert await count(postgres_url, "jobs") == 2


async def test_two_equal_posts_at_once_are_one_job(still: Running, postgres_url: str) -> None:
    async with still.client() as client:
        for turn in range(5):
            posts = [client.post("/v1/jobs", json=JOB, headers={"Idempotency-Key": f"k{turn}"}) for _ in range(6)]
            answers = await asyncio.gather(*posts)
            assert {answer.status_code for answer in answers} == {202}
            assert len({answer.json()["id"] for answer in answers}) == 1
    assert await count(postgres_url, "jobs") == await count(postgres_url, "outbox") == 5


async def test_a_retried_batch_returns_its_ids_in_order(still: Running) -> None:
    body = "\n".join(json.dumps({**JOB, "name": f"n{number}"}) for number in range(20))
    async with still.client() as client:
        answers = [
            (await client.post("/v1/jobs", content=body, headers={**NDJSON, "Idempotency-Key": "b"})).json()
            for _ in range(2)
        ]
    assert answers[0] == answers[1]
    assert answers[0]["count"] == 20


async def test_a_retry_after_the_deadline_has_passed_still_returns_the_job(still: Running) -> None:
    job = {**JOB, "deadline": at(20).isoformat()}
    async with still.client() as client:
        first = await client.post("/v1/jobs", json=job, headers={"Idempotency-Key": "d"})
        still.clock.advance(3600)
        assert (await client.post("/v1/jobs", json=job)).status_code == 422
        assert (await client.post("/v1/jobs", json=job, headers={"Idempotency-Key": "d"})).json() == first.json()
