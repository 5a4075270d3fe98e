"""How long what was placed keeps its room."""

from tests.unit.cmo.cmo_builders import (
    T0,
    at,
    core,
    flat,
    node,
    only,
    report,
    site,
    submitted,
)


def test_a_run_that_outlasts_its_estimate_keeps_its_room():
    cmo = core(*flat("a"), submitted(cores=8, runs=1, max_delay=0))
    placed = only(cmo.decide(T0))
    cmo.fold(report(placed, "started"))
    for hour in range(1, 6):
        assert cmo.decide(at(hour)) == []
    cmo.fold(submitted("next", hours=5.5, cores=8, max_delay=0))
    assert only(cmo.decide(at(5.5))).bound_by.startswith("capacity")


def test_a_run_that_starts_late_is_expected_to_end_late():
    cmo = core(*flat("a"), submitted(cores=8, runs=3, max_delay=0))
    placed = only(cmo.decide(T0))
    cmo.fold(report(placed, "started", 2))
    cmo.fold(submitted("next", hours=2, cores=8, max_delay=9))
    assert only(cmo.decide(at(2))).start_at == at(5)


def test_room_lasts_over_more_hours_than_the_ledger_holds():
    cmo = core(site("a"), submitted(cores=8, runs=24 * 365, max_delay=0))
    placed = only(cmo.decide(T0))
    cmo.fold(report(placed, "started"))
    for day in range(1, 200, 7):
        assert cmo.decide(at(24 * day)) == []
    cmo.fold(submitted("next", hours=24 * 200, cores=8, max_delay=0))
    assert "no feasible site has room" in only(cmo.decide(at(24 * 200))).bound_by


def test_a_clock_that_is_set_back_reopens_no_hour():
    cmo = core(*flat("a"))
    assert cmo.decide(at(1)) == []
    cmo.fold(submitted(max_delay=0))
    assert only(cmo.decide(at(0.9))).start_at == at(1)


def test_an_inventory_that_shrinks_leaves_what_is_committed():
    cmo = core(*flat("a"), submitted(cores=6, runs=10, max_delay=0))
    only(cmo.decide(T0))
    cmo.fold(site("a", node(cores=4), hours=1))
    cmo.fold(submitted("next", hours=1, cores=1, max_delay=20))
    assert only(cmo.decide(at(1))).start_at == at(10)
