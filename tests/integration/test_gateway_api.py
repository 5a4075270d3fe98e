"""The REST API on a real database: what is shown and hidden, changed and cancelled."""

from datetime import datetime

import asyncpg
import pytest

from services.gateway.model import JOB_STATES
from solyx.bus.port import Received
from solyx.bus.worker import dead_letter
from solyx.database import dsn
from solyx.events import (
    DemandResponseReported,
    EnergySeriesPublished,
    FeedReported,
    ForecastIssued,
    GridEventAnnounced,
    Node,
    PlaceLatency,
    ReliefAnswered,
    ReliefReason,
    ReliefRequested,
    RouteDecided,
    RouteReason,
    RouteReported,
    SiteLatenciesMeasured,
    SiteObserved,
)
from solyx.security import Role
from tests.gateway_app import JOB, Running, count, running, submit, until
from tests.gateway_events import at, finished, life, submitted

NDJSON = {"Content-Type": "application/x-ndjson"}


# --- tenants and roles -----------------------------------------------------------------------------------------------


async def test_a_tenant_sees_and_cancels_only_its_own_jobs(still: Running) -> None:
    async with still.client("acme") as acme, still.client("other") as other, still.client("admin", Role.ADMIN) as admin:
        job_id = await submit(acme)
        assert (await other.get(f"/v1/jobs/{job_id}")).status_code == 404
        assert (await other.delete(f"/v1/jobs/{job_id}")).status_code == 404
        assert (await other.get("/v1/jobs")).json()["jobs"] == []
        assert (await other.get("/v1/jobs?tenant=acme")).status_code == 403
        assert [job["id"] for job in (await admin.get("/v1/jobs?tenant=acme")).json()["jobs"]] == [job_id]
        assert (await admin.get(f"/v1/jobs/{job_id}")).status_code == 200


async def test_only_an_administrator_submits_for_others(still: Running) -> None:
    async with still.client("acme") as acme, still.client("admin", Role.ADMIN) as admin:
        assert (await acme.post("/v1/jobs", json={**JOB, "tenant": "admin"})).status_code == 403
        assert (await acme.post("/v1/jobs", json=JOB, headers={"X-Solyx-Tenant": "admin"})).status_code == 403
        by_field = await submit(admin, tenant="acme")
        by_header = (await admin.post("/v1/jobs", json=JOB, headers={"X-Solyx-Tenant": "acme"})).json()["id"]
        assert {job["id"] for job in (await acme.get("/v1/jobs")).json()["jobs"]} == {by_field, by_header}
        unknown = await admin.post("/v1/jobs", json={**JOB, "tenant": "nobody"})
        assert unknown.json()["errors"][0]["field"] == "tenant"


async def test_a_viewer_reads_and_changes_nothing(still: Running) -> None:
    async with still.client() as submitter, still.client("acme", Role.VIEWER) as viewer:
        job_id = await submit(submitter)
        assert (await viewer.get(f"/v1/jobs/{job_id}")).status_code == 200
        assert (await viewer.post("/v1/jobs", json=JOB)).status_code == 403
        assert (await viewer.delete(f"/v1/jobs/{job_id}")).status_code == 403
        assert (await viewer.get("/v1/tenants")).status_code == 403
        assert (await submitter.get("/v1/deadletters")).status_code == 403


@pytest.mark.parametrize("header", [None, "Bearer nonsense", "Bearer sk_" + "a" * 43, "Basic YTpi"])
async def test_without_a_valid_key_nothing_is_shown(still: Running, header: str | None) -> None:
    async with still.client() as client:
        client.headers.pop("Authorization")
        response = await client.get("/v1/jobs", headers={"Authorization": header} if header else {})
    assert response.status_code == 401
    assert response.headers["www-authenticate"].startswith("Bearer")


