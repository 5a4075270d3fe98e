"""The file of a simulated cluster: its tables, its version, and transactions on it."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING

from solyx.clock import new_id
from solyx.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

VERSION = 2

_SCHEMA = """
CREATE TABLE workloads (          -- one row a job: its object, or the fence that a deletion left
  job_id TEXT PRIMARY KEY,
  revision INTEGER NOT NULL,
  present INTEGER NOT NULL,       -- 1: the object exists; 0: fence
  run_id INTEGER,                 -- NULL: it never ran
  phase TEXT NOT NULL,
  reason TEXT NOT NULL,
  message TEXT NOT NULL,
  started_us INTEGER,
  ended_us INTEGER,
  kept_us INTEGER NOT NULL,       -- work that a checkpoint keeps, of this run and those before it
  due_us INTEGER,                 -- when it will end; NULL: it has
  due_phase TEXT,
  due_reason TEXT,
  due_kept_us INTEGER,
  changed INTEGER NOT NULL        -- grows with every change; the watch's cursor
);
CREATE INDEX workloads_due ON workloads (due_us) WHERE due_us IS NOT NULL;
CREATE INDEX workloads_changed ON workloads (changed);
CREATE TABLE outages (node TEXT NOT NULL, from_us INTEGER NOT NULL, until_us INTEGER NOT NULL);
CREATE TABLE runs (               -- the run log, append-only
  run_id INTEGER PRIMARY KEY,
  job_id TEXT NOT NULL,
  revision INTEGER NOT NULL,
  pods BLOB NOT NULL,             -- JSON: index, node and devices of each
  cpu_milli INTEGER NOT NULL,     -- of one pod
  memory_bytes INTEGER NOT NULL,  -- of one pod
  started_us INTEGER NOT NULL,
  work BLOB NOT NULL              -- JSON: what was left to do
);
CREATE INDEX runs_job ON runs (job_id, revision);
CREATE TABLE run_ends (
  run_id INTEGER PRIMARY KEY REFERENCES runs,
  ended_us INTEGER NOT NULL,
  phase TEXT NOT NULL,
  reason TEXT NOT NULL,
  kept_us INTEGER NOT NULL
);
CREATE TRIGGER runs_stay BEFORE UPDATE ON runs BEGIN SELECT RAISE(ABORT, 'the run log is append-only'); END;
CREATE TRIGGER runs_last BEFORE DELETE ON runs BEGIN SELECT RAISE(ABORT, 'the run log is append-only'); END;
CREATE TRIGGER ends_stay BEFORE UPDATE ON run_ends BEGIN SELECT RAISE(ABORT, 'the run log is append-only'); END;
CREATE TRIGGER ends_last BEFORE DELETE ON run_ends BEGIN SELECT RAISE(ABORT, 'the run log is append-only'); END;
CREATE TABLE identity (incarnation TEXT NOT NULL);
"""


def prepare(db: sqlite3.Connection, path: Path) -> str:
    """Make the tables in a new file; the file's incarnation, by which a cursor of a former file is told apart."""
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = OFF")
    with transaction(db):
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            for statement in _statements(_SCHEMA):
                db.execute(statement)
            db.execute("INSERT INTO identity VALUES (?)", (new_id(),))
            db.execute(f"PRAGMA user_version = {VERSION}")
        elif version != VERSION:
            raise SettingsError(f"{path} was written by another version of Solyx; start with --fresh")
    return db.execute("SELECT incarnation FROM identity").fetchone()[0]


def _statements(script: str) -> Generator[str]:
    """The statements of a script, each complete (a trigger has semicolons inside)."""
    statement = ""
    for line in script.splitlines():
        statement += line + "\n"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


@contextmanager
def transaction(db: sqlite3.Connection) -> Generator[None]:
    """A write transaction; whoever else writes waits."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


@contextmanager
def snapshot(db: sqlite3.Connection) -> Generator[None]:
    """Several reads of one state."""
    db.execute("BEGIN")
    try:
        yield
    finally:
        db.execute("COMMIT")
