"""A reader that goes away, as ``| head`` does: what only shows ends quietly, what does something does all of it."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from datetime import UTC, datetime
from typing import Any

import pytest

from solyx.bus.memory import MemoryBus
from solyx.events import encode
from solyx.events.examples import EXAMPLES
from tests.unit.cli.cli_answers import DETAIL, EVENTS, JOB_FILE, SUMMARY, Solyx
from tests.unit.cli.test_deadletters import park
from tests.unit.cli.test_views import SITE

Unread = Callable[..., Any]


@pytest.fixture
def unread(solyx: Solyx) -> Iterator[Unread]:
    """Runs a command line whose standard output is a pipe that nobody reads any more."""
    theirs, ours = os.pipe()
    os.close(theirs)
    with os.fdopen(ours, "w") as pipe:

        def run(*arguments: str, text: str = "") -> Any:
            with redirect_stdout(pipe):
                done = solyx(*arguments, text=text)
                sys.stdout.write("what is left to the flush at the exit")
                sys.stdout.flush()
            return done

        yield run


SHOWS = [
    ("events", "jobs"),
    ("deadletters", "list"),
    ("deadletters", "show", "placements/2/5"),
    ("watch",),
    ("jobs",),
    ("job", "j1"),
    ("sites",),
    ("nodes",),
    ("grid",),
]


@pytest.mark.parametrize("as_json", [(), ("--json",)], ids=["table", "json"])
@pytest.mark.parametrize("command", SHOWS, ids=" ".join)
def test_a_command_that_shows_ends_quietly_when_its_reader_goes(
    unread: Unread, gateway: Any, bus: MemoryBus, command: tuple[str, ...], as_json: tuple[str, ...]
) -> None:
    event = next(event for event in EXAMPLES if event.TOPIC == "jobs")
    bus.append([encode(event, source="solyx/test", time=datetime(2026, 1, 2, tzinfo=UTC))])
    park(bus, 5)
    gateway.on("GET", "/v1/events", EVENTS)
    gateway.on("GET", "/v1/jobs", {"jobs": [SUMMARY]})
    gateway.on("GET", "/v1/jobs/j1", DETAIL)
    gateway.on("GET", "/v1/sites", {"sites": [SITE]})
    gateway.on("GET", "/v1/nodes", {"orders": []})
    gateway.on("GET", "/v1/energy", {"now": SUMMARY["submitted_at"], "sites": [], "feeds": []})
    gateway.on("GET", "/v1/grid", {"now": SUMMARY["submitted_at"], "events": []})
    done = unread(*command, *as_json)
    assert (done.status, done.err) == (0, "")


@pytest.mark.parametrize("command", [("--help",), ("submit", "--help"), ("deadletters", "--help"), ("--version",), ()])
def test_help_ends_quietly_when_its_reader_goes(unread: Unread, command: tuple[str, ...]) -> None:
    done = unread(*command)
    assert (done.status, done.err) == (0, "")


@pytest.mark.parametrize("as_json", [(), ("--json",)], ids=["text", "json"])
def test_a_replay_goes_on_when_its_reader_goes(unread: Unread, bus: MemoryBus, as_json: tuple[str, ...]) -> None:
    for offset in (5, 6, 7):
        park(bus, offset)
    done = unread("deadletters", "replay", "--all", "--rate", "1000", *as_json)
    assert (done.status, done.err, len(bus.records("placements"))) == (0, "", 3)


@pytest.mark.parametrize("as_json", [(), ("--json",)], ids=["text", "json"])
def test_who_waits_for_a_job_hears_by_the_status_that_it_failed_when_its_reader_goes(
    unread: Unread, gateway: Any, monkeypatch: pytest.MonkeyPatch, as_json: tuple[str, ...]
) -> None:
    monkeypatch.setattr("solyx.cli.views.WAIT_POLL_S", 0.0)
    gateway.on("POST", "/v1/jobs", {"id": "j1"}, status=202)
    gateway.on("GET", "/v1/jobs/j1", DETAIL, DETAIL | {"state": "failed"})
    done = unread("submit", "-", "--wait", *as_json, text=JOB_FILE)
    assert (done.status, done.err) == (1, "")
