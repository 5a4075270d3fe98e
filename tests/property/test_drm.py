"""What holds for the DRM's core whatever happens at a site and in whatever order it hears of it."""

import random
from collections import Counter
from dataclasses import dataclass

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.drm.core import DrmCore
from services.drm.core.capacity import Capacity
from services.drm.core.queue import turn_of
from services.drm.core.reservation import reserve
from services.drm.core.victims import choose_victims
from services.drm.core.waits import QuotaWaits
from services.drm.quotas import Cohort, Quota, Quotas, Share
from solyx.events import (
    AllocationDeferred,
    AllocationReason,
    AllocationReleased,
    DeferralReason,
    JobAllocated,
    JobPlaced,
    ReleaseReason,
    WorkloadReason,
)
from tests.unit.drm.drm_world import (
    SITE,
    World,
    allocations,
    at,
    finished,
    gpu,
    job_spec,
    node,
    observed,
    placed,
    reported,
    withdrawn,
)

FAST = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])

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
documents = st.sampled_from([LIMITS, COHORTS])

devices = st.sampled_from(
    [(), (), (gpu(0.3),), (gpu(0.5, models=("T4",)),), (gpu(),), (gpu(count=2),), (gpu(models=("A100",)), gpu(0.5))]
)
specs = st.builds(
    job_spec,
    cpu=st.sampled_from([0, 0.5, 1, 2, 4, 9, 17]),
    memory_gib=st.integers(0, 6),
    devices=devices,
    pods=st.sampled_from([1, 1, 1, 2, 3, 6]),
    duration=st.sampled_from([1, 10, 30, 50, 200]),
    priority=st.integers(0, 2),
    preemptible=st.booleans(),
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
    st.tuples(st.just("wait"), st.integers(1, 60)),
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
                case AllocationReleased(reason=ReleaseReason.WITHDRAWN | ReleaseReason.PREEMPTED):
                    self.to_stop[decision.job_id, decision.revision] = decision
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
        )
        self.placements[job.job_id] = job
        self.world.tell(job)

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


@FAST
@given(st.lists(steps, max_size=40), documents)
def test_capacity_quotas_gangs_and_revisions_hold_whatever_happens(script, quotas) -> None:
    life = Life(quotas)
    life.run(script)  # the world objects to every wrong decision
    life.finish()


@FAST
@given(st.lists(steps, max_size=40), documents)
def test_every_withdrawn_placement_and_every_allocation_is_released_exactly_once(script, quotas) -> None:
    life = Life(quotas)
    life.run(script)
    life.finish()
    released = life.world.released
    assert all(count == 1 for count in released.values())
    assert {key for key in life.withdrawn if key not in released} == set()
    assert {key for key in life.world.allocated if key not in released} == set()


@FAST
@given(st.lists(steps, max_size=30), documents)
def test_after_all_jobs_have_ended_everything_is_free_again(script, quotas) -> None:
    life = Life(quotas)
    life.run(script)
    life.finish()
    for number, whole in enumerate(NODES):
        spec = job_spec(
            cpu=whole.cpu_milli / 1000,
            memory_gib=whole.memory_bytes >> 30,
            devices=(gpu(models=(whole.devices[0].model,), count=whole.devices[0].count),) if whole.devices else (),
        )
        life.world.tell(placed(f"probe-{number}", spec, tenant="others"))
    assert len(allocations(life.world.decide())) == len(NODES)
    assert set(life.world.core._sites[SITE]._jobs) == {f"probe-{number}" for number in range(len(NODES))}


@FAST
@given(st.lists(steps, max_size=30), st.integers(0, 1000), st.integers(0, 1000), documents)
def test_replay_in_any_interleaving_decides_nothing_new(script, first, second, quotas) -> None:
    life = Life(quotas)
    life.run(script)
    life.decide()
    for seed in (first, second):
        core = DrmCore(quotas)
        for event in interleaved(life.world, seed):
            core.fold(event)
        assert core.decide(at(life.world.seconds)) == []


@FAST
@given(st.lists(st.tuples(specs, tenants), min_size=1, max_size=12), st.randoms(use_true_random=False), documents)
def test_events_of_different_jobs_commute(jobs, chance, quotas) -> None:
    events = [placed(f"job-{n:02}", spec, tenant=tenant) for n, (spec, tenant) in enumerate(jobs)]
    shuffled = [observed(*NODES), *events]
    chance.shuffle(shuffled)
    one, other = DrmCore(quotas), DrmCore(quotas)
    for event in (observed(*NODES), *events):
        one.fold(event)
    for event in shuffled:
        other.fold(event)
    key = lambda event: event.id  # noqa: E731
    assert sorted(one.decide(at(0)), key=key) == sorted(other.decide(at(0)), key=key)


# ------------------------------------------------------------------------------------------------ the simple algorithm


