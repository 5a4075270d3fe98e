"""Who is admitted when: order, quotas, deferrals and backfill."""

import msgspec
import pytest

from services.drm.quotas import Quota
from solyx.events import AllocationReason, DeferralReason
from tests.unit.drm.drm_world import (
    World,
    allocations,
    deferrals,
    gpu,
    job_spec,
    node,
    observed,
    placed,
    reported,
    withdrawn,
)


def test_a_placement_waits_for_its_start_time() -> None:
    world = World(node("a"))
    world.tell(placed("job", start=60))
    assert world.decide(59) == []
    (allocated,) = world.decide(61)
    assert allocated.id == "job.1.allocated"
    assert allocations([allocated])["job"].waited_s == 1


def test_higher_priority_goes_first_then_earlier_submission_then_id() -> None:
    world = World(node("a", cpu=1))
    world.tell(
        placed("c", submitted=5),
        placed("b", submitted=5),
        placed("urgent", job_spec(priority=1), submitted=9),
        placed("a", submitted=6),
    )
    order: list[str] = []
    while admitted := allocations(world.decide()):
        (job_id,) = admitted
        order.append(job_id)
        world.end(job_id)
    assert order == ["urgent", "b", "c", "a"]


def test_an_admitted_job_says_fits_and_how_long_it_waited() -> None:
    world = World(node("a", cpu=1))
    world.tell(placed("first"), placed("second", submitted=1, start=10))
    assert allocations(world.decide(0))["first"].reason is AllocationReason.FITS
    world.decide(20)
    world.end("first")
    second = allocations(world.decide(70))["second"]
    assert (second.reason, second.waited_s) == (AllocationReason.FITS, 60)


def test_a_wait_is_explained_once_for_each_reason() -> None:
    world = World(node("a", cpu=2), quotas={"lab": Quota(cpu_milli=2000)})
    world.tell(placed("running", job_spec(cpu=2), tenant="other"), placed("job", job_spec(cpu=2), submitted=1))
    first = deferrals(world.decide())
    assert first["job"].reason is DeferralReason.NO_CAPACITY
    assert first["job"].detail == "asks for 1 pod of 2 CPU, 1.0 GiB: 0 fit now, for lack of CPU"
    world.tell(reported(world.running["running"], "started", seconds=1))
    assert world.decide() == []
    world.end("running")
    world.tell(placed("mine", job_spec(cpu=1, priority=1)))
    second = deferrals(world.decide())
    assert second["job"].reason is DeferralReason.QUOTA
    assert second["job"].detail == "lab holds 1 of its 2 CPU here and asks for 2"
    world.tell(placed("again", job_spec(cpu=1, priority=2), tenant="other"))  # as full as before
    assert "job" not in deferrals(world.decide())


def test_a_job_at_a_site_without_inventory_waits_for_it() -> None:
    world = World()
    world.tell(placed("job"))
    (deferred,) = world.decide()
    assert deferrals([deferred])["job"].reason is DeferralReason.SITE_UNKNOWN
    world.tell(observed(node("a")))
    assert "job" in allocations(world.decide())


@pytest.mark.parametrize(
    "spec",
    [
        job_spec(cpu=9),
        job_spec(memory_gib=33),
        job_spec(devices=(gpu(),)),
        job_spec(devices=(gpu(models=("H100",)),)),
    ],
    ids=["CPU", "memory", "no device", "no such model"],
)
def test_a_pod_that_no_node_could_ever_hold_says_so_and_holds_up_nobody(spec) -> None:
    world = World(node("a"))
    world.tell(placed("impossible", msgspec.structs.replace(spec, priority=9)), placed("next"))
    decisions = world.decide()
    assert deferrals(decisions)["impossible"].reason is DeferralReason.NO_NODE_FITS
    assert "no node of the site holds one such pod" in deferrals(decisions)["impossible"].detail
    assert allocations(decisions)["next"].reason is AllocationReason.FITS


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (job_spec(cpu=9), "CPU"),
        (job_spec(cpu=9, memory_gib=33), "CPU and memory"),
        (job_spec(cpu=9, devices=(gpu(), gpu(0.5))), "CPU and gpu"),
        (job_spec(cpu=8, memory_gib=33, devices=(gpu(models=("H100",)),)), "memory and gpu (H100)"),
    ],
)
def test_who_waits_is_told_all_that_is_lacking(spec, words) -> None:
    world = World(node("a"), node("b", ready=False))
    world.tell(placed("never", spec), placed("gang", msgspec.structs.replace(job_spec(cpu=8), parallelism=2)))
    told = deferrals(world.decide())
    assert told["never"].detail.endswith(
        f"no node of the site holds one such pod, even when it is empty, for lack of {words}"
    )
    assert told["gang"].detail.endswith(": 1 fit now, 1 if nothing else ran on the ready nodes, for lack of CPU")


