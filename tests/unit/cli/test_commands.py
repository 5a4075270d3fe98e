"""Every command: what it prints for people and for programs, what it sends, and with which status it ends."""

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer

from solyx import __version__
from solyx.bus.memory import MemoryBus
from solyx.bus.port import Transient
from solyx.cli.main import app
from solyx.events import Record, encode
from solyx.events.examples import EXAMPLES

AT = "2026-01-02T03:04:05Z"
JOB_FILE = """\
image: registry.example/sum:1
resources: {cpu: 1}
duration_estimate: 5m
"""
SUMMARY = {
    "id": "j1",
    "tenant": "lab",
    "name": "sum",
    "state": "running",
    "reason": "applied",
    "site": "north",
    "revision": 1,
    "submitted_at": AT,
    "state_at": AT,
    "labels": {},
}
PLACED = {
    "seq": 5,
    "type": "io.solyx.job.placed.v1",
    "time": AT,
    "reason": "least_cost",
    "site": "north",
    "revision": 1,
    "figures": {"cost": {"energy_eur": 0.0123456, "carbon_kg": 1.5}, "alternative": {"site": "south"}, "bound_by": ""},
}
SPEC = {
    "name": "sum",
    "image": "registry.example/sum:1",
    "resources": {"cpu_milli": 1500, "memory_bytes": 2**31, "devices": [{"count": 2, "models": ["A100", "H100"]}]},
    "duration_estimate_s": 5400,
    "parallelism": 3,
}
DETAIL = SUMMARY | {"spec": SPEC, "trace_id": "ab" * 16, "history": [PLACED]}

Solyx = Callable[..., Any]


def job_file(tmp_path: Path, text: str = JOB_FILE) -> str:
    file = tmp_path / "job.yaml"
    file.write_text(text)
    return str(file)


# --- submit ----------------------------------------------------------------------------------------------------------


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


# --- jobs ------------------------------------------------------------------------------------------------------------


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


def test_a_job_that_waits_says_why_and_until_when(solyx: Solyx, gateway: Any) -> None:
    waits = {"reason": "budget", "detail": "gpu_h: 12 of [10]", "since": AT, "until": "2026-11-22T06:00:00Z"}
    gateway.on("GET", "/v1/jobs/j1", DETAIL | {"waits": waits})
    shown = solyx("job", "j1").out
    assert " until 2026-11-22 06:00" in shown
    assert "(budget): gpu_h: 12 of [10]" in shown
    (job,) = solyx("job", "j1", "--json").documents
    assert job["waits"]["reason"] == "budget"


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


# --- sites, routes, watch --------------------------------------------------------------------------------------------

SITE = {
    "site": "north",
    "observed_at": AT,
    "zone": "SE3",
    "nodes": [
        {"name": "n0", "cpu_milli": 8000, "memory_bytes": 2**30, "devices": [{"model": "A100", "count": 4}]},
        {"name": "n1", "cpu_milli": 8000, "memory_bytes": 2**30, "ready": False},
    ],
}


def test_sites_show_capacity_price_and_carbon(solyx: Solyx, gateway: Any) -> None:
    energy = {"site": "north", "price_eur_per_mwh": -12.5, "carbon_gco2_per_kwh": None, "series": [], "forecasts": []}
    gateway.on("GET", "/v1/sites", {"sites": [SITE]})
    gateway.on("GET", "/v1/energy", {"now": AT, "sites": [energy], "feeds": []})
    shown = solyx("sites").out
    for word in ("north", "SE3", "1/2", "16", "4", "-12.50", "–"):
        assert word in shown
    assert solyx("sites", "--json").documents[0]["nodes"][0]["name"] == "n0"


def test_the_grid_shows_the_ask_and_what_is_delivered(solyx: Solyx, gateway: Any) -> None:
    window = {"event_id": "dr-7", "site": "north", "start": AT, "end": AT, "power_cap_w": 45000}
    event = window | {"announced_at": AT}
    response = window | {"status": "short", "detail": "only protected work is left", "now_w": 47500, "reported_at": AT}
    gateway.on("GET", "/v1/grid", {"now": AT, "events": [{"event": event, "response": response}, {"event": event}]})
    shown = " ".join(solyx("grid").out.split())
    for word in ("north", "dr-7", "45.0", "47.5", "short", "announced"):
        assert word in shown
    assert solyx("grid", "--json").documents[0]["events"][0]["response"]["now_w"] == 47500


