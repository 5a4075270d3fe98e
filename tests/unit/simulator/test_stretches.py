"""The cheapest plan of one job that runs for a given time, against a search of all plans by the quarter of an hour."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.plans import windows
from simulator.stretches import Costs, cheapest, least
from tests.unit.simulator.plan_cases import QUARTERS, cheapest_by_quarters, make_jobs

HOURS, SITES = 4, 2

cases = {
    "rates": st.lists(st.floats(-20, 100), min_size=HOURS * SITES, max_size=HOURS * SITES),
    "begin": st.integers(0, 5),
    "time": st.integers(1, 9),
    "wait": st.integers(0, 7),
    "leaving_eur": st.sampled_from((0.0, 3.0, 40.0)),
    "again_eur": st.sampled_from((0.0, 2.0, 25.0, np.inf)),
}


def search(rates, begin: int, time: int, wait: int, leaving_eur: float, again_eur: float):
    rates = np.array(rates).reshape(SITES, HOURS)
    wait = min(wait, HOURS * QUARTERS - begin - time)
    jobs = make_jobs((begin / QUARTERS, time / QUARTERS, wait / QUARTERS))
    (window,) = windows(jobs, 10_000)
    work = rates[:, np.minimum(window.hour, HOURS - 1)].swapaxes(0, 1)
    costs = Costs(
        work_eur=work,
        again_eur=np.broadcast_to(again_eur, work.shape),
        leaving_eur=np.full((SITES, 1), leaving_eur),
    )
    found = cheapest_by_quarters(
        rates, begin=begin, end=begin + time + wait, time=time, leaving=[leaving_eur] * SITES, again=again_eur
    )
    return window, costs, jobs.length_h, min(found.values())


@settings(max_examples=150, deadline=None)
@given(**cases)
def test_no_plan_is_cheaper_and_one_costs_as_much(rates, begin, time, wait, leaving_eur, again_eur):
    window, costs, time_h, expected = search(rates, begin, time, wait, leaving_eur, again_eur)
    assert least(window, costs, time_h)[0] == pytest.approx(expected, abs=1e-9)


@settings(max_examples=150, deadline=None)
@given(**cases)
def test_the_plan_runs_for_the_time_in_the_window_and_costs_what_it_says(
    rates, begin, time, wait, leaving_eur, again_eur
):
    window, costs, time_h, expected = search(rates, begin, time, wait, leaving_eur, again_eur)
    eur, course = cheapest(window, costs, time_h)
    assert eur[0] == pytest.approx(expected, abs=1e-9)
    assert course.run_h.sum() == pytest.approx(time_h[0])
    assert (course.run_h.sum(axis=1) <= window.room_h + 1e-9).all()
    paid, lies_at = float((course.run_h * costs.work_eur).sum()), 0
    paid += sum(costs.again_eur[course.again])
    for site in course.run_h[:, :, 0].argmax(axis=1)[course.run_h.any(axis=(1, 2))]:
        paid += costs.leaving_eur[lies_at, 0] if site != lies_at else 0.0
        lies_at = site
    assert eur[0] == pytest.approx(paid, abs=1e-9)


def test_a_job_that_has_less_of_a_window_than_it_runs_has_no_plan():
    (window,) = windows(make_jobs((0.5, 1.0, 0.25)), 10_000)
    work = np.ones((len(window.hour), SITES, 1))
    costs = Costs(work_eur=work, again_eur=work, leaving_eur=np.zeros((SITES, 1)))
    assert least(window, costs, np.array([1.25]))[0] == pytest.approx(1.25)
    assert least(window, costs, np.array([1.5]))[0] == np.inf
