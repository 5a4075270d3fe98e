"""What the CMO does when the DRM of a site asks for relief from its price."""

from datetime import timedelta

import msgspec
import pytest

from services.cmo.core import CmoCore
from services.cmo.model import Policy
from solyx.events import (
    KeptReason,
    PlacementReason,
    PowerModel,
    ReliefAnswered,
    ReliefJob,
    ReliefReason,
    ReliefRequested,
    WithdrawalReason,
    WorkloadReason,
)
from tests.unit.cmo.cmo_builders import (
    at,
    carbon,
    core,
    node,
    only,
    placements,
    prices,
    report,
    site,
    submitted,
    withdrawals,
)

# 10 W a core, 8 cores a site; "a" is a little cheaper, but for the hours that the DRM asks about.
START, END, BOUND = 2.0, 5.0, 100.0
S = 1 / 3600


def world(*names):
    return [
        event
        for index, name in enumerate(names)
        for event in (site(name, node(), egress=0.0), prices(name, *[50.0 + index] * 120, start=-24), carbon(name))
    ]


def asks(*placed, name="a", start=START, end=END, requested=START, reason=ReliefReason.PRICE_BOUND) -> ReliefRequested:
    return ReliefRequested(
        site=name,
        start=at(start),
        end=at(end),
        reason=reason,
        price_bound_eur_per_mwh=BOUND,
        price_eur_per_mwh=300.0,
        jobs=tuple(ReliefJob(job_id=one.job_id, revision=one.revision, power_w=10.0) for one in placed),
        detail="up to 300.00 EUR/MWh",
        requested_at=at(requested),
    )


def answers(decisions) -> list[ReliefAnswered]:
    return [one for one in decisions if isinstance(one, ReliefAnswered)]


def kept(answer) -> dict[str, KeptReason]:
    return {one.job_id: one.reason for one in answer.kept}


def running(made, *jobs, hours=0.0):
    """Place and start the jobs at "a"."""
    for job in jobs:
        made.fold(job)
    placed = {one.job_id: one for one in placements(made.decide(at(hours)))}
    for one in placed.values():
        assert one.site == "a"
        made.fold(report(one, "started", hours))
    made.decide(at(hours))
    return placed


def stop(made, placed, hours, progress_h):
    stopped = report(placed, "stopped", hours, reason=WorkloadReason.RELEASED)
    made.fold(msgspec.structs.replace(stopped, progress_s=progress_h * 3600, started_at=at(0)))


def suspendable(name="j", **more):
    return submitted(name, **{"cores": 2, "runs": 10, "suspendable": True, "max_delay": 24, "sites": ("a",), **more})


def test_named_work_is_suspended_until_the_price_falls_and_goes_on_with_its_progress():
    made = core(*world("a"))
    placed = running(made, suspendable())
    made.fold(asks(placed["j"]))
    decisions = made.decide(at(START))
    withdrawn = only(withdrawals(decisions))
    assert (withdrawn.reason, withdrawn.detail) == (WithdrawalReason.PRICE_BOUND, "up to 300.00 EUR/MWh")
    answer = only(answers(decisions))
    assert (answer.suspended, answer.relieved_w, answer.asked_w, answer.kept) == (1, 20, 10, ())
    assert (answer.start, answer.end, answer.requested_at) == (at(START), at(END), at(START))
    stop(made, placed["j"], START + 10 * S, 2.0)
    again = only(placements(made.decide(at(START + 10 * S))))
    assert (again.reason, again.start_at, again.progress_s) == (PlacementReason.PRICE_BOUND, at(END), 7200)


def test_named_work_moves_where_that_costs_less_than_to_wait():
    made = core(*world("a", "b"), delay_eur_per_job_h=1.0)
    placed = running(made, suspendable(sites=()))
    made.fold(asks(placed["j"]))
    assert only(answers(made.decide(at(START)))).migrated == 1
    stop(made, placed["j"], START, 2.0)
    again = only(placements(made.decide(at(START))))
    assert (again.site, again.start_at) == ("b", at(START))


def test_nothing_is_placed_anew_before_the_old_run_has_stopped():
    made = core(*world("a", "b"))
    placed = running(made, suspendable(sites=()))
    made.fold(asks(placed["j"]))
    made.decide(at(START))
    assert not made.decide(at(START + 0.2))


