"""What the client sends, and what it makes of answers."""

import inspect
from collections.abc import Callable
from typing import Any

import httpx
import msgspec
import pytest

from services.gateway import model as server
from solyx.client import AsyncClient, Client, JobSummary, calls
from solyx.events import (
    JobSpec,
    PlaceLatency,
    QuotasReported,
    Resources,
    RouteDecided,
    SiteLatenciesMeasured,
    SiteObserved,
)
from solyx.events.route import RouteReason
from tests.unit.client.client_server import JOB, NOW, Recorder, async_client, client, says


def summary(job_id: str, **changes: Any) -> server.JobSummary:
    fields: dict[str, Any] = {
        "id": job_id,
        "tenant": "lab",
        "name": "sum",
        "state": "running",
        "reason": "applied",
        "site": "north",
        "revision": 1,
        "submitted_at": NOW,
        "state_at": NOW,
        "labels": {},
    }
    return server.JobSummary(**(fields | changes))


def test_a_job_is_sent_as_json_with_the_key() -> None:
    gateway = Recorder(says(server.SubmittedJob(id="j1"), 202))
    with client(gateway) as solyx:
        assert solyx.submit(JOB, idempotency_key="once", tenant="lab").id == "j1"
    assert (gateway.only.method, gateway.only.url.path) == ("POST", "/v1/jobs")
    assert gateway.only.headers["authorization"] == "Bearer sk_1"
    assert gateway.only.headers["content-type"] == "application/json"
    assert gateway.only.headers["idempotency-key"] == "once"
    assert gateway.only.headers["x-solyx-tenant"] == "lab"
    assert msgspec.json.decode(gateway.only.content) == JOB


def test_many_jobs_are_sent_as_lines() -> None:
    gateway = Recorder(says(server.SubmittedBatch(count=2, ids=["a", "b"]), 202))
    with client(gateway) as solyx:
        assert solyx.submit_many([JOB, JOB]).ids == ["a", "b"]
    assert gateway.only.headers["content-type"] == "application/x-ndjson"
    assert "idempotency-key" not in gateway.only.headers
    assert [msgspec.json.decode(line) for line in gateway.only.content.split(b"\n")] == [JOB, JOB]


def test_filters_become_parameters_and_unset_ones_are_left_out() -> None:
    gateway = Recorder(says(server.JobPage(jobs=[])))
    with client(gateway) as solyx:
        solyx.jobs(state=["running", "placed"], site="north", label=["team=a"], since=NOW, limit=7)
    assert gateway.only.url.params.multi_items() == [
        ("state", "running"),
        ("state", "placed"),
        ("site", "north"),
        ("label", "team=a"),
        ("since", "2026-01-02T03:04:05+00:00"),
        ("limit", "7"),
    ]


def pages(request: httpx.Request) -> httpx.Response:
    """Three pages of two jobs."""
    at = int(request.url.params.get("cursor", "0"))
    return says(
        server.JobPage(jobs=[summary(f"j{at}"), summary(f"j{at + 1}")], next=str(at + 2) if at < 4 else None),
    )


def test_all_jobs_are_read_page_by_page_to_the_last() -> None:
    with client(pages) as solyx:
        found = list(solyx.all_jobs(state=["running"]))
    assert [job.id for job in found] == ["j0", "j1", "j2", "j3", "j4", "j5"]
    assert isinstance(found[0], JobSummary)
    assert found[0].submitted_at == NOW


async def test_the_async_client_reads_the_same_pages() -> None:
    async with async_client(pages) as solyx:
        assert [job.id async for job in solyx.all_jobs()] == ["j0", "j1", "j2", "j3", "j4", "j5"]


def detail() -> server.JobDetail:
    entry = server.HistoryEntry(
        seq=3,
        type="io.solyx.job.placed.v1",
        subject="j1",
        tenant="lab",
        site="north",
        revision=1,
        reason="least_cost",
        time=NOW,
        figures=msgspec.Raw(b'{"attempt": 1}'),
    )
    spec = JobSpec(name="sum", image="sum:1", resources=Resources(cpu_milli=1000), duration_estimate_s=60)
    fields = {name: getattr(summary("j1"), name) for name in server.JobSummary.__struct_fields__}
    run = server.JobRun(
        revision=1,
        site="north",
        started_at=NOW,
        ended_at=NOW,
        cpu_h=1.0,
        gpu_h=2.0,
        energy_kwh=3.0,
        cost_eur=-0.1,
        carbon_kg=0.5,
        measured_kwh=1.5,
    )
    return server.JobDetail(**fields, spec=spec, trace_id="ab" * 16, runs=[run], history=[entry])


def test_a_job_comes_back_typed_as_the_server_writes_it() -> None:
    with client(Recorder(says(detail()))) as solyx:
        job = solyx.job("j1")
    assert job.spec is not None
    assert job.spec.resources.cpu_milli == 1000
    assert (job.trace_id, job.history[0].reason, job.history[0].figures) == ("ab" * 16, "least_cost", {"attempt": 1})
    assert [(run.site, run.gpu_h) for run in job.runs] == [("north", 2.0)]


