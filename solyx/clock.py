"""The only place that reads a clock or makes a random id.

Production runs on the wall clock. A replay runs all processes on one shared scenario time, ``start + (wall − epoch) × speed``,
which stands still at ``start`` until the replay's clock file exists: services that are still starting lose no scenario time.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

import msgspec


class Clock(Protocol):
    """Scenario time and how fast it passes."""

    def now(self) -> datetime:
        """The present, timezone-aware UTC."""
        ...

    @property
    def speed(self) -> float:
        """Scenario seconds in a wall second."""
        ...


class WallClock:
    """The time of the world."""

    speed = 1.0

    def now(self) -> datetime:
        """The present, UTC."""
        return datetime.now(UTC)


class ReplayTime(msgspec.Struct, frozen=True):
    """The clock file's content."""

    epoch_wall_s: float  # Unix time at which the replay's clock read ``start``
    start: datetime
    speed: float


class ReplayClock:
    """Scenario time from a clock file that the replay's owner writes once every service is ready."""

    def __init__(self, path: Path, *, start: datetime, speed: float) -> None:
        """``start`` and ``speed`` hold until the file appears."""
        self._path = path
        self._waiting = ReplayTime(0.0, start, speed)
        self._time: ReplayTime | None = None
        self._looked_at = 0.0

    @property
    def speed(self) -> float:
        """Scenario seconds in a wall second."""
        return (self._time or self._waiting).speed

    def now(self) -> datetime:
        """Scenario time, UTC."""
        wall = time.time()
        if self._time is None and wall - self._looked_at > 0.02:
            self._looked_at = wall
            self._time = read_replay_time(self._path)
        if self._time is None:
            return self._waiting.start
        return self._time.start + timedelta(seconds=(wall - self._time.epoch_wall_s) * self._time.speed)


def read_replay_time(path: Path) -> ReplayTime | None:
    """The clock file's content, or None while there is none."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=ReplayTime)
    except FileNotFoundError:
        return None


def write_replay_time(path: Path, replay_time: ReplayTime) -> None:
    """Set the replay's clock going; readers never see half a file."""
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(msgspec.json.encode(replay_time))
    temporary.replace(path)


class ManualClock:
    """A clock that a test or the simulator moves."""

    def __init__(self, now: datetime, *, speed: float = 1.0) -> None:
        self._now = now
        self.speed = speed

    def now(self) -> datetime:
        """The time that was set."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Move forward by scenario seconds."""
        self._now += timedelta(seconds=seconds)


def monotonic_s() -> float:
    """Seconds for measuring spans; their zero means nothing."""
    return time.monotonic()


def wall_s() -> float:
    """Unix time in seconds, whatever the scenario's time is."""
    return time.time()


_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32, in lower case
_sequence_lock = threading.Lock()
_last_ms = 0


def new_id() -> str:
    """A unique id of 26 characters that sorts by time of creation: 48 bits of milliseconds, 80 random bits (the ULID layout).

    Within one process ids never go backwards in their time part, so a page of ids stays a page.
    """
    global _last_ms  # noqa: PLW0603 - monotonic across the process
    with _sequence_lock:
        _last_ms = max(_last_ms, time.time_ns() // 1_000_000)
        number = (_last_ms << 80) | int.from_bytes(os.urandom(10))
    return "".join(_ALPHABET[(number >> shift) & 31] for shift in range(125, -1, -5))


def new_trace_id() -> str:
    """32 hexadecimal digits (W3C trace context)."""
    return uuid.uuid4().hex


def new_span_id() -> str:
    """16 hexadecimal digits (W3C trace context)."""
    return os.urandom(8).hex()
