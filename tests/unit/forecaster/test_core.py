"""Which forecasts are issued, when, and what they say."""

from datetime import UTC, datetime, timedelta

import msgspec
import numpy as np
import pytest

from services.forecaster.core import Fit, ForecastCore
from services.forecaster.core.models import Prediction
from services.forecaster.model import ForecastPolicy
from solyx.events import EnergySeriesPublished, Event, ForecastIssued, SeriesWindowed

NOW = datetime(2026, 3, 10, 10, 20, tzinfo=UTC)
MIDNIGHT = NOW.replace(hour=0, minute=0)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
PRICE, CARBON = "price_eur_per_mwh", "carbon_gco2_per_kwh"


def published(kind, start, values, *, site="rome", at=None):
    return EnergySeriesPublished(
        site=site, kind=kind, start=start, values=tuple(values), published_at=at or start, source="test"
    )


def fold_days(core, hourly, *, kind=PRICE, days=40, until=MIDNIGHT + DAY, site="rome"):
    """History by day up to ``until``."""
    values = hourly(days)
    start = until - days * DAY
    for day in range(days):
        core.fold(published(kind, start + day * DAY, values[24 * day : 24 * day + 24].tolist(), site=site))
    return values


def windowed(source, start, size_s, means, *, count=5):
    return SeriesWindowed(
        source=source,
        window_start=start,
        window_end=start + timedelta(seconds=size_s),
        series=tuple(means),
        count=tuple(count for _ in means),
        mean=tuple(means.values()),
        min=tuple(means.values()),
        max=tuple(means.values()),
        last=tuple(means.values()),
    )


def test_a_forecast_begins_with_the_published_prices_and_goes_on_with_the_model(hourly):
    core = ForecastCore(ForecastPolicy())
    values = fold_days(core, hourly)
    (forecast,) = core.decide(NOW)
    assert (forecast.subject_id, forecast.kind, forecast.model) == ("rome", PRICE, "seasonal_naive")
    assert forecast.start == MIDNIGHT + 10 * HOUR
    assert (forecast.step_s, len(forecast.mean), forecast.level) == (3600.0, 72, 0.9)
    assert forecast.known_steps == 14  # to the end of today
    assert forecast.mean[:14] == pytest.approx(values[-14:], abs=1e-4)
    assert forecast.lower[:14] == forecast.mean[:14] == forecast.upper[:14]
    assert all(low < mean < high for low, mean, high in zip(*rows_after(forecast, 14), strict=True))


def rows_after(forecast, first):
    return (row[first:] for row in (forecast.lower, forecast.mean, forecast.upper))


def test_carbon_is_known_for_the_past_only(hourly):
    core = ForecastCore(ForecastPolicy())
    fold_days(core, hourly, kind=CARBON, until=MIDNIGHT)
    core.fold(published(CARBON, MIDNIGHT, hourly(1)[:9].tolist()))
    (forecast,) = core.decide(NOW)
    assert (forecast.known_steps, forecast.start) == (0, MIDNIGHT + 10 * HOUR)


