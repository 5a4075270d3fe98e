"""Cohorts: what is guaranteed, borrowed and lent, whose turn it is, and how what was lent comes back."""

import msgspec
import pytest

from services.drm.quotas import Cohort, Quota, QuotaError, Quotas, Share, parse_quotas
from solyx.events import DeferralReason, Victim
from tests.unit.drm.drm_world import World, allocations, at, deferrals, gpu, job_spec, node, placed, releases, withdrawn


def cohort(reclaim="any", **tenants) -> Quotas:
    return Quotas(cohorts={"labs": Cohort(reclaim=reclaim, tenants=tenants)})


def share(guaranteed: int, borrow: int | None = None, lend: int | None = None, weight: float = 1) -> Quota:
    limits = Share(
        guaranteed=guaranteed * 1000,
        borrow=None if borrow is None else borrow * 1000,
        lend=None if lend is None else lend * 1000,
    )
    return Quota(cpu_milli=limits, weight=weight)


def lent(cpu: float = 1, **more):
    return job_spec(cpu=cpu, preemptible=True, **more)


def many(tenant: str, count: int, spec=None, **more):
    return [placed(f"{tenant}-{n}", spec or lent(), tenant=tenant, submitted=n, **more) for n in range(count)]


def held(world: World) -> dict[str, int]:
    cpu: dict[str, int] = {}
    for allocation in world.running.values():
        cpu[allocation.tenant] = cpu.get(allocation.tenant, 0) + allocation.spec.resources.cpu_milli // 1000
    return cpu


# ------------------------------------------------------------------------------------------------------------- borrowing


def test_a_tenant_borrows_what_its_cohort_does_not_use() -> None:
    world = World(node("a", cpu=16), quotas=cohort(a=share(4), b=share(4)))
    world.tell(*many("a", 10))
    world.decide()
    assert held(world) == {"a": 8}


def test_the_borrowing_limit_holds_and_the_deferral_says_so() -> None:
    world = World(node("a", cpu=16), quotas=cohort(a=share(4, borrow=2), b=share(4)))
    world.tell(*many("a", 10))
    decisions = world.decide()
    assert held(world) == {"a": 6}
    detail = deferrals(decisions)["a-6"].detail
    assert detail == (
        "a asks for 1 CPU and holds 6; 4 are guaranteed to it, it may hold 6 here at most, and its cohort labs has 0 left for it"
    )


def test_what_a_tenant_does_not_lend_stays_free_for_it() -> None:
    world = World(node("a", cpu=16), quotas=cohort(a=share(4), b=share(4, lend=1)))
    world.tell(*many("a", 10))
    world.decide()
    assert held(world) == {"a": 5}
    world.tell(*many("b", 10))
    world.decide(1)
    assert held(world) == {"a": 5, "b": 3}  # the fourth is being returned


def test_cohorts_lend_to_each_other_within_their_limits() -> None:
    quotas = Quotas(
        cohorts={
            "all": Cohort(cpu_milli=1000),
            "one": Cohort(parent="all", cpu_milli=Share(borrow=2000), tenants={"a": share(4)}),
            "two": Cohort(parent="all", tenants={"b": share(4)}),
        }
    )
    world = World(node("a", cpu=16), quotas=quotas)
    world.tell(*many("a", 10))
    world.decide()
    assert held(world) == {"a": 6}


def test_a_job_that_is_not_preemptible_does_not_borrow_and_is_told_why() -> None:
    world = World(node("a", cpu=16), quotas=cohort(a=share(4), b=share(4)))
    world.tell(*many("a", 6, job_spec(cpu=1)))
    decisions = world.decide()
    assert held(world) == {"a": 4}
    assert "only preemptible jobs may borrow" in deferrals(decisions)["a-4"].detail


def test_where_nothing_is_reclaimed_every_job_may_borrow() -> None:
    world = World(node("a", cpu=16), quotas=cohort("never", a=share(4), b=share(4)))
    world.tell(*many("a", 6, job_spec(cpu=1)))
    world.decide()
    assert held(world) == {"a": 6}