async def test_keys_are_issued_listed_without_the_secret_and_revoked(still: Running, postgres_url: str) -> None:
    async with still.client("admin", Role.ADMIN) as admin:
        assert (await admin.post("/v1/tenants", json={"name": "new", "home_site": "oslo"})).status_code == 201
        assert (await admin.post("/v1/tenants", json={"name": "new"})).status_code == 409
        assert (await admin.post("/v1/tenants", json={"name": "No!"})).status_code == 422
        assert "new" in [tenant["name"] for tenant in (await admin.get("/v1/tenants")).json()["tenants"]]
        issued = (await admin.post("/v1/tenants/new/keys", json={"role": "submitter", "label": "ci"})).json()
        listed = (await admin.get("/v1/tenants/new/keys")).text
        assert issued["id"] in listed
        assert issued["key"] not in listed
        auth = {"Authorization": f"Bearer {issued['key']}"}
        assert (await admin.post("/v1/jobs", json=JOB, headers=auth)).status_code == 202
        for _ in range(2):
            assert (await admin.delete(f"/v1/tenants/new/keys/{issued['id']}")).status_code == 204
        assert (await admin.get("/v1/jobs", headers=auth)).status_code == 401
        assert (await admin.delete("/v1/tenants/acme/keys/unheardof")).status_code == 404
        assert (await admin.post("/v1/tenants/nobody/keys", json={})).status_code == 404
        assert (await admin.post("/v1/tenants/new/keys", json={"role": "king"})).json()["errors"][0]["field"] == "role"
    connection = await asyncpg.connect(dsn(postgres_url))
    stored = await connection.fetchval("SELECT digest FROM api_keys WHERE id = $1", issued["id"])
    await connection.close()
    assert issued["key"].encode() not in stored


# --- list ------------------------------------------------------------------------------------------------------------


async def test_pages_neither_skip_nor_repeat_while_jobs_arrive(still: Running) -> None:
    async with still.client() as client:
        before = [await submit(client, name=f"n{number}") for number in range(25)]
        seen: list[str] = []
        cursor = ""
        while True:
            page = (await client.get(f"/v1/jobs?limit=10{cursor}")).json()
            seen += [job["id"] for job in page["jobs"]]
            await submit(client, name="late")
            if page["next"] is None:
                break
            cursor = f"&cursor={page['next']}"
        assert seen == before[::-1]
        assert (await client.get("/v1/jobs?cursor=nonsense")).json()["errors"][0]["field"] == "cursor"
        assert (await client.get("/v1/jobs?limit=0")).json()["errors"][0]["field"] == "limit"


async def test_jobs_are_found_by_state_site_label_name_and_time(solyx: Running) -> None:
    solyx.publish(*life("done", "acme"), submitted("waiting", "acme", labels={"team": "vision", "kind": "x"}))
    async with solyx.client() as client:

        async def ids(query: str) -> list[str]:
            return [job["id"] for job in (await client.get(f"/v1/jobs?{query}")).json()["jobs"]]

        async def arrived() -> bool:
            return await ids("state=succeeded") == ["done"] and len(await ids("")) == 2

        await until(arrived)
        assert await ids("state=submitted") == ["waiting"]
        assert await ids("state=succeeded&state=submitted") == ["waiting", "done"]
        assert await ids("site=bergen") == ["done"]
        assert await ids("site=oslo") == []
        assert await ids("label=team=vision&label=kind=x") == ["waiting"]
        assert await ids("label=team=audio") == []
        assert await ids("name=tra") == ["waiting", "done"]
        assert await ids("name=t%25") == []
        assert await ids("since=2026-11-21T12:00:00Z") == ["waiting", "done"]
        assert await ids("since=2026-11-21T12:00:01Z") == []
        for wrong in (
            "state=lost",
            "label=team",
            "since=yesterday",
            "since=2026-11-21T12:00:00",
            "since=5",
            "name=%00",
            "sate=running",
        ):
            assert (await client.get(f"/v1/jobs?{wrong}")).status_code == 422, wrong


