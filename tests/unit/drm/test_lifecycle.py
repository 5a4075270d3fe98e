"""From placement to release: withdrawals, reports, retries, nodes that go, and recovery."""

import pytest

from services.drm.core import DrmCore
from solyx.events import AllocationReleased, DeferralReason, RouteReported, WithdrawalReason, WorkloadReason
from tests.unit.drm.drm_world import (
    World,
    allocations,
    at,
    deferrals,
    finished,
    gpu,
    job_spec,
    node,
    nodes_of,
    observed,
    placed,
    releases,
    reported,
    withdrawn,
)

JOB = placed("job", job_spec(cpu=8))
NEXT = placed("next", job_spec(cpu=8), submitted=1)


def full() -> World:
    """One node, held by ``job``; ``next`` waits for it."""
    world = World(node("a", cpu=8))
    world.tell(JOB, NEXT)
    assert set(allocations(world.decide(0))) == {"job"}
    return world


# --------------------------------------------------------------------------------------------------------------- release


@pytest.mark.parametrize(("status", "reason"), [("succeeded", "finished"), ("failed", "failed")])
def test_a_workload_that_ended_is_released_once_and_its_nodes_are_free(status, reason) -> None:
    world = full()
    world.tell(reported(world.running["job"], "started", seconds=1))
    assert world.decide(2) == []
    world.end("job", status)
    decisions = world.decide(3)
    assert releases(decisions) == [("job", 1, reason)]
    assert set(allocations(decisions)) == {"next"}


def test_the_outcome_may_overtake_the_report() -> None:
    world = full()
    report = reported(world.running.pop("job"), "succeeded")
    world.tell(finished(JOB))
    decisions = world.decide(1)
    assert releases(decisions) == [("job", 1, "finished")]
    assert set(allocations(decisions)) == {"next"}
    world.tell(report)
    assert world.decide(2) == []


def test_the_next_placement_may_overtake_the_report_of_the_failure() -> None:
    world = full()
    world.tell(placed("job", JOB.spec, revision=2))
    del world.running["job"]
    decisions = world.decide(1)
    assert releases(decisions) == [("job", 1, "failed")]
    assert allocations(decisions)["job"].revision == 2


def test_a_retry_is_admitted_under_its_own_revision() -> None:
    world = full()
    world.end("job", "failed", reason=WorkloadReason.EXIT_CODE)
    world.decide(1)
    world.end("next")
    world.tell(placed("job", JOB.spec, revision=2))
    assert allocations(world.decide(2))["job"].revision == 2


# ------------------------------------------------------------------------------------------------------------ withdrawal


def test_a_withdrawn_placement_that_waits_is_released_and_gone() -> None:
    world = full()
    world.tell(withdrawn(NEXT))
    assert releases(world.decide(1)) == [("next", 1, "withdrawn")]
    world.tell(reported(NEXT, "stopped", seconds=2))
    world.end("job")
    decisions = world.decide(3)
    assert allocations(decisions) == {}
    assert releases(decisions) == [("job", 1, "finished")]


def test_a_placement_withdrawn_before_its_start_time_is_released_and_never_starts() -> None:
    world = World(node("a"))
    early = placed("job", start=100)
    world.tell(early)
    assert world.decide(0) == []
    world.tell(withdrawn(early))
    assert releases(world.decide(1)) == [("job", 1, "withdrawn")]
    assert world.decide(200) == []


def test_a_withdrawal_that_comes_with_its_placement_starts_nothing() -> None:
    world = World(node("a"))
    world.tell(placed("job"), withdrawn(placed("job")))
    decisions = world.decide(0)
    assert (allocations(decisions), releases(decisions)) == ({}, [("job", 1, "withdrawn")])


def test_a_withdrawn_allocation_holds_its_nodes_until_it_is_reported_stopped() -> None:
    world = full()
    world.tell(withdrawn(JOB, WithdrawalReason.MIGRATION))
    decisions = world.decide(1)
    assert releases(decisions) == [("job", 1, "withdrawn")]
    assert allocations(decisions) == {}
    world.end("job", "stopped", reason=WorkloadReason.RELEASED)
    decisions = world.decide(2)
    assert releases(decisions) == []
    assert set(allocations(decisions)) == {"next"}


def test_a_success_that_comes_with_the_withdrawal_wins() -> None:
    world = full()
    world.tell(withdrawn(JOB))
    world.end("job")
    assert releases(world.decide(1)) == [("job", 1, "finished")]
    assert releases(world.decide(2)) == []


def test_a_withdrawal_after_the_end_releases_nothing_more() -> None:
    world = full()
    world.end("job")
    world.decide(1)
    world.tell(withdrawn(JOB))
    assert releases(world.decide(2)) == []


