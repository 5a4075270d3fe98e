"""A history laid out by day and week: what a seasonal mean says of each step, as known one, two, … days before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from services.forecaster.core.sketch import Floats, Ints

DAY_S = 86_400
MAX_LEAD_S = 7 * DAY_S
"""Whole weeks back are looked at, so no further ahead than one is seen."""

KEPT_DAYS = 56
"""Of the history; seasonal means of its first day look back 28 more."""

_LEAST_DAYS = 5
_LEVEL_FADES_S = 36 * 3600


@dataclass(frozen=True, kw_only=True, eq=False)
class Seasons:
    """The last 56 days and the steps to forecast. A position counts from the first of these values on."""

    values: Floats  # NaN: a gap, or still to come
    origin: int  # position of the last known value
    step_s: int
    leads: Ints  # 1, 2, …: the steps to forecast
    last: Floats  # over (days back, position): the value of the same hour so many days before
    week: Floats  # over position: the median of that hour of the week over the last 4 weeks
    seasonal: Floats  # over (days back, position): the mean of the two and the median of that hour over 4 days
    off: Floats  # over position: value less seasonal mean of a day before; 0: unknown

    @classmethod
    def of(cls, values: Floats, step_s: int, steps: int) -> Seasons | None:
        """``values`` end with a known one. None: less than five days of history, or less than half of these known."""
        day = DAY_S // step_s
        if len(values) < _LEAST_DAYS * day or np.isfinite(values[-_LEAST_DAYS * day :]).mean() < 0.5:
            return None
        leads = np.arange(1, steps + 1)
        origin = len(values) - 1
        values = np.concatenate([values, np.full(steps, np.nan)])
        first = max(0, origin - KEPT_DAYS * day)
        last, week, seasonal = by_season(values, first, day, -(-steps // day))
        off = np.nan_to_num(values[first:] - seasonal[0])
        return cls(
            values=values[first:],
            origin=origin - first,
            step_s=step_s,
            leads=leads,
            last=last,
            week=week,
            seasonal=seasonal,
            off=off,
        )

    @property
    def day(self) -> int:
        """Steps of a day."""
        return DAY_S // self.step_s

    def mean(self, origins: Ints) -> Floats:
        """Over (origin, lead): the seasonal mean known then, and what it missed last, fading."""
        at = origins[:, None] + self.leads
        fade = np.exp(-self.leads * self.step_s / _LEVEL_FADES_S)
        return self.seasonal[-(-self.leads // self.day) - 1, at] + self.off[origins][:, None] * fade


def by_season(values: Floats, first: int, day: int, days_back: int) -> tuple[Floats, Floats, Floats]:
    """``last``, ``week`` and ``seasonal`` of ``Seasons`` for every position from ``first`` on."""
    lags = np.stack([_lagged(values, first, day * (1 + back)) for back in range(days_back + 3)])
    week = _median(np.stack([_lagged(values, first, day * 7 * (1 + more)) for more in range(4)]))
    seasonal = np.stack(
        [_known_mean(np.stack([lags[back], _median(lags[back : back + 4]), week])) for back in range(days_back)]
    )
    return lags[:days_back], week, seasonal


def _known_mean(parts: Floats) -> Floats:
    """The mean of each column, gaps left out."""
    mean = parts.sum(axis=0) / len(parts)
    gaps = np.isnan(mean)
    if gaps.any():
        known = np.isfinite(parts[:, gaps])
        total, count = np.where(known, parts[:, gaps], 0.0).sum(axis=0), known.sum(axis=0)
        mean[gaps] = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return mean


def _lagged(values: Floats, first: int, lag: int) -> Floats:
    start = first - lag
    if start >= 0:
        return values[start : len(values) - lag]
    return np.concatenate([np.full(min(-start, len(values) - first), np.nan), values[: max(0, len(values) - lag)]])


def _median(rows: Floats) -> Floats:
    """The median of each column of four rows, gaps left out."""
    one, two, three, four = rows
    middle = np.maximum(np.minimum(one, two), np.minimum(three, four))
    middle += np.minimum(np.maximum(one, two), np.maximum(three, four))
    middle /= 2
    gaps = np.isnan(middle)
    if gaps.any():
        middle[gaps] = _known_median(rows[:, gaps])
    return middle


def _known_median(rows: Floats) -> Floats:
    ordered = np.sort(rows, axis=0)  # NaN goes last
    count = np.isfinite(ordered).sum(axis=0)
    low = np.take_along_axis(ordered, np.maximum((count - 1) // 2, 0)[None], axis=0)[0]
    high = np.take_along_axis(ordered, np.minimum(count // 2, len(rows) - 1)[None], axis=0)[0]
    return np.where(count > 0, (low + np.where(count > 0, high, 0.0)) / 2, np.nan)
