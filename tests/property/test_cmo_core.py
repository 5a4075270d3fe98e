"""What holds for the CMO whatever happens: a small world of clusters answers it at random, and the log is what is judged."""

import math
from datetime import timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.cmo.core import CmoCore
from solyx.events import FinishReason, JobFinished, JobPlaced, JobSubmitted, PlacementWithdrawn
from tests.property.cmo_clusters import NAMES, Run, by_key, compacted, world
from tests.unit.cmo.cmo_builders import T0, at, core, measured, placements, submitted

MODEST = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
FEW = settings(MODEST, max_examples=15)

jobs_of = st.builds(
    lambda **options: options,
    cores=st.sampled_from([1, 2, 4, 8]),
    memory_gib=st.sampled_from([0, 8, 48]),
    gpus=st.sampled_from([0, 0, 1, 2]),
    share=st.just(1000),
    models=st.sampled_from([(), ("V100",), ("T4",), ("V100", "T4")]),
    runs=st.sampled_from([0.1, 0.5, 1.0, 1.7, 5.0, 30.0]),
    pods=st.sampled_from([1, 1, 2]),
    priority=st.integers(0, 2),
    max_delay=st.sampled_from([None, 0, 3, 24]),
    sites=st.sampled_from([(), (), ("a",), ("b", "c"), ("mars",)]),
)

lives_of = st.tuples(
    jobs_of,
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, None, ("office", 20)]),
    st.sampled_from([None, None, (10, "a"), (40, "b")]),
).map(
    lambda drawn: {
        **drawn[0],
        "suspendable": drawn[1],
        "preemptible": drawn[2],
        "latency": drawn[3],
        "data": drawn[4],
    }
)


def batch(draws) -> list[JobSubmitted]:
    return [submitted(f"job-{index}", **options) for index, options in enumerate(draws)]


def use_by_hour(placed: list[JobPlaced], now: float) -> dict[tuple[str, int, str], float]:
    """Resource-hours taken of each site and hour, the present hour scaled to what is left of it; written without the ledger."""
    use: dict[tuple[str, int, str], float] = {}
    for one in placed:
        start = (one.start_at - T0) / timedelta(hours=1)
        end = start + one.spec.duration_estimate_s / 3600
        taken = {"cpu": one.spec.resources.cpu_milli, "memory": one.spec.resources.memory_bytes}
        for device in one.spec.resources.devices:
            for model in ("V100", "T4", "any"):
                if model == "any" or device.models == (model,):
                    taken[model] = device.count * device.share_milli
        for hour in range(math.floor(start), math.ceil(end)):
            hours = min(end, hour + 1) - max(start, hour)
            if hour == math.floor(now):
                hours /= hour + 1 - now
            for what, amount in taken.items():
                key = (one.site, hour, what)
                use[key] = use.get(key, 0.0) + hours * amount * one.spec.parallelism
    return use


CAPACITY = {
    "a": {"cpu": 16000, "memory": 128 << 30, "V100": 2000, "T4": 0, "any": 2000},
    "b": {"cpu": 8000, "memory": 64 << 30, "V100": 0, "T4": 2000, "any": 2000},
    "c": {"cpu": 24000, "memory": 192 << 30, "V100": 0, "T4": 0, "any": 0},
}


@MODEST
@given(st.lists(jobs_of, max_size=25), st.sampled_from([0.0, 0.25, 0.9]))
def test_no_hour_is_given_away_twice_and_what_had_to_queue_says_so(draws, now):
    cmo = core(*world())
    placed: list[JobPlaced] = []
    made_room: set[str] = set()
    for part in (draws[::2], draws[1::2]):
        for job in (submitted(f"job-{len(placed)}-{index}", **options) for index, options in enumerate(part)):
            cmo.fold(job)
        decided = cmo.decide(at(now))
        placed += placements(decided)
        made_room |= {one.job_id for one in decided if isinstance(one, PlacementWithdrawn)}
    fitted = [one for one in placed if "waits in the site's queue" not in one.bound_by and one.job_id not in made_room]
    for (name, hour, what), taken in use_by_hour(fitted, now).items():
        # weights are rounded up to whole seconds, never down, so no tolerance is needed but for floats
        assert taken <= CAPACITY[name][what] + 1e-6, (name, hour, what)


