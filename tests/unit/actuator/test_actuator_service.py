"""The actuator on a bus: jobs start and end, a dead or slow site holds up no other, and a restart tells nothing twice."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from services.actuator.model import Apply, Changes, ClusterOutcome, Delete
from services.actuator.service import role
from services.actuator.settings import ActuatorSettings
from services.actuator.simulated.course import Chance
from services.actuator.simulated.run_log import doubled, run_logs
from services.actuator.simulated.targets import SimulatedTargets
from services.actuator.targets import ClusterTarget, NetworkTarget
from solyx.bus.memory import MemoryBus
from solyx.bus.partition import partition_of
from solyx.bus.port import Transient
from solyx.bus.runner import ServiceRunner, run_roles
from solyx.clock import ManualClock
from solyx.events import Event, RouteReported, WorkloadReported, decode, encode
from solyx.topics import ACTUATIONS, ALLOCATIONS, ROUTES, SITE_PARTITIONS
from tests.unit.actuator.actuator_cases import SITE, START, allocated, released, route

NEIGHBOUR = next(
    name
    for name in (f"site-{n}" for n in range(100))
    if partition_of(name, SITE_PARTITIONS) == partition_of(SITE, SITE_PARTITIONS)
)
"""A site in the same shard."""


class BadCluster:
    """A cluster that hangs until it is let go, and then is out of reach."""

    def __init__(self, let_go: threading.Event) -> None:
        self._let_go = let_go

    def _hang(self, asked: object) -> Transient:
        self._let_go.wait(30)
        return Transient(f"no route to host for {asked}", after_s=0.05)

    def apply(self, workloads: Sequence[Apply]) -> Sequence[ClusterOutcome]:
        raise self._hang(workloads)

    def delete(self, workloads: Sequence[Delete]) -> Sequence[ClusterOutcome]:
        raise self._hang(workloads)

    def observe(self, cursor: str | None) -> Changes:
        raise self._hang(cursor)


class Installation:
    """A bus, clusters and a clock that actuators come and go on."""

    def __init__(self, state_dir: Path) -> None:
        self.bus, self.clock = MemoryBus(), ManualClock(START)
        self.bus.ensure_topics([ALLOCATIONS, ROUTES, ACTUATIONS])
        self.targets = SimulatedTargets(state_dir, self.clock, chance=Chance())
        self.instead: dict[str, ClusterTarget] = {}
        self._publisher = self.bus.publisher(name="test")

    def cluster(self, site: str) -> ClusterTarget:
        return self.instead.get(site) or self.targets.cluster(site)

    def network(self) -> NetworkTarget:
        return self.targets.network()

    @contextmanager
    def actuator(self, replica: str = "0") -> Iterator[ServiceRunner]:
        settings = ActuatorSettings(replica=replica, poll_s=0.01)
        (runner,) = run_roles([role(self, settings)], settings, self.bus, self.clock)
        wait_for(runner.ready)
        try:
            yield runner
        finally:
            runner.stop()

    def publish(self, *events: Event) -> None:
        self._publisher.publish([encode(event, source="test", time=START) for event in events])

    def reports(self) -> list[Event]:
        records = self.bus.records(ACTUATIONS.name)
        return [decode(record.value or b"", record.headers).event for record in records]

    def told(self) -> list[str]:
        return [event.id for event in self.reports()]

    def wait_told(self, *ids: str) -> None:
        wait_for(lambda: set(ids) <= set(self.told()), lambda: f"{ids} not among {self.told()}")


def wait_for(condition: Callable[[], bool], failure: Callable[[], str] = lambda: "") -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, failure()
        time.sleep(0.005)


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    installation = Installation(tmp_path)
    with installation.targets:
        yield installation


def test_a_job_is_started_and_its_end_reported_on_scenario_time(installation: Installation, tmp_path: Path):
    with installation.actuator():
        installation.publish(allocated("a", duration_s=60))
        installation.wait_told("a.1.started")
        installation.clock.advance(61)
        installation.wait_told("a.1.succeeded")
    started, succeeded = installation.reports()
    assert isinstance(started, WorkloadReported)
    assert isinstance(succeeded, WorkloadReported)
    assert (started.at, (succeeded.at - START).total_seconds()) == (START, 60)
    assert [run.job_id for run in run_logs(tmp_path)] == ["a"]


def test_a_release_stops_what_runs_and_what_never_started(installation: Installation):
    with installation.actuator():
        installation.publish(allocated("a"))
        installation.wait_told("a.1.started")
        installation.publish(released("a"), released("b"))
        installation.wait_told("a.1.stopped", "b.1.stopped")
    assert installation.targets.cluster(SITE).observe(None).states == ()


def test_a_route_is_installed_and_reported(installation: Installation):
    with installation.actuator():
        installation.publish(route())
        installation.wait_told("paris>oslo.1.applied")
    assert isinstance(installation.reports()[0], RouteReported)
    assert [installed.revision for installed in installation.network().observe()] == [1]


def test_a_restarted_actuator_goes_on_and_tells_nothing_twice(installation: Installation, tmp_path: Path):
    with installation.actuator():
        installation.publish(allocated("a"), allocated("b"))
        installation.wait_told("a.1.started", "b.1.started")
    installation.publish(released("a"))
    installation.clock.advance(101)
    with installation.actuator():
        installation.publish(allocated("c"))
        installation.wait_told("a.1.succeeded", "b.1.succeeded", "c.1.started")
    assert len(installation.told()) == len(set(installation.told())) == 5
    assert len(run_logs(tmp_path)) == 3


def test_replicas_share_the_shards_and_run_each_job_once(installation: Installation, tmp_path: Path):
    jobs = [allocated(f"job-{n}", site=f"site-{n % 8}") for n in range(40)]
    with installation.actuator("0"):
        installation.publish(*jobs[:20])
        with installation.actuator("1"):
            installation.publish(*jobs[20:])
            installation.wait_told(*(f"{job.job_id}.1.started" for job in jobs))
    installation.clock.advance(101)
    with installation.actuator("2"):
        installation.wait_told(*(f"{job.job_id}.1.succeeded" for job in jobs))
    assert len(installation.told()) == len(set(installation.told())) == 80
    assert doubled(run_logs(tmp_path)) == []


def test_a_site_that_hangs_holds_up_no_other_and_catches_up_when_it_is_back(installation: Installation):
    let_go = threading.Event()
    installation.instead[NEIGHBOUR] = BadCluster(let_go)
    with installation.actuator():
        installation.publish(allocated("stuck", site=NEIGHBOUR), *(allocated(f"a{n}") for n in range(20)))
        installation.wait_told(*(f"a{n}.1.started" for n in range(20)))
        assert "stuck.1.started" not in installation.told()
        let_go.set()
    del installation.instead[NEIGHBOUR]
    with installation.actuator():
        installation.wait_told("stuck.1.started")


def test_a_dead_site_comes_back_within_the_life_of_the_actuator(installation: Installation):
    let_go = threading.Event()
    let_go.set()
    real = installation.targets.cluster(SITE)
    bad = BadCluster(let_go)
    back = threading.Event()

    class Flapping:
        def apply(self, workloads: Sequence[Apply]) -> Sequence[ClusterOutcome]:
            return (real if back.is_set() else bad).apply(workloads)

        def delete(self, workloads: Sequence[Delete]) -> Sequence[ClusterOutcome]:
            return (real if back.is_set() else bad).delete(workloads)

        def observe(self, cursor: str | None) -> Changes:
            return (real if back.is_set() else bad).observe(cursor)

    installation.instead[SITE] = Flapping()
    with installation.actuator():
        installation.publish(allocated("a"), allocated("b", site=NEIGHBOUR))
        installation.wait_told("b.1.started")
        assert "a.1.started" not in installation.told()
        back.set()
        installation.wait_told("a.1.started")


def test_a_bug_in_a_target_ends_the_runner_loudly(installation: Installation):
    class Broken(BadCluster):
        def observe(self, cursor: str | None) -> Changes:
            raise KeyError(cursor)

    installation.instead[SITE] = Broken(threading.Event())
    with installation.actuator() as runner:
        installation.publish(allocated("a"))
        assert runner.wait(20)
        assert isinstance(runner.failed, KeyError)
