"""What a restarted DRM must find again in its topics: who is first for a quota, what was told, how long the grace is."""

from itertools import permutations

import pytest

from services.drm.core import DrmCore
from services.drm.quotas import Cohort, Quota, Quotas
from solyx.events import DeferralReason, Event
from tests.unit.drm.drm_world import (
    SITE,
    World,
    allocations,
    at,
    deferrals,
    job_spec,
    node,
    observed,
    placed,
    releases,
    withdrawn,
)


def lent(cpu: float = 1, **more):
    return job_spec(cpu=cpu, memory_gib=0, preemptible=True, **more)


def restarted(world: World, *, compacted: bool) -> None:
    """The core begins anew from the topics, of which compaction may have left the last record of each key."""
    world.core = DrmCore(world.document)
    for events in world.history.values():
        last: dict[str, Event] = {event.key: event for event in events}
        for event in events:
            if not compacted or last[event.key] is event:
                world.core.fold(event)


def waiting_for_quota() -> World:
    """Of 8 CPU a holds 7 and b one; b's large job was told that it waits for them."""
    quotas = Quotas(cohorts={"all": Cohort(cpu_milli=8000, tenants={name: Quota() for name in "abc"})})
    world = World(node("n", cpu=16), quotas=quotas)
    world.tell(placed("b-small", lent(), tenant="b"), *(placed(f"a-{n}", lent(), tenant="a") for n in range(7)))
    world.decide(0)
    world.tell(placed("b-large", lent(7), tenant="b", submitted=1))
    world.decide(1)
    return world


@pytest.mark.parametrize("restart", ["never", "log", "compacted"])
def test_the_first_for_a_quota_is_first_after_a_restart(restart) -> None:
    world = waiting_for_quota()
    world.end("a-0")
    if restart != "never":
        restarted(world, compacted=restart == "compacted")
    world.tell(placed("c-small", lent(duration=1000), tenant="c", submitted=2))
    decisions = world.decide(2)
    assert allocations(decisions) == {}  # though it is c's turn: it holds nothing
    assert "b-large of b waits for it" in deferrals(decisions)["c-small"].detail


def test_after_the_first_for_a_quota_comes_the_oldest_that_was_told() -> None:
    world = waiting_for_quota()
    world.tell(placed("b-next", lent(7), tenant="b", submitted=2))
    world.decide(2)
    world.tell(withdrawn(placed("b-large", lent(7), tenant="b")))
    world.decide(3)
    world.end("a-0")
    world.tell(placed("c-small", lent(duration=1000), tenant="c", submitted=3))
    assert "b-next of b waits for it" in deferrals(world.decide(4))["c-small"].detail


def test_who_is_limited_by_its_own_quota_is_never_first_for_that_of_its_cohort() -> None:
    quotas = Quotas(cohorts={"all": Cohort(cpu_milli=8000, tenants={"a": Quota(), "b": Quota()})})
    world = World(node("n", cpu=16), quotas=quotas)
    world.tell(placed("firm", job_spec(cpu=1, memory_gib=0), tenant="a"))  # nothing is guaranteed to a
    world.decide(0)
    world.tell(placed("other", lent(8), tenant="b", submitted=1))
    assert set(allocations(world.decide(1))) == {"other"}


def test_a_reason_that_compaction_dropped_is_not_told_again() -> None:
    world = World(node("n", cpu=8), quotas={"lab": Quota(cpu_milli=8000)})
    world.tell(placed("runs", job_spec(cpu=4)))
    world.decide(0)
    world.tell(placed("waits", job_spec(cpu=8)))
    assert deferrals(world.decide(1))["waits"].reason is DeferralReason.QUOTA
    world.tell(observed(node("n", cpu=4), seconds=2), withdrawn(placed("runs")))
    world.end("runs", "stopped")
    second = deferrals(world.decide(2))["waits"]
    assert (second.reason, second.told) == (DeferralReason.NO_NODE_FITS, (DeferralReason.QUOTA,))
    restarted(world, compacted=True)
    world.tell(placed("small", job_spec(cpu=4, priority=1)))
    decisions = world.decide(3)
    assert set(allocations(decisions)) == {"small"}  # so it is the quota again that "waits" has to wait for
    assert deferrals(decisions) == {}


def test_the_grace_is_that_of_the_highest_revision_in_whatever_order_it_is_read() -> None:
    first = placed("job", job_spec(grace=10))
    second = placed("job", job_spec(grace=20), revision=2)
    facts = (first, withdrawn(first), second)
    for order in permutations(facts):
        core = DrmCore()
        core.fold(observed(node("n")))
        for event in order:
            core.fold(event)
        assert core._sites[SITE]._jobs["job"].grace == (2, 20.0)
        core.decide(at(0))
        core.fold(withdrawn(second))
        assert ("job", 2, "withdrawn") in releases(core.decide(at(1)))
