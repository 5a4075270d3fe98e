"""Quotas of kinds and models of devices, and the weights of cohorts."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.drm.quotas import Cohort, Quota, QuotaError, Quotas, Share, parse_quotas
from solyx.events import DeferralReason, DeviceGroup, DeviceRequest, Node
from tests.unit.drm.drm_world import (
    World,
    allocations,
    deferrals,
    devices_held,
    gpu,
    job_spec,
    node,
    placed,
    releases,
    withdrawn,
)

A, H = "gpu/A100", "gpu/H100"


def models(**limits: int | Share) -> dict[str, Quota]:
    return {"lab": Quota(devices_milli={f"gpu/{model}": figure for model, figure in limits.items()})}


def site(a100: int = 4, h100: int = 4, *more: Node, quotas=None) -> World:
    return World(node("a", gpus=a100, cpu=64), node("h", gpus=h100, model="H100", cpu=64), *more, quotas=quotas)


def one(*names: str, share: float = 1, count: int = 1, **more):
    return job_spec(cpu=0, memory_gib=0, devices=(gpu(share, models=names, count=count),), **more)


def got(world: World) -> dict[str, int]:
    return dict(devices_held(world.running.values()))


def test_a_job_that_names_a_model_counts_against_the_model_and_the_kind() -> None:
    quota = Quota(devices_milli={A: 1000, "gpu": 3000})
    world = site(quotas={"lab": quota})
    world.tell(*(placed(f"a-{n}", one("A100"), submitted=n) for n in range(2)))
    decisions = world.decide()
    assert set(allocations(decisions)) == {"a-0"}
    assert deferrals(decisions)["a-1"].detail == "lab holds 1 of its 1 gpu/A100 here and asks for 1"
    world.tell(withdrawn(placed("a-1")), *(placed(f"h-{n}", one("H100"), submitted=n) for n in range(3)))
    decisions = world.decide(1)
    assert set(allocations(decisions)) == {"h-0", "h-1"}
    assert deferrals(decisions)["h-2"].detail == "lab holds 3 of its 3 gpu here and asks for 1"


@pytest.mark.parametrize("names", [("A100", "H100"), ("H100", "A100"), ()])
def test_a_job_that_takes_several_models_gets_one_that_has_room_and_counts_against_what_it_got(names) -> None:
    world = site(quotas=models(A100=1000, H100=2000))
    world.tell(*(placed(f"j-{n}", one(*names), submitted=n) for n in range(4)))
    decisions = world.decide()
    assert len(allocations(decisions)) == 3
    assert got(world) == {"gpu": 3000, A: 1000, H: 2000}
    detail = deferrals(decisions)["j-3"].detail
    assert "lab holds 1 of its 1 gpu/A100 here and asks for 1" in detail
    assert "lab holds 2 of its 2 gpu/H100 here and asks for 1" in detail


def test_a_model_without_a_quota_is_unlimited_for_a_job_that_takes_any() -> None:
    world = site(quotas=models(A100=1000))
    world.tell(*(placed(f"j-{n}", one()) for n in range(6)))
    world.decide()
    assert got(world) == {"gpu": 5000, A: 1000, H: 4000}


def test_a_full_model_does_not_keep_a_job_from_another_model_that_it_takes() -> None:
    world = site(a100=1, quotas=models(A100=4000, H100=1000))
    world.tell(placed("first", one("A100", "H100")), placed("second", one("A100", "H100"), submitted=1))
    world.decide()
    assert got(world) == {"gpu": 2000, A: 1000, H: 1000}


def test_a_gang_keeps_to_one_model_where_quotas_tell_them_apart() -> None:
    world = site(quotas=models(A100=2000, H100=3000))
    world.tell(placed("gang", one("A100", "H100", pods=3)))
    world.decide()
    assert got(world) == {"gpu": 3000, H: 3000}


@pytest.mark.parametrize("names", [("A100", "H100"), ("H100", "A100"), ()])
def test_a_gang_gets_one_model_where_one_holds_all_of_it_and_else_what_there_is(names) -> None:
    for h100, expected in ((4, {H: 3000}), (2, {A: 2000, H: 1000}), (1, {A: 2000, H: 1000})):
        world = site(2, h100)
        world.tell(placed("gang", one(*names, pods=3)))
        world.decide()
        assert got(world) == {"gpu": 3000, **expected}


@pytest.mark.parametrize(("tight", "loose"), [("A100", "H100"), ("H100", "A100")])
def test_of_two_models_that_hold_a_gang_it_gets_the_one_whose_best_node_fits_best(tight: str, loose: str) -> None:
    sizes = ((tight, 1), (tight, 3), (loose, 2), (loose, 2))  # mixed, it would begin on the node with one
    nodes = (node(f"n{n}", gpus=gpus, model=model, cpu=64) for n, (model, gpus) in enumerate(sizes))
    world = World(*nodes, node("t", gpus=4, model="T4", cpu=64))
    world.tell(placed("gang", one("A100", "H100", pods=4)))
    world.decide()
    assert got(world) == {"gpu": 4000, f"gpu/{tight}": 4000}


def test_a_gang_is_rather_mixed_than_on_a_model_that_it_does_not_take() -> None:
    world = site(2, 2, node("t", gpus=4, model="T4", cpu=64))
    world.tell(placed("gang", one("A100", "H100", pods=3)))
    world.decide()
    assert set(got(world)) == {"gpu", A, H}


def test_a_gang_that_only_several_models_hold_is_told_that_its_quotas_keep_it_to_one() -> None:
    world = site(2, 2, quotas=models(A100=8000, H100=8000))
    world.tell(placed("gang", one(pods=4)))
    deferred = deferrals(world.decide())["gang"]
    assert deferred.reason is DeferralReason.NO_CAPACITY
    assert deferred.detail.endswith(
        "2 if nothing else ran on the ready nodes, for lack of gpu (A100); on several models together all would, but quotas tell these apart,"
        " and then all its pods get the same"
    )
    world.tell(withdrawn(placed("gang")), placed("larger", one(pods=5)))
    assert deferrals(world.decide(1))["larger"].detail.endswith(
        "2 if nothing else ran on the ready nodes, for lack of gpu (A100)"
    )


def test_each_request_of_a_pod_has_its_own_model() -> None:
    both = Node(
        name="both",
        cpu_milli=8000,
        memory_bytes=8 << 30,
        devices=(DeviceGroup(model="A100", count=2), DeviceGroup(model="H100", count=2)),
    )
    world = World(both, quotas=models(A100=1000, H100=1000))
    spec = job_spec(cpu=1, devices=(gpu(models=("A100", "H100")), gpu(0.5, models=("A100", "H100"))))
    world.tell(placed("pair", spec))
    world.decide()
    assert sorted(got(world).items()) in (
        [("gpu", 1500), (A, 1000), (H, 500)],
        [("gpu", 1500), (A, 500), (H, 1000)],
    )


def test_another_kind_of_device_does_not_count() -> None:
    tpus = Node(name="t", cpu_milli=8000, memory_bytes=8 << 30, devices=(DeviceGroup(kind="tpu", model="v4", count=4),))
    world = site(2, 2, tpus, quotas={"lab": Quota(devices_milli={"tpu": 1000, "gpu": 2000})})
    tpu = job_spec(cpu=0, memory_gib=0, devices=(DeviceRequest(kind="tpu"),))
    world.tell(*(placed(f"t-{n}", tpu) for n in range(2)), *(placed(f"g-{n}", one()) for n in range(3)))
    world.decide()
    assert got(world) == {
        "tpu": 1000,
        "tpu/v4": 1000,
        "gpu": 2000,
        **{k: v for k, v in got(world).items() if k in (A, H)},
    }


# ------------------------------------------------------------------------------------------------------------- cohorts


def cohorts(**tenants: Quota) -> Quotas:
    return Quotas(cohorts={"labs": Cohort(tenants=tenants)})


def of(a: int | Share = 0, h: int | Share = 0) -> Quota:
    return Quota(devices_milli={A: a, H: h})


def test_models_are_borrowed_within_their_limits() -> None:
    world = site(quotas=cohorts(lab=of(Share(guaranteed=1000, borrow=1000), 1000), other=of(3000, 1000)))
    world.tell(*(placed(f"a-{n}", one("A100", preemptible=True)) for n in range(4)))
    decisions = world.decide()
    assert got(world) == {"gpu": 2000, A: 2000}
    assert "1 are guaranteed to it, it may hold 2 here at most" in next(iter(deferrals(decisions).values())).detail


def test_nobody_is_stopped_while_a_model_that_the_job_takes_is_to_be_had() -> None:
    world = site(2, 2, quotas=cohorts(lab=of(2000, 0), other=of(0, 2000)))
    world.tell(*(placed(f"o-{n}", one("A100", preemptible=True), tenant="other") for n in range(2)))
    world.decide(0)
    assert got(world) == {"gpu": 2000, A: 2000}
    world.tell(placed("own", one("A100", "H100", preemptible=True)))
    decisions = world.decide(1)
    assert releases(decisions) == []
    assert got(world)[H] == 1000


def test_only_the_model_that_is_missing_is_returned() -> None:
    world = site(2, 2, quotas=cohorts(lab=of(2000, 0), other=of(0, 2000)))
    lent = [placed(f"{m}-{n}", one(m, preemptible=True), tenant="other") for m in ("A100", "H100") for n in range(2)]
    world.tell(*lent)
    world.decide(0)
    assert got(world) == {"gpu": 4000, A: 2000, H: 2000}
    world.tell(placed("own", one("H100", "A100", preemptible=True)))
    gone = releases(world.decide(1))
    assert [job_id.partition("-")[0] for job_id, _, _ in gone] == ["A100"]
    world.end(gone[0][0], "stopped")
    assert set(allocations(world.decide(2))) == {"own"}


def test_a_guaranteed_model_that_the_nodes_lack_is_not_taken_from_who_borrows_another() -> None:
    spare = {A: 4000, H: 4000}  # of the cohort: the quotas would let everybody start
    quotas = Quotas(cohorts={"labs": Cohort(devices_milli=spare, tenants={"lab": of(2000), "other": of(2000)})})
    world = site(2, 2, quotas=quotas)
    theirs = [*(placed(f"a-{n}", one("A100", preemptible=True), tenant="other") for n in range(2))]
    world.tell(*theirs, placed("h", one("H100", preemptible=True), tenant="other"))
    world.decide(0)
    assert got(world) == {"gpu": 3000, A: 2000, H: 1000}
    world.tell(placed("own", one("A100", preemptible=True)))
    assert releases(world.decide(1)) == []


def test_a_share_of_a_scarce_model_is_a_dominant_share() -> None:
    """Both hold one GPU of five, but the one that holds the only H100 has all of that."""
    quotas = Quotas(cohorts={"all": Cohort(devices_milli={A: 4000, H: 1000}, tenants={"h": Quota(), "a": Quota()})})
    world = site(4, 1, quotas=quotas)
    world.tell(placed("h-0", one("H100", preemptible=True), tenant="h"))
    world.tell(placed("a-0", one("A100", preemptible=True), tenant="a"))
    world.decide(0)
    world.tell(
        *(placed(f"h-{n}", one("A100", preemptible=True), tenant="h", submitted=1) for n in range(1, 4)),
        *(placed(f"a-{n}", one("A100", preemptible=True), tenant="a", submitted=2) for n in range(1, 4)),
    )
    world.decide(1)
    held = {job_id for job_id in world.running if job_id.startswith("a-")}
    assert len(held) == 4  # three quarters are less than the whole


@pytest.mark.parametrize(("weights", "shares"), [((None, None), (6, 3, 3)), ((1, 1), (6, 3, 3)), ((1, 3), (3, 5, 4))])
def test_cohorts_share_by_weight_and_then_their_tenants(weights, shares) -> None:
    first, second = weights
    quotas = Quotas(
        cohorts={
            "all": Cohort(cpu_milli=12000),
            "one": Cohort(parent="all", weight=first, tenants={"a": Quota(weight=2)}),
            "two": Cohort(parent="all", weight=second, tenants={"b": Quota(), "c": Quota()}),
        }
    )
    world = World(node("n", cpu=12), quotas=quotas)
    for tenant in "abc":
        world.tell(
            *(placed(f"{tenant}-{n}", job_spec(preemptible=True, memory_gib=0), tenant=tenant) for n in range(12))
        )
    world.decide()
    held = tuple(sum(a.tenant == tenant for a in world.running.values()) for tenant in "abc")
    assert held == shares


# ----------------------------------------------------------------------------------------------------------- documents


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            '{"tenants": {"t": {"devices_milli": {"gpus": 1}}}}',
            "tenants.t.devices_milli.gpus: there is no kind 'gpus'; write one of",
        ),
        ('{"t": {"devices_milli": {"gpu/": 1}}}', "tenants.t.devices_milli.gpu/: names no model; write gpu/MODEL"),
        (
            '{"cohorts": {"c": {"devices_milli": {"/A100": 1}}}}',
            "cohorts.c.devices_milli./A100: there is no kind ''; write one of gpu, tpu, fpga",
        ),
        (
            '{"cohorts": {"c": {"tenants": {"t": {"devices_milli": {"gpu/A100": {"guaranteed": 1, "lend": 2}}}}}}}',
            "cohorts.c.tenants.t.devices_milli.gpu/A100: lends 2, more than the guaranteed 1",
        ),
        (
            '{"t": {"devices_milli": {"gpu/A100": {"guaranteed": 1, "borrow": 2}}}}',
            "devices_milli.gpu/A100: borrows or lends",
        ),
        ('{"t": {"devices_milli": {"gpu/ A100": 1}}}', "write gpu/A100"),
        ('{"t": {"devices_milli": {"gpu/A100": -1}}}', "devices_milli"),
        ('{"cohorts": {"c": {"weight": 0}}}', "weight"),
        (
            '{"sites": {"north": {"tenants": {"t": {"devices_milli": {"x": 1}}}}}}',
            "sites.north.tenants.t.devices_milli.x",
        ),
    ],
)
def test_a_quota_of_an_unknown_device_names_the_field_and_the_cure(text, words) -> None:
    with pytest.raises(QuotaError) as error:
        parse_quotas(text)
    assert words in str(error.value)


# ---------------------------------------------------------------------------------------------------------- brute force

takes = st.sampled_from([(), ("A100",), ("H100",), ("T4",), ("A100", "H100"), ("T4", "A100"), ("H100", "T4", "A100")])
NAMES = ("A100", "H100", "T4")


@settings(max_examples=100)
@given(
    st.lists(st.tuples(takes, st.sampled_from([1, 0.5]), st.integers(1, 3), st.booleans()), min_size=1, max_size=15),
    st.dictionaries(st.sampled_from([A, H, "gpu/T4", "gpu", "tpu"]), st.integers(0, 6), max_size=4),
    st.integers(1, 6),
)
def test_a_job_starts_exactly_if_one_of_its_models_has_room(jobs, limits, each) -> None:
    """Told by trying each model that has a quota, and the others together: in the quotas, and on the nodes."""
    quota = Quota(devices_milli={name: amount * 1000 for name, amount in limits.items()})
    nodes = [node(name, gpus=each, model=name, cpu=64) for name in NAMES]
    world = World(*nodes, quotas={"lab": quota})
    for number, (names, share, pods, ends) in enumerate(jobs):
        job = placed(f"job-{number}", one(*names, share=share, pods=pods))
        held = devices_held(world.running.values())
        asked = int(share * 1000) * pods

        def has_room(models: list[str], held=held, asked=asked, share=share, pods=pods) -> bool:
            keys = ["gpu", *(f"gpu/{model}" for model in models)]
            if any(key in limits and held[key] + asked > limits[key] * 1000 for key in keys):
                return False
            return sum(pods_that_fit(world, model, each, share) for model in models) >= pods

        allowed = names or NAMES
        limited = [model for model in allowed if f"gpu/{model}" in limits]
        others = [model for model in allowed if model not in limited]
        expected = any(has_room(models) for models in (*([model] for model in limited), others) if models)
        world.tell(job)
        assert (job.job_id in allocations(world.decide(number))) == expected
        if job.job_id not in world.running:
            world.tell(withdrawn(job))
        elif ends:
            world.end(job.job_id)


def pods_that_fit(world: World, model: str, each: int, share: float) -> int:
    used = [0] * each
    for allocation in world.running.values():
        for pod in allocation.pods:
            for device in pod.devices:
                if device.model == model:
                    used[device.index] += device.share_milli
    return sum((1000 - amount) // int(share * 1000) for amount in used)


def test_the_reason_is_the_quota_where_no_model_has_room_and_the_capacity_where_one_has() -> None:
    world = site(1, 1, quotas=models(A100=1000, H100=0))
    world.tell(placed("first", one("A100")))
    world.decide()
    world.tell(placed("second", one("A100", "H100")))
    assert deferrals(world.decide(1))["second"].reason is DeferralReason.QUOTA
    world = site(1, 1, quotas=models(A100=2000, H100=0))
    world.tell(placed("first", one("A100")))
    world.decide()
    world.tell(placed("second", one("A100", "H100")))
    assert deferrals(world.decide(1))["second"].reason is DeferralReason.NO_CAPACITY
