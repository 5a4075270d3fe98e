"""The forecasting models."""

import numpy as np
import pytest

from services.forecaster.core.models import Persistence, SeasonalNaive, first_that_can

HOUR = 3600


def test_a_series_that_repeats_itself_is_forecast_exactly_and_with_no_doubt():
    values = 50 + 20 * np.sin(2 * np.pi * np.arange(40 * 24) / 24)
    prediction = SeasonalNaive().predict(values[:-72], HOUR, 72, 0.9)
    assert prediction.model == "seasonal_naive"
    assert prediction.mean == pytest.approx(values[-72:])
    assert prediction.upper == pytest.approx(prediction.mean)


def test_weekdays_and_weekends_differ(hourly):
    values = hourly(70, noise=0.0)
    prediction = SeasonalNaive().predict(values[:-72], HOUR, 72, 0.9)
    assert np.abs(prediction.mean - values[-72:]).mean() < 2.5  # a weekend is 5 higher


def test_noise_widens_the_interval(hourly):
    widths = []
    for noise in (1.0, 5.0):
        prediction = SeasonalNaive().predict(hourly(60, noise=noise), HOUR, 24, 0.9)
        widths.append((prediction.upper - prediction.lower).mean())
    assert widths[1] > 3 * widths[0]


def test_a_higher_level_gives_a_wider_interval(hourly):
    narrow, wide = (SeasonalNaive().predict(hourly(60), HOUR, 24, level) for level in (0.5, 0.9))
    assert (wide.upper >= narrow.upper).all()
    assert (wide.lower <= narrow.lower).all()


def test_of_what_it_was_asked_for_that_share_comes_true(hourly):
    values = hourly(200, noise=5.0)
    inside = []
    for origin in range(100 * 24, 195 * 24, 31):
        prediction = SeasonalNaive().predict(values[: origin + 1], HOUR, 48, 0.9)
        truth = values[origin + 1 : origin + 49]
        inside.append((truth >= prediction.lower) & (truth <= prediction.upper))
    assert 0.88 <= np.concatenate(inside).mean() <= 0.96


def test_a_level_shift_is_followed_at_once_and_fades(hourly):
    values = hourly(60, noise=0.0)
    values[-1] += 100.0
    prediction = SeasonalNaive().predict(values, HOUR, 72, 0.9)
    plain = SeasonalNaive().predict(hourly(60, noise=0.0), HOUR, 72, 0.9)
    lifted = prediction.mean - plain.mean
    assert lifted[0] == pytest.approx(100 * np.exp(-1 / 36), abs=1.0)
    assert lifted[70] < 20


def test_gaps_are_skipped_not_guessed(hourly):
    values = hourly(40, noise=0.5)
    whole = SeasonalNaive().predict(values, HOUR, 48, 0.9)
    values[-100:-52] = np.nan
    gappy = SeasonalNaive().predict(values, HOUR, 48, 0.9)
    assert np.isfinite(gappy.mean).all()
    assert gappy.mean == pytest.approx(whole.mean, abs=6.0)


def test_steps_need_not_be_hours():
    step_s = 300
    times = np.arange(10 * 288)
    values = 100 + 50 * np.sin(2 * np.pi * times / 288)
    prediction = SeasonalNaive().predict(values, step_s, 288, 0.9)
    assert prediction.mean == pytest.approx(values[:288], abs=1.0)


def test_a_series_too_young_for_seasons_is_forecast_by_persistence_under_its_own_name(hourly):
    prediction = first_that_can((SeasonalNaive(), Persistence()), hourly(3), HOUR, 24, 0.9)
    assert prediction.model == "persistence"
    assert set(prediction.mean.tolist()) == {float(hourly(3)[-1])}
    assert (np.diff(prediction.upper) >= 0).all()


def test_of_next_to_nothing_nothing_is_forecast():
    assert first_that_can((SeasonalNaive(), Persistence()), np.array([1.0, 2.0]), HOUR, 24, 0.9) is None


def test_the_same_history_gives_the_same_forecast(hourly):
    one, other = (SeasonalNaive().predict(hourly(60), HOUR, 72, 0.9) for _ in range(2))
    assert one.mean.tolist() == other.mean.tolist()
    assert one.upper.tolist() == other.upper.tolist()
