"""From submission to the one outcome: retries, cancellation, stuck and lost placements, refusals, recovery."""

import pytest

from solyx.events import (
    NOWHERE,
    DeferralCause,
    FinishReason,
    JobFinished,
    JobPlaced,
    PlacementDeferred,
    PlacementReason,
    PlacementWithdrawn,
    WithdrawalReason,
    WorkloadReason,
)
from tests.unit.cmo.cmo_builders import (
    T0,
    at,
    cancelled,
    carbon,
    core,
    flat,
    node,
    only,
    outcomes,
    placements,
    prices,
    report,
    site,
    submitted,
    withdrawals,
)


def placed_job(*extra, job=None, names=("a", "b"), **policy):
    """A core in which one job is placed at once at `a`, and the placement."""
    cmo = core(*flat(*names), *extra, job or submitted(max_delay=0), **policy)
    return cmo, only(placements(cmo.decide(T0)))


def refused(cmo, now=0.0) -> JobFinished:
    finished = only(cmo.decide(at(now)))
    assert isinstance(finished, JobFinished)
    assert (finished.outcome, finished.site, finished.revision) == ("failed", NOWHERE, 0)
    return finished


# Ends -----------------------------------------------------------------------------------------------------------------


def test_a_job_that_succeeds_is_finished_once():
    cmo, placed = placed_job()
    for _ in range(2):
        cmo.fold(report(placed, "started", 0.1))
    assert cmo.decide(at(0.2)) == []
    for _ in range(2):
        cmo.fold(report(placed, "succeeded", 1, reason=WorkloadReason.COMPLETED))
    finished = only(cmo.decide(at(1)))
    assert finished == JobFinished(
        job_id="j",
        tenant="t",
        site="a",
        revision=1,
        outcome="succeeded",
        reason=FinishReason.COMPLETED,
        usage=finished.usage,
        runs=finished.runs,
        finished_at=at(1),
    )
    assert finished.usage is not None
    assert finished.usage.cpu_h == pytest.approx(0.9)
    cmo.fold(report(placed, "succeeded", 1, reason=WorkloadReason.COMPLETED))
    assert cmo.decide(at(2)) == []


def test_a_report_of_an_end_may_overtake_the_start():
    cmo, placed = placed_job()
    cmo.fold(report(placed, "succeeded", 1))
    cmo.fold(report(placed, "started", 0.5))
    assert only(cmo.decide(at(1))).outcome == "succeeded"


def test_a_failed_job_is_tried_again_until_its_attempts_are_used_up():
    cmo, placed = placed_job(max_attempts=3)
    for attempt in (2, 3):
        cmo.fold(report(placed, "failed", attempt, reason=WorkloadReason.EXIT_CODE))
        placed = only(cmo.decide(at(attempt)))
        assert isinstance(placed, JobPlaced)
        assert (placed.revision, placed.attempt, placed.reason) == (attempt, attempt, PlacementReason.RETRY)
    cmo.fold(report(placed, "failed", 4, reason=WorkloadReason.EXIT_CODE, message="exit code 137"))
    finished = only(cmo.decide(at(4)))
    assert (finished.outcome, finished.reason) == ("failed", FinishReason.RETRIES_EXHAUSTED)
    assert finished.message == "failed 3 times, the last at a: exit_code, exit code 137"


def test_a_node_that_died_costs_no_attempt():
    cmo, placed = placed_job(max_attempts=1)
    for revision in range(2, 6):
        cmo.fold(report(placed, "failed", revision, reason=WorkloadReason.NODE_LOST))
        placed = only(cmo.decide(at(revision)))
        assert (placed.revision, placed.attempt) == (revision, 1)


def test_a_site_that_refused_the_job_is_avoided_if_there_is_another():
    cmo, placed = placed_job()
    cmo.fold(report(placed, "failed", 0.1, reason=WorkloadReason.REJECTED))
    assert only(cmo.decide(at(0.1))).site == "b"
    cmo, placed = placed_job(names=("a",))
    cmo.fold(report(placed, "failed", 0.1, reason=WorkloadReason.REJECTED))
    assert only(cmo.decide(at(0.1))).site == "a"


def test_a_preempted_job_is_placed_again_at_no_cost_of_attempts():
    cmo, placed = placed_job()
    cmo.fold(report(placed, "started"))
    cmo.fold(report(placed, "stopped", 0.5, reason=WorkloadReason.RELEASED))
    again = only(cmo.decide(at(0.5)))
    assert (again.revision, again.attempt, again.reason) == (2, 1, PlacementReason.RETRY)


