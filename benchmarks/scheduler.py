"""``scheduler``: how fast jobs are placed on nodes, in the core alone and through Kafka.

In the core: one site of 10,000 nodes (32 cores, 256 GiB, every second one with 8 GPUs) is full, and 100,000 jobs of 24 sorts wait
(CPU alone, shares of a GPU, whole GPUs, gangs of 4; three priorities; estimates from one minute to a day; one tenant without quotas). In each
cycle 200 running jobs, drawn at random, are reported finished and as many new ones are placed; ``decide`` releases and admits. A decision is
an event that ``decide`` returns: an allocation, a release, a wait that is explained. Folding is counted in. The same with 1,000 nodes and
the same queue says whether the time of a decision grows with the site.

Through Kafka (``scheduler_through_kafka.py``): jobs are written to the topic ``jobs`` itself, since this measures the schedulers and not the REST
front. CMO and DRM are processes as in production, on a real broker; four sites of 2,500 nodes have room for every job. The rate is
from the first job written to the last allocation on the topic.
"""

from __future__ import annotations

import gc
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.scheduler_through_kafka import measure_kafka
from services.drm.core import DrmCore
from solyx.events import (
    CostBreakdown,
    DeviceGroup,
    DeviceRequest,
    JobAllocated,
    JobPlaced,
    JobSpec,
    Node,
    PlacementReason,
    Resources,
    SiteObserved,
    WorkloadReason,
    WorkloadReported,
)

if TYPE_CHECKING:
    from rich.console import Console

START = datetime(2023, 6, 1, tzinfo=UTC)
GIB = 2**30
NODES, FEWER_NODES = 10_000, 1_000
QUEUED = 100_000
PER_CYCLE = 200
MEASURE_S = 20.0
WARM_UP_CYCLES = 5


def measure(console: Console) -> dict[str, float]:
    """The core on both sizes, then both schedulers through Kafka."""
    few = core_rates(FEWER_NODES, console)
    many = core_rates(NODES, console)
    figures = {f"core_{name}": figure for name, figure in many.items()}
    figures[f"core_us_per_decision_at_{FEWER_NODES}_nodes"] = few["us_per_decision"]
    figures["core_growth"] = many["us_per_decision"] / few["us_per_decision"]
    return figures | measure_kafka(console)


def demands() -> list[tuple[Resources, int, float]]:
    """Resources of one pod, how many pods, and how often: 24 sorts of jobs."""
    sorts: list[tuple[Resources, int, float]] = [
        (Resources(cpu_milli=cpu * 1000, memory_bytes=cpu * memory * GIB), 1, 4.0)
        for cpu in (1, 2, 4, 8)
        for memory in (2, 4, 8)
    ]
    for milli in (200, 300, 500, 800):
        share = (DeviceRequest(share_milli=milli),)
        sorts.append((Resources(cpu_milli=2000, memory_bytes=8 * GIB, devices=share), 1, 4.0))
    for count in (1, 2, 4, 8):
        whole = (DeviceRequest(count=count),)
        sorts.append((Resources(cpu_milli=2000 * count, memory_bytes=16 * count * GIB, devices=whole), 1, 4.0 / count))
    sorts += [(Resources(cpu_milli=cpu * 1000, memory_bytes=16 * GIB), 4, 0.5) for cpu in (4, 16)]
    for count in (2, 8):
        whole = (DeviceRequest(count=count),)
        sorts.append((Resources(cpu_milli=2000 * count, memory_bytes=16 * GIB, devices=whole), 4, 0.25))
    return sorts


