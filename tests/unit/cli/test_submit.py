"""`solyx submit`: what it reads, what it sends, and how `--wait` ends."""

from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli.cli_answers import DETAIL, JOB_FILE, Solyx


def job_file(tmp_path: Path, text: str = JOB_FILE) -> str:
    file = tmp_path / "job.yaml"
    file.write_text(text)
    return str(file)


def test_submit_prints_the_id(solyx: Solyx, gateway: Any, tmp_path: Path) -> None:
    gateway.on("POST", "/v1/jobs", {"id": "j1"}, status=202)
    done = solyx("submit", job_file(tmp_path), "--idempotency-key", "once", "--tenant", "lab")
    assert (done.status, done.out) == (0, "j1\n")
    (request,) = gateway.requests
    assert request.headers["idempotency-key"] == "once"
    assert request.headers["x-solyx-tenant"] == "lab"


def test_submit_reads_standard_input(solyx: Solyx, gateway: Any) -> None:
    gateway.on("POST", "/v1/jobs", {"id": "j1"}, status=202)
    done = solyx("submit", "-", "--json", text=JOB_FILE)
    assert (done.status, done.documents) == (0, [{"ids": ["j1"]}])


def test_submit_reads_json_too(solyx: Solyx, gateway: Any) -> None:
    gateway.on("POST", "/v1/jobs", {"id": "j1"}, status=202)
    done = solyx("submit", "-", text='{"image": "a", "resources": {"cpu": 1}, "duration_estimate": 60}')
    assert done.status == 0


def test_several_documents_are_one_batch(solyx: Solyx, gateway: Any) -> None:
    gateway.on("POST", "/v1/jobs", {"count": 2, "ids": ["j1", "j2"]}, status=202)
    done = solyx("submit", "-", text=f"{JOB_FILE}---\n{JOB_FILE}---\n")
    assert (done.status, done.out) == (0, "j1\nj2\n")
    (request,) = gateway.requests
    assert request.content.count(b"registry.example/sum:1") == 2


def test_a_time_that_yaml_reads_as_one_is_taken(solyx: Solyx, gateway: Any) -> None:
    gateway.on("POST", "/v1/jobs", {"id": "j1"}, status=202)
    done = solyx("submit", "-", text=f"{JOB_FILE}deadline: 2030-01-01T00:00:00Z\n")
    assert done.status == 0, done.err
    assert b"2030-01-01T00:00:00" in gateway.requests[0].content


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no job in it"),
        ("---\n", "no job in it"),
        ("image: [unclosed", "expected"),
        ("image: a\nresources: {cpu: many}\nduration_estimate: 1m", "resources.cpu"),
        (f"{JOB_FILE}---\nimage: a\n", "document 2"),
        ("just words", "document 1"),
    ],
)
def test_a_file_that_is_no_job_is_told_before_anything_is_sent(
    solyx: Solyx, gateway: Any, text: str, told: str
) -> None:
    done = solyx("submit", "-", text=text)
    assert done.status == 2
    assert "standard input" in done.err
    assert told in done.err
    assert gateway.requests == []


def test_a_file_that_is_not_there_is_named(solyx: Solyx, gateway: Any) -> None:
    done = solyx("submit", "nowhere.yaml")
    assert (done.status, done.err) == (2, "nowhere.yaml: No such file or directory\n")


def test_a_file_that_is_no_text_is_named(solyx: Solyx, gateway: Any, tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_bytes(b"image: \xff\xfe")
    done = solyx("submit", str(file))
    assert done.status == 2
    assert "is no UTF-8 text" in done.err


def test_wait_ends_well_when_all_jobs_succeeded(solyx: Solyx, gateway: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("solyx.cli.views.WAIT_POLL_S", 0.0)
    gateway.on("POST", "/v1/jobs", {"id": "j1"}, status=202)
    gateway.on("GET", "/v1/jobs/j1", DETAIL, DETAIL, DETAIL | {"state": "succeeded", "reason": "completed"})
    done = solyx("submit", "-", "--wait", text=JOB_FILE)
    assert (done.status, done.out) == (0, "j1\nj1 succeeded completed\n")


def test_wait_ends_badly_when_a_job_failed(solyx: Solyx, gateway: Any) -> None:
    gateway.on("POST", "/v1/jobs", {"id": "j1"}, status=202)
    gateway.on("GET", "/v1/jobs/j1", DETAIL | {"state": "failed", "reason": "no_site_fits"})
    done = solyx("submit", "-", "--wait", "--json", text=JOB_FILE)
    assert done.status == 1
    assert done.documents == [{"ids": ["j1"]}, {"id": "j1", "state": "failed", "reason": "no_site_fits"}]


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("solyx.cli.views.WAIT_POLL_S", 0.0)


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("passing", ["connection refused", "503"])
def test_wait_outlasts_a_gateway_that_is_away_for_a_moment(solyx: Solyx, gateway: Any, passing: str) -> None:
    ended = DETAIL | {"state": "succeeded", "reason": "completed"}
    gateway.on("POST", "/v1/jobs", {"id": "j1"}, status=202)
    if passing == "503":
        gateway.on("GET", "/v1/jobs/j1", {"title": "Not available at the moment", "status": 503}, status=503)
        gateway.then("GET", "/v1/jobs/j1", ended)
    else:
        gateway.on("GET", "/v1/jobs/j1", DETAIL, ended)
        gateway.drops["GET", "/v1/jobs/j1"] = 2
    done = solyx("submit", "-", "--wait", text=JOB_FILE)
    assert (done.status, done.out) == (0, "j1\nj1 succeeded completed\n")
    assert done.err.count("asking again") == 1


@pytest.mark.usefixtures("at_once")
def test_wait_gives_up_on_a_gateway_that_stays_away(
    solyx: Solyx, gateway: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("solyx.cli.views.WAIT_PATIENCE_S", 0.0)
    gateway.on("POST", "/v1/jobs", {"id": "j1"}, status=202)
    gateway.drops["GET", "/v1/jobs/j1"] = 1_000_000
    done = solyx("submit", "-", "--wait", text=JOB_FILE)
    assert (done.status, done.out) == (3, "j1\n")


def test_wait_does_not_ask_again_what_was_refused(solyx: Solyx, gateway: Any) -> None:
    gateway.on("POST", "/v1/jobs", {"id": "j1"}, status=202)
    gateway.on("GET", "/v1/jobs/j1", {"title": "This key may not do that", "status": 403}, status=403)
    assert solyx("submit", "-", "--wait", text=JOB_FILE).status == 1
    assert len(gateway.requests) == 2