def test_what_is_there_on_different_nodes_only_is_not_said_to_lack() -> None:
    world = World(node("a", cpu=16), node("b", cpu=2, gpus=1))
    world.tell(placed("job", job_spec(cpu=8, devices=(gpu(),))))
    assert deferrals(world.decide())["job"].detail.endswith("one such pod, even when it is empty")


def test_a_gang_larger_than_the_empty_site_waits_for_capacity_and_holds_up_nobody() -> None:
    world = World(node("a"), node("down", ready=False))
    world.tell(placed("gang", job_spec(cpu=8, pods=2, priority=1)), placed("next", job_spec(duration=9999)))
    decisions = world.decide()
    assert deferrals(decisions)["gang"].reason is DeferralReason.NO_CAPACITY
    assert "1 if nothing else ran on the ready nodes" in deferrals(decisions)["gang"].detail
    assert allocations(decisions)["next"].reason is AllocationReason.FITS
    world.end("next")
    world.tell(observed(node("a"), node("down"), seconds=1))
    assert "gang" in allocations(world.decide())


# ---------------------------------------------------------------------------------------------------------------- quotas


def test_a_tenant_over_its_quota_holds_up_nobody() -> None:
    world = World(node("a", cpu=16), quotas={"lab": Quota(cpu_milli=4000)})
    world.tell(
        placed("one", job_spec(cpu=4, priority=2)),
        placed("two", job_spec(cpu=1, priority=2)),
        placed("x", tenant="other"),
    )
    decisions = world.decide()
    assert set(allocations(decisions)) == {"one", "x"}
    assert allocations(decisions)["x"].reason is AllocationReason.FITS
    world.end("one")
    assert "two" in allocations(world.decide())


def test_a_gpu_quota_counts_shares_and_all_pods_of_a_gang() -> None:
    world = World(node("a", cpu=16, gpus=8), quotas={"lab": Quota(gpu_milli=1500)})
    world.tell(
        placed("half", job_spec(devices=(gpu(0.5),))),
        placed("gang", job_spec(devices=(gpu(0.5),), pods=3), submitted=1),
    )
    decisions = world.decide()
    assert set(allocations(decisions)) == {"half"}
    assert deferrals(decisions)["gang"].detail == "lab holds 0.5 of its 1.5 GPU here and asks for 1.5"
    world.tell(placed("cpu-only", job_spec(cpu=8)))
    assert "cpu-only" in allocations(world.decide())


def test_who_waits_for_quota_is_told_all_of_which_it_has_too_little() -> None:
    world = World(node("a", cpu=16, gpus=8), quotas={"lab": Quota(cpu_milli=4000, gpu_milli=1500)})
    world.tell(placed("job", job_spec(cpu=5, devices=(gpu(2),))))
    assert deferrals(world.decide())["job"].detail == (
        "lab holds 0 of its 4 CPU here and asks for 5, and holds 0 of its 1.5 GPU here and asks for 2"
    )


def test_what_is_told_to_stop_counts_against_the_quota_until_it_has_stopped() -> None:
    world = World(node("a", cpu=16), quotas={"lab": Quota(cpu_milli=4000)})
    world.tell(placed("one", job_spec(cpu=4)))
    world.decide()
    world.tell(withdrawn(placed("one", job_spec(cpu=4))), placed("two", job_spec(cpu=4)))
    assert allocations(world.decide()) == {}
    world.end("one", "stopped")
    assert "two" in allocations(world.decide())


