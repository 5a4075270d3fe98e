"""What holds for quotas and cohorts: victims are minimal, what is guaranteed comes back, nobody starves."""

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.fairness import progressive_filling
from services.drm.quotas import Cohort, Quota, Quotas, Share
from tests.unit.drm.drm_world import World, allocations, job_spec, node, placed, releases, withdrawn

FAST = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])

sizes = st.integers(1, 5)
guarantees = st.lists(st.integers(0, 6), min_size=2, max_size=4)


def cohort(guaranteed, reclaim="any", **more) -> Quotas:
    tenants = {f"t{n}": Quota(cpu_milli=Share(guaranteed=1000 * cpu, **more)) for n, cpu in enumerate(guaranteed)}
    return Quotas(cohorts={"all": Cohort(reclaim=reclaim, tenants=tenants)})


def lent(cpu: int, **more):
    return job_spec(cpu=cpu, memory_gib=0, preemptible=True, **more)


def stopped(decisions) -> list[str]:
    return [job_id for job_id, _, reason in releases(decisions) if reason == "preempted"]


def settled(world: World, seconds: float) -> None:
    """Decide until nobody has to stop any more."""
    while gone := stopped(world.decide(seconds)):
        for job_id in gone:
            world.end(job_id, "stopped")


def held(world: World, tenant: str, *, firm: bool = False) -> int:
    mine = [a.spec for a in world.running.values() if a.tenant == tenant and not (firm and a.spec.preemptible)]
    return sum(spec.resources.cpu_milli for spec in mine) // 1000


@FAST
@given(st.lists(sizes, min_size=1, max_size=12), st.integers(1, 8), st.integers(0, 8))
def test_nobody_is_stopped_who_could_be_spared(jobs, asked, lender) -> None:
    total = lender + 8
    world = World(node("a", cpu=100), quotas=cohort([lender, 8]))
    for number, cpu in enumerate(jobs):
        job = placed(f"job-{number}", lent(cpu, priority=number % 3), tenant="t0")
        world.tell(job)
        settled(world, number)
        if job.job_id not in world.running:
            world.tell(withdrawn(job))
    used = held(world, "t0")
    world.tell(placed("own", lent(asked), tenant="t1"))
    sizes_of = {job_id: a.spec.resources.cpu_milli // 1000 for job_id, a in world.running.items()}
    decisions = world.decide(50)
    gone = [sizes_of[job_id] for job_id in stopped(decisions)]
    if "own" in allocations(decisions):
        assert not gone
        return
    assert used - sum(gone) + asked <= total, "what was guaranteed did not come back"
    for cpu in gone:
        assert used - sum(gone) + cpu + asked > total, f"{cpu} of {gone} could have been spared"


@FAST
@given(
    guarantees,
    st.lists(st.tuples(st.integers(0, 3), sizes, st.integers(0, 2)), max_size=20),
    st.sampled_from([None, 0, 2]),
)
def test_every_guaranteed_share_comes_back_after_one_cycle(guaranteed, jobs, borrow) -> None:
    limit = {} if borrow is None else {"borrow": 1000 * borrow}
    world = World(node("a", cpu=100), quotas=cohort(guaranteed, **limit))
    names = [f"t{n}" for n in range(len(guaranteed))]
    for number, (tenant, cpu, priority) in enumerate(jobs):
        world.tell(placed(f"job-{number}", lent(cpu, priority=priority), tenant=names[tenant % len(names)]))
        settled(world, number)
    for name, cpu in zip(names, guaranteed, strict=True):
        world.tell(*(placed(f"{name}-{n}", job_spec(memory_gib=0, priority=5), tenant=name) for n in range(cpu + 1)))
    for job_id in stopped(world.decide(40)):
        world.end(job_id, "stopped")
    world.decide(41)
    assert {name: held(world, name, firm=True) for name in names} == dict(zip(names, guaranteed, strict=True))


@FAST
@given(
    st.integers(2, 8),
    st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3), st.integers(1, 20)), min_size=1, max_size=200),
    st.booleans(),
    st.sampled_from(["t0", "t1"]),
)
def test_a_large_job_starts_however_many_small_ones_come(large, stream, limits, tenant) -> None:
    """One a second, of any tenant, that run for at most 20 s. Only a few came before it."""
    if limits:
        quotas = Quotas(tenants={name: Quota(cpu_milli=8000) for name in ("t0", "t1", "t2")})
    else:
        quotas = Quotas(cohorts={"all": Cohort(cpu_milli=8000, tenants={f"t{n}": Quota() for n in range(3)})})
    world = World(node("a", cpu=24), quotas=quotas)
    ends: dict[str, float] = {}
    for second in range(150):
        for job_id in [job_id for job_id, end in ends.items() if end <= second]:
            world.end(job_id)
            del ends[job_id]
        which, cpu, run_s = stream[second % len(stream)]
        if second == 3:
            world.tell(placed("large", lent(large, duration=10), tenant=tenant, submitted=second, start=second))
        small = lent(cpu, duration=run_s)
        world.tell(placed(f"s-{second:03}", small, tenant=f"t{which}", submitted=second, start=second))
        for job_id, allocation in allocations(world.decide(second)).items():
            ends[job_id] = second + allocation.spec.duration_estimate_s
        if "large" in world.running:
            return
    raise AssertionError("it never started")


weights = st.floats(0.1, 10)
parts = st.one_of(st.just(0.0), st.floats(0.01, 1))
demands = st.tuples(parts, parts, st.floats(0.01, 1))


@FAST
@given(st.lists(st.tuples(demands, weights, st.floats(0.001, 2)), min_size=1, max_size=6))
def test_progressive_filling_uses_no_more_than_there_is_and_leaves_nobody_short_in_vain(tenants) -> None:
    vectors = {str(n): np.array(demand) for n, (demand, _, _) in enumerate(tenants)}
    asked = {str(n): limit for n, (_, _, limit) in enumerate(tenants)}
    shares = progressive_filling(vectors, {str(n): weight for n, (_, weight, _) in enumerate(tenants)}, asked)
    used = sum(shares[name] * vector / vector.max() for name, vector in vectors.items())
    assert (used <= 1 + 1e-6).all()
    for name, vector in vectors.items():
        short = shares[name] < asked[name] - 1e-6
        assert not short or ((used > 1 - 1e-6) & (vector > 0)).any()
