"""What the runs of a job used, and that it survives retries, lost sites, long runs and recovery."""

import pytest

from solyx.events import Usage, WithdrawalReason, WorkloadReason
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

WORLD = [
    site("a", node(gpus=2)),
    prices("a", *[100.0] * 96, start=-24),
    carbon("a", *[500.0] * 96, start=-24),
]
"""One site: 1 core and 1 GPU draw 310 W; an hour of them is 0.31 kWh, 0.031 EUR and 0.155 kg."""


def roughly(usage, **fields):
    for name, value in fields.items():
        assert getattr(usage, name) == pytest.approx(value), name


def test_a_run_is_metered_from_its_start_to_its_end():
    job = submitted(gpus=1, max_delay=0)
    cmo = core(*WORLD, job)
    placed = only(placements(cmo.decide(T0)))
    assert placed.used == Usage()
    cmo.fold(report(placed, "started", 0.5))
    cmo.fold(report(placed, "succeeded", 2.5, reason=WorkloadReason.COMPLETED))
    finished = only(cmo.decide(at(3)))
    roughly(finished.usage, cpu_h=2, gpu_h=2, energy_kwh=0.62, cost_eur=0.062, carbon_kg=0.31)


def test_a_job_that_never_started_used_nothing():
    job = submitted(max_delay=0)
    cmo = core(*WORLD, job)
    placed = only(placements(cmo.decide(T0)))
    cmo.fold(cancelled(job, 0.1))
    assert only(withdrawals(cmo.decide(at(0.1)))).used == Usage()
    cmo.fold(report(placed, "stopped", 0.2, reason=WorkloadReason.RELEASED))
    assert only(outcomes(cmo.decide(at(0.3)))).usage is None


def test_every_attempt_counts_and_the_next_placement_says_what_those_before_it_used():
    cmo = core(*WORLD, submitted(gpus=1, max_delay=0))
    first = only(placements(cmo.decide(T0)))
    cmo.fold(report(first, "started", 0))
    cmo.fold(report(first, "failed", 1, reason=WorkloadReason.EXIT_CODE))
    second = only(placements(cmo.decide(at(1))))
    roughly(second.used, gpu_h=1, energy_kwh=0.31)
    cmo.fold(report(second, "started", 1))
    cmo.fold(report(second, "succeeded", 3, reason=WorkloadReason.COMPLETED))
    roughly(only(cmo.decide(at(3))).usage, gpu_h=3, energy_kwh=0.93, cost_eur=0.093)


def test_a_run_at_a_site_that_was_lost_counts_until_it_was_given_up():
    cmo = core(*WORLD, *flat("b"), submitted(cores=1, max_delay=0, home="a", sites=("a",)))
    placed = only(placements(cmo.decide(T0)))
    cmo.fold(report(placed, "started", 0))
    cmo.fold(site("a", node(gpus=2), hours=2, lost=True))
    withdrawn = only(withdrawals(cmo.decide(at(2))))
    assert withdrawn.reason is WithdrawalReason.SITE_LOST
    cmo.fold(site("a", node(gpus=2), hours=5))
    roughly(only(placements(cmo.decide(at(5)))).used, cpu_h=2)


def test_moving_the_data_is_part_of_the_cost_of_each_run_elsewhere():
    job = submitted(data=(10, "b"), sites=("a",), max_delay=0)
    cmo = core(*WORLD, site("b", egress=0.05), job)
    placed = only(placements(cmo.decide(T0)))
    cmo.fold(report(placed, "started", 0))
    cmo.fold(report(placed, "succeeded", 1, reason=WorkloadReason.COMPLETED))
    roughly(only(cmo.decide(at(1))).usage, cost_eur=0.5 + 0.001)


def test_hours_that_are_not_published_yet_are_billed_at_the_last_value():
    cmo = core(site("a"), prices("a", 100.0, 200.0), carbon("a", 500.0), submitted(max_delay=0))
    placed = only(placements(cmo.decide(T0)))
    cmo.fold(report(placed, "started", 0))
    cmo.fold(report(placed, "succeeded", 3, reason=WorkloadReason.COMPLETED))
    # 10 W for three hours: at 100, 200 and, held, 200 EUR/MWh
    roughly(only(cmo.decide(at(3))).usage, cost_eur=0.005, carbon_kg=0.015)


def test_a_run_of_many_days_is_billed_at_the_prices_of_its_days():
    cmo = core(site("a"), prices("a", *[100.0] * 24), carbon("a", 0.0), submitted(max_delay=0, runs=240))
    placed = only(placements(cmo.decide(T0)))
    cmo.fold(report(placed, "started", 0))
    for hour in range(24, 241, 24):
        cmo.fold(prices("a", *[hour * 10.0] * 24, start=hour))
        cmo.decide(at(hour))
        cmo.fold(submitted(f"other-{hour}", hours=hour, max_delay=0))  # a placement makes the outlook look at its past
        cmo.decide(at(hour))
    cmo.fold(report(placed, "succeeded", 240, reason=WorkloadReason.COMPLETED))
    finished = only([one for one in outcomes(cmo.decide(at(240))) if one.job_id == "j"])
    days = 100 + sum(hour * 10 for hour in range(24, 240, 24))
    roughly(finished.usage, cost_eur=10e-6 * 24 * days)


def test_prices_are_let_go_when_no_run_needs_them():
    cmo = core(site("a"), prices("a", *[100.0] * 24), carbon("a", 0.0))
    for hour in range(24, 241, 24):
        cmo.fold(prices("a", *[100.0] * 24, start=hour))
        cmo.fold(submitted(f"{hour}", hours=hour, max_delay=0))
        cmo.decide(at(hour))
    price, _ = cmo._outlook.published("a")
    assert price is not None
    assert len(price.values) <= 48 + 24


def test_a_recovered_core_arrives_at_the_same_use():
    job = submitted(gpus=1, max_delay=0)
    cmo = core(*WORLD, job)
    first = only(placements(cmo.decide(T0)))
    started = report(first, "started", 0)
    cmo.fold(started)
    failed = report(first, "failed", 1.3, reason=WorkloadReason.EXIT_CODE)
    recovered = core(job, *WORLD, started, first, failed)
    cmo.fold(failed)
    one, other = only(placements(cmo.decide(at(2)))), only(placements(recovered.decide(at(2))))
    assert one == other
    end = report(one, "succeeded", 4, reason=WorkloadReason.COMPLETED)
    last = report(one, "started", 2)
    cmo.fold(last)
    cmo.fold(end)
    # After compaction only the second placement and the reports of its run are left.
    again = core(one, last, end, *WORLD, job)
    assert only(cmo.decide(at(4))) == only(again.decide(at(4)))
