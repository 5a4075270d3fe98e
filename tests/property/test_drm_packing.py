"""What holds for packing whatever is placed: capacity is kept, devices are not over-shared, and remembered scores are true ones."""

import msgspec
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.drm.core import fragmentation
from services.drm.core.capacity import Capacity
from services.drm.core.fragmentation import History, Typical, pod_class
from services.drm.core.inventory import Inventory
from services.drm.core.packing import Ranking
from services.drm.model import WHOLE, demand_of
from solyx.events import DeviceGroup, Node
from tests.unit.drm.drm_world import GIB, gpu, job_spec, node

FAST = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
NODES = (
    node("a", cpu=8, memory_gib=8),
    node("b", cpu=4, gpus=2, model="T4", rack="r1"),
    node("c", cpu=16, gpus=4, taints=("lab",), rack="r1"),
    node("d", cpu=16, gpus=2, rack="r2"),
    Node(
        name="mixed",
        cpu_milli=32_000,
        memory_bytes=64 * GIB,
        devices=(
            DeviceGroup(model="A100", count=2, domain="x"),
            DeviceGroup(model="T4", count=2, domain="y"),
            DeviceGroup(kind="fpga", model="U50", count=1),
        ),
        rack="r2",
    ),
)
specs = st.builds(
    job_spec,
    cpu=st.sampled_from([0, 0.5, 1, 3]),
    memory_gib=st.integers(0, 3),
    devices=st.sampled_from(
        [
            (),
            (gpu(0.2),),
            (gpu(0.3, models=("T4",)),),
            (gpu(0.5),),
            (gpu(0.8, models=("A100", "T4")),),
            (gpu(),),
            (gpu(count=2),),
            (gpu(models=("A100",)), gpu(0.4)),
        ]
    ),
    pods=st.sampled_from([1, 1, 1, 2, 4]),
    tolerations=st.sampled_from([(), (), ("lab",)]),
)
steps = st.lists(
    st.one_of(st.tuples(st.just("place"), specs), st.tuples(st.just("end"), st.integers(0, 20))), max_size=30
)
expected = st.lists(specs, min_size=1, max_size=6)


def typical_of(jobs):
    history = History()
    for _ in range(fragmentation.MIN_HISTORY):
        for spec in jobs:
            history.note(demand_of(spec))
    history.refresh()
    return history.typical


def play(script, typical, check=lambda _free: None):
    """Place and end; every place that was given."""
    inventory = Inventory(NODES)
    free = Capacity.empty(inventory, inventory.ready, typical)
    held, given_spots = [], []
    for kind, what in script:
        if kind == "place":
            demand = demand_of(what)
            could = free.fits(demand)
            spots = free.place(demand)
            assert could == (spots is not None)
            given_spots.append(spots)
            if spots is not None:
                assert len(spots) == demand.parallelism, "a part of a gang was placed"
                free.take(demand, spots)
                held.append((demand, spots))
        elif held:
            free.give(*held.pop(what % len(held)))
        check(free)
    for demand, spots in held:
        free.give(demand, spots)
    assert (free.cpu == inventory.cpu).all()
    assert (free.devices == inventory.devices).all()
    return given_spots


def within_capacity(free):
    inventory = free.inventory
    assert (free.cpu >= 0).all()
    assert (free.memory >= 0).all()
    assert ((free.devices >= 0) & (free.devices <= inventory.devices)).all(), "a device was over-shared"


@FAST
@given(steps, expected)
def test_capacity_is_never_exceeded_and_no_device_over_shared(script, jobs) -> None:
    play(script, typical_of(jobs), within_capacity)
    play(script, None, within_capacity)


def models_of(inventory, spot):
    return {inventory.layouts[spot.node].devices[column][1] for column, _ in spot.devices}


@FAST
@given(steps, expected, st.sampled_from([1, 2]), st.sampled_from([0.4, 1]), st.integers(2, 5))
def test_a_gang_is_on_one_model_wherever_one_model_holds_all_of_it(script, jobs, count, share, pods) -> None:
    gang = demand_of(job_spec(cpu=0.5, devices=(gpu(share, count=count if share == 1 else 1),), pods=pods))
    seen = []

    def check(free):
        spots = free.place(gang)
        if spots is not None:
            each = (
                msgspec.structs.replace(gang, devices=(msgspec.structs.replace(gang.devices[0], models=(model,)),))
                for model in ("A100", "T4")
            )
            seen.append((any(free.fits(one) for one in each), spots, free.inventory))

    play(script, typical_of(jobs), check)
    for one_holds_it, spots, inventory in seen:
        assert not one_holds_it or len({model for spot in spots for model in models_of(inventory, spot)}) == 1


def remembered_is_true(free):
    for demand, ranking in free._rankings.items():
        ranking.update(free, free._changes[ranking.position :])
        ranking.position = len(free._changes)
        anew = Ranking(free, demand)
        assert (ranking.scores == anew.scores).all()
        fit = anew.fit_nodes()
        assert (ranking.columns[fit] == anew.columns[fit]).all()


@FAST
@given(steps, expected)
def test_a_score_kept_and_updated_is_the_score_computed_anew(script, jobs) -> None:
    play(script, typical_of(jobs), remembered_is_true)
    play(script, None, remembered_is_true)


@FAST
@given(steps, expected)
def test_equal_histories_give_equal_places(script, jobs) -> None:
    assert play(script, typical_of(jobs)) == play(script, typical_of(list(reversed(jobs))))


@FAST
@given(expected, st.lists(st.integers(0, WHOLE), min_size=4, max_size=4), st.integers(0, 32), specs)
def test_taking_more_never_makes_a_node_worth_more(jobs, shares, cpu, more) -> None:
    counts = {pod_class(demand_of(spec)): 10 for spec in jobs}
    typical, inventory = Typical(counts), Inventory((node("n", cpu=32, gpus=4),))
    nodes = np.zeros(1, dtype=np.int64)

    def worth(cores, free):
        sums = typical.sums(inventory, nodes, np.array([free]))
        return float(typical.worth(np.array([cores * 1000]), np.array([16 * GIB]), *sums)[0])

    before = worth(cpu, shares)
    assert worth(max(cpu - more.resources.cpu_milli // 1000, 0), shares) <= before
    assert worth(cpu, [max(share - 100, 0) for share in shares]) <= before
    assert before <= fragmentation._SCALE * sum(shares)


def test_without_shared_devices_or_history_nothing_is_typical() -> None:
    history = History()
    history.note(demand_of(job_spec(devices=(gpu(0.5),))))
    assert not history.refresh()
    assert history.typical is None
    history = History()
    for _ in range(100):
        history.note(demand_of(job_spec(devices=(gpu(),))))
    assert not history.refresh()
    assert history.typical is None


def test_history_is_bounded_and_follows_what_comes() -> None:
    history = History()
    old, new = demand_of(job_spec(devices=(gpu(0.5),))), demand_of(job_spec(devices=(gpu(0.3),)))
    for demand in (old, new):
        for _ in range(3 * fragmentation.MAX_HISTORY):
            history.note(demand)
            history.refresh()
        assert history._noted <= fragmentation.MAX_HISTORY * 1.2
    assert history.typical.shares[pod_class(new)] > 0.8
