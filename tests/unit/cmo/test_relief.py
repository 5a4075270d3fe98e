"""How a site answers the grid: from the ask to the report, and back to normal."""

import msgspec
import pytest

from solyx.events import Battery, DemandResponseReported, PlacementReason, WithdrawalReason, WorkloadReason
from tests.unit.cmo.cmo_builders import (
    at,
    cap,
    carbon,
    core,
    flat,
    node,
    only,
    placements,
    prices,
    report,
    site,
    submitted,
    withdrawals,
)

# One site: 100 W idle, 10 W a core, 8 cores; a second one only where a test says so.
START, END = 2.0, 5.0
S = 1 / 3600


def running(made, *jobs, hours=0.0):
    """Place and start the jobs."""
    for job in jobs:
        made.fold(job)
    placed = placements(made.decide(at(hours)))
    for one in placed:
        made.fold(report(one, "started", hours))
    made.decide(at(hours))
    return {one.job_id: one for one in placed}


def responses(decisions) -> list[DemandResponseReported]:
    return [one for one in decisions if isinstance(one, DemandResponseReported)]


def stop(made, placed, hours, progress_h=0.0):
    stopped = report(placed, "stopped", hours, reason=WorkloadReason.RELEASED)
    made.fold(msgspec.structs.replace(stopped, progress_s=progress_h * 3600, started_at=at(0)))


def suspendable(name, **more):
    return submitted(name, cores=2, runs=10, suspendable=True, max_delay=24, **more)


def protected(name, **more):
    return submitted(name, cores=2, runs=10, **{"max_delay": 0, **more})


def test_the_least_valuable_makes_room_just_before_the_window_and_comes_back_after_it():
    made = core(*flat("a"), reaction_s=10.0)
    placed = running(made, suspendable("low"), suspendable("high", priority=1), protected("kept"))
    made.fold(cap("a", 145, START, END))
    (planned,) = responses(made.decide(at(0.1)))
    assert (planned.status, planned.baseline_w, planned.planned_w) == ("planned", 160, 140)
    assert not made.decide(at(START) - (at(41 * S) - at(0))), "too early: 10 s of reaction and 30 s of grace"

    (withdrawn,) = withdrawals(made.decide(at(START - 40 * S)))
    assert (withdrawn.job_id, withdrawn.reason) == ("low", WithdrawalReason.GRID_EVENT)
    stop(made, placed["low"], START - 20 * S, progress_h=1.9)
    again = only(placements(made.decide(at(START - 20 * S))))
    assert (again.job_id, again.reason, again.progress_s) == ("low", PlacementReason.GRID_EVENT, 1.9 * 3600)
    assert again.start_at >= at(END)

    (active,) = responses(made.decide(at(START)))
    assert (active.status, active.now_w, active.suspended) == ("active", 140, 1)
    assert active.capped_at == at(START - 20 * S)
    (ended,) = responses(made.decide(at(END)))
    assert (ended.status, ended.mean_w, ended.peak_w, ended.protected_deadlines_missed) == ("ended", 140, 140, 0)


def test_protected_work_stays_and_the_report_says_why_the_cap_is_not_reached():
    made = core(*flat("a"))
    running(made, protected("p"), protected("q"))
    made.fold(cap("a", 120, START, END))
    made.decide(at(1))
    decisions = made.decide(at(START + 60 * S))
    assert not withdrawals(decisions)
    (short,) = responses(decisions)
    assert short.status == "short"
    assert "2 running jobs may be neither suspended nor preempted" in short.detail


def test_work_moves_where_that_costs_less_than_to_wait():
    made = core(*flat("a", "b"), delay_eur_per_job_h=1.0)
    placed = running(made, suspendable("j", sites=()))
    (name,) = {one.site for one in placed.values()}
    other = "b" if name == "a" else "a"
    made.fold(cap(name, 100, START, END))
    made.decide(at(0.1))
    assert withdrawals(made.decide(at(START)))
    stop(made, placed["j"], START, progress_h=2)
    decisions = made.decide(at(START + 10 * S))
    assert only(placements(decisions)).site == other
    (ended,) = responses(made.decide(at(END)))
    assert (ended.migrated, ended.suspended) == (1, 0)