def test_preemptible_work_that_keeps_nothing_is_stopped():
    made = core(*world("a"))
    placed = running(made, suspendable(suspendable=False, preemptible=True, max_delay=48))
    made.fold(asks(placed["j"]))
    assert only(answers(made.decide(at(START)))).stopped == 1


@pytest.mark.parametrize(
    ("job", "reason"),
    [
        (suspendable(suspendable=False), KeptReason.PROTECTED),
        (suspendable(max_delay=None, deadline=12.5), KeptReason.DEADLINE),
        (suspendable(max_delay=2.9), KeptReason.DEADLINE),
    ],
    ids=["protected", "its deadline", "its maximum delay"],
)
def test_work_that_must_go_on_stays_and_the_answer_says_why(job, reason):
    made = core(*world("a"))
    placed = running(made, job)
    made.fold(asks(placed["j"]))
    decisions = made.decide(at(START))
    assert not withdrawals(decisions)
    assert kept(only(answers(decisions))) == {"j": reason}
    assert made.decide(at(START + 0.5)) == []


def test_work_whose_owner_weighs_delay_above_the_energy_stays():
    made = core(*world("a"))
    job = suspendable()
    weights = msgspec.structs.replace(job.spec.weights, delay_eur_per_h=1.0)
    placed = running(made, msgspec.structs.replace(job, spec=msgspec.structs.replace(job.spec, weights=weights)))
    made.fold(asks(placed["j"]))
    assert kept(only(answers(made.decide(at(START))))) == {"j": KeptReason.DELAY_WEIGHT}


def test_a_deadline_is_kept_where_another_site_has_room():
    made = core(*world("a", "b"))
    placed = running(made, suspendable(sites=(), max_delay=None, deadline=10.5))
    made.fold(asks(placed["j"]))
    decisions = made.decide(at(START))
    assert only(answers(decisions)).migrated == 1


def test_each_request_is_answered_once():
    made = core(*world("a"))
    placed = running(made, suspendable("j"), suspendable("k", max_delay=0))
    made.fold(asks(*placed.values()))
    assert len(answers(made.decide(at(START)))) == 1
    made.fold(asks(*placed.values()))
    assert not answers(made.decide(at(START + 0.1)))
    made.fold(asks(placed["k"], requested=START + 0.2, end=END + 1))
    assert kept(only(answers(made.decide(at(START + 0.2))))) == {"k": KeptReason.DEADLINE}


def test_a_request_for_another_revision_changes_nothing():
    made = core(*world("a"))
    placed = running(made, suspendable())
    made.fold(asks(msgspec.structs.replace(placed["j"], revision=7)))
    decisions = made.decide(at(START))
    assert not withdrawals(decisions)
    assert only(answers(decisions)).kept == ()


def test_a_request_whose_hours_are_over_asks_nothing():
    made = core(*world("a"))
    placed = running(made, suspendable())
    made.fold(asks(placed["j"]))
    assert made.decide(at(END)) == []


def test_nothing_new_is_placed_in_hours_that_were_announced_unless_its_deadline_forces_it():
    made = core(*world("a"))
    made.fold(asks(start=1.0, requested=0.0, reason=ReliefReason.ANNOUNCED))
    made.fold(submitted("short", runs=1, max_delay=24))
    made.fold(submitted("long", runs=2, max_delay=24))
    made.fold(submitted("forced", runs=2, max_delay=0))
    made.fold(submitted("due", runs=2, deadline=3.5))
    starts = {one.job_id: one.start_at for one in placements(made.decide(at(0)))}
    assert starts == {"short": at(0), "long": at(END), "forced": at(0), "due": at(0)}


def test_what_finds_no_room_anywhere_waits_for_the_end_of_the_hours_if_it_may():
    made = core(*world("a"), horizon_h=2)
    made.fold(asks(start=0.0, requested=0.0))
    made.fold(submitted("j", runs=1))
    made.fold(submitted("k", runs=1, max_delay=1))
    placed = {one.job_id: one for one in placements(made.decide(at(0)))}
    assert placed["j"].start_at == at(END)
    assert placed["k"].start_at == at(0)


