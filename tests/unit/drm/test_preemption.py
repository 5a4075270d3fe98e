"""Whom the first job that does not fit has stopped."""

import pytest

from services.drm.quotas import Quota
from solyx.events import Victim
from tests.unit.drm.drm_world import (
    World,
    allocations,
    job_spec,
    node,
    placed,
    releases,
)


def preemptible(cpu: float = 1, **more):
    return job_spec(cpu=cpu, preemptible=True, **more)


def test_the_head_evicts_preemptible_jobs_of_lower_priority_and_starts_when_they_have_stopped() -> None:
    world = World(node("a", cpu=2))
    world.tell(placed("victim", preemptible(2)))
    world.decide(0)
    world.tell(placed("urgent", job_spec(cpu=2, priority=1)), placed("small", job_spec(cpu=1, duration=1)))
    decisions = world.decide(1)
    assert releases(decisions) == [("victim", 1, "preempted")]
    assert allocations(decisions) == {}
    assert world.decide(2) == []  # one eviction is enough
    world.end("victim", "stopped")
    decisions = world.decide(3)
    assert set(allocations(decisions)) == {"urgent"}
    assert releases(decisions) == []
    world.tell(placed("victim", preemptible(2), revision=2, submitted=1))
    world.end("urgent")
    assert "small" in allocations(world.decide(4))
    world.end("small")
    assert allocations(world.decide(5))["victim"].revision == 2


@pytest.mark.parametrize(
    ("running", "head", "victims"),
    [
        ({"x": preemptible(2, priority=1)}, job_spec(cpu=2, priority=1), set()),
        ({"x": job_spec(cpu=2)}, job_spec(cpu=2, priority=1), set()),
        ({"x": preemptible(1), "fixed": job_spec(cpu=1)}, job_spec(cpu=2, priority=1), set()),
        ({"low": preemptible(1), "middle": preemptible(1, priority=1)}, job_spec(cpu=1, priority=2), {"low"}),
        ({"one": preemptible(1), "two": preemptible(1)}, job_spec(cpu=2, priority=1), {"one", "two"}),
    ],
    ids=[
        "equal priority is not evicted",
        "what is not preemptible is not evicted",
        "nobody is evicted in vain",
        "the lowest priority goes",
        "as many go as are needed",
    ],
)
def test_whom_the_head_evicts(running, head, victims) -> None:
    world = World(node("a", cpu=2))
    world.tell(*(placed(name, spec) for name, spec in running.items()))
    assert set(allocations(world.decide(0))) == set(running)
    world.tell(placed("head", head))
    assert {job_id for job_id, _, _ in releases(world.decide(1))} == victims


def test_one_large_victim_is_preferred_to_many_small_ones() -> None:
    world = World(node("a", cpu=4), node("b", cpu=4))
    world.tell(placed("large", preemptible(4)))
    world.decide(0)
    world.tell(*(placed(f"small-{n}", preemptible(1)) for n in range(4)))
    world.decide(1)
    world.tell(placed("head", job_spec(cpu=4, priority=1)))
    assert releases(world.decide(2)) == [("large", 1, "preempted")]


def test_of_equal_victims_the_youngest_goes_because_it_loses_the_least_work() -> None:
    world = World(node("a", cpu=2))
    world.tell(placed("old", preemptible(1)))
    world.decide(0)
    world.tell(placed("young", preemptible(1)))
    world.decide(50)
    world.tell(placed("head", job_spec(cpu=1, priority=1)))
    assert releases(world.decide(60)) == [("young", 1, "preempted")]


def test_a_tenant_over_its_quota_evicts_nobody() -> None:
    world = World(node("a", cpu=2), quotas={"lab": Quota(cpu_milli=1000)})
    world.tell(placed("victim", preemptible(2), tenant="other"))
    world.decide(0)
    world.tell(placed("head", job_spec(cpu=2, priority=1)))
    assert releases(world.decide(1)) == []


# ----------------------------------------------------------------------------------------------------------- named victims


def running_and_head(head, named, running, **world_options) -> World:
    """All of ``running`` runs when the head comes, which names victims."""
    world = World(node("a", cpu=2), **world_options)
    world.tell(*(placed(name, spec) for name, spec in running.items()))
    assert set(allocations(world.decide(0))) == set(running)
    world.tell(placed("head", head, victims=tuple(Victim(job_id=name, revision=1) for name in named)))
    return world


@pytest.mark.parametrize(
    ("named", "victims"),
    [
        (("dear",), {"dear"}),
        (("dear", "cheap"), {"cheap"}),
        (("elsewhere",), {"cheap"}),
        (("fixed",), {"cheap"}),
        (("equal",), {"cheap"}),
        ((), {"cheap"}),
    ],
    ids=[
        "whoever is named, though another is cheaper here",
        "no more of them than are needed",
        "one that does not run here is no help",
        "nor one that is not preemptible",
        "nor one of equal priority",
        "nobody is named",
    ],
)
def test_named_victims_are_taken_if_they_may_be_stopped_and_are_enough(named, victims) -> None:
    running = {
        "cheap": preemptible(0.5),
        "dear": preemptible(0.5, priority=1),
        "fixed": job_spec(cpu=0.5),
        "equal": preemptible(0.5, priority=2),
    }
    world = running_and_head(job_spec(cpu=0.5, priority=2), named, running)
    assert {job_id for job_id, _, _ in releases(world.decide(1))} == victims


def test_where_the_named_are_not_enough_one_other_set_is_chosen_and_no_second() -> None:
    running = {"named": preemptible(0.5), "one": preemptible(0.5), "two": preemptible(1)}
    world = running_and_head(job_spec(cpu=1, priority=2), ("named",), running)
    assert releases(world.decide(1)) == [("two", 1, "preempted")]
    assert releases(world.decide(2)) == []


def test_a_victim_that_was_placed_anew_since_it_was_named_is_not_meant() -> None:
    world = World(node("a", cpu=2))
    world.tell(placed("again", preemptible(1)), placed("other", preemptible(1)))
    world.decide(0)
    world.end("again", "stopped")
    world.tell(placed("again", preemptible(1, priority=1), revision=2))
    assert set(allocations(world.decide(1))) == {"again"}
    world.tell(placed("head", job_spec(cpu=1, priority=2), victims=(Victim(job_id="again", revision=1),)))
    assert releases(world.decide(2)) == [("other", 1, "preempted")]