def test_a_job_larger_than_its_quota_can_ever_be_holds_up_nobody() -> None:
    world = World(node("a", cpu=16), quotas=cohort(a=share(4, borrow=1), b=share(4)))
    world.tell(placed("huge", lent(6, priority=9), tenant="a"), *many("a", 6))
    decisions = world.decide()
    assert held(world) == {"a": 5}
    assert "it may hold 5 here at most" in deferrals(decisions)["huge"].detail


def test_a_resource_that_nobody_in_the_tree_names_is_unlimited() -> None:
    world = World(node("a", cpu=16, memory_gib=64), quotas=cohort(a=share(4), b=share(4)))
    world.tell(*many("a", 4, lent(memory_gib=16)))
    world.decide()
    assert held(world) == {"a": 4}


# ----------------------------------------------------------------------------------------------------------------- turns


def test_equal_priorities_share_by_weight() -> None:
    world = World(node("a", cpu=12), quotas=cohort(a=share(0, weight=2), b=share(0), pool=share(12)))
    world.tell(*many("a", 20), *many("b", 20, start=0))
    world.decide()
    assert held(world) == {"a": 8, "b": 4}


def test_shares_are_of_the_dominant_resource() -> None:
    """The example of the DRF paper, section 4.1: 9 CPU and 18 GiB, tasks of (1, 4) and (3, 1) end at 3 and 2 tasks."""
    quotas = Quotas(
        cohorts={
            "all": Cohort(cpu_milli=9000, memory_bytes=18 << 30, tenants={"memory": Quota(), "cpu": Quota()}),
        }
    )
    world = World(node("a", cpu=9, memory_gib=18), quotas=quotas)
    world.tell(*many("memory", 9, lent(1, memory_gib=4)), *many("cpu", 9, lent(3, memory_gib=1)))
    world.decide()
    assert held(world) == {"memory": 3, "cpu": 6}


def test_within_the_guarantee_goes_before_a_borrower_of_higher_priority() -> None:
    world = World(node("a", cpu=1), quotas=cohort(a=share(0), b=share(1)))
    world.tell(placed("borrower", lent(priority=9), tenant="a"), placed("own", lent(), tenant="b", submitted=1))
    assert set(allocations(world.decide())) == {"own"}


def test_the_higher_priority_goes_before_the_smaller_share() -> None:
    world = World(node("a", cpu=8), quotas=cohort(a=share(1), b=share(1), pool=share(6)))
    world.tell(*many("a", 4))
    world.decide()
    world.tell(placed("a-urgent", lent(4, priority=1), tenant="a", submitted=9), *many("b", 5))
    world.decide()
    assert "a-urgent" not in world.running  # one is guaranteed to b and goes first, and then three are left
    assert held(world) == {"a": 4, "b": 1}


# --------------------------------------------------------------------------------------------------------------- reclaim


def lent_out(reclaim="any", priority: int = 0) -> World:
    world = World(node("a", cpu=8), quotas=cohort(reclaim, a=share(4), b=share(4)))
    world.tell(*many("a", 8, lent(priority=priority)))
    world.decide(0)
    assert held(world) == {"a": 8}
    return world


def test_a_guaranteed_share_comes_back_in_one_cycle_from_any_priority() -> None:
    world = lent_out(priority=9)
    world.tell(*many("b", 6, job_spec(cpu=1)))
    gone = releases(world.decide(1))
    assert len(gone) == 4
    assert world.decide(1) == []  # and no more than that
    for job_id, _, _ in gone:
        world.end(job_id, "stopped")
    world.decide(2)
    assert held(world) == {"a": 4, "b": 4}


@pytest.mark.parametrize(
    ("reclaim", "priority", "count"), [("lower_priority", 0, 0), ("lower_priority", -1, 4), ("never", -1, 0)]
)
def test_whose_jobs_are_reclaimed(reclaim, priority, count) -> None:
    world = lent_out(reclaim, priority)
    world.tell(*many("b", 6, job_spec(cpu=1)))
    assert len(releases(world.decide(1))) == count


