"""Prices that climb, on a dual whose summit a reader can see."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from simulator.ascent import ascend

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


def two_jobs_and_one_place(prices: Floats) -> tuple[float, Floats]:
    """Both would run in the first hour at 100, or else in the second at 103; each hour has room for one. The best is 203."""
    rates = np.array([[100.0, 103.0]]) + prices
    hour = int(rates.argmin())
    slope = np.full_like(prices, -1.0)
    slope[0, hour] += 2.0
    return float(2.0 * rates[0, hour] - prices.sum()), slope


def test_they_climb_to_where_nobody_gains_by_another_hour() -> None:
    found = ascend(two_jobs_and_one_place, np.zeros((1, 2)), rounds=40)
    assert 202.9 < two_jobs_and_one_place(found)[0] <= 203.0


def test_no_price_is_ever_negative() -> None:
    seen: list[Floats] = []

    def watched(prices: Floats) -> tuple[float, Floats]:
        seen.append(prices)
        return two_jobs_and_one_place(prices)

    ascend(watched, np.array([[0.0, 0.1]]), rounds=10)
    assert len(seen) == 10
    assert min(float(prices.min()) for prices in seen) >= 0.0


def test_the_best_that_was_seen_counts_also_when_it_came_first() -> None:
    start = np.array([[3.0, 0.0]])
    assert (ascend(two_jobs_and_one_place, start, rounds=10) == start).all()


def test_it_tells_how_far_it_is_and_is_the_same_each_time() -> None:
    shares: list[float] = []
    first = ascend(two_jobs_and_one_place, np.zeros((1, 2)), rounds=7, progress=shares.append)
    assert shares == [(done + 1) / 7 for done in range(7)]
    assert (ascend(two_jobs_and_one_place, np.zeros((1, 2)), rounds=7) == first).all()
