"""Who makes room under a power cap."""

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cmo.core.shedding import Load, Step, shed


def load(job_id, power_w=100.0, **changes) -> Load:
    values = {
        "priority": 0,
        "running": True,
        "suspendable": True,
        "preemptible": False,
        "keeps_deadline": True,
        "slack_s": inf,
        "lost_s": 60.0,
    } | changes
    return Load(job_id=job_id, power_w=power_w, **values)


def names(result) -> list[str]:
    return [job_id for job_id, _ in result.steps]


def test_nobody_is_disturbed_below_the_cap():
    assert shed([load("a"), load("b")], 200).steps == ()


@pytest.mark.parametrize(
    ("more", "less"),
    [
        ({"priority": 1}, {"priority": 0}),
        ({"slack_s": 3600.0}, {"slack_s": inf}),
        ({"lost_s": 120.0}, {"lost_s": 60.0}),
        ({"keeps_deadline": False}, {"keeps_deadline": True}),
        ({"running": True}, {"running": False, "priority": 9}),
        ({"suspendable": False, "preemptible": True}, {"suspendable": True, "priority": 9}),
    ],
)
def test_the_less_valuable_goes_first(more, less):
    assert names(shed([load("a", **more), load("b", **less)], 110)) == ["b"]


def test_what_fits_after_all_is_kept():
    result = shed([load("small", 50), load("large", 300, lost_s=600.0)], 100)
    assert names(result) == ["large"]
    assert result.left_w == 50


def test_protected_work_is_delayed_only_if_its_deadline_is_kept_and_never_stopped():
    running = load("runs", suspendable=False)
    urgent = load("urgent", suspendable=False, running=False, keeps_deadline=False)
    patient = load("patient", suspendable=False, running=False)
    result = shed([running, urgent, patient], 50)
    assert result.steps == (("patient", Step.DELAY),)
    assert result.short_w == 150
    assert "1 running jobs" in result.reason
    assert "1 must start" in result.reason


def test_a_cap_below_the_idle_floor_is_said_to_be_that():
    result = shed([load("a")], -20)
    assert names(result) == ["a"]
    assert result.short_w == 20
    assert "below what the idle nodes take" in shed([load("a", suspendable=False)], -20).reason


LOADS = st.builds(
    lambda power_w, **rest: (power_w, rest),
    power_w=st.integers(0, 50),
    priority=st.integers(-2, 2),
    running=st.booleans(),
    suspendable=st.booleans(),
    preemptible=st.booleans(),
    keeps_deadline=st.booleans(),
    slack_s=st.sampled_from([0.0, 3600.0, inf]),
    lost_s=st.integers(0, 5),
)


@given(st.lists(LOADS, max_size=12), st.integers(-20, 300), st.randoms(use_true_random=False))
def test_the_cap_is_reached_wherever_it_can_be_and_nothing_is_taken_for_nothing(drawn, room_w, random):
    loads = [load(str(n), float(power_w), **rest) for n, (power_w, rest) in enumerate(drawn)]
    result = shed(loads, room_w)
    by_id = {one.job_id: one for one in loads}
    taken = set(names(result))
    assert len(taken) == len(result.steps)
    left_w = sum(one.power_w for one in loads if one.job_id not in taken)
    assert result.left_w == left_w
    # Protected work that runs stays, and so does a protected start that could not keep its deadline.
    assert not any(by_id[job].protected and (by_id[job].running or not by_id[job].keeps_deadline) for job in taken)
    # Reached, or only untouchable work is left.
    untouchable_w = sum(one.power_w for one in loads if one.step is None)
    assert left_w <= max(room_w, untouchable_w)
    assert bool(result.reason) == (result.short_w > 0)
    # Nothing that was taken would have fitted.
    assert all(left_w + by_id[job].power_w > room_w for job in taken)
    # The order in which loads are told does not matter.
    shuffled = list(loads)
    random.shuffle(shuffled)
    assert shed(shuffled, room_w) == result
