"""Kueue's scalability workload in real time, through Kafka, the CMO, the DRM and the actuator with its simulated cluster.

The workload is published with Kueue (its repository, test/performance/scheduler/configs/baseline): cohorts of queues with
equal quotas that lend to each other, lower priorities of a queue make room for higher ones, and what was lent is returned
whatever its priority. Queues are tenants here; a unit is a CPU. The large configuration has changed over time: here it is
1,000 queues in 10 cohorts with 50 workloads each in the proportions of the smaller one, with the run times and intervals
of the large one. Kueue's runner has no nodes, only quotas; here one node holds as much as all quotas together.

Workloads are published on ``jobs`` in the moment they are due, as the gateway would. What is measured is read from the topics.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from benchmarks.installation import services_alone
from services.drm.quotas import Cohort, Quota, Quotas, Share
from solyx.bus.port import Received
from solyx.clock import wall_s
from solyx.events import (
    AllocationReleased,
    Event,
    JobAllocated,
    JobFinished,
    JobSpec,
    JobSubmitted,
    Node,
    Resources,
    SiteObserved,
    WorkloadReported,
    decode,
    encode,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console

    from solyx.bus.kafka import KafkaBus
    from solyx.bus.port import Tail
    from solyx.events import Record

SITE = "kueue"
SERVICES = ("cmo", "drm", "actuator")
QUOTA_UNITS, BORROWING_LIMIT = 20, 100
GIVE_UP_S = 420.0
REPORT_EVERY_S = 10.0
SETTLE_S = 1.0
PUBLISH_AT_MOST = 500  # at once
LEAD_S = 2.0  # between the first look at the clock and the first workload
_UNIT = 1000  # CPU, in thousandths


@dataclass(frozen=True, kw_only=True)
class Class:
    """Equal workloads that each queue gets."""

    name: str
    count: int
    interval_s: float
    run_s: float
    priority: int
    units: int


@dataclass(frozen=True, kw_only=True)
class Load:
    """Cohorts of queues, and what each queue gets."""

    cohorts: int
    queues: int  # of each cohort
    classes: tuple[Class, ...]
    kueue_s: tuple[float, ...]  # what Kueue takes: in its own CI, and here if it was built

    @property
    def units(self) -> int:
        """The quotas of all queues."""
        return self.cohorts * self.queues * QUOTA_UNITS

    @property
    def work_s(self) -> float:
        """What the work takes at full quota."""
        return sum(c.count * c.run_s * c.units for c in self.classes) / QUOTA_UNITS

    def quotas(self) -> Quotas:
        """As the DRM is told."""
        share = Share(guaranteed=QUOTA_UNITS * _UNIT, borrow=BORROWING_LIMIT * _UNIT)
        return Quotas(
            cohorts={
                f"cohort-{cohort}": Cohort(
                    reclaim="any",
                    tenants={f"queue-{cohort}-{queue}": Quota(cpu_milli=share) for queue in range(self.queues)},
                )
                for cohort in range(self.cohorts)
            }
        )

    def arrivals(self) -> Iterator[tuple[float, str, str, Class]]:
        """Second, job id, tenant and class of every workload, in order."""
        found = [
            (number * kind.interval_s, f"{kind.name}-{cohort}-{queue}-{number}", f"queue-{cohort}-{queue}", kind)
            for kind in self.classes
            for number in range(kind.count)
            for cohort in range(self.cohorts)
            for queue in range(self.queues)
        ]
        return iter(sorted(found, key=lambda arrival: arrival[:2]))


BASELINE = Load(
    cohorts=5,
    queues=6,
    classes=(
        Class(name="small", count=350, interval_s=0.1, run_s=0.2, priority=50, units=1),
        Class(name="medium", count=100, interval_s=0.5, run_s=0.5, priority=100, units=5),
        Class(name="large", count=50, interval_s=1.2, run_s=1.0, priority=200, units=20),
    ),
    kueue_s=(351.1, 388.0),
)
LARGE = Load(
    cohorts=10,
    queues=100,
    classes=(
        Class(name="small", count=35, interval_s=0.02, run_s=0.05, priority=50, units=1),
        Class(name="medium", count=10, interval_s=0.05, run_s=0.1, priority=100, units=5),
        Class(name="large", count=5, interval_s=0.2, run_s=0.2, priority=200, units=20),
    ),
    kueue_s=(1179.0,),
)


def measure(console: Console) -> dict[str, float]:
    """The baseline: 15,000 workloads."""
    return _measure(BASELINE, console)


def measure_large(console: Console) -> dict[str, float]:
    """The large configuration: 50,000 workloads."""
    return _measure(LARGE, console)


def _measure(load: Load, console: Console) -> dict[str, float]:
    now = datetime.fromtimestamp(wall_s(), UTC)
    node = Node(name="all", cpu_milli=load.units * _UNIT, memory_bytes=2**50)
    site = SiteObserved(site=SITE, observed_at=now, nodes=(node,))
    with tempfile.TemporaryDirectory(prefix="solyx-admission-") as name:
        quotas = Path(name, "quotas.json")
        quotas.write_bytes(msgspec.json.encode(load.quotas()))
        with services_alone(SERVICES, [site], {"SOLYX_DRM_QUOTAS_FILE": str(quotas)}) as (bus, _):
            return _watched(load, bus, console)


def _watched(load: Load, bus: KafkaBus, console: Console) -> dict[str, float]:
    tail = bus.tail(["allocations", "actuations", "placements"], at_end=True)
    try:
        return _run(load, bus, tail, console)
    finally:
        tail.close()


# ------------------------------------------------------------------------------------------------------------- the workload


@dataclass(kw_only=True)
class Seen:
    """What the topics say of the workloads."""

    due_s: dict[str, float] = field(default_factory=dict)  # when it was to be published; Unix time
    kind: dict[str, Class] = field(default_factory=dict)
    admitted_s: dict[str, float] = field(default_factory=dict)  # first
    holds: dict[str, float] = field(default_factory=dict)  # since when it holds its quota
    held: dict[str, float] = field(default_factory=dict)  # unit seconds, by class
    preempted: Counter[str] = field(default_factory=Counter)  # by class
    finished: dict[str, str] = field(default_factory=dict)
    last_s: float = 0.0
    latencies_s: dict[str, list[float]] = field(default_factory=dict)  # of the steps of a run
    ended_s: dict[str, float] = field(default_factory=dict)

    def take(self, event: Event) -> None:
        """Take note of one."""
        match event:
            case JobAllocated(job_id=job_id):
                self.admitted_s.setdefault(job_id, event.decided_at.timestamp())
                self.holds[job_id] = event.decided_at.timestamp()
            case AllocationReleased(job_id=job_id):
                if event.reason == "preempted":
                    self.preempted[self.kind[job_id].name] += 1
                else:
                    self._ends(job_id, event.decided_at.timestamp())
                    if job_id in self.ended_s:
                        self._step("ended_to_released", event.decided_at.timestamp() - self.ended_s.pop(job_id))
            case WorkloadReported(job_id=job_id, status="started"):
                began_s = (event.started_at or event.at).timestamp()
                self._step("allocated_to_running", began_s - self.holds.get(job_id, began_s))
            case WorkloadReported(job_id=job_id, status="stopped"):
                self._ends(job_id, event.at.timestamp())
            case WorkloadReported(job_id=job_id):
                self.ended_s[job_id] = event.at.timestamp()
            case JobFinished(job_id=job_id):
                self.finished[job_id] = event.outcome
                self.last_s = max(self.last_s, event.finished_at.timestamp())
            case _:
                pass

    def _ends(self, job_id: str, at_s: float) -> None:
        since_s = self.holds.pop(job_id, at_s)
        kind = self.kind[job_id]
        self.held[kind.name] = self.held.get(kind.name, 0.0) + max(0.0, at_s - since_s) * kind.units

    def _step(self, name: str, seconds: float) -> None:
        self.latencies_s.setdefault(name, []).append(seconds)


def _run(load: Load, bus: KafkaBus, tail: Tail, console: Console) -> dict[str, float]:
    """Publish what is due and count what has finished; what was said in between is looked at afterwards."""
    seen, records = Seen(), list[Received]()
    began_s = wall_s() + LEAD_S
    arrivals = [(began_s + due_s, job_id, tenant, kind) for due_s, job_id, tenant, kind in load.arrivals()]
    publisher = threading.Thread(target=_publish_when_due, args=(bus, arrivals), name="publish")
    publisher.start()
    finished, told_s = 0, began_s
    while finished < len(arrivals):
        for received in tail.read(max_records=10_000, timeout_s=0.1):
            records.append(received)
            finished += (b"job.finished" in dict(received.headers)["ce_type"]) if received.value is not None else 0
        now_s = wall_s()
        if now_s - told_s > REPORT_EVERY_S:
            told_s = now_s
            console.print(f"{now_s - began_s:.0f} s: {finished:,} of {len(arrivals):,} have finished")
        if now_s - began_s > GIVE_UP_S:
            break
    publisher.join()
    time.sleep(SETTLE_S)  # the last releases follow the last outcomes
    records.extend(tail.read(max_records=10_000, timeout_s=0.5))
    for due_s, job_id, _, kind in arrivals:
        seen.due_s[job_id], seen.kind[job_id] = due_s, kind
    for received in records:
        if received.value is not None:
            seen.take(decode(received.value, received.headers).event)
    return _figures(load, seen, began_s, console)


def _publish_when_due(bus: KafkaBus, arrivals: Sequence[tuple[float, str, str, Class]]) -> None:
    publisher = bus.publisher(name="benchmark")
    position = 0
    while position < len(arrivals):
        now_s = wall_s()
        due: list[Record] = []
        while position < len(arrivals) and arrivals[position][0] <= now_s and len(due) < PUBLISH_AT_MOST:
            due_s, job_id, tenant, kind = arrivals[position]
            due.append(_submission(job_id, tenant, kind, datetime.fromtimestamp(due_s, UTC)))
            position += 1
        if due:
            publisher.publish(due)
        else:
            time.sleep(min(0.01, max(0.0, arrivals[position][0] - now_s)))
    publisher.close()


def _figures(load: Load, seen: Seen, began_s: float, console: Console) -> dict[str, float]:
    total_s = seen.last_s - began_s
    succeeded = sum(outcome == "succeeded" for outcome in seen.finished.values())
    figures = {
        "time_s": total_s,
        "unfinished": float(len(seen.due_s) - succeeded),
        "kueue_best_s": min(load.kueue_s),
        "kueue_worst_s": max(load.kueue_s),
        "times_kueue_at_its_best": min(load.kueue_s) / total_s,
        "work_at_full_quota_s": load.work_s,
        "quota_held": sum(seen.held.values()) / load.units / total_s,
        "quota_worked": load.work_s / total_s,
    }
    for kind in load.classes:
        ids = [job_id for job_id, its in seen.kind.items() if its is kind and job_id in seen.admitted_s]
        figures[f"wait_mean_s_{kind.name}"] = float(np.mean([seen.admitted_s[i] - seen.due_s[i] for i in ids] or [0.0]))
        figures[f"preempted_{kind.name}"] = float(seen.preempted[kind.name])
    for name, latencies_s in seen.latencies_s.items():
        figures[f"{name}_p50_ms"], figures[f"{name}_p95_ms"] = (
            float(ms) for ms in np.percentile(latencies_s, [50, 95]) * 1000
        )
    console.print(f"{succeeded:,} of {len(seen.due_s):,} workloads succeeded in {total_s:.1f} s")
    return figures


def _submission(job_id: str, tenant: str, kind: Class, at: datetime) -> Record:
    spec = JobSpec(
        name=kind.name,
        image="benchmark",
        resources=Resources(cpu_milli=kind.units * _UNIT, memory_bytes=0),
        duration_estimate_s=kind.run_s,
        max_delay_s=0.0,
        priority=kind.priority,
        preemptible=True,
        grace_period_s=0.0,
        allowed_sites=(SITE,),
    )
    return encode(JobSubmitted(job_id=job_id, tenant=tenant, spec=spec, submitted_at=at), source="benchmark", time=at)
