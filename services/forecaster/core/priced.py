"""Carbon intensity in hours whose price is published already: the seasonal naive, corrected by what the price says.

A day-ahead price is made from the load, the wind and the sun that the market expects, and so tells how clean the coming day is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from services.forecaster.core.history import leading
from services.forecaster.core.models import Prediction, SeasonalNaive
from services.forecaster.core.seasons import KEPT_DAYS, Seasons, by_season

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from services.forecaster.core.sketch import Floats, Ints


class Priced:
    """See ``Forecaster``: the seasonal naive with, for the leading steps whose price is known, a correction by ridge regression.

    What the seasonal naive misses is regressed on what it missed lately and on how the price departs from its own seasonal mean: a
    regression with an exogenous input that is fitted anew for each forecast on a rolling window, as the LEAR model is (Lago, Marcjasz,
    De Schutter, Weron: "Forecasting day-ahead electricity prices", Applied Energy 293, 2021, section 4), with a ridge in place of the
    lasso. Prices count as the arcsinh of their distance from the median in MADs (Uniejewski, Weron, Ziel: "Variance stabilizing
    transformations for electricity spot price forecasting", IEEE Transactions on Power Systems 33, 2018). One fit a day ahead, on
    the forecasts that would have been made at this hour of the 55 days before, each weighing half of one 20 days younger. Inputs
    and errors count up to four of their robust deviations, so that no spike rules the fit.

    The interval is the seasonal naive's, moved: rather too wide than too narrow.
    """

    name = "seasonal_priced"

    def __init__(self, prices: Floats) -> None:
        """``prices`` stand beside the values and the steps to forecast; NaN: not known."""
        self._prices = prices

    def predict(self, values: Floats, step_s: int, steps: int, level: float) -> Prediction | None:
        """See ``Forecaster``; None too where the price of the next step is unknown, or too few past days had both."""
        seasons = Seasons.of(values, step_s, steps)
        if seasons is None:
            return None
        reach = leading(self._prices[len(values) : len(values) + steps])
        plain = SeasonalNaive().of(seasons, level) if reach else None
        if plain is None:
            return None
        first = len(values) - 1 - seasons.origin
        prices = _scaled(self._prices, slice(first, len(values)))
        if prices is None:
            return None
        price_last, _, price_seasonal = by_season(prices, first, seasons.day, len(seasons.last))
        price = _Price(now=prices[first:], last=price_last, seasonal=price_seasonal)
        moved = np.zeros(steps)
        for back in range(-(-reach // seasons.day)):
            moved[back * seasons.day : reach][: seasons.day] = _corrections(seasons, price, back, reach)
        beyond = seasons.leads[reach:] - reach
        moved[reach:] = moved[max(0, reach - seasons.day) : reach].mean() * np.exp(-beyond * step_s / _FADES_S)
        if not moved.any():
            return None
        return Prediction(
            mean=plain.mean + moved, lower=plain.lower + moved, upper=plain.upper + moved, model=self.name
        )


_FIT_DAYS = KEPT_DAYS - 1
_FIT_HALF_LIFE_DAYS = 20.0
_RIDGE = 0.02
_MOST_DEVIATIONS = 4.0
_LEAST_DAYS = 14
_FADES_S = 72 * 3600
_TO_DEVIATION = 1.4826  # of a median absolute deviation: the standard deviation of a normal distribution with it


@dataclass(frozen=True, kw_only=True, eq=False)
class _Price:
    """The price at the positions of ``Seasons``."""

    now: Floats
    last: Floats
    seasonal: Floats


def _corrections(seasons: Seasons, price: _Price, back: int, reach: int) -> Floats:
    """What to add to the seasonal naive at the known steps that lie ``back`` to ``back`` + 1 days ahead; 0 where nothing can be said."""
    days = np.arange(min(_FIT_DAYS, seasons.origin // seasons.day) + 1)
    origins = seasons.origin - seasons.day * days
    leads = np.arange(back * seasons.day, min((back + 1) * seasons.day, reach)) + 1
    missed = seasons.values[origins[:, None] + leads] - seasons.mean(origins)[:, leads - 1]
    inputs = _inputs(seasons, price, back, origins, leads)
    usable: NDArray[np.bool_] = np.logical_and.reduce(np.isfinite(inputs), axis=2)
    fit = usable & np.isfinite(missed)
    if np.count_nonzero(fit.any(axis=1)) < _LEAST_DAYS:
        return np.zeros(len(leads))
    y, x = missed[fit], inputs[fit]
    deviation, deviations = _deviation(y), _deviation(x)
    y, x = _bounded(y, deviation), _bounded(x, deviations)
    weight = np.broadcast_to(0.5 ** (days[:, None] / _FIT_HALF_LIFE_DAYS), fit.shape)[fit]
    weighed = (x * weight[:, None]).T
    factors = np.linalg.solve(weighed @ x + _RIDGE * weight.sum() * np.eye(x.shape[1]), weighed @ y)
    here = _bounded(np.nan_to_num(inputs[0]), deviations) @ factors
    return np.where(usable[0], deviation * here, 0.0)


def _inputs(seasons: Seasons, price: _Price, back: int, origins: Ints, leads: Ints) -> Floats:
    """Over (origin, lead, input)."""
    at = origins[:, None] + leads
    hours = leads * seasons.step_s / 3600.0
    seasonal = seasons.seasonal[back, at]
    dearer = price.now[at] - price.seasonal[back, at]
    newest = _lately(seasons, origins, 1)
    return np.stack(
        [
            seasons.last[back, at] - seasonal,
            seasons.week[at] - seasonal,
            newest * np.exp(-hours / 6.0),
            newest * np.exp(-hours / 36.0),
            _lately(seasons, origins, max(1, 6 * 3600 // seasons.step_s)) * np.exp(-hours / 12.0),
            np.broadcast_to(_lately(seasons, origins, seasons.day), at.shape),
            dearer,
            price.now[at] - price.last[back, at],
            np.broadcast_to(dearer.mean(axis=1, keepdims=True), at.shape),
        ],
        axis=2,
    )


def _lately(seasons: Seasons, origins: Ints, steps: int) -> Floats:
    """What the seasonal mean missed in the last ``steps`` before each origin, on average; a column over origins."""
    sums = np.concatenate(([0.0], np.cumsum(seasons.off)))
    begins = np.maximum(origins + 1 - steps, 0)
    return ((sums[origins + 1] - sums[begins]) / (origins + 1 - begins))[:, None]


def _scaled(prices: Floats, window: slice) -> Floats | None:
    """The arcsinh of the prices by median and MAD of a window; None: they do not vary there."""
    known = prices[window][np.isfinite(prices[window])]
    if not len(known):
        return None
    middle = float(np.median(known))
    deviation = float(np.median(np.abs(known - middle))) * _TO_DEVIATION
    return np.arcsinh((prices - middle) / deviation) if deviation > 0.0 else None


def _deviation(rows: Floats) -> Floats:
    """The robust deviation from 0 of each column."""
    return np.median(np.abs(rows), axis=0) * _TO_DEVIATION


def _bounded(rows: Floats, deviations: Floats) -> Floats:
    """In deviations, at most four; 0 where there is none."""
    within = np.divide(rows, deviations, out=np.zeros_like(rows), where=deviations > 0.0)
    return np.clip(within, -_MOST_DEVIATIONS, _MOST_DEVIATIONS)
