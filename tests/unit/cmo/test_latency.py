"""Jobs that must be near a place: where they go, when they are moved, and when they are left where they are."""

import pytest

from services.cmo.settings import CmoSettings
from solyx.events import (
    DeferralCause,
    FinishReason,
    JobFinished,
    JobPlaced,
    LatencyReason,
    PlacementDeferred,
    PlacementReason,
    PlacementWithdrawn,
    WithdrawalReason,
    WorkloadReason,
)
from tests.unit.cmo.cmo_builders import (
    T0,
    at,
    core,
    flat,
    measured,
    node,
    only,
    outcomes,
    placements,
    report,
    site,
    submitted,
    withdrawals,
)
from tests.unit.cmo.latency_builders import MINUTE, NEAR, TIED, reasons, running, steps, stopped, two_sites

# Where ----------------------------------------------------------------------------------------------------------------


def test_a_measured_round_trip_wins_over_the_declared_one():
    events = [*flat("a", latency={"office": 5}), *flat("b", latency={"office": 50})]
    job = submitted(max_delay=0, latency=NEAR)
    assert only(placements(core(*events, job).decide(T0))).site == "a"
    told = [measured("a", office=50), measured("b", office=5)]
    assert only(placements(core(*events, *told, job).decide(T0))).site == "b"


def test_the_figures_stand_in_the_words_of_the_placement():
    placed = only(placements(core(*two_sites(a=50.5, b=12.5), submitted(latency=NEAR)).decide(T0)))
    assert placed.reason is PlacementReason.ONLY_SITE
    assert placed.bound_by.endswith("latency: b is 12.5 ms from office (measured); the job asks for at most 20 ms")


def test_a_latency_that_keeps_no_site_away_is_not_said_to_bind():
    placed = only(placements(core(*two_sites(a=5, b=12), submitted(latency=NEAR)).decide(T0)))
    assert placed.bound_by == ""


def test_what_is_measured_to_another_site_and_declared_from_there_adds_up():
    events = [*flat("a"), *flat("b", latency={"office": 5})]
    job = submitted(max_delay=0, latency=NEAR, sites=("a",))
    (near,) = placements(core(*events, measured("a", b=14), job).decide(T0))
    assert near.site == "a"
    refused = only(outcomes(core(*events, measured("a", b=16), job).decide(T0)))
    assert refused.reason is FinishReason.LATENCY_UNREACHABLE
    assert refused.message.endswith("is a with 21 ms (measured to b, declared from there)")


def test_what_a_site_declares_itself_wins_over_the_way_by_another():
    events = [*flat("a", latency={"office": 30}), *flat("b", latency={"office": 1})]
    refused = only(outcomes(core(*events, measured("a", b=1), submitted(latency=NEAR, sites=("a",))).decide(T0)))
    assert refused.message.endswith("is a with 30 ms (declared)")


def test_a_site_is_a_place():
    cmo = core(*flat("a", "b"), measured("a", b=30), measured("b", a=30), submitted(latency=("b", 10)))
    assert only(placements(cmo.decide(T0))).site == "b"


def test_a_measurement_that_is_too_old_says_nothing():
    events = [*flat("a", latency={"office": 5}), *flat("b", latency={"office": 50}), measured("a", lasts=1, office=50)]
    cmo = core(*events, submitted(max_delay=0, latency=NEAR))
    assert only(cmo.decide(at(0.99))).reason is DeferralCause.LATENCY
    assert only(placements(cmo.decide(at(1)))).site == "a"


def test_an_earlier_measurement_changes_nothing():
    later, earlier = measured("a", 1, office=5), measured("a", office=50)
    cmo = core(*flat("a"), later, earlier, submitted(latency=NEAR))
    assert only(placements(cmo.decide(at(1)))).site == "a"


# Refused, or waiting --------------------------------------------------------------------------------------------------


def test_a_bound_below_every_measured_round_trip_is_refused_with_the_figure():
    finished = only(core(*two_sites(a=50, b=30.5), submitted(latency=NEAR)).decide(T0))
    assert isinstance(finished, JobFinished)
    assert (
        finished.message == "asks for 20 ms to office; the nearest site that can hold it is b with 30.5 ms (measured)"
    )


@pytest.mark.parametrize(("declared", "now_ms"), [({"office": 5}, 50.0), ({}, None)])
def test_a_bound_that_is_only_exceeded_for_now_is_waited_for(declared, now_ms):
    cmo = core(*flat("a", latency=declared), measured("a", office=now_ms), submitted(latency=NEAR))
    waits = only(cmo.decide(T0))
    assert isinstance(waits, PlacementDeferred)
    assert waits.reason is DeferralCause.LATENCY
    assert "asks for 20 ms to office" in waits.detail
    cmo.fold(measured("a", 0.5, office=6))
    assert only(placements(cmo.decide(at(0.5)))).site == "a"


