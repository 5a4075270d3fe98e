"""Usage and budgets over HTTP, on a real database: what runs took, who sees it, what is left."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from itertools import permutations

import asyncpg
import httpx
import pytest
from msgspec import structs

from services.gateway.service.projector import TOPICS
from services.gateway.store.projection import load_offsets
from services.gateway.store.retention import forget_jobs
from services.gateway.store.usage import FIGURES
from solyx.bus.memory import MemoryBus
from solyx.bus.port import Partition
from solyx.database import dsn, raw
from solyx.events import BudgetSet, Event, decode
from solyx.security import Role
from tests.gateway_app import Running, running, until
from tests.gateway_events import START, at, deferred, finished, life, placed, ran, reported, spec, submitted

DAY = 24 * 60.0


@pytest.fixture
async def solyx(postgres_url: str) -> AsyncIterator[Running]:
    async with running(postgres_url) as gateway:
        gateway.clock.advance(5 * DAY * 60)
        yield gateway


async def published(gateway: Running, *events: Event) -> None:
    """Publish, and wait until the read model has them."""
    gateway.publish(*events)
    bus = gateway.bus
    assert isinstance(bus, MemoryBus)
    partitions = [Partition(topic.name, number) for topic in TOPICS for number in range(topic.partitions)]
    ends = {partition: end for partition, end in bus.ends(partitions).items() if end}

    async def arrived() -> bool:
        async with gateway.gateway.engine.connect() as connection:
            offsets = await load_offsets(await raw(connection))
        return all(offsets.get(partition, 0) >= end for partition, end in ends.items())

    await until(arrived)


def one_run(job: str, tenant: str, *, day: float, gpu_h: float, site: str = "oslo", **labels: str) -> list[Event]:
    run = ran(1, site, gpu_h, ended=day * DAY)
    return [
        submitted(job, tenant, labels=labels),
        structs.replace(placed(job, 1, site, tenant), spec=spec(labels=labels)),
        finished("succeeded", job, 1, site, tenant, runs=(run,)),
    ]


async def rows(client: httpx.AsyncClient, query: str) -> list[dict[str, object]]:
    answer = await client.get(f"/v1/usage?{query}")
    assert answer.status_code == 200, answer.text
    return answer.json()["rows"]


async def test_a_job_shows_its_runs_and_what_each_took(solyx: Running) -> None:
    await published(solyx, *life())
    async with solyx.client() as client:
        job = (await client.get("/v1/jobs/j1")).json()
    assert [(run["revision"], run["site"], run["gpu_h"]) for run in job["runs"]] == [
        (1, "oslo", 2.0),
        (2, "bergen", 2.0),
    ]
    last = next(entry for entry in job["history"] if entry["type"] == "io.solyx.job.finished.v1")
    assert last["figures"]["usage"]["gpu_h"] == 4.0


async def test_usage_is_added_up_by_tenant_site_label_and_time(solyx: Running) -> None:
    await published(
        solyx,
        *one_run("a1", "acme", day=0, gpu_h=1, team="vision"),
        *one_run("a2", "acme", day=0.1, gpu_h=2, site="bergen", team="vision"),
        *one_run("a3", "acme", day=2, gpu_h=4, team="speech"),
        *one_run("b1", "umbra", day=2, gpu_h=8),
    )
    async with solyx.client("acme", Role.ADMIN) as admin:
        by_tenant = await rows(admin, "by=tenant")
        assert [(row["tenant"], row["jobs"], row["gpu_h"]) for row in by_tenant] == [
            ("acme", 3, 7.0),
            ("umbra", 1, 8.0),
        ]
        assert [by_tenant[1][name] for name in FIGURES] == [1.0, 8.0, 8.0, 0.8, 4.0]
        by_label = await rows(admin, "by=label:team&tenant=acme")
        assert [(row["label"], row["gpu_h"]) for row in by_label] == [("speech", 4.0), ("vision", 3.0)]
        by_day = await rows(admin, "by=day&by=site")
        assert [(row["start"], row["site"], row["gpu_h"]) for row in by_day] == [
            ("2026-11-21T00:00:00Z", "bergen", 2.0),
            ("2026-11-21T00:00:00Z", "oslo", 1.0),
            ("2026-11-23T00:00:00Z", "oslo", 12.0),
        ]
        assert [row["start"] for row in await rows(admin, "by=month")] == ["2026-11-01T00:00:00Z"]
        assert [row["gpu_h"] for row in await rows(admin, "label=team=vision&site=oslo")] == [1.0]
        since = (START + timedelta(days=1)).isoformat().replace("+00:00", "Z")
        assert [row["gpu_h"] for row in await rows(admin, f"since={since}")] == [12.0]
        answer = (await admin.get("/v1/usage?by=day")).json()
        assert answer["total"] == {
            "jobs": 4,
            "cpu_h": 4.0,
            "gpu_h": 15.0,
            "energy_kwh": 15.0,
            "cost_eur": 1.5,
            "carbon_kg": 7.5,
            "measured_kwh": 3.75,
        }


@pytest.mark.parametrize("known", [True, False], ids=["placed before", "its outcome alone"])
async def test_usage_keeps_its_labels_when_the_job_has_left(solyx: Running, postgres_url: str, known: bool) -> None:
    job, plan, outcome = one_run("a1", "acme", day=0, gpu_h=1, team="vision")
    await published(solyx, job, *([plan] if known else []), outcome)
    connection = await asyncpg.connect(dsn(postgres_url))
    await forget_jobs(connection, ["a1"])
    await connection.close()
    async with solyx.client() as client:
        assert (await client.get("/v1/jobs/a1")).status_code == 404
        assert [row["label"] for row in await rows(client, "by=label:team&label=team=vision")] == ["vision"]


async def test_pages_of_usage_hold_every_row_once(solyx: Running) -> None:
    await published(
        solyx, *(event for n in range(7) for event in one_run(f"j{n}", "acme", day=n % 4, gpu_h=1, team=str(n)))
    )
    async with solyx.client() as client:
        whole = await rows(client, "by=day&by=label:team")
        paged, cursor = [], ""
        while True:
            answer = (await client.get(f"/v1/usage?by=day&by=label:team&limit=2{cursor}")).json()
            assert answer["total"]["jobs"] == 7
            paged += answer["rows"]
            if answer["next"] is None:
                break
            cursor = f"&cursor={answer['next']}"
        assert paged == whole
        lines = await client.get("/v1/usage?by=day&by=label:team", headers={"Accept": "application/x-ndjson"})
        assert [json.loads(line) for line in lines.text.splitlines()] == whole


async def test_pages_of_a_range_that_ends_now_keep_it_while_time_goes_on(solyx: Running) -> None:
    await published(
        solyx, *(event for n in range(5) for event in one_run(f"j{n}", "acme", day=1, gpu_h=1, site=f"s{n}"))
    )
    async with solyx.client() as client:
        first = (await client.get("/v1/usage?by=site&limit=3")).json()
        solyx.clock.advance(60.0)
        second = (await client.get(f"/v1/usage?by=site&limit=3&cursor={first['next']}")).json()
    assert [row["site"] for row in first["rows"] + second["rows"]] == ["s0", "s1", "s2", "s3", "s4"]
    assert second["next"] is None
    assert (first["since"], first["until"]) == (second["since"], second["until"])


async def test_pages_go_on_behind_the_longest_label(solyx: Running) -> None:
    long = ["a", "\x01" * 4096, "\N{BATTERY}" * 4096]
    await published(
        solyx, *(event for n, team in enumerate(long) for event in one_run(f"j{n}", "acme", day=1, gpu_h=1, team=team))
    )
    found, cursor = [], ""
    async with solyx.client() as client:
        for _ in long:
            answer = await client.get(f"/v1/usage?by=site&by=label:team&limit=1{cursor}")
            assert answer.status_code == 200, answer.text
            found += answer.json()["rows"]
            cursor = f"&cursor={answer.json()['next']}"
    assert sorted(row["label"] for row in found) == sorted(team[:253] for team in long)


async def test_a_tenant_sees_its_own_usage_and_budgets_only(solyx: Running) -> None:
    await published(solyx, *one_run("a", "acme", day=1, gpu_h=1), *one_run("b", "umbra", day=1, gpu_h=8))
    async with solyx.client("umbra") as client:
        assert [row["gpu_h"] for row in await rows(client, "by=tenant")] == [8.0]
        for path in ("usage", "budgets"):
            assert (await client.get(f"/v1/{path}?tenant=acme")).status_code == 403
        assert (await client.put("/v1/budgets/umbra", json={"budgets": []})).status_code == 403


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("by=colour", "by"),
        ("by=day&by=week", "by"),
        ("by=label:", "by"),
        ("since=yesterday", "since"),
        ("since=2026-12-01T00:00:00Z&until=2026-11-01T00:00:00Z", "since"),
        ("cursor=abc", "cursor"),
        ("label=team", "label"),
        ("limit=0", "limit"),
        ("teenant=x", "teenant"),
    ],
)
async def test_a_wrong_parameter_is_named_with_its_cure(solyx: Running, query: str, field: str) -> None:
    async with solyx.client() as client:
        answer = await client.get(f"/v1/usage?{query}")
    assert answer.status_code == 422
    assert [(error["field"], bool(error["cure"])) for error in answer.json()["errors"]] == [(field, True)]


async def test_repeats_and_reorders_of_the_log_change_no_figure(solyx: Running) -> None:
    events = [
        placed("j1", 1, "oslo"),
        deferred("j1", 1, runs=(ran(1),)),
        placed("j1", 2, "bergen", runs=(ran(1),)),
        finished("succeeded", "j1", 2, "bergen", runs=(ran(1), ran(2, "bergen"))),
    ]
    orders = list(permutations(events))
    for number, order in enumerate(orders[::5]):
        renamed = [
            type(event)(**{name: getattr(event, name) for name in event.__struct_fields__} | {"job_id": f"o{number}"})
            for event in order
        ]
        await published(solyx, *renamed, renamed[0], renamed[-1])
    async with solyx.client() as client:
        (total,) = await rows(client, "")
        budgets_left = await solyx.gateway.parts.usage.budgets("acme", solyx.clock.now())
    assert (total["jobs"], total["gpu_h"]) == (5, 20.0)
    assert budgets_left == []


BUDGETS = {
    "budgets": [
        {"quantity": "gpu_h", "limit": 10, "window": "month"},
        {"quantity": "cost_eur", "limit": 0.5, "window": "30d", "enforcement": "soft"},
    ]
}


async def test_budgets_show_what_is_used_planned_and_left(solyx: Running) -> None:
    await published(solyx, *one_run("a", "acme", day=1, gpu_h=6), placed("b"), reported("started", "b"), placed("c"))
    async with solyx.client("acme", Role.ADMIN) as admin:
        stored = await admin.put("/v1/budgets/acme", json=BUDGETS)
        assert (stored.status_code, stored.json()["revision"]) == (200, 1)
        shown = (await admin.get("/v1/budgets")).json()["budgets"]
    gpu, cost = shown
    assert gpu | {"window_start": "", "window_end": ""} == {
        "tenant": "acme",
        "quantity": "gpu_h",
        "limit": 10.0,
        "window": "month",
        "enforcement": "hard",
        "used": 6.0,
        "planned": 0.0,
        "left": 4.0,
        "state": "open",
        "window_start": "",
        "window_end": "",
    }
    assert cost["used"] == pytest.approx(0.6)
    assert cost["planned"] > 5.0, "two live placements at 2.5 EUR, one of which outlasts its estimate by far"
    assert (cost["state"], cost["left"], cost["window_end"]) == ("exceeded", 0.0, None)


async def test_budgets_reach_the_log_in_order_and_replace_each_other(solyx: Running) -> None:
    async with solyx.client("acme", Role.ADMIN) as admin:
        assert (await admin.put("/v1/budgets/acme", json=BUDGETS)).status_code == 200
        assert (await admin.put("/v1/budgets/acme", json={"budgets": []})).status_code == 200
        assert (await admin.get("/v1/budgets")).json()["budgets"] == []
    bus = solyx.bus
    assert isinstance(bus, MemoryBus)
    await until(lambda: len(bus.records("budgets")) == 2)
    events = [decode(record.value, record.headers).event for record in bus.records("budgets") if record.value]
    assert [(event.revision, len(event.budgets)) for event in events if isinstance(event, BudgetSet)] == [
        (1, 2),
        (2, 0),
    ]


async def test_budgets_are_rebuilt_from_the_log_alone(postgres_url: str) -> None:
    async with running(postgres_url) as gateway:
        await gateway.key("acme")
        event = BudgetSet(tenant="acme", revision=7, budgets=(), set_at=at(0))
        await published(gateway, event)
        async with gateway.client("acme", Role.ADMIN) as admin:
            assert (await admin.put("/v1/budgets/acme", json=BUDGETS)).json()["revision"] == 8


@pytest.mark.parametrize(
    ("budget", "field"),
    [
        ({"quantity": "gpus", "limit": 1, "window": "day"}, "budgets[0].quantity"),
        ({"quantity": "gpu_h", "limit": -1, "window": "day"}, "budgets[0].limit"),
        ({"quantity": "gpu_h", "limit": 1e13, "window": "day"}, "budgets[0].limit"),
        ({"quantity": "gpu_h", "limit": 1, "window": "fortnight"}, "budgets[0].window"),
        ({"quantity": "gpu_h", "limit": 1, "window": "5m"}, "budgets[0].window"),
        ({"quantity": "gpu_h", "limit": 1}, "budgets[0]"),
        ({"quantity": "gpu_h", "limit": 1, "window": "day", "soft": True}, "budgets[0]"),
    ],
)
async def test_a_wrong_budget_is_refused_with_its_field(solyx: Running, budget: dict[str, object], field: str) -> None:
    async with solyx.client("acme", Role.ADMIN) as admin:
        answer = await admin.put("/v1/budgets/acme", json={"budgets": [budget]})
        assert answer.status_code == 422
        assert [(error["field"], bool(error["cure"])) for error in answer.json()["errors"]] == [(field, True)]
        assert (await admin.put("/v1/budgets/nobody", json=BUDGETS)).status_code == 404


async def test_a_waiting_job_says_why_and_until_when(solyx: Running) -> None:
    await published(solyx, submitted("w"), deferred("w"))
    async with solyx.client() as client:
        listed = (await client.get("/v1/jobs?state=submitted")).json()["jobs"]
        shown = (await client.get("/v1/jobs/w")).json()
    assert {job["id"]: job["reason"] for job in listed}["w"] == shown["reason"] == "budget"
    assert shown["history"][-1]["figures"] == {
        "detail": "acme has used 4 and planned 0 of its 4 gpu_h per day; this job needs 2",
        "until": "2026-11-22T00:00:00Z",
    }
