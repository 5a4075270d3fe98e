"""When something changes materially plans are looked at at once; what changes less waits for the next look at all of them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.cmo.core.replanning import Replanner
from solyx.events import PowerModel
from tests.unit.cmo.cmo_builders import (
    T0,
    at,
    carbon,
    core,
    flat,
    forecast,
    node,
    only,
    placements,
    prices,
    site,
    submitted,
    withdrawals,
)

PRICE, CARBON = "price_eur_per_mwh", "carbon_gco2_per_kwh"
SOON = 0.5  # hours; within the hour, and long before all plans are looked at


def forecasts(issued, *, price=(), g_per_kwh=(), name="a"):
    """50 EUR/MWh and 100 g/kWh but for what is said of some hours."""
    hours = {PRICE: [50.0] * 96, CARBON: [100.0] * 96}
    for kind, changed in ((PRICE, price), (CARBON, g_per_kwh)):
        for hour, value in dict(changed).items():
            hours[kind][hour] = value
    return [forecast(name, kind, values, issued=issued) for kind, values in hours.items()]


def planned_at_ten(**policy):
    """A core in which a job of one hour waits for the tenth."""
    cmo = core(site("a"), *forecasts(0.0, price={10: 40.0}), submitted("j", max_delay=24), **policy)
    placed = only(placements(cmo.decide(T0)))
    assert placed.start_at == at(10)
    return cmo, placed


def moves(cmo, hours) -> bool:
    return bool(withdrawals(cmo.decide(at(hours))))


# A day at 50 EUR/MWh and 100 g/kWh at 100 EUR/t weighs 60 × 24 - 10; 2 % of it are 28.6.


@pytest.mark.parametrize(
    ("price", "g_per_kwh", "is_news"),
    [
        ({10: 40.0, 5: 21.0}, {}, True),
        ({10: 40.0, 5: 22.0}, {}, False),
        ({10: 65.0, 5: 45.0}, {}, True),  # the planned hour is dearer, another a little cheaper: 25 + 5
        ({10: 40.0}, {5: -190.0}, True),  # carbon weighs as much as it costs
        ({10: 40.0}, {5: -180.0}, False),
        ({10: 40.0, 30: -50.0}, {}, False),  # in more than a day
    ],
)
def test_plans_follow_at_once_what_changes_a_day_by_more_than_the_bound(price, g_per_kwh, is_news):
    cmo, _ = planned_at_ten()
    for event in forecasts(SOON, price=price, g_per_kwh=g_per_kwh):
        cmo.fold(event)
    assert moves(cmo, SOON) == is_news
    if not is_news and 30 not in price:
        assert not moves(cmo, 2.9), "nothing is new"
        assert moves(cmo, 3.0), "all plans are looked at"


def test_the_bound_is_the_policys():
    for share, is_news in ((0.1, False), (0.001, True)):
        cmo, _ = planned_at_ten(news_share=share)
        for event in forecasts(SOON, price={10: 40.0, 5: 30.0}):
            cmo.fold(event)
        assert moves(cmo, SOON) == is_news


def test_small_changes_add_up():
    cmo, _ = planned_at_ten()
    for step, value in enumerate((40.0, 30.0, 20.0), start=1):
        for event in forecasts(SOON + 0.1 * step, price={10: 40.0, 5: value}):
            cmo.fold(event)
        assert moves(cmo, SOON + 0.1 * step) == (value == 20.0)


def test_news_of_one_site_leave_small_changes_of_another_to_add_up():
    cmo, _ = planned_at_ten()
    for event in [site("b", hours=0.1), *forecasts(0.1, price={10: 45.0}, name="b")]:
        cmo.fold(event)
    assert not moves(cmo, 0.1)
    seen = looked_at(cmo)
    for step, (name, value, is_news) in enumerate((("a", 70.0, 0), ("b", 90.0, 1), ("a", 80.0, 1)), start=1):
        seen.clear()
        for event in forecasts(0.1 + 0.1 * step, price={10: 40.0, 5: value}, name=name):
            cmo.fold(event)
        cmo.decide(at(0.1 + 0.1 * step))
        assert len(seen) == is_news


def test_a_cent_is_no_news_where_energy_costs_nothing():
    cmo = core(site("a"), forecast("a", PRICE, [0.0] * 96), carbon("a"), submitted("j", max_delay=24))
    cmo.decide(T0)
    seen = looked_at(cmo)
    for cents, is_news in ((0.01, False), (0.03, True)):
        cmo.fold(forecast("a", PRICE, [cents] * 96, issued=cents))
        cmo.decide(at(cents))
        assert bool(seen) == is_news


def test_hours_that_are_over_are_not_news():
    """The same forecast in the next hour: what has changed is the hour, not the world."""
    cmo, _ = planned_at_ten()
    assert cmo.decide(at(1)) == []
    seen = looked_at(cmo)
    for event in forecasts(0.0, price={10: 40.0}):
        cmo.fold(event)
    assert cmo.decide(at(1.1)) == []
    assert seen == []


def looked_at(cmo):
    """The jobs whose plans are looked at from now on."""
    seen = []
    better = Replanner.better

    def spy(self, job, spec, now):
        seen.append(job.job_id)
        return better(self, job, spec, now)

    cmo._replanner.better = spy.__get__(cmo._replanner)
    return seen


@pytest.mark.parametrize(
    ("changed", "is_news"),
    [
        ({"nodes": 100}, False),
        ({"nodes": 99}, False),
        ({"nodes": 101}, False),
        ({"nodes": 97}, True),
        ({"nodes": 103}, True),
        ({"nodes": 100, "power": PowerModel(w_per_core=11)}, True),
        ({"nodes": 100, "egress": 0.01}, True),
    ],
)
def test_plans_follow_at_once_a_site_that_loses_or_gains_nodes(changed, is_news):
    def sized(nodes, hours=0.0, **options):
        return site("a", *[node(f"n{n}") for n in range(nodes)], hours=hours, **options)

    cmo = core(*flat("a"), sized(100, 0.1), submitted("j", max_delay=24), delay_eur_per_job_h=0.0)
    cmo.decide(at(0.1))
    seen = looked_at(cmo)
    cmo.fold(sized(**changed, hours=0.2))
    cmo.decide(at(0.2))
    assert seen == ["j"] * is_news


def test_only_jobs_that_the_site_concerns_are_looked_at():
    jobs = [submitted(name, max_delay=24, sites=sites) for name, sites in (("x", ("a",)), ("y", ("b",)), ("z", ()))]
    sites = [site("a"), site("b"), *forecasts(0.0, price={10: 40.0}), *forecasts(0.0, price={10: 40.0}, name="b")]
    cmo = core(*sites, *jobs)
    assert len(placements(cmo.decide(T0))) == 3
    seen = looked_at(cmo)
    for event in forecasts(SOON, price={10: 80.0}, name="b"):
        cmo.fold(event)
    cmo.decide(at(SOON))
    assert sorted(seen) == ["y", "z"]


def test_a_price_that_becomes_known_is_news():
    cmo = core(site("a"), submitted("j", max_delay=24), site("b"), *flat("b"))
    assert only(placements(cmo.decide(T0))).site == "b"
    cmo = core(site("a"), *flat("b"), submitted("j", runs=2, max_delay=0))
    placed = only(placements(cmo.decide(T0)))
    assert placed.site == "b"
    seen = looked_at(cmo)
    cmo.fold(prices("a", *[10.0] * 48))
    cmo.fold(carbon("a"))
    cmo.decide(at(0.1))
    assert seen == ["j"]


RIPPLES = st.lists(
    st.tuples(st.floats(0.01, 0.95), st.lists(st.floats(-1, 1), min_size=96, max_size=96)), min_size=1, max_size=6
)


@settings(max_examples=40, deadline=None)
@given(RIPPLES, st.floats(0.001, 0.2))
def test_whatever_stays_below_the_bound_is_looked_at_by_nobody(ripples, share):
    base = [50.0] * 10 + [40.0] + [50.0] * 85
    events = [site("a"), forecast("a", PRICE, base), carbon("a")]
    cmo = core(*events, submitted("j", max_delay=24), news_share=share)
    assert only(placements(cmo.decide(T0))).start_at == at(10)
    seen = looked_at(cmo)
    for hours, ripple in sorted(ripples, key=lambda one: one[0]):
        values = [value * (1.0 + 0.99 * share * by) for value, by in zip(base, ripple, strict=True)]
        cmo.fold(forecast("a", PRICE, values, issued=hours))
        assert cmo.decide(at(hours)) == []
    assert seen == []


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0.01, 5.9), st.lists(st.floats(0, 100), min_size=96, max_size=96)), max_size=6),
    st.data(),
)
def test_the_same_news_in_another_order_or_twice_give_the_same_decisions(news, data):
    """What a decision makes of news depends on what is known then, not on how it came to be known."""
    kept = [forecast("a", PRICE, [50.0] * 10 + [40.0] + [50.0] * 85), carbon("a")]
    decided = []
    for _ in range(2):
        cmo = core(site("a"), *kept, submitted("j", max_delay=24, suspendable=True, runs=3))
        log = [cmo.decide(T0)]
        for half in range(12):
            now = half / 2
            due = [forecast("a", PRICE, values, issued=at_h) for at_h, values in news if now - 0.5 < at_h <= now]
            for event in data.draw(st.permutations(due + due)) if due else ():
                cmo.fold(event)
            log.append(cmo.decide(at(now + 0.01)))
        decided.append(log)
    assert decided[0] == decided[1]


def test_a_recovered_core_plans_on_what_it_finds_until_all_plans_are_looked_at():
    cmo, placed = planned_at_ten()
    first = forecasts(SOON, price={10: 40.0, 5: 25.0})
    recovered = core(site("a"), *forecasts(0.0, price={10: 40.0}), *first, submitted("j", max_delay=24), placed)
    for event in first:
        cmo.fold(event)
    assert cmo.decide(at(SOON)) == recovered.decide(at(SOON)) == []
    for event in forecasts(SOON + 0.2, price={10: 40.0, 5: 10.0}):
        cmo.fold(event)
        recovered.fold(event)
    assert moves(cmo, SOON + 0.2)
    assert not moves(recovered, SOON + 0.2)
    assert moves(recovered, 3.0)
