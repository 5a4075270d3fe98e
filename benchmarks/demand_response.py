"""``demand_response``: a quarter of a site's power shed within 30 s and held for 3 h, and the work restored after.

The production cores of CMO and DRM under a virtual clock, one second a step around the window's edges, with an actuator that stops work
as a cluster does: it is told after the services' latency and takes the job's own time to write its checkpoint. Sizes and goal are those
of the best published field trial: 256 GPUs, 25 % for 3 h. Half of the runs are told of the event a quarter of an hour ahead, half
of them when the window begins. What is measured is what the actuator runs, not what the CMO believes.
"""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from services.cmo.core import CmoCore
from services.cmo.model import Policy
from services.drm.core import DrmCore
from solyx.energy import cores_of, gpus_of
from solyx.events import (
    AllocationReleased,
    DemandResponseReported,
    DeviceGroup,
    DeviceRequest,
    EnergySeriesPublished,
    GridEventAnnounced,
    JobAllocated,
    JobFinished,
    JobSpec,
    JobSubmitted,
    Node,
    PowerModel,
    Resources,
    SiteObserved,
    WorkloadReason,
    WorkloadReported,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rich.console import Console

    from solyx.events import Event

SEEDS = range(10)
T0 = datetime(2026, 3, 2, tzinfo=UTC)
HOUR_S = 3600.0
SHARE = 0.25  # of the site's power that is asked for
WINDOW_START_S, WINDOW_S = 6 * HOUR_S, 3 * HOUR_S
NOTICE_S = 900.0
TO_CAP_S = 30.0
END_S = 36 * HOUR_S
LATENCY_S = (
    1.0  # from a decision of the CMO to the cluster's being told: a job's way to running has a p99 of 1.5 s at most
)
CHECKPOINT_S = (2.0, 20.0)  # to write one
RESTART_S = 60.0
RESTORED_AFTER_S = 1800.0
SITE, OTHER = "phoenix", "omaha"
POWER = PowerModel(idle_w_per_node=1200.0, w_per_core=0.0, w_per_gpu=400.0, pue=1.2)


@dataclass(slots=True)
class Running:
    """What a cluster runs."""

    allocated: JobAllocated
    spec: JobSpec
    start_s: float
    stopping: bool = False


@dataclass(slots=True)
class Line:
    """CMO, DRM and clusters; events go round until nobody has anything to say."""

    cmo: CmoCore
    drm: DrmCore = field(default_factory=DrmCore)
    random: random.Random = field(default_factory=lambda: random.Random(0))
    running: dict[str, Running] = field(default_factory=dict[str, Running])
    finished: dict[str, JobFinished] = field(default_factory=dict[str, JobFinished])
    responses: list[DemandResponseReported] = field(default_factory=list[DemandResponseReported])
    power: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])  # of the site, from a moment on
    now_s: float = 0.0
    _heap: list[tuple[float, int, Callable[[], Iterable[Event]]]] = field(
        default_factory=list[tuple[float, int, "Callable[[], Iterable[Event]]"]]
    )
    _serial: int = 0

    def at(self, at_s: float, happens: Callable[[], Iterable[Event]]) -> None:
        """Something that happens then; what it returns is read by both cores."""
        self._serial += 1
        heapq.heappush(self._heap, (at_s, self._serial, happens))

    def run(self, until_s: float) -> None:
        """Everything up to a moment."""
        while self._heap and self._heap[0][0] <= until_s:
            self.now_s = self._heap[0][0]
            inbox: list[Event] = []
            while self._heap and self._heap[0][0] == self.now_s:
                inbox.extend(heapq.heappop(self._heap)[2]())
            self._settle(inbox)
            self.power.append((self.now_s, self.power_w()))

    def power_w(self) -> float:
        """Of the site, as a meter would see it."""
        here = [run.spec for run in self.running.values() if run.allocated.site == SITE]
        return POWER.idle_w(nodes=NODES[SITE]) + sum(
            POWER.dynamic_w(cores=cores_of(spec), gpus=gpus_of(spec)) for spec in here
        )

    def _settle(self, inbox: list[Event]) -> None:
        now = at(self.now_s)
        while True:
            for event in inbox:
                self.cmo.fold(event)
                self.drm.fold(event)
            decided = self.cmo.decide(now)
            for event in decided:
                self.drm.fold(event)
                if isinstance(event, JobFinished):
                    self.finished[event.job_id] = event
                elif isinstance(event, DemandResponseReported):
                    self.responses.append(event)
            allocations = self.drm.decide(now)
            for event in allocations:
                self.cmo.fold(event)
                self._apply(event)
            inbox = []
            if not decided and not allocations:
                return

    # Clusters --------------------------------------------------------------------------------------------------------

    def _apply(self, event: Event) -> None:
        match event:
            case JobAllocated():
                self.at(self.now_s + LATENCY_S, lambda: self._start(event))
            case AllocationReleased() if event.reason.stops:
                self.at(self.now_s + LATENCY_S, lambda: self._stop(event))
            case _:
                pass

    def _start(self, event: JobAllocated) -> list[Event]:
        run = self.running[event.job_id] = Running(event, event.spec, self.now_s)
        left_s = float(event.spec.labels["true_s"]) - event.progress_s + (RESTART_S if event.progress_s else 0.0)
        self.at(self.now_s + left_s, lambda: self._end(run, "succeeded"))
        return [_report(event, "started", self.now_s, self.now_s, event.progress_s)]

    def _stop(self, event: AllocationReleased) -> list[Event]:
        run = self.running.get(event.job_id)
        if run is None or run.allocated.revision != event.revision:
            return [_report(event, "stopped", self.now_s, None, 0.0)]
        run.stopping = True
        takes_s = self.random.uniform(*CHECKPOINT_S) if run.spec.suspendable else 1.0
        self.at(self.now_s + min(takes_s, run.spec.grace_period_s), lambda: self._end(run, "stopped"))
        return []

    def _end(self, run: Running, status: str) -> list[Event]:
        event = run.allocated
        if self.running.get(event.job_id) is not run or (run.stopping and status == "succeeded"):
            return []
        del self.running[event.job_id]
        kept_s = 0.0
        if run.spec.suspendable:
            repeated_s = RESTART_S if event.progress_s else 0.0
            kept_s = event.progress_s + max(0.0, self.now_s - run.start_s - repeated_s)
        return [_report(event, status, self.now_s, run.start_s, kept_s)]


