"""What the DRM tells of a site's quotas: who holds, borrows, lends and waits for what, when it changes, and not too often."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from services.drm.core import DrmCore
from services.drm.core.quota_report import REPORT_EVERY_S
from services.drm.quotas import Cohort, Quota, Quotas, Share
from solyx.events import QuotaAccount, QuotaFigure, QuotasReported
from tests.unit.drm.drm_world import World, at, gpu, job_spec, node, placed


def lent(cpu: float = 1, **more):
    return job_spec(cpu=cpu, memory_gib=0, preemptible=True, **more)


def reports(world: World) -> list[QuotasReported]:
    return [event for event in world.history["quotas"] if isinstance(event, QuotasReported)]


def account(world: World, name: str) -> QuotaAccount:
    return next(one for one in reports(world)[-1].accounts if one.name == name)


def figure(world: World, name: str, resource: str = "cpu_milli") -> QuotaFigure:
    return next(one for one in account(world, name).figures if one.resource == resource)


def labs() -> Quotas:
    return Quotas(
        cohorts={
            "all": Cohort(cpu_milli=1000),
            "labs": Cohort(
                parent="all",
                tenants={
                    "a": Quota(cpu_milli=Share(guaranteed=4000, borrow=6000)),
                    "b": Quota(cpu_milli=Share(guaranteed=6000, lend=5000)),
                    "c": Quota(cpu_milli=2000),
                },
            ),
        }
    )


def test_who_holds_borrows_lends_and_waits_for_what() -> None:
    world = World(node("n", cpu=32), quotas=labs())
    world.tell(*(placed(f"a-{n}", lent(), tenant="a", submitted=n) for n in range(12)))
    world.tell(placed("b-0", lent(), tenant="b"))
    world.decide()
    assert figure(world, "a") == QuotaFigure(
        resource="cpu_milli", guaranteed=4000, most=10000, held=10000, borrowed=6000, waiting=2000
    )
    # a borrows six: none of "labs" itself, the rest from what b and c leave (5 and 2), in proportion
    assert (figure(world, "b").lent, figure(world, "c").lent) == (4000 + 285, 2000 - 285)
    assert figure(world, "labs") == QuotaFigure(
        resource="cpu_milli", guaranteed=12000, most=13000, held=11000, waiting=2000
    )
    assert figure(world, "all").guaranteed == 13000
    assert (account(world, "a").cohort, account(world, "a").waiting_jobs, account(world, "labs").waiting_jobs) == (
        "labs",
        2,
        2,
    )
    assert account(world, "a").share == 10 / 32


def test_a_cohort_lends_its_own_figure_before_that_of_its_members() -> None:
    quotas = Quotas(cohorts={"labs": Cohort(cpu_milli=2000, tenants={"a": Quota(), "b": Quota(cpu_milli=4000)})})
    world = World(node("n", cpu=32), quotas=quotas)
    world.tell(*(placed(f"a-{n}", lent(), tenant="a") for n in range(3)))
    world.decide()
    assert (figure(world, "a").borrowed, figure(world, "b").lent) == (3000, 1000)


def test_models_are_told_by_what_was_really_got_and_by_what_is_asked_for() -> None:
    quotas = {"lab": Quota(devices_milli={"gpu/A100": 1000, "gpu": 2000})}
    world = World(node("n", gpus=4), quotas=quotas)
    spec = job_spec(cpu=0, memory_gib=0, devices=(gpu(models=("A100",)),))
    world.tell(*(placed(f"j-{n}", spec) for n in range(3)))
    world.decide()
    assert figure(world, "lab", "gpu/A100") == QuotaFigure(
        resource="gpu/A100", guaranteed=1000, most=1000, held=1000, waiting=2000
    )
    assert figure(world, "lab", "gpu").held == 1000
    assert reports(world)[-1].capacity["gpu/A100"] == 4000


def test_a_model_that_no_node_has_is_told_with_a_capacity_of_nothing() -> None:
    world = World(node("n", gpus=4), quotas={"lab": Quota(devices_milli={"gpu/A1000": 1000})})
    world.decide()
    assert reports(world)[-1].capacity["gpu/A1000"] == 0


def test_it_is_told_when_it_changes_and_only_then_and_not_too_often() -> None:
    world = World(node("n", cpu=32), quotas=labs())
    world.decide(0)
    assert len(reports(world)) == 1
    for second in range(1, 5):
        world.tell(placed(f"j-{second}", lent(), tenant="a", start=second))
        world.decide(second)
    assert len(reports(world)) == 1
    assert world.core._sites["north"].is_due(at(REPORT_EVERY_S).timestamp())
    world.decide(REPORT_EVERY_S)
    assert figure(world, "a").held == 4000
    for second in range(6, 60):
        world.decide(second)
    assert len(reports(world)) == 2
    world.tell(placed("passing", lent(), tenant="a", start=60))
    world.decide(60)
    world.end("passing")
    world.decide(61)
    world.decide(70)
    assert [figure.held for figure in (next(iter(r.accounts[2].figures)) for r in reports(world))] == [
        0,
        4000,
        5000,
        4000,
    ]


def test_what_came_and_went_between_two_reports_is_not_told() -> None:
    world = World(node("n", cpu=32), quotas=labs())
    world.decide(0)
    world.tell(placed("passing", lent(), tenant="a", start=1))
    world.decide(1)
    world.end("passing")
    for second in range(2, 20):
        world.decide(second)
    assert len(reports(world)) == 1


def test_a_restart_tells_nothing_twice_and_what_is_still_to_be_told() -> None:
    world = World(node("n", cpu=32), quotas=labs())
    world.decide(0)
    world.tell(placed("j", lent(), tenant="a"))
    world.decide(1)
    core = DrmCore(labs())
    for events in world.history.values():
        for event in events:
            core.fold(event)
    assert core.decide(at(1)) == []
    (told,) = core.decide(at(REPORT_EVERY_S))
    assert isinstance(told, QuotasReported)
    world.decide(REPORT_EVERY_S)
    assert told == reports(world)[-1]


def test_quotas_that_were_taken_away_are_told_to_be_gone_once() -> None:
    world = World(node("n", cpu=32), quotas=labs())
    world.decide(0)
    core = DrmCore()
    for events in world.history.values():
        for event in events:
            core.fold(event)
    (told,) = core.decide(at(REPORT_EVERY_S))
    assert isinstance(told, QuotasReported)
    assert (told.accounts, told.capacity) == ((), {})
    assert core.decide(at(100)) == []


def test_a_site_without_quotas_tells_nothing() -> None:
    world = World(node("n", cpu=32))
    world.tell(placed("j"))
    world.decide()
    assert reports(world) == []


amounts = st.one_of(st.integers(0, 6), st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 6)))


def share(drawn) -> Share:
    if isinstance(drawn, int):
        return Share(guaranteed=drawn * 1000)
    guaranteed, borrow, lend = drawn
    return Share(guaranteed=guaranteed * 1000, borrow=borrow * 1000, lend=min(lend, guaranteed) * 1000)


@settings(max_examples=100)
@given(
    st.lists(amounts, min_size=4, max_size=4),
    st.lists(st.integers(0, 3), min_size=3, max_size=3),
    st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 3), st.booleans()), max_size=20),
)
def test_what_is_lent_is_what_is_borrowed(drawn, own, jobs) -> None:
    quotas = Quotas(
        cohorts={
            "top": Cohort(cpu_milli=own[0] * 1000),
            "one": Cohort(
                parent="top",
                cpu_milli=own[1] * 1000,
                tenants={n: Quota(cpu_milli=share(d)) for n, d in zip("ab", drawn[:2], strict=True)},
            ),
            "two": Cohort(
                parent="top",
                cpu_milli=own[2] * 1000,
                tenants={n: Quota(cpu_milli=share(d)) for n, d in zip("cd", drawn[2:], strict=True)},
            ),
        }
    )
    world = World(node("n", cpu=64), quotas=quotas)
    for number, (tenant, cpu, _) in enumerate(jobs):
        world.tell(placed(f"j-{number}", lent(cpu), tenant=tenant, submitted=number))
    world.decide(0)
    world.decide(10)
    by_name = {one.name: figure(world, one.name) for one in reports(world)[-1].accounts}
    held = Counter(a.tenant for a in world.running.values() for _ in range(a.spec.resources.cpu_milli))
    assert {name: by_name[name].held for name in "abcd"} == {name: held[name] for name in "abcd"}
    limits = {name: share(one).lend for name, one in zip("abcd", drawn, strict=True)}
    for name in "abcd":
        one = by_name[name]
        assert limits[name] is None or one.lent <= limits[name]
        assert one.borrowed == max(0, one.held - one.guaranteed)
        assert one.lent <= max(0, one.guaranteed - one.held)
        assert one.held <= (one.most or 0)
    borrowed, lent_out = (sum(getattr(by_name[name], what) for name in "abcd") for what in ("borrowed", "lent"))
    assert lent_out <= borrowed <= lent_out + sum(own) * 1000  # the rest is the cohorts' own