def test_starts_that_were_planned_for_the_hours_are_delayed():
    dear = prices("a", *[200.0] * 26, 20.0, 20.0, 20.0, *[200.0] * 20, start=-24)
    made = core(site("a", node()), dear, carbon("a"))
    made.fold(suspendable("j", suspendable=False, runs=3))
    assert only(placements(made.decide(at(0)))).start_at == at(2)
    made.fold(asks(start=3.0, end=4.0, requested=0.5, reason=ReliefReason.ANNOUNCED))
    assert not withdrawals(made.decide(at(0.5))), "its start is not in those hours"
    made.fold(asks(start=2.0, end=5.0, requested=0.6, reason=ReliefReason.ANNOUNCED))
    decisions = made.decide(at(0.6))
    answer = only(answers(decisions))
    assert (answer.delayed, answer.relieved_w) == (1, 0), "nothing of it ran"
    assert only(withdrawals(decisions)).reason is WithdrawalReason.PRICE_BOUND


def test_what_queues_at_the_site_is_delayed_and_what_may_have_started_is_left():
    made = core(*world("a"), reaction_s=60.0)
    made.fold(submitted("queued", cores=2, runs=10, max_delay=24, hours=0))
    made.decide(at(0))
    made.fold(submitted("fresh", cores=2, runs=10, max_delay=24, hours=START))
    made.decide(at(START))
    made.fold(asks())
    decisions = made.decide(at(START + S))
    assert [one.job_id for one in withdrawals(decisions)] == ["queued"]


def test_hours_that_are_lifted_are_open_again():
    made = core(*world("a"))
    made.fold(asks(start=0.0, requested=0.0))
    made.decide(at(0))
    made.fold(asks(start=0.0, end=0.5, requested=0.5, reason=ReliefReason.LIFTED))
    made.fold(submitted("j", runs=1, max_delay=24, hours=0.5))
    decisions = made.decide(at(0.5))
    assert only(placements(decisions)).start_at == at(0.5)
    assert not answers(decisions)


def test_what_waits_for_the_end_of_the_hours_comes_back_when_they_are_lifted():
    made = core(*world("a"))
    placed = running(made, suspendable())
    made.fold(asks(placed["j"]))
    made.decide(at(START))
    stop(made, placed["j"], START, 2.0)
    waiting = only(placements(made.decide(at(START))))
    assert waiting.start_at == at(END)
    assert made.decide(at(START + 0.4)) == []
    made.fold(asks(end=START + 0.5, requested=START + 0.5, reason=ReliefReason.LIFTED))
    assert only(withdrawals(made.decide(at(START + 0.5)))).reason is WithdrawalReason.PRICE_BOUND
    made.fold(report(waiting, "stopped", START + 0.5, reason=WorkloadReason.RELEASED))
    again = only(placements(made.decide(at(START + 0.5))))
    assert (again.start_at, again.progress_s) == (at(START + 0.5), 7200)


def test_what_runs_is_taken_back_once_for_one_window():
    made = core(*world("a", "b"))
    placed = running(made, suspendable())
    made.fold(asks(placed["j"]))
    made.decide(at(START))
    stop(made, placed["j"], START, 2.0)
    again = only(placements(made.decide(at(START))))
    made.fold(report(again, "started", END - 0.5))  # a site may start it early, whatever was planned
    made.fold(asks(again, requested=END - 0.4, end=END + 1))
    decisions = made.decide(at(END - 0.4))
    assert kept(only(answers(decisions))) == {"j": KeptReason.RECENT}
    made.fold(asks(again, start=END, requested=END, end=END + 2))
    assert only(withdrawals(made.decide(at(END)))).job_id == "j", "another window, three hours later"


def recovered(events, seed=0, **policy):
    made = CmoCore(Policy(delay_eur_per_job_h=1e-7, **policy))
    for event in events if seed == 0 else reversed(events):
        made.fold(event)
    return made


@pytest.mark.parametrize("order", [0, 1], ids=["in order", "in reverse order"])
def test_a_core_that_recovers_answers_nothing_twice_and_keeps_the_hours_closed(order):
    log = [*world("a"), suspendable("j"), suspendable("p", suspendable=False)]
    made = core(*log)
    placed = made.decide(at(0))
    started = [report(one, "started", 0) for one in placements(placed)]
    asked = asks(*placements(placed))
    for event in (*started, asked):
        made.fold(event)
    decided = made.decide(at(START))
    again = recovered([*log, *placed, *started, asked, *decided], order)
    assert again.decide(at(START + S)) == []
    again.fold(submitted("new", runs=1, max_delay=24, hours=START))
    assert only(placements(again.decide(at(START + 2 * S)))).start_at == at(END)


