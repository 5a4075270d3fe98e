"""What a workload keeps of its work when it stops, and how it goes on: on the simulated cluster, and through the reconciler."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.actuator.model import Apply, ClusterOutcome, Delete, Phase, Verdict, WorkloadState
from services.actuator.simulated.cluster import SimulatedCluster, cluster_file
from services.actuator.simulated.course import Chance, Outage, to_us
from services.actuator.simulated.run_log import run_log
from services.actuator.simulated.work import Checkpoints, Work
from solyx.clock import ManualClock
from solyx.events import ReleaseReason
from tests.unit.actuator.actuator_cases import SITE, START, Actuator, allocated, released

CHECKPOINTS = Checkpoints(restart_overhead_s=5.0, interval_s=20.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return cluster_file(tmp_path, SITE)


@pytest.fixture
def cluster(path: Path, clock: ManualClock) -> Iterator[SimulatedCluster]:
    cluster = SimulatedCluster(path, clock, checkpoints=CHECKPOINTS)
    yield cluster
    cluster.close()


def apply(cluster: SimulatedCluster, *arguments: object, **fields: object) -> ClusterOutcome:
    values = {"suspendable": True, **fields}
    (outcome,) = cluster.apply([Apply(allocation=allocated(*arguments, **values))])  # pyright: ignore[reportArgumentType]
    return outcome


def delete(cluster: SimulatedCluster, revision: int = 1, *, grace_s: float = 0.0) -> WorkloadState:
    (outcome,) = cluster.delete([Delete(job_id="job", revision=revision, grace_s=grace_s)])
    assert outcome.state is not None
    return outcome.state


def only(cluster: SimulatedCluster) -> WorkloadState:
    (state,) = cluster.observe(None).states
    return state


def ended(state: WorkloadState) -> tuple[Phase, float, float]:
    """Phase, seconds after the start, and progress."""
    assert state.ended_at is not None
    return state.phase, (state.ended_at - START) / timedelta(seconds=1), state.progress_s


def test_a_suspendable_workload_that_is_stopped_keeps_what_it_did(cluster: SimulatedCluster, clock: ManualClock):
    apply(cluster)
    clock.advance(33.5)
    assert ended(delete(cluster)) == (Phase.STOPPED, 33.5, 33.5)


def test_one_that_is_not_suspendable_loses_it_and_begins_anew(cluster: SimulatedCluster, clock: ManualClock):
    apply(cluster, suspendable=False)
    clock.advance(33)
    assert ended(delete(cluster)) == (Phase.STOPPED, 33, 0)
    apply(cluster, revision=2, suspendable=False, progress_s=33)
    clock.advance(99.9)
    assert only(cluster).phase is Phase.RUNNING
    clock.advance(1)
    assert ended(only(cluster)) == (Phase.SUCCEEDED, 133, 0)


def test_a_workload_that_goes_on_runs_what_is_left_and_the_overhead_of_its_restart(
    cluster: SimulatedCluster, clock: ManualClock, path: Path
):
    apply(cluster)
    clock.advance(60)
    kept = delete(cluster).progress_s
    clock.advance(1000)
    apply(cluster, revision=2, progress_s=kept)
    clock.advance(500)
    assert ended(only(cluster)) == (Phase.SUCCEEDED, 1060 + 5 + 40, 100)
    first, second = run_log(path)
    assert (first.from_s, first.kept_s, second.from_s, second.kept_s, second.whole_s) == (0, 60, 60, 100, 100)


def test_what_is_stopped_during_its_restart_keeps_what_it_had(cluster: SimulatedCluster, clock: ManualClock):
    apply(cluster, progress_s=60)
    clock.advance(3)
    assert delete(cluster).progress_s == 60


def test_progress_never_exceeds_the_whole_work(cluster: SimulatedCluster, clock: ManualClock):
    apply(cluster, progress_s=1e6, duration_s=50)
    clock.advance(10)
    assert ended(only(cluster)) == (Phase.SUCCEEDED, 5.000001, 50)


def test_a_node_that_dies_takes_what_was_done_after_the_last_periodic_checkpoint(path: Path, clock: ManualClock):
    outage = Outage(node="n2", from_us=to_us(START + timedelta(seconds=75)), until_us=2**62)
    cluster = SimulatedCluster(path, clock, checkpoints=CHECKPOINTS, outages=[outage])
    apply(cluster, "killed", node="n1", progress_s=7)
    apply(cluster, "planned", node="n2", progress_s=7)
    clock.advance(50)
    cluster.kill_node("n1")
    clock.advance(30)
    kept = {state.job_id: state.progress_s for state in cluster.observe(None).states}
    assert kept == {"killed": 7 + 40, "planned": 7 + 60}
    cluster.close()


def test_one_that_is_bound_to_a_dead_node_keeps_what_it_came_with(cluster: SimulatedCluster, clock: ManualClock):
    cluster.kill_node("n1", down_s=1e6)
    apply(cluster, progress_s=42)
    clock.advance(100)
    state = only(cluster)
    assert (state.phase, state.progress_s) == (Phase.FAILED, 42)


def test_a_failure_comes_at_a_fraction_of_what_is_left(path: Path, clock: ManualClock):
    chance = Chance(failure_rate=1.0)
    cluster = SimulatedCluster(path, clock, checkpoints=CHECKPOINTS, chance=chance)
    apply(cluster, progress_s=80)
    clock.advance(100)
    point = chance.failure_point("job", 1)
    assert point is not None
    assert ended(only(cluster)) == (Phase.FAILED, pytest.approx(5 + point * 20, abs=1e-3), 80)
    cluster.close()


# --------------------------------------------------------------------------------------------------------------- grace


def test_a_workload_writes_its_checkpoint_within_the_grace_period(
    cluster: SimulatedCluster, clock: ManualClock, path: Path
):
    apply(cluster, checkpoint_s=8)
    clock.advance(33)
    assert delete(cluster, grace_s=30).phase is Phase.RUNNING
    clock.advance(7.9)
    assert only(cluster).phase is Phase.RUNNING
    clock.advance(0.2)
    assert ended(only(cluster)) == (Phase.STOPPED, 41, 33), "it works no more while it writes"
    assert ended(delete(cluster, grace_s=30)) == (Phase.STOPPED, 41, 33)
    assert cluster.observe(None).states == ()
    (run,) = run_log(path)
    assert (run.phase, run.kept_s) == (Phase.STOPPED, 33)


def test_a_checkpoint_that_takes_longer_than_the_grace_is_lost(cluster: SimulatedCluster, clock: ManualClock):
    apply(cluster, checkpoint_s=40)
    clock.advance(33)
    delete(cluster, grace_s=30)
    clock.advance(100)
    assert ended(only(cluster)) == (Phase.STOPPED, 63, 20)


def test_telling_it_again_never_prolongs_the_grace_and_may_shorten_it(cluster: SimulatedCluster, clock: ManualClock):
    apply(cluster, checkpoint_s=20)
    clock.advance(30)
    delete(cluster, grace_s=30)
    clock.advance(15)
    delete(cluster, grace_s=30)
    clock.advance(4)
    assert ended(delete(cluster)) == (Phase.STOPPED, 49, 20), "killed before its checkpoint was written"


def test_one_that_ends_while_it_is_told_to_stop_has_ended_by_itself(cluster: SimulatedCluster, clock: ManualClock):
    apply(cluster, checkpoint_s=20)
    clock.advance(95)
    delete(cluster, grace_s=30)
    clock.advance(30)
    assert ended(only(cluster)) == (Phase.SUCCEEDED, 100, 100)


@pytest.mark.parametrize("label", ["soon", "-1", "nan", "inf"])
def test_a_checkpoint_label_that_is_no_time_is_rejected(cluster: SimulatedCluster, label: str):
    outcome = apply(cluster, checkpoint_s=label)
    assert outcome.verdict is Verdict.REJECTED
    assert "simulated-checkpoint-s" in outcome.message


# ----------------------------------------------------------------------------------------------- through the reconciler


def test_the_stopped_report_carries_the_progress_once_the_checkpoint_is_written(actuator: Actuator, clock: ManualClock):
    actuator.log.append(allocated(suspendable=True, checkpoint_s=10, progress_s=5))
    assert actuator.settle() == ["job.1.started"]
    assert actuator.reports[-1].progress_s == 5
    clock.advance(40)
    actuator.log.append(released(grace_s=30))
    assert actuator.settle() == []
    clock.advance(11)
    assert actuator.settle() == ["job.1.stopped"]
    report = actuator.reports[-1]
    assert (report.progress_s, report.at) == (45, START + timedelta(seconds=50))
    assert actuator.settle() == []
    assert actuator.core.jobs(SITE) == 0
    assert actuator.cluster().observe(None).states == ()


def test_an_actuator_that_died_while_a_checkpoint_was_written_reports_it_all_the_same(
    actuator: Actuator, clock: ManualClock
):
    actuator.log.append(allocated(suspendable=True, checkpoint_s=10))
    actuator.settle()
    clock.advance(40)
    actuator.log.append(released(reason=ReleaseReason.PREEMPTED, grace_s=30))
    actuator.settle()
    clock.advance(5)
    actuator.start(compacted=True)
    assert actuator.settle() == []
    clock.advance(6)
    actuator.start()
    assert actuator.settle() == ["job.1.stopped"]
    assert (actuator.reports[-1].progress_s, actuator.reports[-1].at) == (40, START + timedelta(seconds=50))


def test_what_is_released_before_it_ran_keeps_what_it_came_with(actuator: Actuator):
    actuator.log += [allocated(suspendable=True, progress_s=42), released()]
    assert actuator.settle() == ["job.1.stopped"]
    assert (actuator.reports[-1].started_at, actuator.reports[-1].progress_s) == (None, 42)


# ---------------------------------------------------------------------------------------------------------- properties

_TIME_US = st.integers(0, 10**9)


@given(
    whole=st.integers(1, 10**9),
    done=_TIME_US,
    restart=_TIME_US,
    write=_TIME_US,
    interval=st.integers(0, 10**9),
    ran=_TIME_US,
    grace=_TIME_US,
)
def test_what_is_kept_is_never_less_than_before_nor_more_than_was_done(
    whole: int, done: int, restart: int, write: int, interval: int, ran: int, grace: int
):
    done = min(done, whole)
    work = Work(whole_us=whole, done_us=done, restart_us=restart, write_us=write, interval_us=interval)
    killed, told = work.kept_when_killed(ran), work.kept_when_told(ran, grace)
    if not interval:
        assert killed == told == 0
        return
    assert done <= killed <= told <= work.done_after(ran) <= whole
    assert work.kept_when_killed(ran, at_most_us=told) in {killed, told}
    assert told - done <= ran
    assert work.done_after(work.run_us) == whole
