"""Budgets over time: who waits, why, until when, and what frees it."""

from datetime import UTC, datetime, timedelta

import pytest
from msgspec import structs

from services.cmo.core.budgets import Account, Budgets
from solyx.budget import QUANTITIES
from solyx.events import DeferralCause, FinishReason, PlacementDeferred, Usage, WorkloadReason
from tests.unit.cmo.cmo_builders import (
    T0,
    at,
    budget,
    budgets,
    cancelled,
    carbon,
    core,
    deferrals,
    node,
    only,
    outcomes,
    placements,
    prices,
    report,
    site,
    submitted,
)

WORLD = [
    site("a", node("1", cores=64, gpus=64)),
    prices("a", *[100.0] * 240, start=-24),
    carbon("a", *[500.0] * 240, start=-24),
]


def gpu_jobs(count, *, runs=1.0, **options):
    return [submitted(f"job-{n}", gpus=1, runs=runs, max_delay=0, **options) for n in range(count)]


def run(cmo, placed, start, end):
    cmo.fold(report(placed, "started", start))
    cmo.fold(report(placed, "succeeded", end, reason=WorkloadReason.COMPLETED))


def test_a_burst_cannot_overshoot_a_hard_budget():
    cmo = core(*WORLD, budgets(budget("gpu_h", 3)), *gpu_jobs(5))
    decided = cmo.decide(T0)
    assert [placed.job_id for placed in placements(decided)] == ["job-0", "job-1", "job-2"]
    assert [waits.job_id for waits in deferrals(decided)] == ["job-3", "job-4"]


def test_the_wait_says_which_figure_stands_against_the_job_and_when_the_window_turns():
    cmo = core(*WORLD, budgets(budget("gpu_h", 3)), *gpu_jobs(4))
    waits = only(deferrals(cmo.decide(at(6))))
    assert waits.reason is DeferralCause.BUDGET
    assert waits.detail == "t has used 0 and planned 3 of its 3 gpu_h per day; this job needs 1"
    assert waits.until == at(24)
    assert (waits.site, waits.revision, waits.key) == ("-", 0, "-/job-3")


def test_the_wait_names_all_hard_budgets_that_stand_against_the_job():
    limits = (budget("gpu_h", 2), budget("cpu_h", 2.5), budget("energy_kwh", 1e-9, enforcement="soft"))
    cmo = core(*WORLD, budgets(*limits), *gpu_jobs(3))
    words = only(deferrals(cmo.decide(T0))).detail.split("; ")
    assert words[::2] == [
        "t has used 0 and planned 2 of its 2 gpu_h per day",
        "t has used 0 and planned 2 of its 2.5 cpu_h per day",
    ]
    assert words[1::2] == ["this job needs 1"] * 2


def test_the_wait_is_told_while_sites_are_still_being_observed_for_the_first_time():
    """What sites lack is not said before they have settled; what a budget lacks is no matter of theirs."""
    cmo = core(*WORLD, budgets(budget("gpu_h", 3)), *gpu_jobs(4), submitted("large", cores=1000), settle_s=60.0)
    assert only(deferrals(cmo.decide(T0))).job_id == "job-3"


def test_what_waits_runs_when_the_window_turns():
    cmo = core(*WORLD, budgets(budget("gpu_h", 1)), *gpu_jobs(2))
    run(cmo, only(placements(cmo.decide(T0))), 0, 1)
    assert len(outcomes(cmo.decide(at(1)))) == 1
    for hour in range(2, 24):
        assert cmo.decide(at(hour)) == []
    assert only(cmo.decide(at(24))).job_id == "job-1"


def test_a_rolling_window_frees_what_falls_out_and_says_when():
    cmo = core(*WORLD, budgets(budget("gpu_h", 2, hours=6)), *gpu_jobs(2))
    first, second = placements(cmo.decide(T0))
    run(cmo, first, 0, 1)
    cmo.decide(at(1))
    cmo.fold(report(second, "started", 0))
    cmo.fold(report(second, "succeeded", 3, reason=WorkloadReason.COMPLETED))
    cmo.decide(at(3))
    cmo.fold(submitted("next", gpus=1, hours=4, max_delay=0))
    waits = only(cmo.decide(at(4)))
    assert isinstance(waits, PlacementDeferred)
    assert waits.detail == "t has used 4 and planned 0 of its 2 gpu_h per 6h; this job needs 1"
    assert waits.until == at(10)  # what ended at 3:00 counts until the hour from 3 to 4 is six hours ago
    assert [cmo.decide(at(hour)) for hour in range(5, 10)] == [[]] * 5
    assert only(cmo.decide(at(10))).job_id == "next"


