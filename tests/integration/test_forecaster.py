"""The forecaster's process on a real broker: windows, forecasts, and what a crash or a rebalance leaves of them."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from devstack.broker import KafkaBroker
from services.forecaster import app
from services.forecaster.core.partition import PartitionWindows
from services.forecaster.settings import ForecasterSettings
from solyx.bus.kafka import KafkaBus
from solyx.bus.port import Received
from solyx.events import EnergySeriesPublished, ForecastIssued, MetricsScraped, Record, SeriesWindowed, decode, encode
from solyx.topics import TOPICS

START = datetime(2026, 3, 10, 10, tzinfo=UTC)
pytestmark = pytest.mark.timeout(400)  # several starts of a process that imports much, on a busy machine
SERIES = tuple(f'node_load{{node="n{number}"}}' for number in range(40))


@pytest.fixture(scope="module")
def own_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    """A broker of these tests' own: the service's topics have fixed names. Each test has sources and sites of its own."""
    with KafkaBroker(tmp_path_factory.mktemp("forecaster-kafka")) as broker:
        yield broker


@pytest.fixture(scope="module")
def bus(own_kafka: KafkaBroker) -> Iterator[KafkaBus]:
    with KafkaBus(own_kafka.bootstrap_servers, client_name="test") as bus:
        bus.ensure_topics(TOPICS)
        yield bus


class Process:
    """One replica of the forecaster."""

    def __init__(self, servers: str, directory: Path, replica: str, **settings: str) -> None:
        self.log = directory / f"forecaster-{replica}.log"
        environment = os.environ | {
            "SOLYX_KAFKA_BOOTSTRAP_SERVERS": servers,
            "SOLYX_STATE_DIR": str(directory / "state"),
            "SOLYX_REPLICA": replica,
            **{f"SOLYX_FORECASTER_{name.upper()}": value for name, value in settings.items()},
        }
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([sys.executable, "-m", "services.forecaster"], env=environment, stderr=log)

    def events(self, name: str) -> list[dict]:
        lines = [line for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [fields for line in lines if (fields := json.loads(line))["event"] == name]

    def get(self, path: str) -> tuple[int, object]:
        url = f"http://127.0.0.1:{self.events('listening')[-1]['port']}{path}"
        try:
            with urllib.request.urlopen(url, timeout=5) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def until_ready(self, starts: int = 1) -> "Process":
        until(lambda: len(self.events("ready")) >= starts, why=self.log.read_text)
        return self

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def start(own_kafka: KafkaBroker, bus: KafkaBus, tmp_path: Path) -> Iterator[Callable[..., Process]]:
    processes: list[Process] = []

    def make(replica: str = "0", **settings: str) -> Process:
        processes.append(Process(own_kafka.bootstrap_servers, tmp_path, replica, **settings))
        return processes[-1]

    yield make
    for process in processes:
        if process.process.poll() is None:
            process.kill()


def until(accept: Callable[[], object], within_s: float = 90.0, why: Callable[[], object] = lambda: "") -> None:
    deadline = time.monotonic() + within_s
    while not accept():
        assert time.monotonic() < deadline, why()
        time.sleep(0.05)


def scrape(source: str, at_s: float) -> Record:
    at = START + timedelta(seconds=at_s)
    values = tuple(float(number + at_s) for number in range(len(SERIES)))
    return encode(MetricsScraped(source=source, scraped_at=at, series=SERIES, values=values), source="test", time=at)


class Followed:
    """The latest event of each key of a topic."""

    def __init__(self, bus: KafkaBus, topic: str) -> None:
        self.tail = bus.tail([topic])
        self.latest: dict[str, SeriesWindowed | ForecastIssued] = {}
        self.records = 0

    def read(self) -> "Followed":
        for record in self.tail.read(max_records=1000, timeout_s=0.05):
            self.records += 1
            event = decode(record.value, record.headers).event
            self.latest[record.key] = event
        return self

    def minute(self, source: str, minute: int) -> SeriesWindowed | None:
        at = START + timedelta(minutes=minute)
        return self.latest.get(f"{source}/{at.isoformat()}/{(at + timedelta(minutes=1)).isoformat()}")

    def counts(self, source: str, minutes: int) -> list[int]:
        return [window.count[0] if (window := self.minute(source, m)) else 0 for m in range(minutes)]


def test_metrics_become_features_and_sigterm_ends_the_process_in_order(bus, start):
    process = start().until_ready()
    bus.publisher(name="p").publish([scrape("orderly", at_s) for at_s in range(0, 180, 15)])
    features = Followed(bus, "features")
    until(lambda: features.read().counts("orderly", 3) == [4, 4, 4], why=process.log.read_text)
    window = features.minute("orderly", 1)
    assert window.series == SERIES
    assert (window.mean[3], window.min[3], window.max[3], window.last[3]) == (85.5, 63.0, 108.0, 108.0)
    assert window.quantiles[0][3] == 78.0
    at = START + timedelta(minutes=-3)
    hopping = features.latest[f"orderly/{at.isoformat()}/{(at + timedelta(minutes=5)).isoformat()}"]
    assert hopping.count[0] == 8
    until(lambda: process.get("/v1/features/orderly")[0] == 200)
    _, windows = process.get("/v1/features/orderly")
    assert windows[0]["window_start"] == "2026-03-10T10:02:00Z"
    assert process.get("/readyz")[0] == 200
    assert process.stop() == 0, process.log.read_text()
    assert process.events("stopped")
    assert process.events("parts_did_not_stop") == []


def test_a_killed_worker_goes_on_without_losing_or_doubling_a_sample(bus, start):
    """Killed in the midst of its work, before or after it saved or committed, and restarted: every window ends exact."""
    sources = [f"killed-{number}" for number in range(8)]
    publisher, features = bus.publisher(name="p"), Followed(bus, "features")

    def seen() -> int:
        return sum(sum(features.read().counts(source, 6)) for source in sources)

    for part in range(3):
        process = start(table_flush_s="0.3").until_ready(starts=part + 1)
        before = seen()
        for at_s in range(part * 90, part * 90 + 90, 3):
            publisher.publish([scrape(source, at_s) for source in sources])
        until(lambda before=before: seen() > before, why=process.log.read_text)
        time.sleep(0.15 * part)
        process.kill()
    process = start(table_flush_s="0.3").until_ready(starts=4)
    for at_s in range(270, 360, 3):
        publisher.publish([scrape(source, at_s) for source in sources])

    def counts() -> list[list[int]]:
        return [features.read().counts(source, 6) for source in sources]

    until(lambda: counts() == [[20] * 6] * 8, why=counts)
    assert features.minute(sources[0], 5).last[0] == 357.0
    assert process.stop() == 0


def published_days(site: str, days: int, until_hour: datetime) -> list[Record]:
    rng = np.random.default_rng(3)
    records: list[Record] = []
    for day in range(days):
        begin = until_hour - timedelta(days=days - day)
        values = 50 + 20 * np.sin(np.arange(24) / 4) + rng.normal(size=24)
        event = EnergySeriesPublished(
            site=site, kind="price_eur_per_mwh", start=begin, values=tuple(values.tolist()), published_at=begin
        )
        records.append(encode(event, source="test", time=begin))
    return records


def test_published_prices_become_a_forecast_that_a_restart_does_not_repeat(bus, start):
    now = datetime.now(UTC)
    bus.publisher(name="p").publish(published_days("rome", 30, now.replace(minute=0, second=0, microsecond=0)))
    process = start().until_ready()
    forecasts = Followed(bus, "forecasts")
    until(lambda: forecasts.read().records, why=process.log.read_text)
    until(lambda: process.get("/v1/forecasts/rome/price_eur_per_mwh")[0] == 200)
    status, forecast = process.get("/v1/forecasts/rome/price_eur_per_mwh")
    assert (status, forecast["model"], len(forecast["mean"])) == (200, "seasonal_naive", 72)
    process.kill()
    start().until_ready(starts=2)
    time.sleep(1.0)
    issued = forecasts.read().records
    hours = 1 + (datetime.now(UTC).hour != now.hour)
    assert 1 <= issued <= hours


def test_an_unreadable_event_goes_to_the_dead_letters_and_the_stream_goes_on(bus, start):
    process = start().until_ready()
    bad = Record("metrics", "poisoned", "poisoned", b'{"source": 5}', scrape("poisoned", 0).headers)
    bus.publisher(name="p").publish([scrape("poisoned", 0), bad, scrape("poisoned", 15)])
    features, dead = Followed(bus, "features"), bus.tail(["deadletters"])
    until(lambda: features.read().counts("poisoned", 1) == [2], why=process.log.read_text)
    parked: list[Received] = []
    until(lambda: parked.extend(dead.read(max_records=10, timeout_s=0.1)) or parked)
    assert parked[0].value == b'{"source": 5}'
    assert dict(parked[0].headers)["dl_topic"] == b"metrics"


def test_windows_move_with_their_partitions_when_replicas_come_and_go(bus, start):
    sources = [f"moved-{number}" for number in range(12)]
    publisher = bus.publisher(name="p")
    features = Followed(bus, "features")
    first = start("0", stall_s="600").until_ready()
    publisher.publish([scrape(source, at_s) for at_s in range(0, 20, 2) for source in sources])
    until(lambda: all(features.read().counts(source, 1) == [10] for source in sources))
    second = start("1", stall_s="600").until_ready()
    until(lambda: second.get("/readyz")[1]["shards"])
    publisher.publish([scrape(source, at_s) for at_s in range(16, 40, 2) for source in sources])  # two repeated
    until(
        lambda: all(features.read().counts(source, 1) == [20] for source in sources),
        why=lambda: [features.counts(source, 1) for source in sources],
    )
    assert first.stop() == 0
    publisher.publish([scrape(source, at_s) for at_s in range(40, 60, 2) for source in sources])
    until(
        lambda: all(features.read().counts(source, 1) == [30] for source in sources),
        why=lambda: [features.counts(source, 1) for source in sources],
    )


def test_windows_are_exact_when_replicas_come_and_go_while_scrapes_are_published(bus, start):
    """Records that arrive in the midst of a hand-over: fetched by one owner, folded by the other, counted once."""
    sources = [f"flowing-{number}" for number in range(12)]
    publisher, features = bus.publisher(name="p"), Followed(bus, "features")
    minutes, sent, done = 3, 0, threading.Event()

    def publish() -> None:
        nonlocal sent
        while not done.wait(0.02) and sent < minutes * 60_00:
            publisher.publish([scrape(source, sent / 100) for source in sources])
            sent += 1

    start("0", stall_s="600").until_ready()
    flow = threading.Thread(target=publish)
    flow.start()
    try:
        for replica in ("1", "2"):
            leaver = start(replica, stall_s="600").until_ready()
            until(lambda leaver=leaver: leaver.get("/readyz")[1]["metrics_partitions"])
            time.sleep(1.0)
            assert leaver.stop() == 0
        time.sleep(18.0)  # the session of the last one expires, and its partitions move
    finally:
        done.set()
        flow.join()

    def counts() -> list[int]:
        features.read()
        return [sum(features.counts(source, minutes)) for source in sources]

    until(lambda: counts() == [sent] * len(sources), why=lambda: (sent, counts()))


def test_a_broker_that_dies_and_comes_back_is_worked_with_again(own_kafka, bus, start):
    process = start().until_ready()
    features = Followed(bus, "features")
    bus.publisher(name="p").publish([scrape("outage", at_s) for at_s in range(0, 30, 3)])
    until(lambda: features.read().counts("outage", 1) == [10], why=process.log.read_text)
    own_kafka.kill()
    time.sleep(2.0)
    own_kafka.start()
    bus.publisher(name="q").publish([scrape("outage", at_s) for at_s in range(27, 60, 3)])  # one repeated
    until(lambda: features.read().counts("outage", 1) == [20], why=process.log.read_text)
    assert process.process.poll() is None
    assert process.stop() == 0


async def test_a_dead_worker_ends_the_process_with_an_error(own_kafka, bus, tmp_path, monkeypatch):
    def break_down(*_: object) -> int:
        raise RuntimeError("a bug in the windows")

    monkeypatch.setattr(PartitionWindows, "fold", break_down)
    bus.publisher(name="p").publish([scrape("breaking", 0)])
    settings = ForecasterSettings(
        kafka_bootstrap_servers=own_kafka.bootstrap_servers, state_dir=str(tmp_path / "state")
    )
    assert await asyncio.wait_for(app.run(settings), 60) == 1


def test_exactly_once_is_refused_at_the_start(tmp_path):
    environment = os.environ | {"SOLYX_FORECASTER_PROCESSING_GUARANTEE": "exactly_once"}
    command = [sys.executable, "-m", "services.forecaster"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert "use at_least_once" in done.stderr