def at(at_s: float) -> datetime:
    """The time of a moment."""
    return T0 + timedelta(seconds=at_s)


def _report(
    event: JobAllocated | AllocationReleased, status: str, now_s: float, started_s: float | None, progress_s: float
) -> WorkloadReported:
    reasons = {"started": WorkloadReason.APPLIED, "succeeded": WorkloadReason.COMPLETED}
    return WorkloadReported(
        job_id=event.job_id,
        tenant=event.tenant,
        site=event.site,
        revision=event.revision,
        status=status,  # pyright: ignore[reportArgumentType]
        reason=reasons.get(status, WorkloadReason.RELEASED),
        started_at=None if started_s is None else at(started_s),
        progress_s=progress_s,
        at=at(now_s),
    )


# The world -----------------------------------------------------------------------------------------------------------

NODES = {SITE: 32, OTHER: 8}


def world() -> list[Event]:
    """Two sites of eight-GPU nodes, one of them full of work; one price for both."""
    events: list[Event] = []
    for name, count in NODES.items():
        nodes = tuple(
            Node(name=f"n{n}", cpu_milli=96_000, memory_bytes=1 << 40, devices=(DeviceGroup(model="A100", count=8),))
            for n in range(count)
        )
        events.append(SiteObserved(site=name, observed_at=T0, nodes=nodes, power=POWER, egress_eur_per_gib=0.02))
        for kind, value in (("price_eur_per_mwh", 60.0), ("carbon_gco2_per_kwh", 300.0)):
            events.append(
                EnergySeriesPublished(
                    site=name,
                    kind=kind,  # pyright: ignore[reportArgumentType]
                    start=T0 - timedelta(days=1),
                    values=(value,) * 96,
                    published_at=T0,
                )
            )
    return events


def workload(chance: random.Random) -> list[JobSubmitted]:
    """A day of jobs, a little more than the site holds: a quarter protected, most of these with a deadline."""
    jobs: list[JobSubmitted] = []
    for n in range(260):
        kind = chance.choices(("protected", "suspendable", "preemptible"), (0.25, 0.55, 0.2))[0]
        true_s = chance.uniform(1, 9) * HOUR_S
        arrives_s = chance.uniform(0, 3) * HOUR_S if n < 110 else chance.uniform(3, 16) * HOUR_S
        estimate_s = true_s * chance.uniform(1.0, 1.3)
        has_deadline = kind == "protected" and chance.random() < 0.7 and arrives_s < 14 * HOUR_S
        slack_s = chance.uniform(1, 12) * HOUR_S
        spec = JobSpec(
            name=f"{kind}-{n}",
            image="train",
            resources=Resources(
                cpu_milli=4000, memory_bytes=1 << 34, devices=(DeviceRequest(count=chance.choice((1, 2, 4, 8))),)
            ),
            parallelism=1,
            duration_estimate_s=estimate_s,
            deadline=at(arrives_s + estimate_s + slack_s) if has_deadline else None,
            max_delay_s=None if has_deadline else 0.0 if kind == "protected" else 24 * HOUR_S,
            priority=chance.choice((0, 0, 1, 2)) + 2 * (kind == "protected"),
            suspendable=kind == "suspendable",
            preemptible=kind == "preemptible",
            home_site=SITE,
            allowed_sites=() if chance.random() < 0.3 else (SITE,),
            labels={"true_s": str(true_s)},
        )
        jobs.append(JobSubmitted(job_id=f"j{n:03}", tenant="t", spec=spec, submitted_at=at(arrives_s)))
    return jobs