def test_a_core_that_recovers_before_it_answered_answers():
    log = [*world("a"), suspendable("j")]
    made = core(*log)
    placed = made.decide(at(0))
    asked = asks(*placements(placed))
    again = recovered([asked, *log, *placed, *(report(one, "started", 0) for one in placements(placed))])
    assert only(answers(again.decide(at(START)))).suspended == 1


def test_that_it_was_taken_back_is_known_from_the_next_placement_alone():
    log = [*world("a"), suspendable("j")]
    made = core(*log)
    first = made.decide(at(0))
    for event in (*(report(one, "started", 0) for one in placements(first)), asks(*placements(first))):
        made.fold(event)
    made.decide(at(START))
    stop(made, placements(first)[0], START, 2.0)
    second = placements(made.decide(at(START)))
    # Compaction keeps the last record of a site and job.
    later = asks(*second, requested=START + 0.1, end=END + 1)
    again = recovered([*log, *second, report(second[0], "started", START), later])
    decisions = again.decide(at(START + 0.1))
    assert kept(only(answers(decisions))) == {"j": KeptReason.RECENT}


def test_a_request_of_a_site_that_nobody_has_seen_waits_for_it():
    made = core(asks())
    assert made.decide(at(START)) == []
    for event in world("a"):
        made.fold(event)
    assert only(made.decide(at(START) + timedelta(seconds=1))).site == "a"


def test_an_older_request_changes_nothing():
    made = core(*world("a"))
    made.fold(asks(start=0.0, requested=1.0, reason=ReliefReason.ANNOUNCED))
    made.fold(asks(start=0.0, end=0.5, requested=0.5, reason=ReliefReason.LIFTED))
    made.fold(submitted("j", runs=1, max_delay=24, hours=1))
    assert only(placements(made.decide(at(1)))).start_at == at(END)


def test_the_room_of_what_stays_stays_its_own():
    made = core(*world("a"))
    placed = running(made, suspendable(cores=8, max_delay=None, deadline=12.5))
    made.fold(asks(placed["j"]))
    assert kept(only(answers(made.decide(at(START))))) == {"j": KeptReason.DEADLINE}
    made.fold(submitted("next", cores=8, runs=1, max_delay=24, hours=START))
    assert only(placements(made.decide(at(START)))).start_at >= at(10)


def test_a_planned_start_is_delayed_again_when_the_hours_grow():
    made = core(*world("a"))
    placed = running(made, suspendable())
    made.fold(asks(placed["j"]))
    made.decide(at(START))
    stop(made, placed["j"], START, 2.0)
    waiting = only(placements(made.decide(at(START))))
    made.fold(asks(requested=START + 1, end=END + 2))
    assert only(answers(made.decide(at(START + 1)))).delayed == 1
    made.fold(report(waiting, "stopped", START + 1, reason=WorkloadReason.RELEASED))
    assert only(placements(made.decide(at(START + 1)))).start_at == at(END + 2)


def test_what_runs_is_not_taken_back_twice_within_an_hour_even_for_another_window():
    made = core(*world("a"))
    placed = running(made, suspendable())
    made.fold(asks(placed["j"], end=3.0, requested=2.9))
    made.decide(at(2.9))
    stop(made, placed["j"], 2.9, 2.9)
    again = only(placements(made.decide(at(2.9))))
    made.decide(at(3))
    made.fold(report(again, "started", 3))
    made.fold(asks(again, start=3.0, requested=3.1))
    assert kept(only(answers(made.decide(at(3.1))))) == {"j": KeptReason.RECENT}


def test_what_queues_is_left_until_the_hours_begin():
    made = core(*world("a"), reaction_s=60.0)
    made.fold(submitted("queued", cores=2, runs=1, max_delay=24, hours=0))
    made.decide(at(0))
    made.fold(asks(start=3.0, requested=2.0, reason=ReliefReason.ANNOUNCED))
    assert not withdrawals(made.decide(at(2)))


def test_work_that_takes_no_power_may_start_in_closed_hours():
    powerless = site("a", node(), power=PowerModel(idle_w_per_node=100))
    made = core(powerless, *world("a")[1:], asks(start=0.0, requested=0.0))
    made.fold(submitted("j", runs=1, max_delay=24))
    assert only(placements(made.decide(at(0)))).start_at == at(0)