def test_a_start_that_does_not_fit_under_the_cap_waits_for_the_end_of_the_window():
    made = core(*flat("a"))
    running(made, protected("p"))
    made.fold(cap("a", 125, START, END))
    made.decide(at(START))
    made.fold(submitted("late", hours=START + 0.5, cores=1, runs=0.1, max_delay=9))
    assert only(placements(made.decide(at(START + 0.5)))).start_at >= at(END)


def test_what_is_queued_at_the_site_is_taken_back_before_it_takes_the_room_of_what_stops():
    made = core(*flat("a"), reaction_s=10.0)
    placed = running(made, *(suspendable(f"r{n}") for n in range(4)))
    made.fold(submitted("queued", hours=0.5, cores=2, runs=1, max_delay=0.0, preemptible=True))
    assert only(placements(made.decide(at(0.5)))).site == "a"
    made.fold(cap("a", 145, START, END, announced=1))
    made.decide(at(1))
    taken = {one.job_id for one in withdrawals(made.decide(at(START - 40 * S)))}
    assert "queued" in taken
    assert len(taken - {"queued"}) == 2
    assert placed


def test_a_cancelled_event_lets_the_work_come_back():
    made = core(*flat("a"))
    placed = running(made, suspendable("j"))
    made.fold(cap("a", 100, START, END))
    made.decide(at(1))
    made.decide(at(START))
    stop(made, placed["j"], START, progress_h=2)
    waiting = only(placements(made.decide(at(START))))
    assert waiting.start_at >= at(END)
    made.fold(cap("a", 100, START, END, status="cancelled", announced=START))
    decisions = made.decide(at(START + 0.25))
    assert responses(decisions)[-1].status == "cancelled"
    assert only(withdrawals(decisions)).job_id == "j", "it is taken back to be placed earlier"
    made.fold(report(waiting, "stopped", START + 0.25, reason=WorkloadReason.RELEASED))
    assert only(placements(made.decide(at(START + 0.25)))).start_at == at(START + 0.25)


def test_a_changed_window_is_followed():
    made = core(*flat("a"))
    running(made, suspendable("j"))
    made.fold(cap("a", 100, START, END))
    made.decide(at(1))
    made.fold(cap("a", 100, 4.0, END, announced=1.5))
    assert not withdrawals(made.decide(at(3)))
    assert withdrawals(made.decide(at(4)))


def test_a_restarted_core_tells_on_where_the_last_one_stopped():
    made = core(*flat("a"))
    placed = running(made, suspendable("j"))
    events = [cap("a", 115, START, END)]
    made.fold(events[0])
    said = [*made.decide(at(1)), *made.decide(at(START))]
    stop(made, placed["j"], START + 5 * S, progress_h=2)
    said += made.decide(at(START + 5 * S))
    said += made.decide(at(START + 1))

    recovered = core(*flat("a"), suspendable("j"), placed["j"], *events, *said)
    (ended,) = responses(recovered.decide(at(END)))
    assert (ended.status, ended.suspended) == ("ended", 1)
    assert ended.mean_w == pytest.approx(100, abs=1)
    assert not responses(recovered.decide(at(END + 1)))


def test_repeats_change_nothing():
    made = core(*flat("a"))
    running(made, suspendable("j"))
    event = cap("a", 100, START, END)
    made.fold(event)
    first = made.decide(at(START))
    assert withdrawals(first)
    made.fold(event)
    for one in first:
        made.fold(one)
    assert not withdrawals(made.decide(at(START)))