def test_routes_show_path_backup_and_status(solyx: Solyx, gateway: Any) -> None:
    decided = {
        "source": "north",
        "target": "south",
        "revision": 4,
        "path": ["north", "core", "south"],
        "backup": ["north", "south"],
        "latency_ms": 12.3,
        "headroom_bps": 7.5e9,
        "reason": "link_down",
        "decided_at": AT,
    }
    gateway.on("GET", "/v1/routes", {"routes": [{"decided": decided, "status": "applied"}]})
    shown = solyx("routes").out
    for word in ("north core south", "12.3", "7.5", "applied", "link_down"):
        assert word in shown
    assert solyx("routes", "--json").documents[0]["decided"]["backup"] == ["north", "south"]


EVENTS = b'id: 7\nevent: io.solyx.job.placed.v1\ndata: {"time": "T", "subject": "j1", "site": "north", "reason": "least_cost"}\n\n'


def test_watch_prints_events_until_the_stream_ends(solyx: Solyx, gateway: Any) -> None:
    gateway.on("GET", "/v1/events", EVENTS)
    shown = solyx("watch", "--last-event-id", "6", "--job", "j1", "--type", "job.placed.v1")
    assert shown.status == 0
    assert "job.placed  j1  north  least_cost" in shown.out
    assert gateway.requests[0].headers["last-event-id"] == "6"
    assert dict(gateway.requests[0].url.params) == {"type": "job.placed.v1", "job": "j1"}
    (event,) = solyx("watch", "--json").documents
    assert (event["id"], event["data"]["subject"]) == ("7", "j1")


def test_watch_leaves_out_what_decisions_are_made_from_unless_asked(solyx: Solyx, gateway: Any) -> None:
    price = b'id: 8\nevent: io.solyx.energy.series_published.v1\ndata: {"time": "T", "subject": "north", "site": "north"}\n\n'
    gateway.on("GET", "/v1/events", EVENTS + price)
    assert "series_published" not in solyx("watch").out
    assert solyx("watch", "--inputs").out.count("north") == 2, "a site that is the subject is named once"


# --- events ----------------------------------------------------------------------------------------------------------


def test_a_topic_is_printed_with_its_unreadable_records_and_tombstones(solyx: Solyx, bus: MemoryBus) -> None:
    placed = next(event for event in EXAMPLES if type(event).TYPE == "io.solyx.job.placed.v1")
    now = datetime(2026, 1, 2, tzinfo=UTC)
    parent = f"00-{'ab' * 16}-{'cd' * 8}-01"
    bus.append([encode(placed, source="solyx/cmo", time=now, traceparent=parent)])
    bus.append([Record("placements", "north/j9", "north", b"no json", [])])
    bus.append([Record("placements", "north/j8", "north", None, [])])
    shown = solyx("events", "placements")
    assert shown.status == 0
    for word in ("job.placed", placed.key, "no ce_type header", "(tombstone)"):
        assert word in shown.out
    documents = {document["key"]: document for document in solyx("events", "placements", "--json").documents}
    assert documents[placed.key]["trace_id"] == "ab" * 16
    assert documents[placed.key]["data"]["job_id"] == placed.job_id
    assert documents["north/j9"]["error"] == "no ce_type header"
    assert documents["north/j8"]["data"] is None
    assert len(solyx("events", "placements", "--limit", "2", "--json").documents) == 2


def test_a_topic_that_is_none_is_answered_with_those_that_are(solyx: Solyx, bus: MemoryBus) -> None:
    done = solyx("events", "placement")
    assert done.status == 2
    assert "placements" in done.err


# --- exit statuses ---------------------------------------------------------------------------------------------------


def test_what_is_not_found_is_4(solyx: Solyx, gateway: Any) -> None:
    done = solyx("job", "j404")
    assert (done.status, done.out) == (4, "")
    assert "no job of that id" in done.err


def test_what_is_refused_is_1(solyx: Solyx, gateway: Any) -> None:
    gateway.on("GET", "/v1/sites", {"title": "A valid API key is needed", "status": 401}, status=401)
    done = solyx("sites")
    assert (done.status, done.err) == (1, "A valid API key is needed (401)\n")