def test_a_run_that_takes_less_than_expected_makes_room_at_once():
    cmo = core(*WORLD, budgets(budget("gpu_h", 2)), *gpu_jobs(2, runs=2))
    run(cmo, only(placements(cmo.decide(T0))), 0, 0.0)
    decided = cmo.decide(at(0.1))
    assert len(outcomes(decided)) == 1
    assert only(placements(decided)).job_id == "job-1"


def test_cancelling_gives_back_what_was_planned():
    jobs = gpu_jobs(2)
    cmo = core(*WORLD, budgets(budget("gpu_h", 1)), *jobs)
    placed = only(placements(cmo.decide(T0)))
    cmo.fold(cancelled(jobs[0], 0.1))
    cmo.decide(at(0.1))  # withdrawn, not stopped yet: it may still run
    assert placements(cmo.decide(at(0.2))) == []
    cmo.fold(report(placed, "stopped", 0.3, reason=WorkloadReason.RELEASED))
    assert only(placements(cmo.decide(at(0.3)))).job_id == "job-1"


def test_a_waiting_job_can_be_cancelled():
    jobs = gpu_jobs(2)
    cmo = core(*WORLD, budgets(budget("gpu_h", 1)), *jobs)
    cmo.decide(T0)
    cmo.fold(cancelled(jobs[1], 1))
    finished = only(cmo.decide(at(1)))
    assert (finished.job_id, finished.outcome, finished.usage) == ("job-1", "cancelled", None)


def test_failed_attempts_count_when_they_ended_and_the_next_one_waits_for_room():
    cmo = core(*WORLD, budgets(budget("gpu_h", 2.5)), *gpu_jobs(1, runs=2))
    placed = only(placements(cmo.decide(T0)))
    cmo.fold(report(placed, "started", 0))
    cmo.fold(report(placed, "failed", 1, reason=WorkloadReason.EXIT_CODE))
    waits = only(cmo.decide(at(1)))
    assert waits.detail == "t has used 1 and planned 0 of its 2.5 gpu_h per day; this job needs 2"
    assert (waits.until, waits.revision) == (at(24), 1)
    again = only(cmo.decide(at(24)))
    assert (again.revision, again.used.gpu_h) == (2, 1)


def test_jobs_that_wait_with_failed_attempts_do_not_block_each_other_for_ever():
    cmo = core(*WORLD, budgets(budget("gpu_h", 2)), *gpu_jobs(2))
    for placed in placements(cmo.decide(T0)):
        cmo.fold(report(placed, "started", 0))
        cmo.fold(report(placed, "failed", 0.9, reason=WorkloadReason.EXIT_CODE))
    assert len(deferrals(cmo.decide(at(1)))) == 2
    assert len(placements(cmo.decide(at(24)))) == 2


def test_a_larger_job_lets_smaller_ones_pass_and_another_tenant_is_not_held_up():
    large = submitted("large", gpus=8, max_delay=0)
    small = submitted("small", gpus=1, hours=0.1, max_delay=0)
    other = submitted("other", gpus=8, hours=0.2, max_delay=0, tenant="u")
    cmo = core(*WORLD, budgets(budget("gpu_h", 4)), large, small, other)
    assert [placed.job_id for placed in placements(cmo.decide(at(1)))] == ["small", "other"]


def test_a_job_without_the_quantity_is_not_held_up_by_its_budget():
    cmo = core(
        *WORLD, budgets(budget("gpu_h", 0)), submitted("cpu", max_delay=0), submitted("gpu", gpus=1, max_delay=0)
    )
    decided = cmo.decide(T0)
    assert only(placements(decided)).job_id == "cpu"
    assert only(deferrals(decided)).detail.endswith("needs 1: more than the whole budget")


@pytest.mark.parametrize(
    ("quantity", "each"), [("cpu_h", 1.0), ("energy_kwh", 0.31), ("carbon_kg", 0.155), ("cost_eur", 0.031)]
)
def test_every_quantity_has_its_budget(quantity, each):
    cmo = core(*WORLD, budgets(budget(quantity, 2.5 * each, "month")), *gpu_jobs(3))
    decided = cmo.decide(T0)
    assert len(placements(decided)) == 2
    waits = only(deferrals(decided))
    assert f"{quantity} per month" in waits.detail
    assert waits.until == T0 + timedelta(days=30)