def fold_wind(core, *, until=MIDNIGHT + DAY, step_s=3600, site="rome", days=40):
    """Carbon up to this hour, and prices up to ``until`` that tell the wind of each hour."""
    start = MIDNIGHT - days * DAY
    wind = np.random.default_rng(5).normal(size=24 * (days + 2))
    shape = np.sin(2 * np.pi * np.arange(len(wind)) / 24)
    price, carbon = 80 + 20 * shape - 30 * wind, 400 + 50 * shape - 90 * wind
    now_h, until_h = (NOW - start) // HOUR, (until - start) // HOUR
    for first in range(0, until_h, 24):
        values = np.repeat(price[first : min(first + 24, until_h)], 3600 // step_s).tolist()
        core.fold(msgspec.structs.replace(published(PRICE, start + first * HOUR, values, site=site), step_s=step_s))
    core.fold(published(CARBON, start, carbon[:now_h].tolist()))
    return carbon[now_h : now_h + 14]


def carbon_of(core):
    (forecast,) = (event for event in core.decide(NOW) if event.kind == CARBON)
    return forecast


@pytest.mark.parametrize("step_s", [900, 3600])
def test_carbon_follows_the_prices_that_are_published_for_the_coming_hours(step_s):
    core = ForecastCore(ForecastPolicy())
    truth = fold_wind(core, step_s=step_s)
    forecast = carbon_of(core)
    assert (forecast.model, forecast.known_steps) == ("seasonal_priced", 0)
    assert np.abs(np.array(forecast.mean[:14]) - truth).mean() < 20


@pytest.mark.parametrize("case", [{"until": MIDNIGHT + 10 * HOUR}, {"site": "paris"}])
def test_without_prices_of_its_own_site_ahead_carbon_is_the_seasonal_naives(case):
    core = ForecastCore(ForecastPolicy())
    fold_wind(core, **case)
    assert carbon_of(core).model == "seasonal_naive"


def test_prices_and_carbon_give_the_same_forecast_in_whatever_order_they_come():
    one, other = ForecastCore(ForecastPolicy()), ForecastCore(ForecastPolicy())
    fold_wind(one)
    events: list[EnergySeriesPublished] = []

    class Recorder:
        fold = staticmethod(events.append)

    fold_wind(Recorder())
    for event in [*reversed(events), *events[::3]]:
        other.fold(event)
    assert carbon_of(one) == carbon_of(other)


def test_one_forecast_an_hour_however_often_the_core_is_asked(hourly):
    core = ForecastCore(ForecastPolicy())
    fold_days(core, hourly)
    issued = [core.decide(NOW + timedelta(minutes=minute)) for minute in range(100)]
    assert [len(decisions) for decisions in issued].count(1) == 2
    assert sum(len(decisions) for decisions in issued) == 2


def test_the_prices_of_a_further_day_bring_a_new_forecast_at_once(hourly):
    core = ForecastCore(ForecastPolicy())
    fold_days(core, hourly)
    core.decide(NOW)
    core.fold(published(PRICE, MIDNIGHT + DAY, hourly(1).tolist()))
    (forecast,) = core.decide(NOW + timedelta(minutes=5))
    assert forecast.known_steps == 38
    assert core.decide(NOW + timedelta(minutes=6)) == []


def kinds(decisions):
    return [event.kind for event in decisions]


def test_the_prices_of_a_further_day_bring_a_new_forecast_of_the_carbon_too():
    core, ahead = ForecastCore(ForecastPolicy()), ForecastCore(ForecastPolicy())
    fold_wind(core)
    first = core.decide(NOW)
    assert kinds(first) == [PRICE, CARBON]
    fold_wind(core, until=MIDNIGHT + 2 * DAY)
    fold_wind(ahead, until=MIDNIGHT + 2 * DAY)
    later = NOW + timedelta(minutes=5)
    second = core.decide(later)
    assert second == ahead.decide(later), "as if the prices had been there from the beginning"
    assert second[1].mean[14:38] != first[1].mean[14:38]
    assert core.decide(later + timedelta(minutes=1)) == []


def test_a_core_that_recovers_between_the_forecasts_of_prices_and_carbon_issues_the_carbon():
    first, second = ForecastCore(ForecastPolicy()), ForecastCore(ForecastPolicy())
    fold_wind(first)
    (_, stale) = first.decide(NOW)
    fold_wind(first, until=MIDNIGHT + 2 * DAY)
    later = NOW + timedelta(minutes=5)
    prices, carbon = first.decide(later)
    for event in (prices, stale):
        second.fold(event)
    fold_wind(second, until=MIDNIGHT + 2 * DAY)
    assert second.decide(later) == [carbon]
    second.fold(carbon)
    assert second.decide(later) == []


def test_carbon_of_many_sites_is_forecast_once_an_hour_though_prices_fill_the_first_batches(hourly):
    core = ForecastCore(ForecastPolicy())
    for number in range(20):
        fold_days(core, hourly, days=20, site=f"site{number}", kind=CARBON)
        fold_days(core, hourly, days=20, site=f"site{number}")
    batches: list[list[Event]] = []
    for second in range(4):
        core.fold(published(CARBON, MIDNIGHT, [5.0], site="site0"))  # so that it looks again
        batches.append(core.decide(NOW + timedelta(seconds=second)))
    assert [len(batch) for batch in batches] == [25, 15, 0, 0]


def test_one_more_hour_of_carbon_brings_no_new_forecast_within_the_hour(hourly):
    core = ForecastCore(ForecastPolicy())
    fold_days(core, hourly, kind=CARBON, until=MIDNIGHT + DAY)
    core.decide(NOW)
    core.fold(published(CARBON, MIDNIGHT + DAY, [5.0]))
    assert core.decide(NOW + timedelta(minutes=5)) == []


def test_the_share_of_renewables_is_not_forecast(hourly):
    core = ForecastCore(ForecastPolicy())
    fold_days(core, hourly, kind="renewable_pct")
    assert core.decide(NOW) == []


def test_a_dead_feed_gets_no_forecast(hourly):
    core = ForecastCore(ForecastPolicy())
    fold_days(core, hourly, until=MIDNIGHT - 3 * DAY)
    assert core.decide(NOW) == []


def test_too_little_history_gets_no_forecast_until_there_is_more(hourly):
    core = ForecastCore(ForecastPolicy())
    core.fold(published(PRICE, MIDNIGHT + 9 * HOUR, [50.0, 60.0]))
    assert core.decide(NOW) == []
    fold_days(core, hourly)
    assert len(core.decide(NOW)) == 1


def test_a_gap_among_published_prices_is_the_models_and_ends_the_known_steps(hourly):
    core = ForecastCore(ForecastPolicy())
    fold_days(core, hourly, until=MIDNIGHT)
    core.fold(published(PRICE, MIDNIGHT, [50.0] * 12 + [None] * 2 + [70.0] * 10))
    (forecast,) = core.decide(NOW)
    assert forecast.known_steps == 2
    assert forecast.lower[2] < forecast.mean[2] < forecast.upper[2]
    assert forecast.lower[4:14] == forecast.mean[4:14] == (70.0,) * 10


def test_where_everything_is_published_no_model_is_named(hourly):
    core = ForecastCore(ForecastPolicy(horizon_h=12))
    fold_days(core, hourly)
    (forecast,) = core.decide(NOW)
    assert (forecast.model, forecast.known_steps) == ("published", 12)


def test_a_core_that_recovers_from_its_own_forecast_does_not_issue_it_again(hourly):
    first, second = ForecastCore(ForecastPolicy()), ForecastCore(ForecastPolicy())
    fold_days(first, hourly)
    (forecast,) = first.decide(NOW)
    second.fold(forecast)
    fold_days(second, hourly)
    assert second.decide(NOW + timedelta(minutes=10)) == []
    assert len(second.decide(NOW + HOUR)) == 1


def test_many_series_are_forecast_in_several_short_batches(hourly):
    core = ForecastCore(ForecastPolicy())
    for number in range(30):
        fold_days(core, hourly, days=20, site=f"site{number}")
    batches = [core.decide(NOW) for _ in range(3)]
    assert [len(batch) for batch in batches] == [25, 5, 0]
    assert len({event.subject_id for batch in batches for event in batch}) == 30


def test_load_series_named_in_the_settings_are_forecast_from_their_windows():
    core = ForecastCore(ForecastPolicy(load_series=("requests",), load_step_s=300, load_horizon_h=2))
    start = MIDNIGHT - 6 * DAY
    for step in range(6 * 288 + 10 * 12 + 4):
        at = start + step * timedelta(seconds=300)
        load = 100 + 50 * np.sin(2 * np.pi * step / 288)
        core.fold(windowed("web", at, 300, {'requests{app="x"}': load, "other": 1.0}))
    forecasts = [event for event in core.decide(NOW) if isinstance(event, ForecastIssued)]
    assert [(f.subject_id, f.kind, f.step_s, len(f.mean)) for f in forecasts] == [
        ("web", 'requests{app="x"}', 300.0, 24)
    ]
    assert forecasts[0].mean[5] == pytest.approx(100 + 50 * np.sin(2 * np.pi * (124 + 5) / 288), abs=3.0)


def test_an_older_state_of_a_window_does_not_replace_a_newer_one():
    core = ForecastCore(ForecastPolicy(load_series=("requests",)))
    core.fold(windowed("web", MIDNIGHT, 300, {"requests": 7.0}, count=20))
    core.fold(windowed("web", MIDNIGHT, 300, {"requests": 3.0}, count=4))
    history = core._histories["web", "requests"]
    assert history.between(int(MIDNIGHT.timestamp()), 1).tolist() == [7.0]


def test_until_prophet_has_fitted_the_fallback_speaks_under_its_own_name(hourly):
    core = ForecastCore(ForecastPolicy(model="prophet"))
    fold_days(core, hourly)
    (forecast,) = core.decide(NOW)
    assert forecast.model == "seasonal_naive"
    (request,) = core.take_fit_requests()
    assert (request.key, request.step_s, len(request.values)) == (("rome", PRICE), 3600, 40 * 24)
    assert core.take_fit_requests() == []
    row = np.full(request.steps, 42.0)
    end_s = request.start_s + len(request.values) * 3600
    prediction = Prediction(mean=row, lower=row - 1, upper=row + 1, model="prophet")
    core.offer(Fit(key=request.key, start_s=end_s, prediction=prediction))
    (forecast,) = core.decide(NOW + HOUR)
    assert (forecast.model, forecast.mean[-1], forecast.upper[-1]) == ("prophet", 42.0, 43.0)


def test_a_failed_fit_leaves_the_fallback_and_is_not_repeated_at_once(hourly):
    core = ForecastCore(ForecastPolicy(model="prophet"))
    fold_days(core, hourly)
    core.decide(NOW)
    (request,) = core.take_fit_requests()
    core.offer(Fit(key=request.key, start_s=request.start_s, prediction=None))
    (forecast,) = core.decide(NOW + HOUR)
    assert forecast.model == "seasonal_naive"
    assert core.take_fit_requests() == []


def test_events_are_valid_on_the_wire(hourly):
    core = ForecastCore(ForecastPolicy())
    fold_days(core, hourly)
    (forecast,) = core.decide(NOW)
    assert msgspec.json.decode(msgspec.json.encode(forecast), type=ForecastIssued) == forecast
