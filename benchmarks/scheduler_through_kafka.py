"""The two schedulers on a real broker, and nothing else: jobs in, allocations out."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import psutil

from benchmarks.installation import services_alone
from solyx.clock import wall_s
from solyx.events import (
    DeviceGroup,
    DeviceRequest,
    JobSpec,
    JobSubmitted,
    Node,
    Resources,
    SiteObserved,
    encode,
)

if TYPE_CHECKING:
    from rich.console import Console

    from devstack.service import ServiceProcess
    from solyx.bus.kafka import KafkaBus
    from solyx.bus.port import Tail

SERVICES = ("cmo", "drm")
SITES = 4
NODES_PER_SITE = 2_500
WARM_UP_JOBS = 10_000
JOBS = 50_000
BATCH = 2_000
GIVE_UP_S = 180.0
GIB = 2**30
SORTS = (  # all jobs together take little more than half of one site: nothing waits for room, wherever it is placed
    *(Resources(cpu_milli=cpu, memory_bytes=memory * GIB) for cpu in (500, 1000) for memory in (1, 2, 3)),
    *(
        Resources(cpu_milli=500, memory_bytes=2 * GIB, devices=(DeviceRequest(share_milli=share),))
        for share in (200, 300, 500)
    ),
)


def measure_kafka(console: Console) -> dict[str, float]:
    """Jobs a second from the topic ``jobs`` to the topic ``allocations``, after a warm-up."""
    now = datetime.fromtimestamp(wall_s(), UTC)
    sites = [_site(f"site-{number}", now) for number in range(SITES)]  # with room for every job
    with services_alone(SERVICES, sites) as (bus, processes):
        tail = bus.tail(["allocations"], at_end=True)
        try:
            _load(bus, tail, "warm-up", WARM_UP_JOBS)
            before = [_cpu_s(process) for process in processes]
            latencies_s, elapsed_s = _load(bus, tail, "job", JOBS)
            after = [_cpu_s(process) for process in processes]
        finally:
            tail.close()
    console.print(f"{JOBS:,} jobs in {elapsed_s:.1f} s through Kafka: {JOBS / elapsed_s:,.0f} jobs/s to allocation")
    spent = {
        f"cpu_us_per_job_{p.service}": 1e6 * (b - a) / JOBS for p, a, b in zip(processes, before, after, strict=True)
    }
    p50, p99 = np.percentile(latencies_s, [50, 99])
    return {"kafka_jobs_per_s": JOBS / elapsed_s, "kafka_p50_s": float(p50), "kafka_p99_s": float(p99)} | spent


def _site(name: str, now: datetime) -> SiteObserved:
    gpus = (DeviceGroup(model="A100", count=8),)
    nodes = tuple(
        Node(name=f"n{n}", cpu_milli=32_000, memory_bytes=256 * GIB, devices=gpus if n % 2 else ())
        for n in range(NODES_PER_SITE)
    )
    return SiteObserved(site=name, observed_at=now, nodes=nodes)


def _load(bus: KafkaBus, tail: Tail, name: str, jobs: int) -> tuple[list[float], float]:
    """Write jobs as fast as they go; seconds to allocation of each, and from the first write to the last allocation."""
    written_s: dict[str, float] = {}
    allocated_s: dict[str, float] = {}
    began_s = wall_s()

    def write() -> None:
        publisher = bus.publisher(name=name)
        for start in range(0, jobs, BATCH):
            at_s = wall_s()
            ids = [f"{name}-{number:06}" for number in range(start, min(start + BATCH, jobs))]
            written_s.update(dict.fromkeys(ids, at_s))
            at = datetime.fromtimestamp(at_s, UTC)
            publisher.publish([encode(_job(job_id, at), source="benchmark", time=at) for job_id in ids])
        publisher.close()

    writer = threading.Thread(target=write, name="write")
    writer.start()
    deadline = time.monotonic() + GIVE_UP_S
    try:
        while len(allocated_s) < jobs:
            for received in tail.read(max_records=5000, timeout_s=0.2):
                if b"job.allocated" in dict(received.headers).get("ce_type", b""):
                    allocated_s.setdefault(received.key.rpartition("/")[2], received.timestamp_ms / 1000)
            if time.monotonic() > deadline:
                message = f"{len(allocated_s)} of {jobs} jobs were allocated within {GIVE_UP_S:.0f} s"
                raise TimeoutError(message)
    finally:
        writer.join()
    return [allocated_s[job_id] - at_s for job_id, at_s in written_s.items()], max(allocated_s.values()) - began_s


def _job(job_id: str, at: datetime) -> JobSubmitted:
    number = int(job_id.rpartition("-")[2])
    spec = JobSpec(
        name="job",
        image="image",
        resources=SORTS[number % len(SORTS)],
        duration_estimate_s=3600.0,
        max_delay_s=0.0,
    )
    return JobSubmitted(job_id=job_id, tenant="tenant", spec=spec, submitted_at=at)


def _cpu_s(process: ServiceProcess) -> float:
    assert process.pid is not None
    times = psutil.Process(process.pid).cpu_times()
    return times.user + times.system
