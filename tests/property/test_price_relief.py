"""What holds whatever prices do: nothing is lost, nothing runs twice, nobody is sent to and fro, and every request is answered once."""

from collections import Counter, defaultdict
from datetime import timedelta
from itertools import pairwise

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.cmo.core import CmoCore
from solyx.events import (
    AllocationReleased,
    JobPlaced,
    PlacementWithdrawn,
    ReliefAnswered,
    ReliefReason,
    ReliefRequested,
    WithdrawalReason,
    WorkloadReported,
)
from tests.property.price_world import POLICY, lived
from tests.unit.cmo.cmo_builders import at, submitted

FEW = settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
BOUND = 100.0

curves = st.lists(st.sampled_from([20.0, 60.0, 99.0, 101.0, 150.0, 400.0]), min_size=48, max_size=48)
kinds = st.sampled_from([(False, False), (True, False), (False, True), (True, True)])  # suspendable, preemptible


@st.composite
def jobs_of(draw):
    found = []
    for index in range(draw(st.integers(1, 8))):
        hours, runs = draw(st.sampled_from([0.0, 0.5, 7.25, 20.0])), draw(st.sampled_from([0.3, 1.0, 4.0, 9.5]))
        suspendable, preemptible = draw(kinds)
        slack = draw(st.sampled_from([None, 0.5, 6.0, 30.0]))
        limit = draw(st.sampled_from([{"max_delay": 0}, {"max_delay": 10}, {}]))
        found.append(
            submitted(
                f"job-{index}",
                hours=hours,
                runs=runs,
                suspendable=suspendable,
                preemptible=preemptible,
                priority=draw(st.integers(0, 2)),
                sites=draw(st.sampled_from([(), ("a",), ("b",)])),
                **({"deadline": hours + runs + slack} if slack is not None else limit),
            )
        )
    return found


worlds = st.tuples(
    st.integers(0, 1000),
    st.fixed_dictionaries({"a": curves, "b": curves}),
    st.fixed_dictionaries({"a": st.sampled_from([BOUND, 0.0]), "b": st.sampled_from([BOUND, None])}),
    jobs_of(),
    st.dictionaries(st.integers(1, 60), st.booleans(), max_size=3),
)


def of(world, kind):
    return [event for event in world.log if isinstance(event, kind)]


def every_job_ends_once_and_deadlines_are_kept(world, jobs):
    finished = world.finished()
    assert Counter(one.job_id for one in world.log if type(one).__name__ == "JobFinished").most_common(1)[0][1] == 1
    for job in jobs:
        outcome = finished[job.job_id]
        assert outcome.outcome == "succeeded", outcome
        if job.spec.deadline is not None:
            # A restart of one minute is paid once for each stop; it is in no estimate of its owner.
            stops = sum(one.job_id == job.job_id and one.status == "stopped" for one in of(world, WorkloadReported))
            assert outcome.finished_at <= job.spec.deadline + timedelta(minutes=stops)
    assert not world.running


def protected_work_that_runs_is_never_stopped_for_a_price(world, jobs):
    protected = {job.job_id for job in jobs if not job.spec.suspendable and not job.spec.preemptible}
    begun = {(one.job_id, one.revision) for one in of(world, WorkloadReported) if one.status == "started"}
    stopped = {(one.job_id, one.revision) for one in of(world, AllocationReleased) if one.grace_s}
    assert not {one for one in begun & stopped if one[0] in protected}


def nobody_is_sent_to_and_fro(world, _jobs):
    begun = {(one.job_id, one.revision) for one in of(world, WorkloadReported) if one.status == "started"}
    taken = defaultdict(list)
    for one in of(world, PlacementWithdrawn):
        if one.reason is WithdrawalReason.PRICE_BOUND and (one.job_id, one.revision) in begun:
            taken[one.job_id].append(one.decided_at)
    for times in taken.values():
        assert all(later - earlier >= timedelta(hours=1) for earlier, later in pairwise(times))


def what_left_for_a_price_does_not_come_back_into_its_hours(world, _jobs):
    asked: dict[str, ReliefRequested] = {}
    gone: set[str] = set()
    for one in world.log:
        match one:
            case ReliefRequested():
                asked[one.site] = one
            case PlacementWithdrawn():
                (gone.add if one.reason is WithdrawalReason.PRICE_BOUND else gone.discard)(one.job_id)
            case JobPlaced() if one.job_id in gone:
                gone.discard(one.job_id)
                hours = asked.get(one.site)
                assert hours is None or not hours.start <= one.start_at < hours.end, one
            case _:
                pass


def every_request_is_answered_once_and_only_while_its_hours_last(world, _jobs):
    asked = {(one.site, one.requested_at): one for one in of(world, ReliefRequested)}
    answers = of(world, ReliefAnswered)
    assert len({(one.site, one.requested_at) for one in answers}) == len(answers)
    for one in answers:
        request = asked[one.site, one.requested_at]
        assert request.reason is not ReliefReason.LIFTED
        # Two at one moment are told apart by a microsecond.
        assert request.requested_at - timedelta(milliseconds=1) <= one.answered_at < request.end
    named = [request for request in asked.values() if request.jobs]
    assert {(one.site, one.requested_at) for one in named} <= {(one.site, one.requested_at) for one in answers}


def a_request_is_made_only_for_hours_above_the_bound_and_once(world, _jobs):
    requests = of(world, ReliefRequested)
    for earlier, later in pairwise(requests):
        same = (earlier.site, earlier.start, earlier.end, earlier.reason, earlier.price_bound_eur_per_mwh)
        assert same != (later.site, later.start, later.end, later.reason, later.price_bound_eur_per_mwh)
    for one in requests:
        if one.reason is not ReliefReason.LIFTED:
            assert one.price_eur_per_mwh > one.price_bound_eur_per_mwh
            assert one.end > one.requested_at


LAWS = (
    every_job_ends_once_and_deadlines_are_kept,
    protected_work_that_runs_is_never_stopped_for_a_price,
    nobody_is_sent_to_and_fro,
    what_left_for_a_price_does_not_come_back_into_its_hours,
    every_request_is_answered_once_and_only_while_its_hours_last,
    a_request_is_made_only_for_hours_above_the_bound_and_once,
)


@FEW
@given(worlds)
def test_the_laws_hold_whatever_prices_do_and_whoever_restarts(drawn):
    world = lived(*drawn)
    for law in LAWS:
        law(world, drawn[3])


@FEW
@given(worlds, st.randoms(use_true_random=False))
def test_what_both_said_may_be_read_in_any_order(drawn, random):
    world = lived(*drawn)
    told = [event for event in world.log if event.TOPIC in ("grid", "responses")]
    shuffled = told.copy()
    random.shuffle(shuffled)
    cores = []
    for events in (told, [*shuffled, *shuffled]):
        core = CmoCore(POLICY)
        for event in (*(one for one in world.log if event_is_of_the_world(one)), *events):
            core.fold(event)
        core.fold(submitted("new", hours=100, runs=2, max_delay=24))
        cores.append(core.decide(at(100)))
    assert cores[0] == cores[1]


def event_is_of_the_world(event):
    return event.TOPIC in ("sites", "energy")