class SimpleAdmission:
    """``services.drm.core.admission`` as its docstring states it: one sorted list, nothing remembered."""

    def __init__(self, pool, queue, outcome) -> None:
        self.pool, self.queue, self.outcome = pool, queue, outcome

    def admit(self, now_s: float) -> None:
        reasons = {}
        ahead = True
        while ahead:
            ahead, head, reasons = False, None, {}
            quotas = QuotaWaits(self.pool, now_s)
            waiting = [job for lane in self.queue.lanes() for _, job in lane.entries if job.alive]
            while waiting:
                job = min(waiting, key=lambda job: turn_of(self.pool.accounts, job))
                waiting.remove(job)
                demand = job.demand
                if obstacle := quotas.obstacle(job):
                    reasons[job] = DeferralReason.QUOTA
                    if obstacle.before is None:
                        for victim in quotas.wait(job)[1]:
                            self.outcome.preempt(victim)
                elif head is not None:
                    short = job.duration_s <= head.at_s - now_s
                    spots = (self.pool.free if short else self.pool.free.limited_by(head.extra)).place(demand)
                    if spots is None:
                        reasons[job] = DeferralReason.NO_CAPACITY
                        continue
                    self.outcome.allocate(job, spots, AllocationReason.BACKFILL)
                    quotas.took(job)
                    head.took(demand, spots, until_s=now_s + job.duration_s)
                    ahead = True
                elif spots := self.pool.free.place(demand):
                    reason = AllocationReason.BACKFILL if quotas.goes_ahead(job) else AllocationReason.FITS
                    self.outcome.allocate(job, spots, reason)
                    quotas.took(job)
                else:
                    head, reasons[job] = self.become_head(job)
        for job, reason in reasons.items():
            self.outcome.defer(job, reason, "")

    def become_head(self, job):
        inventory, is_open = self.pool.inventory, self.pool.free.open
        if Capacity.empty(inventory, is_open).place(job.demand) is None:
            anywhere = Capacity.empty(inventory, is_open | True).count(job.demand)
            return None, DeferralReason.NO_CAPACITY if anywhere else DeferralReason.NO_NODE_FITS
        for victim in choose_victims(self.pool, job):
            self.outcome.preempt(victim)
        return reserve(self.pool, job), DeferralReason.NO_CAPACITY


def summary(decisions):
    told = [(d.id, d.reason) for d in decisions if isinstance(d, AllocationDeferred)]
    return [d for d in decisions if not isinstance(d, AllocationDeferred)], Counter(told)


@FAST
@given(st.lists(steps, max_size=40), documents)
def test_the_fast_pass_decides_what_the_simple_one_decides(script, quotas) -> None:
    life = Life(quotas)
    twin = DrmCore(quotas)
    site = twin._site(SITE)
    site._admission = SimpleAdmission(site._pool, site._queue, site)
    told = Counter()
    for step in script:
        if step[0] in ("repeat", "restart"):
            continue
        life.run([step])
        decided = life.world.history["allocations"][told["allocations"] :]
        for topic in ("sites", "placements", "actuations"):
            for event in life.world.history[topic][told[topic] :]:
                twin.fold(event)
        told.update({topic: len(events) - told[topic] for topic, events in life.world.history.items()})
        assert summary(twin.decide(at(life.world.seconds))) == summary(decided)


# ------------------------------------------------------------------------------------------------------------- backfill

exact_jobs = st.lists(
    st.tuples(
        st.builds(
            job_spec,
            cpu=st.integers(1, 4),
            memory_gib=st.just(0),
            devices=st.sampled_from([(), (), (gpu(0.5),), (gpu(),), (gpu(count=2),)]),
            pods=st.sampled_from([1, 1, 1, 2]),
            duration=st.integers(1, 60),
        ),
        st.integers(0, 10),
    ),
    min_size=4,
    max_size=25,
)


@FAST
@given(exact_jobs)
def test_backfill_never_delays_the_heads_reservation_when_estimates_are_exact(jobs) -> None:
    """Jobs come in the order of their turn, so nobody later goes before a head by right; each runs as long as it said."""
    world = World(node("a", cpu=4), node("b", cpu=5, gpus=2))
    arrivals = sorted(arrival for _, arrival in jobs)
    pending = [
        (arrival, placed(f"job-{n:02}", spec, submitted=arrival, start=arrival))
        for n, (arrival, (spec, _)) in enumerate(zip(arrivals, jobs, strict=True))
    ]
    ends: dict[str, float] = {}
    promised: dict[str, float] = {}
    while pending or ends:
        now = min([arrival for arrival, _ in pending[:1]] + sorted(ends.values())[:1])
        for job_id in [job_id for job_id, end in ends.items() if end == now]:
            world.seconds = now
            world.end(job_id)
            del ends[job_id]
        while pending and pending[0][0] == now:
            world.tell(pending.pop(0)[1])
        for job_id, allocation in allocations(world.decide(now)).items():
            assert now <= promised.get(job_id, now), f"{job_id} was promised {promised[job_id]}, started {now}"
            ends[job_id] = now + allocation.spec.duration_estimate_s
        head = world.core._sites[SITE]._admission._reservation
        if head is not None and world.core._sites[SITE]._queue.length:
            promised.setdefault(head.head.placed.job_id, head.at_s - at(0).timestamp())