# -------------------------------------------------------------------------------------------------------------- backfill


def full_until_100() -> World:
    """Four cores, two of them busy until second 100, and a head that needs all four."""
    world = World(node("a", cpu=4))
    world.tell(placed("long", job_spec(cpu=2, duration=100)))
    world.decide(0)
    world.tell(placed("head", job_spec(cpu=4, priority=1)))
    world.decide(0)
    return world


def test_a_job_that_ends_before_the_heads_reservation_goes_ahead() -> None:
    world = full_until_100()
    world.tell(placed("short", job_spec(cpu=2, duration=90), start=10))
    assert allocations(world.decide(10))["short"].reason is AllocationReason.BACKFILL


def test_a_job_that_would_delay_the_head_waits_and_says_whom_it_would_delay() -> None:
    world = full_until_100()
    world.tell(placed("slow", job_spec(cpu=2, duration=91), start=10))
    decisions = world.decide(10)
    assert allocations(decisions) == {}
    assert deferrals(decisions)["slow"].reason is DeferralReason.NO_CAPACITY
    assert "would delay head, which is expected to start at 2023-06-01T00:01:40" in deferrals(decisions)["slow"].detail


def test_a_long_job_goes_ahead_where_the_head_needs_nothing() -> None:
    world = World(node("plain", cpu=4), node("gpu", cpu=4, gpus=1))
    world.tell(placed("running", job_spec(cpu=1, devices=(gpu(),), duration=50)))
    world.decide(0)
    world.tell(
        placed("head", job_spec(cpu=1, devices=(gpu(),), priority=1)), placed("cpu", job_spec(cpu=4, duration=9999))
    )
    assert allocations(world.decide(0))["cpu"].reason is AllocationReason.BACKFILL


def test_those_who_stay_beyond_the_reservation_share_what_the_head_leaves() -> None:
    world = World(node("a", cpu=4))
    world.tell(placed("long", job_spec(cpu=2, duration=100)))
    world.decide(0)
    world.tell(
        placed("head", job_spec(cpu=3, priority=1)), *(placed(f"slow-{n}", job_spec(duration=999)) for n in range(2))
    )
    assert set(allocations(world.decide(0))) == {"slow-0"}
    world.tell(placed("short", job_spec(duration=50)))
    assert set(allocations(world.decide(0))) == {"short"}


def test_a_shorter_job_behind_one_that_is_too_long_goes_ahead() -> None:
    world = full_until_100()
    world.tell(
        placed("too-long", job_spec(cpu=2, duration=110), submitted=1),
        placed("short", job_spec(cpu=2, duration=80), submitted=2),
    )
    assert set(allocations(world.decide(1))) == {"short"}


def test_the_reservation_follows_the_time_the_workload_really_started() -> None:
    world = full_until_100()
    world.tell(reported(world.running["long"], "started", seconds=30), placed("x", job_spec(cpu=2, duration=120)))
    assert "x" in allocations(world.decide(10))  # until 130, as long as the head has to wait now


def test_nobody_goes_ahead_of_a_head_whose_resources_are_overdue() -> None:
    world = full_until_100()
    world.decide(200)
    world.tell(placed("short", job_spec(cpu=2, duration=1)))
    assert allocations(world.decide(200)) == {}
    world.end("long")
    assert set(allocations(world.decide(201))) == {"head"}


# ------------------------------------------------------------------------------------------------------------ long queue


def test_a_long_queue_at_a_full_site_is_admitted_in_order_as_capacity_returns() -> None:
    world = World(node("a", cpu=2))
    world.tell(*(placed(f"job-{n:03}", job_spec(cpu=1), submitted=n) for n in range(300)))
    started = list(allocations(world.decide(0)))
    assert len(deferrals(world.decide(0))) == 0  # they were told when they came
    while world.running:
        world.end(started[len(started) - len(world.running)])
        started.extend(allocations(world.decide()))
    assert started == [f"job-{n:03}" for n in range(300)]