def named_by_head(world: World, head_of: str, named: str) -> set[str]:
    """Who is stopped for a job of that tenant that names a victim."""
    head = job_spec(cpu=2, priority=2)
    world.tell(placed("head", head, tenant=head_of, victims=(Victim(job_id=named, revision=1),)))
    return {job_id for job_id, _, _ in releases(world.decide(1))}


def test_of_what_was_lent_the_named_is_returned() -> None:
    world = World(node("a", cpu=4), quotas=cohort(a=share(2), b=share(2)))
    world.tell(placed("one", lent(2), tenant="a"), placed("other", lent(2, priority=1), tenant="a"))
    world.decide(0)
    assert named_by_head(world, "b", "other") == {"other"}


def test_naming_a_victim_does_not_overrule_what_is_guaranteed_to_its_tenant() -> None:
    world = World(node("a", cpu=4), quotas=cohort(a=share(2), b=share(2)))
    world.tell(placed("own", lent(2, priority=1), tenant="a"), placed("theirs", lent(2), tenant="b"))
    world.decide(0)
    assert named_by_head(world, "a", "theirs") == {"own"}


@pytest.mark.parametrize(
    ("reclaim", "priority", "count"), [("any", 9, 1), ("lower_priority", 0, 0), ("lower_priority", -1, 1)]
)
def test_whose_jobs_outside_all_cohorts_make_room(reclaim, priority, count) -> None:
    world = World(node("a", cpu=8), quotas=cohort(reclaim, b=share(4)))
    world.tell(*many("guests", 8, lent(priority=priority)))
    world.decide(0)
    world.tell(placed("own", job_spec(cpu=1), tenant="b"))
    assert len(releases(world.decide(1))) == count


def test_nothing_is_reclaimed_for_a_borrower() -> None:
    world = World(node("a", cpu=8), quotas=cohort(a=share(4), b=share(4), c=share(0)))
    world.tell(*many("a", 8))
    world.decide()
    world.tell(*many("c", 2, lent(priority=9)))
    assert releases(world.decide(1)) == []


def test_only_what_was_borrowed_comes_back() -> None:
    world = World(node("a", cpu=12), quotas=cohort(a=share(4), b=share(4), c=share(4)))
    world.tell(*many("a", 4, lent()), *many("b", 8, lent(priority=5)))
    world.decide(0)
    world.tell(*many("c", 4, lent()))
    assert {job_id[0] for job_id, _, _ in releases(world.decide(1))} == {
        "b"
    }  # a has the lower priority, but borrowed nothing


def gpu_cohort(*, spare_gpus: int) -> Quotas:
    """Three tenants of two GPUs and eight CPUs, and GPUs of the cohort that nobody's nodes need to have."""
    quota = Quota(cpu_milli=8000, gpu_milli=2000)
    return Quotas(cohorts={"labs": Cohort(gpu_milli=1000 * spare_gpus, tenants=dict.fromkeys("abc", quota))})


@pytest.mark.parametrize(("spare_gpus", "reason"), [(0, DeferralReason.QUOTA), (6, DeferralReason.NO_CAPACITY)])
def test_gpus_come_back_from_who_borrows_gpus_and_not_from_who_borrows_cpu(spare_gpus, reason) -> None:
    world = World(node("a", cpu=24, gpus=6), quotas=gpu_cohort(spare_gpus=spare_gpus))
    two = lent(devices=(gpu(count=2),))
    world.tell(*many("c", 2, two))
    world.decide()
    world.tell(placed("cpu of a", lent(9), tenant="a"))
    world.decide(1)
    world.tell(placed("gpus of a", two, tenant="a"))  # its guaranteed ones, and cheapest to stop: the youngest
    world.decide(2)
    world.tell(placed("gpus of b", two, tenant="b"))
    decisions = world.decide(3)
    assert deferrals(decisions)["gpus of b"].reason is reason
    assert [job_id for job_id, *_ in releases(decisions)] == ["c-0"]


