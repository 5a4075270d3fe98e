"""What holds of moves for latency's sake whatever the network does."""

import math

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from solyx.events import WithdrawalReason, WorkloadReason
from tests.unit.cmo.cmo_builders import (
    T0,
    at,
    core,
    flat,
    measured,
    only,
    placements,
    report,
    submitted,
    withdrawals,
)

MODEST = settings(max_examples=60, deadline=None)


@MODEST
@given(
    st.lists(
        st.tuples(st.sampled_from(("a", "b")), st.sampled_from((5.0, 15.0, 19.0, 21.0, 40.0, None))),
        min_size=20,
        max_size=60,
    ),
    st.sampled_from((1, 3, 12)),
)
def test_a_job_is_moved_for_its_latency_only_out_of_a_broken_bound_into_a_kept_one_and_not_often(readings, minutes):
    """Whatever the network does, one run is stopped at most once in half an hour, and never for less than five minutes' breach."""
    job = submitted(runs=30, max_delay=5, suspendable=True, latency=("office", 20))
    names = ("a", "b")
    cmo = core(*flat(*names), job)
    log = [measured(name, office=5.0) for name in names]
    for event in log:
        cmo.fold(event)
    live, hours, moved, below = only(placements(cmo.decide(T0))), 0.0, [], dict.fromkeys(names, 0.0)
    cmo.fold(report(live, "started"))
    heights = dict.fromkeys(names, 5.0)
    for name, office_ms in readings:
        hours += minutes / 60
        height = math.inf if office_ms is None else office_ms
        since = hours if height > heights[name] else below[name]
        heights[name], below[name] = height, since
        cmo.fold(measured(name, hours, since=since, office=office_ms))
        for withdrawn in withdrawals(cmo.decide(at(hours))):
            if withdrawn.reason is WithdrawalReason.LATENCY:
                other = "b" if live.site == "a" else "a"
                assert heights[live.site] > 20
                assert hours - below[live.site] >= 5 / 60 - 1e-9
                assert heights[other] <= 18
                assert not moved or hours - moved[-1] >= 0.5 - 1e-9
                moved.append(hours)
            ended = report(live, "stopped", hours, reason=WorkloadReason.RELEASED)
            cmo.fold(msgspec.structs.replace(ended, started_at=live.start_at, progress_s=60.0))
            placed = placements(cmo.decide(at(hours)))
            if not placed:
                return  # it waits: nobody is near
            live = only(placed)
            cmo.fold(msgspec.structs.replace(report(live, "started", hours), started_at=live.start_at))
