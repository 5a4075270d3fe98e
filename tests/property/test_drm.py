"""What holds for the DRM's core whatever happens at a site and in whatever order it hears of it."""

from collections import Counter

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.drm.core import DrmCore
from solyx.events import AllocationDeferred, QuotasReported
from tests.property.drm_life import NODES, Life, documents, interleaved, specs, steps, tenants
from tests.property.drm_simple_admission import SimpleAdmission
from tests.unit.drm.drm_world import SITE, World, allocations, at, gpu, job_spec, node, observed, placed

FAST = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


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


def summary(decisions):
    told = [(d.id, d.reason) for d in decisions if isinstance(d, AllocationDeferred)]
    return [d for d in decisions if not isinstance(d, AllocationDeferred | QuotasReported)], Counter(told)


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