def test_a_late_report_of_an_earlier_revision_changes_nothing():
    cmo, placed = placed_job()
    cmo.fold(report(placed, "stopped", 0.5))
    again = only(cmo.decide(at(0.5)))
    cmo.fold(report(again, "started", 0.6))
    for status in ("stopped", "failed", "succeeded"):
        cmo.fold(report(placed, status, 0.5))
        assert cmo.decide(at(0.7)) == []


def test_what_ended_gives_its_room_back():
    jobs = [submitted(f"{n}", hours=n, cores=8, runs=100, max_delay=0) for n in range(2)]
    cmo = core(*flat("a"), jobs[0])
    placed = only(cmo.decide(T0))
    cmo.fold(report(placed, "succeeded", 1))
    cmo.decide(at(1))
    cmo.fold(jobs[1])
    assert not only(cmo.decide(at(1))).bound_by.startswith("capacity")


# Cancellation -----------------------------------------------------------------------------------------------------


def test_cancelling_before_any_placement_finishes_at_once():
    job = submitted()
    cmo = core(job)
    assert cmo.decide(T0) == []
    cmo.fold(cancelled(job))
    finished = only(cmo.decide(T0))
    assert (finished.outcome, finished.reason, finished.site) == ("cancelled", FinishReason.CANCELLED, NOWHERE)


def test_cancelling_a_placed_job_withdraws_it_and_finishes_when_it_stopped():
    job = submitted(max_delay=0)
    cmo, placed = placed_job(job=job)
    cmo.fold(cancelled(job))
    withdrawn = only(cmo.decide(at(0.1)))
    assert isinstance(withdrawn, PlacementWithdrawn)
    assert (withdrawn.reason, withdrawn.revision, withdrawn.site) == (WithdrawalReason.CANCELLED, 1, "a")
    cmo.fold(cancelled(job))
    assert cmo.decide(at(0.2)) == []
    cmo.fold(report(placed, "stopped", 0.3))
    finished = only(cmo.decide(at(0.3)))
    assert (finished.outcome, finished.site, finished.revision) == ("cancelled", "a", 1)


@pytest.mark.parametrize(("status", "outcome"), [("succeeded", "succeeded"), ("failed", "cancelled")])
def test_an_end_that_comes_before_the_stop_decides(status, outcome):
    job = submitted(max_delay=0)
    cmo, placed = placed_job(job=job)
    cmo.fold(cancelled(job))
    cmo.decide(at(0.1))
    cmo.fold(report(placed, status, 0.2))
    assert only(cmo.decide(at(0.2))).outcome == outcome


def test_cancelling_a_finished_job_changes_nothing():
    job = submitted(max_delay=0)
    cmo, placed = placed_job(job=job)
    cmo.fold(report(placed, "succeeded", 0.2))
    cmo.decide(at(0.2))
    cmo.fold(cancelled(job))
    cmo.fold(job)
    assert cmo.decide(at(0.3)) == []


# Stuck and lost ----------------------------------------------------------------------------------------------------


def test_a_job_that_never_starts_moves_where_there_is_room_after_it_was_stopped():
    cmo, placed = placed_job(stuck_s=7200.0)
    assert cmo.decide(at(1.9)) == []
    withdrawn = only(cmo.decide(at(2.1)))
    assert (withdrawn.reason, withdrawn.revision) == (WithdrawalReason.STUCK, 1)
    assert cmo.decide(at(5)) == []
    cmo.fold(report(placed, "stopped", 5))
    moved = only(cmo.decide(at(5)))
    assert (moved.site, moved.revision, moved.attempt) == ("b", 2, 1)


def test_a_running_job_is_not_stuck():
    cmo, placed = placed_job(stuck_s=7200.0)
    cmo.fold(report(placed, "started", 1))
    assert cmo.decide(at(30)) == []


def test_a_deferred_job_is_stuck_only_after_its_start():
    dear = [90.0] * 10 + [1.0] + [90.0] * 69
    cmo = core(site("a"), prices("a", *dear), carbon("a"), site("b"), submitted(), stuck_s=7200.0)
    assert only(cmo.decide(T0)).start_at == at(10)
    cmo.fold(prices("b", *[1.0] * 80))
    cmo.fold(carbon("b"))
    assert cmo.decide(at(9)) == []
    assert cmo.decide(at(11.5)) == []
    assert only(cmo.decide(at(12.5))).reason is WithdrawalReason.STUCK


