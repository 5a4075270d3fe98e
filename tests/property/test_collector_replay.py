"""However often the replay is asked, the world it tells is the same, and never ahead of its time."""

from datetime import UTC, datetime, time, timedelta

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.collector.core.replay import Replay, ReplayPolicy
from solyx.events import EnergySeriesPublished, LinkObserved, MetricsScraped, SiteObserved
from solyx.scenario import DayAheadMarket, EnergySeries, Outage, Scenario, generate, known_at, load

HOUR = timedelta(hours=1)
START = datetime(2023, 3, 25, 5, tzinfo=UTC)  # the clocks change within the next two days
SPAN_S = 3 * 86_400


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Scenario:
    return load(generate(tmp_path_factory.mktemp("scenario"), sites=1, hours=1, jobs=1))


series = st.builds(
    lambda before_h, hours, gap: EnergySeries(
        start=START - before_h * HOUR,
        price_eur_per_mwh=np.where(np.arange(hours) == gap, np.nan, np.arange(hours, dtype=float)),
        carbon_gco2_per_kwh=np.arange(hours, dtype=float),
        renewable_pct=np.full(hours, 30.0),
    ),
    st.integers(0, 60),
    st.integers(1, 150),
    st.integers(0, 150),
)
markets = st.builds(
    lambda hour, minute, zone: DayAheadMarket(zone="Z", published=time(hour, minute), timezone=zone),
    st.integers(4, 23),  # no market publishes in the hour that a clock change skips or repeats
    st.integers(0, 59),
    st.sampled_from(["Europe/Berlin", "America/Los_Angeles", "Asia/Kolkata", "UTC"]),
)
outages = st.lists(
    st.builds(
        lambda begin, length: Outage(subject="", from_s=begin, until_s=begin + length if length else None),
        st.integers(0, SPAN_S),
        st.integers(0, 50_000),
    ),
    max_size=3,
)
moments = st.lists(st.integers(0, SPAN_S), min_size=1, max_size=15).map(sorted)


def at(small: Scenario, market: DayAheadMarket, dead: list[Outage], cut: list[Outage]) -> Scenario:
    (site,) = small.sites
    node, link = site.nodes[0].name, small.network.links[0].name
    site = msgspec.structs.replace(
        site, market=market, outages=tuple(msgspec.structs.replace(one, subject=node) for one in dead)
    )
    network = msgspec.structs.replace(
        small.network, outages=tuple(msgspec.structs.replace(one, subject=link) for one in cut)
    )
    return msgspec.structs.replace(small, start=START, sites=(site,), network=network)


def play(scenario: Scenario, energy: EnergySeries, moments: list[int]) -> list:
    replay = Replay(scenario, {scenario.sites[0].name: energy}, ReplayPolicy(history_days=2))
    return [(second, event) for second in moments for event in replay.due(START + timedelta(seconds=second))]


def state(events: list) -> dict:
    """What a reader that keeps the last record of each key knows."""
    return {(type(event).__name__, event.key): event for _, event in events}


many = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@many
@given(series, markets, outages, outages, moments)
def test_asked_often_or_once_readers_know_the_same(small, energy, market, dead, cut, moments):
    scenario = at(small, market, dead, cut)
    assert state(play(scenario, energy, moments)) == state(play(scenario, energy, moments[-1:]))


@many
@given(series, markets, outages, outages, moments)
def test_a_restart_repeats_what_was_said_or_adds_to_it(small, energy, market, dead, cut, moments):
    scenario = at(small, market, dead, cut)
    said = {(type(event), event.id): event for _, event in play(scenario, energy, moments)}
    for _, event in play(scenario, energy, moments[-1:]):
        assert said.get((type(event), event.id), event) == event


@many
@given(series, markets, outages, outages, moments)
def test_nothing_is_told_before_it_is_known_or_twice_alike(small, energy, market, dead, cut, moments):
    told = set()
    for second, event in play(at(small, market, dead, cut), energy, moments):
        now = START + timedelta(seconds=second)
        assert (type(event), event.id) not in told
        told.add((type(event), event.id))
        match event:
            case EnergySeriesPublished():
                known = known_at(now, market)
                end = event.start + len(event.values) * HOUR
                assert end <= (known.price if event.kind == "price_eur_per_mwh" else known.carbon)
                assert event.published_at <= now
                assert 0 < len(event.values) <= 24
            case SiteObserved() | LinkObserved():
                assert event.observed_at <= now
            case MetricsScraped():
                assert event.scraped_at <= now


@many
@given(series, markets, moments)
def test_everything_that_is_known_is_told(small, energy, market, moments):
    scenario = at(small, market, [], [])
    now = START + timedelta(seconds=moments[-1])
    known = known_at(now, market)
    for kind, until in (("price_eur_per_mwh", known.price), ("carbon_gco2_per_kwh", known.carbon)):
        hours = {
            event.start + index * HOUR: value
            for (_, _), event in state(play(scenario, energy, moments)).items()
            if isinstance(event, EnergySeriesPublished) and event.kind == kind
            for index, value in enumerate(event.values)
        }
        history = START.replace(hour=0) - timedelta(days=2)
        expected = {
            when: None if np.isnan(value) else float(value)
            for when, value in zip(energy.times(), getattr(energy, kind), strict=True)
            if history <= when and when + HOUR <= until  # where a local day ends at half past, half an hour is not told
        }
        assert hours == expected