# One run -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What one run delivered."""

    shed_share: float
    time_to_cap_s: float
    held_h: float
    protected_deadlines_missed: int
    protected_stopped: int
    restored_share: float
    unfinished: int
    response: DemandResponseReported


def simulate(seed: int, *, notice_s: float, share: float = SHARE) -> Outcome:
    """One day with one event."""
    chance = random.Random(seed)
    line = Line(CmoCore(Policy(reaction_s=10.0)), random=chance)
    jobs = workload(chance)
    line.at(0.0, world)
    for job in jobs:
        line.at((job.submitted_at - T0).total_seconds(), lambda job=job: [job])
    start_s, end_s = WINDOW_START_S, WINDOW_START_S + WINDOW_S
    for tick_s in _ticks(start_s, end_s):
        line.at(tick_s, list)
    line.run(start_s - notice_s - 1.0)
    baseline_w = line.power_w()
    cap_w = (1.0 - share) * baseline_w
    event = GridEventAnnounced(
        event_id="relief",
        site=SITE,
        start=at(start_s),
        end=at(end_s),
        power_cap_w=cap_w,
        announced_at=at(start_s - notice_s),
    )
    line.at(start_s - notice_s, lambda: [event])
    line.run(END_S)
    return _outcome(line, jobs, baseline_w, cap_w)


def _ticks(start_s: float, end_s: float) -> list[float]:
    """Each second around the window's edges, each half minute else: as often as the service decides."""
    edges = [edge_s + n for edge_s in (start_s, end_s) for n in range(-120, 420)]
    return sorted({*map(float, edges), *(30.0 * n for n in range(int(END_S / 30.0)))})


def _outcome(line: Line, jobs: list[JobSubmitted], baseline_w: float, cap_w: float) -> Outcome:
    start_s, end_s = WINDOW_START_S, WINDOW_START_S + WINDOW_S
    inside = [(at_s, watts) for at_s, watts in line.power if start_s <= at_s < end_s]
    late = [watts for at_s, watts in inside if at_s >= start_s + TO_CAP_S]
    above = [at_s for at_s, watts in inside if watts > cap_w + 1.0]
    steps = [at_s for at_s, _ in inside]
    below_from_s = min((at_s for at_s in steps if not above or at_s > above[-1]), default=end_s)
    restored = max(watts for at_s, watts in line.power if end_s <= at_s <= end_s + RESTORED_AFTER_S)
    protected = {job.job_id: job.spec for job in jobs if not job.spec.suspendable and not job.spec.preemptible}
    missed = sum(
        spec.deadline is not None and (job_id not in line.finished or line.finished[job_id].finished_at > spec.deadline)
        for job_id, spec in protected.items()
    )
    stopped = sum(job_id in line.finished and len(line.finished[job_id].runs) > 1 for job_id in protected)
    return Outcome(
        shed_share=round(1.0 - max(late) / baseline_w, 9),
        time_to_cap_s=below_from_s - start_s,
        held_h=(end_s - below_from_s) / HOUR_S,
        protected_deadlines_missed=missed,
        protected_stopped=stopped,
        restored_share=restored / baseline_w,
        unfinished=sum(job.job_id not in line.finished for job in jobs),
        response=line.responses[-1],
    )


def measure(console: Console) -> dict[str, float]:
    """The worst of all runs of each figure, and what was done on the average."""
    outcomes: list[Outcome] = []
    for seed in SEEDS:
        notice_s = NOTICE_S if seed % 2 else 0.0
        outcome = simulate(seed, notice_s=notice_s)
        outcomes.append(outcome)
        told = outcome.response
        console.print(
            f"seed {seed}, notice {notice_s:.0f} s: shed {outcome.shed_share:.1%} after {outcome.time_to_cap_s:.0f} s, "
            f"{told.suspended} suspended, {told.migrated} moved, {told.delayed} delayed, {told.stopped} stopped; {told.status} {told.detail}",
            highlight=False,
        )
    each = [outcome.response for outcome in outcomes]
    return {
        "shed_share": min(outcome.shed_share for outcome in outcomes),
        "time_to_cap_s": max(outcome.time_to_cap_s for outcome in outcomes),
        "held_h": min(outcome.held_h for outcome in outcomes),
        "protected_deadlines_missed": sum(outcome.protected_deadlines_missed for outcome in outcomes),
        "protected_stopped": sum(outcome.protected_stopped for outcome in outcomes),
        "restored_share": min(outcome.restored_share for outcome in outcomes),
        "unfinished": sum(outcome.unfinished for outcome in outcomes),
        "suspended_mean": sum(one.suspended for one in each) / len(each),
        "migrated_mean": sum(one.migrated for one in each) / len(each),
        "delayed_mean": sum(one.delayed for one in each) / len(each),
        "stopped_mean": sum(one.stopped for one in each) / len(each),
    }