def test_a_job_that_was_placed_before_is_not_refused_for_its_latency_but_waits():
    cmo, placed = running(*two_sites(a=5))
    cmo.fold(measured("a", 0.2, office=60))
    cmo.fold(stopped(placed, 0.3))
    waits = only(cmo.decide(at(0.3)))
    assert isinstance(waits, PlacementDeferred)
    cmo.fold(measured("a", 0.5, office=5))
    assert only(placements(cmo.decide(at(0.5)))).progress_s == 1800


# Moving ---------------------------------------------------------------------------------------------------------------


def test_a_run_moves_when_its_site_has_been_too_far_for_a_while():
    cmo, placed = running(*two_sites(a=5, b=15))
    cmo.fold(measured("a", 0.2, office=31.5))
    assert cmo.decide(at(0.2)) == []
    assert cmo.decide(at(0.2 + 4.9 * MINUTE)) == []
    withdrawn = only(cmo.decide(at(0.2 + 5 * MINUTE)))
    assert isinstance(withdrawn, PlacementWithdrawn)
    assert withdrawn.reason is WithdrawalReason.LATENCY
    assert withdrawn.detail == "a is 31.5 ms from office (measured); the job asks for at most 20 ms"
    assert cmo.decide(at(0.4)) == []
    cmo.fold(stopped(placed, 0.5))
    moved = only(placements(cmo.decide(at(0.5))))
    assert (moved.site, moved.reason, moved.revision) == ("b", PlacementReason.LATENCY, 2)
    assert moved.progress_s == 1800
    assert "b is 15 ms from office (measured)" in moved.bound_by


def test_how_long_it_has_been_too_far_is_read_off_the_measurement_and_not_off_the_clock():
    cmo, _ = running(*two_sites(a=5, b=15))
    cmo.fold(measured("a", 0.3, since=0.15, office=31.5))
    assert only(cmo.decide(at(0.3))).reason is WithdrawalReason.LATENCY


def test_plans_that_are_looked_at_again_meanwhile_do_not_move_it_sooner():
    cmo, _ = running(*two_sites(a=5, b=15))
    cmo.fold(measured("a", 0.2, office=31.5))
    cmo.fold(site("b", node(cores=16), hours=0.21))
    assert cmo.decide(at(0.21)) == []


def test_a_latency_that_falls_again_in_time_moves_nothing():
    cmo, _ = running(*two_sites(a=5, b=15))
    cmo.fold(measured("a", 0.2, office=31.5))
    assert cmo.decide(at(0.2)) == []
    cmo.fold(measured("a", 0.25, office=19))
    assert steps(cmo, 0.25, 0.9) == []


def test_a_run_stays_where_nobody_else_is_near():
    cmo, _ = running(*two_sites(a=5))
    cmo.fold(measured("b", 0.2, office=60))
    cmo.fold(measured("a", 0.2, office=50))
    assert reasons(steps(cmo, 0.2, 3)) == [LatencyReason.NO_NEARER_SITE]


def test_a_run_is_not_taken_to_a_site_that_barely_meets_the_bound():
    cmo, _ = running(*two_sites(a=5, b=19))
    cmo.fold(measured("a", 0.2, office=50))
    assert reasons(steps(cmo, 0.2, 0.9)) == [LatencyReason.NO_NEARER_SITE]


def test_a_run_stays_while_the_nearer_site_is_full_and_moves_when_it_has_room():
    other = submitted("other", cores=8, runs=10, max_delay=0, sites=("b",))
    cmo = core(*two_sites(a=5, b=15), submitted(cores=8, runs=10, max_delay=5, suspendable=True, latency=NEAR), other)
    first = {placed.job_id: placed for placed in placements(cmo.decide(T0))}
    for placed in first.values():
        cmo.fold(report(placed, "started"))
    cmo.fold(measured("a", 0.2, office=50))
    assert reasons(steps(cmo, 0.2, 0.9)) == [LatencyReason.NO_NEARER_SITE]
    cmo.fold(report(first["other"], "succeeded", 0.95, reason=WorkloadReason.COMPLETED))
    withdrawn = withdrawals(steps(cmo, 0.95, 1.2))
    assert [event.reason for event in withdrawn] == [WithdrawalReason.LATENCY]


def test_what_keeps_no_progress_is_left_to_run():
    cmo, _ = running(*two_sites(a=5, b=15), job=TIED)
    cmo.fold(measured("a", 0.2, office=50))
    assert reasons(steps(cmo, 0.2, 3)) == [LatencyReason.NOT_SUSPENDABLE]


