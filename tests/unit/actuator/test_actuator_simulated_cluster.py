"""The simulated cluster: scenario time, failures, dying nodes, fencing between two actuators, and a file that survives."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from datetime import timedelta
from pathlib import Path

import pytest

from services.actuator.model import Apply, ClusterOutcome, Delete, Phase, Verdict, WorkloadState
from services.actuator.simulated.__main__ import main
from services.actuator.simulated.cluster import LOOK_AT_MOST, SimulatedCluster, cluster_file
from services.actuator.simulated.course import NODE_LOSS_DETECTED_S, Chance, Outage, to_us
from services.actuator.simulated.run_log import run_log
from solyx.bus.port import Transient
from solyx.clock import ManualClock
from solyx.events import WorkloadReason
from solyx.settings import SettingsError
from tests.unit.actuator.actuator_cases import SITE, START, allocated

Open = Callable[..., SimulatedCluster]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return cluster_file(tmp_path, SITE)


@pytest.fixture
def opened(path: Path, clock: ManualClock) -> Iterator[Open]:
    clusters: list[SimulatedCluster] = []

    def open_cluster(**arguments: object) -> SimulatedCluster:
        clusters.append(SimulatedCluster(path, clock, **arguments))  # pyright: ignore[reportArgumentType]
        return clusters[-1]

    yield open_cluster
    for cluster in clusters:
        cluster.close()


def apply(cluster: SimulatedCluster, *arguments: object, **fields: object) -> ClusterOutcome:
    (outcome,) = cluster.apply([Apply(allocation=allocated(*arguments, **fields))])  # pyright: ignore[reportArgumentType]
    return outcome


def delete(cluster: SimulatedCluster, job: str = "job", revision: int = 1) -> ClusterOutcome:
    (outcome,) = cluster.delete([Delete(job_id=job, revision=revision)])
    return outcome


def only(cluster: SimulatedCluster) -> WorkloadState:
    (state,) = cluster.observe(None).states
    return state


def at(seconds: float):
    return START + timedelta(seconds=seconds)


def test_a_workload_runs_for_its_estimate_on_scenario_time(opened: Open, clock: ManualClock):
    cluster = opened()
    outcome = apply(cluster)
    assert outcome.verdict is Verdict.APPLIED
    assert outcome.state is not None
    assert (outcome.state.phase, outcome.state.started_at) == (Phase.RUNNING, START)
    clock.advance(99.9)
    assert only(cluster).phase is Phase.RUNNING
    clock.advance(1000)
    state = only(cluster)
    assert (state.phase, state.reason, state.ended_at) == (Phase.SUCCEEDED, WorkloadReason.COMPLETED, at(100))


def test_the_label_overrides_the_estimate(opened: Open, clock: ManualClock):
    cluster = opened()
    apply(cluster, duration_s=2.5)
    clock.advance(3)
    assert only(cluster).ended_at == at(2.5)


@pytest.mark.parametrize("label", ["soon", "0", "-1", "nan", "inf"])
def test_a_label_that_is_no_duration_is_rejected(opened: Open, label: str):
    cluster = opened()
    outcome = apply(cluster, duration_s=label)
    assert outcome.verdict is Verdict.REJECTED
    assert "simulated-duration-s" in outcome.message
    assert cluster.observe(None).states == ()


def test_applying_the_same_revision_again_changes_nothing(opened: Open, clock: ManualClock, path: Path):
    cluster = opened()
    first = apply(cluster)
    clock.advance(10)
    assert apply(cluster) == first
    assert len(run_log(path)) == 1


def test_the_watch_gives_what_changed_since_its_cursor(opened: Open, clock: ManualClock):
    cluster = opened()
    apply(cluster, "short", duration_s=10)
    apply(cluster, "long", duration_s=20)
    listed = cluster.observe(None)
    assert listed.complete
    assert {state.job_id for state in listed.states} == {"short", "long"}
    assert listed.next_in_s == 10
    clock.advance(10)
    changes = cluster.observe(listed.cursor)
    assert not changes.complete
    assert [(state.job_id, state.phase) for state in changes.states] == [("short", Phase.SUCCEEDED)]
    assert cluster.observe(changes.cursor).states == ()


def test_the_watch_hands_over_many_changes_in_parts(opened: Open):
    cluster = opened()
    cursor = cluster.observe(None).cursor
    count = LOOK_AT_MOST + 10
    cluster.apply([Apply(allocation=allocated(f"job-{n}")) for n in range(count)])
    seen: list[str] = []
    parts = 0
    while len(seen) < count:
        changes = cluster.observe(cursor)
        cursor = changes.cursor
        seen += [state.job_id for state in changes.states]
        parts += 1
    assert parts == 2
    assert len(set(seen)) == count


def test_a_cursor_of_a_former_cluster_gives_a_complete_list(tmp_path: Path, clock: ManualClock):
    former = SimulatedCluster(tmp_path / "former.sqlite", clock)
    cursor = former.observe(None).cursor
    former.close()
    cluster = SimulatedCluster(tmp_path / "new.sqlite", clock)
    apply(cluster)
    assert cluster.observe(cursor).complete
    cluster.close()


def test_the_next_change_is_told_in_wall_seconds(path: Path):
    clock = ManualClock(START, speed=50.0)
    cluster = SimulatedCluster(path, clock)
    apply(cluster)
    assert cluster.observe(None).next_in_s == 2.0
    cluster.close()


# ------------------------------------------------------------------------------------------------------------- fencing


def test_a_lower_revision_is_refused_whichever_actuator_comes_with_it(opened: Open):
    first, second = opened(), opened()
    apply(first, revision=2)
    outcome = apply(second, revision=1)
    assert outcome.verdict is Verdict.STALE
    assert "revision 2" in outcome.message
    assert only(first).revision == 2


def test_a_deleted_revision_can_never_start_later(opened: Open, path: Path):
    first, second = opened(), opened()
    assert delete(first, revision=2).verdict is Verdict.APPLIED
    assert apply(second, revision=2).verdict is Verdict.STALE
    assert apply(second, revision=1).verdict is Verdict.STALE
    assert apply(second, revision=3).verdict is Verdict.APPLIED
    assert [run.revision for run in run_log(path)] == [3]


def test_a_deletion_of_a_lower_revision_leaves_the_higher_alone(opened: Open, clock: ManualClock):
    cluster = opened()
    apply(cluster, revision=1)
    clock.advance(5)
    apply(cluster, revision=2)
    outcome = delete(cluster, revision=1)
    assert outcome.verdict is Verdict.STALE
    assert outcome.state is not None
    assert (outcome.state.phase, outcome.state.ended_at) == (Phase.STOPPED, at(5))
    assert (only(cluster).revision, only(cluster).phase) == (2, Phase.RUNNING)


def test_a_deletion_stops_the_run_and_a_repeat_tells_the_same(opened: Open, clock: ManualClock, path: Path):
    cluster = opened()
    apply(cluster)
    clock.advance(5)
    outcome = delete(cluster)
    assert outcome.state is not None
    assert (outcome.state.phase, outcome.state.started_at, outcome.state.ended_at) == (Phase.STOPPED, START, at(5))
    clock.advance(5)
    assert delete(opened()) == outcome
    assert cluster.observe(None).states == ()
    (run,) = run_log(path)
    assert (run.phase, run.ended_at) == (Phase.STOPPED, at(5))


def test_an_end_before_the_deletion_stands(opened: Open, clock: ManualClock):
    cluster = opened()
    apply(cluster)
    clock.advance(200)
    for _ in range(2):
        outcome = delete(cluster)
        assert outcome.state is not None
        assert (outcome.state.phase, outcome.state.ended_at) == (Phase.SUCCEEDED, at(100))


def test_a_higher_revision_replaces_a_lower_one(opened: Open, clock: ManualClock, path: Path):
    cluster = opened()
    apply(cluster, revision=1)
    clock.advance(5)
    apply(cluster, revision=2)
    lower, higher = run_log(path)
    assert (lower.phase, lower.ended_at, higher.started_at) == (Phase.STOPPED, at(5), at(5))


# ---------------------------------------------------------------------------------------------------- crashes, failures


def test_the_cluster_survives_its_actuator(opened: Open, clock: ManualClock):
    killed = opened()
    apply(killed, "a")
    apply(killed, "b")
    delete(killed, "b")
    clock.advance(100)  # ends while nobody looks; the killed one never closes its file
    cluster = opened()
    state = only(cluster)
    assert (state.job_id, state.phase, state.ended_at) == ("a", Phase.SUCCEEDED, at(100))
    assert apply(cluster, "b").verdict is Verdict.STALE


def test_a_batch_is_carried_out_whole_or_not_at_all(opened: Open, monkeypatch: pytest.MonkeyPatch):
    cluster = opened()
    broken = allocated("broken")
    monkeypatch.setattr("services.actuator.simulated.cluster._start_run", _failing_for("broken"))
    with pytest.raises(Transient, match="disk"):
        cluster.apply([Apply(allocation=allocated("fine")), Apply(allocation=broken)])
    assert cluster.observe(None).states == ()


def _failing_for(job_id: str):
    from services.actuator.simulated import cluster as module

    real = module._start_run

    def start_run(db: sqlite3.Connection, allocation, work, now_us: int) -> int:
        if allocation.job_id == job_id:
            raise sqlite3.OperationalError("database or disk is full")
        return real(db, allocation, work, now_us)

    return start_run


def test_a_file_of_another_version_is_refused_with_the_cure(opened: Open, path: Path):
    opened().observe(None)
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(SettingsError, match="--fresh"):
        opened().observe(None)


def test_workloads_fail_at_the_configured_rate_and_the_same_ones_each_time(tmp_path: Path, clock: ManualClock):
    def failed(name: str, seed: int) -> set[str]:
        cluster = SimulatedCluster(tmp_path / name, clock, chance=Chance(failure_rate=0.2, seed=seed))
        cluster.apply([Apply(allocation=allocated(f"job-{n}")) for n in range(1000)])
        clock.advance(101)
        states = cluster.observe(None).states
        cluster.close()
        failures = [state for state in states if state.phase is Phase.FAILED]
        assert all(state.reason is WorkloadReason.EXIT_CODE for state in failures)
        assert len({state.ended_at for state in failures}) > len(failures) / 2, "not all at the same point"
        return {state.job_id for state in failures}

    first = failed("first", seed=1)
    assert 150 < len(first) < 250
    assert failed("again", seed=1) == first
    assert failed("other", seed=2) != first


def test_another_revision_draws_its_own_luck():
    chance = Chance(failure_rate=0.5)
    drawn = {chance.failure_point("job", revision) is None for revision in range(1, 20)}
    assert drawn == {True, False}


def test_workloads_on_a_node_that_dies_fail_then(opened: Open, clock: ManualClock, path: Path):
    cluster = opened()
    apply(cluster, "on", node="n1")
    apply(cluster, "off", node="n2")
    cursor = cluster.observe(None).cursor
    clock.advance(5)
    assert cluster.kill_node("n1") == 1
    (state,) = cluster.observe(cursor).states
    assert (state.job_id, state.phase, state.reason) == ("on", Phase.FAILED, WorkloadReason.NODE_LOST)
    assert state.ended_at == at(5)
    assert {run.job_id: run.phase for run in run_log(path)} == {"on": Phase.FAILED, "off": Phase.RUNNING}
    assert apply(cluster, "next", node="n1").verdict is Verdict.APPLIED, "the node is back at once"


def test_a_workload_bound_to_a_dead_node_never_starts_and_is_given_up(opened: Open, clock: ManualClock, path: Path):
    cluster = opened()
    cluster.kill_node("n1", down_s=3600)
    outcome = apply(cluster, node="n1")
    assert outcome.state is not None
    assert (outcome.state.phase, outcome.state.started_at) == (Phase.PENDING, None)
    clock.advance(NODE_LOSS_DETECTED_S)
    state = only(cluster)
    assert (state.phase, state.reason, state.started_at) == (Phase.FAILED, WorkloadReason.NODE_LOST, None)
    assert run_log(path) == []


def test_a_planned_outage_ends_what_runs_on_its_node(opened: Open, clock: ManualClock):
    outage = Outage(node="n1", from_us=to_us(at(30)), until_us=to_us(at(60)))
    cluster = opened(outages=[outage])
    apply(cluster, "caught", node="n1", duration_s=50)
    apply(cluster, "before", node="n1", duration_s=20)
    clock.advance(61)
    assert {state.job_id: (state.phase, state.ended_at) for state in cluster.observe(None).states} == {
        "caught": (Phase.FAILED, at(30)),
        "before": (Phase.SUCCEEDED, at(20)),
    }
    outcome = apply(cluster, "after", node="n1")
    assert outcome.state is not None
    assert outcome.state.phase is Phase.RUNNING


def test_the_run_log_is_append_only(opened: Open, path: Path):
    apply(opened())
    with sqlite3.connect(path) as db:
        for statement in ("DELETE FROM runs", "UPDATE runs SET revision = 7"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                db.execute(statement)
    db.close()


def test_the_command_line_kills_a_node_and_lists_runs(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("SOLYX_STATE_DIR", str(tmp_path))
    apply(opened(), duration_s=1e9)
    assert main(["kill-node", SITE, "n1"]) == 0
    assert "1 workloads died" in capsys.readouterr().out
    assert main(["runs"]) == 0
    assert "node_lost" in capsys.readouterr().out
    assert main(["kill-node", "nowhere", "n1"]) == 2
    assert "nowhere" in capsys.readouterr().err


def test_the_command_line_names_a_wrong_setting(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SOLYX_HTTP_PORT", "many")
    assert main(["runs"]) == 2
    assert "SOLYX_HTTP_PORT" in capsys.readouterr().err


def test_a_list_of_runs_whose_reader_goes_ends_quietly(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SOLYX_STATE_DIR", str(tmp_path))
    apply(opened())
    theirs, ours = os.pipe()
    os.close(theirs)
    with os.fdopen(ours, "w") as pipe, redirect_stdout(pipe):
        assert main(["runs"]) == 0
    assert capsys.readouterr().err == ""
