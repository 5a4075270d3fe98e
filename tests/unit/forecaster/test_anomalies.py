"""Windows that are far from what their series' past explains."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from services.forecaster.core.anomalies import AnomalyWatch, robust_scores
from services.forecaster.model import ForecastPolicy
from solyx.events import SeriesWindowed

START = datetime(2026, 3, 10, 10, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
POLICY = ForecastPolicy()


def window(minute, *, source="web", count=4, **means):
    start = START + minute * MINUTE
    row = tuple(float(mean) for mean in means.values())
    counts = tuple(count for _ in means)
    return SeriesWindowed(
        source=source,
        window_start=start,
        window_end=start + MINUTE,
        series=tuple(means),
        count=counts,
        mean=row,
        min=row,
        max=row,
        last=row,
    )


def calm(watch, minutes=40, **changed):
    rng = np.random.default_rng(2)
    for minute in range(minutes):
        watch.fold(window(minute, cpu=50 + rng.normal(), memory=10 + 0.1 * rng.normal()))
    watch.judge(START + minutes * MINUTE)


def test_a_window_far_from_its_past_is_an_anomaly_of_that_series_only():
    watch = AnomalyWatch(POLICY)
    calm(watch)
    watch.fold(window(40, cpu=80, memory=10))
    (anomaly,) = watch.judge(START + 41 * MINUTE)
    assert (anomaly.source, anomaly.series, anomaly.value) == ("web", "cpu", 80.0)
    assert anomaly.at == START + 41 * MINUTE
    assert anomaly.expected == pytest.approx(50, abs=1)
    assert anomaly.score > POLICY.anomaly_score


def test_an_open_window_is_not_judged_yet():
    watch = AnomalyWatch(POLICY)
    calm(watch)
    watch.fold(window(40, cpu=80, memory=10))
    assert watch.judge(START + 40.5 * MINUTE) == []
    watch.fold(window(40, count=8, cpu=50, memory=10))
    assert watch.judge(START + 41 * MINUTE) == []


def test_a_series_is_reported_once_until_it_was_quiet_for_an_hour():
    watch = AnomalyWatch(POLICY)
    calm(watch)
    found = []
    for minute in range(40, 110):
        watch.fold(window(minute, cpu=80 + minute % 3, memory=10))
        found += watch.judge(START + (minute + 1) * MINUTE)
    assert len(found) == 1


def test_after_a_restart_an_anomaly_is_not_reported_again():
    first, second = AnomalyWatch(POLICY), AnomalyWatch(POLICY)
    calm(first)
    first.fold(window(40, cpu=80, memory=10))
    (anomaly,) = first.judge(START + 41 * MINUTE)
    second.fold_reported(anomaly)
    rng = np.random.default_rng(2)
    for minute in range(40):
        second.fold(window(minute, cpu=50 + rng.normal(), memory=10 + 0.1 * rng.normal()))
    second.fold(window(40, cpu=80, memory=10))
    assert second.judge(START + 41 * MINUTE) == []


def test_with_little_past_nothing_is_an_anomaly():
    watch = AnomalyWatch(POLICY)
    calm(watch, minutes=10)
    watch.fold(window(10, cpu=1e6, memory=1e6))
    assert watch.judge(START + 11 * MINUTE) == []


def test_series_that_are_not_watched_are_left_alone():
    watch = AnomalyWatch(ForecastPolicy(anomaly_series=("memory",)))
    calm(watch)
    watch.fold(window(40, cpu=80, memory=10))
    assert watch.judge(START + 41 * MINUTE) == []


def test_a_series_that_changes_in_steps_is_not_judged():
    """A price stands for an hour and then jumps; that is its nature."""
    past = np.repeat(np.array([[0.1 + 0.2], [80.0]]), [40, 20], axis=0)
    _, scores = robust_scores(past, np.array([140.0]))
    assert scores.tolist() == [0.0]


def test_a_series_that_was_not_there_before_is_not_judged():
    past = np.full((30, 1), np.nan)
    _, scores = robust_scores(past, np.array([5.0]))
    assert scores.tolist() == [0.0]


def test_false_alarms_of_noise_are_rare():
    rng = np.random.default_rng(11)
    alarms = sum(
        int((robust_scores(rng.normal(size=(60, 200)), rng.normal(size=200))[1] >= 8.0).sum()) for _ in range(50)
    )
    assert alarms <= 1  # of 10,000 windows