def test_guaranteed_gpus_are_not_taken_for_gpus_though_their_holder_borrows_cpu() -> None:
    world = World(node("a", cpu=24, gpus=2), quotas=gpu_cohort(spare_gpus=6))
    world.tell(placed("cpu of a", lent(9), tenant="a"), placed("gpus of a", lent(devices=(gpu(count=2),)), tenant="a"))
    world.decide()
    world.tell(placed("gpus of b", lent(devices=(gpu(count=2),)), tenant="b"))
    assert releases(world.decide(1)) == []


def test_cpu_comes_back_too_where_the_gpus_that_come_back_are_of_no_use_without_it() -> None:
    world = World(node("a", cpu=12, gpus=4), node("b", cpu=8), quotas=gpu_cohort(spare_gpus=6))
    world.tell(placed("gpus of c", lent(0, devices=(gpu(count=4),)), tenant="c"))
    world.tell(placed("cpu of a", lent(9), tenant="a"))
    world.decide()
    world.tell(placed("both of b", lent(4, devices=(gpu(count=2),)), tenant="b"))
    assert {job_id for job_id, *_ in releases(world.decide(1))} == {"gpus of c", "cpu of a"}


def test_cpu_does_not_come_back_for_named_gpus_while_others_who_borrow_gpus_would_do() -> None:
    world = World(node("a", cpu=10, gpus=1), node("b", cpu=8, gpus=3), quotas=gpu_cohort(spare_gpus=6))
    world.tell(placed("gpu of c", lent(0, devices=(gpu(),)), tenant="c"), placed("cpu of a", lent(9), tenant="a"))
    world.tell(placed("gpus of c", lent(0, devices=(gpu(count=3),)), tenant="c"))
    world.decide()
    named = (Victim(job_id="gpu of c", revision=1), Victim(job_id="cpu of a", revision=1))
    world.tell(placed("both of b", lent(4, devices=(gpu(),)), tenant="b", victims=named))
    assert [job_id for job_id, *_ in releases(world.decide(1))] == ["gpus of c"]


def test_while_room_is_made_no_borrower_takes_it() -> None:
    world = lent_out()
    world.tell(placed("large", lent(4), tenant="b"))
    gone = releases(world.decide(1))
    assert len(gone) == 4
    world.end(gone[0][0], "stopped")
    world.tell(*(placed(f"new-{n}", lent(duration=1), tenant="a") for n in range(3)))
    world.decide(2)
    assert held(world) == {"a": 7}
    for job_id, _, _ in gone[1:]:
        world.end(job_id, "stopped")
    world.decide(3)
    assert held(world) == {"a": 4, "b": 4}


def test_a_tenants_own_lower_priority_makes_room() -> None:
    world = World(node("a", cpu=8), quotas=cohort(a=share(4), b=share(4, lend=0)))
    world.tell(*many("a", 4))
    world.decide(0)
    world.tell(placed("urgent", job_spec(cpu=2, priority=1), tenant="a"))
    assert len(releases(world.decide(1))) == 2


def test_work_that_is_kept_is_stopped_before_work_that_is_lost() -> None:
    world = World(node("a", cpu=2), quotas=cohort(a=share(0), b=share(2)))
    keeps = msgspec.structs.replace(lent(), suspendable=True)
    world.tell(placed("keeps", keeps, tenant="a"))
    world.decide(0)
    world.tell(placed("loses", lent(), tenant="a"))
    world.decide(50)
    world.tell(placed("own", lent(), tenant="b"))
    assert releases(world.decide(60)) == [("keeps", 1, "preempted")]


# ----------------------------------------------------------------------------------------------------------- no starvation


def test_a_large_borrower_is_not_starved_by_small_ones() -> None:
    world = World(node("a", cpu=8), quotas=cohort(a=share(0), b=share(0), pool=share(8)))
    world.tell(*many("a", 8, lent(duration=10)))
    world.decide(0)
    world.tell(placed("large", lent(8), tenant="b"))
    world.decide(0)
    small = 8
    for second in range(1, 30):
        world.tell(placed(f"a-{small}", lent(duration=10), tenant="a", submitted=second))
        small += 1
        for job_id, allocation in list(world.running.items()):
            if allocation.decided_at.timestamp() + 10 <= at(second).timestamp():
                world.end(job_id)
        world.decide(second)
        if "large" in world.running:
            return
    pytest.fail("it never started")