def test_each_withdrawn_revision_is_released_even_if_the_next_one_is_there_already() -> None:
    world = World(node("a"))
    second = placed("job", revision=2)
    world.tell(placed("job"), withdrawn(placed("job"), WithdrawalReason.SITE_LOST), second, withdrawn(second))
    assert releases(world.decide(0)) == [("job", 1, "withdrawn"), ("job", 2, "withdrawn")]


# -------------------------------------------------------------------------------------------------------------- revisions


def test_a_lower_revision_never_overrides_a_higher_one() -> None:
    world = World(node("a"))
    world.tell(placed("job", revision=3), placed("job", revision=2), withdrawn(placed("job", revision=2)))
    decisions = world.decide(0)
    assert allocations(decisions)["job"].revision == 3
    world.tell(reported(placed("job", revision=2), "failed"))
    assert releases(world.decide(1)) == []


def test_a_repeated_placement_starts_nothing_again() -> None:
    world = full()
    world.tell(JOB)
    world.end("job")
    world.decide(1)
    world.end("next")
    world.tell(JOB, NEXT, finished(JOB), JOB)
    assert allocations(world.decide(2)) == {}


def test_a_job_that_finished_is_taken_out_of_the_queue() -> None:
    world = full()
    world.tell(finished(NEXT, "cancelled"))
    world.decide(1)
    world.end("job")
    assert allocations(world.decide(2)) == {}


def test_what_is_none_of_its_business_is_ignored() -> None:
    world = full()
    world.tell(RouteReported(source="a", target="b", revision=1, status="applied", at=at(0)))
    assert world.decide(1) == []


# ------------------------------------------------------------------------------------------------------------------ nodes


def test_a_node_that_became_unready_keeps_what_runs_and_gets_nothing_new() -> None:
    world = World(node("a"), node("b"))
    world.tell(placed("one", job_spec(cpu=4)))
    assert nodes_of(allocations(world.decide(0))["one"]) == ["a"]
    world.tell(observed(node("a", ready=False), node("b"), seconds=1), placed("two", job_spec(cpu=4)))
    decisions = world.decide(1)
    assert releases(decisions) == []
    assert nodes_of(allocations(decisions)["two"]) == ["b"]
    world.end("one")
    world.tell(placed("three", job_spec(cpu=8)))
    assert allocations(world.decide(2)) == {}
    world.tell(observed(node("a"), node("b"), seconds=3))
    assert nodes_of(allocations(world.decide(3))["three"]) == ["a"]


def test_a_node_that_vanished_takes_its_capacity_along_and_comes_back_charged() -> None:
    world = World(node("a"), node("b"))
    world.tell(placed("one", job_spec(cpu=6)))
    world.decide(0)
    world.tell(observed(node("b"), seconds=1), placed("two", job_spec(cpu=6)), placed("three", job_spec(cpu=6)))
    assert set(allocations(world.decide(1))) == {"three"}
    world.tell(observed(node("b"), node("a"), seconds=2))
    assert allocations(world.decide(2)) == {}
    world.end("one")
    assert nodes_of(allocations(world.decide(3))["two"]) == ["a"]


def test_a_node_that_shrank_under_its_load_gets_nothing_until_there_is_room() -> None:
    world = World(node("a", cpu=8, gpus=2))
    for name in ("one", "two"):
        world.tell(placed(name, job_spec(cpu=3, devices=(gpu(),))))
    world.decide(0)
    world.tell(observed(node("a", cpu=4, gpus=2), seconds=1), placed("three", job_spec(cpu=1)))
    assert allocations(world.decide(1)) == {}
    world.end("one")
    assert set(allocations(world.decide(2))) == {"three"}


def test_an_older_inventory_does_not_replace_a_newer_one() -> None:
    world = World(node("a"))
    world.tell(observed(node("a", ready=False), seconds=10))
    world.core.fold(observed(node("a"), seconds=5))
    world.tell(placed("job"))
    assert allocations(world.decide(10)) == {}


def test_a_lost_node_is_left_out_until_a_newer_inventory_says_that_it_is_ready() -> None:
    world = full()
    world.seconds = 5
    world.end("job", "failed", reason=WorkloadReason.NODE_LOST, message="node a died")
    decisions = world.decide(6)
    assert releases(decisions) == [("job", 1, "failed")]
    assert allocations(decisions) == {}
    world.tell(observed(node("a"), seconds=4))
    assert allocations(world.decide(7)) == {}
    world.tell(observed(node("a", ready=False), seconds=8))
    assert allocations(world.decide(8)) == {}
    world.tell(observed(node("a"), seconds=9))
    assert set(allocations(world.decide(9))) == {"next"}


