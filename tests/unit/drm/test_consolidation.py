"""Work that may pause goes on in other places, so that what is free is in one piece."""

import pytest

from services.drm.core import DrmCore
from services.drm.quotas import Quota, Quotas
from solyx.events import DeferralReason, JobSpec
from tests.property.drm_life import interleaved
from tests.unit.drm.drm_world import World, allocations, deferrals, gpu, job_spec, node, nodes_of, placed, releases

HOUR_S = 3600.0


def pausing(cpu: float = 2, **more) -> JobSpec:
    return job_spec(cpu=cpu, **{"duration": 10 * HOUR_S, "suspendable": True, **more})


def whole(**more) -> JobSpec:
    """All that a node has."""
    return job_spec(**{"cpu": 4, "duration": HOUR_S, **more})


def fill(world: World, *jobs: tuple[str, JobSpec]) -> None:
    """One after the other; those whose name begins with "off" end again once all have started."""
    for job_id, spec in jobs:
        world.tell(placed(job_id, spec))
        world.decide(0)
    for job_id, _ in jobs:
        assert job_id in world.running
        if job_id.startswith("off"):
            world.end(job_id)
    world.decide(0)


def halves(spec: JobSpec | None = None, names: str = "ab", **more) -> World:
    """Nodes of 4 CPUs, half of each taken by one pod, since 0 s."""
    world = World(*(node(name, cpu=4) for name in names), **more)
    parts = ((f"on-{name}", spec or pausing(), f"off-{name}") for name in names)
    fill(world, *(job for on, its, off in parts for job in ((on, its), (off, job_spec(cpu=2)))))
    assert [nodes_of(world.running[f"on-{name}"]) for name in names] == [[name] for name in names]
    return world


def moved(world: World, seconds: float) -> list[str]:
    decisions = world.decide(seconds)
    assert {reason for _, _, reason in releases(decisions)} <= {"consolidated"}
    return [job_id for job_id, _, _ in releases(decisions)]


def test_one_goes_on_elsewhere_and_the_head_starts_in_its_place() -> None:
    world = halves()
    world.tell(placed("head", whole(), submitted=1))
    decisions = world.decide(600)
    assert releases(decisions) == [("on-a", 1, "consolidated")]
    assert allocations(decisions) == {}
    assert deferrals(decisions)["head"].reason is DeferralReason.NO_CAPACITY
    assert world.decide(601) == []  # one is enough
    world.end("on-a", "stopped")
    assert nodes_of(allocations(world.decide(602))["head"]) == ["a"]
    world.tell(placed("on-a", pausing(), revision=2, progress=600))
    assert nodes_of(allocations(world.decide(603))["on-a"]) == ["b"]


@pytest.mark.parametrize(
    ("running", "head"),
    [
        (pausing(suspendable=False), whole()),
        (pausing(), whole(cpu=2)),
        (pausing(3), whole(cpu=2)),
        (pausing(memory_gib=17), whole()),
        (pausing(), whole(cpu=3, pods=2)),
        (pausing(), whole(duration=59)),
    ],
    ids=[
        "who may not pause stays",
        "the head fits as it is",
        "nobody else has another place",
        "no other place has the memory",
        "one pod fits then and the other does not",
        "the head has less to do than would be repeated",
    ],
)
def test_nobody_is_moved_in_vain_or_for_little(running, head) -> None:
    world = halves(running) if running.resources.cpu_milli == 2000 else World(node("a", cpu=4), node("b", cpu=4))
    if not world.running:
        world.tell(placed("x", running), placed("y", running))
        world.decide(0)
    world.tell(placed("head", head))
    assert moved(world, 600) == []


def with_a_node_free_at(seconds: float) -> World:
    """Two nodes of 4 CPUs, half of each taken, and a third on which a job ends then."""
    world = World(*(node(name, cpu=4) for name in "abc"))
    on, off = pausing(), job_spec(cpu=2)
    fill(world, ("on-a", on), ("off-a", off), ("on-b", on), ("off-b", off), ("ends", job_spec(cpu=4, duration=seconds)))
    return world


@pytest.mark.parametrize(("free_s", "expected"), [(659, []), (661, ["on-a"])])
def test_a_head_that_will_soon_start_anyway_waits(free_s, expected) -> None:
    """What it would do meanwhile on a node must be twice what is repeated: 60 s of half a node."""
    world = with_a_node_free_at(free_s)
    world.tell(placed("head", whole()))
    assert moved(world, 600) == expected


def test_a_head_that_did_not_start_when_it_should_have_waits_no_longer() -> None:
    world = with_a_node_free_at(640)
    world.tell(placed("head", whole()))
    assert moved(world, 600) == []
    assert moved(world, 640) == []  # it may end at any moment
    assert moved(world, 651) == ["on-a"]  # and nothing was told


def test_who_has_just_started_is_moved_once_it_has_settled() -> None:
    world = halves()
    world.tell(placed("head", whole()))
    assert moved(world, 299) == []
    assert moved(world, 300) == ["on-a"]  # nothing was told meanwhile


