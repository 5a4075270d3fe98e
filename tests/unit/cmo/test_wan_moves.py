"""The later moves of a plan are timed when they become due: no work at the new site before the data is there."""

import msgspec
import pytest

from solyx.events import WithdrawalReason, WorkloadReason
from tests.unit.cmo.cmo_builders import (
    T0,
    at,
    carbon,
    core,
    only,
    placements,
    prices,
    report,
    route,
    site,
    submitted,
    withdrawals,
)
from tests.unit.cmo.test_wan import later

CHEAP, DEAR = 1.0, 500.0


def turning(turn_h=3):
    """Energy is cheap at `a` for some hours, and from then on at `b`."""
    a, b = [CHEAP] * turn_h + [DEAR] * (96 - turn_h), [DEAR] * turn_h + [CHEAP] * (96 - turn_h)
    return [*(site(name) for name in "ab"), *(carbon(name) for name in "ab"), prices("a", *a), prices("b", *b)]


def halfway(*events, job):
    """The core at three o'clock, when the plan of the job, which runs at `a`, goes on at `b`; and its placement."""
    cmo = core(*turning(), job)
    live = only(placements(cmo.decide(T0)))
    assert (live.site, live.start_at) == ("a", T0)
    cmo.fold(report(live, "started"))
    for hours in (1, 2):
        assert not withdrawals(cmo.decide(at(hours)))
    for event in events:
        cmo.fold(event)
    return cmo, live


def stop(cmo, live, hours):
    """It has stopped, with what it did so far; where it goes on."""
    ended = report(live, "stopped", hours, reason=WorkloadReason.RELEASED)
    cmo.fold(msgspec.structs.replace(ended, started_at=T0, progress_s=3 * 3600.0))
    return only(placements(cmo.decide(at(hours))))


def long_job(gib):
    return submitted(runs=8, suspendable=True, data=(gib, "a"), max_delay=12)


def test_a_planned_move_goes_on_when_the_data_is_there():
    cmo, live = halfway(route("a", "b", 10), job=long_job(5))
    assert only(withdrawals(cmo.decide(at(3)))).reason is WithdrawalReason.MIGRATION
    made = stop(cmo, live, 3.05)
    assert (made.site, made.data_from, made.data_at, made.start_at) == ("b", at(3.05), later(3.55), later(3.55))


def test_a_planned_move_waits_for_what_was_promised_to_others_meanwhile():
    other = submitted("other", runs=1, data=(15, "a"), sites=("b",), hours=2, max_delay=12)
    cmo, live = halfway(route("a", "b", 10), other, job=long_job(5))
    first = [made for made in placements(cmo.decide(at(2.5))) if made.job_id == "other"]
    assert only(first).data_at == later(4)
    assert only(withdrawals(cmo.decide(at(3)))).reason is WithdrawalReason.MIGRATION
    made = stop(cmo, live, 3)
    assert (made.site, made.data_from, made.data_at) == ("b", at(4), later(4.5))
    assert made.start_at >= made.data_at


@pytest.mark.parametrize("gib", [160, 5])
def test_a_planned_move_that_takes_longer_than_it_gains_is_not_made(gib):
    """Sixteen hours on the network against five at the dear price, within a patience of twelve: what was planned is not done."""
    cmo, _ = halfway(route("a", "b", 10), job=long_job(gib))
    assert [taken.reason for taken in withdrawals(cmo.decide(at(3)))] == (
        [WithdrawalReason.MIGRATION] if gib == 5 else []
    )


def test_a_planned_move_without_a_path_is_not_made():
    cmo, _ = halfway(route("a", "b", path=False), job=long_job(5))
    assert not [taken for taken in withdrawals(cmo.decide(at(3))) if taken.reason is WithdrawalReason.MIGRATION]
