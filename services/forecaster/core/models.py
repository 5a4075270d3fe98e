"""Forecasting models behind one interface: a history in, mean and interval for each coming step out.

All are deterministic functions of the history, so that a replay forecasts the same. A missing value is skipped, never guessed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from services.forecaster.core.sketch import Floats, Ints

DAY_S = 86_400
WEEK_S = 7 * DAY_S
MAX_LEAD_S = WEEK_S
"""The seasonal model looks at whole weeks back, so it sees no further ahead than one."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Prediction:
    """``mean[k]`` and its interval for the k-th step after the history's end."""

    mean: Floats
    lower: Floats
    upper: Floats
    model: str  # what really made it


class Forecaster(Protocol):
    """A model."""

    name: str

    def predict(self, values: Floats, step_s: int, steps: int, level: float) -> Prediction | None:
        """Forecast ``steps`` steps after the last of ``values`` (which is known; NaN: a gap before it).

        ``level`` is the share of outcomes that the interval is meant to hold. None: too little data for this model.
        """
        ...


class SeasonalNaive:
    """Weekly and daily seasonal naive with a fading level correction, and a conformal interval for each lead.

    mean(t) = ⅓ · (same hour of the last known day + median of that hour over the last 4 known days + median of that hour
    of the week over 4 weeks) + 0.8 · (error of the same formula at the last known step) · exp(−lead / 36 h).
    Its interval is ± a quantile of its own absolute errors at that lead over the last 56 days, each weighing half of one
    14 days younger (weighted conformal prediction: Barber, Candès, Ramdas, Tibshirani, "Conformal prediction beyond exchangeability",
    Annals of Statistics 2023, section 4). The quantile asked for is 1 − 0.8 · (1 − level): errors of the coming days are larger
    than those of the past ones that are known, and with the plain level 88 % came true where 90 % was asked.

    Every constant was chosen on the hourly prices and carbon intensities of four grids in 2021–2022 (README.md has the figures).
    """

    name = "seasonal_naive"

    def predict(self, values: Floats, step_s: int, steps: int, level: float) -> Prediction | None:
        """See ``Forecaster``; wants five days of history of which half is known."""
        day = DAY_S // step_s
        if len(values) < _SEASONAL_DAYS * day or np.isfinite(values[-_SEASONAL_DAYS * day :]).mean() < 0.5:
            return None
        leads = np.arange(1, steps + 1)
        values = np.concatenate([values, np.full(steps, np.nan)])
        origin = len(values) - steps - 1
        first = max(0, origin - _ERROR_DAYS * day)
        ahead = -(-leads // day)  # days that the last known same hour lies back
        seasons = np.stack([_seasonal(values, first, back, day) for back in range(1, int(ahead[-1]) + 1)])
        off = np.nan_to_num(values[first:] - seasons[0])  # what the formula missed at each step
        fade = _LEVEL_WEIGHT * np.exp(-leads * step_s / _LEVEL_FADES_S)

        def mean(origins: Ints) -> Floats:
            at = origins[:, None] + leads
            return seasons[ahead - 1, at] + off[origins][:, None] * fade

        here = mean(np.array([origin - first]))[0]
        if np.isnan(here).any():
            here = np.where(np.isnan(here), np.nanmedian(values[first:]), here)
        every = max(1, 5 * 3600 // step_s)  # 5 hours: all hours of the day take part
        origins = np.arange(origin - first - every, -1, -every)
        if not len(origins):
            return None
        # The origin's future is unknown and values past it are NaN, so an error that is not known yet cannot take part.
        errors = np.abs(values[first:][np.minimum(origins[:, None] + leads, len(off) - 1)] - mean(origins))
        errors[origins[:, None] + leads > origin - first] = np.nan
        age_s = (origin - first - origins) * float(step_s)
        share = 1.0 - _MISS_SHARE * (1.0 - level)
        half = _weighted_quantile(errors, 0.5 ** (age_s / _HALF_LIFE_S), share)
        if half is None:
            return None
        return Prediction(mean=here, lower=here - half, upper=here + half, model=self.name)


_SEASONAL_DAYS = 5
_ERROR_DAYS = 56
_HALF_LIFE_S = 14 * DAY_S
_LEVEL_WEIGHT = 0.8
_LEVEL_FADES_S = 36 * 3600
_MISS_SHARE = 0.8
_ENOUGH_ERRORS = 10


def _seasonal(values: Floats, first: int, back: int, day: int) -> Floats:
    """The seasonal mean of every step from ``first`` on, as known ``back`` days before it."""
    days = np.stack([_lagged(values, first, day * (back + more)) for more in range(4)])
    weeks = np.stack([_lagged(values, first, day * 7 * (1 + more)) for more in range(4)])
    parts = np.stack([days[0], _median(days), _median(weeks)])
    known = np.isfinite(parts)
    count = known.sum(axis=0)
    return np.where(count > 0, np.where(known, parts, 0.0).sum(axis=0) / np.maximum(count, 1), np.nan)


def _lagged(values: Floats, first: int, lag: int) -> Floats:
    start = first - lag
    if start >= 0:
        return values[start : len(values) - lag]
    return np.concatenate([np.full(min(-start, len(values) - first), np.nan), values[: max(0, len(values) - lag)]])


def _median(rows: Floats) -> Floats:
    """The median of each column, gaps left out."""
    ordered = np.sort(rows, axis=0)  # NaN goes last
    count = np.isfinite(ordered).sum(axis=0)
    low = np.take_along_axis(ordered, np.maximum((count - 1) // 2, 0)[None], axis=0)[0]
    high = np.take_along_axis(ordered, np.minimum(count // 2, len(rows) - 1)[None], axis=0)[0]
    return np.where(count > 0, (low + np.where(count > 0, high, 0.0)) / 2, np.nan)


def _weighted_quantile(errors: Floats, weights: Floats, share: float) -> Floats | None:
    """The weighted ``share``-quantile of each column; a column with too few errors takes the widest before it.

    None: not even the first column has enough.
    """
    order = np.argsort(errors, axis=0)
    ordered = np.take_along_axis(errors, order, axis=0)
    weight = np.where(np.isfinite(ordered), weights[order], 0.0)
    reached = np.cumsum(weight, axis=0)
    enough = np.isfinite(ordered).sum(axis=0) >= _ENOUGH_ERRORS
    total = np.maximum(reached[-1], 1e-300)
    at = (reached >= share * total * (1 - 1e-12)).argmax(axis=0)
    found = np.take_along_axis(ordered, at[None], axis=0)[0]
    if not enough[0]:
        return None
    widest = np.maximum.accumulate(np.where(enough, found, -np.inf))
    return np.where(enough, found, widest)


class Persistence:
    """The last known value goes on; its interval is what past values did at that lead. For series too young for seasons."""

    name = "persistence"

    def predict(self, values: Floats, step_s: int, steps: int, level: float) -> Prediction | None:
        """See ``Forecaster``; wants twelve known values."""
        recent = values[-(7 * DAY_S // step_s) :]
        if np.isfinite(recent).sum() < _PERSISTENCE_VALUES:
            return None
        share = 1.0 - _MISS_SHARE * (1.0 - level)
        half = np.zeros(steps)
        widest = 0.0
        for lead in range(1, steps + 1):
            moved = np.abs(recent[lead:] - recent[:-lead]) if lead < len(recent) else recent[:0]
            moved = moved[np.isfinite(moved)]
            if len(moved) >= _ENOUGH_ERRORS:
                widest = max(widest, float(np.quantile(moved, share)))
            half[lead - 1] = widest
        mean = np.full(steps, float(values[-1]))
        return Prediction(mean=mean, lower=mean - half, upper=mean + half, model=self.name)


_PERSISTENCE_VALUES = 12


def first_that_can(
    models: tuple[Forecaster, ...], values: Floats, step_s: int, steps: int, level: float
) -> Prediction | None:
    """The prediction of the first model with enough data, under that model's own name."""
    for model in models:
        prediction = model.predict(values, step_s, steps, level)
        if prediction is not None:
            return prediction
    return None
