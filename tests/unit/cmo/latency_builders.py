"""Jobs that must be near a place, and what is measured from two sites to it."""

import msgspec

from solyx.events import LatencyBoundReported, WorkloadReason
from tests.unit.cmo.cmo_builders import T0, at, core, flat, measured, only, placements, report, submitted

MINUTE = 1 / 60
NEAR = ("office", 20)
TIED = submitted(runs=10, max_delay=0, latency=NEAR)  # to where it runs


def two_sites(**places):
    """`a` and `b`, with what the network measures from each to the office."""
    return [*flat("a", "b"), *(measured(name, office=ms) for name, ms in places.items())]


def running(*events, job=None, **policy):
    """A core in which the job runs at `a` from T0 on."""
    job = job or submitted(runs=10, max_delay=5, suspendable=True, latency=NEAR)
    cmo = core(*events, job, **policy)
    placed = only(placements(cmo.decide(T0)))
    assert placed.site == "a"
    cmo.fold(report(placed, "started"))
    assert cmo.decide(at(0.1)) == []
    return cmo, placed


def stopped(placed, hours, began=0.0, progress_h=0.5):
    ended = report(placed, "stopped", hours, reason=WorkloadReason.RELEASED)
    return msgspec.structs.replace(ended, started_at=at(began), progress_s=progress_h * 3600)


def reasons(decisions):
    """Of what is told of bounds that are broken; there is nothing else."""
    assert all(isinstance(event, LatencyBoundReported) for event in decisions), decisions
    return [event.reason for event in decisions]


def steps(cmo, begin, end, minutes=5):
    """All that is decided in a while, looked at every few minutes."""
    count = round((end - begin) / (minutes * MINUTE))
    return [decision for n in range(count + 1) for decision in cmo.decide(at(begin + n * minutes * MINUTE))]
