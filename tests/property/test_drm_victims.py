"""Who is stopped for whom, judged by laws of its own: every set of victims is looked at, and nothing is asked of the DRM but its decisions."""

from collections.abc import Iterable, Iterator
from itertools import combinations, permutations
from typing import NamedTuple

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.drm.quotas import Cohort, Quota, Quotas
from tests.unit.drm.drm_world import World, allocations, gpu, job_spec, node, placed, releases, withdrawn

LAWS = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])

MEMBERS = ("a", "b", "c")
CPU, GPU = 0, 1
NOBODY: frozenset[str] = frozenset()


class Ask(NamedTuple):
    """A job of one pod."""

    tenant: str
    cpu: int
    gpus: int
    priority: int
    preemptible: bool

    def spec(self):
        return job_spec(
            cpu=self.cpu,
            memory_gib=0,
            devices=(gpu(count=self.gpus),) if self.gpus else (),
            priority=self.priority,
            preemptible=self.preemptible,
            duration=10_000,
        )

    def of(self, resource: int) -> int:
        return self.gpus if resource else self.cpu


class Setting(NamedTuple):
    """A site and its quotas."""

    nodes: tuple[tuple[int, int], ...]  # CPUs and GPUs
    guaranteed: dict[str, tuple[int, int]]  # of CPUs and GPUs; empty: no cohort
    spare: tuple[int, int]  # what the cohort has beside
    reclaim: str

    def world(self) -> World:
        nodes = [node(f"n{i}", cpu=cpu, memory_gib=64, gpus=gpus) for i, (cpu, gpus) in enumerate(self.nodes)]
        if not self.guaranteed:
            return World(*nodes)
        tenants = {
            name: Quota(cpu_milli=1000 * cpu, gpu_milli=1000 * gpus) for name, (cpu, gpus) in self.guaranteed.items()
        }
        cpu, gpus = self.spare
        cohort = Cohort(reclaim=self.reclaim, cpu_milli=1000 * cpu, gpu_milli=1000 * gpus, tenants=tenants)  # pyright: ignore[reportArgumentType]
        return World(*nodes, quotas=Quotas(cohorts={"all": cohort}))


def stopped(decisions) -> list[str]:
    return [job_id for job_id, _, reason in releases(decisions) if reason == "preempted"]


