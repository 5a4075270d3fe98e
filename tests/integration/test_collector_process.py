"""The collector as its users run it: a process that replays a scenario to a real broker, and is told what is wrong with its settings."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from devstack.broker import KafkaBroker
from solyx.bus.kafka import KafkaBus
from solyx.clock import ReplayTime, write_replay_time
from solyx.events import EnergySeriesPublished, Event, SiteObserved, decode
from solyx.scenario import Scenario, generate, load
from solyx.topics import TOPICS

pytestmark = pytest.mark.timeout(300)  # a loaded machine starts processes slowly

ROOT = Path(__file__).parents[2]
SPEED = 3600.0  # an hour a second


class Process:
    """``python -m services.collector`` with its log at hand."""

    def __init__(self, **environment: str) -> None:
        self.lines: list[dict] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "services.collector"],
            cwd=ROOT,
            env=os.environ | environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stderr:
            self.lines.append(json.loads(line) if line.startswith("{") else {"event": line})

    def has_said(self, event: str) -> bool:
        return any(line.get("event") == event for line in self.lines)

    def end(self) -> int:
        """Its exit code after SIGTERM, or after it ended by itself."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        try:
            return self.process.wait(60)
        finally:
            self.process.kill()
            self._reader.join()
            self.process.stderr.close()


def until(holds: Callable[[], bool], shown: object) -> None:
    deadline = time.monotonic() + 90
    while not holds():
        assert time.monotonic() < deadline, f"it did not happen in time: {shown}"
        time.sleep(0.05)


@pytest.fixture
def scenario(tmp_path) -> Scenario:
    return load(generate(tmp_path / "scenario", sites=2, hours=24, jobs=1))


@pytest.fixture
def environment(kafka: KafkaBroker, scenario: Scenario, tmp_path) -> dict[str, str]:
    return {
        "SOLYX_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "SOLYX_SCENARIO": str(scenario.file.parent),
        "SOLYX_CLOCK_FILE": str(tmp_path / "clock.json"),
        "SOLYX_CLOCK_START": scenario.start.isoformat(),
        "SOLYX_CLOCK_SPEED": str(SPEED),
    }


def test_a_scenario_is_replayed_to_a_real_broker_and_a_killed_replay_goes_on(environment, scenario, kafka, tmp_path):
    with KafkaBus(kafka.bootstrap_servers, client_name="test") as bus:
        bus.ensure_topics(TOPICS)
        with closing(bus.tail(["sites", "energy"], at_end=True)) as tail:
            events: list[Event] = []

            def read() -> None:
                events.extend(decode(one.value, one.headers).event for one in tail.read(max_records=500, timeout_s=0.1))

            def carbon_until() -> list:
                read()
                carbon = [event for event in events if getattr(event, "kind", "") == "carbon_gco2_per_kwh"]
                return [event.start + timedelta(hours=len(event.values)) for event in carbon]

            first = Process(**environment)
            until(lambda: first.has_said("ready"), first.lines)
            until(lambda: len(carbon_until()) == 2 * 28, events)  # history, at once: two sites, 28 days
            assert max(carbon_until()) == scenario.start  # the clock stands still, and nothing later is known
            assert {event.site for event in events if isinstance(event, SiteObserved)} == {"north", "south"}

            write_replay_time(tmp_path / "clock.json", ReplayTime(time.time(), scenario.start, SPEED))
            until(lambda: max(carbon_until()) >= scenario.start + timedelta(hours=2), first.lines)
            first.process.kill()
            first.wait()
            second = Process(**environment)
            reached = max(carbon_until())
            until(lambda: max(carbon_until()) >= reached + timedelta(hours=3), second.lines)
            assert second.end() == 0
    by_id: dict[str, Event] = {}
    for event in events:
        if isinstance(event, EnergySeriesPublished):
            assert by_id.setdefault(event.id, event) == event


def test_a_broker_that_is_not_there_yet_is_waited_for_and_the_wait_can_be_ended(environment):
    process = Process(**environment | {"SOLYX_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"})
    until(lambda: process.has_said("broker_unreachable"), process.lines)
    assert not process.has_said("ready")
    assert process.end() == 0


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"SOLYX_COLLECTOR_BUFFER_BYTES": "much"}, "SOLYX_BUFFER_BYTES"),
        ({"SOLYX_COLLECTOR_HISTORY_DAYS": "-1"}, "SOLYX_COLLECTOR_HISTORY_DAYS: is -1"),
        ({"SOLYX_COLLECTOR_CONFIG": "/nowhere.yaml"}, "/nowhere.yaml: cannot be read"),
        ({"SOLYX_SCENARIO": "/nowhere"}, "/nowhere"),
    ],
)
def test_what_is_set_wrong_is_told_in_one_line_and_with_exit_code_2(settings, says):
    process = Process(**settings)
    assert process.wait() == 2
    (line,) = process.lines
    assert says in line["event"]
