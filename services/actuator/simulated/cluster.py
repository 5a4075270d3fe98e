"""The simulated cluster: a site's objects in one SQLite file, which outlives the actuator and which two actuators may use at once.

Nothing runs. What becomes of a workload is settled when it is applied (``course.py``); ends are entered lazily, when anybody
looks after they were due. The revision is checked inside the write transaction, so whichever of two actuators comes second
sees what the first did. A deleted workload leaves its row behind, as the fence against its return. ``synchronous=OFF`` is
enough: the file must survive the death of a process, not of the machine.

A workload that is deleted with a grace period ends as soon as its checkpoint is written, or when the period is over (``work.py``).
"""

from __future__ import annotations

import sqlite3
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec

from services.actuator.model import Apply, Changes, ClusterOutcome, Delete, Phase, Verdict, WorkloadState
from services.actuator.simulated.course import Chance, Outage, course, to_us
from services.actuator.simulated.objects import Due, Row, entered_outages, find, last_change, next_due, put, select
from services.actuator.simulated.schema import prepare, snapshot, transaction
from services.actuator.simulated.work import Checkpoints, Unacceptable, Work
from solyx.bus.port import Transient
from solyx.events import WorkloadReason

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence
    from pathlib import Path

    from solyx.clock import Clock
    from solyx.events import JobAllocated

LOCK_TIMEOUT_S = 5.0
LOOK_AT_MOST = 2000
"""Changed states that one incremental look returns; the rest comes with the next."""


_WORK = msgspec.json.Decoder(Work)


def cluster_file(state_dir: Path, site: str) -> Path:
    """Where the cluster of ``site`` lives."""
    return state_dir / "clusters" / f"{quote(site, safe='')}.sqlite"


