"""An actuator on clusters in a temporary directory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from solyx.clock import ManualClock
from tests.unit.actuator.actuator_cases import START, Actuator


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture
def actuator(tmp_path: Path, clock: ManualClock) -> Iterator[Actuator]:
    actuator = Actuator(tmp_path, clock, [], [])
    yield actuator
    actuator.close()
