"""Two sites with bounds on their prices: both cores, a perfect actuator, time, and restarts; the log is what is judged."""

from dataclasses import dataclass, field
from random import Random

from services.cmo.core import CmoCore
from services.cmo.model import Policy
from services.drm.core import DrmCore
from solyx.events import (
    AllocationReleased,
    EnergySeriesPublished,
    Event,
    JobAllocated,
    JobFinished,
    JobPlaced,
    JobSubmitted,
    PowerModel,
    ReleaseReason,
    SiteObserved,
    WorkloadReason,
    WorkloadReported,
)
from tests.unit.cmo.cmo_builders import T0, at, carbon, node, prices

RESTART_H = 1 / 60
STEP_H = 1.0
LAST_H = 100.0
POLICY = Policy(delay_eur_per_job_h=1e-7, horizon_h=24)
STOPS = (ReleaseReason.WITHDRAWN, ReleaseReason.PREEMPTED, ReleaseReason.DRAINED)


def bounded(name: str, bound: float | None, hours: float = 0.0) -> SiteObserved:
    """So large that nobody waits for room."""
    return SiteObserved(
        site=name,
        observed_at=at(hours),
        nodes=(node("n", cores=1000, memory_gib=4000),),
        power=PowerModel(idle_w_per_node=100, w_per_core=10, pue=1.0),
        price_bound_eur_per_mwh=bound,
    )


@dataclass
class Run:
    """What runs under one allocation."""

    allocated: JobAllocated
    start_h: float
    end_h: float