def test_a_stuck_job_stays_while_no_other_site_has_room_and_moves_when_one_has():
    other = submitted("other", cores=8, runs=200, max_delay=0, sites=("b",))
    cmo = core(*flat("a", "b"), submitted(max_delay=0, runs=100), other, stuck_s=7200.0)
    placed, blocking = sorted(placements(cmo.decide(T0)), key=lambda decision: decision.job_id)
    assert (placed.site, blocking.site) == ("a", "b")
    cmo.fold(report(blocking, "started"))
    assert cmo.decide(at(3)) == []
    cmo.fold(report(blocking, "succeeded", 4))
    finished, withdrawn = cmo.decide(at(4))
    assert (finished.job_id, withdrawn.job_id, withdrawn.reason) == ("other", "j", WithdrawalReason.STUCK)


def test_not_more_stuck_jobs_are_moved_than_the_other_site_has_room_for():
    cmo = core(*flat("a"), *[submitted(f"{n}", cores=8, max_delay=0, runs=5) for n in range(4)], stuck_s=7200.0)
    assert len(placements(cmo.decide(T0))) == 4
    for event in flat("b"):
        cmo.fold(event)
    assert len(withdrawals(cmo.decide(at(2.5)))) == 1


def test_other_services_get_their_time_before_a_job_is_called_stuck():
    cmo, _ = placed_job(stuck_s=7200.0, reaction_s=36000.0)
    assert cmo.decide(at(9)) == []
    assert only(cmo.decide(at(10.1))).reason is WithdrawalReason.STUCK


def test_a_lost_site_counts_as_stopped_and_the_job_is_placed_elsewhere():
    cmo, placed = placed_job()
    cmo.fold(report(placed, "started"))
    cmo.fold(site("a", hours=1, lost=True))
    withdrawn, again = cmo.decide(at(1))
    assert (withdrawn.reason, withdrawn.revision) == (WithdrawalReason.SITE_LOST, 1)
    assert (again.site, again.revision, again.attempt, again.reason) == ("b", 2, 1, PlacementReason.RETRY)
    cmo.fold(report(placed, "stopped", 1.1))
    assert cmo.decide(at(1.1)) == []


def test_a_cancelled_job_at_a_lost_site_is_finished():
    job = submitted(max_delay=0)
    cmo, _ = placed_job(job=job)
    cmo.fold(cancelled(job))
    cmo.decide(at(0.1))
    cmo.fold(site("a", hours=1, lost=True))
    withdrawn, finished = cmo.decide(at(1))
    assert (withdrawn.reason, finished.outcome) == (WithdrawalReason.SITE_LOST, "cancelled")


def test_with_all_sites_lost_a_job_waits_until_one_is_back():
    cmo, placed = placed_job(names=("a",))
    cmo.fold(site("a", hours=1, lost=True))
    withdrawn, deferred = cmo.decide(at(1))
    assert withdrawn.reason is WithdrawalReason.SITE_LOST
    assert isinstance(deferred, PlacementDeferred)
    assert (deferred.reason, deferred.detail) == (DeferralCause.NO_READY_SITE, "waits for ready nodes at a")
    assert cmo.decide(at(2)) == []
    cmo.fold(site("a", hours=3))
    again = only(cmo.decide(at(3)))
    assert (again.site, again.revision) == ("a", 2)
    del placed


# Refusals and waits ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("job", "words"),
    [
        ({"cores": 64}, "a pod needs 64 cores; the largest node at any site (a, b) has 8"),
        ({"memory_gib": 65}, "a pod needs 65 GiB of memory; the largest node at any site (a, b) has 64 GiB"),
        ({"gpus": 1}, "a pod needs 1 gpu on one node; the most on a node at any site (a, b) is 0"),
        (
            {"gpus": 2, "models": ("A100", "H100"), "sites": ("a",)},
            "a pod needs 2 gpu of A100 or H100 on one node; the most on a node at the allowed sites (a) is 0",
        ),
        ({"cores": 5, "pods": 9}, "needs 9 pods at a time; the largest site, a, holds 1"),
    ],
)
def test_a_job_that_no_site_can_ever_hold_is_refused_with_the_figure(job, words):
    finished = refused(core(*flat("a", "b"), submitted(**job)))
    assert finished.reason is FinishReason.NO_SITE_FITS
    assert finished.message == words


