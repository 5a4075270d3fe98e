"""Kill -9 every service in turn, and the broker, while jobs flow; then judge the topics alone.

Machines are drained meanwhile, one after the other, and every second batch is of jobs that go on where they were stopped.

The drill is the chaos test's and the benchmark's: what is reported is what was found by ``devstack.checker``, beside the time that
the installation took to finish all jobs.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import TYPE_CHECKING

from benchmarks.installation import Installation, installation, job
from devstack.checker import TOPICS, Findings, check
from devstack.options import SERVICES
from services.actuator.model import Phase
from services.actuator.simulated.run_log import doubled, run_logs
from solyx.events import SIMULATED_CHECKPOINT_LABEL, SIMULATED_DURATION_LABEL, JobFinished, decode

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

JOBS = 5_000
BATCHES = 50
NODES_PER_SITE = 12
SPEED = 600.0
RUN_S = 1200.0  # scenario seconds: two of wall time
SUSPENDABLE: dict[str, object] = {
    "suspendable": True,
    "labels": {SIMULATED_DURATION_LABEL: str(RUN_S), SIMULATED_CHECKPOINT_LABEL: "20"},
}
PAUSE_S = 0.5  # between two batches
KILL_EVERY_S = 3.0
FINISH_WITHIN_S = 240.0


class Drill:
    """What was found, and how it went."""

    def __init__(self, findings: Findings, ran_twice: int, stopped: int, duration_s: float, restarts: int) -> None:
        self.findings, self.ran_twice, self.stopped = findings, ran_twice, stopped
        self.duration_s, self.restarts = duration_s, restarts


def drill(tell: Callable[[str], None], *, jobs: int = JOBS) -> Drill:
    """Submit ``jobs``, kill everything once, wait until all have ended, and judge."""
    failures = {"SOLYX_ACTUATOR_SIMULATED_FAILURE_RATE": "0.02"}
    with installation(
        nodes_per_site=NODES_PER_SITE, speed=SPEED, tell=tell, environment=failures, drains=True
    ) as system:
        began = time.monotonic()
        accepted: list[str] = []

        def submit() -> None:
            for number in range(BATCHES):
                kind = SUSPENDABLE if number % 2 else {}
                batch = [job(seconds=RUN_S, max_delay=6 * 3600) | kind] * (jobs // BATCHES)
                accepted.extend(system.submit(batch, key=f"chaos-{number}"))
                time.sleep(PAUSE_S)

        submitter = threading.Thread(target=submit, name="submit")
        submitter.start()
        _kill_all(system, tell)
        submitter.join(FINISH_WITHIN_S)
        tell(f"{len(accepted)} jobs accepted, everything was killed once")
        _wait_for_the_end(system, len(accepted), tell)
        time.sleep(1.0)  # the last releases follow the last outcomes
        findings = check(system.read_all(TOPICS), accepted=accepted)
        runs = run_logs(system.state / "services")
        return Drill(
            findings,
            len(doubled(runs)),
            sum(run.phase is Phase.STOPPED for run in runs),
            time.monotonic() - began,
            sum(part.restarts for part in system.stack.parts()),
        )


def _kill_all(system: Installation, tell: Callable[[str], None]) -> None:
    for service in SERVICES:
        time.sleep(KILL_EVERY_S)
        process = next(process for process in system.stack.services if process.service == service)
        _wait(lambda process=process: process.pid is not None and process.ready, 60, f"{service} is not up")
        pid = process.pid
        assert pid is not None, "it was up a moment ago"
        tell(f"kill -9 {service}")
        os.kill(pid, signal.SIGKILL)
    time.sleep(KILL_EVERY_S)
    tell("kill -9 kafka")
    broker = system.stack.broker
    assert broker is not None, "the drill starts its own broker"
    killed = broker.pid
    assert killed is not None, "nobody has stopped it"
    os.kill(killed, signal.SIGKILL)
    _wait(lambda: broker.pid not in (None, killed), 60, "the broker did not come back")


def _wait_for_the_end(system: Installation, jobs: int, tell: Callable[[str], None]) -> None:
    tail = system.bus.tail(["placements"])
    ended: set[str] = set()
    deadline = time.monotonic() + FINISH_WITHIN_S
    told = time.monotonic()
    try:
        while len(ended) < jobs and time.monotonic() < deadline:
            for received in tail.read(max_records=5000, timeout_s=0.5):
                if received.value is not None:
                    event = decode(received.value, received.headers).event
                    if isinstance(event, JobFinished):
                        ended.add(event.job_id)
            if time.monotonic() - told > 5:
                told = time.monotonic()
                tell(f"{len(ended)} of {jobs} jobs have ended")
    finally:
        tail.close()


def _wait(condition: Callable[[], bool], seconds: float, message: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(message)
        time.sleep(0.05)


def measure(console: Console) -> dict[str, float]:
    """The drill's figures."""
    result = drill(console.print)
    found = result.findings
    for line in (*found.lost, *found.doubled, *found.exceeded, *found.left_over, *found.unworked):
        console.print(line, highlight=False)
    return {
        "lost": float(len(found.lost)),
        "doubled": float(len(found.doubled) + result.ran_twice),
        "capacity_exceeded": float(len(found.exceeded)),
        "left_over": float(len(found.left_over)),
        "unworked": float(len(found.unworked)),
        "stopped": float(result.stopped),
        "jobs": float(found.jobs),
        "runs": float(found.runs),
        "restarts": float(result.restarts),
        "duration_s": result.duration_s,
    }
