"""``fairness``: weighted dominant shares of eight unequal tenants on the openb cluster, and what was lent comes back.

The production core alone, under a virtual clock: 1,523 nodes of the openb trace, its pods dealt out to eight tenants so that each
asks for something else (only CPU, shares of GPUs, whole ones, many at once), with weights from 1 to 4; seven always have more
waiting than fits, the eighth asks for little. Dominant shares are compared in every cycle, once the cluster is full and as
long as demand lasts, with progressive filling (Ghodsi et al., NSDI 2011, section 4) on the tenants' mean demands, which
knows nothing of nodes, queues and gangs. The deviation is in parts of the whole cluster.

The same once more with equal weights: then a fifth of the GPUs would be fair for the tenant whose pods need whole nodes, and nodes that small
pods fill are not emptied for it. That deviation has no target; it says how far fair shares are kept without stopping anybody.

Then a lender comes back: a cohort of two, one of which has lent everything; how much of its guarantee it holds after one cycle
and the grace of those who had to go.
"""

from __future__ import annotations

import csv
import heapq
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import matplotlib as mpl
import numpy as np

from benchmarks.packing import NODES, PODS
from services.drm.core import DrmCore
from services.drm.model import WHOLE
from services.drm.quotas import Cohort, Quota, Quotas, Share
from solyx.events import (
    AllocationReleased,
    CostBreakdown,
    DeviceGroup,
    DeviceRequest,
    FinishReason,
    JobAllocated,
    JobFinished,
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
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from rich.console import Console

SITE = "openb"
START = datetime(2026, 1, 1, tzinfo=UTC)
CYCLE_S = 30.0
HOURS = 3.0
MEAN_RUN_S = 5400.0
WARM_UP_S = 1800.0  # the cluster has been full for a while, and nothing that started together ends together any more
BACKLOG = (
    0.1  # of the cluster: what each tenant that always has more has waiting at least; at first as much as all there is
)
MODEST_SHARE = 0.02  # of the cluster: what the eighth tenant asks for in all
GRACE_S = 30.0
SEED = 7


class Tenant(NamedTuple):
    """Who asks for what."""

    name: str
    weight: float
    takes: str  # which pods of the trace
    modest: bool = False


TENANTS = (
    Tenant("cpu", 1, "none"),
    Tenant("cpu-heavy", 2, "none"),
    Tenant("shares", 1, "part"),
    Tenant("shares-heavy", 3, "part"),
    Tenant("whole", 2, "whole"),
    Tenant("whole-heavy", 4, "whole"),
    Tenant("many", 1, "many"),
    Tenant("modest", 2, "whole", modest=True),
)


def measure(console: Console) -> dict[str, float]:
    """Both parts.

    Raises:
        FileNotFoundError: the real data is not beside the checkout.
    """
    nodes, pods = _read_nodes(), _read_pods()
    began = time.perf_counter()
    run = _Run(nodes, pods, TENANTS)
    figures = run.figures(console)
    equal = _Run(nodes, pods, tuple(tenant._replace(weight=1.0) for tenant in TENANTS)).figures(console)
    named = ("largest_deviation", "fair_many", "mean_many", "longest_still_waiting_to_longest_wait")
    figures |= {f"equal_weights_{name}": equal[name] for name in named}
    figures |= _lender(nodes, pods)
    figures["wall_s"] = time.perf_counter() - began
    out = Path(os.environ.get("SOLYX_BENCHMARK_OUT", ".solyx/benchmarks/fairness"))
    out.mkdir(parents=True, exist_ok=True)
    run.draw(out / "shares.png")
    console.print(f"files: {out.resolve()}", highlight=False)
    return figures


# ---------------------------------------------------------------------------------------------------------------- the trace


def _read_nodes() -> tuple[Node, ...]:
    with NODES.open(encoding="utf-8") as file:
        return tuple(
            Node(
                name=row["sn"],
                cpu_milli=int(row["cpu_milli"]),
                memory_bytes=int(row["memory_mib"]) << 20,
                devices=(DeviceGroup(model=row["model"], count=int(row["gpu"])),) if int(row["gpu"]) else (),
            )
            for row in csv.DictReader(file)
        )


def _read_pods() -> dict[str, list[Resources]]:
    """What pods ask for, by the sort of pod. Models are left out: fairness among those who want different things is no question."""
    sorts: dict[str, list[Resources]] = {"none": [], "part": [], "whole": [], "many": []}
    with PODS.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            count, share = int(row["num_gpu"]), int(row["gpu_milli"] or WHOLE)
            sort = "none" if not count else "many" if count > 1 else "whole" if share == WHOLE else "part"
            devices = (DeviceRequest(count=count, share_milli=share),) if count else ()
            memory = int(row["memory_mib"]) << 20
            sorts[sort].append(Resources(cpu_milli=int(row["cpu_milli"]), memory_bytes=memory, devices=devices))
    return sorts


def _amounts(resources: Resources) -> NDArray[np.float64]:
    return np.array([resources.cpu_milli, resources.memory_bytes, resources.gpu_milli], dtype=np.float64)


def _capacity(nodes: Sequence[Node]) -> NDArray[np.float64]:
    gpus = sum(group.count for node in nodes for group in node.devices)
    return np.array(
        [sum(n.cpu_milli for n in nodes), sum(n.memory_bytes for n in nodes), gpus * WHOLE], dtype=np.float64
    )


def progressive_filling(
    demands: Mapping[str, NDArray[np.float64]], weights: Mapping[str, float], asked: Mapping[str, float]
) -> dict[str, float]:
    """Weighted dominant shares where jobs are as fine as sand: all rise together, each until it has what it asks for or needs
    something of which nothing is left.

    ``demands`` are parts of the capacity in any proportion; ``asked`` is the largest dominant share that a tenant can use.
    """
    direction = {name: demand / demand.max() for name, demand in demands.items()}
    shares, rising = dict.fromkeys(demands, 0.0), set(demands)
    left = np.ones(3)
    while rising:
        speed = sum((weights[name] * direction[name] for name in rising), np.zeros(3))
        steps = [left[r] / speed[r] for r in range(3) if speed[r] > 0]
        step = min([*steps, *((asked[name] - shares[name]) / weights[name] for name in rising)])
        left = left - step * speed
        for name in rising:
            shares[name] += step * weights[name]
        empty = left < 1e-9
        rising = {
            name for name in rising if shares[name] < asked[name] - 1e-12 and not (empty & (direction[name] > 0)).any()
        }
    return shares


# ------------------------------------------------------------------------------------------------------------- eight tenants


class _Site:
    """A core, and an actuator that does as it is told."""

    def __init__(self, nodes: tuple[Node, ...], quotas: Quotas) -> None:
        self.core = DrmCore(quotas)
        self.core.fold(SiteObserved(site=SITE, observed_at=START, nodes=nodes))
        self.running: dict[str, JobAllocated] = {}
        self._ends: list[tuple[float, str]] = []
        self._stops: list[tuple[float, AllocationReleased]] = []

    def place(self, job_id: str, tenant: str, spec: JobSpec, now_s: float) -> None:
        at = START + timedelta(seconds=now_s)
        self.core.fold(
            JobPlaced(
                job_id=job_id,
                tenant=tenant,
                spec=spec,
                submitted_at=at,
                site=SITE,
                start_at=at,
                revision=1,
                reason=PlacementReason.ONLY_SITE,
                cost=CostBreakdown(),
                decided_at=at,
            )
        )

    def cycle(self, now_s: float) -> tuple[list[JobAllocated], list[JobAllocated]]:
        """Report what ended, decide; who started and who ended."""
        ended: list[JobAllocated] = []
        while self._ends and self._ends[0][0] <= now_s:
            end_s, job_id = heapq.heappop(self._ends)
            if (allocation := self.running.pop(job_id, None)) is not None:
                ended.append(allocation)
                self._report(allocation, "succeeded", end_s)
        while self._stops and self._stops[0][0] <= now_s:
            stop_s, released = self._stops.pop(0)
            if (allocation := self.running.pop(released.job_id, None)) is not None:
                ended.append(allocation)
                self._report(allocation, "stopped", stop_s)
        started: list[JobAllocated] = []
        for decision in self.core.decide(START + timedelta(seconds=now_s)):
            match decision:
                case JobAllocated():
                    started.append(decision)
                    self.running[decision.job_id] = decision
                    heapq.heappush(self._ends, (now_s + decision.spec.duration_estimate_s, decision.job_id))
                case AllocationReleased(reason="preempted"):
                    self._stops.append((now_s + GRACE_S, decision))
                case _:
                    pass
        return started, ended

    def _report(self, allocation: JobAllocated, status: str, at_s: float) -> None:
        at = START + timedelta(seconds=at_s)
        reason = WorkloadReason.COMPLETED if status == "succeeded" else WorkloadReason.RELEASED
        self.core.fold(
            WorkloadReported(
                job_id=allocation.job_id,
                tenant=allocation.tenant,
                site=SITE,
                revision=1,
                status=status,  # pyright: ignore[reportArgumentType]
                reason=reason,
                at=at,
            )
        )
        if status == "succeeded":
            self.core.fold(
                JobFinished(
                    job_id=allocation.job_id,
                    tenant=allocation.tenant,
                    site=SITE,
                    revision=1,
                    outcome="succeeded",
                    reason=FinishReason.COMPLETED,
                    finished_at=at,
                )
            )


class _Run:
    """Eight tenants for some hours."""

    def __init__(
        self, nodes: tuple[Node, ...], pods: Mapping[str, Sequence[Resources]], tenants: Sequence[Tenant]
    ) -> None:
        self._tenants = tenants
        self._chance = np.random.default_rng(SEED)
        self._pods, self._capacity = pods, _capacity(nodes)
        members = {tenant.name: Quota(weight=tenant.weight) for tenant in self._tenants}
        # The cohort names a resource, so that its quotas count; it has more of it than the site, so that they never bind.
        pool = Share(guaranteed=2 * int(self._capacity[0]))
        self._site = _Site(nodes, Quotas(cohorts={"all": Cohort(cpu_milli=pool, tenants=members)}))
        self._waiting: dict[str, dict[str, float]] = {tenant.name: {} for tenant in self._tenants}  # job → since when
        self._used = {tenant.name: np.zeros(3) for tenant in self._tenants}
        self._waits: dict[str, list[float]] = {tenant.name: [] for tenant in self._tenants}
        self._asked = {t.name: MODEST_SHARE if t.modest else np.inf for t in self._tenants}
        self._open = dict.fromkeys(self._used, 0.0)  # what waits, and of the modest tenant what runs too, as a share
        self._number = 0
        self.times_h: list[float] = []
        self.shares: list[dict[str, float]] = []
        for cycle in range(int(HOURS * 3600 / CYCLE_S)):
            self._step(cycle * CYCLE_S)

    def _step(self, now_s: float) -> None:
        for tenant in self._tenants:
            while self._open[tenant.name] < (MODEST_SHARE if tenant.modest else BACKLOG if now_s else 1.0):
                self._submit(tenant, now_s)
        started, ended = self._site.cycle(now_s)
        for allocation in ended:
            self._use(allocation, -1)
        for allocation in started:
            self._use(allocation, 1)
            self._waits[allocation.tenant].append(now_s - self._waiting[allocation.tenant].pop(allocation.job_id))
        self.times_h.append(now_s / 3600)
        self.shares.append({name: float((used / self._capacity).max()) for name, used in self._used.items()})

    def _submit(self, tenant: Tenant, now_s: float) -> None:
        pods = self._pods[tenant.takes]
        resources = pods[int(self._chance.integers(len(pods)))]
        duration_s = float(max(60.0, self._chance.exponential(MEAN_RUN_S)))
        self._number += 1
        job_id = f"{tenant.name}-{self._number:06}"
        spec = JobSpec(
            name=tenant.name, image="b", resources=resources, duration_estimate_s=duration_s, preemptible=True
        )
        self._site.place(job_id, tenant.name, spec, now_s)
        self._waiting[tenant.name][job_id] = now_s
        self._open[tenant.name] += float((_amounts(resources) / self._capacity).max())

    def _use(self, allocation: JobAllocated, sign: int) -> None:
        tenant, amounts = allocation.tenant, _amounts(allocation.spec.resources)
        self._used[tenant] += sign * amounts
        if sign < 0 if self._asked[tenant] < 1 else sign > 0:
            self._open[tenant] -= float((amounts / self._capacity).max())

    def fair(self) -> dict[str, float]:
        """Progressive filling on the mean demands."""
        means = {
            t.name: np.mean([_amounts(p) for p in self._pods[t.takes]], axis=0) / self._capacity for t in self._tenants
        }
        return progressive_filling(means, {t.name: t.weight for t in self._tenants}, self._asked)

    def figures(self, console: Console) -> dict[str, float]:
        """What was seen after the warm-up."""
        fair = self.fair()
        full = [shares for at_h, shares in zip(self.times_h, self.shares, strict=True) if at_h * 3600 >= WARM_UP_S]
        figures: dict[str, float] = {"jobs": float(self._number)}
        worst = {t.name: max(abs(shares[t.name] - fair[t.name]) for shares in full) for t in self._tenants}
        figures["largest_deviation"] = max(worst.values())
        for tenant in self._tenants:
            figures[f"fair_{tenant.name}"] = fair[tenant.name]
            figures[f"mean_{tenant.name}"] = float(np.mean([shares[tenant.name] for shares in full]))
            figures[f"deviation_{tenant.name}"] = worst[tenant.name]
        now_s = self.times_h[-1] * 3600
        late = {t.name: now_s - min(self._waiting[t.name].values(), default=now_s) for t in self._tenants}
        longest = {t.name: max([*self._waits[t.name], 0.0]) for t in self._tenants}
        ratios = [longest[t.name] / max(CYCLE_S, float(np.mean(self._waits[t.name]))) for t in self._tenants]
        figures["longest_wait_to_mean"] = max(ratios)
        figures["longest_still_waiting_to_longest_wait"] = max(late[n] / max(CYCLE_S, longest[n]) for n in late)
        console.print(f"{self._number:,} jobs of eight tenants in {HOURS:g} h", highlight=False)
        return figures

    def draw(self, path: Path) -> None:
        """Shares over time, the fair ones dashed."""
        mpl.use("Agg")
        import matplotlib.pyplot as plt  # noqa: PLC0415 - after the backend is chosen

        figure, axes = plt.subplots(figsize=(9, 5.5))
        for number, (name, share) in enumerate(self.fair().items()):
            axes.plot(self.times_h, [100 * shares[name] for shares in self.shares], color=f"C{number}", label=name)
            axes.axhline(100 * share, color=f"C{number}", linestyle="--", linewidth=0.8)
        axes.set(xlabel="hours", ylabel="dominant share, % of the cluster (dashed: fair)", ylim=(0, None))
        axes.grid(alpha=0.3)
        axes.legend(loc="upper right", ncols=2)
        figure.savefig(path, dpi=120)
        plt.close(figure)


# ---------------------------------------------------------------------------------------------------------- what was lent


def _lender(nodes: tuple[Node, ...], pods: Mapping[str, Sequence[Resources]]) -> dict[str, float]:
    """A tenant with two fifths of the GPUs guaranteed lends them to another, and then wants as many as it can have."""
    gpus = int(_capacity(nodes)[2])
    guarantee = gpus * 2 // 5
    quota = Quota(gpu_milli=Share(guaranteed=guarantee))
    site = _Site(nodes, Quotas(cohorts={"all": Cohort(reclaim="any", tenants={"lender": quota, "borrower": quota})}))
    chance = np.random.default_rng(SEED)

    def submit(tenant: str, now_s: float, until: int) -> None:
        asked = number = 0
        while asked < until:
            resources = pods["whole"][int(chance.integers(len(pods["whole"])))]
            spec = JobSpec(name=tenant, image="b", resources=resources, duration_estimate_s=36_000, preemptible=True)
            site.place(f"{tenant}-{number}", tenant, spec, now_s)
            asked, number = asked + resources.gpu_milli, number + 1

    def held(tenant: str) -> float:
        return sum(a.spec.resources.gpu_milli for a in site.running.values() if a.tenant == tenant) / guarantee

    submit("borrower", 0.0, gpus)
    site.cycle(0.0)
    lent = held("borrower")
    submit("lender", CYCLE_S, gpus)
    site.cycle(CYCLE_S)  # the one decision
    site.cycle(CYCLE_S + GRACE_S)  # all have stopped
    return {"borrower_held_of_guarantee": lent, "lender_holds_after_one_cycle": held("lender")}
