"""The fast parts of the CMO are equal to the simple ones they stand for."""

from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.cmo.core.ledger import POWER, SLOT_S, Demand, Ledger, Room, Span
from services.cmo.core.outlook import Outlook
from services.cmo.core.sites import Sites
from services.cmo.model import Policy
from solyx.energy import HourlySeries, curve_of
from tests.unit.cmo.cmo_builders import T0, at, carbon, node, prices, site, submitted

MODEST = settings(max_examples=60, deadline=None)
NOW = T0.timestamp()

runs = st.tuples(
    st.sampled_from(["a", "b"]),
    st.sampled_from([1, 3, 8]),
    st.floats(0, 12),
    st.floats(0.01, 12),
    st.sampled_from([(0, ()), (1, ()), (1, ("V100",)), (2, ("T4", "V100"))]),
)


def ledger_of(placed, now_s, *, capped=False) -> tuple[Ledger, Sites]:
    sites, ledger = Sites(), Ledger()
    sites.fold(site("a", node("1", cores=16, gpus=2), node("2", gpus=1, model="T4")))
    sites.fold(site("b", node("1", cores=8)))
    hour = int(NOW // SLOT_S)
    ledger.set_sites(sites.all, {0: [(hour + 2, hour + 5, 60)]} if capped else {}, now_s)
    for index, (name, cores, start, hours, (gpus, models)) in enumerate(placed):
        spec = submitted(cores=cores, gpus=gpus, models=models).spec
        ledger.commit(
            f"{index}",
            site=sites.by_name[name],
            demand=Demand.of(spec),
            start_s=NOW + start * SLOT_S,
            duration_s=hours * SLOT_S,
            now_s=now_s,
        )
    return ledger, sites


@MODEST
@given(st.lists(runs, max_size=8), runs, st.sampled_from([0.0, 0.3, 0.99]), st.booleans())
def test_there_is_room_exactly_where_a_commitment_would_leave_no_hour_short(placed, asked, offset, capped):
    now_s = NOW + offset * SLOT_S
    ledger, sites = ledger_of(placed, now_s, capped=capped)
    _, cores, _, hours, (gpus, models) = asked
    demand = Demand.of(submitted(cores=cores, gpus=gpus, models=models).spec)
    fits = Room(ledger, demand, hours * SLOT_S, now_s).starts(8)
    taken = np.flatnonzero(ledger.rows(demand).any(axis=0))
    columns = [column for column in taken if capped or column != POWER]
    for known in sites.all:
        for start in range(8):
            start_s = now_s if start == 0 else NOW + start * SLOT_S
            ledger.commit("x", site=known, demand=demand, start_s=start_s, duration_s=hours * SLOT_S, now_s=now_s)
            span = Span.of(start_s, hours * SLOT_S, now_s)
            first = span.first - ledger.base
            covered = ledger.free[known.index, first : first + 1 + span.whole + (span.tail > 0)][:, columns]
            assert fits[known.index, start] == bool((covered >= 0).all())
            ledger.release("x")


@MODEST
@given(st.lists(runs, max_size=10))
def test_giving_everything_back_restores_the_free_capacity_exactly(placed):
    ledger, _ = ledger_of(placed, NOW)
    for index in range(len(placed)):
        ledger.release(f"{index}")
    assert (ledger.free == ledger.limit).all()
    assert len(ledger) == 0


@MODEST
@given(st.lists(runs, min_size=1, max_size=10), st.floats(0, 9))
def test_what_is_restored_is_where_it_was_in_its_plan(placed, later):
    ledger, sites = ledger_of(placed, NOW)
    (site_a, cores, *_), plan = placed[0], ((NOW, SLOT_S), (NOW + 3 * SLOT_S, 2.0 * SLOT_S))
    demand, then = Demand.of(submitted(cores=cores).spec), ((sites.by_name["b"], (NOW + 6 * SLOT_S, SLOT_S)),)
    ledger.commit_all("x", site=sites.by_name[site_a], demand=demand, stretches=plan, now_s=NOW, then=then)
    known = ledger.committed("x")
    ledger.release("x")
    ledger.restore("x", known, NOW + later * SLOT_S)
    restored = ledger.committed("x")
    assert (restored.site, restored.then, restored.stretch_end_s) == (known.site, then, NOW + SLOT_S)
    ledger.extend("x", SLOT_S, NOW + later * SLOT_S)
    assert ledger.committed("x").stretch_end_s == NOW + SLOT_S, "nobody has planned it anew"


@MODEST
@given(st.lists(runs, max_size=10), st.integers(0, 30))
def test_moving_on_in_time_changes_no_hour_ahead(placed, days):
    ledger, _ = ledger_of(placed, NOW)
    before, base = ledger.free.copy(), ledger.base
    ledger.advance(NOW + days * 24 * SLOT_S)
    passed = ledger.base - base
    assert (ledger.free[:, :100] == before[:, passed : passed + 100]).all()


values = st.lists(st.one_of(st.none(), st.floats(-500, 500)), min_size=1, max_size=100)


@MODEST
@given(values, values, st.floats(0, 0.99), st.floats(0.01, 200), st.integers(1, 10))
def test_the_cost_of_every_start_is_the_integral_over_its_run(price, intensity, offset, hours, count):
    outlook = Outlook(Policy(carbon_eur_per_t=80))
    outlook.fold_series(prices("a", *price))
    outlook.fold_series(carbon("a", *intensity))
    now = at(offset)
    looked = outlook.prices(["a"], now.timestamp())
    prices_curve, carbon_curve = curve_of(T0, 3600.0, price), curve_of(T0, 3600.0, intensity)
    if prices_curve is None or carbon_curve is None:
        assert not looked.known[0]
        return
    costs = looked.unit_costs(hours * 3600, now.timestamp(), count)
    within_a_week = min(hours, 168.0)
    for start in range(count):
        begin = now if start == 0 else at(start)
        end = begin + timedelta(hours=within_a_week)
        expected = prices_curve.cost_between(begin, end) + 0.08 * carbon_curve.cost_between(begin, end)
        assert costs[0, start] == pytest.approx(expected * hours / within_a_week, abs=1e-3, rel=1e-6)


@MODEST
@given(values, st.floats(-5, 105), st.floats(0, 50), st.floats(0, 50))
def test_integrals_over_adjoining_spans_add_up(drawn, start, first, second):
    series = HourlySeries()
    series.add(T0, 3600.0, drawn)
    known = series.curve()
    if known is None:
        return
    begin, middle, end = at(start), at(start + first), at(start + first + second)
    for integral in (known.cost_between, known.held_h_between):
        assert integral(begin, middle) + integral(middle, end) == pytest.approx(integral(begin, end), abs=1e-4)