def test_of_several_budgets_the_one_that_lasts_longest_is_told():
    cmo = core(*WORLD, budgets(budget("gpu_h", 1), budget("cpu_h", 1, "week")), *gpu_jobs(2))
    assert "cpu_h per week" in only(deferrals(cmo.decide(T0))).detail


def test_beyond_a_soft_budget_jobs_run_after_others_and_say_so():
    jobs = [submitted(f"job-{n}", gpus=1, max_delay=0, priority=5) for n in range(2)]
    other = submitted("other", gpus=1, max_delay=0, tenant="u")
    cmo = core(*WORLD, budgets(budget("gpu_h", 1, enforcement="soft")), *jobs, other)
    decided = placements(cmo.decide(T0))
    assert [placed.job_id for placed in decided] == ["job-0", "other", "job-1"]
    assert decided[-1].bound_by.endswith(
        "soft budget, so after others: t has used 0 and planned 1 of its 1 gpu_h per day; this job needs 1"
    )
    assert "budget" not in decided[0].bound_by


def test_a_budget_that_is_taken_away_limits_nothing():
    cmo = core(*WORLD, budgets(budget("gpu_h", 1)), *gpu_jobs(2))
    assert len(placements(cmo.decide(T0))) == 1
    cmo.fold(budgets(revision=2))
    assert len(placements(cmo.decide(at(0.1)))) == 1
    cmo.fold(budgets(budget("gpu_h", 0), revision=1))  # read late: an older one
    cmo.fold(submitted("next", gpus=1, hours=0.2, max_delay=0))
    assert len(placements(cmo.decide(at(0.2)))) == 1


def test_a_deadline_is_not_waited_past():
    cmo = core(*WORLD, budgets(budget("gpu_h", 0)), submitted(gpus=1, deadline=5, runs=2))
    assert len(deferrals(cmo.decide(T0))) == 1
    assert cmo.decide(at(3)) == []
    finished = only(cmo.decide(at(3.1)))
    assert finished.reason is FinishReason.DEADLINE_PASSED


def test_the_wait_is_told_again_when_the_time_that_was_told_has_come():
    cmo = core(*WORLD, budgets(budget("gpu_h", 1)), *gpu_jobs(3))
    run(cmo, only(placements(cmo.decide(T0))), 0, 1)
    cmo.decide(at(1))
    decided = cmo.decide(at(24))
    assert len(placements(decided)) == 1
    waits = only(deferrals(decided))
    assert (waits.job_id, waits.until) == ("job-2", at(48))


def test_a_run_that_outlasts_its_estimate_takes_more_of_the_budget():
    cmo = core(*WORLD, budgets(budget("gpu_h", 3)), *gpu_jobs(1))
    cmo.fold(report(only(placements(cmo.decide(T0))), "started", 0))
    for hour in (1, 2):
        cmo.decide(at(hour))
    cmo.fold(submitted("next", gpus=1, hours=2, max_delay=0))
    assert only(deferrals(cmo.decide(at(2)))).detail == (
        "t has used 0 and planned 3 of its 3 gpu_h per day; this job needs 1"
    )


def test_recovery_knows_what_was_used_planned_and_said():
    jobs, world = gpu_jobs(4), [*WORLD, budgets(budget("gpu_h", 2))]
    cmo = core(*world, *jobs)
    log = cmo.decide(T0)
    first = placements(log)[0]
    reports = [report(first, "started", 0), report(first, "succeeded", 1, reason=WorkloadReason.COMPLETED)]
    for event in reports:
        cmo.fold(event)
    log += cmo.decide(at(1))
    recovered = core(*reversed(log), *reports, *jobs, *world)
    for hour in (2, 24, 48):
        assert recovered.decide(at(hour)) == cmo.decide(at(hour))


