"""The objects of a simulated cluster, as rows of its file: one a job, its workload or the fence that a deletion left."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from services.actuator.model import Phase, WorkloadState
from services.actuator.simulated.course import Outage, from_us
from solyx.events import WorkloadReason

if TYPE_CHECKING:
    import sqlite3


class Row(NamedTuple):
    job_id: str
    revision: int
    present: int
    run_id: int | None
    phase: str
    reason: str
    message: str
    started_us: int | None
    ended_us: int | None
    kept_us: int

    def state(self) -> WorkloadState:
        return WorkloadState(
            job_id=self.job_id,
            revision=self.revision,
            phase=Phase(self.phase),
            reason=WorkloadReason(self.reason),
            message=self.message,
            started_at=None if self.started_us is None else from_us(self.started_us),
            ended_at=None if self.ended_us is None else from_us(self.ended_us),
            progress_s=self.kept_us / 1e6,
        )


_COLUMNS = ", ".join(Row._fields)


class Due(NamedTuple):
    """How and when a workload will end if nobody interferes."""

    us: int
    phase: str
    reason: str
    kept_us: int


def select(db: sqlite3.Connection, where: str, *parameters: object) -> list[Row]:
    rows = db.execute(f"SELECT {_COLUMNS} FROM workloads {where}", parameters)  # noqa: S608 - no user input
    return [Row._make(row) for row in rows]


def find(db: sqlite3.Connection, job_id: str) -> Row | None:
    rows = select(db, "WHERE job_id = ?", job_id)
    return rows[0] if rows else None


def put(db: sqlite3.Connection, row: Row, changed: int, *, due: Due | None = None) -> None:
    values = (*row, *(due or (None, None, None, None)), changed)
    db.execute(f"INSERT OR REPLACE INTO workloads VALUES ({', '.join('?' * len(values))})", values)  # noqa: S608 - placeholders


def last_change(db: sqlite3.Connection) -> int:
    return db.execute("SELECT max(changed) FROM workloads").fetchone()[0] or 0


def next_due(db: sqlite3.Connection) -> int | None:
    return db.execute("SELECT min(due_us) FROM workloads WHERE due_us IS NOT NULL").fetchone()[0]


def entered_outages(db: sqlite3.Connection) -> list[Outage]:
    rows = db.execute("SELECT node, from_us, until_us FROM outages")
    return [Outage(node=node, from_us=from_us_, until_us=until_us) for node, from_us_, until_us in rows]
