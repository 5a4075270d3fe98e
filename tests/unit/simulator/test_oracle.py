"""The lower bound on cases whose optimum a reader can see, and against every schedule of small cases."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator import oracle
from simulator.experiment import Experiment, Settings
from solyx.scenario import load
from tests.unit.simulator.plan_cases import hourly_plans, make_jobs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from simulator.oracle import Bound
    from simulator.plans import Jobs


def bound(directory: Path) -> Bound:
    scenario = load(directory)
    return Experiment(scenario, scenario.start, scenario.start + timedelta(days=2), Settings()).bound(0.0)


def comb(hour: int) -> float:
    return 10.0 if hour % 24 in (2, 6) else 100.0


def test_of_a_job_alone_it_is_the_best_hours_with_one_overhead(make_scenario: Callable[..., Path]) -> None:
    found = bound(make_scenario([(0, 2, 10)], home=comb, egress=1.0))
    assert found.alone_eur == pytest.approx(0.02 + 60 / 3600 * 0.1)
    assert found.contiguous_eur == pytest.approx(0.01 + 0.1)


def test_movement_is_paid_once_to_leave_home(make_scenario: Callable[..., Path]) -> None:
    found = bound(make_scenario([(0, 2, 10)], away=lambda _hour: 20.0, egress=0.001))
    assert found.objective_eur == pytest.approx(0.04 + 0.01)


def test_jobs_that_do_not_fit_into_the_best_hour_together_raise_it(make_scenario: Callable[..., Path]) -> None:
    def dip(hour: int) -> float:
        return 10.0 if hour % 24 == 2 else 100.0

    found = bound(make_scenario([(0, 1, 10)] * 4, home=dip, egress=1.0))
    assert found.alone_eur == pytest.approx(4 * 0.01)
    assert found.objective_eur == pytest.approx(0.01 + 3 * 0.1)


def test_negative_prices_are_used(make_scenario: Callable[..., Path]) -> None:
    found = bound(make_scenario([(0, 1, 10)], home=lambda hour: -50.0 if hour % 24 == 5 else 100.0))
    assert found.objective_eur == pytest.approx(-0.05)


HOURS, SITES, JOBS = 4, 2, 3
CORES = 10.0  # of one job


def cheapest_schedule(rates: Any, jobs: Jobs, cores: Sequence[float], leaving_eur: float, overhead_h: float) -> float:
    """Tries all plans of all jobs together; infinite if there is not room for all."""
    choices = [
        list(
            hourly_plans(
                rates,
                arrival=int(jobs.arrival_h[job]),
                length_h=jobs.length_h[job],
                wait_h=int(jobs.wait_h[job]),
                leaving=[leaving_eur] * SITES,
                overhead_h=overhead_h,
            )
        )
        for job in range(len(jobs.cores))
    ]

    def rest(job: int, free: Any) -> float:
        if job == len(choices):
            return 0.0
        best = np.inf
        for plan, eur in choices[job]:
            left = free.copy()
            for hour, where in plan:
                left[where, hour] -= CORES
            if left.min() >= 0.0:
                best = min(best, eur + rest(job + 1, left))
        return best

    return rest(0, np.repeat(np.array(cores)[:, None], HOURS, axis=1))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(0, 100), min_size=HOURS * SITES, max_size=HOURS * SITES),
    st.lists(st.tuples(st.integers(0, 2), st.integers(1, 2), st.integers(0, 2)), min_size=2, max_size=JOBS),
    st.sampled_from(((CORES, CORES), (CORES, 0.0), (2 * CORES, CORES))),
    st.sampled_from((0.0, 5.0)),
    st.sampled_from((0.0, 0.1)),
)
def test_no_schedule_within_the_cores_is_cheaper(
    rates: list[float],
    asked: list[tuple[int, int, int]],
    cores: tuple[float, float],
    leaving_eur: float,
    overhead_h: float,
) -> None:
    jobs = make_jobs(*((a, length, max(0, min(wait, HOURS - a - length))) for a, length, wait in asked))
    jobs.leaving_eur[:], jobs.movement_eur[:] = leaving_eur, leaving_eur
    hourly = np.array(rates).reshape(SITES, HOURS)
    found = oracle.bound(jobs, hourly, np.array(cores), overhead_h)
    assert found.objective_eur <= cheapest_schedule(hourly, jobs, cores, leaving_eur, overhead_h) + 1e-9
    assert found.objective_eur == max(found.alone_eur, found.shared_eur)
    assert found.shared_eur >= found.first_eur


def test_prices_climb_where_classes_of_jobs_hide_that_they_compete() -> None:
    # Two jobs have the first two hours, a third of their class has the others: to the linear program all three have all hours.
    jobs = make_jobs((0, 1, 1), (0, 1, 1), (2, 1, 3), sites=1)
    rates = np.array([[100.0, 104.0, 101.0, 101.0, 101.0, 101.0]])
    found = oracle.bound(jobs, rates, np.array([CORES]), 0.0)
    assert found.alone_eur == pytest.approx(100.0 + 100.0 + 101.0)
    assert found.first_eur == pytest.approx(101.0 + 101.0 - 1.0 + 101.0)
    best = 100.0 + 104.0 + 101.0
    assert best - 0.1 < found.shared_eur <= best + 1e-9


def test_the_rate_of_the_last_known_hour_holds_in_those_after_it_and_so_do_their_cores() -> None:
    # One job runs in the last known hour and one in the next, at the same rate: counted as one hour they would not fit.
    jobs = make_jobs((0, 1, 4), (0, 1, 4), sites=1)
    found = oracle.bound(jobs, np.array([[5.0, 1.0]]), np.array([CORES]), 0.0)
    assert found.objective_eur == pytest.approx(2.0)


def test_a_site_that_may_not_take_a_job_has_no_part_in_its_bound() -> None:
    jobs = make_jobs((0, 2, 2), (1, 1.5, 2))
    rates = np.array([[9.0, 7.0, 8.0, 5.0, 9.0, 9.0], [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]]) / 100
    jobs.closed[1] = True
    alone = oracle.bound(jobs, rates, np.array([10.0, 1000.0]), 1 / 60)
    one_site = make_jobs((0, 2, 2), (1, 1.5, 2), sites=1)
    expected = oracle.bound(one_site, rates[:1], np.array([10.0]), 1 / 60)
    assert alone.alone_eur == pytest.approx(expected.alone_eur)
    assert alone.contiguous_eur == pytest.approx(expected.contiguous_eur)
    assert alone.objective_eur == pytest.approx(expected.objective_eur)
