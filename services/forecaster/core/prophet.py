"""Prophet behind the forecasters' interface. Slow to import and to fit: only the fitting process (service/fitting.py) does.

Taylor, Letham: "Forecasting at Scale", The American Statistician 2018. Trend with change points, daily, weekly and (from two years
on) yearly seasonality; missing values are left out. Its interval is the model's own, at the level asked for.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from services.forecaster.core.models import Prediction
from services.forecaster.core.seasons import DAY_S

if TYPE_CHECKING:
    from services.forecaster.core.sketch import Floats

_DAYS = 14
_SAMPLES = 200  # of the uncertainty; Prophet's default of 1000 takes five times as long


class Prophet:
    """See ``Forecaster``; wants two weeks of known values."""

    name = "prophet"

    def predict(self, values: Floats, step_s: int, steps: int, level: float) -> Prediction | None:
        """See ``Forecaster``. Deterministic: the fit is an optimisation, and the samples of the interval are seeded."""
        known = np.isfinite(values)
        if known.sum() * step_s < _DAYS * DAY_S:
            return None
        import pandas as pd  # noqa: PLC0415 - 200 MB that only the fitting process pays
        import prophet  # noqa: PLC0415

        logging.getLogger("cmdstanpy").setLevel(logging.ERROR)
        # Steps are counted from an epoch at midnight, so that the seasons of the day and week begin where UTC's do not matter.
        times: Any = pd.to_datetime(np.arange(len(values) + steps) * step_s, unit="s", origin="2000-01-03")
        model: Any = prophet.Prophet(
            daily_seasonality=True,
            weekly_seasonality=True,
            yearly_seasonality="auto",
            interval_width=level,
            uncertainty_samples=_SAMPLES,
        )
        np.random.seed(0)  # noqa: NPY002 - Prophet draws from numpy's global generator
        model.fit(pd.DataFrame({"ds": times[: len(values)][known], "y": values[known]}))
        out: Any = model.predict(pd.DataFrame({"ds": times[len(values) :]}))
        mean, lower, upper = (out[name].to_numpy(np.float64) for name in ("yhat", "yhat_lower", "yhat_upper"))
        return Prediction(mean=mean, lower=np.minimum(lower, mean), upper=np.maximum(upper, mean), model=self.name)
