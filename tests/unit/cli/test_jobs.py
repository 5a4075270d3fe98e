"""`solyx jobs`, `job` and `cancel`: what is shown of jobs, to people and to programs."""

from typing import Any

from tests.unit.cli.cli_answers import AT, DETAIL, PLACED, SUMMARY, Solyx


def test_jobs_are_a_table_or_documents(solyx: Solyx, gateway: Any) -> None:
    gateway.on("GET", "/v1/jobs", {"jobs": [SUMMARY]})
    table = solyx("jobs", "--state", "running", "--state", "placed", "--site", "north", "--label", "a=b")
    assert table.status == 0
    for word in ("j1", "sum", "lab", "running", "north", "2026-01-02 03:04:05", "applied"):
        assert word in table.out
    assert gateway.requests[0].url.params.get_list("state") == ["running", "placed"]
    (job,) = solyx("jobs", "--json").documents
    assert (job["id"], job["state"]) == ("j1", "running")


def test_a_limit_stops_in_the_middle_of_a_page(solyx: Solyx, gateway: Any) -> None:
    first = {"jobs": [SUMMARY | {"id": "j3"}, SUMMARY | {"id": "j2"}], "next": "more"}
    gateway.on("GET", "/v1/jobs", first, {"jobs": [SUMMARY, SUMMARY | {"id": "j0"}]})
    assert [job["id"] for job in solyx("jobs", "--limit", "3", "--json").documents] == ["j3", "j2", "j1"]


def test_a_job_shows_what_it_wants_and_why_it_is_where_it_is(solyx: Solyx, gateway: Any) -> None:
    gateway.on("GET", "/v1/jobs/j1", DETAIL)
    shown = solyx("job", "j1").out
    assert "3 × 1.5 cores, 2.0 GiB, 2 gpu A100|H100; about 1.50 h; registry.example/sum:1" in shown
    assert "cost energy_eur 0.01235, carbon_kg 1.5" in shown
    assert "alternative site south" in shown
    assert "bound_by" not in shown  # nothing bound
    (job,) = solyx("job", "j1", "--json").documents
    assert job["history"][0]["figures"]["cost"]["energy_eur"] == 0.0123456


def test_a_job_shows_when_its_data_is_where_it_runs(solyx: Solyx, gateway: Any) -> None:
    moved = PLACED | {"figures": PLACED["figures"] | {"start_at": AT, "data_at": "2026-01-02T03:00:00Z"}}
    gateway.on("GET", "/v1/jobs/j1", DETAIL | {"history": [moved]})
    assert "data_at 2026-01-02T03:00:00Z" in solyx("job", "j1").out


def test_a_job_that_waits_says_why_and_until_when(solyx: Solyx, gateway: Any) -> None:
    waits = {"reason": "budget", "detail": "gpu_h: 12 of [10]", "since": AT, "until": "2026-11-22T06:00:00Z"}
    gateway.on("GET", "/v1/jobs/j1", DETAIL | {"waits": waits})
    shown = solyx("job", "j1").out
    assert " until 2026-11-22 06:00" in shown
    assert "(budget): gpu_h: 12 of [10]" in shown
    (job,) = solyx("job", "j1", "--json").documents
    assert job["waits"]["reason"] == "budget"


def test_a_job_whose_site_is_too_far_says_so(solyx: Solyx, gateway: Any) -> None:
    breach = {"reason": "not_suspendable", "detail": "north is 50 ms from [b]", "since": AT}
    gateway.on("GET", "/v1/jobs/j1", DETAIL | {"breach": breach})
    shown = solyx("job", "j1").out
    assert "too far since 2026-01-02 03:04:05 (not_suspendable): north is 50 ms from [b]" in shown
    (job,) = solyx("job", "j1", "--json").documents
    assert job["breach"]["reason"] == "not_suspendable"


def test_square_brackets_of_a_job_are_shown_as_they_are(solyx: Solyx, gateway: Any) -> None:
    failed = PLACED | {"figures": {"message": "[red]exit 1[/red] [/]"}}
    gateway.on("GET", "/v1/jobs/j1", DETAIL | {"name": "[bold]sum", "history": [failed]})
    gateway.on("GET", "/v1/jobs", {"jobs": [SUMMARY | {"name": "[/]sum"}]})
    shown = solyx("job", "j1")
    assert shown.status == 0
    assert "[red]exit 1[/red] [/]" in shown.out
    assert "[bold]sum" in shown.out
    assert "[/]sum" in solyx("jobs").out


def test_cancel_says_whether_the_job_has_ended(solyx: Solyx, gateway: Any) -> None:
    answer = {"id": "j1", "state": "running", "cancel_requested_at": AT}
    gateway.on("DELETE", "/v1/jobs/j1", answer, answer | {"state": "cancelled"}, answer, status=202)
    assert "ends when its cluster has stopped it" in solyx("cancel", "j1").out
    assert solyx("cancel", "j1").out == "j1 is cancelled\n"
    assert solyx("cancel", "j1", "--json").documents[0]["id"] == "j1"
