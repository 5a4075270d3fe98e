"""Who goes on elsewhere for whom, judged by trying every packing; nothing is asked of the DRM but its decisions."""

from collections.abc import Sequence
from typing import NamedTuple

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from solyx.events import JobAllocated
from tests.unit.drm.drm_world import World, allocations, job_spec, node, placed, releases

LAWS = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)
NOW_S = 1000.0
LONG_S = 100_000.0


class Runs(NamedTuple):
    cpu: int
    suspendable: bool


runs = st.builds(Runs, cpu=st.integers(1, 4), suspendable=st.sampled_from([True, True, False]))


def packs(free: Sequence[int], pods: Sequence[int]) -> bool:
    """Whether all pods find places, by trying every one."""
    if not pods:
        return True
    first, rest = pods[0], pods[1:]
    return any(
        packs([left - first if n == at else left for n, left in enumerate(free)], rest)
        for at, has in enumerate(free)
        if has >= first
    )


class Case:
    """A site on which some work has ended, so that what is free is in pieces."""

    def __init__(self, nodes: list[int], jobs: list[tuple[Runs, bool]], head: int, pods: int) -> None:
        self.world = World(*(node(f"n{n}", cpu=cpu) for n, cpu in enumerate(nodes)))
        for number, (job, _) in enumerate(jobs):
            spec = job_spec(cpu=job.cpu, memory_gib=0, duration=LONG_S, suspendable=job.suspendable)
            self.world.tell(placed(f"job-{number}", spec))
            self.world.decide(number)
        assume(len(self.world.running) == len(jobs))
        for number, (_, ends) in enumerate(jobs):
            if ends:
                self.world.end(f"job-{number}")
        self.world.decide(NOW_S - 1)
        self.running = dict(self.world.running)
        self.head = [head] * pods
        self.free = [cpu - sum(_cpu(a) for a in self.on(n)) for n, cpu in enumerate(nodes)]
        self.world.tell(placed("head", job_spec(cpu=head, memory_gib=0, pods=pods, duration=LONG_S)))
        decisions = self.world.decide(NOW_S)
        self.started = "head" in allocations(decisions)
        assert {reason for _, _, reason in releases(decisions)} <= {"consolidated"}
        self.moved = [self.running[job_id] for job_id, _, _ in releases(decisions)]

    def on(self, row: int) -> list[JobAllocated]:
        return [a for a in self.running.values() if a.pods[0].node == f"n{row}"]

    def without(self, moved: Sequence[JobAllocated]) -> list[int]:
        return [left + sum(_cpu(a) for a in moved if a.pods[0].node == f"n{n}") for n, left in enumerate(self.free)]


def _cpu(allocation: JobAllocated) -> int:
    return allocation.spec.resources.cpu_milli // 1000


cases = st.builds(
    Case,
    st.lists(st.integers(3, 8), min_size=2, max_size=4),
    st.lists(st.tuples(runs, st.booleans()), min_size=2, max_size=9),
    st.integers(2, 8),
    st.integers(1, 2),
)


@LAWS
@given(cases)
def test_who_is_moved_may_pause_and_finds_another_place_beside_the_head(case: Case) -> None:
    if case.moved:
        assert not packs(case.free, case.head)
        assert all(a.spec.suspendable for a in case.moved)
        assert packs(case.without(case.moved), case.head + [_cpu(a) for a in case.moved])


@LAWS
@given(cases)
def test_whenever_moving_one_suffices_for_one_pod_somebody_is_moved(case: Case) -> None:
    """And no more than the least of those who alone suffice; the pods of a gang are placed one after the other, so it may miss a way."""
    if case.started or len(case.head) > 1:
        return
    alone = [
        _cpu(a) for a in case.running.values() if a.spec.suspendable and packs(case.without([a]), [*case.head, _cpu(a)])
    ]
    if alone:
        assert case.moved
        assert sum(map(_cpu, case.moved)) <= min(alone)


@LAWS
@given(cases)
def test_the_head_starts_once_they_have_stopped_and_they_find_places_too(case: Case) -> None:
    for allocation in case.moved:
        case.world.end(allocation.job_id, "stopped")
    found = allocations(case.world.decide(NOW_S + 1))
    if case.moved:
        assert set(found) == {"head"}
        for allocation in case.moved:
            case.world.tell(placed(allocation.job_id, allocation.spec, revision=2))
        assert set(allocations(case.world.decide(NOW_S + 2))) == {a.job_id for a in case.moved}
