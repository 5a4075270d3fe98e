"""The command line and the client against everything running: what a user types, and what comes of it."""

import re
import signal
import uuid
from collections.abc import Callable
from typing import Any

import httpx
import msgspec
import pytest

from benchmarks.installation import Installation
from devstack.bootstrap import ROOT
from solyx.client import ApiError, AsyncClient, Client, Job
from solyx.clock import WallClock
from solyx.events import Record

SHORT = """\
name: {name}
image: registry.example/sum:1
resources: {{cpu: 1, memory: 1Gi}}
duration_estimate: 30s
max_delay: 0
"""


def short(**changes: Any) -> dict[str, Any]:
    """A job that runs for half a second at the speed of these tests."""
    return {
        "image": "registry.example/sum:1",
        "resources": {"cpu": 1, "memory": "1Gi"},
        "duration_estimate": 30,
        "max_delay": 0,
    } | changes


def unique() -> str:
    return f"case-{uuid.uuid4().hex[:12]}"


def test_submit_and_wait_returns_when_the_job_has_succeeded(solyx: Any, tmp_path: Any) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(SHORT.format(name=unique()))
    done = solyx.run("submit", str(file), "--wait")
    assert done.returncode == 0, done.stderr
    assert "succeeded" in done.stdout


def test_submit_and_wait_fails_when_the_job_does(solyx: Any) -> None:
    too_large = SHORT.format(name=unique()).replace("cpu: 1,", "cpu: 9999,")
    done = solyx.run("submit", "-", "--wait", text=too_large)
    assert done.returncode == 1, done.stderr
    assert "failed no_site_fits" in done.stdout


def test_several_documents_are_several_jobs_in_their_order(solyx: Any, client: Client) -> None:
    names = [unique(), unique(), unique()]
    (answer,) = solyx.json("submit", "-", text="---\n".join(SHORT.format(name=name) for name in names))
    assert [client.job(job_id).name for job_id in answer["ids"]] == names


def test_a_job_shows_its_history_with_reasons_and_figures(solyx: Any, until_state: Callable[[str, str], Job]) -> None:
    name = unique()
    (answer,) = solyx.json("submit", "-", text=SHORT.format(name=name))
    (job_id,) = answer["ids"]
    until_state(job_id, "succeeded")

    (job,) = solyx.json("job", job_id)
    history = {(entry["type"], entry["figures"].get("status")): entry for entry in job["history"]}
    placed = history["io.solyx.job.placed.v1", None]
    assert placed["site"] == job["site"]
    assert placed["reason"] in {"least_cost", "deadline", "only_site", "no_forecast"}
    assert placed["figures"]["cost"]["energy_kwh"] > 0
    allocated = history["io.solyx.job.allocated.v1", None]
    assert allocated["reason"] == "fits"
    assert allocated["figures"]["pods"][0]["node"].startswith(job["site"])
    assert history["io.solyx.workload.reported.v1", "started"]["reason"] == "applied"
    assert history["io.solyx.workload.reported.v1", "succeeded"]["reason"] == "completed"
    finished = history["io.solyx.job.finished.v1", None]
    assert (finished["reason"], finished["figures"]["outcome"]) == ("completed", "succeeded")

    shown = solyx.run("job", job_id)
    assert name in shown.stdout
    for word in ("job.submitted", "job.placed", "job.allocated", "workload.reported", "job.finished", "energy_kwh"):
        assert word in shown.stdout


def test_jobs_are_listed_newest_first_and_filtered(solyx: Any, until_state: Callable[[str, str], Job]) -> None:
    name = unique()
    (answer,) = solyx.json("submit", "-", text="---\n".join(SHORT.format(name=f"{name}-{n}") for n in range(3)))
    for job_id in answer["ids"]:
        until_state(job_id, "succeeded")
    found = solyx.json("jobs", "--name", name, "--state", "succeeded")
    newest_first = sorted(answer["ids"], reverse=True)  # ids begin with their time
    assert [job["id"] for job in found] == newest_first
    assert [job["id"] for job in solyx.json("jobs", "--name", name, "--limit", "2")] == newest_first[:2]
    assert solyx.json("jobs", "--name", name, "--state", "failed") == []
    table = solyx.run("jobs", "--name", name)
    assert all(job_id in table.stdout for job_id in answer["ids"])