async def test_a_jobs_history_tells_each_decision_with_reason_and_figures(solyx: Running) -> None:
    solyx.publish(*life("j1", "acme"))
    async with solyx.client() as client:

        async def whole() -> bool:
            response = await client.get("/v1/jobs/j1")
            return response.status_code == 200 and len(response.json()["history"]) == len(life())

        await until(whole)
        job = (await client.get("/v1/jobs/j1")).json()
    assert (job["state"], job["site"], job["reason"], job["revision"]) == ("succeeded", "bergen", "completed", 2)
    assert job["state"] in JOB_STATES
    placed = [entry for entry in job["history"] if entry["type"] == "io.solyx.job.placed.v1"]
    assert [entry["revision"] for entry in placed] == [1, 2]
    assert placed[0]["reason"] == "least_cost"
    assert placed[0]["figures"]["cost"]["energy_eur"] == 2.5
    assert placed[0]["figures"]["alternative"]["site"] == "bergen"


# --- cancel ----------------------------------------------------------------------------------------------------------


async def test_cancelling_is_published_once_however_often_it_is_asked(still: Running, postgres_url: str) -> None:
    async with still.client() as client:
        job_id = await submit(client)
        first = await client.delete(f"/v1/jobs/{job_id}")
        assert first.status_code == 202
        still.clock.advance(60)
        assert (await client.delete(f"/v1/jobs/{job_id}")).json() == first.json()
        assert (await client.delete("/v1/jobs/unheardof")).status_code == 404
    assert await count(postgres_url, "outbox") == 2


async def test_a_finished_job_cannot_be_cancelled_and_the_answer_says_why(solyx: Running) -> None:
    async with solyx.client() as client:
        job_id = await submit(client)
        solyx.publish(finished("succeeded", job_id, tenant="acme"))

        async def ended() -> bool:
            return (await client.get(f"/v1/jobs/{job_id}")).json()["state"] == "succeeded"

        await until(ended)
        response = await client.delete(f"/v1/jobs/{job_id}")
    assert response.status_code == 409
    assert response.json()["detail"] == "the job has already succeeded (completed)"


# --- federation ------------------------------------------------------------------------------------------------------


async def test_sites_routes_energy_and_grid_show_the_latest_state(solyx: Running) -> None:
    window = {"event_id": "e", "site": "oslo", "start": at(0), "end": at(3600), "power_cap_w": 1000.0}
    price_hours = {"site": "oslo", "start": at(0), "end": at(3600)}
    price = price_hours | {
        "reason": ReliefReason.PRICE_BOUND,
        "price_bound_eur_per_mwh": 9.0,
        "price_eur_per_mwh": 10.0,
    }
    node = Node(name="n1", cpu_milli=8000, memory_bytes=1)
    solyx.publish(
        SiteObserved(site="oslo", observed_at=at(2), nodes=(node,)),
        SiteObserved(site="oslo", observed_at=at(1), nodes=()),
        RouteDecided(source="a", target="b", revision=2, path=("a", "b"), reason=RouteReason.FIRST, decided_at=at(0)),
        RouteReported(source="a", target="b", revision=2, status="applied", at=at(1)),
        RouteDecided(source="b", target="a", revision=3, path=(), reason=RouteReason.NO_PATH, decided_at=at(0)),
        RouteReported(source="b", target="a", revision=2, status="applied", at=at(1)),
        EnergySeriesPublished(
            site="oslo", kind="price_eur_per_mwh", start=at(-60), values=(10.0, -5.0, 20.0), published_at=at(-60)
        ),
        EnergySeriesPublished(
            site="oslo", kind="carbon_gco2_per_kwh", start=at(-180), values=(30.0, None, None), published_at=at(-60)
        ),
        ForecastIssued(
            subject_id="oslo",
            kind="price_eur_per_mwh",
            issued_at=at(0),
            start=at(0),
            step_s=3600,
            mean=(1.0,),
            lower=(0.5,),
            upper=(1.5,),
            model="seasonal-naive",
        ),
        FeedReported(feed="prices", status="stale", since=at(0), error="timeout"),
        GridEventAnnounced(**window, announced_at=at(0)),
        DemandResponseReported(**window, status="planned", reported_at=at(0)),
        *(ReliefRequested(**price, requested_at=at(second)) for second in (1, 0)),
        ReliefAnswered(**price_hours, requested_at=at(1), suspended=2, answered_at=at(2)),
        DemandResponseReported(**window, status="active", now_w=900.0, reported_at=at(1)),
        *(
            SiteLatenciesMeasured(
                site=site,
                places={"b": PlaceLatency(round_trip_ms=ms, since=at(0))},
                measured_at=at(second),
                valid_until=at(second + lasts),
            )
            for site, ms, second, lasts in (("a", 9.5, 1, 1e6), ("a", 7.5, 0, 1e6), ("old", 1.0, 0, 0))
        ),
    )
    async with solyx.client("acme", Role.VIEWER) as client:

        async def arrived() -> bool:
            energy = (await client.get("/v1/energy")).json()
            return bool(energy["feeds"] and energy["sites"] and energy["sites"][0]["forecasts"])

        await until(arrived)
        sites = (await client.get("/v1/sites")).json()["sites"]
        shown = (await client.get("/v1/routes")).json()
        routes = shown["routes"]
        (measured,) = shown["latencies"]
        energy = (await client.get("/v1/energy")).json()
        answer = (await client.get("/v1/grid")).json()
    grid = answer["events"]
    (relief,) = answer["reliefs"]
    assert relief["answer"]["suspended"] == 2
    assert datetime.fromisoformat(relief["request"]["requested_at"]) == at(1), "the latest"
    assert [(one["event"]["event_id"], one["response"]["status"]) for one in grid] == [("e", "active")]
    assert [(site["site"], len(site["nodes"])) for site in sites] == [("oslo", 1)]
    assert [(route["decided"]["source"], route["status"]) for route in routes] == [("a", "applied"), ("b", "decided")]
    assert measured["places"]["b"]["round_trip_ms"] == 9.5, "the latest that holds"
    (oslo,) = energy["sites"]
    assert oslo["price_eur_per_mwh"] == -5.0, "the hour that holds now"
    assert oslo["carbon_gco2_per_kwh"] == 30.0, "the latest published"
    assert oslo["renewable_pct"] is None
    assert oslo["series"][1]["values"] == [10.0, -5.0, 20.0]
    assert energy["feeds"][0]["status"] == "stale"