def test_work_that_is_about_to_end_is_let_end() -> None:
    world = World(node("a", cpu=6), node("b", cpu=6))
    pods = [("ends", pausing(2, duration=600.5)), ("goes-on", pausing(2)), ("off-a", job_spec(cpu=2))]
    fill(world, *pods, ("fixed", job_spec(cpu=4, duration=10 * HOUR_S)))
    world.tell(placed("head", whole(cpu=6)))
    assert moved(world, 600) == ["goes-on"]


@pytest.mark.parametrize(
    ("sizes", "lacks", "expected"),
    [((1, 3, 4), 3, ["job-1"]), ((3, 3, 4), 4, ["job-2"]), ((1, 2, 4), 3, ["job-0", "job-1"])],
    ids=["one that suffices alone", "one rather than two smaller ones", "two small ones rather than a larger"],
)
def test_the_least_is_moved(sizes, lacks, expected) -> None:
    """2 CPUs are free beside them; on the other node there is room for any of them, and not for the head."""
    cpu = sum(sizes) + 2
    world = World(node("a", cpu=cpu), node("b", cpu=cpu))
    pods = [(f"job-{number}", pausing(size)) for number, size in enumerate(sizes)]
    fixed = job_spec(cpu=cpu - 1 - lacks, duration=10 * HOUR_S)
    fill(world, *pods, ("off", job_spec(cpu=2)), ("fixed", fixed))
    world.tell(placed("head", whole(cpu=2 + lacks)))
    assert sorted(moved(world, 600)) == expected


def test_a_larger_one_is_moved_where_the_least_has_no_other_place() -> None:
    world = World(node("c", cpu=4, taints=("slow",)), node("a", cpu=5), node("b", cpu=5))
    anywhere = {"tolerations": ("slow",)}
    fill(
        world,
        ("off-c", job_spec(cpu=4, **anywhere)),
        ("small", pausing()),
        ("off-a", job_spec(cpu=3)),
        ("large", pausing(3.5, **anywhere)),
    )
    assert [nodes_of(world.running[name]) for name in ("small", "large")] == [["a"], ["b"]]
    world.tell(placed("head", whole()))
    assert moved(world, 600) == ["large"]


@pytest.mark.parametrize(("lasts_s", "moves"), [(59, 0), (61, 2)])
def test_all_moves_of_a_gang_together_must_be_worth_it(lasts_s, moves) -> None:
    """Two halves of a node for two nodes."""
    world = halves(names="abcd")
    world.tell(placed("gang", whole(pods=2, duration=lasts_s)))
    assert len(moved(world, 600)) == moves


def test_a_gang_that_is_moved_makes_room_on_all_its_nodes() -> None:
    world = World(*(node(name, cpu=4) for name in "abcd"))
    beside = [job for name in "ab" for job in ((f"on-{name}", job_spec(cpu=1)), (f"off-{name}", job_spec(cpu=3)))]
    fill(world, *beside, ("wide", pausing(3, pods=2)))
    assert nodes_of(world.running["wide"]) == ["c", "d"]
    world.tell(placed("head", whole(pods=2)))
    assert moved(world, 600) == ["wide"]
    world.end("wide", "stopped")
    assert nodes_of(allocations(world.decide(601))["head"]) == ["c", "d"]
    world.tell(placed("wide", pausing(3, pods=2), revision=2))
    assert nodes_of(allocations(world.decide(602))["wide"]) == ["a", "b"]


def test_a_gang_gets_all_its_nodes() -> None:
    world = halves(names="abcd")
    world.tell(placed("gang", whole(pods=2)))
    gone = moved(world, 600)
    assert len(gone) == 2
    for job_id in gone:
        world.end(job_id, "stopped")
    assert len(set(nodes_of(allocations(world.decide(601))["gang"]))) == 2


def test_shares_of_devices_are_brought_together() -> None:
    world = World(node("a", cpu=8, gpus=1), node("b", cpu=8, gpus=1))
    half, rest = pausing(1, devices=(gpu(0.5),)), job_spec(devices=(gpu(0.5),))
    fill(world, ("on-a", half), ("off-a", rest), ("on-b", half), ("off-b", rest))
    world.tell(placed("head", job_spec(devices=(gpu(),), duration=HOUR_S)))
    assert moved(world, 600) == ["on-a"]


def test_work_goes_on_elsewhere_before_anybody_is_preempted() -> None:
    world = halves(pausing(preemptible=True))
    world.tell(placed("head", whole(priority=1)))
    assert moved(world, 600) == ["on-a"]


def test_a_head_that_its_quota_does_not_let_start_moves_nobody() -> None:
    world = halves(quotas={"poor": Quota(cpu_milli=2000)})
    world.tell(placed("head", whole(), tenant="poor"))
    assert moved(world, 600) == []


def test_a_recovered_core_moves_nobody_again() -> None:
    world = halves()
    world.tell(placed("head", whole()))
    assert moved(world, 600) == ["on-a"]
    for seed in range(5):
        world.core = DrmCore(Quotas())
        for event in interleaved(world, seed):
            world.core.fold(event)
        assert world.decide(601) == []
