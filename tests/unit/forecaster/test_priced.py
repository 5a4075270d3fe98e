"""Carbon intensity forecast from prices that are published already."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.forecaster.core.models import SeasonalNaive
from services.forecaster.core.priced import Priced

HOUR = 3600
DAYS = 80
NOW = DAYS * 24
STEPS = 72


def windy(*, seed=3, days=DAYS + 3):
    """Price and carbon of a grid in which each day's wind makes both lower; no wind follows from the day before's."""
    rng = np.random.default_rng(seed)
    hours = np.arange(days * 24)
    shape = np.sin(2 * np.pi * hours / 24)
    wind = np.repeat(rng.normal(size=days), 24)
    price = 80 + 20 * shape - 30 * wind + rng.normal(size=len(hours))
    carbon = 400 + 50 * shape - 90 * wind + 3 * rng.normal(size=len(hours))
    return price, carbon


def known_until(prices, steps):
    """Prices as known ``steps`` ahead."""
    return np.where(np.arange(len(prices)) < NOW + steps, prices, np.nan)


def off(prediction, carbon, span):
    return float(np.abs(prediction.mean - carbon[NOW : NOW + STEPS])[span].mean())


@pytest.mark.parametrize(
    "ahead", [1, 11, 23, 24, 25, 36, 47, 49]
)  # a local day has 23 or 25 hours when the clocks change
def test_where_the_price_is_published_the_carbon_follows_it(ahead):
    price, carbon = windy()
    plain = SeasonalNaive().predict(carbon[:NOW], HOUR, STEPS, 0.9)
    priced = Priced(known_until(price, ahead)).predict(carbon[:NOW], HOUR, STEPS, 0.9)
    assert priced.model == "seasonal_priced"
    assert off(priced, carbon, slice(ahead)) < 0.6 * off(plain, carbon, slice(ahead))


def test_an_hour_whose_price_is_unknown_says_nothing_of_the_hours_behind_it():
    price, carbon = windy()
    hidden = known_until(price, 48)
    hidden[NOW + 20] = np.nan
    predictions = [
        Priced(prices).predict(carbon[:NOW], HOUR, STEPS, 0.9) for prices in (hidden, known_until(price, 20))
    ]
    assert predictions[0].mean.tolist() == predictions[1].mean.tolist()


def test_behind_the_last_known_price_the_correction_fades():
    price, carbon = windy()
    plain = SeasonalNaive().predict(carbon[:NOW], HOUR, STEPS, 0.9)
    priced = Priced(known_until(price, 24)).predict(carbon[:NOW], HOUR, STEPS, 0.9)
    moved = priced.mean - plain.mean
    assert moved[24:] == pytest.approx(moved[:24].mean() * np.exp(-np.arange(1, 49) / 72))


def test_the_interval_moves_with_the_mean():
    price, carbon = windy()
    plain = SeasonalNaive().predict(carbon[:NOW], HOUR, STEPS, 0.9)
    priced = Priced(known_until(price, 36)).predict(carbon[:NOW], HOUR, STEPS, 0.9)
    assert priced.upper - priced.lower == pytest.approx(plain.upper - plain.lower)
    assert priced.upper - priced.mean == pytest.approx(plain.upper - plain.mean)


def test_gaps_in_prices_and_carbon_are_skipped_not_guessed():
    price, carbon = windy()
    whole = Priced(known_until(price, 24)).predict(carbon[:NOW], HOUR, STEPS, 0.9)
    price[NOW - 300 : NOW - 252] = np.nan
    carbon[NOW - 600 : NOW - 580] = np.nan
    gappy = Priced(known_until(price, 24)).predict(carbon[:NOW], HOUR, STEPS, 0.9)
    assert gappy.mean == pytest.approx(whole.mean, abs=25.0)  # the wind moves the carbon by 90


def test_negative_prices_are_prices():
    price, carbon = windy()
    higher, lower = (Priced(known_until(price - by, 24)).predict(carbon[:NOW], HOUR, STEPS, 0.9) for by in (0.0, 300.0))
    assert lower.mean == pytest.approx(higher.mean)


@pytest.mark.parametrize("at", [NOW - 50, NOW + 3])
def test_a_price_spike_moves_no_hour_beyond_what_was_seen(at):
    price, carbon = windy()
    price[at] = 9000.0
    spiky = Priced(known_until(price, 24)).predict(carbon[:NOW], HOUR, STEPS, 0.9)
    assert spiky.mean.min() > carbon[:NOW].min() - 100
    assert spiky.mean.max() < carbon[:NOW].max() + 100


def test_a_spike_of_the_carbon_itself_does_not_rule_the_fit():
    price, carbon = windy()
    whole = Priced(known_until(price, 24)).predict(carbon[:NOW], HOUR, STEPS, 0.9)
    carbon[NOW - 200] = 1e6
    spiky = Priced(known_until(price, 24)).predict(carbon[:NOW], HOUR, STEPS, 0.9)
    assert np.median(np.abs(spiky.mean - whole.mean)) < 15.0


@pytest.mark.parametrize(
    ("days", "prices"),
    [
        (DAYS, np.full(NOW + STEPS, np.nan)),  # none published
        (DAYS, known_until(windy()[0], 0)),  # none ahead
        (DAYS, np.full(NOW + STEPS, 80.0)),  # a fixed tariff
        (DAYS, np.where(np.arange(NOW + STEPS) < NOW - 10 * 24, np.nan, windy()[0])),  # for ten days only
        (10, windy()[0]),
        (3, windy()[0]),
    ],
)
def test_without_prices_that_tell_something_it_leaves_the_forecast_to_others(days, prices):
    carbon = windy()[1]
    history = carbon[NOW - days * 24 : NOW]
    assert Priced(prices[NOW - days * 24 :]).predict(history, HOUR, STEPS, 0.9) is None


def test_steps_need_not_be_hours():
    price, carbon = (np.repeat(row, 4) for row in windy())
    now, known = 4 * NOW, 4 * (NOW + 20)
    prices = np.where(np.arange(len(price)) < known, price, np.nan)
    plain = SeasonalNaive().predict(carbon[:now], 900, 288, 0.9)
    priced = Priced(prices).predict(carbon[:now], 900, 288, 0.9)
    errors = [np.abs(p.mean - carbon[now : now + 288])[:80].mean() for p in (plain, priced)]
    assert errors[1] < 0.6 * errors[0]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 72), st.floats(0.0, 0.3), st.sampled_from([0.0, 1.0, 1e3, 1e6]))
def test_whatever_is_known_every_step_has_a_number_inside_its_interval(seed, ahead, missing, scale):
    rng = np.random.default_rng(seed)
    price, carbon = (row + scale * rng.standard_cauchy(len(row)) for row in windy(seed=seed))
    for row in (price, carbon[: NOW - 1]):
        row[rng.random(len(row)) < missing] = np.nan
    prediction = Priced(known_until(price, ahead)).predict(carbon[:NOW], HOUR, STEPS, 0.9)
    if prediction is not None:
        assert np.isfinite(prediction.mean).all()
        assert (prediction.lower <= prediction.mean).all()
        assert (prediction.mean <= prediction.upper).all()