@dataclass
class PriceWorld:
    """Tells both cores what happens, and keeps everything that was said."""

    bounds: dict[str, float | None]
    shuffle: Random
    log: list[Event] = field(default_factory=list[Event])
    running: dict[str, Run] = field(default_factory=dict[str, Run])
    starts: list[float] = field(default_factory=list[float])
    now_h: float = 0.0

    def __post_init__(self) -> None:
        self.cmo, self.drm = CmoCore(POLICY), DrmCore()
        for name, bound in self.bounds.items():
            self.tell(bounded(name, bound), carbon(name))

    def tell(self, *events: Event) -> None:
        """Everybody reads everything."""
        for event in events:
            self.log.append(event)
            self.cmo.fold(event)
            self.drm.fold(event)

    def restart(self, *, compacted: bool) -> None:
        """Both cores lose all they knew, and read the topics in any order."""
        log = self.log
        if compacted:
            last = {(event.TOPIC, event.key): index for index, event in enumerate(log)}
            streams = (EnergySeriesPublished,)
            log = [e for i, e in enumerate(log) if isinstance(e, streams) or last[e.TOPIC, e.key] == i]
        topics: dict[str, list[Event]] = {}
        for event in log:
            topics.setdefault(event.TOPIC, []).append(event)
        order = [topic for topic, events in topics.items() for _ in events]
        self.shuffle.shuffle(order)
        self.cmo, self.drm = CmoCore(POLICY), DrmCore()
        for topic in order:
            event = topics[topic].pop(0)
            self.cmo.fold(event)
            self.drm.fold(event)

    def settle(self) -> None:
        """Decide until nobody has anything to say."""
        now = at(self.now_h)
        for _ in range(50):
            decided = [*self.cmo.decide(now)]
            for event in decided:
                self.log.append(event)
                self.drm.fold(event)
                if isinstance(event, JobPlaced):
                    self.starts.append((event.start_at - T0).total_seconds() / 3600)
            allocations = [*self.drm.decide(now)]
            for event in allocations:
                self.log.append(event)
                self.cmo.fold(event)
            reports = [report for event in allocations for report in self.actuate(event)]
            self.tell(*reports)
            if not decided and not allocations:
                return
        raise AssertionError("the cores never come to rest")

    def actuate(self, event: Event) -> list[WorkloadReported]:
        """Starts what is allocated, and stops what is released."""
        if isinstance(event, JobAllocated):
            assert event.job_id not in self.running, f"{event.job_id} runs at two places"
            left_h = event.spec.duration_estimate_s / 3600 - event.progress_s / 3600
            end_h = self.now_h + left_h + (RESTART_H if event.progress_s else 0.0)
            self.running[event.job_id] = Run(event, self.now_h, end_h)
            return [self.report(event, "started", WorkloadReason.APPLIED)]
        if isinstance(event, AllocationReleased) and event.reason in STOPS:
            run = self.running.get(event.job_id)
            if run is not None and run.allocated.revision == event.revision:
                return [self.end(run, "stopped")]
            return [self.report(event, "stopped", WorkloadReason.RELEASED)]
        return []

    def end(self, run: Run, status: str) -> WorkloadReported:
        """It is over, with what it keeps."""
        event = run.allocated
        del self.running[event.job_id]
        restart_h = RESTART_H if event.progress_s else 0.0
        done_s = event.progress_s + max(0.0, self.now_h - run.start_h - restart_h) * 3600
        kept_s = done_s if status == "stopped" and event.spec.suspendable else 0.0
        reason = WorkloadReason.COMPLETED if status == "succeeded" else WorkloadReason.RELEASED
        return self.report(event, status, reason, kept_s, run.start_h)

    def report(
        self,
        event: JobAllocated | AllocationReleased,
        status: str,
        reason: WorkloadReason,
        kept_s: float = 0.0,
        start_h: float | None = None,
    ) -> WorkloadReported:
        begun = self.now_h if status == "started" else start_h
        return WorkloadReported(
            job_id=event.job_id,
            tenant=event.tenant,
            site=event.site,
            revision=event.revision,
            status=status,  # pyright: ignore[reportArgumentType]
            reason=reason,
            started_at=None if begun is None else at(begun),
            progress_s=kept_s,
            at=at(self.now_h),
        )

    def next_h(self) -> float:
        """When something happens by itself."""
        ends = [run.end_h for run in self.running.values()]
        self.starts = [hour for hour in self.starts if hour > self.now_h + 1e-9]
        ahead = [hour for hour in (*ends, *self.starts) if hour > self.now_h + 1e-9]
        grid = (int(self.now_h / STEP_H + 1e-6) + 1) * STEP_H
        return min([*ahead, grid])

    def forward(self, until_h: float) -> None:
        """Let time pass."""
        self.settle()
        while self.now_h < until_h - 1e-9:
            self.now_h = min(self.next_h(), until_h)
            done = [run for run in self.running.values() if run.end_h <= self.now_h + 1e-9]
            self.tell(*(self.end(run, "succeeded") for run in done))
            self.settle()

    def finished(self) -> dict[str, JobFinished]:
        return {one.job_id: one for one in self.log if isinstance(one, JobFinished)}


def lived(
    seed: int,
    curves: dict[str, list[float]],
    bounds: dict[str, float | None],
    jobs: list[JobSubmitted],
    restarts: dict[int, bool],
) -> PriceWorld:
    """Prices come a day at a time at noon, some are corrected later; jobs arrive when they say; ``restarts``: hour → compacted."""
    random = Random(seed)
    world = PriceWorld(bounds, Random(seed + 1))
    world.tell(*(prices(name, *curve[:24]) for name, curve in curves.items()))
    for hour in range(int(LAST_H)):
        if hour % 24 == 12:
            day = slice(hour // 24 * 24 + 24, hour // 24 * 24 + 48)
            values = {name: (curve[day] or [-5.0] * 24) for name, curve in curves.items()}
            world.tell(*(prices(name, *values[name], start=day.start) for name in curves))
        if random.random() < 0.1:
            world.tell(prices(random.choice(sorted(curves)), random.choice((-5.0, 300.0)), start=hour))
        world.tell(*(job for job in jobs if hour <= (job.submitted_at - T0).total_seconds() / 3600 < hour + 1))
        if hour in restarts:
            world.restart(compacted=restarts[hour])
        world.forward(hour + 1)
    return world