def test_a_tenants_large_job_is_not_starved_by_its_own_small_ones() -> None:
    world = World(node("a", cpu=8), quotas={"lab": Quota(cpu_milli=4000)})
    world.tell(*(placed(f"s-{n}", job_spec(cpu=1, duration=100), submitted=0) for n in range(2)))
    world.decide(0)
    world.tell(placed("large", job_spec(cpu=4, priority=1)), placed("slow", job_spec(cpu=1, duration=500)))
    decisions = world.decide(1)
    assert allocations(decisions) == {}
    assert deferrals(decisions)["slow"].reason is DeferralReason.QUOTA
    assert "large of lab waits for it" in deferrals(decisions)["slow"].detail
    world.tell(placed("short", job_spec(cpu=1, duration=90)))
    assert set(allocations(world.decide(2))) == {"short"}


def test_a_job_that_no_longer_waits_holds_up_nobody() -> None:
    world = World(node("a", cpu=8), quotas={"lab": Quota(cpu_milli=4000)})
    world.tell(*(placed(f"s-{n}", job_spec(cpu=1, duration=100)) for n in range(2)))
    world.decide(0)
    large = placed("large", job_spec(cpu=4, priority=1))
    world.tell(large, placed("slow", job_spec(cpu=1, duration=500)))
    world.decide(1)
    world.tell(withdrawn(large))
    assert set(allocations(world.decide(2))) == {"slow"}


# -------------------------------------------------------------------------------------------------------------- documents


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"cohorts": {"a": {"parent": "b"}}}', "cohorts.a.parent: there is no cohort b"),
        ('{"cohorts": {"a": {"parent": "b"}, "b": {"parent": "a"}}}', "the cohorts form a cycle: a → b → a"),
        ('{"cohorts": {"a": {"parent": "a"}}}', "the cohorts form a cycle: a → a"),
        ('{"cohorts": {"a": {"cpu_milli": -1}}}', "cpu_milli"),
        ('{"cohorts": {"a": {"tenants": {"t": {"weight": 0}}}}}', "weight"),
        ('{"cohorts": {"a": {"tenants": {"t": {}}}, "b": {"tenants": {"t": {}}}}}', "t: is in cohort a already"),
        ('{"cohorts": {"a": {"tenants": {"t": {}}}}, "tenants": {"t": {}}}', "tenants.t: is in cohort a already"),
        (
            '{"cohorts": {"a": {"tenants": {"t": {"cpu_milli": {"guaranteed": 1, "lend": 2}}}}}}',
            "cohorts.a.tenants.t.cpu_milli: lends 2, more than the guaranteed 1",
        ),
        ('{"tenants": {"t": {"cpu_milli": {"guaranteed": 1, "borrow": 2}}}}', "tenants.t.cpu_milli: borrows or lends"),
        ('{"sites": {"north": {"cohorts": {"a": {"parent": "b"}}}}}', "sites.north.cohorts.a.parent"),
        ('{"cohorts": {"a": {"parrent": "b"}}}', "parrent"),
    ],
)
def test_quotas_that_contradict_themselves_name_the_field(text, words) -> None:
    with pytest.raises(QuotaError) as error:
        parse_quotas(text)
    assert words in str(error.value)


def test_a_site_may_have_quotas_of_its_own() -> None:
    quotas = parse_quotas(
        '{"tenants": {"t": {"cpu_milli": 1}}, "sites": {"north": {"tenants": {"t": {"cpu_milli": 2}}}}}'
    )
    assert quotas.at("north").tenants["t"] == Quota(cpu_milli=2)
    assert quotas.at("south").tenants["t"] == Quota(cpu_milli=1)
