"""What is told of a bound on the latency that is broken where nobody moves."""

import pytest

from solyx.events import (
    LatencyReason,
    PlacementWithdrawn,
    WorkloadReason,
)
from tests.unit.cmo.cmo_builders import (
    T0,
    at,
    core,
    flat,
    measured,
    only,
    outcomes,
    placements,
    report,
    site,
    submitted,
)
from tests.unit.cmo.latency_builders import MINUTE, NEAR, TIED, reasons, running, steps, two_sites


def test_that_the_bound_of_a_run_is_broken_is_told_after_the_same_patience_with_the_figures():
    cmo, placed = running(*two_sites(a=5, b=15), job=TIED)
    cmo.fold(measured("a", 0.2, office=50))
    assert cmo.decide(at(0.2 + 4.9 * MINUTE)) == []
    told = only(cmo.decide(at(0.2 + 5 * MINUTE)))
    assert (told.job_id, told.tenant, told.site, told.revision) == (placed.job_id, placed.tenant, "a", 1)
    assert (told.to, told.max_ms, told.round_trip_ms, told.since) == ("office", 20, 50, at(0.2))
    assert told.detail == (
        "a is 50 ms from office (measured); the job asks for at most 20 ms; it runs and is not suspendable, so it stays"
    )


def test_it_is_told_when_the_site_is_near_enough_again_and_anew_when_it_is_too_far_again():
    cmo, _ = running(*two_sites(a=5, b=15), job=TIED)
    told = []
    for hours, office_ms in ((0.2, 50), (0.4, 30), (0.6, 20), (0.8, 15), (1.0, 21)):
        cmo.fold(measured("a", hours, office=office_ms))
        told += [(round(hours, 1), reason) for reason in reasons(steps(cmo, hours, hours + 0.15))]
    assert told == [
        (0.2, LatencyReason.NOT_SUSPENDABLE),
        (0.6, LatencyReason.WITHIN),
        (1.0, LatencyReason.NOT_SUSPENDABLE),
    ]


def test_a_bound_that_is_broken_for_a_moment_is_not_told():
    cmo, _ = running(*two_sites(a=5, b=15), job=TIED)
    cmo.fold(measured("a", 0.2, office=50))
    assert cmo.decide(at(0.25)) == []
    cmo.fold(measured("a", 0.26, office=5))
    assert steps(cmo, 0.26, 0.9) == []


def test_a_place_that_is_cut_off_has_no_figure_and_one_that_is_declared_no_beginning():
    cmo, _ = running(*two_sites(a=5), job=TIED)
    cmo.fold(measured("a", 0.2, office=None))
    cut_off = only(steps(cmo, 0.2, 0.4))
    assert cut_off.round_trip_ms is None
    assert cut_off.detail.startswith("a has no way to office (measured)")
    cmo, _ = running(*flat("a", latency={"office": 5}), job=TIED)
    cmo.fold(site("a", latency={"office": 90}, hours=0.2))
    declared = only(cmo.decide(at(0.2)))
    assert (declared.round_trip_ms, declared.since) == (90, None)


def test_what_waits_where_no_other_site_is_near_is_told_so_and_once_more_when_it_has_begun_to_run():
    cmo = core(*two_sites(a=5), TIED)
    placed = only(placements(cmo.decide(T0)))
    cmo.fold(measured("a", 0.1, office=50))
    waits = only(steps(cmo, 0.1, 1))
    assert waits.reason is LatencyReason.NO_NEARER_SITE
    assert waits.detail.endswith("no other site that is nearer than that by 10 % can take it now")
    cmo.fold(report(placed, "started", 1.05))
    assert reasons(steps(cmo, 1.1, 2)) == [LatencyReason.NOT_SUSPENDABLE]


def test_that_a_run_is_left_in_peace_is_no_news_to_who_knows_that_no_site_is_nearer():
    cmo = core(*two_sites(a=5), submitted(runs=10, max_delay=5, suspendable=True, latency=NEAR), restart_s=600)
    placed = only(placements(cmo.decide(T0)))
    cmo.fold(measured("a", 0.1, office=50))
    assert reasons(steps(cmo, 0.1, 0.3)) == [LatencyReason.NO_NEARER_SITE]
    cmo.fold(report(placed, "started", 0.35))
    assert steps(cmo, 0.4, 2) == []


def test_what_moves_at_once_is_told_by_its_withdrawal_alone():
    cmo, _ = running(*two_sites(a=5, b=15))
    cmo.fold(measured("a", 0.2, office=50))
    assert [type(event) for event in steps(cmo, 0.2, 0.4)] == [PlacementWithdrawn]


@pytest.mark.parametrize("back", [False, True])
def test_a_recovered_core_tells_nothing_twice_whatever_comes_first(back):
    events = [*two_sites(a=5, b=15), TIED]
    cmo = core(*events)
    placed = only(placements(cmo.decide(T0)))
    later = [placed, report(placed, "started"), measured("a", 0.2, office=50)]
    for event in later:
        cmo.fold(event)
    told = steps(cmo, 0.2, 0.4)
    if back:
        later.append(measured("a", 0.5, office=5))
        cmo.fold(later[-1])
        told += steps(cmo, 0.5, 0.6)
    assert len(told) == 1 + back
    for order in ([*events, *later, *told], [*reversed(told), *events, *later], [*events, *later, *told, told[0]]):
        assert steps(core(*order), 0.6, 1) == []


def test_what_was_told_of_an_earlier_placement_hides_nothing_of_a_later_one():
    cmo, placed = running(*two_sites(a=5), job=TIED)
    cmo.fold(measured("a", 0.2, office=50))
    assert reasons(steps(cmo, 0.2, 0.4)) == [LatencyReason.NOT_SUSPENDABLE]
    cmo.fold(measured("a", 0.5, office=5))
    cmo.fold(report(placed, "failed", 0.5, reason=WorkloadReason.NODE_LOST))
    again = only(placements(cmo.decide(at(0.5))))
    cmo.fold(report(again, "started", 0.5))
    cmo.fold(measured("a", 0.6, office=60))
    told = only(steps(cmo, 0.6, 1))
    assert (told.revision, told.reason) == (2, LatencyReason.NOT_SUSPENDABLE)


def test_nothing_is_kept_of_a_job_that_is_over():
    cmo, placed = running(*two_sites(a=5, b=15), job=TIED)
    cmo.fold(measured("a", 0.2, office=50))
    told = only(steps(cmo, 0.2, 0.4))
    cmo.fold(report(placed, "succeeded", 0.5, reason=WorkloadReason.COMPLETED))
    assert only(outcomes(cmo.decide(at(0.5)))).outcome == "succeeded"
    cmo.fold(told)
    assert cmo._proximity._told == {}
