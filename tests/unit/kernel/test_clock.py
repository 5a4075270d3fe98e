"""All processes of a replay agree on the time; it stands still until the replay's owner sets it going."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from solyx.clock import (
    ManualClock,
    ReplayClock,
    ReplayTime,
    new_id,
    new_span_id,
    new_trace_id,
    wall_s,
    write_replay_time,
)

if TYPE_CHECKING:
    from pathlib import Path

START = datetime(2023, 6, 1, tzinfo=UTC)


def test_a_replay_waits_at_its_start_until_it_is_set_going(tmp_path: Path) -> None:
    clock = ReplayClock(tmp_path / "clock.json", start=START, speed=3600)
    assert clock.now() == START
    write_replay_time(tmp_path / "clock.json", ReplayTime(wall_s() - 2, START, 3600))
    time.sleep(0.03)  # the file is looked for fifty times a second
    assert timedelta(hours=2) <= clock.now() - START < timedelta(hours=3)
    assert clock.speed == 3600


def test_two_processes_of_a_replay_agree(tmp_path: Path) -> None:
    file = tmp_path / "clock.json"
    write_replay_time(file, ReplayTime(wall_s(), START, 1000))
    one, other = (ReplayClock(file, start=START, speed=1) for _ in range(2))
    assert abs((one.now() - other.now()).total_seconds()) < 1000 * 0.1


def test_a_manual_clock_goes_only_when_it_is_moved() -> None:
    clock = ManualClock(START)
    clock.advance(90)
    assert clock.now() == START + timedelta(seconds=90)


def test_ids_are_unique_and_sort_by_time_of_creation() -> None:
    first = [new_id() for _ in range(500)]
    time.sleep(0.002)
    second = [new_id() for _ in range(500)]
    assert len({*first, *second}) == 1000
    assert max(first) < min(second)
    assert all(len(made) == 26 and made == made.lower() for made in first)


def test_trace_context_ids_have_the_lengths_of_the_w3c_format() -> None:
    assert len(new_trace_id()) == 32
    assert len(new_span_id()) == 16
