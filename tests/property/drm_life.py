"""Any life of a site: steps drawn by hypothesis, done to a world by a CMO and an actuator that keep their contracts."""

import random
from dataclasses import dataclass

from hypothesis import strategies as st

from services.drm.core import DrmCore
from services.drm.quotas import Cohort, Quota, Quotas, Share
from solyx.events import AllocationReleased, JobAllocated, JobPlaced, ReleaseReason, Victim, WorkloadReason
from tests.unit.drm.drm_world import (
    World,
    finished,
    gpu,
    job_spec,
    node,
    observed,
    placed,
    reported,
    withdrawn,
)

NODES = (
    node("a", cpu=4, memory_gib=8),
    node("b", cpu=8, memory_gib=8),
    node("c", cpu=8, memory_gib=16, gpus=2, model="T4"),
    node("d", cpu=16, memory_gib=16, gpus=4, model="A100"),
)
LIMITS = Quotas(tenants={"small": Quota(cpu_milli=6000, gpu_milli=1500)})
COHORTS = Quotas(
    cohorts={
        "all": Cohort(cpu_milli=2000, gpu_milli=1000),
        "labs": Cohort(
            parent="all",
            cpu_milli=Share(borrow=10000),
            tenants={
                "lab": Quota(cpu_milli=Share(guaranteed=8000, lend=5000), gpu_milli=2000, weight=2),
                "small": Quota(
                    cpu_milli=Share(guaranteed=4000, borrow=6000), gpu_milli=Share(guaranteed=1000, borrow=500)
                ),
            },
        ),
        "rest": Cohort(
            parent="all",
            reclaim="lower_priority",
            tenants={"guests": Quota(cpu_milli=3000, gpu_milli=1000, memory_bytes=8 << 30)},
        ),
    }
)
MODELS = Quotas(
    tenants={"guests": Quota(devices_milli={"gpu/T4": 500, "gpu": 3000})},
    cohorts={
        "top": Cohort(cpu_milli=30000),
        "labs": Cohort(
            parent="top",
            weight=2,
            devices_milli={"gpu/A100": 1000},
            tenants={"lab": Quota(devices_milli={"gpu/A100": Share(guaranteed=1000, borrow=1000), "gpu/T4": 1000})},
        ),
        "rest": Cohort(
            parent="top", tenants={"small": Quota(devices_milli={"gpu/A100": Share(guaranteed=2000, lend=1000)})}
        ),
    },
)
documents = st.sampled_from([LIMITS, COHORTS, MODELS])

devices = st.sampled_from(
    [
        (),
        (),
        (gpu(0.3),),
        (gpu(0.5, models=("T4",)),),
        (gpu(),),
        (gpu(count=2),),
        (gpu(models=("A100",)), gpu(0.5)),
        (gpu(models=("A100", "T4")),),
    ]
)
specs = st.builds(
    job_spec,
    cpu=st.sampled_from([0, 0.5, 1, 2, 4, 9, 17]),
    memory_gib=st.integers(0, 6),
    devices=devices,
    pods=st.sampled_from([1, 1, 1, 2, 3, 6]),
    duration=st.sampled_from([1, 10, 30, 50, 200, 2000]),
    priority=st.integers(0, 2),
    preemptible=st.booleans(),
    suspendable=st.booleans(),
)
picks = st.integers(0, 30)
tenants = st.sampled_from(["small", "lab", "guests", "others"])
steps = st.one_of(
    st.tuples(st.just("place"), specs, tenants, st.integers(0, 60)),
    st.tuples(st.just("place"), specs, tenants, st.just(0)),
    st.tuples(st.just("withdraw"), picks),
    st.tuples(st.just("report"), picks, st.sampled_from(["started", "succeeded", "failed", "node lost"])),
    st.tuples(st.just("report"), picks, st.just("succeeded")),
    st.tuples(st.just("stop"), picks),
    st.tuples(st.just("retry"), picks),
    st.tuples(
        st.just("inventory"), st.lists(st.sampled_from(["ready", "ready", "not ready", "gone"]), min_size=4, max_size=4)
    ),
    st.tuples(st.just("wait"), st.one_of(st.integers(1, 60), st.just(300))),
    st.tuples(st.just("repeat"), st.sampled_from(["placements", "sites", "actuations", "allocations"]), picks),
    st.tuples(st.just("restart"), st.sampled_from(["log", "log", "compacted"]), st.integers(0, 1000)),
)