@MODEST
@given(st.lists(jobs_of, max_size=20), st.data())
def test_a_start_is_never_too_late_for_its_deadline(draws, data):
    jobs = [
        submitted(
            f"job-{index}",
            deadline=data.draw(st.floats(0.05, 40)),
            **{key: value for key, value in options.items() if key != "max_delay"},
        )
        for index, options in enumerate(draws)
    ]
    decided = core(*world(), *jobs).decide(T0)
    assert len(decided) == len(jobs)
    for one in placements(decided):
        assert one.spec.deadline is not None
        assert one.start_at + timedelta(seconds=one.spec.duration_estimate_s) <= one.spec.deadline


@MODEST
@given(st.lists(jobs_of, max_size=15), st.randoms(use_true_random=False))
def test_the_order_in_which_a_batch_arrives_does_not_matter(draws, random):
    jobs = batch(draws)
    events = [*world(), *jobs]
    expected = core(*events).decide(T0)
    random.shuffle(events)
    assert sorted(map(repr, core(*events).decide(T0))) == sorted(map(repr, expected))


@MODEST
@given(st.lists(jobs_of, max_size=12), st.booleans())
def test_the_cost_of_every_placement_adds_up_and_no_alternative_is_cheaper(draws, one_at_a_time):
    jobs = batch(draws)
    cmo = core(*world(), *([] if one_at_a_time else jobs))
    decided = cmo.decide(T0)
    for job in jobs if one_at_a_time else ():
        cmo.fold(job)
        decided += cmo.decide(T0)
    for one in placements(decided):
        cost = one.cost
        assert math.isclose(cost.carbon_eur, cost.carbon_kg * 0.1, abs_tol=1e-12)
        if one.alternative is not None and "waits in the site's queue" not in one.bound_by:
            assert one.alternative.total_eur >= cost.total_eur - 1e-6
            assert (one.alternative.site, one.alternative.start_at) != (one.site, one.start_at)


@FEW
@given(st.lists(lives_of, min_size=1, max_size=8), st.randoms(use_true_random=False), st.integers(0, 60))
def test_every_job_has_one_outcome_and_never_two_lives(draws, random, steps):
    run = Run(random, batch(draws))
    run.say(*world(), *(measured(name, office=ms) for name, ms in zip(NAMES, (5.0, 15.0, 40.0), strict=True)))
    for _ in range(steps):
        run.step()
        if random.random() < 0.7:
            run.decide()
    run.settle()
    assert not run.live
    finished = [decision.job_id for decision in run.decisions if isinstance(decision, JobFinished)]
    assert sorted(finished) == sorted(run.jobs)


@FEW
@given(st.lists(lives_of, min_size=1, max_size=8), st.randoms(use_true_random=False), st.integers(0, 40))
def test_replaying_the_log_in_any_order_decides_nothing_again(draws, random, steps):
    run = Run(random, batch(draws))
    run.say(*world(), *(measured(name, office=ms) for name, ms in zip(NAMES, (5.0, 15.0, 40.0), strict=True)))
    for _ in range(steps):
        run.step()
        run.decide()
    log = [*run.inputs, *run.decisions]
    for events in (log, by_key(log, random), by_key(compacted(log), random)):
        recovered = CmoCore(run.policy)
        for event in events:
            recovered.fold(event)
        assert recovered.decide(at(run.hours)) == []


@FEW
@given(st.lists(lives_of, min_size=1, max_size=8), st.randoms(use_true_random=False), st.integers(5, 40))
def test_a_core_recovered_midway_sees_every_job_to_its_one_outcome(draws, random, steps):
    run = Run(random, batch(draws))
    run.say(*world(), *(measured(name, office=ms) for name, ms in zip(NAMES, (5.0, 15.0, 40.0), strict=True)))
    for _ in range(steps):
        run.step()
        run.decide()
        if random.random() < 0.2:
            run.cmo = CmoCore(run.policy)
            for event in by_key(compacted([*run.inputs, *run.decisions]), random):
                run.cmo.fold(event)
    run.settle()
    finished = [decision.job_id for decision in run.decisions if isinstance(decision, JobFinished)]
    assert sorted(finished) == sorted(run.jobs)


@FEW
@given(st.lists(lives_of, min_size=1, max_size=8), st.randoms(use_true_random=False), st.integers(0, 40))
def test_a_job_that_was_placed_is_never_refused_for_its_latency(draws, random, steps):
    run = Run(random, batch(draws))
    run.say(*world(), *(measured(name, office=15.0) for name in NAMES))
    for _ in range(steps):
        run.step()
        run.decide()
    run.settle()
    placed = {decision.job_id for decision in run.decisions if isinstance(decision, JobPlaced)}
    refused = [
        decision.job_id
        for decision in run.decisions
        if isinstance(decision, JobFinished) and decision.reason is FinishReason.LATENCY_UNREACHABLE
    ]
    assert not placed & set(refused)