def test_a_running_job_is_cancelled_and_cannot_be_cancelled_again(
    solyx: Any, client: Client, until_state: Callable[[str, str], Job]
) -> None:
    job_id = client.submit(short(duration_estimate="10h")).id
    until_state(job_id, "running")
    asked = solyx.run("cancel", job_id)
    assert asked.returncode == 0, asked.stderr
    job = until_state(job_id, "cancelled")
    assert [entry.type for entry in job.history if "withdrawn" in entry.type or "finished" in entry.type]
    again = solyx.run("cancel", job_id)
    assert again.returncode == 1
    assert "already been cancelled" in again.stderr


def test_what_is_not_there_is_told_with_exit_status_4(solyx: Any) -> None:
    for command in (("job", "nosuchjob"), ("cancel", "nosuchjob"), ("deadletters", "show", "jobs/0/999999")):
        done = solyx.run(*command)
        assert done.returncode == 4, (command, done.stderr)
        assert done.stderr.strip()


def test_a_wrong_key_is_refused_in_one_line(command_line: Callable[[str], Any]) -> None:
    done = command_line("sk_wrong").run("jobs")
    assert done.returncode == 1
    assert "(401)" in done.stderr
    assert "Traceback" not in done.stderr


def test_sites_have_nodes_and_energy(solyx: Any, client: Client) -> None:
    sites = solyx.json("sites")
    assert len(sites) == 3
    assert all(len(site["nodes"]) == 4 for site in sites)
    table = solyx.run("sites").stdout
    assert all(site["site"] in table for site in sites)
    energy = client.energy()
    assert {entry.site for entry in energy.sites} == {site["site"] for site in sites}
    assert all(entry.price_eur_per_mwh is not None for entry in energy.sites)


def test_routes_join_every_pair_of_sites_and_are_applied(solyx: Any, client: Client) -> None:
    names = {site.site for site in client.sites()}
    routes = solyx.json("routes")
    assert {(r["decided"]["source"], r["decided"]["target"]) for r in routes} == {
        (a, b) for a in names for b in names if a != b
    }
    assert all(route["decided"]["path"] for route in routes)
    assert "applied" in solyx.run("routes").stdout


def test_watch_follows_a_job_to_its_end_and_ends_with_an_interrupt(solyx: Any, client: Client) -> None:
    job_id = client.submit(short()).id
    watching = solyx.start("watch", "--job", job_id, "--last-event-id", "0", "--json")
    try:
        seen: list[str] = []
        for line in watching.stdout:
            event = msgspec.json.decode(line)
            assert event["data"]["subject"] == job_id
            seen.append(event["event"].removeprefix("io.solyx."))
            if seen[-1] == "job.finished.v1":
                break
        assert {"job.submitted.v1", "job.placed.v1", "job.allocated.v1", "workload.reported.v1"} <= set(seen)
        watching.send_signal(signal.SIGINT)
        assert watching.wait(30) == 130
    finally:
        watching.kill()
        watching.communicate()


def test_a_topic_is_printed_as_events(solyx: Any, client: Client, until_state: Callable[[str, str], Job]) -> None:
    job_id = client.submit(short()).id
    until_state(job_id, "succeeded")
    (submitted,) = [event for event in solyx.json("events", "jobs") if event["key"] == job_id]
    assert submitted["type"] == "io.solyx.job.submitted.v1"
    assert submitted["trace_id"] == client.job(job_id).trace_id
    assert len(solyx.json("events", "placements", "--limit", "1")) == 1
    assert "site.observed" in solyx.run("events", "sites").stdout


def test_an_unreadable_record_is_parked_listed_shown_and_parked_again_after_a_replay(
    solyx: Any, system: Installation
) -> None:
    key, value = unique(), b'{"job_id": 5}'
    headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", key.encode()),
        ("ce_source", b"a-test"),
        ("ce_type", b"io.solyx.job.submitted.v1"),
        ("ce_time", WallClock().now().isoformat().encode()),
    ]
    publisher = system.bus.publisher(name=key)
    publisher.publish([Record("jobs", key, key, value, headers)])
    publisher.close()

    def parked(count: int) -> list[Any]:
        letters: list[Any] = []
        for _ in range(60):
            letters = [letter for letter in solyx.json("deadletters", "list") if letter["key"] == key]
            if len(letters) >= count:
                return letters
        pytest.fail(f"{len(letters)} of {count} dead letters")

    (letter,) = parked(1)
    assert letter["topic"] == "jobs"
    assert letter["service"] == "cmo"
    assert letter["value"].encode() == value
    assert letter["headers"]["ce_id"] == key
    shown = solyx.run("deadletters", "show", letter["place"])
    assert letter["error"] in shown.stdout.replace("\n", " ")
    assert value.decode() in shown.stdout

    replayed = solyx.run("deadletters", "replay", letter["place"])
    assert replayed.returncode == 0, replayed.stderr
    first, second = parked(2)
    again = second if second["place"] != letter["place"] else first
    assert again["headers"]["solyx_replayed_from"] == letter["place"]
    assert again["headers"]["ce_id"] == key
    assert solyx.run("deadletters", "replay").returncode == 2