class Case:
    """What runs, who asks, and whom the DRM stops for that; and what may be said of other sets."""

    def __init__(self, setting: Setting, jobs: Iterable[Ask], asks: Ask) -> None:
        self.setting, self.asks = setting, asks
        world = setting.world()
        self.jobs = {f"job-{n}": job for n, job in enumerate(jobs)}
        for number, (job_id, job) in enumerate(self.jobs.items()):
            placement = placed(job_id, job.spec(), tenant=job.tenant)
            world.tell(placement)
            while gone := stopped(world.decide(number)):
                for name in gone:
                    world.end(name, "stopped")
            if job_id not in world.running:
                world.tell(withdrawn(placement))
        self.node_of = {job_id: int(run.pods[0].node[1:]) for job_id, run in world.running.items()}
        self.runs = {job_id: self.jobs[job_id] for job_id in self.node_of}
        world.tell(placed("asks", asks.spec(), tenant=asks.tenant))
        decisions = world.decide(50)
        self.started = "asks" in allocations(decisions)
        self.victims = frozenset(stopped(decisions))

    def __repr__(self) -> str:
        runs = {job_id: (*job, f"n{self.node_of[job_id]}") for job_id, job in self.runs.items()}
        return f"{self.setting} {runs} {self.asks} stops {set(self.victims)}"

    def held(self, tenants: Iterable[str], resource: int, without: frozenset[str], *, firm: bool = False) -> int:
        return sum(
            job.of(resource)
            for job_id, job in self.runs.items()
            if job.tenant in tenants and job_id not in without and not (firm and job.preemptible)
        )

    def fits(self, without: frozenset[str], resources: tuple[int, ...] = (CPU, GPU)) -> bool:
        """Whether a node has room, for these resources."""
        for number, has in enumerate(self.setting.nodes):
            here = [
                job for job_id, job in self.runs.items() if self.node_of[job_id] == number and job_id not in without
            ]
            if all(self.asks.of(r) + sum(job.of(r) for job in here) <= has[r] for r in resources):
                return True
        return False

    def short(self, without: frozenset[str]) -> tuple[int, ...]:
        """Of what its quota has too little."""
        if self.asks.tenant not in self.setting.guaranteed:
            return ()
        return tuple(
            r
            for r in (CPU, GPU)
            if self.asks.of(r)
            and self.asks.of(r) + self.held(MEMBERS, r, without)
            > sum(figures[r] for figures in self.setting.guaranteed.values()) + self.setting.spare[r]
        )

    def too_firm(self) -> bool:
        """Whether it would borrow for good. Nobody that may be stopped changes that."""
        mine = self.setting.guaranteed.get(self.asks.tenant)
        return (
            mine is not None
            and self.setting.reclaim != "never"
            and not self.asks.preemptible
            and any(
                self.asks.of(r) and self.asks.of(r) + self.held([self.asks.tenant], r, NOBODY, firm=True) > mine[r]
                for r in (CPU, GPU)
            )
        )

    def within(self, without: frozenset[str]) -> bool:
        """Whether it stays within what is guaranteed to it."""
        mine = self.setting.guaranteed.get(self.asks.tenant, (0, 0))
        asked = [(self.asks.of(r), self.held([self.asks.tenant], r, without), mine[r]) for r in (CPU, GPU)]
        return all(not more or more + held <= guaranteed for more, held, guaranteed in asked)

    def missing(self, without: frozenset[str]) -> tuple[int, ...]:
        """Of its quota, else on the nodes; all it asks for, where nodes have each but not together."""
        asked = tuple(r for r in (CPU, GPU) if self.asks.of(r))
        lacking = () if self.fits(without) else tuple(r for r in asked if not self.fits(without, (r,))) or asked
        return self.short(without) or lacking

    def strangers(self, victims: Iterable[str]) -> bool:
        return any(self.jobs[job_id].tenant != self.asks.tenant for job_id in victims)

    def enough(self, victims: frozenset[str]) -> bool:
        """Whether it may start once they are gone, by right: what others are to return has to be its own."""
        by_right = not self.setting.guaranteed or not self.strangers(victims) or self.within(victims)
        return self.fits(victims) and not self.short(victims) and by_right

    def may_be_stopped(self, job_id: str) -> bool:
        """Whether there is any right to stop it, whatever its tenant holds."""
        job = self.runs[job_id]
        lower = job.preemptible and job.priority < self.asks.priority
        if not self.setting.guaranteed or job.tenant == self.asks.tenant:
            return lower
        if self.asks.tenant not in self.setting.guaranteed or self.setting.reclaim == "never":
            return False
        if job.tenant not in self.setting.guaranteed and self.short(NOBODY):
            return False
        return job.preemptible and (self.setting.reclaim == "any" or lower)

    def lent(self, victims: Iterable[str], resources: tuple[int, ...]) -> bool:
        """Whether tenants held more than is guaranteed to them of one of these, each time that one of their jobs was stopped."""
        for tenant, guaranteed in self.setting.guaranteed.items():
            theirs = [job_id for job_id in victims if self.jobs[job_id].tenant == tenant != self.asks.tenant]
            if not any(self._each_over(tenant, order, guaranteed, resources) for order in permutations(theirs)):
                return False
        return True

    def _each_over(
        self, tenant: str, order: tuple[str, ...], guaranteed: tuple[int, int], resources: tuple[int, ...]
    ) -> bool:
        return all(
            any(self.held([tenant], r, frozenset(order[:count])) > guaranteed[r] for r in resources)
            for count in range(len(order))
        )

    def sets(self, among: Iterable[str]) -> Iterator[frozenset[str]]:
        members = sorted(among)
        for size in range(len(members) + 1):
            yield from map(frozenset, combinations(members, size))


