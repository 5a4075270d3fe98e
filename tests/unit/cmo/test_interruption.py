"""Plans with pauses and moves are the cheapest there are, whether the length is known or not."""

from itertools import combinations, pairwise, product
from math import ceil, inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.cmo.core.interruption import NOW, Plans, Task
from services.cmo.core.lengths import Ahead

HOUR_S = 3600.0


def ahead(*hours_and_shares):
    hours, shares = zip(*sorted(hours_and_shares), strict=True)
    return Ahead(np.array(hours) * HOUR_S, np.array(shares) / sum(shares))


def task(what, *, slack_h=0.0, delay=0.0, restart_h=0.0, begun=False, running=None, now_h=0.0, pauses=True):
    return Task(
        ahead=what,
        now_s=now_h * HOUR_S,
        slack_h=slack_h,
        delay_eur_per_h=delay,
        restart_h=restart_h,
        begun=begun,
        running=running,
        pauses=pauses,
    )


def plans(made, rates, room=None, leaving=None):
    rates = np.array(rates, dtype=float)
    room = np.ones(rates.shape, dtype=bool) if room is None else np.array(room)
    return Plans(made, rates, room, np.zeros(len(rates)) if leaving is None else np.array(leaving))


def every_plan(made, rates, room, leaving):
    """The least cost by (site, hour) of the first hour of work, by trying everything; the present hour is whole."""
    units, slack = made.ahead.hours, int(made.slack_h)
    mean_h = made.ahead.mean_s / HOUR_S
    least: dict[tuple[int, int], float] = {}
    for hours in combinations(range(units + 1 + slack), units + 1):
        if hours[-1] - units > slack:
            continue
        for sites in product(range(len(rates)), repeat=units + 1):
            eur = made.delay_eur_per_h * hours[0]
            for n, (site, hour) in enumerate(zip(sites, hours, strict=True)):
                left = np.maximum(made.ahead.left_s / HOUR_S - n, 0.0)
                alive = float((left > 0) @ made.ahead.share)
                if n < ceil(mean_h - 1e-6) and not room[site][hour] and not (n == hour == 0 and site == made.running):
                    eur = inf
                eur += float(np.minimum(left, 1.0) @ made.ahead.share) * rates[site][hour]
                again = made.begun and not (hour == 0 and site == made.running) if n == 0 else False
                if n:
                    gap, moved = hour - hours[n - 1] - 1, site != sites[n - 1]
                    eur += alive * (made.delay_eur_per_h * gap + (leaving[sites[n - 1]] if moved else 0.0))
                    again = gap > 0 or moved
                    if again and not made.pauses:
                        eur = inf
                eur += alive * made.restart_h * (max(0.0, rates[site][hour]) + made.delay_eur_per_h) if again else 0.0
            first = (sites[0], hours[0] - 1)
            least[first] = min(least.get(first, inf), eur)
    return least


def cost(found, site, start):
    return float(found.now_eur[site] if start == NOW else found.later_eur[site, start])


RATES = st.lists(st.lists(st.floats(-5, 30), min_size=8, max_size=8), min_size=2, max_size=2)
ROOM = st.lists(st.lists(st.sampled_from([True, True, True, False]), min_size=8, max_size=8), min_size=2, max_size=2)
LENGTHS = st.lists(st.tuples(st.sampled_from([1.0, 1.5, 2.0, 3.0]), st.floats(0.1, 1)), min_size=1, max_size=3)


