"""Builders for the forecaster's cases."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import msgspec
import numpy as np
import pytest

from services.forecaster.core.partition import LayoutCache, PartitionWindows, Scrape
from services.forecaster.core.windows import SourceWindows
from services.forecaster.model import WindowSpec

NOON_S = 1_767_268_800  # 2026-01-01T12:00:00Z, a multiple of every window size in the cases
FAR_FUTURE_US = (NOON_S + 10_000_000) * 1_000_000


@pytest.fixture
def make_source() -> Callable[..., SourceWindows]:
    def make(windows: str = "60", *, lateness_s: float = 60.0, most_series: int = 1000) -> SourceWindows:
        specs = [WindowSpec.parse(text) for text in windows.split(",")]
        return SourceWindows(specs, lateness_s=lateness_s, most_series=most_series)

    return make


class Partition:
    """A partition's windows, and events for them."""

    def __init__(self, windows: str, update_s: float) -> None:
        specs = [WindowSpec.parse(text) for text in windows.split(",")]
        self.windows = PartitionWindows(3, specs, lateness_s=60.0, most_series=1000, update_s=update_s)
        self.layouts = LayoutCache()

    def fold(
        self,
        source: str,
        at_s: float,
        values: dict[str, float],
        *,
        times_s: Sequence[float] = (),
    ) -> int:
        scrape = Scrape(
            source,
            datetime.fromtimestamp(NOON_S + at_s, UTC),
            msgspec.Raw(msgspec.json.encode(list(values))),
            list(values.values()),
            [NOON_S + time_s for time_s in times_s],
        )
        return self.windows.fold(scrape, self.layouts, FAR_FUTURE_US)

    def due(self, now_s: float, *, time_left: bool = True) -> list[tuple[str, int, int, int]]:
        """(source, start, size, samples of the first series) of what is due, start and size in s, start from noon."""
        found = self.windows.due(now_s, time_left=lambda: time_left)
        return [
            (name, a.start_us // 1_000_000 - NOON_S, (a.end_us - a.start_us) // 1_000_000, int(a.count[0]))
            for name, a in found
        ]


@pytest.fixture
def make_partition() -> Callable[..., Partition]:
    def make(windows: str = "60", *, update_s: float = 1.0) -> Partition:
        return Partition(windows, update_s)

    return make


@pytest.fixture
def us() -> Callable[[float], int]:
    return lambda at_s: int((NOON_S + at_s) * 1_000_000)


@pytest.fixture
def hourly() -> Callable[..., np.ndarray]:
    """A series with a day, a week and noise, seeded."""

    def make(days: int, *, noise: float = 1.0, seed: int = 7) -> np.ndarray:
        hours = np.arange(days * 24)
        rng = np.random.default_rng(seed)
        shape = 50 + 20 * np.sin(2 * np.pi * hours / 24) + 5 * (hours // 24 % 7 >= 5)
        return shape + noise * rng.normal(size=len(hours))

    return make