def test_a_battery_counts_towards_the_cap_while_its_charge_lasts():
    battery = Battery(capacity_wh=100, charge_wh=60, max_discharge_w=50)
    charged = msgspec.structs.replace(site("a", node()), battery=battery)
    made = core(charged, *flat("a")[1:])
    running(made, suspendable("j"), suspendable("k"))
    made.fold(cap("a", 120, START, END))
    (planned,) = responses(made.decide(at(1)))
    assert (planned.battery_w, planned.planned_w) == (20, 120), "60 Wh over 3 h cover what the two jobs take too much"
    assert not withdrawals(made.decide(at(START)))
    (active,) = responses(made.decide(at(START + 0.1)))
    assert (active.status, active.now_w) == ("active", 120)

    emptier = msgspec.structs.replace(battery, charge_wh=5)
    made.fold(msgspec.structs.replace(charged, battery=emptier, observed_at=at(START + 1)))
    assert len(withdrawals(made.decide(at(START + 1)))) == 1


def taken_back(made, until, *, step=5 * S):
    """How often a placement that never started is taken back from the window's start on; each is reported to have stopped at once."""
    count, now = 0, START
    while now < until:
        decisions = made.decide(at(now))
        placed = {one.job_id: one for one in placements(decisions)}
        for one in withdrawals(decisions):
            count += 1
            made.fold(report(one, "stopped", now, reason=WorkloadReason.RELEASED))
        assert not placed or not withdrawals(decisions)
        now += step
    return count


@pytest.mark.parametrize("kind", [{"suspendable": True}, {"preemptible": True}])
def test_work_that_would_make_room_first_is_not_started_above_the_cap_even_if_it_must_not_wait(kind):
    made = core(*flat("a"), reaction_s=10.0)
    running(made, protected("p"))
    made.fold(cap("a", 125, START, END))
    made.decide(at(START))
    made.fold(submitted("now", hours=START, cores=2, runs=1, max_delay=0, **kind))
    assert only(placements(made.decide(at(START)))).start_at >= at(END)
    assert taken_back(made, START + 600 * S) == 0


def test_protected_work_that_cannot_wait_and_is_cheapest_here_is_taken_back_once_at_most():
    made = core(*flat("a"), site("b", node()), prices("b", *[500.0] * 120, start=-24), carbon("b"), reaction_s=10.0)
    running(made, protected("p", sites=("a",)))
    made.fold(cap("a", 125, START, END))
    made.decide(at(START))
    made.fold(submitted("short", hours=START, cores=2, runs=0.05, max_delay=0.2))
    assert taken_back(made, START + 600 * S) <= 1


def test_an_event_that_is_heard_of_after_its_window_began_does_not_count_the_time_before_as_nothing():
    made = core(*flat("a"))
    running(made, protected("p"))
    made.fold(cap("a", 150, START, END, announced=START))
    made.decide(at(START + 1))
    (ended,) = responses(made.decide(at(END)))
    assert ended.mean_w == pytest.approx(120)


def test_an_event_that_is_announced_before_its_site_is_seen_is_answered_once_it_is():
    made = core(cap("a", 100, START, END))
    made.decide(at(0))
    for event in flat("a"):
        made.fold(event)
    assert {one.status for one in responses(made.decide(at(1)))} == {"planned"}
    placed = running(made, suspendable("j"), hours=1)
    assert placed
    assert [one.job_id for one in withdrawals(made.decide(at(START)))] == ["j"]


def test_the_ramp_after_a_window_costs_no_deadline():
    made = core(*flat("a"), restart_s=0.0)
    tight = submitted("tight", cores=2, runs=10, suspendable=True, deadline=END + 8 + 60 * S)
    placed = running(made, suspendable("first"), tight)
    made.fold(cap("a", 100, START, END))
    made.decide(at(START))
    again = {}
    for name in ("first", "tight"):
        stop(made, placed[name], START, progress_h=2)
        again |= {one.job_id: one for one in placements(made.decide(at(START)))}
    assert again["first"].start_at == at(END)
    assert again["tight"].start_at == at(END + 60 * S)