@pytest.mark.parametrize("hours", [0.1, 1.5])
def test_what_has_not_started_moves_whether_it_is_planned_or_queues(hours):
    job = submitted(runs=2, max_delay=0, latency=NEAR)
    cmo = core(*two_sites(a=5, b=15), job)
    placed = only(placements(cmo.decide(T0)))
    assert placed.site == "a"
    assert cmo.decide(at(hours)) == []
    cmo.fold(measured("a", hours, office=50))
    assert cmo.decide(at(hours)) == []
    assert only(cmo.decide(at(hours + 5 * MINUTE))).reason is WithdrawalReason.LATENCY


def test_a_declared_latency_that_is_changed_moves_a_run_at_once():
    events = [*flat("a", latency={"office": 5}), *flat("b", latency={"office": 15})]
    cmo, _ = running(*events)
    cmo.fold(site("a", latency={"office": 90}, hours=0.2))
    withdrawn = only(cmo.decide(at(0.2)))
    assert withdrawn.detail == "a is 90 ms from office (declared); the job asks for at most 20 ms"


def test_a_place_that_the_network_does_not_reach_any_more_is_too_far():
    cmo, _ = running(*two_sites(a=5, b=15))
    cmo.fold(measured("a", 0.2, office=None))
    withdrawn = only(withdrawals(steps(cmo, 0.2, 0.3)))
    assert withdrawn.detail.startswith("a has no way to office (measured)")


def test_a_run_is_left_in_peace_after_it_was_moved():
    cmo, placed = running(*two_sites(a=5, b=15))
    cmo.fold(measured("a", 0.2, office=50))
    only(withdrawals(steps(cmo, 0.2, 0.3)))
    cmo.fold(stopped(placed, 0.5))
    moved = only(placements(cmo.decide(at(0.5))))
    cmo.fold(report(moved, "started", 0.5))
    cmo.fold(measured("b", 0.55, office=50))
    cmo.fold(measured("a", 0.55, office=5))
    assert reasons(steps(cmo, 0.55, 0.95)) == [LatencyReason.RECENT]
    withdrawn = only(withdrawals(steps(cmo, 1.0, 1.1)))
    assert withdrawn.site == "b"


def test_a_cancelled_job_is_not_moved():
    cmo, placed = running(*two_sites(a=5, b=15))
    cmo.fold(measured("a", 0.2, office=50))
    cmo._jobs[placed.job_id].cancel_requested = True
    assert steps(cmo, 0.2, 0.4) == []


def test_a_recovered_core_goes_on_where_the_last_one_stopped():
    events = [*two_sites(a=5, b=15), submitted(runs=10, max_delay=5, suspendable=True, latency=NEAR)]
    cmo = core(*events)
    placed = only(placements(cmo.decide(T0)))
    later = [report(placed, "started"), measured("a", 0.2, office=31.5)]
    for event in later:
        cmo.fold(event)
    assert cmo.decide(at(0.2)) == []
    recovered = core(*events, placed, *later)
    assert recovered.decide(at(0.25)) == []
    assert recovered.decide(at(0.3)) == cmo.decide(at(0.3)) != []


def test_in_a_fast_replay_patience_is_no_shorter_than_what_services_need_to_react():
    assert CmoSettings().policy(speed=1).latency_patience_s == 300
    assert CmoSettings().policy(speed=3600).latency_patience_s == 36000


def test_no_measurement_leaves_placements_as_they_were():
    events = [*flat("a", latency={"office": 5}), *flat("b", latency={"office": 50})]
    placed = only(core(*events, submitted(max_delay=0, latency=NEAR)).decide(T0))
    assert isinstance(placed, JobPlaced)
    assert placed.site == "a"


def test_news_that_never_ends_keeps_no_job_from_being_looked_at():
    jobs = [submitted(f"j{n}", cores=0.1, runs=10, max_delay=5, suspendable=True, latency=NEAR) for n in range(6)]
    cmo = core(*two_sites(a=5, b=15), *jobs, replan_jobs=2)
    for placed in placements(cmo.decide(T0)):
        assert placed.site == "a"
        cmo.fold(report(placed, "started"))
    cmo.fold(measured("a", 0.2, since=0.1, office=50))
    moved = set()
    for n in range(3):
        cmo.fold(measured("b", 0.3 + n / 100, office=14 + n / 10))
        moved |= {withdrawn.job_id for withdrawn in withdrawals(cmo.decide(at(0.3 + n / 100)))}
    assert moved == {job.job_id for job in jobs}
