"""Plans that are looked at again: suspension, migration, starts that move, and what keeps them from moving too often."""

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.cmo.model import Policy
from solyx.events import (
    JobPlaced,
    PlacementReason,
    PlacementWithdrawn,
    WithdrawalReason,
    WorkloadReason,
    WorkloadReported,
)
from tests.unit.cmo.cmo_builders import T0, at, carbon, core, flat, only, placements, prices, report, site, submitted

DEAR, CHEAP = 200.0, 20.0
RIPPLE = 0.4 * Policy().worth_share * 50.0  # EUR/MWh: 50 and this more here, less there, stays within the margin


def stopped(placed: JobPlaced, began: float, hours: float, progress_h: float) -> WorkloadReported:
    return WorkloadReported(
        job_id=placed.job_id,
        tenant=placed.tenant,
        site=placed.site,
        revision=placed.revision,
        status="stopped",
        reason=WorkloadReason.RELEASED,
        started_at=at(began),
        progress_s=progress_h * 3600,
        at=at(hours),
    )


def one_site(*values, name="a", **options):
    return [site(name, **options), prices(name, *values), carbon(name)]


def running(*events, job, **policy):
    cmo = core(*events, job, **policy)
    placed = only(placements(cmo.decide(T0)))
    cmo.fold(report(placed, "started"))
    assert cmo.decide(at(0.1)) == []
    return cmo, placed


def test_a_suspendable_job_pauses_in_dear_hours_and_goes_on_with_its_progress():
    job = submitted(runs=3, max_delay=6, suspendable=True)
    cmo, placed = running(
        *one_site(CHEAP, *[DEAR] * 6, *[CHEAP] * 30), job=submitted(runs=3, max_delay=6, suspendable=True)
    )
    assert placed.start_at == T0
    withdrawn = only(cmo.decide(at(1)))
    assert isinstance(withdrawn, PlacementWithdrawn)
    assert withdrawn.reason is WithdrawalReason.SUSPENSION
    assert cmo.decide(at(1.01)) == []
    cmo.fold(stopped(placed, 0, 1.02, 1.0))
    resumed = only(placements(cmo.decide(at(1.02))))
    assert (resumed.reason, resumed.revision, resumed.progress_s) == (PlacementReason.RESUMED, 2, 3600.0)
    assert resumed.start_at >= at(6.9)
    assert resumed.start_at <= job.submitted_at + timedelta(hours=7)


def test_a_job_that_keeps_no_progress_runs_on():
    cmo, _ = running(*one_site(CHEAP, *[DEAR] * 6, *[CHEAP] * 30), job=submitted(runs=3, max_delay=0))
    for hour in range(1, 3):
        assert cmo.decide(at(hour)) == []


@pytest.mark.parametrize(("data_gib", "moves"), [(1, True), (1_000_000, False)])
def test_a_run_moves_when_the_gain_pays_for_its_data(data_gib, moves):
    job = submitted(runs=10, max_delay=0, suspendable=True, data=(data_gib, "a"))
    events = [*one_site(*[DEAR] * 48, egress=1e-6), *one_site(*[DEAR + 10] * 48, name="b", egress=1e-6)]
    cmo, placed = running(*events, job=job)
    assert placed.site == "a"
    cmo.fold(prices("b", *[CHEAP] * 47, start=1))
    decided = cmo.decide(at(1))
    if not moves:
        assert decided == []
        return
    assert only(decided).reason is WithdrawalReason.MIGRATION
    cmo.fold(stopped(placed, 0, 1.01, 1.0))
    moved = only(placements(cmo.decide(at(1.01))))
    assert (moved.site, moved.reason, moved.progress_s) == ("b", PlacementReason.MIGRATION, 3600.0)
    assert moved.cost.movement_eur == pytest.approx(1e-6 * data_gib)


@pytest.mark.parametrize("hour", [1, 2, 3, 4])
def test_a_run_moves_in_the_hour_that_its_plan_says(hour):
    here = one_site(*[CHEAP] * hour, *[DEAR] * 40, egress=1e-6)
    there = one_site(*[DEAR] * hour, *[CHEAP] * 40, name="b", egress=1e-6)
    job = submitted(runs=10, max_delay=0, suspendable=True, data=(1, "a"))
    cmo, placed = running(*here, *there, job=job)
    assert placed.site == "a"
    for earlier in range(1, hour):
        assert cmo.decide(at(earlier)) == []
    assert only(cmo.decide(at(hour))).reason is WithdrawalReason.MIGRATION


def test_a_planned_start_moves_to_a_better_hour_that_was_published_since():
    cmo = core(*one_site(DEAR, *[DEAR] * 9, CHEAP, DEAR), submitted(runs=1, max_delay=24))
    planned = only(placements(cmo.decide(T0)))
    assert planned.start_at == at(10)
    cmo.fold(prices("a", -50.0, DEAR, start=4))
    assert only(cmo.decide(at(2))).revision == planned.revision
    cmo.fold(report(planned, "stopped", 2))
    assert only(placements(cmo.decide(at(2)))).start_at == at(4)


def test_a_run_of_weeks_that_waits_for_its_start_is_looked_at_again():
    cmo = core(*one_site(DEAR, *[DEAR] * 9, *[CHEAP] * 30), submitted(runs=24 * 30, max_delay=24))
    planned = only(placements(cmo.decide(T0)))
    assert planned.start_at > at(9)
    assert all(isinstance(decision, PlacementWithdrawn) for decision in cmo.decide(at(6)))


def test_a_run_of_weeks_goes_on_without_a_plan_by_the_hour():
    job = submitted(runs=24 * 30, max_delay=24, suspendable=True)
    cmo, _ = running(*one_site(*[CHEAP] * 48), job=job)
    assert cmo.decide(at(1)) == []


def test_a_core_that_recovered_leaves_plans_as_they_are():
    events = [*one_site(CHEAP, *[DEAR] * 6, *[CHEAP] * 30), submitted(runs=3, max_delay=6, suspendable=True)]
    cmo = core(*events)
    placed = only(placements(cmo.decide(T0)))
    assert core(*events, placed, report(placed, "started")).decide(at(1)) == []


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-RIPPLE, RIPPLE), min_size=48, max_size=48), st.booleans())
def test_small_ripples_of_prices_move_nothing(ripples, suspendable):
    """Hysteresis: no plan follows changes that are worth less than its margin."""
    cmo = core(*flat("a", "b"), submitted(runs=20, max_delay=24, suspendable=suspendable))
    placed = only(placements(cmo.decide(T0)))
    cmo.fold(report(placed, "started"))
    for hour in range(1, 19):
        for name, sign in (("a", 1), ("b", -1)):
            cmo.fold(prices(name, *[50 + sign * ripple for ripple in ripples], start=hour))
        assert cmo.decide(at(hour)) == []
