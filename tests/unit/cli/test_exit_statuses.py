"""With which status a command ends when it cannot do what it was asked, and what it says then."""

from typing import Any

import pytest

from solyx.bus.memory import MemoryBus
from solyx.bus.port import Transient
from tests.unit.cli.cli_answers import EVENTS, Solyx


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
