"""The bound that pays overheads, against every plan of a small case."""

from itertools import product

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.overheads import least_paused

HOURS, SITES, HOME = 6, 2, 0


def cheapest_plan(costs, leaving, work_h: int, overhead_h: float) -> float:
    """Tries every plan of whole hours; each interruption loses some work, which is done again."""
    best = np.inf
    for plan in product((None, *range(SITES)), repeat=HOURS):
        hours = [(hour, where) for hour, where in enumerate(plan) if where is not None]
        if not hours:
            continue
        lies_at, eur, starts, last = HOME, 0.0, 0, None
        for hour, where in hours:
            if lies_at != where:
                eur += leaving[lies_at]
            starts += last is None or last != (hour - 1, where)
            lies_at, last = where, (hour, where)
        need = work_h + overhead_h * (starts - 1)
        if not len(hours) - 1 < need <= len(hours):
            continue
        eur += sum(costs[where][hour] for hour, where in hours)
        # What is not needed is left out where a stretch begins or ends: anywhere else it would be one more interruption.
        edges = [(hour, where) for hour, where in hours if {(hour - 1, where), (hour + 1, where)} - set(hours)]
        eur -= (len(hours) - need) * max(costs[where][hour] for hour, where in edges)
        best = min(best, eur)
    return best


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(-20, 100), min_size=HOURS * SITES, max_size=HOURS * SITES),
    st.integers(1, 3),
    st.floats(0, 0.3),
    st.floats(0, 40),
)
def test_no_plan_is_cheaper_than_the_bound(rates, work_h, overhead_h, leaving_eur):
    costs = np.array(rates).reshape(SITES, HOURS)
    leaving = np.array([leaving_eur, leaving_eur])
    bound = least_paused(
        [row[None, :] for row in costs],
        np.ones((1, HOURS)),
        np.array([float(work_h)]),
        np.array([HOME]),
        leaving[:, None],
        overhead_h,
    )[0]
    assert bound <= cheapest_plan(costs, leaving, work_h, overhead_h) + 1e-9


def test_it_pays_for_every_change_of_site():
    costs = [np.array([[1.0, 100.0, 1.0]]), np.array([[100.0, 1.0, 100.0]])]
    bound = least_paused(costs, np.ones((1, 3)), np.array([3.0]), np.array([0]), np.array([[10.0], [10.0]]), 0.0)[0]
    assert bound > 3.0 + 10.0
