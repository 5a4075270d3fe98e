"""The bound that pays overheads, against every plan of small cases."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.overheads import least_with_overheads, least_without_pause
from simulator.plans import Jobs, windows
from tests.unit.simulator.plan_cases import QUARTERS, cheapest_by_quarters, hourly_plans, make_jobs

HOURS, SITES = 6, 2
CASES = ((0, 6), (1, 9), (0, 7))  # begin, length and wait, from and before, in quarters


def bound(rates, jobs: Jobs, leaving_eur: float, overhead_h: float) -> float:
    jobs.leaving_eur[:] = leaving_eur
    (window,) = windows(jobs, 10_000)
    rates = np.array(rates).reshape(SITES, -1)
    work = rates[:, np.minimum(window.hour, rates.shape[1] - 1)].swapaxes(0, 1)
    return float(least_with_overheads(window, work, overhead_h)[0])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-20, 100), min_size=HOURS * SITES, max_size=HOURS * SITES),
    st.integers(1, 3),
    st.floats(0, 0.3),
    st.floats(0, 40),
)
def test_no_plan_is_cheaper_than_the_bound(rates, work_h, overhead_h, leaving_eur):
    found = bound(rates, make_jobs((0.0, work_h, HOURS - work_h)), leaving_eur, overhead_h)
    plans = hourly_plans(
        np.array(rates).reshape(SITES, HOURS),
        arrival=0,
        length_h=work_h,
        wait_h=HOURS - work_h,
        leaving=[leaving_eur] * SITES,
        overhead_h=overhead_h,
    )
    assert found <= min(eur for _, eur in plans) + 1e-9


def bound_and_best(rates, begin: int, length: int, wait: int, leaving_eur: float) -> tuple[float, float]:
    """In quarters of hours, of which each suspension repeats one."""
    wait = min(wait, 4 * QUARTERS - begin - length)
    jobs = make_jobs((begin / QUARTERS, length / QUARTERS, wait / QUARTERS))
    rates = np.array(rates).reshape(SITES, 4)
    plans = [
        cheapest_by_quarters(
            rates, begin=begin, end=begin + length + wait, time=length + count, leaving=[leaving_eur] * SITES, again=0.0
        ).get(count, np.inf)
        for count in range(wait + 1)
    ]
    return bound(rates, jobs, leaving_eur, 1 / QUARTERS), min(plans)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(0, 100), min_size=4 * SITES, max_size=4 * SITES),
    st.integers(0, 5),
    st.integers(1, 8),
    st.integers(0, 6),
    st.sampled_from((0.0, 3.0, 40.0)),
)
def test_it_is_at_most_the_cheapest_plan(rates, begin, length, wait, leaving_eur):
    found, best = bound_and_best(rates, begin, length, wait, leaving_eur)
    assert found <= best + 1e-9


def test_over_many_jobs_it_is_little_less_than_the_cheapest_plans():
    chance = np.random.default_rng(1)
    pairs = [
        bound_and_best(
            chance.uniform(0, 100, 4 * SITES), *(int(chance.integers(low, high)) for low, high in CASES), leaving_eur
        )
        for leaving_eur in (0.0, 3.0, 40.0)
        for _ in range(100)
    ]
    found, best = np.array(pairs).sum(axis=0)
    assert found >= 0.98 * best


def test_of_one_suspension_it_is_exact():
    rates = [[1.0, 9.0, 1.0, 9.0], [9.0] * 4]
    assert bound(rates, make_jobs((0.0, 1.5, 2.5)), 100.0, 0.25) == pytest.approx(1.75)


def test_what_may_not_be_suspended_runs_once():
    rates = [[1.0, 9.0, 1.0, 9.0], [9.0] * 4]
    assert bound(rates, make_jobs((0.0, 2.0, 2.0), suspendable=False), 0.0, 0.0) == pytest.approx(10.0)
    (window,) = windows(make_jobs((0.0, 2.0, 2.0)), 10_000)
    work = np.array(rates)[:, np.minimum(window.hour, 3)].swapaxes(0, 1)
    assert least_without_pause(window, work)[0] == pytest.approx(10.0)


def test_it_pays_for_every_change_of_site():
    rates = [[1.0, 100.0, 1.0], [100.0, 1.0, 100.0]]
    assert bound(rates, make_jobs((0.0, 3.0, 0.0)), 10.0, 0.0) == pytest.approx(3.0 + 20.0)