@dataclass
class Life:
    """Interprets steps against a ``World``, as a CMO and an actuator that keep their contracts would."""

    quotas: Quotas = LIMITS

    def __post_init__(self) -> None:
        self.world = World(*NODES, quotas=self.quotas)
        self.placements: dict[str, JobPlaced] = {}  # the latest of each job
        self.withdrawn: set[tuple[str, int]] = set()
        self.ended: set[tuple[str, int]] = set()
        self.to_stop: dict[tuple[str, int], AllocationReleased] = {}
        self.out: dict[str, float] = {}  # lost nodes and when they were lost

    def run(self, script) -> None:
        for step in script:
            getattr(self, step[0])(*step[1:])
            self.decide()

    def decide(self) -> None:
        for decision in self.world.decide():
            match decision:
                case AllocationReleased() if decision.reason.stops:
                    self.to_stop[decision.job_id, decision.revision] = decision
                    if decision.reason is ReleaseReason.CONSOLIDATED:
                        assert self.world.running[decision.job_id].spec.suspendable
                case JobAllocated(job_id=job_id, revision=revision):
                    assert (job_id, revision) not in self.withdrawn
                    assert not {pod.node for pod in decision.pods} & self.out.keys(), "started on a lost node"
                case _:
                    pass

    def place(self, spec, tenant, delay) -> None:
        job = placed(
            f"job-{len(self.placements):02}",
            spec,
            tenant=tenant,
            submitted=self.world.seconds,
            start=self.world.seconds + delay,
            victims=self._named() if len(self.placements) % 2 else (),
        )
        self.placements[job.job_id] = job
        self.world.tell(job)

    def _named(self) -> tuple[Victim, ...]:
        """The three that were placed last, whatever has become of them: naming may not make anything wrong right."""
        return tuple(Victim(job_id=p.job_id, revision=p.revision) for p in list(self.placements.values())[-3:])

    def withdraw(self, pick) -> None:
        open_ones = [p for p in self.placements.values() if (p.job_id, p.revision) not in self.withdrawn | self.ended]
        if open_ones:
            placement = open_ones[pick % len(open_ones)]
            self.withdrawn.add((placement.job_id, placement.revision))
            self.world.tell(withdrawn(placement))

    def report(self, pick, status) -> None:
        running = list(self.world.running.values())
        if not running:
            return
        allocation = running[pick % len(running)]
        if status == "started":
            self.world.tell(reported(allocation, "started", seconds=self.world.seconds))
            return
        self.ended.add((allocation.job_id, allocation.revision))
        self.to_stop.pop((allocation.job_id, allocation.revision), None)
        if status == "node lost":
            lost = allocation.pods[pick % len(allocation.pods)].node
            self.out[lost] = self.world.seconds
            self.world.end(allocation.job_id, "failed", reason=WorkloadReason.NODE_LOST, message=f"node {lost} died")
        else:
            self.world.end(allocation.job_id, status)
            if status == "succeeded":
                self.world.tell(finished(self.placements[allocation.job_id], seconds=self.world.seconds))

    def stop(self, pick) -> None:
        if self.to_stop:
            key = list(self.to_stop)[pick % len(self.to_stop)]
            self.world.tell(reported(self.to_stop.pop(key), "stopped", seconds=self.world.seconds))
            self.ended.add(key)

    def retry(self, pick) -> None:
        done = {e.job_id for e in self.world.history["placements"] if type(e).__name__ == "JobFinished"}
        failed = [p for p in self.placements.values() if (p.job_id, p.revision) in self.ended and p.job_id not in done]
        if failed:
            old = failed[pick % len(failed)]
            new = placed(old.job_id, old.spec, tenant=old.tenant, revision=old.revision + 1, start=self.world.seconds)
            self.placements[old.job_id] = new
            self.world.tell(new)

    def inventory(self, states) -> None:
        self.world.seconds += 1
        nodes = [
            node(n.name, cpu=n.cpu_milli / 1000, memory_gib=n.memory_bytes >> 30, ready=state == "ready")
            if not n.devices
            else node(
                n.name,
                cpu=n.cpu_milli / 1000,
                memory_gib=n.memory_bytes >> 30,
                gpus=n.devices[0].count,
                model=n.devices[0].model,
                ready=state == "ready",
            )
            for n, state in zip(NODES, states, strict=True)
            if state != "gone"
        ]
        self.world.tell(observed(*nodes, seconds=self.world.seconds))
        for ready in nodes:
            if ready.ready:
                self.out.pop(ready.name, None)

    def wait(self, seconds) -> None:
        self.world.seconds += seconds

    def repeat(self, topic, pick) -> None:
        events = self.world.history[topic]
        if events:
            self.world.core.fold(events[pick % len(events)])

    def restart(self, kind, seed) -> None:
        self.decide()
        self.world.core = DrmCore(self.quotas)
        for event in interleaved(self.world, seed, compacted=kind == "compacted"):
            self.world.core.fold(event)
        if kind == "log":
            assert self.world.decide() == [], "a recovered core decided what had been decided"
        else:
            self.out.clear()  # which node it was went with the allocation's record

    def finish(self) -> None:
        """Everything is withdrawn and stops; every node comes back."""
        self.inventory(["ready"] * 4)
        self.decide()
        while any((p.job_id, p.revision) not in self.withdrawn | self.ended for p in self.placements.values()):
            self.withdraw(0)
            self.decide()
        while self.to_stop:
            self.stop(0)
            self.decide()
        assert not self.world.running


def interleaved(world: World, seed: int, *, compacted: bool = False):
    """All topics, each in its order, merged by chance."""
    chance = random.Random(seed)
    queues = []
    for events in world.history.values():
        last = {event.key: index for index, event in enumerate(events)}
        queues.append([e for index, e in enumerate(events) if not compacted or last[e.key] == index])
    while queues := [queue for queue in queues if queue]:
        yield chance.choice(queues).pop(0)