little, much = st.tuples(st.integers(0, 2), st.integers(0, 1)), st.tuples(st.integers(2, 5), st.integers(1, 3))
settings_of_sites = st.builds(
    Setting,
    nodes=st.lists(st.tuples(st.integers(4, 6), st.sampled_from([3, 2, 1, 0])), min_size=1, max_size=2).map(tuple),
    guaranteed=st.one_of(
        st.fixed_dictionaries({"a": much, "b": little, "c": little}),
        st.fixed_dictionaries({"a": much, "b": st.one_of(little, much), "c": much}),
        st.just({}),
    ),
    spare=st.tuples(st.sampled_from([8, 4, 2, 0]), st.sampled_from([4, 2, 1, 0])),
    reclaim=st.sampled_from(["any", "lower_priority", "any", "never"]),
)


def asks_of(*tenants: str, share_of_firm: int) -> st.SearchStrategy[Ask]:
    return st.builds(
        Ask,
        tenant=st.sampled_from(tenants),
        cpu=st.sampled_from([1, 2, 3, 4, 0]),
        gpus=st.sampled_from([1, 0, 2, 1, 0, 3]),
        priority=st.sampled_from([1, 0, 2]),
        preemptible=st.integers(0, share_of_firm).map(bool),
    ).filter(lambda ask: ask.cpu or ask.gpus)


runs = asks_of("b", "a", "c", "b", "guests", share_of_firm=9)
asking = asks_of("a", "a", "a", "b", "guests", share_of_firm=3)
cases = st.builds(Case, settings_of_sites, st.lists(runs, min_size=4, max_size=9), asking)


@LAWS
@given(cases)
def test_whoever_is_stopped_is_enough(case) -> None:
    assert not case.victims or (case.enough(case.victims) and not case.too_firm() and not case.started)


@LAWS
@given(cases)
def test_fewer_of_those_who_are_stopped_would_not_do(case) -> None:
    for spared in case.victims:
        for fewer in case.sets(case.victims - {spared}):
            assert not case.enough(fewer), f"{set(fewer)} of {set(case.victims)} would do"


@LAWS
@given(cases)
def test_only_jobs_that_there_is_a_right_to_stop_are_stopped(case) -> None:
    assert all(case.may_be_stopped(job_id) for job_id in case.victims)


@LAWS
@given(cases)
def test_nobody_returns_what_is_guaranteed_to_it_of_what_is_missing(case) -> None:
    missing = case.missing(NOBODY)
    if not case.victims or case.lent(case.victims, missing):
        return
    # Then those who borrow what is missing cannot make room, and what is missing even without them is returned as well.
    stoppable = [job_id for job_id in case.runs if case.may_be_stopped(job_id)]
    returned = [victims for victims in case.sets(stoppable) if case.lent(victims, missing)]
    assert not any(case.enough(victims) for victims in returned)
    assert any(case.lent(case.victims, (*missing, *case.missing(victims))) for victims in returned)


@LAWS
@given(
    st.builds(
        Case,
        st.builds(
            Setting,
            nodes=st.integers(1, 8).map(lambda cpu: ((cpu, 0),)),
            guaranteed=st.fixed_dictionaries(dict.fromkeys(MEMBERS, st.tuples(st.integers(0, 4), st.just(0)))),
            spare=st.tuples(st.integers(0, 8), st.just(0)),
            reclaim=st.sampled_from(["any", "lower_priority"]),
        ),
        st.lists(runs.map(lambda ask: ask._replace(cpu=1, gpus=0)), min_size=4, max_size=9),
        asking.map(lambda ask: ask._replace(cpu=max(1, ask.cpu), gpus=0)),
    )
)
def test_somebody_is_stopped_wherever_equal_jobs_could_make_room_by_right(case) -> None:
    if case.started or case.victims or case.too_firm():
        return
    stoppable = [job_id for job_id in case.runs if case.may_be_stopped(job_id)]
    for victims in case.sets(stoppable):
        assert not (case.enough(victims) and case.lent(victims, case.missing(NOBODY))), f"{set(victims)} would do"
