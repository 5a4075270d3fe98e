"""Metric samples into feature windows: a backlog on a real broker, and one forecaster process that works it off.

The whole process is measured, not its inner loop: fetching, JSON, windows (tumbling 60 s, hopping 300 s by 60 s), the table's
changelog, the features that it publishes, and the forecast shards that read those features beside it. Afterwards the features
are read back, and every sample must be counted exactly once.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil

from devstack.broker import KafkaBroker
from devstack.child import free_port
from solyx.bus.kafka import KafkaBus
from solyx.events import MetricsScraped, SeriesWindowed, decode, encode
from solyx.topics import TOPICS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from solyx.events import Record

SOURCES = 20
SERIES = 500  # of each source; one event carries a sample of each
SCRAPES = 900  # of each source, a second of event time apart: 9 million samples in 15 minutes of windows
WARM_UP = 0.1  # share of the samples before the clock starts
WAIT_S = 240.0
SETTLE_S = 3.0  # windows that are still open are published within a second; the clock has stopped by then
_START = datetime(2026, 1, 1, tzinfo=UTC)
_PUBLISH_AT_ONCE = 500


def measure(console: Console) -> dict[str, float]:
    """Run on a broker of its own."""
    with tempfile.TemporaryDirectory(prefix="solyx-metrics-") as directory, KafkaBroker(f"{directory}/kafka") as broker:
        return measure_on(broker.bootstrap_servers, Path(directory), console)


def measure_on(bootstrap_servers: str, directory: Path, console: Console) -> dict[str, float]:
    """Run on a broker without topics yet."""
    with KafkaBus(bootstrap_servers, client_name="benchmark") as bus:
        bus.ensure_topics(TOPICS)
        total = _publish_backlog(bus)
        console.print(f"backlog: {total:,} samples, {SERIES} an event")
        port = free_port()
        started = time.monotonic()
        process = _start(bootstrap_servers, directory, port)
        try:
            figures = _work_off(process, port, total, started)
            time.sleep(SETTLE_S)
        finally:
            process.send_signal(signal.SIGTERM)
            asked = time.monotonic()
            process.wait(30)
        figures["stop_s"] = time.monotonic() - asked
        counted = _counted(bus)
        console.print(f"counted in the windows: {counted:,} of {total:,} samples")
        figures["samples_lost"] = float(max(0, total - counted))
        figures["samples_doubled"] = float(max(0, counted - total))
        return figures


def _records() -> Iterator[Record]:
    rng = np.random.default_rng(1)
    series = tuple(f'node_metric_{number}{{instance="node-{number % 7}"}}' for number in range(SERIES))
    for scrape in range(SCRAPES):
        at = _START + timedelta(seconds=scrape)
        for source in range(SOURCES):
            values = tuple(np.round(rng.gamma(2.0, 10.0, SERIES), 3).tolist())
            event = MetricsScraped(source=f"site-{source}", scraped_at=at, series=series, values=values)
            yield encode(event, source="benchmark", time=at)


def _publish_backlog(bus: KafkaBus) -> int:
    publisher = bus.publisher(name="benchmark")
    batch: list[Record] = []
    for record in _records():
        batch.append(record)
        if len(batch) == _PUBLISH_AT_ONCE:
            publisher.publish(batch)
            batch = []
    publisher.publish(batch)
    publisher.close()
    return SOURCES * SERIES * SCRAPES


def _start(bootstrap_servers: str, directory: Path, port: int) -> subprocess.Popen[bytes]:
    environment = os.environ | {
        "SOLYX_KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
        "SOLYX_STATE_DIR": str(directory / "state"),
        "SOLYX_HTTP_PORT": str(port),
        "SOLYX_LOG_LEVEL": "warning",
    }
    return subprocess.Popen([sys.executable, "-m", "services.forecaster"], env=environment)


def _work_off(process: subprocess.Popen[bytes], port: int, total: int, started: float) -> dict[str, float]:
    """Poll the process's own counters until every sample is in a window that was saved."""
    watched = psutil.Process(process.pid)
    peak_mb, begun, cpu_s = 0.0, (0.0, 0.0), 0.0
    first_s = 0.0
    while time.monotonic() - started < WAIT_S:
        time.sleep(0.05)
        samples = _counter(port, "solyx_forecaster_samples_total")
        now = time.monotonic()
        peak_mb = max(peak_mb, watched.memory_info().rss / 1e6)
        if samples and not first_s:
            first_s = now - started
        if samples >= WARM_UP * total and not begun[0]:
            begun, cpu_s = (now, samples), _cpu_s(watched)
        if samples >= total:
            span_s, folded = now - begun[0], samples - begun[1]
            return {
                "samples_per_s": folded / span_s,
                "events_per_s": folded / SERIES / span_s,
                "cpu_s_per_million_samples": (_cpu_s(watched) - cpu_s) / folded * 1e6,
                "first_samples_s": first_s,
                "rss_peak_mb": peak_mb,
                "features_events": _counter(port, "solyx_forecaster_features_total"),
                "rows_saved": _counter(port, "solyx_forecaster_rows_saved_total"),
            }
        if process.poll() is not None:
            break
    msg = f"the forecaster did not work the backlog off (status {process.poll()})"
    raise TimeoutError(msg)


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _counter(port: int, name: str) -> float:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as response:
            lines = response.read().decode().splitlines()
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return 0.0
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))


def _counted(bus: KafkaBus) -> int:
    """Samples in the latest record of each tumbling window."""
    latest: dict[tuple[str, datetime], int] = {}
    tail = bus.tail(["features"])
    while not tail.caught_up():
        for record in tail.read(max_records=1000, timeout_s=0.5):
            event = decode(record.value or b"", record.headers).event
            if isinstance(event, SeriesWindowed) and event.window_end - event.window_start == timedelta(seconds=60):
                latest[event.source, event.window_start] = sum(event.count)
    tail.close()
    return sum(latest.values())
