"""On which nodes and devices an admitted job goes."""

from dataclasses import dataclass, field

import pytest

from solyx.events import DeferralReason, DeviceGroup, DeviceRequest, JobSpec, Node
from tests.unit.drm.drm_world import (
    GIB,
    World,
    allocations,
    deferrals,
    gpu,
    job_spec,
    node,
    nodes_of,
    observed,
    placed,
)


@dataclass(frozen=True, kw_only=True)
class Case:
    name: str
    nodes: tuple[Node, ...]
    before: tuple[JobSpec, ...] = ()
    job: JobSpec
    on: tuple[str, ...]
    devices: tuple[tuple[tuple[str, int], ...], ...] = field(default=())  # model and index, by pod


TWO_DOMAINS = (
    DeviceGroup(model="A100", count=2, domain="nvlink-0"),
    DeviceGroup(model="A100", count=2, domain="nvlink-1"),
)
CASES = [
    Case(
        name="a pod goes to the node on which least is left over",
        nodes=(node("large", cpu=16), node("small", cpu=4), node("middle", cpu=8)),
        job=job_spec(cpu=3),
        on=("small",),
    ),
    Case(
        name="memory counts as well as CPU",
        nodes=(node("roomy", memory_gib=64), node("tight", memory_gib=8)),
        job=job_spec(cpu=1, memory_gib=6),
        on=("tight",),
    ),
    Case(
        name="a pod without devices leaves the nodes with GPUs to others, even when they fit it better",
        nodes=(node("accelerated", cpu=4, gpus=4), node("plain", cpu=16)),
        job=job_spec(cpu=4),
        on=("plain",),
    ),
    Case(
        name="a pod without devices takes a node with GPUs when no other has room",
        nodes=(node("accelerated", cpu=16, gpus=4), node("plain", cpu=2)),
        job=job_spec(cpu=4),
        on=("accelerated",),
    ),
    Case(
        name="a whole GPU comes from the node with the fewest free",
        nodes=(node("eight", cpu=32, gpus=8), node("two", cpu=32, gpus=2)),
        job=job_spec(devices=(gpu(),)),
        on=("two",),
        devices=((("A100", 0),),),
    ),
    Case(
        name="a share of a GPU goes to the fullest device that fits",
        nodes=(node("a", cpu=32, gpus=2), node("b", cpu=32, gpus=2)),
        before=(job_spec(devices=(gpu(0.6),)), job_spec(devices=(gpu(0.5),))),  # they do not fit on one device
        job=job_spec(devices=(gpu(0.4),)),
        on=("a",),
        devices=((("A100", 0),),),  # beside the 0.6, not beside the 0.5
    ),
    Case(
        name="a whole GPU is never one that is shared",
        nodes=(node("a", cpu=32, gpus=2),),
        before=(job_spec(devices=(gpu(0.1),)),),
        job=job_spec(devices=(gpu(),)),
        on=("a",),
        devices=((("A100", 1),),),
    ),
    Case(
        name="the model is one of those allowed",
        nodes=(node("a", cpu=32, gpus=1, model="T4"), node("b", cpu=32, gpus=8, model="V100")),
        job=job_spec(devices=(gpu(models=("V100", "A100"), count=2),)),
        on=("b",),
        devices=((("V100", 0), ("V100", 1)),),
    ),
    Case(
        name="the fullest device of another model does not tempt",
        nodes=(node("a", cpu=32, gpus=1, model="T4"), node("b", cpu=32, gpus=1, model="V100")),
        before=(job_spec(devices=(gpu(0.5, models=("T4",)),)),),
        job=job_spec(devices=(gpu(0.5, models=("V100",)),)),
        on=("b",),
        devices=((("V100", 0),),),
    ),
    Case(
        name="a request for any device leaves the named model to the request that needs it",
        nodes=(
            Node(
                name="mixed",
                cpu_milli=32_000,
                memory_bytes=32 * GIB,
                devices=(DeviceGroup(model="A100", count=1), DeviceGroup(model="T4", count=1)),
            ),
        ),
        job=job_spec(devices=(gpu(), gpu(models=("A100",)))),
        on=("mixed",),
        devices=((("A100", 0), ("T4", 0)),),
    ),
    Case(
        name="kinds of devices are kept apart",
        nodes=(
            node("a", cpu=32, gpus=1),
            Node(
                name="b",
                cpu_milli=32_000,
                memory_bytes=32 * GIB,
                devices=(DeviceGroup(kind="fpga", model="U50", count=1),),
            ),
        ),
        job=job_spec(devices=(DeviceRequest(kind="fpga"),)),
        on=("b",),
        devices=((("U50", 0),),),
    ),
    Case(
        name="a gang fills the best node first and goes on to the next",
        nodes=(node("large", cpu=16), node("small", cpu=4)),
        job=job_spec(cpu=2, pods=4),
        on=("small", "small", "large", "large"),
    ),
    Case(
        name="the pods of a gang get different devices",
        nodes=(node("a", cpu=32, gpus=4),),
        job=job_spec(devices=(gpu(),), pods=3),
        on=("a", "a", "a"),
        devices=((("A100", 0),), (("A100", 1),), (("A100", 2),)),
    ),
    Case(
        name="the pods of a gang share devices where they ask for shares",
        nodes=(node("a", cpu=32, gpus=2),),
        job=job_spec(devices=(gpu(0.5),), pods=4),
        on=("a", "a", "a", "a"),
        devices=((("A100", 0),), (("A100", 0),), (("A100", 1),), (("A100", 1),)),
    ),
    Case(
        name="nothing starts on a node that is not ready",
        nodes=(node("drained", cpu=4, ready=False), node("ready", cpu=16)),
        job=job_spec(cpu=4),
        on=("ready",),
    ),
    Case(
        name="a node with a taint is for pods that tolerate it",
        nodes=(node("reserved", cpu=4, taints=("lab",)), node("open", cpu=16)),
        job=job_spec(cpu=4),
        on=("open",),
    ),
    Case(
        name="a pod that tolerates a taint goes where it fits best",
        nodes=(node("reserved", cpu=4, taints=("lab",)), node("open", cpu=16)),
        job=job_spec(cpu=4, tolerations=("lab", "other")),
        on=("reserved",),
    ),
    Case(
        name="all taints of a node must be tolerated",
        nodes=(node("reserved", cpu=4, taints=("lab", "night")), node("open", cpu=16)),
        job=job_spec(cpu=4, tolerations=("lab",)),
        on=("open",),
    ),
    Case(
        name="a gang prefers one rack to the best nodes",
        nodes=(node("a", cpu=2, rack="r1"), node("b", cpu=4, rack="r2"), node("c", cpu=4, rack="r2")),
        job=job_spec(cpu=2, pods=3),
        on=("b", "b", "c"),
    ),
    Case(
        name="of racks that hold a gang, the one with least room",
        nodes=(
            node("a", cpu=8, rack="r1"),
            node("b", cpu=8, rack="r1"),
            node("c", cpu=4, rack="r2"),
            node("d", rack="r2"),
        ),
        job=job_spec(cpu=4, pods=3),
        on=("c", "d", "d"),
    ),
    Case(
        name="a gang that no rack holds takes few racks, and starts all the same",
        nodes=(node("a", cpu=2, rack="r1"), node("b", cpu=2, rack="r2"), node("c", cpu=4, rack="r2")),
        job=job_spec(cpu=2, pods=4),
        on=("b", "c", "c", "a"),
    ),
    Case(
        name="a pod with several devices prefers those of one domain",
        nodes=(Node(name="a", cpu_milli=8000, memory_bytes=32 * GIB, devices=TWO_DOMAINS),),
        before=(job_spec(devices=(gpu(),)),),
        job=job_spec(devices=(gpu(count=2),)),
        on=("a",),
        devices=((("A100", 2), ("A100", 3)),),
    ),
    Case(
        name="a single device leaves whole domains alone",
        nodes=(Node(name="a", cpu_milli=8000, memory_bytes=32 * GIB, devices=TWO_DOMAINS),),
        before=(job_spec(devices=(gpu(),)),),
        job=job_spec(devices=(gpu(),)),
        on=("a",),
        devices=((("A100", 1),),),
    ),
    Case(
        name="a domain is a preference: the pod starts on devices of two when none has enough",
        nodes=(Node(name="a", cpu_milli=8000, memory_bytes=32 * GIB, devices=TWO_DOMAINS),),
        job=job_spec(devices=(gpu(count=3),)),
        on=("a",),
        devices=((("A100", 0), ("A100", 1), ("A100", 2)),),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_packing(case: Case) -> None:
    world = World(*case.nodes)
    for number, spec in enumerate(case.before):
        world.tell(placed(f"before-{number}", spec))
        assert f"before-{number}" in allocations(world.decide())
    world.tell(placed("job", case.job))
    allocated = allocations(world.decide())["job"]
    assert tuple(nodes_of(allocated)) == case.on
    if case.devices:
        assert tuple(tuple((d.model, d.index) for d in pod.devices) for pod in allocated.pods) == case.devices


def test_equal_models_in_two_groups_count_on() -> None:
    groups = (DeviceGroup(model="A100", count=1), DeviceGroup(model="T4", count=1), DeviceGroup(model="A100", count=1))
    world = World(Node(name="a", cpu_milli=8000, memory_bytes=32 * GIB, devices=groups))
    world.tell(placed("job", job_spec(devices=(gpu(models=("A100",), count=2),))))
    (pod,) = allocations(world.decide())["job"].pods
    assert [(d.model, d.index) for d in pod.devices] == [("A100", 0), ("A100", 1)]


def test_requests_that_compete_for_the_same_device_are_not_satisfied_twice() -> None:
    world = World(node("one", cpu=8, gpus=1), node("two", cpu=32, gpus=2))
    world.tell(placed("job", job_spec(devices=(gpu(), gpu(0.5)))))
    (pod,) = allocations(world.decide())["job"].pods
    assert pod.node == "two"
    assert len({device.index for device in pod.devices}) == 2


def test_a_gang_gets_all_its_pods_or_none() -> None:
    world = World(node("a", cpu=4), node("b", cpu=4))
    world.tell(placed("big", job_spec(cpu=3, pods=3)))
    assert allocations(world.decide()) == {}
    world.tell(placed("fits", job_spec(cpu=3, pods=2)))
    assert nodes_of(allocations(world.decide())["fits"]) == ["a", "b"]


def test_a_wait_names_the_taints_in_the_way() -> None:
    world = World(node("small", cpu=2), node("reserved", cpu=16, taints=("lab",)))
    world.tell(placed("never", job_spec(cpu=8)), placed("runs", job_spec(cpu=2)), placed("waits", job_spec(cpu=2)))
    told = deferrals(world.decide())
    assert told["never"].reason is DeferralReason.NO_NODE_FITS
    assert told["never"].detail.endswith("1 more on nodes with taints that it does not tolerate: lab")
    assert told["waits"].reason is DeferralReason.NO_CAPACITY
    assert told["waits"].detail.endswith("0 fit now; 1 more on nodes with taints that it does not tolerate: lab")


def test_a_taint_that_is_taken_away_lets_the_waiting_start() -> None:
    world = World(node("a", cpu=8, taints=("lab",)))
    world.tell(placed("job", job_spec(cpu=2)))
    assert allocations(world.decide()) == {}
    world.tell(observed(node("a", cpu=8), seconds=1))
    assert nodes_of(allocations(world.decide(1))["job"]) == ["a"]


# ------------------------------------------------------------------------------------------ for the pods to be expected


def expecting(*specs: JobSpec, nodes: tuple[Node, ...]) -> World:
    """A site where such jobs have come and gone."""
    world = World(*nodes)
    for number in range(30):
        for kind, spec in enumerate(specs):
            job = f"before-{number}-{kind}"
            world.tell(placed(job, spec))
            assert job in allocations(world.decide())
            world.end(job)
            world.decide()
    return world


def test_a_share_leaves_room_for_the_shares_to_be_expected() -> None:
    """Beside 0.6 it would shut out the 0.4 that are to be expected. Best fit would put it there: that device is fuller."""
    nodes = (node("a", cpu=32, gpus=1), node("b", cpu=32, gpus=1))
    world = expecting(job_spec(devices=(gpu(0.4),)), nodes=nodes)
    world.tell(placed("half", job_spec(devices=(gpu(0.5),))), placed("more", job_spec(devices=(gpu(0.6),))))
    before = allocations(world.decide())
    world.tell(placed("new", job_spec(devices=(gpu(0.1),))))
    assert nodes_of(allocations(world.decide())["new"]) == nodes_of(before["half"])


def test_cpu_that_gpus_will_need_is_left_beside_them() -> None:
    nodes = (node("a", cpu=12, gpus=2), node("b", cpu=20, gpus=2))
    world = expecting(job_spec(cpu=6, devices=(gpu(),)), job_spec(cpu=1, devices=(gpu(0.5),)), nodes=nodes)
    world.tell(placed("cpu only", job_spec(cpu=4)))
    assert nodes_of(allocations(world.decide())["cpu only"]) == ["b"]


def test_where_pods_with_devices_are_rare_best_fit_still_looks_at_the_devices() -> None:
    """Fewer than one pod in twenty asks for a device: none is typical, and losses would say nothing about devices."""
    nodes = (node("one free", cpu=64, gpus=1), node("many free", cpu=8, gpus=4))
    world = expecting(job_spec(pods=40), job_spec(devices=(gpu(0.5),)), nodes=nodes)
    world.tell(placed("new", job_spec(devices=(gpu(),))))
    assert nodes_of(allocations(world.decide())["new"]) == ["one free"]
