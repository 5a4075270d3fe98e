"""When the price passes the owner's bound: when the DRM asks for relief, and which work it names."""

import msgspec
import pytest

from services.drm.core import DrmCore
from solyx.events import ReliefReason
from tests.unit.drm.drm_world import World, at, job_spec, node, observed, placed, prices, reported, requests

H = 3600.0
DEAR, CHEAP, BOUND = 300.0, 50.0, 100.0


def world(*jobs, bound=BOUND, values=(CHEAP, DEAR, DEAR, CHEAP), **more) -> World:
    """Two hours above the bound, from the second hour on; the jobs run since the first."""
    made = World()
    made.tell(observed(node("n", cpu=64), bound=bound, **more), prices(*values))
    for job_id, spec in jobs:
        made.tell(placed(job_id, spec))
    for job_id, allocated in {one.job_id: one for one in made.decide(0) if hasattr(one, "pods")}.items():
        assert job_id
        made.tell(reported(allocated, "started"))
    return made


def lasting(hours=10.0, **more):
    return job_spec(duration=hours * H, **{"suspendable": True, **more})


def named(request):
    return [one.job_id for one in request.jobs]


def opened(made: World, seconds=H):
    (request,) = requests(made.decide(seconds))
    return request


def test_the_hours_above_the_bound_are_announced_when_they_are_published():
    made = World()
    made.tell(observed(node("n"), bound=BOUND), prices(CHEAP, DEAR, 400.0, CHEAP))
    (request,) = requests(made.decide(0))
    assert (request.reason, request.start, request.end) == (ReliefReason.ANNOUNCED, at(H), at(3 * H))
    assert (request.price_bound_eur_per_mwh, request.price_eur_per_mwh, request.jobs) == (BOUND, 400.0, ())
    assert request.detail == "up to 400.00 EUR/MWh until 2023-06-01T03:00+00:00, above the bound of 100.00"
    assert not requests(made.decide(1)), "once"


def test_when_they_begin_what_runs_is_named_the_least_valuable_first():
    made = world(
        ("high", lasting(priority=2)),
        ("urgent", lasting(delay_eur_per_h=0.0001)),
        ("small", lasting()),
        ("large", lasting(cpu=4)),
    )
    request = opened(made)
    assert request.reason is ReliefReason.PRICE_BOUND
    assert named(request) == ["large", "small", "urgent", "high"]
    assert [one.power_w for one in request.jobs] == [40, 10, 10, 10]
    # Two hours at 200 EUR/MWh above the bound, less a minute of work that is done again at 100 EUR/MWh.
    assert request.jobs[1].saves_eur == pytest.approx(10e-6 * (2 * 200 - 100 / 60))
    assert not requests(made.decide(H + 1)), "once"


def test_what_keeps_its_work_goes_before_what_loses_it_and_what_lost_less_before_what_lost_more():
    made = world(("lost", job_spec(duration=10 * H, preemptible=True)), ("kept", lasting()))
    made.tell(placed("young", job_spec(duration=10 * H, preemptible=True)))
    for allocated in made.decide(0.5 * H):
        made.tell(reported(allocated, "started", seconds=0.5 * H))
    assert named(opened(made)) == ["kept", "young", "lost"]


def test_what_would_be_done_again_weighs_more_than_size():
    made = world(("large", job_spec(cpu=8, duration=10 * H, preemptible=True)), ("small", lasting()))
    assert named(opened(made)) == ["small", "large"]


def test_what_has_less_left_than_it_would_lose_is_let_end_however_high_the_price():
    made = world(("j", job_spec(duration=7 * H, preemptible=True)), values=[CHEAP] * 5 + [4000.0] * 3 + [CHEAP])
    assert named(opened(made, 5 * H)) == []


def test_a_run_saves_no_longer_than_it_lasts():
    (job,) = opened(world(("j", lasting(1.5)))).jobs
    assert job.saves_eur == pytest.approx(10e-6 * (0.5 * 200 - 100 / 60))


def test_protected_work_is_not_named():
    made = world(("protected", lasting(suspendable=False)))
    assert named(opened(made)) == []


def test_what_is_about_to_end_is_let_end():
    made = world(("soon", lasting(1 + 1 / 120)), ("later", lasting(1.5)))
    assert named(opened(made)) == ["later"]


