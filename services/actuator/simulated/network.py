"""The simulated network: which route each pair of sites has, in one SQLite file that outlives the actuator."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from typing import TYPE_CHECKING

import msgspec

from services.actuator.model import InstalledRoute, RouteOutcome, Verdict
from solyx.bus.port import Transient

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from solyx.clock import Clock
    from solyx.events import RouteDecided

LOCK_TIMEOUT_S = 5.0

_SCHEMA = """
CREATE TABLE IF NOT EXISTS routes (
  key TEXT PRIMARY KEY, revision INTEGER NOT NULL, path BLOB NOT NULL, backup BLOB NOT NULL
) WITHOUT ROWID
"""


def network_file(state_dir: Path) -> Path:
    """Where the network lives."""
    return state_dir / "clusters" / "network.routes"


class SimulatedNetwork:
    """A ``NetworkTarget`` that keeps routes and carries nothing. Calls may come from any thread."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._lock = threading.Lock()

    def apply(self, routes: Sequence[RouteDecided]) -> list[RouteOutcome]:
        """Install routes, unless a higher revision is there."""
        now = self._clock.now()
        outcomes: list[RouteOutcome] = []
        try:
            with self._lock, closing(self._open()) as db, db:
                db.execute("BEGIN IMMEDIATE")
                for route in routes:
                    row = db.execute("SELECT revision FROM routes WHERE key = ?", (route.key,)).fetchone()
                    if row is not None and row[0] > route.revision:
                        message = f"refused: the network has revision {row[0]}"
                        outcomes.append(RouteOutcome(route=route, verdict=Verdict.STALE, message=message))
                        continue
                    path, backup = msgspec.json.encode(route.path), msgspec.json.encode(route.backup)
                    db.execute(
                        "INSERT OR REPLACE INTO routes VALUES (?, ?, ?, ?)", (route.key, route.revision, path, backup)
                    )
                    outcomes.append(RouteOutcome(route=route, verdict=Verdict.APPLIED, at=now))
        except sqlite3.OperationalError as error:
            raise Transient(f"{self._path}: {error}", after_s=0.1) from error
        return outcomes

    def observe(self) -> list[InstalledRoute]:
        """All routes."""
        try:
            with self._lock, closing(self._open()) as db:
                rows = db.execute("SELECT key, revision FROM routes ORDER BY key").fetchall()
        except sqlite3.OperationalError as error:
            raise Transient(f"{self._path}: {error}", after_s=0.1) from error
        return [InstalledRoute(key=key, revision=revision) for key, revision in rows]

    def _open(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(self._path, timeout=LOCK_TIMEOUT_S)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = OFF")
        db.execute(_SCHEMA)
        return db