class World:
    """One site, its jobs, and a clock that goes on by a second a cycle."""

    def __init__(self, nodes: int, seed: int = 1) -> None:
        self._chance = np.random.default_rng(seed)
        self._sorts = demands()
        often = np.array([sort[2] for sort in self._sorts])
        self._often = often / often.sum()
        self.core = DrmCore()
        self.seconds = 0
        self.jobs = 0
        self.running: list[JobAllocated] = []
        gpus = (DeviceGroup(model="A100", count=8),)
        self.core.fold(
            SiteObserved(
                site="site",
                observed_at=START,
                nodes=tuple(
                    Node(
                        name=f"node-{number:05}",
                        cpu_milli=32_000,
                        memory_bytes=256 * GIB,
                        devices=gpus if number % 2 else (),
                    )
                    for number in range(nodes)
                ),
            )
        )

    @property
    def now(self) -> datetime:
        return START + timedelta(seconds=self.seconds)

    def placements(self, count: int) -> list[JobPlaced]:
        """New jobs."""
        made: list[JobPlaced] = []
        sorts = self._chance.choice(len(self._sorts), size=count, p=self._often).tolist()
        estimates = np.exp(self._chance.uniform(np.log(60), np.log(86_400), size=count)).tolist()
        priorities = self._chance.integers(3, size=count).tolist()
        for sort, estimate, priority in zip(sorts, estimates, priorities, strict=True):
            resources, pods, _ = self._sorts[sort]
            self.jobs += 1
            spec = JobSpec(
                name="job",
                image="image",
                resources=resources,
                parallelism=pods,
                duration_estimate_s=float(round(estimate)),
                priority=priority,
            )
            made.append(
                JobPlaced(
                    job_id=f"job-{self.jobs:07}",
                    tenant="tenant",
                    spec=spec,
                    submitted_at=self.now,
                    site="site",
                    start_at=self.now,
                    revision=1,
                    reason=PlacementReason.LEAST_COST,
                    cost=CostBreakdown(),
                    decided_at=self.now,
                )
            )
        return made

    def ends(self, count: int) -> list[WorkloadReported]:
        """Running jobs that finish, any of them."""
        picks = self._chance.choice(len(self.running), size=min(count, len(self.running)), replace=False)
        reports: list[WorkloadReported] = []
        for index in sorted(picks.tolist(), reverse=True):
            job = self.running[index]
            self.running[index] = self.running[-1]
            self.running.pop()
            reports.append(
                WorkloadReported(
                    job_id=job.job_id,
                    tenant=job.tenant,
                    site=job.site,
                    revision=job.revision,
                    status="succeeded",
                    reason=WorkloadReason.COMPLETED,
                    at=self.now,
                )
            )
        return reports

    def decide(self) -> tuple[int, int]:
        """How many decisions, and how many of them allocations."""
        decisions = self.core.decide(self.now)
        allocated = [decision for decision in decisions if isinstance(decision, JobAllocated)]
        self.running += allocated
        return len(decisions), len(allocated)

    def fill(self) -> None:
        """Place jobs until the queue has its length."""
        waiting = 0
        while waiting < QUEUED:
            batch = self.placements(min(20_000, QUEUED - waiting))
            for event in batch:
                self.core.fold(event)
            waiting += len(batch) - self.decide()[1]
            self.seconds += 1


def core_rates(nodes: int, console: Console, measure_s: float = MEASURE_S) -> dict[str, float]:
    """Decisions and allocations a second on a full site with a long queue, and the time of one decision."""
    world = World(nodes)
    began = time.perf_counter()
    world.fill()
    console.print(
        f"{nodes:,} nodes: {len(world.running):,} jobs run and {QUEUED:,} wait after {time.perf_counter() - began:.0f} s"
    )
    decisions = allocations = cycles = 0
    spent = 0.0
    slowest = 0.0
    gc.collect()
    gc.freeze()
    while spent < measure_s or cycles < 2 * WARM_UP_CYCLES:
        world.seconds += 1
        events = [*world.ends(PER_CYCLE), *world.placements(PER_CYCLE)]
        began = time.perf_counter()
        for event in events:
            world.core.fold(event)
        made, allocated = world.decide()
        cycle_s = time.perf_counter() - began
        cycles += 1
        if cycles > WARM_UP_CYCLES:
            spent, slowest = spent + cycle_s, max(slowest, cycle_s)
            decisions, allocations = decisions + made, allocations + allocated
    gc.unfreeze()
    console.print(
        f"{decisions / spent:,.0f} decisions/s, {allocations / spent:,.0f} of them allocations; "
        f"{1e6 * spent / decisions:.0f} µs a decision, slowest cycle {1000 * slowest:.0f} ms"
    )
    return {
        "decisions_per_s": decisions / spent,
        "allocations_per_s": allocations / spent,
        "us_per_decision": 1e6 * spent / decisions,
        "slowest_cycle_ms": 1000 * slowest,
    }