@settings(max_examples=150, deadline=None)
@given(
    rates=RATES,
    room=ROOM,
    lengths=LENGTHS,
    leaving=st.lists(st.floats(0, 5), min_size=2, max_size=2),
    slack_h=st.integers(0, 3),
    delay=st.floats(0, 3),
    restart_h=st.floats(0, 0.5),
    state=st.sampled_from([(False, None, True), (False, None, False), (True, None, True), (True, 1, True)]),
)
def test_no_plan_costs_less(rates, room, lengths, leaving, slack_h, delay, restart_h, state):
    begun, running, pauses = state
    made = task(
        ahead(*lengths),
        slack_h=slack_h,
        delay=delay,
        restart_h=restart_h,
        begun=begun,
        running=running,
        pauses=pauses,
    )
    found = plans(made, rates, room, leaving)
    least = every_plan(made, rates, room, leaving)
    for site in range(2):
        assert cost(found, site, NOW) == pytest.approx(least.get((site, NOW), inf), abs=1e-6)
        for start in range(slack_h):
            assert cost(found, site, start) == pytest.approx(least.get((site, start), inf), abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(RATES, st.floats(0.2, 3.8), st.floats(0, 3), st.floats(0, 0.99), st.integers(0, 1))
def test_the_hours_of_a_plan_cover_the_work_in_its_limits(rates, work_h, slack_h, now_h, site):
    made = task(ahead((work_h, 1.0)), slack_h=slack_h, now_h=now_h)
    found = plans(made, rates)
    for start in range(NOW, made.starts):
        if cost(found, site, start) == inf:
            continue
        runs = found.stretches(site, start)
        begin_s = now_h * HOUR_S if start == NOW else (int(now_h) + 1 + start) * HOUR_S
        assert runs[0][0] == site
        assert runs[0][1][0] == pytest.approx(begin_s)
        assert sum(length for _, (_, length) in runs) == pytest.approx(work_h * HOUR_S, abs=2)
        assert sum(runs[-1][1]) <= (now_h + work_h + slack_h) * HOUR_S + 2
        assert all(sum(one) <= other[0] + 1e-6 for (_, one), (_, other) in pairwise(runs))


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    quarters=st.integers(1, 16),
    slack_h=st.integers(0, 3),
    delay=st.sampled_from([0.0, 0.1]),
)
def test_the_hours_of_a_plan_cost_what_it_says(seed, quarters, slack_h, delay):
    chance = np.random.default_rng(seed)
    rates, leaving, restart_h = chance.normal(1, 1, (2, 8)), chance.random(2), 0.05
    made = task(ahead((quarters / 4, 1.0)), slack_h=slack_h, delay=delay, restart_h=restart_h)
    found = plans(made, rates, leaving=leaving)
    for site, start in product(range(2), range(NOW, slack_h)):
        if cost(found, site, start) == inf:
            continue
        eur, end_h, where = 0.0, 0.0, site
        for count, (at, (begin_s, length_s)) in enumerate(found.stretches(site, start)):
            begin_h, length_h = begin_s / HOUR_S, length_s / HOUR_S
            eur += delay * (begin_h - end_h) + (leaving[where] if at != where else 0.0)
            eur += restart_h * (max(0.0, rates[at][int(begin_h)]) + delay) if count else 0.0
            hours = np.arange(len(rates[at]))
            eur += float(
                np.clip(np.minimum(hours + 1, begin_h + length_h) - np.maximum(hours, begin_h), 0, 1) @ rates[at]
            )
            end_h, where = begin_h + length_h, at
        assert eur == pytest.approx(cost(found, site, start), abs=1e-6)


def test_what_is_too_late_is_not_planned():
    found = plans(task(ahead((1.0, 1.0)), slack_h=0.5, now_h=0.25), [[9.0] * 8])
    assert cost(found, 0, NOW) < inf
    assert cost(found, 0, 0) == inf


def test_a_job_that_may_be_over_soon_pauses_for_less():
    rates = [[10.0, 18.0, *[10.0] * 40]]
    surely = task(ahead((6.0, 1.0)), slack_h=1, restart_h=0.2)
    perhaps = task(ahead((1.1, 0.9), (30.0, 0.1)), slack_h=1, restart_h=0.2)
    assert [length for _, (_, length) in plans(surely, rates).stretches(0, NOW)] == [HOUR_S, 5 * HOUR_S]
    assert len(plans(perhaps, rates).stretches(0, NOW)) == 1


def test_waiting_costs_its_delay_in_full_also_for_a_job_that_may_outlast_all_hours_that_are_planned():
    found = plans(task(ahead((1.0, 0.99), (3.0, 0.01)), slack_h=2, delay=1.0), [[10.0] * 9])
    assert cost(found, 0, 1) - cost(found, 0, 0) == pytest.approx(1.0)


def test_a_plan_goes_on_elsewhere_where_that_pays_for_the_data():
    rates = [[1.0, 1.0, 50.0, 50.0, 50.0], [50.0, 50.0, 1.0, 1.0, 1.0]]
    for leaving, sites in ((5.0, [0, 1]), (500.0, [0])):
        runs = plans(task(ahead((4.0, 1.0))), rates, leaving=[leaving, leaving]).stretches(0, NOW)
        assert [site for site, _ in runs] == sites


def test_hours_without_room_are_left_out_unless_it_runs_there():
    room = [[False, True, True, True]]
    rates = [[1.0, 2.0, 2.0, 2.0]]
    assert cost(plans(task(ahead((1.5, 1.0)), slack_h=1), rates, room), 0, NOW) == inf
    assert cost(plans(task(ahead((1.5, 1.0)), slack_h=1, running=0), rates, room), 0, NOW) == pytest.approx(2.0)