def test_what_would_lose_more_work_than_the_bound_saves_is_let_go_on():
    made = world(("long", job_spec(duration=20 * H, preemptible=True)), values=[CHEAP] * 8 + [110.0, CHEAP])
    assert named(opened(made, 8 * H)) == []


def test_a_price_that_is_hardly_above_the_bound_is_not_worth_a_restart():
    assert named(opened(world(("j", lasting()), values=(CHEAP, 101.0, CHEAP)))) == []
    assert named(opened(world(("j", lasting()), values=(CHEAP, 103.0, CHEAP)))) == ["j"]


def test_a_job_whose_owner_weighs_delay_above_the_saving_is_not_named():
    assert named(opened(world(("j", lasting(delay_eur_per_h=1.0))))) == []


def test_what_outlasts_its_estimate_is_taken_to_need_as_long_again_as_it_is_late():
    made = world(("late", lasting(0.5)), ("just", lasting(1 - 1 / 120)))
    assert named(opened(made)) == ["late"]


def test_what_was_told_to_stop_is_not_named():
    made = world(("j", lasting()))
    made.tell(msgspec.structs.replace(observed(node("n", cpu=64, draining=True), bound=BOUND), observed_at=at(1)))
    made.decide(2)
    assert named(opened(made)) == []


def test_a_single_hour_below_the_bound_is_bridged_and_two_are_not():
    made = world(values=(CHEAP, DEAR, CHEAP, DEAR, CHEAP, CHEAP, DEAR))
    assert (opened(made).end, requests(made.decide(2 * H))) == (at(4 * H), [])
    (following,) = requests(made.decide(4 * H))
    assert (following.reason, following.start, following.end) == (ReliefReason.ANNOUNCED, at(6 * H), at(7 * H))


def test_an_hour_without_a_published_price_is_not_guessed():
    made = world(values=(CHEAP, DEAR, None, DEAR, CHEAP))
    assert opened(made).end == at(2 * H)


def test_hours_that_are_published_later_extend_what_was_asked_for():
    made = world(("j", lasting()), values=(CHEAP, DEAR))
    assert opened(made).end == at(2 * H)
    made.tell(prices(DEAR, hours=2))
    (again,) = requests(made.decide(1.5 * H))
    assert (again.start, again.end, named(again)) == (at(H), at(3 * H), ["j"])


@pytest.mark.parametrize(
    "news",
    [prices(CHEAP, CHEAP, hours=1), observed(node("n", cpu=64), seconds=1.4 * H)],
    ids=["the price is corrected", "the bound is taken away"],
)
def test_what_was_asked_for_is_lifted_when_it_does_not_hold_any_more(news):
    made = world(("j", lasting()))
    opened(made)
    made.tell(news)
    (lifted,) = requests(made.decide(1.5 * H))
    assert (lifted.reason, lifted.end, lifted.jobs) == (ReliefReason.LIFTED, at(1.5 * H), ())
    assert not requests(made.decide(1.6 * H))


def test_without_a_bound_nothing_is_asked_for():
    made = world(("j", lasting()), bound=None)
    assert not requests(made.decide(H))


def test_a_bound_may_lie_below_zero():
    made = world(("j", lasting()), bound=-10.0, values=(-20.0, -5.0, -20.0))
    (job,) = opened(made).jobs
    assert job.saves_eur == pytest.approx(10e-6 * 5), "a restart at a price below zero is no gain"


def test_a_core_that_recovers_asks_for_nothing_twice():
    made = world(("j", lasting()))
    asked = opened(made)
    for topics in (("sites", "energy", "grid"), ("grid", "energy", "sites")):
        again = DrmCore()
        for topic in (*topics, "placements", "allocations", "actuations"):
            for event in made.history[topic]:
                again.fold(event)
        assert not requests(list(again.decide(at(H + 60))))
        again.fold(prices(CHEAP, CHEAP, hours=1))
        (lifted,) = requests(list(again.decide(at(H + 60))))
        assert lifted.requested_at > asked.requested_at


def test_each_request_is_later_than_the_one_before_even_at_the_same_moment():
    made = world()
    first = opened(made)
    made.tell(prices(DEAR, hours=3))
    (second,) = requests(made.decide(H))
    assert second.requested_at > first.requested_at
