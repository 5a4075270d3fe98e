"""Nodes that operators cordon and drain, beside what the inventory says of them."""

from itertools import permutations

import pytest

from services.drm.core import DrmCore
from solyx.events import Event, JobAllocated, NodeOrder, NodesOrdered
from tests.unit.drm.drm_world import (
    SITE,
    World,
    allocations,
    at,
    deferrals,
    job_spec,
    node,
    nodes_of,
    observed,
    placed,
    releases,
)


def ordered(revision: int, **states: str) -> NodesOrdered:
    orders = tuple(NodeOrder(node=name, state=state, since=at(0)) for name, state in states.items())  # pyright: ignore[reportArgumentType]
    return NodesOrdered(site=SITE, revision=revision, orders=orders, ordered_at=at(revision))


def started(decisions: list[Event]) -> dict[str, list[str]]:
    return {job_id: nodes_of(event) for job_id, event in allocations(decisions).items()}


@pytest.mark.parametrize("state", ["cordoned", "draining"])
def test_nothing_starts_on_a_node_until_its_order_is_taken_back(state: str) -> None:
    world = World(node("a"), node("b", cpu=4))
    world.tell(ordered(1, a=state), placed("large", job_spec(cpu=8)), placed("small", job_spec(cpu=4)))
    decisions = world.decide(0)
    assert started(decisions) == {"small": ["b"]}
    assert "large" in deferrals(decisions)
    world.tell(observed(node("a"), node("b", cpu=4), seconds=1))  # a newer inventory does not open it
    assert started(world.decide(1)) == {}
    world.tell(ordered(2))
    assert started(world.decide(2)) == {"large": ["a"]}


def test_what_runs_stays_on_a_cordoned_node_and_leaves_a_draining_one() -> None:
    world = World(node("a"))
    world.tell(placed("job", job_spec(cpu=1, grace=45)))
    world.decide(0)
    world.tell(ordered(1, a="cordoned"))
    assert world.decide(1) == []
    world.tell(ordered(2, a="draining"))
    assert releases(world.decide(2)) == [("job", 1, "drained")]


def test_an_order_opens_nothing_that_the_inventory_closes() -> None:
    world = World(node("a", ready=False), node("b", draining=True))
    world.tell(ordered(1, b="cordoned"), placed("job"))
    assert started(world.decide(0)) == {}
    world.tell(ordered(2))
    assert started(world.decide(1)) == {}


def test_orders_about_nodes_that_are_not_there_wait_for_them() -> None:
    world = World(node("b"))
    world.tell(ordered(1, a="cordoned"))
    world.tell(observed(node("a"), seconds=1), placed("job"))
    assert started(world.decide(1)) == {}


def test_orders_and_inventories_commute_and_repeats_change_nothing() -> None:
    facts = [observed(node("a"), node("b"), seconds=s) for s in (0, 1)]
    facts += [ordered(1, a="cordoned", b="draining"), ordered(2, b="cordoned")]  # pyright: ignore[reportArgumentType]
    for order in permutations(facts):
        core = DrmCore()
        for event in (*order, *order):
            core.fold(event)
        core.fold(placed("job", job_spec(cpu=8)))
        core.fold(placed("other", job_spec(cpu=8)))
        (allocation,) = (event for event in core.decide(at(2)) if isinstance(event, JobAllocated))
        assert nodes_of(allocation) == ["a"]