def test_a_pod_whose_parts_fit_only_different_nodes_is_refused():
    cmo = core(site("a", node("1", cores=32), node("2", gpus=1)), submitted(cores=32, gpus=1))
    assert refused(cmo).message == "no single node at any site (a) has the cores, memory and devices of a pod together"


def test_unknown_allowed_sites_are_refused_by_name():
    finished = refused(core(*flat("a"), submitted(sites=("mars", "moon"))))
    assert (finished.reason, finished.message) == (FinishReason.UNKNOWN_SITE, "no site is named mars, moon")


def test_a_place_out_of_reach_is_refused_with_the_nearest():
    events = [site("a", latency={"office": 80}), site("b", latency={"office": 30})]
    finished = refused(core(*events, submitted(latency=("office", 20))))
    assert finished.reason is FinishReason.LATENCY_UNREACHABLE
    assert finished.message == "asks for 20 ms to office; the nearest site that can hold it is b with 30 ms"
    unknown = refused(core(*events, submitted(latency=("mars", 20))))
    assert unknown.message == "no site that can hold it knows its latency to mars"


@pytest.mark.parametrize(
    ("deadline", "words"),
    [
        (1.5, "needs 2 h; the deadline 2023-06-01T01:30+00:00 is 1.5 h away"),
        (-1, "needs 2 h; the deadline 2023-05-31T23:00+00:00 is 1 h ago"),
    ],
)
def test_an_impossible_deadline_is_refused(deadline, words):
    finished = refused(core(*flat("a"), submitted(runs=2, deadline=deadline)))
    assert (finished.reason, finished.message) == (FinishReason.DEADLINE_PASSED, words)


def test_a_retry_that_cannot_meet_the_deadline_ends_the_job():
    cmo, placed = placed_job(job=submitted(runs=2, deadline=3))
    cmo.fold(report(placed, "failed", 2))
    finished = only(cmo.decide(at(2)))
    assert (finished.outcome, finished.reason, finished.revision) == ("failed", FinishReason.DEADLINE_PASSED, 1)


def test_before_any_inventory_jobs_wait():
    cmo = core(submitted(), submitted("late", deadline=-1))
    assert cmo.decide(T0) == []
    for event in flat("a"):
        cmo.fold(event)
    assert {type(decision) for decision in cmo.decide(at(1))} == {JobPlaced, JobFinished}


def test_nothing_is_refused_while_sites_are_still_appearing():
    cmo = core(*flat("a"), submitted("far", sites=("b",)), submitted("large", cores=64), settle_s=60.0)
    assert cmo.decide(T0) == []
    for event in flat("b"):
        cmo.fold(event)
    assert only(cmo.decide(at(0.5 / 60))).job_id == "far"
    assert cmo.decide(at(1 / 60)) == []
    assert only(cmo.decide(at(1.6 / 60))).reason is FinishReason.NO_SITE_FITS


def test_a_job_whose_nodes_are_down_waits_for_them():
    down = site("a", node(ready=False), node(cores=1))
    cmo = core(down, submitted(cores=8, deadline=10, runs=2))
    assert only(cmo.decide(T0)).reason is DeferralCause.NO_READY_SITE
    cmo.fold(site("a", node(), node(cores=1), hours=1))
    assert only(cmo.decide(at(1))).site == "a"


def test_a_waiting_job_ends_when_its_deadline_can_no_longer_be_met():
    cmo = core(site("a", node(ready=False)), submitted(deadline=10, runs=2))
    assert only(cmo.decide(T0)).reason is DeferralCause.NO_READY_SITE
    assert cmo.decide(at(8)) == []
    assert only(cmo.decide(at(8.1))).reason is FinishReason.DEADLINE_PASSED


# Use over time ---------------------------------------------------------------------------------------------------


def test_a_run_that_outlasts_its_estimate_keeps_its_room():
    cmo = core(*flat("a"), submitted(cores=8, runs=1, max_delay=0))
    placed = only(cmo.decide(T0))
    cmo.fold(report(placed, "started"))
    for hour in range(1, 6):
        assert cmo.decide(at(hour)) == []
    cmo.fold(submitted("next", hours=5.5, cores=8, max_delay=0))
    assert only(cmo.decide(at(5.5))).bound_by.startswith("capacity")