def test_a_job_that_was_moved_or_suspended_keeps_its_place_in_the_budget():
    cmo = core(*WORLD, budgets(budget("gpu_h", 4)), *gpu_jobs(1, runs=4))
    placed = only(placements(cmo.decide(T0)))
    cmo.fold(report(placed, "started", 0))
    cmo.fold(submitted("other", gpus=1, hours=1, max_delay=0, priority=9))
    assert len(deferrals(cmo.decide(at(1)))) == 1
    stopped = report(placed, "stopped", 1.5, reason=WorkloadReason.RELEASED)
    cmo.fold(structs.replace(stopped, started_at=T0, progress_s=1.5 * 3600))
    again = only(placements(cmo.decide(at(1.5))))
    assert (again.job_id, again.revision, again.progress_s, again.used.gpu_h) == ("job-0", 2, 5400, 1.5)
    cmo.fold(report(again, "started", 1.5))
    assert placements(cmo.decide(at(2))) == []
    cmo.fold(report(again, "succeeded", 3.5, reason=WorkloadReason.COMPLETED))
    decided = cmo.decide(at(3.5))
    assert only(outcomes(decided)).usage.gpu_h == pytest.approx(3.5)
    assert placements(decided) == [], "3.5 of 4 are used and one more hour does not fit"


def test_a_run_that_goes_on_beyond_its_estimate_takes_more_of_the_budget_while_it_lasts():
    cmo = core(*WORLD, budgets(budget("gpu_h", 5)), *gpu_jobs(1))
    placed = only(placements(cmo.decide(T0)))
    cmo.fold(report(placed, "started", 0))
    stopped = report(placed, "stopped", 1, reason=WorkloadReason.RELEASED)
    cmo.fold(structs.replace(stopped, started_at=T0, progress_s=3600))  # all of its estimate, and not over
    cmo.fold(report(only(placements(cmo.decide(at(1)))), "started", 1))
    for hour in (1.1, 2, 3):
        cmo.decide(at(hour))
    cmo.fold(submitted("next", gpus=1, hours=3, runs=2, max_delay=0))
    assert only(deferrals(cmo.decide(at(3)))).detail == (
        "t has used 1 and planned 3 of its 5 gpu_h per day; this job needs 2"
    )


class Counted(tuple):
    """An order that counts how often it is compared."""

    __slots__ = ()
    compared = 0

    def __lt__(self, other):
        Counted.compared += 1
        return tuple(self) < tuple(other)

    def __eq__(self, other):
        Counted.compared += 1
        return tuple(self) == tuple(other)

    __hash__ = tuple.__hash__


def test_who_waits_for_a_budget_is_sorted_when_it_begins_to_wait_and_not_at_every_look():
    books = Budgets()
    books.set(budgets(budget("gpu_h", 2)))
    for number in (3, 1, 4, 0, 2):
        books.wait(f"job-{number}", "t", Counted((0, float(number), f"job-{number}")), Usage(gpu_h=1), None)
    books.wait("job-4", "t", Counted((-1, 0.0, "job-4")), Usage(gpu_h=1), None)  # it goes first now
    books.leave("job-0")
    Counted.compared = 0
    assert books.freed(T0) == ["job-4", "job-1"]
    assert books.freed(at(24)) == ["job-4", "job-1"]
    assert Counted.compared == 0


def test_a_lost_run_whose_end_is_reported_late_counts_once():
    cmo = core(*WORLD, budgets(budget("gpu_h", 2.8, "week")), *gpu_jobs(1))
    placed = only(placements(cmo.decide(T0)))
    cmo.fold(report(placed, "started", 0))
    cmo.fold(site("a", node("1", cores=64, gpus=64), hours=2, lost=True))
    assert "waits for ready nodes" in only(deferrals(cmo.decide(at(2)))).detail  # two hours so far
    cmo.fold(report(placed, "stopped", 1.5, reason=WorkloadReason.RELEASED))
    cmo.decide(at(3))
    cmo.fold(site("a", node("1", cores=64, gpus=64), hours=4))
    again = only(placements(cmo.decide(at(4))))
    assert again.used.gpu_h == pytest.approx(1.5), "and with one more hour it fits"


def test_hours_that_no_window_reaches_are_forgotten_and_no_others():
    account, taken = Account("lab"), (1,) * len(QUANTITIES)
    for hour in (40, 7, 12, 13):
        account.add(hour, taken)
    account.let_go_before(13)
    assert sorted(account.ended) == [13, 40]
    account.add(9, taken)  # told late
    account.let_go_before(14)
    assert sorted(account.ended) == [40]
    assert account.ended_since(datetime.fromtimestamp(0, UTC)) == taken
