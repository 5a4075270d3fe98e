"""From submission to the one outcome: retries, cancellation, stuck and lost placements."""

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
    only,
    placed_job,
    placements,
    prices,
    report,
    site,
    submitted,
    withdrawals,
)

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


def queued(b_price, c_price=90.0, **policy):
    """A core in which a job of 50 Wh should run at `a`, and does not, and its placement; the prices of `b` and `c`."""
    events = [*flat("a"), *flat("b", price=b_price), *flat("c", price=c_price)]
    cmo = core(*events, submitted(cores=5, max_delay=0), stuck_s=7200.0, **policy)
    placed = only(placements(cmo.decide(T0)))
    assert placed.site == "a"
    return cmo, placed


def first_withdrawal(cmo, until, every=1 / 60):
    """In minutes."""
    steps = range(1, int(until / every))
    return next((round(step * every * 60) for step in steps if withdrawals(cmo.decide(at(step * every)))), None)


@pytest.mark.parametrize(
    ("delay", "b_price", "leaves_min"),
    [
        (1000.0, 60.0, 5),
        (0.005, 60.0, 10),  # 0.5 mEUR more there: as much as six minutes of waiting
        (0.005, 93.0, 40),  # 2.2 mEUR: 26 minutes
        (0.0001, 50.0, 10),  # nothing more, and still it must be worth the trouble: 10 µEUR
        (1e-7, 52.0, 120),  # it is stuck, and it costs a twenty-fifth more
        (1e-7, 50.0, 120),
    ],
)
def test_a_queue_is_left_once_waiting_has_cost_what_another_site_costs_more(delay, b_price, leaves_min):
    cmo, _ = queued(b_price, c_price=120.0, delay_eur_per_job_h=delay)
    assert first_withdrawal(cmo, 3) == leaves_min


@pytest.mark.parametrize(
    ("b_price", "leaves_min"),
    [
        (52.0, 120),  # a twenty-fifth of its run more
        (53.0, 150),  # 0.06: a twentieth and a quarter of that are 0.0625
        (60.0, 480),  # a fifth
        (200.0, 1440),  # four times as much
    ],
)
def test_who_is_stuck_waits_longer_for_a_place_at_its_site_the_dearer_another_is(b_price, leaves_min):
    cmo, _ = queued(b_price, c_price=900.0, delay_eur_per_job_h=0.0)
    assert first_withdrawal(cmo, 25) == leaves_min


@pytest.mark.parametrize(
    ("limit_h", "leaves_min"),
    [
        (1.9, 1440),  # missed before it was stuck
        (2.4, 120),  # missed at the next look, half an hour later
        (2.6, 150),
        (5.0, 300),
        (40.0, 1440),
    ],
)
def test_who_is_stuck_goes_before_its_limit_is_missed_however_dear_another_site_is(limit_h, leaves_min):
    events = [*flat("a"), *flat("b", price=200.0)]
    cmo = core(*events, submitted(cores=5, max_delay=limit_h), stuck_s=7200.0, delay_eur_per_job_h=1e-6)
    assert only(placements(cmo.decide(T0))).start_at == T0
    assert first_withdrawal(cmo, 25) == leaves_min


def test_a_queue_is_left_for_the_cheapest_site_with_room():
    other = submitted("other", cores=8, max_delay=0)
    for prices_of_b_and_c, goes_to in (((60.0, 70.0), "b"), ((70.0, 60.0), "c")):
        cmo, _ = queued(*prices_of_b_and_c, delay_eur_per_job_h=1000.0)
        withdrawn = only(cmo.decide(at(0.1)))
        assert withdrawn.reason is WithdrawalReason.STUCK
        cmo.fold(other)
        assert only(placements(cmo.decide(at(0.1)))).site not in (goes_to, "a"), "its room is held"


def test_who_left_a_queue_is_more_patient_at_the_next_site():
    cmo, placed = queued(60.0, delay_eur_per_job_h=1000.0)
    assert withdrawals(cmo.decide(at(0.1)))
    cmo.fold(report(placed, "stopped", 0.1))
    assert only(placements(cmo.decide(at(0.1)))).site == "b"
    assert not withdrawals(cmo.decide(at(0.1 + 9 / 60)))
    assert withdrawals(cmo.decide(at(0.1 + 11 / 60)))


def test_a_recovered_core_leaves_a_queue_when_the_one_before_it_would_have():
    _, placed = queued(93.0, c_price=120.0, delay_eur_per_job_h=0.005)
    events = [*flat("a"), *flat("b", price=93.0), *flat("c", price=120.0)]
    recovered = core(*events, submitted(cores=5, max_delay=0), placed, delay_eur_per_job_h=0.005)
    assert recovered.decide(at(25 / 60)) == []
    assert recovered.decide(at(39 / 60)) == []
    assert len(withdrawals(recovered.decide(at(40 / 60)))) == 1


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
