"""The forecast core of one shard, pure: folds published energy series and windows, decides which forecasts to issue.

A forecast is due once in an hour of scenario time, and earlier when the prices of a further day were published (known values
reach at least six hours further than in the last forecast): of the prices and, as they tell how clean these hours will be, of the
site's carbon intensity. Its first ``known_steps`` steps are published values, whose
interval has no width; the rest is the model's, from the end of what is known. Where too little is known nothing is issued.

Everything follows from state: after a restart the core folds its inputs and its own forecasts and goes on where it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from services.forecaster.core.anomalies import AnomalyWatch
from services.forecaster.core.history import History, leading
from services.forecaster.core.models import Persistence, Prediction, SeasonalNaive, first_that_can
from services.forecaster.core.priced import Priced
from services.forecaster.core.seasons import DAY_S, MAX_LEAD_S
from solyx.events import AnomalyDetected, EnergySeriesPublished, Event, ForecastIssued, SeriesWindowed

if TYPE_CHECKING:
    from services.forecaster.core.models import Forecaster
    from services.forecaster.core.sketch import Floats
    from services.forecaster.model import ForecastPolicy

Key: TypeAlias = tuple[str, str]
"""Subject (site or source) and kind of a series."""

_HOUR_S = 3600
_PRICE, _CARBON = "price_eur_per_mwh", "carbon_gco2_per_kwh"
_KINDS = frozenset({_PRICE, _CARBON})
_NEW_PRICES_S = 6 * _HOUR_S
_STALE_S = 48 * _HOUR_S
"""A series whose newest value is older gets no forecast: the feed is dead, and the model would guess."""
_MOST_AT_ONCE = 25
"""Forecasts in one decision, so that a batch stays short; the rest follows in the next."""
_FIT_DAYS = 14
_FIT_AHEAD_S = DAY_S
_REFIT_S = DAY_S


@dataclass(frozen=True, kw_only=True, eq=False)
class FitRequest:
    """A history to which a slow model is to be fitted, outside the decision thread."""

    key: Key
    start_s: int  # of values[0]
    step_s: int
    values: Floats
    steps: int  # to predict after the last value
    level: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Fit:
    """What a slow model predicts from ``start_s`` on; None: it failed."""

    key: Key
    start_s: int
    prediction: Prediction | None


class ForecastCore:
    """Forecasts and anomalies of the subjects of one shard."""

    def __init__(self, policy: ForecastPolicy) -> None:
        """An empty core."""
        self._policy = policy
        self._models = (SeasonalNaive(), Persistence())
        self._histories: dict[Key, History] = {}
        self._issued: dict[Key, tuple[datetime, float]] = {}  # when, and the end of the known values (Unix time)
        self._tried: dict[Key, tuple[int, int]] = {}  # hour and version of the history that gave no forecast
        self._fits: dict[Key, Fit] = {}
        self._fit_asked: dict[Key, float] = {}  # end of the history that a fit was asked for
        self._wanted: dict[Key, FitRequest] = {}
        self._watch = AnomalyWatch(policy)
        self._looked: tuple[int, int] = (-1, -1)
        self._changes = 0

    def fold(self, event: Event) -> None:
        """Merge an event; a repeat changes nothing."""
        match event:
            case EnergySeriesPublished():
                if event.kind in _KINDS and event.start.timestamp() % event.step_s == 0:
                    history = self._history((event.site, event.kind), int(event.step_s))
                    if history.step_s == event.step_s:
                        history.put(event.start.timestamp(), event.values, event.published_at.timestamp())
                        self._changes += 1
            case SeriesWindowed():
                self._fold_window(event)
            case ForecastIssued():
                self._remember(event)
            case AnomalyDetected():
                self._watch.fold_reported(event)
            case _:
                pass

    def _history(self, key: Key, step_s: int) -> History:
        known = self._histories.get(key)
        if known is None:
            known = self._histories[key] = History(step_s, self._policy.history_days * DAY_S)
        return known

    def _fold_window(self, window: SeriesWindowed) -> None:
        self._watch.fold(window)
        step_s = self._policy.load_step_s
        start_s = window.window_start.timestamp()
        size_s = (window.window_end - window.window_start).total_seconds()
        if not self._policy.load_series or size_s != step_s or start_s % step_s:
            return
        for position, name in enumerate(window.series):
            if name.startswith(self._policy.load_series):
                history = self._history((window.source, name), step_s)
                history.put(start_s, (window.mean[position],), float(window.count[position]))
                self._changes += 1

    def _remember(self, forecast: ForecastIssued) -> None:
        key = (forecast.subject_id, forecast.kind)
        known_until = forecast.start.timestamp() + forecast.known_steps * forecast.step_s
        last = self._issued.get(key)
        if last is None or last[0] <= forecast.issued_at:
            self._issued[key] = (forecast.issued_at, known_until)
            self._changes += 1

    def decide(self, now: datetime) -> list[Event]:
        """The anomalies and forecasts that are due."""
        decisions: list[Event] = [*self._watch.judge(now)]
        hour = int(now.timestamp() // _HOUR_S)
        if (hour, self._changes) == self._looked:
            return decisions
        issued = 0
        # Prices go first: a forecast of carbon that is older than that of the prices was made without them.
        for key in sorted(self._histories, key=lambda key: key[1] == _CARBON):
            history = self._histories[key]
            if self._is_due(key, history, now, hour):
                if issued == _MOST_AT_ONCE:
                    return decisions
                forecast = self._forecast(key, history, now)
                if forecast is None:
                    self._tried[key] = (hour, history.version)
                else:
                    self._remember(forecast)
                    decisions.append(forecast)
                    issued += 1
        self._looked = (hour, self._changes)
        return decisions

    def _is_due(self, key: Key, history: History, now: datetime, hour: int) -> bool:
        if self._tried.get(key) == (hour, history.version):
            return False
        last = self._issued.get(key)
        if last is None or last[0].timestamp() // _HOUR_S < hour:
            return True
        prices = self._issued.get((key[0], _PRICE)) if key[1] == _CARBON else None
        if prices is not None and prices[0] > last[0]:
            return True
        start_s = _start_of(now, history.step_s)
        known = history.between(start_s, self._steps(key, history))
        return start_s + leading(known) * history.step_s >= last[1] + _NEW_PRICES_S

    def _steps(self, key: Key, history: History) -> int:
        hours = self._policy.horizon_h if key[1] in _KINDS else self._policy.load_horizon_h
        return hours * _HOUR_S // history.step_s

    def _forecast(self, key: Key, history: History, now: datetime) -> ForecastIssued | None:
        """Published values first, then the model's; None: too little is known, or what is known is too old."""
        step_s, start_s = history.step_s, _start_of(now, history.step_s)
        if history.end_s is None or start_s - history.end_s > _STALE_S:
            return None
        steps = self._steps(key, history)
        mean = history.between(start_s, steps)
        published = np.isfinite(mean)
        known_steps = leading(mean)
        lower, upper = mean.copy(), mean.copy()
        model = "published"
        if not published.all():
            prediction = self._predict(key, history, start_s + known_steps * step_s, start_s + steps * step_s)
            if prediction is None:
                return None
            model = prediction.model
            gaps = ~published
            for row, predicted in ((mean, prediction.mean), (lower, prediction.lower), (upper, prediction.upper)):
                reached = predicted[-steps:]
                row[steps - len(reached) :] = np.where(
                    gaps[steps - len(reached) :], reached, row[steps - len(reached) :]
                )
        return ForecastIssued(
            subject_id=key[0],
            kind=key[1],
            issued_at=now,
            start=datetime.fromtimestamp(start_s, UTC),
            step_s=float(step_s),
            mean=_tuple(mean),
            lower=_tuple(lower),
            upper=_tuple(upper),
            level=self._policy.level,
            known_steps=known_steps,
            model=model,
        )

    def _predict(self, key: Key, history: History, before_s: int, until_s: int) -> Prediction | None:
        """To ``until_s`` from the newest value before ``before_s`` on: by the slow model where its fit is at hand, else a quick one."""
        step_s = history.step_s
        values, end_s = history.until(before_s)
        steps = (until_s - end_s) // step_s
        if not len(values) or steps * step_s > MAX_LEAD_S:
            return None
        if self._policy.model == "prophet":
            self._want_fit(key, values, end_s, step_s, steps)
            fitted = _cut(self._fits.get(key), end_s, steps, step_s)
            if fitted is not None:
                return fitted
        return first_that_can(
            (*self._priced(key, step_s, end_s - len(values) * step_s, len(values) + steps), *self._models),
            values,
            step_s,
            steps,
            self._policy.level,
        )

    def _priced(self, key: Key, step_s: int, start_s: int, steps: int) -> tuple[Forecaster, ...]:
        """For a site's carbon: the model that knows the site's prices from ``start_s`` on."""
        prices = self._histories.get((key[0], _PRICE)) if key[1] == _CARBON else None
        return () if prices is None else (Priced(prices.in_steps_of(step_s, start_s, steps)),)

    def _want_fit(self, key: Key, values: Floats, end_s: int, step_s: int, steps: int) -> None:
        """Ask for a fit once a day of new values; it predicts a day further than needed now, so that it lasts."""
        if (
            end_s - self._fit_asked.get(key, -np.inf) < _REFIT_S
            or np.isfinite(values).sum() * step_s < _FIT_DAYS * DAY_S
        ):
            return
        self._fit_asked[key] = end_s
        self._wanted[key] = FitRequest(
            key=key,
            start_s=end_s - len(values) * step_s,
            step_s=step_s,
            values=values.copy(),
            steps=steps + _FIT_AHEAD_S // step_s,
            level=self._policy.level,
        )

    def take_fit_requests(self) -> list[FitRequest]:
        """The fits that are wanted; each is handed out once."""
        wanted = list(self._wanted.values())
        self._wanted.clear()
        return wanted

    def offer(self, fit: Fit) -> None:
        """Take a fit back. A failed one is not asked for again before a day of new values has come."""
        if fit.prediction is not None:
            self._fits[fit.key] = fit


def _start_of(now: datetime, step_s: int) -> int:
    """The start of the step that contains ``now``, Unix time in s."""
    return int(now.timestamp() // step_s) * step_s


def _cut(fit: Fit | None, start_s: int, steps: int, step_s: int) -> Prediction | None:
    """The part of a fit's prediction from ``start_s`` on; None where it does not reach."""
    if fit is None or fit.prediction is None:
        return None
    first = (start_s - fit.start_s) // step_s
    if first < 0 or first + steps > len(fit.prediction.mean):
        return None
    part = slice(first, first + steps)
    whole = fit.prediction
    return Prediction(mean=whole.mean[part], lower=whole.lower[part], upper=whole.upper[part], model=whole.model)


def _tuple(values: Floats) -> tuple[float, ...]:
    return tuple(values.round(4).tolist())


__all__ = ["Fit", "FitRequest", "ForecastCore"]