def test_a_plan_with_pauses_is_still_known_when_its_turn_to_come_back_changes_nothing():
    dear = [5000.0 if hour in (24 + 6, 24 + 7) else 50.0 for hour in range(120)]
    made = core(site("a", node()), prices("a", *dear, start=-24), carbon("a"), delay_eur_per_job_h=3e-5, worth_eur=1.0)
    jobs = (
        submitted(name, cores=2, runs=4, suspendable=True, max_delay=24, priority=-n) for n, name in enumerate("ij")
    )
    placed = running(made, *jobs)
    made.fold(cap("a", 100, START, END))
    made.decide(at(1))
    made.decide(at(START))
    for name in "ij":
        stop(made, placed[name], START, progress_h=1)
        only(placements(made.decide(at(START))))
    made.decide(at(END))
    planned = made._ledger.committed("j").stretches
    assert len(planned) == 2
    assert not made.decide(at(END + 151 * S)), "its turn"
    assert made._ledger.committed("j").stretches == planned


def test_an_event_that_is_announced_again_after_it_was_cancelled_is_answered_again():
    log = list(flat("a"))
    made = core(*log)
    running(made, suspendable("j"))
    first = cap("a", 100, START, END)
    called_off = cap("a", 100, START, END, status="cancelled", announced=0.5)
    again = cap("a", 100, START, END, announced=1.0)
    told = []
    for event, hours in ((first, 0.1), (called_off, 0.6), (again, 1.1)):
        made.fold(event)
        told += responses(made.decide(at(hours)))
    assert [one.status for one in told] == ["planned", "cancelled", "planned"]
    assert [one.status for one in responses(made.decide(at(START)))] == ["active"]
    for order in ([first, called_off, again, *told[:2]], [*told[:2], again, called_off, first]):
        other = core(*log, *order)
        assert [one.status for one in responses(other.decide(at(1.1)))] == ["planned"]


def test_an_event_that_is_announced_again_for_a_window_that_is_over_is_not_told_of_again():
    made = core(*flat("a"))
    made.fold(cap("a", 100, START, END))
    made.decide(at(START))
    (ended,) = responses(made.decide(at(END)))
    assert ended.status == "ended"
    made.fold(cap("a", 100, START, END, announced=END + 1))
    assert made.decide(at(END + 1)) == []


def test_a_window_that_is_short_is_told_of_at_once_and_its_figures_once_a_minute():
    made = core(*flat("a"))
    running(made, protected("p"))
    made.fold(cap("a", 110, START, END))
    made.decide(at(1))
    told = responses(made.decide(at(START)))
    assert [one.status for one in told] == ["short"]
    for second in range(1, 121):
        now = START + second * S
        made.fold(submitted(f"j{second}", hours=now, cores=0.01, runs=1, max_delay=0))
        made.fold(msgspec.structs.replace(site("a", node()), observed_at=at(now)))
        decisions = made.decide(at(now))
        for one in placements(decisions):
            made.fold(report(one, "started", now))
        told += responses([*decisions, *made.decide(at(now))])
    assert len(told) == 3


def test_a_battery_lasts_through_all_windows_that_overlap():
    battery = Battery(capacity_wh=100, charge_wh=60, max_discharge_w=50)
    charged = msgspec.structs.replace(site("a", node()), battery=battery)
    made = core(charged, *flat("a")[1:])
    running(made, suspendable("j"), suspendable("k"))
    made.fold(cap("a", 120, START, START + 3))
    made.fold(cap("a", 120, START + 2, START + 6, event_id="f"))
    told = responses(made.decide(at(1)))
    assert [one.battery_w for one in told] == [10, 10], "60 Wh over 6 h"
    made.fold(cap("a", 120, START + 20, START + 21, event_id="g"))
    (apart,) = responses(made.decide(at(1.1)))
    assert apart.battery_w == 50


def test_a_start_that_is_put_off_for_a_cap_costs_what_its_own_hours_cost():
    dear = prices("a", *[50.0] * 26, 50.0, 50.0, 50.0, 80.0, *[80.0] * 20, start=-24)
    made = core(site("a", node()), dear, carbon("a"))
    running(made, protected("p"))
    made.fold(cap("a", 125, START, END))
    made.decide(at(START))
    made.fold(submitted("late", hours=START + 0.5, cores=1, runs=0.1, max_delay=9))
    late = only(placements(made.decide(at(START + 0.5))))
    assert late.start_at >= at(END)
    assert late.cost.energy_eur == pytest.approx(10e-6 * 0.1 * 80)