@pytest.mark.parametrize(
    ("message", "open_nodes"), [("node b died", {"a", "c"}), ("", {"c"})], ids=["named", "not named"]
)
def test_of_a_gangs_nodes_only_the_one_that_was_lost_is_left_out_where_it_is_named(message, open_nodes) -> None:
    world = World(node("a"), node("b"), node("c"))
    world.tell(placed("gang", job_spec(cpu=8, pods=2)))
    assert nodes_of(allocations(world.decide(0))["gang"]) == ["a", "b"]
    world.end("gang", "failed", reason=WorkloadReason.NODE_LOST, message=message)
    world.tell(*(placed(f"job-{n}", job_spec(cpu=8)) for n in range(3)))
    found = allocations(world.decide(1))
    assert {name for event in found.values() for name in nodes_of(event)} == open_nodes


def test_nothing_starts_at_a_lost_site_and_what_was_there_is_gone_when_it_returns() -> None:
    world = full()
    world.tell(observed(node("a"), seconds=5, lost=True))
    assert world.decide(5) == []
    world.tell(withdrawn(JOB, WithdrawalReason.SITE_LOST))
    assert releases(world.decide(6)) == [("job", 1, "withdrawn")]
    del world.running["job"]  # fenced: it will never be reported
    world.tell(observed(node("a"), seconds=7))
    assert set(allocations(world.decide(8))) == {"next"}


# --------------------------------------------------------------------------------------------------------------- recovery


def recovered(world: World, *topics: str, last_only: bool = False) -> DrmCore:
    core = DrmCore(world.document)
    for topic in topics:
        events = world.history[topic]
        for event in {event.key: event for event in events}.values() if last_only else events:
            core.fold(event)
    return core


ORDERS = [
    ("placements", "sites", "actuations", "allocations"),
    ("allocations", "actuations", "sites", "placements"),
    ("actuations", "allocations", "placements", "sites"),
]


@pytest.mark.parametrize("topics", ORDERS, ids="-".join)
def test_a_recovered_core_decides_nothing_twice_and_goes_on(topics) -> None:
    world = full()
    world.tell(placed("late", start=50))
    world.decide(1)
    world.core = recovered(world, *topics)
    assert world.decide(1) == []
    world.end("job")
    assert set(allocations(world.decide(2))) == {"next"}
    world.end("next")
    assert set(allocations(world.decide(51))) == {"late"}


@pytest.mark.parametrize("topics", ORDERS, ids="-".join)
def test_an_allocation_is_charged_wherever_the_inventory_comes_in_the_replay(topics) -> None:
    world = full()
    world.tell(placed("third", job_spec(cpu=1)))
    world.decide(1)
    world.core = recovered(world, *topics)
    assert allocations(world.decide(1)) == {}


@pytest.mark.parametrize("topics", ORDERS, ids="-".join)
def test_a_recovered_core_still_waits_for_what_was_told_to_stop(topics) -> None:
    world = full()
    world.tell(withdrawn(JOB))
    world.decide(1)
    world.core = recovered(world, *topics)
    assert world.decide(2) == []
    world.end("job", "stopped")
    assert set(allocations(world.decide(3))) == {"next"}


def test_where_compaction_dropped_what_is_held_nothing_starts_until_it_has_stopped() -> None:
    world = full()
    world.tell(withdrawn(JOB))
    world.decide(1)
    world.core = recovered(world, *ORDERS[0], last_only=True)
    assert world.decide(2) == []
    world.end("job", "stopped")
    assert set(allocations(world.decide(3))) == {"next"}


def test_the_release_that_a_crash_prevented_is_made_good() -> None:
    world = full()
    world.end("job")
    world.core = recovered(world, *ORDERS[0])
    decisions = world.decide(1)
    assert releases(decisions) == [("job", 1, "finished")]
    assert set(allocations(decisions)) == {"next"}


def test_a_reason_that_was_given_before_a_restart_is_not_given_again() -> None:
    world = full()
    assert [d.reason for d in world.history["allocations"] if d.id.startswith("next")] == [DeferralReason.NO_CAPACITY]
    world.core = recovered(world, *ORDERS[0])
    world.tell(placed("more"))
    assert set(deferrals(world.decide(1))) == {"more"}


def test_a_job_that_is_over_is_forgotten() -> None:
    world = World(node("a"))
    for number in range(50):
        world.tell(placed(f"job-{number}"))
        world.decide(number)
        world.end(f"job-{number}")
        world.tell(finished(placed(f"job-{number}")))
    decisions = world.decide(50)
    assert all(isinstance(decision, AllocationReleased) for decision in decisions)
    site = world.core._sites["north"]
    assert not site._jobs
    assert not site._pool.holdings
    assert site._pool.accounts.of("lab").used == [0, 0, 0]