def test_a_run_that_starts_late_is_expected_to_end_late():
    cmo = core(*flat("a"), submitted(cores=8, runs=3, max_delay=0))
    placed = only(cmo.decide(T0))
    cmo.fold(report(placed, "started", 2))
    cmo.fold(submitted("next", hours=2, cores=8, max_delay=9))
    assert only(cmo.decide(at(2))).start_at == at(5)


def test_room_lasts_over_more_hours_than_the_ledger_holds():
    cmo = core(site("a"), submitted(cores=8, runs=24 * 365, max_delay=0))
    placed = only(cmo.decide(T0))
    cmo.fold(report(placed, "started"))
    for day in range(1, 200, 7):
        assert cmo.decide(at(24 * day)) == []
    cmo.fold(submitted("next", hours=24 * 200, cores=8, max_delay=0))
    assert "no feasible site has room" in only(cmo.decide(at(24 * 200))).bound_by


def test_a_clock_that_is_set_back_reopens_no_hour():
    cmo = core(*flat("a"))
    assert cmo.decide(at(1)) == []
    cmo.fold(submitted(max_delay=0))
    assert only(cmo.decide(at(0.9))).start_at == at(1)


def test_an_inventory_that_shrinks_leaves_what_is_committed():
    cmo = core(*flat("a"), submitted(cores=6, runs=10, max_delay=0))
    only(cmo.decide(T0))
    cmo.fold(site("a", node(cores=4), hours=1))
    cmo.fold(submitted("next", hours=1, cores=1, max_delay=20))
    assert only(cmo.decide(at(1))).start_at == at(10)


# Recovery --------------------------------------------------------------------------------------------------------


def test_a_recovered_core_decides_nothing_anew():
    inputs = [*flat("a", "b"), *[submitted(f"{n}", cores=8, max_delay=9) for n in range(5)]]
    cmo = core(*inputs)
    decided = cmo.decide(T0)
    reports = [report(decided[0], "started"), report(decided[1], "succeeded", 0.5)]
    for event in reports:
        cmo.fold(event)
    decided += cmo.decide(at(0.5))
    assert core(*decided, *reversed(reports), *inputs).decide(at(0.6)) == []
    assert core(*inputs, *reports, *decided).decide(at(0.6)) == []


def test_a_withdrawal_stands_for_the_placement_that_compaction_removed():
    job = submitted(max_delay=0)
    cmo, placed = placed_job(job=job)
    cmo.fold(cancelled(job))
    withdrawn = only(cmo.decide(at(0.1)))
    recovered = core(*flat("a", "b"), cancelled(job), withdrawn)
    assert recovered.decide(at(0.2)) == []
    recovered.fold(report(placed, "stopped", 0.3))
    assert only(recovered.decide(at(0.3))).outcome == "cancelled"


def test_a_stuck_withdrawal_is_remembered_over_a_restart():
    cmo, placed = placed_job(stuck_s=7200.0)
    withdrawn = only(cmo.decide(at(2.1)))
    recovered = core(*flat("a", "b"), submitted(max_delay=0), placed, withdrawn, stuck_s=7200.0)
    assert recovered.decide(at(9)) == []
    recovered.fold(report(placed, "stopped", 9))
    assert only(recovered.decide(at(9))).site == "b"


def test_a_lost_site_that_came_back_does_not_revive_what_was_withdrawn():
    job = submitted(max_delay=0)
    cmo, placed = placed_job(job=job, names=("a",))
    cmo.fold(site("a", hours=1, lost=True))
    withdrawn = only(withdrawals(cmo.decide(at(1))))
    recovered = core(*flat("a"), site("a", hours=2), job, placed, withdrawn)
    assert only(recovered.decide(at(2))).revision == 2


def test_finished_jobs_leave_nothing_but_their_ids():
    cmo = core(*flat("a"), *[submitted(f"{n}", runs=0.01, max_delay=0) for n in range(50)])
    for placed in placements(cmo.decide(T0)):
        cmo.fold(report(placed, "started"))
        cmo.fold(report(placed, "succeeded"))
    assert len(outcomes(cmo.decide(T0))) == 50
    assert not cmo._jobs
    assert len(cmo._ledger) == 0
    assert cmo._at_site == {"a": set()}
    cmo.decide(at(100))
    assert len(cmo._timers) == 0