class SimulatedCluster:
    """A ``ClusterTarget`` that simulates one site. Calls may come from any thread, one at a time."""

    def __init__(
        self,
        path: Path,
        clock: Clock,
        *,
        chance: Chance | None = None,
        checkpoints: Checkpoints | None = None,
        outages: Iterable[Outage] = (),
    ) -> None:
        self._path = path
        self._clock = clock
        self._chance = chance or Chance()
        self._checkpoints = checkpoints or Checkpoints()
        self._planned = tuple(outages)
        self._connection: sqlite3.Connection | None = None
        self._incarnation = ""
        self._lock = threading.Lock()

    # --------------------------------------------------------------------------------------------------- ClusterTarget

    def apply(self, workloads: Sequence[Apply]) -> list[ClusterOutcome]:
        """Start workloads, unless a revision forbids it."""
        with self._write() as (db, now_us):
            outages = [*self._planned, *entered_outages(db)]
            changed = last_change(db)
            outcomes: list[ClusterOutcome] = []
            for item in workloads:
                changed += 1
                outcomes.append(self._apply(db, item.allocation, now_us, outages, changed))
            return outcomes

    def _apply(
        self, db: sqlite3.Connection, allocation: JobAllocated, now_us: int, outages: list[Outage], changed: int
    ) -> ClusterOutcome:
        job_id, revision = allocation.job_id, allocation.revision
        row = find(db, job_id)
        if row is not None and (row.revision > revision or (row.revision == revision and not row.present)):
            what = f"revision {row.revision}" if row.present else f"a deletion of revision {row.revision}"
            message = f"refused: the cluster has seen {what}"
            return ClusterOutcome(job_id=job_id, revision=revision, verdict=Verdict.STALE, message=message)
        if row is not None and row.revision == revision:
            return ClusterOutcome(job_id=job_id, revision=revision, verdict=Verdict.APPLIED, state=row.state())
        try:
            ahead = course(
                allocation, now_us=now_us, chance=self._chance, checkpoints=self._checkpoints, outages=outages
            )
        except Unacceptable as error:
            return ClusterOutcome(job_id=job_id, revision=revision, verdict=Verdict.REJECTED, message=str(error))
        if row is not None:
            _kill_run(db, row, now_us)
        started_us = now_us if ahead.phase is Phase.RUNNING else None
        run_id = None if started_us is None else _start_run(db, allocation, ahead.work, started_us)
        new = Row(
            job_id=job_id,
            revision=revision,
            present=1,
            run_id=run_id,
            phase=ahead.phase,
            reason=WorkloadReason.APPLIED,
            message=ahead.message,
            started_us=started_us,
            ended_us=None,
            kept_us=ahead.work.done_us,
        )
        put(db, new, changed, due=Due(ahead.due_us, ahead.due_phase, ahead.due_reason, ahead.due_kept_us))
        return ClusterOutcome(job_id=job_id, revision=revision, verdict=Verdict.APPLIED, state=new.state())

    def delete(self, workloads: Sequence[Delete]) -> list[ClusterOutcome]:
        """Stop workloads and fence their revisions; what uses its grace period is fenced when it has ended."""
        with self._write() as (db, now_us):
            changed = last_change(db)
            outcomes: list[ClusterOutcome] = []
            for item in workloads:
                changed += 1
                outcomes.append(_delete(db, item, now_us, changed))
            return outcomes

    def observe(self, cursor: str | None) -> Changes:
        """What changed, after everything that is due was entered."""
        now_us = to_us(self._clock.now())
        with self._guarded() as db:
            due_us = next_due(db)
            if due_us is not None and due_us <= now_us:
                with transaction(db):
                    _settle(db, now_us)
            with snapshot(db):
                last, due_us = last_change(db), next_due(db)
                incarnation, _, position = (cursor or "").partition(":")
                complete = incarnation != self._incarnation
                if complete:
                    rows = select(db, "WHERE present = 1")
                else:
                    rows = select(db, "WHERE changed > ? ORDER BY changed LIMIT ?", int(position), LOOK_AT_MOST)
            more = not complete and len(rows) == LOOK_AT_MOST
            if more:
                last = db.execute("SELECT changed FROM workloads WHERE job_id = ?", (rows[-1].job_id,)).fetchone()[0]
        next_in_s = 0.0 if more else None if due_us is None else max(0, due_us - now_us) / 1e6 / self._clock.speed
        return Changes(
            states=tuple(row.state() for row in rows if row.present),
            cursor=f"{self._incarnation}:{last}",
            complete=complete,
            next_in_s=next_in_s,
        )

    # ------------------------------------------------------------------------------------------------- what may happen

    def kill_node(self, node: str, *, down_s: float = 0.0) -> int:
        """A node dies now and is back after ``down_s`` scenario seconds; returns how many workloads died with it."""
        with self._write() as (db, now_us):
            until_us = now_us + round(down_s * 1e6)
            db.execute("INSERT INTO outages VALUES (?, ?, ?)", (node, now_us, until_us))
            victims = db.execute(
                "SELECT DISTINCT w.job_id, w.started_us, w.due_kept_us, r.work"
                " FROM workloads w JOIN runs r USING (run_id), json_each(r.pods) pod"
                " WHERE w.due_us IS NOT NULL AND json_extract(pod.value, '$.node') = ?",
                (node,),
            ).fetchall()
            lost = (now_us, Phase.FAILED, WorkloadReason.NODE_LOST, f"node {node} died")
            db.executemany(
                "UPDATE workloads SET due_us = ?, due_phase = ?, due_reason = ?, message = ?, due_kept_us = ?"
                " WHERE job_id = ?",
                [
                    (*lost, _WORK.decode(work).kept_when_killed(now_us - started_us, at_most_us=due_kept_us), job_id)
                    for job_id, started_us, due_kept_us, work in victims
                ],
            )
            _settle(db, now_us)
            return len(victims)

    def lose(self, job_id: str) -> None:
        """Somebody deletes an object behind the actuator's back: it stops, and no fence stays."""
        with self._write() as (db, now_us):
            row = find(db, job_id)
            if row is not None and row.present:
                _kill_run(db, row, now_us)
                db.execute("DELETE FROM workloads WHERE job_id = ?", (job_id,))

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    # ------------------------------------------------------------------------------------------------------- the file

    @contextmanager
    def _guarded(self) -> Generator[sqlite3.Connection]:
        """The open file, to one thread. What SQLite cannot do now (locked, disk full) may work later."""
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = self._open()
                yield self._connection
            except sqlite3.OperationalError as error:
                raise Transient(f"{self._path}: {error}", after_s=0.1) from error

    @contextmanager
    def _write(self) -> Generator[tuple[sqlite3.Connection, int]]:
        """A write transaction, with the time after it was entered and everything due until then settled."""
        with self._guarded() as db, transaction(db):
            now_us = to_us(self._clock.now())
            _settle(db, now_us)
            yield db, now_us

    def _open(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(self._path, timeout=LOCK_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        try:
            self._incarnation = prepare(db, self._path)
        except BaseException:
            db.close()
            raise
        return db


def _settle(db: sqlite3.Connection, now_us: int) -> None:
    """Enter every end that is due."""
    rows = db.execute(
        "SELECT due_us, due_phase, due_reason, due_kept_us, run_id, job_id FROM workloads"
        " WHERE due_us <= ? ORDER BY due_us",
        (now_us,),
    ).fetchall()
    if not rows:
        return
    changed = last_change(db)
    db.executemany(
        "UPDATE workloads SET phase = ?, reason = ?, ended_us = ?, kept_us = ?, changed = ?, due_us = NULL"
        " WHERE job_id = ?",
        [(phase, why, due, kept, changed + n, job) for n, (due, phase, why, kept, _, job) in enumerate(rows, start=1)],
    )
    db.executemany(
        "INSERT INTO run_ends VALUES (?, ?, ?, ?, ?)",
        [(run_id, due_us, phase, why, kept) for due_us, phase, why, kept, run_id, _ in rows if run_id is not None],
    )


def _start_run(db: sqlite3.Connection, allocation: JobAllocated, work: Work, now_us: int) -> int:
    resources = allocation.spec.resources
    cursor = db.execute(
        "INSERT INTO runs (job_id, revision, pods, cpu_milli, memory_bytes, started_us, work)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            allocation.job_id,
            allocation.revision,
            msgspec.json.encode(allocation.pods),
            resources.cpu_milli,
            resources.memory_bytes,
            now_us,
            msgspec.json.encode(work),
        ),
    )
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def _work(db: sqlite3.Connection, run_id: int) -> Work:
    return _WORK.decode(db.execute("SELECT work FROM runs WHERE run_id = ?", (run_id,)).fetchone()[0])


def _kill_run(db: sqlite3.Connection, row: Row, now_us: int) -> None:
    """End the run of an object that is replaced, or goes behind the actuator's back."""
    if row.run_id is not None and not Phase(row.phase).ended:
        assert row.started_us is not None
        _end_run(db, row.run_id, now_us, _work(db, row.run_id).kept_when_killed(now_us - row.started_us))


def _end_run(db: sqlite3.Connection, run_id: int, now_us: int, kept_us: int) -> None:
    stopped = (run_id, now_us, Phase.STOPPED, WorkloadReason.RELEASED, kept_us)
    db.execute("INSERT INTO run_ends VALUES (?, ?, ?, ?, ?)", stopped)


def _delete(db: sqlite3.Connection, item: Delete, now_us: int, changed: int) -> ClusterOutcome:
    job_id, revision = item.job_id, item.revision
    row = find(db, job_id)
    if row is not None and row.revision > revision:
        message = f"refused: the cluster has seen revision {row.revision}"
        state = _last_run(db, job_id, revision)
        return ClusterOutcome(job_id=job_id, revision=revision, verdict=Verdict.STALE, message=message, state=state)
    fence = Row(job_id, revision, 0, None, Phase.STOPPED, WorkloadReason.RELEASED, "", None, now_us, 0)
    if row is None:
        end = fence
    elif row.revision < revision:
        _kill_run(db, row, now_us)
        end = fence
    elif Phase(row.phase).ended:  # an end that came by itself stands, and so does an earlier deletion
        end = row._replace(present=0)
    elif row.run_id is None:
        end = fence._replace(kept_us=row.kept_us)
    else:
        stopped = _stop(db, row, row.run_id, item.grace_s, now_us)
        if stopped is None:
            return ClusterOutcome(job_id=job_id, revision=revision, verdict=Verdict.APPLIED, state=row.state())
        end = stopped
    if row is None or row.present or row.revision < revision:
        put(db, end, changed)
    return ClusterOutcome(job_id=job_id, revision=revision, verdict=Verdict.APPLIED, state=end.state())


def _stop(db: sqlite3.Connection, row: Row, run_id: int, grace_s: float, now_us: int) -> Row | None:
    """Tell a running workload to stop; None: it writes its checkpoint first, until its end is due.

    One that was told before goes on writing, unless it is now to be killed sooner.
    """
    due_us, due_phase, due_kept_us = db.execute(
        "SELECT due_us, due_phase, due_kept_us FROM workloads WHERE job_id = ?", (row.job_id,)
    ).fetchone()
    assert row.started_us is not None
    work, grace_us, ran_us = _work(db, run_id), round(grace_s * 1e6), now_us - row.started_us
    told = due_phase == Phase.STOPPED
    kept_us = work.kept_when_killed(ran_us, at_most_us=due_kept_us) if told else work.kept_when_told(ran_us, grace_us)
    stop_us = now_us + min(grace_us, work.write_us)
    if stop_us > now_us:
        if stop_us < due_us:  # else it ends by itself before, or has been told already
            db.execute(
                "UPDATE workloads SET due_us = ?, due_phase = ?, due_reason = ?, due_kept_us = ? WHERE job_id = ?",
                (stop_us, Phase.STOPPED, WorkloadReason.RELEASED, kept_us, row.job_id),
            )
        return None
    _end_run(db, run_id, now_us, kept_us)
    return row._replace(
        present=0, phase=Phase.STOPPED, reason=WorkloadReason.RELEASED, message="", ended_us=now_us, kept_us=kept_us
    )


def _last_run(db: sqlite3.Connection, job_id: str, revision: int) -> WorkloadState | None:
    """How a revision ended that was replaced by a higher one."""
    row = db.execute(
        "SELECT r.job_id, r.revision, 0, r.run_id, e.phase, e.reason, '', r.started_us, e.ended_us, e.kept_us"
        " FROM runs r JOIN run_ends e USING (run_id) WHERE r.job_id = ? AND r.revision = ? ORDER BY run_id DESC LIMIT 1",
        (job_id, revision),
    ).fetchone()
    return None if row is None else Row._make(row).state()