async def test_quotas_are_asked_for_by_site_and_tenant() -> None:
    reports = [QuotasReported(site="north", reported_at=NOW)]
    asked = Recorder(says(server.QuotaList(sites=reports)))
    async with async_client(asked) as solyx:
        assert await solyx.quotas(site="north", tenant="lab") == reports
    assert dict(asked.only.url.params) == {"site": "north", "tenant": "lab"}


async def test_usage_and_budgets_are_typed_and_asked_for_in_full() -> None:
    figures = {"cpu_h": 1.0, "gpu_h": 2.0, "energy_kwh": 3.0, "cost_eur": 0.5, "carbon_kg": 0.25, "measured_kwh": 1.5}
    row = server.UsageRow(start=NOW, tenant="lab", site="", label="", jobs=2, **figures)
    total = server.Totals(jobs=2, **figures)
    used = Recorder(says(server.UsageReport(since=NOW, until=NOW, rows=[row], total=total)))
    with client(used) as solyx:
        report = solyx.usage(by=["tenant", "day"], since=NOW, label=["team=vision"])
    assert (report.rows[0].tenant, report.total.gpu_h, report.next) == ("lab", 2.0, None)
    asked = used.requests[0].url.params
    assert (asked.get_list("by"), asked["since"], asked.get_list("label")) == (
        ["tenant", "day"],
        NOW.isoformat(),
        ["team=vision"],
    )
    status = server.BudgetStatus(
        tenant="lab",
        quantity="gpu_h",
        limit=5.0,
        window="30d",
        enforcement="soft",
        used=1.0,
        planned=1.0,
        left=3.0,
        state="open",
        window_start=NOW,
        window_end=None,
    )
    async with async_client(Recorder(says(server.BudgetList(now=NOW, budgets=[status])))) as solyx:
        assert [(one.quantity, one.left) for one in await solyx.budgets()] == [("gpu_h", 3.0)]
    stored = Recorder(says(server.TenantBudgets(tenant="lab", revision=3, budgets=[], set_at=NOW)))
    async with async_client(stored) as solyx:
        assert (await solyx.set_budgets("lab", [])).revision == 3
    assert (stored.requests[0].method, stored.requests[0].content) == ("PUT", b'{"budgets":[]}')


def test_fields_of_a_newer_server_are_ignored() -> None:
    document = msgspec.json.decode(msgspec.json.encode(detail())) | {"shoe_size": 43}
    with client(Recorder(says(document))) as solyx:
        assert solyx.job("j1").id == "j1"


def test_sites_routes_and_energy_are_typed() -> None:
    site = SiteObserved(site="north", observed_at=NOW, nodes=())
    decided = RouteDecided(
        source="a", target="b", revision=1, path=("a", "b"), reason=RouteReason.FIRST, decided_at=NOW
    )
    far = {"b": PlaceLatency(round_trip_ms=7.5, since=NOW)}
    measured = SiteLatenciesMeasured(site="a", places=far, measured_at=NOW, valid_until=NOW)
    answers = {
        "/v1/sites": server.SiteList(sites=[site]),
        "/v1/routes": server.RouteList(routes=[server.Route(decided=decided, status="applied")], latencies=[measured]),
        "/v1/energy": server.EnergyList(
            now=NOW,
            sites=[
                server.SiteEnergy(
                    site="north",
                    price_eur_per_mwh=-3.5,
                    carbon_gco2_per_kwh=None,
                    renewable_pct=None,
                    series=[],
                    forecasts=[],
                )
            ],
            feeds=[],
        ),
    }
    with client(lambda request: says(answers[request.url.path])) as solyx:
        assert solyx.sites() == [site]
        assert solyx.routes()[0].decided == decided
        assert solyx.latencies() == [measured]
        assert solyx.energy().sites[0].price_eur_per_mwh == -3.5


def test_a_cancellation_is_a_delete() -> None:
    gateway = Recorder(says(server.CancelledJob(id="j1", state="running", cancel_requested_at=NOW), 202))
    with client(gateway) as solyx:
        assert solyx.cancel("j1").state == "running"
    assert (gateway.only.method, gateway.only.url.path) == ("DELETE", "/v1/jobs/j1")


@pytest.mark.parametrize("call", [calls.job, calls.cancel])
def test_what_is_no_id_becomes_no_other_path(call: Callable[[str], calls.Call[Any]]) -> None:
    assert call("../tenants?state=failed#x").path == "/v1/jobs/..%2Ftenants%3Fstate%3Dfailed%23x"


def test_both_clients_have_every_call_with_its_arguments_and_words() -> None:
    described = {
        name for name, call in vars(calls).items() if inspect.isfunction(call) and "-> Call[" in source_of(call)
    }
    assert {"submit", "jobs", "set_budgets"} < described
    for name in described - {"events"}:  # a stream, not one answer
        expected = ["self", *inspect.signature(getattr(calls, name)).parameters]
        for made in (Client, AsyncClient):
            method = getattr(made, name)
            assert list(inspect.signature(method).parameters) == expected
            assert method.__doc__ == getattr(calls, name).__doc__
            assert method.__name__ == name


def source_of(call: Callable[..., Any]) -> str:
    return f"-> {inspect.signature(call).return_annotation}"