def test_a_tenant_does_not_see_another_tenants_job(
    command_line: Callable[[str], Any], tenant_key: Callable[[str], str]
) -> None:
    blue, green = (command_line(tenant_key(f"{colour}-{uuid.uuid4().hex[:8]}")) for colour in ("blue", "green"))
    (answer,) = blue.json("submit", "-", text=SHORT.format(name=unique()))
    (job_id,) = answer["ids"]
    assert [job["id"] for job in blue.json("jobs")] == [job_id]
    assert green.json("jobs") == []
    for command in ("job", "cancel"):
        refused = green.run(command, job_id)
        assert refused.returncode == 4
        assert job_id not in refused.stdout
    assert blue.run("job", job_id).returncode == 0


def test_the_client_pages_through_all_jobs(client: Client) -> None:
    name = unique()
    ids = client.submit_many([short(name=f"{name}-{n}") for n in range(5)]).ids
    newest_first = sorted(ids, reverse=True)
    page = client.jobs(name=name, limit=2)
    assert [job.id for job in page.jobs] == newest_first[:2]
    assert page.next is not None
    assert [job.id for job in client.all_jobs(name=name, limit=2)] == newest_first


def test_a_repeat_under_the_same_key_returns_the_same_job(client: Client) -> None:
    key = unique()
    job = short(name=key)
    assert client.submit(job, idempotency_key=key).id == client.submit(job, idempotency_key=key).id
    with pytest.raises(ApiError) as refused:
        client.submit(short(name="another"), idempotency_key=key)
    assert refused.value.status == 409


def test_a_wrong_job_names_its_fields(client: Client) -> None:
    with pytest.raises(ApiError) as refused:
        client.submit({"image": "x", "resources": {"cpu": "many"}})
    assert refused.value.status == 422
    assert {error.field for error in refused.value.errors} >= {"resources.cpu", "duration_estimate"}
    assert all(error.cure for error in refused.value.errors)


def test_events_go_on_after_the_last_one_seen(client: Client, until_state: Callable[[str, str], Job]) -> None:
    job_id = client.submit(short()).id
    until_state(job_id, "succeeded")
    stream = client.events(last_event_id="0")
    first, second, third = next(stream), next(stream), next(stream)
    stream.close()
    assert int(first.id) < int(second.id) < int(third.id)
    resumed = client.events(last_event_id=second.id)
    assert next(resumed) == third
    resumed.close()


async def test_the_async_client_does_the_same(system: Installation, admin_key: str) -> None:
    async with AsyncClient(system.stack.api, key=admin_key) as solyx:
        name = unique()
        batch = await solyx.submit_many([short(name=f"{name}-{n}") for n in range(3)])
        newest_first = sorted(batch.ids, reverse=True)
        assert [job.id async for job in solyx.all_jobs(name=name, limit=2)] == newest_first
        seen: set[str] = set()
        async for event in solyx.events(last_event_id="0"):
            if event.event == "io.solyx.job.finished.v1" and event.data["subject"] in batch.ids:
                seen.add(event.data["subject"])
            if len(seen) == 3:
                break
        assert {(await solyx.job(job_id)).state for job_id in batch.ids} == {"succeeded"}
        assert len(await solyx.sites()) == 3
        assert len(await solyx.routes()) == 6
        assert (await solyx.energy()).sites
        with pytest.raises(ApiError) as refused:
            await solyx.cancel(batch.ids[0])
        assert refused.value.status == 409


def test_the_program_in_the_readme_follows_its_job_to_the_end(
    system: Installation, admin_key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    program = program.replace("http://127.0.0.1:8080", system.stack.api).replace("sk_…", admin_key)
    exec(compile(program.replace('"5m"', '30, "max_delay": 0'), "README.md", "exec"), {})
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("io.solyx.job.submitted.v1")
    assert told[-1] == "io.solyx.job.finished.v1 completed"


def test_every_service_answers_its_probes_and_shows_its_metrics(system: Installation) -> None:
    for process in system.stack.services:
        base = f"http://127.0.0.1:{process.port}"
        assert httpx.get(f"{base}/healthz").status_code == 200, process.name
        ready = httpx.get(f"{base}/readyz")
        assert ready.status_code == 200, (process.name, ready.text)
        assert ready.json()["ready"] is True
        assert "# TYPE solyx_" in httpx.get(f"{base}/metrics").text, process.name
