"""The actuator as its own process on a real broker: killed in the middle of its work, it runs no job twice and loses no end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from devstack.broker import KafkaBroker
from services.actuator.model import Phase
from services.actuator.simulated.run_log import doubled, run_logs
from solyx.bus.kafka import KafkaBus
from solyx.events import Event, WorkloadReported, decode, encode
from solyx.topics import TOPICS
from tests.unit.actuator.actuator_cases import START, allocated, released, route


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    """A broker of our own: the topics' names are fixed, and other tests use the shared one."""
    with KafkaBroker(tmp_path_factory.mktemp("actuator-kafka")) as broker:
        yield broker


class Process:
    """One ``python -m services.actuator``."""

    def __init__(self, broker: KafkaBroker, state_dir: Path) -> None:
        self._log = state_dir / f"actuator-{time.monotonic_ns()}.log"
        environment = {
            **os.environ,
            "SOLYX_KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
            "SOLYX_STATE_DIR": str(state_dir),
            "SOLYX_ACTUATOR_REPLICA": "0",
        }
        with self._log.open("wb") as log:
            self.process = subprocess.Popen([sys.executable, "-m", "services.actuator"], env=environment, stderr=log)

    def logged(self) -> str:
        return self._log.read_text()

    def wait_ready(self) -> None:
        wait_for(lambda: '"ready"' in self.logged(), self.logged)

    def address(self) -> str:
        (port,) = re.findall(r'"port":(\d+)', self.logged())
        return f"http://127.0.0.1:{port}"

    def end(self, number: int) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(30)


def wait_for(condition: Callable[[], bool], failure: Callable[[], str] = lambda: "") -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, failure()
        time.sleep(0.02)


def test_a_killed_actuator_loses_no_end_and_runs_nothing_twice(broker: KafkaBroker, tmp_path: Path):
    jobs = [allocated(f"job-{n}", site=f"site-{n % 6}", duration_s=1.0 + n % 4) for n in range(200)]
    withdrawn = {job.job_id for job in jobs[::10]}
    running: list[Process] = []
    with KafkaBus(broker.bootstrap_servers, client_name="test") as bus:
        bus.ensure_topics(TOPICS)
        publisher, tail = bus.publisher(name="test"), bus.tail(["actuations"])
        told: list[Event] = []

        def publish(*events: Event) -> None:
            publisher.publish([encode(event, source="test", time=START) for event in events])

        def ended() -> int:
            records = tail.read(max_records=1000, timeout_s=0.05)
            told.extend(decode(record.value or b"", record.headers).event for record in records)
            return sum(isinstance(event, WorkloadReported) and event.status != "started" for event in told)

        try:
            running.append(Process(broker, tmp_path))
            running[-1].wait_ready()
            publish(*jobs[:150], route())
            wait_for(lambda: ended() > 0, running[-1].logged)
            running[-1].end(signal.SIGKILL)
            publish(*(released(job.job_id, site=job.site) for job in jobs[:150:10]), *jobs[150:])
            running.append(Process(broker, tmp_path))
            publish(*(released(job.job_id, site=job.site) for job in jobs[150::10]))
            wait_for(lambda: ended() >= len(jobs), running[-1].logged)
            assert httpx.get(f"{running[-1].address()}/readyz").status_code == 200
            metrics = httpx.get(f"{running[-1].address()}/metrics").text
            assert running[-1].end(signal.SIGTERM) == 0
            ended()
        finally:
            for process in running:
                process.end(signal.SIGKILL)
            publisher.close()
            tail.close()

    assert [key for key, count in Counter(event.id for event in told).items() if count > 1] == []
    ends = {
        event.job_id: event.status
        for event in told
        if isinstance(event, WorkloadReported) and event.status != "started"
    }
    assert set(ends) == {job.job_id for job in jobs}
    assert {job for job, status in ends.items() if status == "stopped"} <= withdrawn
    assert all(ends[job.job_id] == "succeeded" for job in jobs if job.job_id not in withdrawn)
    runs = run_logs(tmp_path)
    assert doubled(runs) == []
    assert all(run.phase in {Phase.SUCCEEDED, Phase.STOPPED} for run in runs)
    assert {"paris>oslo.1.applied"} <= {event.id for event in told}
    for name in ("solyx_actuations_total", "solyx_breaker_state", "solyx_target_queue_commands", "solyx_apply_seconds"):
        assert name in metrics


def test_wrong_settings_end_the_process_with_a_message(tmp_path: Path):
    environment = {**os.environ, "SOLYX_ACTUATOR_SIMULATED_FAILURE_RATE": "2", "SOLYX_STATE_DIR": str(tmp_path)}
    ended = subprocess.run(
        [sys.executable, "-m", "services.actuator"], env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert "SIMULATED_FAILURE_RATE" in ended.stderr