async def test_dead_letters_are_shown_with_error_and_origin(solyx: Running) -> None:
    bad = Received("placements", 2, 17, 0, "oslo/j1", b"{\xff", [("ce_type", b"io.solyx.job.placed.v1")])
    publisher = solyx.bus.publisher(name="test")
    publisher.publish([dead_letter(bad, "no JSON", service="drm", time="2026-11-21T12:00:00+00:00")])
    async with solyx.client("admin", Role.ADMIN) as admin:
        (letter,) = (await admin.get("/v1/deadletters")).json()["deadletters"]
    assert (letter["topic"], letter["partition"], letter["offset"]) == ("placements", 2, 17)
    assert (letter["error"], letter["service"], letter["key"]) == ("no JSON", "drm", "oslo/j1")
    assert letter["headers"] == {"ce_type": "io.solyx.job.placed.v1"}


# --- operations ------------------------------------------------------------------------------------------------------


async def test_a_gateway_that_works_is_ready_and_measured(solyx: Running) -> None:
    async with solyx.client() as client:
        await submit(client)
        client.headers.pop("Authorization")
        assert (await client.get("/healthz")).json() == {"status": "ok"}
        ready = await client.get("/readyz")
        assert ready.status_code == 200
        assert {"database", "broker", "lag_records", "oldest_unpublished_s"} <= set(ready.json())
        metrics = (await client.get("/metrics")).text
        assert (await client.get("/openapi.json")).json()["openapi"].startswith("3.1")
    assert "solyx_outbox_oldest_seconds" in metrics
    assert 'solyx_http_requests_total{method="POST",route="/v1/jobs",status="202"}' in metrics


async def test_before_the_tables_are_there_the_gateway_says_so(postgres_url: str) -> None:
    async with running(postgres_url, workers=False) as gateway, gateway.client() as client:
        gateway.gateway.watch.migrated = False
        response = await client.get("/v1/jobs")
        assert response.status_code == 503
        assert response.headers["retry-after"] == "1"
        assert (await client.get("/readyz")).status_code == 503