def test_no_answer_is_3_and_says_what_to_do(solyx: Solyx, gateway: Any) -> None:
    gateway.away = True
    done = solyx("sites")
    assert done.status == 3
    assert "no answer from http://solyx.test: connection refused" in done.err
    assert "./run" in done.err


def test_a_broker_that_is_away_is_3_and_says_what_to_do(solyx: Solyx) -> None:
    done = solyx("events", "jobs", "--kafka", "127.0.0.1:1")
    assert done.status == 3
    assert "no answer from Kafka at 127.0.0.1:1" in done.err
    assert "SOLYX_KAFKA_BOOTSTRAP_SERVERS" in done.err
    assert solyx("deadletters", "list", "--kafka", "nonsense").status == 3


def test_a_broker_that_goes_away_in_the_middle_is_3(
    solyx: Solyx, bus: MemoryBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object, **__: object) -> None:
        raise Transient("all brokers are down")

    monkeypatch.setattr(bus, "read", gone)
    done = solyx("events", "jobs", "--follow")
    assert done.status == 3
    assert "all brokers are down" in done.err


def test_a_watch_that_breaks_off_says_how_to_go_on(solyx: Solyx, gateway: Any) -> None:
    gateway.away = True
    assert "solyx watch --last-event-id 41" in solyx("watch", "--last-event-id", "41").err


def test_an_interrupt_is_130(solyx: Solyx, gateway: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    gateway.on("GET", "/v1/events", EVENTS)
    monkeypatch.setattr("solyx.cli.views.show_event", interrupted)
    assert solyx("watch").status == 130


@pytest.mark.parametrize("arguments", [("nosuch",), ("job",), ("jobs", "--limit", "0"), ("jobs", "--nosuch")])
def test_wrong_usage_is_2(solyx: Solyx, gateway: Any, arguments: tuple[str, ...]) -> None:
    assert solyx(*arguments).status == 2
    assert gateway.requests == []


def test_the_version_is_printed(solyx: Solyx) -> None:
    done = solyx("--version")
    assert (done.status, done.out) == (0, f"solyx {__version__}\n")


def test_help_names_every_command(solyx: Solyx) -> None:
    shown = solyx("--help").out
    for command in _commands(typer.main.get_command(app)):
        assert f" {command.split()[0]} " in shown


def _commands(group: Any, prefix: str = "") -> dict[str, Any]:
    """Every command that does something, by its words."""
    found: dict[str, Any] = {}
    for name, command in group.commands.items():
        words = f"{prefix}{name}"
        found |= _commands(command, f"{words} ") if hasattr(command, "commands") else {words: command}
    return found


def test_every_command_speaks_json() -> None:
    commands = _commands(typer.main.get_command(app))
    assert {"submit", "usage", "deadletters replay"} < commands.keys()
    without = [name for name, one in commands.items() if not any("--json" in option.opts for option in one.params)]
    assert without == []


@pytest.mark.parametrize(
    ("shell", "hook"),
    [("zsh", "compdef _solyx_completion solyx"), ("fish", "complete --command solyx")],
)
def test_other_shells_complete_too(shell: str, hook: str) -> None:
    asked = {"_TYPER_COMPLETE_ARGS": "solyx dead", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    shown = []
    for step in (f"complete_{shell}", f"source_{shell}"):
        environment = os.environ | asked | {"_SOLYX_COMPLETE": step}
        command = [sys.executable, "-m", "solyx.cli"]
        done = subprocess.run(command, env=environment, text=True, capture_output=True, timeout=60, check=False)
        shown.append(done.stdout)
    assert "deadletters" in shown[0]
    assert "budgets" not in shown[0]
    assert hook in shown[1]


def test_bash_completes_commands_by_their_beginning() -> None:
    environment = os.environ | {"_SOLYX_COMPLETE": "complete_bash", "COMP_WORDS": "solyx dead", "COMP_CWORD": "1"}
    command = [sys.executable, "-m", "solyx.cli"]
    done = subprocess.run(command, env=environment, text=True, capture_output=True, timeout=60, check=False)
    assert done.stdout.split() == ["deadletters"]
    environment = os.environ | {"_SOLYX_COMPLETE": "source_bash"}  # what --show-completion prints in a bash
    script = subprocess.run(command, env=environment, text=True, capture_output=True, timeout=60, check=False)
    assert "complete -o default -F _solyx_completion solyx" in script.stdout
