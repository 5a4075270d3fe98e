"""The forecast core: recovery from the log and the order of independent events change nothing."""

from datetime import UTC, datetime, timedelta

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from services.forecaster.core import ForecastCore
from services.forecaster.model import ForecastPolicy
from solyx.events import AnomalyDetected, EnergySeriesPublished, ForecastIssued, SeriesWindowed

START = datetime(2026, 3, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)
POLICY = ForecastPolicy(horizon_h=12, load_series=("load",), load_step_s=300, load_horizon_h=1, anomaly_window_s=300)


def energy(site, kind, day, seed):
    rng = np.random.default_rng([day + 100, seed])
    values = 50 + 20 * np.sin(np.arange(24) / 4) + rng.normal(size=24)
    start = START + day * 24 * HOUR
    return EnergySeriesPublished(
        site=site, kind=kind, start=start, values=tuple(values.tolist()), published_at=start - 12 * HOUR
    )


def window(number, value, count):
    start = START + number * timedelta(seconds=300)
    row = (value,)
    return SeriesWindowed(
        source="web",
        window_start=start,
        window_end=start + timedelta(seconds=300),
        series=("load",),
        count=(count,),
        mean=row,
        min=row,
        max=row,
        last=row,
    )


inputs = st.lists(
    st.one_of(
        st.builds(
            energy,
            st.sampled_from(["rome", "oslo"]),
            st.sampled_from(["price_eur_per_mwh", "carbon_gco2_per_kwh"]),
            st.integers(-8, 1),
            st.just(0),
        ),
        st.builds(window, st.integers(0, 60), st.just(5.0), st.integers(1, 3)),
    ),
    max_size=50,
    unique_by=lambda event: event.id,
)


def shape(event):
    """What a decision says, but for its time of issue."""
    match event:
        case ForecastIssued():
            return (event.subject_id, event.kind, event.start, event.mean, event.lower, event.upper, event.model)
        case AnomalyDetected():
            return (event.source, event.series, event.at)


@settings(max_examples=40, deadline=None)
@given(inputs, st.randoms(use_true_random=False))
def test_independent_events_commute_and_repeats_change_nothing(events, random):
    one, other = ForecastCore(POLICY), ForecastCore(POLICY)
    for event in events:
        one.fold(event)
    shuffled = [event for event in events for _ in range(random.randint(1, 2))]
    random.shuffle(shuffled)
    for event in shuffled:
        other.fold(event)
    now = START + 6 * HOUR
    assert sorted(map(shape, one.decide(now))) == sorted(map(shape, other.decide(now)))


@settings(max_examples=40, deadline=None)
@given(inputs, st.integers(0, 50), st.integers(1, 6))
def test_a_core_recovered_from_the_log_decides_nothing_again(events, cut, hours):
    lived, log = ForecastCore(POLICY), []
    for number, event in enumerate(events):
        lived.fold(event)
        log.append(event)
        if number == cut:
            log += lived.decide(START + 3 * HOUR)
    now = START + (3 + hours) * HOUR
    log += lived.decide(now)
    recovered = ForecastCore(POLICY)
    for event in reversed(log):  # any interleaving: own decisions may come before what caused them
        recovered.fold(event)
    assert [event for event in recovered.decide(now) if isinstance(event, ForecastIssued)] == []
    later = now + HOUR
    assert sorted(map(shape, recovered.decide(later))) == sorted(map(shape, lived.decide(later)))


@settings(max_examples=40, deadline=None)
@given(inputs, st.lists(st.integers(1, 200), min_size=1, max_size=8))
def test_at_most_one_forecast_of_a_series_an_hour_and_never_an_empty_interval(events, minutes):
    core = ForecastCore(POLICY)
    for event in events:
        core.fold(event)
    now, seen = START, set()
    for step in minutes:
        now += timedelta(minutes=step)
        for event in core.decide(now):
            if isinstance(event, ForecastIssued):
                hour = (event.subject_id, event.kind, now.replace(minute=0))
                assert hour not in seen
                seen.add(hour)
                assert len(event.mean) == len(event.lower) == len(event.upper)
                assert all(
                    low <= mean <= high for low, mean, high in zip(event.lower, event.mean, event.upper, strict=True)
                )
                assert event.lower[: event.known_steps] == event.upper[: event.known_steps]
