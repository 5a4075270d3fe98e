"""From a POST to an allocation and a running workload: start-up, latency on an idle system, sustained rate, records/s, memory.

Latency and rate use the broker's record timestamps (the producers' wall clock, milliseconds) against the wall clock at the POST, all
on one machine.
"""

from __future__ import annotations

import json
import re
import threading
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import numpy as np
import psutil

from benchmarks.installation import Installation, installation, job
from solyx.clock import wall_s
from solyx.events import JobAllocated, WorkloadReported, decode

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from solyx.bus.port import Received

NODES_PER_SITE = 400  # so that rate, not capacity, is measured: nothing waits for room
SPEED = 60.0
SINGLE_JOBS = 200
WARM_UP_JOBS = 6_000
LOAD_JOBS = 60_000
BATCH = 2_000
RUN_S = 60.0  # scenario seconds a job runs: one second of wall time
SETTLE_S = 2.0
WAIT_S = 180.0


def measure(console: Console) -> dict[str, float]:
    """Run all parts on one installation."""
    with installation(nodes_per_site=NODES_PER_SITE, speed=SPEED, tell=console.print) as system:
        console.print(f"ready after {system.startup_s:.1f} s")
        figures = {"startup_s": system.startup_s}
        time.sleep(SETTLE_S)
        figures |= _idle_latency(system, console)
        _load(system, WARM_UP_JOBS, console)  # caches, JIT of the broker, first growth of every table
        before, cpu_before = _records(system), _cpu_s(system)
        load = _load(system, LOAD_JOBS, console)
        after, cpu_after = _records(system), _cpu_s(system)
        figures |= load
        figures["read_model_catch_up_s"] = _catch_up_s(system)
        for name, spent in cpu_after.items():
            figures[f"cpu_us_per_job_{name}"] = (spent - cpu_before.get(name, 0.0)) / LOAD_JOBS * 1e6
        for service, count in after.items():
            figures[f"records_per_s_{service}"] = (count - before.get(service, 0.0)) / load["load_s"]
        time.sleep(SETTLE_S)
        for part in system.stack.parts():
            figures[f"rss_mb_{part.name}"] = part.peak_mb
        figures["rss_total_mb"] = system.stack.peak_mb
        return figures


def _idle_latency(system: Installation, console: Console) -> dict[str, float]:
    """One job at a time; the next when the last runs."""
    tail = system.bus.tail(["actuations"], at_end=True)
    latencies_ms: list[float] = []
    try:
        for number in range(SINGLE_JOBS + 5):
            posted = wall_s()
            job_id = system.submit_one(job(seconds=RUN_S))
            deadline = time.monotonic() + WAIT_S
            while (started := _started(tail.read(max_records=100, timeout_s=0.1), job_id)) is None:
                if time.monotonic() > deadline:
                    msg = f"{job_id} did not run within {WAIT_S:.0f} s"
                    raise TimeoutError(msg)
            if number >= 5:
                latencies_ms.append(started - posted * 1000)
    finally:
        tail.close()
    p50, p99 = np.percentile(latencies_ms, [50, 99])
    console.print(f"{SINGLE_JOBS} single jobs: p50 {p50:.0f} ms, p99 {p99:.0f} ms to running")
    return {"post_to_running_p50_ms": float(p50), "post_to_running_p99_ms": float(p99)}


def _started(records: Sequence[Received], job_id: str) -> float | None:
    for received in records:
        if received.value is None or not received.key.endswith(job_id):
            continue
        event = decode(received.value, received.headers).event
        if isinstance(event, WorkloadReported) and event.status == "started":
            return float(received.timestamp_ms)
    return None


def _load(system: Installation, jobs: int, console: Console) -> dict[str, float]:
    """Submit as fast as the API takes it, until every job is allocated."""
    tail = system.bus.tail(["allocations"], at_end=True)
    posted_ms: dict[str, float] = {}
    allocated_ms: dict[str, float] = {}
    began = wall_s()

    def submit() -> None:
        batch = [job(seconds=RUN_S)] * BATCH
        for _ in range(jobs // BATCH):
            sent = wall_s() * 1000
            posted_ms.update(dict.fromkeys(system.submit(batch), sent))

    submitter = threading.Thread(target=submit, name="submit")
    submitter.start()
    deadline = time.monotonic() + WAIT_S
    try:
        while submitter.is_alive() or len(allocated_ms) < len(posted_ms):
            for received in tail.read(max_records=5000, timeout_s=0.2):
                if received.value is None or b"job.allocated" not in dict(received.headers)["ce_type"]:
                    continue
                event = decode(received.value, received.headers).event
                if isinstance(event, JobAllocated):
                    allocated_ms.setdefault(event.job_id, float(received.timestamp_ms))
            if time.monotonic() > deadline:
                msg = f"{len(allocated_ms)} of {len(posted_ms)} jobs were allocated within {WAIT_S:.0f} s"
                raise TimeoutError(msg)
    finally:
        submitter.join()
        tail.close()
    elapsed_s = max(allocated_ms.values()) / 1000 - began
    latencies = [allocated_ms[job_id] - posted_ms[job_id] for job_id in posted_ms]
    p50, p99 = np.percentile(latencies, [50, 99])
    console.print(f"{jobs} jobs in {elapsed_s:.1f} s: {jobs / elapsed_s:,.0f} jobs/s to allocation")
    return {
        "jobs_per_s": jobs / elapsed_s,
        "load_s": elapsed_s,
        "submit_to_allocation_p50_ms": float(p50),
        "submit_to_allocation_p99_ms": float(p99),
    }


def _catch_up_s(system: Installation) -> float:
    """How long the gateway's read model is behind after the last allocation of a load."""
    began = time.monotonic()
    port = next(process.port for process in system.stack.services if process.service == "gateway")
    while time.monotonic() - began < WAIT_S:
        try:
            answer = urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=10)
        except (
            urllib.error.HTTPError
        ) as not_ready:  # under such a load it may be for a moment; it tells its lag all the same
            answer = not_ready
        with answer:
            if json.load(answer).get("lag_records") == 0:
                return time.monotonic() - began
        time.sleep(0.1)
    msg = f"the read model was still behind after {WAIT_S:.0f} s"
    raise TimeoutError(msg)


def _cpu_s(system: Installation) -> dict[str, float]:
    """Processor time that each process of the installation has used, children included."""
    spent = {"benchmark": time.process_time()}
    for name, pid in system.stack.pids().items():
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        spent[name] = sum(times.user + times.system for times in (process.cpu_times() for process in family))
    return spent


def _records(system: Installation) -> Mapping[str, float]:
    """Records that each service has folded, from its metrics."""
    counts: dict[str, float] = {}
    for process in system.stack.services:
        with urllib.request.urlopen(f"http://127.0.0.1:{process.port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        samples = re.findall(r"^solyx_(?:\w+_)?records_total\{[^}]*\} (\S+)", text, re.MULTILINE)
        if samples:
            counts[process.service] = sum(map(float, samples))
    return counts
