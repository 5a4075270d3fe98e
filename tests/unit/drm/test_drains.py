"""Work that is kept: progress from placement to allocation, the grace of a release, and nodes that are to be empty."""

from __future__ import annotations

import pytest

from services.drm.model import LEAST_LEFT_S
from solyx.events import AllocationReleased, Event, WorkloadReason
from tests.unit.drm.drm_world import (
    World,
    allocations,
    job_spec,
    node,
    nodes_of,
    observed,
    placed,
    releases,
    reported,
    withdrawn,
)

JOB = placed("job", job_spec(cpu=8, grace=45))


def graces(decisions: list[Event]) -> dict[str, float]:
    return {e.job_id: e.grace_s for e in decisions if isinstance(e, AllocationReleased)}


def test_an_allocation_repeats_the_progress_of_its_placement() -> None:
    world = World(node("a"))
    world.tell(placed("job", progress=42.5))
    assert allocations(world.decide(0))["job"].progress_s == 42.5


@pytest.mark.parametrize(("progress", "left"), [(0, 1000), (900, 100), (1000, LEAST_LEFT_S), (5000, LEAST_LEFT_S)])
def test_what_is_left_decides_who_may_go_ahead(progress: float, left: float) -> None:
    """One node of 8 CPU: a runner holds 6 of them for what is left of it, the head needs all, and a short job asks for 2."""
    for duration, goes_ahead in ((left - 1, True), (left + 1, False)):
        world = World(node("a", cpu=8))
        world.tell(placed("runner", job_spec(cpu=6, duration=1000), progress=progress))
        world.decide(0)
        world.tell(placed("head", job_spec(cpu=8), submitted=1))
        world.tell(placed("short", job_spec(cpu=2, duration=duration), submitted=2))
        assert ("short" in allocations(world.decide(0))) is goes_ahead


def test_a_job_that_goes_on_may_go_ahead_with_what_is_left_of_it() -> None:
    world = World(node("a", cpu=8))
    world.tell(placed("runner", job_spec(cpu=6, duration=200)))
    world.decide(0)
    world.tell(placed("head", job_spec(cpu=8), submitted=1))
    world.tell(placed("resumed", job_spec(cpu=2, duration=1000), submitted=2, progress=850))
    assert set(allocations(world.decide(0))) == {"resumed"}


# --------------------------------------------------------------------------------------------------------------- grace


def test_a_withdrawn_workload_gets_its_grace_period() -> None:
    world = World(node("a"))
    world.tell(JOB)
    world.decide(0)
    world.tell(withdrawn(JOB))
    assert graces(world.decide(1)) == {"job": 45}


def test_a_preempted_workload_gets_its_grace_period() -> None:
    world = World(node("a"))
    world.tell(placed("low", job_spec(cpu=8, preemptible=True, grace=7)))
    world.decide(0)
    world.tell(placed("high", job_spec(cpu=8, priority=5), submitted=1))
    decisions = world.decide(1)
    assert releases(decisions) == [("low", 1, "preempted")]
    assert graces(decisions) == {"low": 7}


def test_what_has_ended_needs_no_grace() -> None:
    world = World(node("a"))
    world.tell(JOB)
    world.decide(0)
    world.end("job")
    assert graces(world.decide(1)) == {"job": 0}


# -------------------------------------------------------------------------------------------------------------- drains


def drained() -> World:
    """Two nodes, a job on each; ``a`` is to be empty."""
    world = World(node("a", cpu=8), node("b", cpu=8))
    world.tell(JOB, placed("other", job_spec(cpu=8), submitted=1))
    assert {job: nodes_of(e) for job, e in allocations(world.decide(0)).items()} == {"job": ["a"], "other": ["b"]}
    world.tell(observed(node("a", cpu=8, ready=False, draining=True), node("b", cpu=8), seconds=10))
    return world


def test_what_runs_on_a_draining_node_is_told_to_stop_once_with_its_grace() -> None:
    world = drained()
    decisions = world.decide(10)
    assert releases(decisions) == [("job", 1, "drained")]
    assert graces(decisions) == {"job": 45}
    world.tell(observed(node("a", cpu=8, ready=False, draining=True), node("b", cpu=8), seconds=20))
    assert world.decide(20) == []


def test_a_drained_job_comes_back_under_a_new_revision_elsewhere() -> None:
    world = drained()
    world.decide(10)
    world.end("job", "stopped", reason=WorkloadReason.RELEASED)
    world.end("other")
    world.tell(placed("job", JOB.spec, revision=2, progress=10))
    allocation = allocations(world.decide(11))["job"]
    assert (allocation.revision, allocation.progress_s, nodes_of(allocation)) == (2, 10, ["b"])


def test_a_gang_with_one_pod_on_a_draining_node_leaves_whole() -> None:
    world = World(node("a"), node("b"))
    world.tell(placed("gang", job_spec(cpu=8, pods=2)))
    world.decide(0)
    world.tell(observed(node("a"), node("b", draining=True), seconds=1))
    assert releases(world.decide(1)) == [("gang", 1, "drained")]


def test_nothing_starts_on_a_draining_node_even_if_it_is_said_to_be_ready() -> None:
    world = World(node("a", draining=True))
    world.tell(JOB)
    assert allocations(world.decide(0)) == {}
    world.tell(observed(node("a"), seconds=1))
    assert set(allocations(world.decide(1))) == {"job"}


def test_what_runs_on_a_cordoned_node_stays_and_nothing_new_starts_there() -> None:
    world = World(node("a", cpu=16))
    world.tell(JOB)
    world.decide(0)
    world.tell(observed(node("a", cpu=16, ready=False), seconds=1), placed("next", job_spec(cpu=1)))
    decisions = world.decide(1)
    assert releases(decisions) == []
    assert allocations(decisions) == {}
    world.tell(observed(node("a", cpu=16), seconds=2))
    assert set(allocations(world.decide(2))) == {"next"}


def test_a_recovered_manager_drains_what_its_predecessor_did_not() -> None:
    world = drained()
    allocation = world.running["job"]
    successor = World(node("a", cpu=8, ready=False, draining=True), node("b", cpu=8))
    successor.tell(JOB, allocation, reported(allocation, "started"))
    assert releases(successor.decide(11)) == [("job", 1, "drained")]


def test_a_success_that_comes_with_the_drain_wins() -> None:
    world = drained()
    world.end("job")
    assert releases(world.decide(10)) == [("job", 1, "finished")]
