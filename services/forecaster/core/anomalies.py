"""Windows whose mean is far from what the series' own recent windows explain: a robust z-score.

z = |mean − median| / (1.4826 · MAD) over the last 60 windows (Iglewicz & Hoaglin, "How to Detect and Handle Outliers", 1993,
p. 11). A series that stood still in more than half of them has no spread to compare with and is not judged: a price changes in
steps, and each step would be an alarm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from solyx.events import AnomalyDetected

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from services.forecaster.core.sketch import Floats
    from services.forecaster.model import ForecastPolicy
    from solyx.events import SeriesWindowed

Key: TypeAlias = tuple[str, str]
"""Source and series."""

_WINDOWS = 60  # an hour of one-minute windows
_ENOUGH = 20
_MAX_SCORE = 1000.0  # beyond it a number says no more
_LOOK_BACK_S = 3600.0  # older windows are history: at a start they are not judged again


@dataclass(frozen=True, kw_only=True, eq=False)
class _Window:
    """What is kept of a window: its event is thirty times as large."""

    end: datetime
    samples: int
    series: tuple[str, ...]
    mean: Floats


class AnomalyWatch:
    """The recent windows of the sources of one shard."""

    def __init__(self, policy: ForecastPolicy) -> None:
        """Watches the series that ``policy.anomaly_series`` names by prefix."""
        self._policy = policy
        self._windows: dict[str, dict[datetime, _Window]] = {}
        self._unjudged: dict[tuple[str, datetime], None] = {}
        self._reported: dict[Key, datetime] = {}

    def fold(self, event: SeriesWindowed) -> None:
        """Take a window of the watched size; of two records of one window the one with more samples holds."""
        if round((event.window_end - event.window_start).total_seconds()) != self._policy.anomaly_window_s:
            return
        windows = self._windows.setdefault(event.source, {})
        known, samples = windows.get(event.window_start), sum(event.count)
        if known is not None and known.samples >= samples:
            return
        if known is None and len(windows) > _WINDOWS and event.window_start < min(windows):
            return
        last = next(reversed(windows.values()), None)
        series = last.series if last is not None and last.series == event.series else event.series
        windows[event.window_start] = _Window(
            end=event.window_end, samples=samples, series=series, mean=np.array(event.mean)
        )
        self._unjudged[event.source, event.window_start] = None
        while len(windows) > _WINDOWS + 1:
            del windows[min(windows)]

    def fold_reported(self, anomaly: AnomalyDetected) -> None:
        """Remember an anomaly that was reported."""
        key = (anomaly.source, anomaly.series)
        if key not in self._reported or self._reported[key] < anomaly.at:
            self._reported[key] = anomaly.at

    def judge(self, now: datetime) -> list[AnomalyDetected]:
        """The anomalies in the windows that ended since the last call; they count as reported."""
        found: list[AnomalyDetected] = []
        for source, start in sorted(self._unjudged, key=lambda key: key[1]):
            window = self._windows[source].get(start)
            if window is not None and window.end > now and start == max(self._windows[source]):
                continue  # still open
            del self._unjudged[source, start]
            if window is None or (now - window.end).total_seconds() > _LOOK_BACK_S:
                continue
            for anomaly in self._anomalies(source, start, window):
                key = (source, anomaly.series)
                last = self._reported.get(key)
                if last is None or (anomaly.at - last).total_seconds() >= self._policy.anomaly_quiet_s:
                    self._reported[key] = anomaly.at
                    found.append(anomaly)
        return found

    def _anomalies(self, source: str, start: datetime, window: _Window) -> Iterator[AnomalyDetected]:
        windows = self._windows[source]
        past = [windows[earlier] for earlier in sorted(windows) if earlier < start]
        if len(past) < _ENOUGH:
            return
        median, scores = robust_scores(_aligned(past, window.series), window.mean)
        for position in np.flatnonzero(scores >= self._policy.anomaly_score):
            series = window.series[position]
            if series.startswith(self._policy.anomaly_series):
                yield AnomalyDetected(
                    source=source,
                    series=series,
                    at=window.end,
                    value=float(window.mean[position]),
                    score=round(float(scores[position]), 3),
                    expected=float(median[position]),
                )


def _aligned(past: list[_Window], series: tuple[str, ...]) -> Floats:
    """The means of ``series`` in past windows, one row each; NaN where a series was not there."""
    rows: list[Floats] = []
    for window in past:
        if window.series == series:
            rows.append(window.mean)
            continue
        known = dict(zip(window.series, window.mean.tolist(), strict=True))
        rows.append(np.array([known.get(name, np.nan) for name in series]))
    return np.stack(rows)


def robust_scores(past: Floats, present: Floats) -> tuple[Floats, Floats]:
    """Per column the median of ``past`` and the robust z-score of ``present``; 0 where the past says too little."""
    enough = np.isfinite(past).sum(axis=0) >= _ENOUGH
    filled = np.where(enough, past, 0.0)
    median = np.nanmedian(filled, axis=0)
    scale = 1.4826 * np.nanmedian(np.abs(filled - median), axis=0)
    spread = scale > 1e-9 * np.abs(median)  # anything less is rounding
    score = np.minimum(np.abs(present - median) / np.where(spread, scale, 1.0), _MAX_SCORE)
    return median, np.where(enough & spread, score, 0.0)
