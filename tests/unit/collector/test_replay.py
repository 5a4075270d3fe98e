"""What the replay of a scenario publishes, and when."""

from datetime import UTC, datetime, time, timedelta

import msgspec
import numpy as np
import pytest

from services.collector.core.replay import Replay, ReplayPolicy
from solyx.events import EnergySeriesPublished, LinkObserved, MetricsScraped, Node, PowerModel, SiteObserved
from solyx.scenario import (
    Background,
    DayAheadMarket,
    EnergySeries,
    Link,
    Load,
    Maintenance,
    Network,
    Outage,
    Scenario,
    Site,
    Slowdown,
    generate,
    load,
)

START = datetime(2023, 6, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
BERLIN = DayAheadMarket(zone="DE-LU", published=time(12, 45), timezone="Europe/Berlin")


@pytest.fixture
def site(tmp_path) -> Site:
    return Site(
        name="berlin",
        nodes=(Node(name="n0", cpu_milli=1000, memory_bytes=1), Node(name="n1", cpu_milli=1000, memory_bytes=1)),
        power=PowerModel(w_per_core=6, pue=1.2),
        market=BERLIN,
        energy_file=tmp_path / "energy.csv",
        network_node="berlin",
        egress_eur_per_gib=0.1,
        latency_ms={"texas": 80.0},
        outages=(Outage(subject="n1", from_s=7200, until_s=10_800),),
    )


@pytest.fixture
def scenario(site, tmp_path) -> Scenario:
    links = (
        Link(name="a>b", source="a", target="b", capacity_bps=1e9, latency_ms=5),
        Link(name="b>a", source="b", target="a", capacity_bps=1e9, latency_ms=5),
    )
    network = Network(
        links=links,
        background=Background(period_s=300, rates_bps=np.array([[1.0, 2.0], [3.0, 4.0]])),
        outages=(Outage(subject="a>b", from_s=450, until_s=None),),
    )
    generated = load(generate(tmp_path, sites=1, hours=1, jobs=1))
    return msgspec.structs.replace(generated, start=START, sites=(site,), network=network)


def hours(first: datetime, count: int) -> EnergySeries:
    steps = np.arange(count, dtype=float)
    return EnergySeries(
        start=first, price_eur_per_mwh=steps, carbon_gco2_per_kwh=300 + steps, renewable_pct=np.full(count, 40.0)
    )


ENERGY = hours(START - 3 * 24 * HOUR, 6 * 24)


def replay_of(scenario: Scenario, energy: EnergySeries = ENERGY, **policy) -> Replay:
    return Replay(scenario, {"berlin": energy}, ReplayPolicy(**policy))


def of(kind: type, events: list) -> list:
    return [event for event in events if isinstance(event, kind)]


def energy_of(kind: str, events: list) -> list[EnergySeriesPublished]:
    return [event for event in of(EnergySeriesPublished, events) if event.kind == kind]


def test_the_inventory_comes_first_and_whole(scenario):
    first, *_ = replay_of(scenario).due(START)
    assert isinstance(first, SiteObserved)
    assert [node.name for node in first.nodes] == ["n0", "n1"]
    assert all(node.ready for node in first.nodes)
    assert (first.zone, first.observed_at, first.latency_ms) == ("DE-LU", START, {"texas": 80.0})


def test_history_is_published_at_the_start_one_record_a_kind_and_utc_day(scenario):
    events = replay_of(scenario, history_days=2).due(START)
    carbon = energy_of("carbon_gco2_per_kwh", events)
    assert [event.start for event in carbon] == [START - 48 * HOUR, START - 24 * HOUR]
    assert all(len(event.values) == 24 for event in carbon)
    assert carbon[0].values[0] == 324.0


def test_history_ends_where_the_file_begins(scenario):
    events = replay_of(scenario, history_days=28).due(START)
    assert energy_of("renewable_pct", events)[0].start == ENERGY.start


def test_prices_are_published_ahead_as_far_as_the_auction_goes(scenario):
    replay = replay_of(scenario)
    today = energy_of("price_eur_per_mwh", replay.due(START))[-1]
    assert (today.start, len(today.values)) == (START, 22)  # the local day ends at 22:00 UTC
    assert not energy_of("price_eur_per_mwh", replay.due(START + timedelta(hours=10, minutes=44)))
    published = energy_of("price_eur_per_mwh", replay.due(START + timedelta(hours=10, minutes=45)))
    assert [(event.start, len(event.values)) for event in published] == [(START, 24), (START + 24 * HOUR, 22)]
    assert published[-1].published_at == START + timedelta(hours=10, minutes=45)


def test_the_running_days_carbon_is_published_again_with_each_full_hour(scenario):
    replay = replay_of(scenario)
    replay.due(START)
    assert not energy_of("carbon_gco2_per_kwh", replay.due(START + timedelta(minutes=59)))
    (first,) = energy_of("carbon_gco2_per_kwh", replay.due(START + HOUR))
    (second,) = energy_of("carbon_gco2_per_kwh", replay.due(START + 2 * HOUR))
    assert first.key == second.key
    assert (len(first.values), len(second.values)) == (1, 2)
    assert second.published_at == START + 2 * HOUR


def test_a_gap_in_the_file_stays_a_gap(scenario):
    energy = hours(START, 48)
    energy.carbon_gco2_per_kwh[1] = np.nan
    events = replay_of(scenario, energy).due(START + 3 * HOUR)
    assert energy_of("carbon_gco2_per_kwh", events)[-1].values == (300.0, None, 302.0)


def test_nothing_is_published_beyond_the_end_of_the_file(scenario):
    events = replay_of(scenario, hours(START, 3)).due(START + 240 * HOUR)
    assert [len(event.values) for event in energy_of("price_eur_per_mwh", events)] == [3]
    assert all("price" not in name for event in of(MetricsScraped, events) for name in event.series)


def test_a_machine_that_dies_changes_the_inventory_when_it_dies_and_when_it_is_back(scenario):
    replay = replay_of(scenario)
    replay.due(START)
    assert not of(SiteObserved, replay.due(START + timedelta(seconds=7199)))
    (dead,) = of(SiteObserved, replay.due(START + timedelta(seconds=7300)))
    assert [node.ready for node in dead.nodes] == [True, False]
    assert dead.observed_at == START + timedelta(seconds=7200)
    (back,) = of(SiteObserved, replay.due(START + timedelta(seconds=20_000)))
    assert all(node.ready for node in back.nodes)


def test_maintenance_cordons_or_drains_a_machine_until_it_is_back(scenario, site):
    maintenance = (
        Maintenance(subject="n0", from_s=600, until_s=1200, drains=True),
        Maintenance(subject="n1", from_s=900, until_s=None, drains=False),
    )
    replay = replay_of(
        msgspec.structs.replace(scenario, sites=(msgspec.structs.replace(site, maintenance=maintenance),))
    )
    replay.due(START)

    def seen(seconds: float):
        (event,) = of(SiteObserved, replay.due(START + timedelta(seconds=seconds)))
        return [(node.ready, node.draining) for node in event.nodes]

    assert seen(700) == [(False, True), (True, False)]
    assert seen(1000) == [(False, True), (False, False)]
    assert seen(1300) == [(True, False), (False, False)]
    assert not of(SiteObserved, replay.due(START + timedelta(seconds=5000)))


def test_links_are_read_once_a_period_and_the_latest_only(scenario):
    replay = replay_of(scenario)
    first = of(LinkObserved, replay.due(START))
    assert [(event.link, event.rate_bps, event.up) for event in first] == [("a>b", 1.0, True), ("b>a", 2.0, True)]
    assert not of(LinkObserved, replay.due(START + timedelta(seconds=299)))
    later = of(LinkObserved, replay.due(START + timedelta(seconds=3301)))  # eleven periods on
    assert [event.observed_at for event in later] == [START + timedelta(seconds=3300)] * 2
    assert later[1].rate_bps == 4.0


def test_a_link_that_grows_slow_is_reported_at_once_and_again_when_it_is_over(scenario):
    slow = (
        Slowdown(subject="b>a", from_s=100, until_s=200, latency_ms=40.0),
        Slowdown(subject="b>a", from_s=150, until_s=200, latency_ms=60.0),
    )
    network = msgspec.structs.replace(scenario.network, slowdowns=slow)
    replay = replay_of(msgspec.structs.replace(scenario, network=network))
    seen = []
    for after_s in (0, 99, 100, 120, 150, 199, 200, 201):
        links = of(LinkObserved, replay.due(START + timedelta(seconds=after_s)))
        seen += [(after_s, event.latency_ms, event.observed_at) for event in links if event.link == "b>a"]
    assert [(after_s, latency_ms) for after_s, latency_ms, _ in seen] == [(0, 5), (100, 40), (150, 60), (200, 5)]
    assert [at - START for _, _, at in seen] == [timedelta(seconds=after_s) for after_s in (0, 100, 150, 200)]


def test_a_link_that_fails_is_reported_at_once_and_carries_nothing(scenario):
    replay = replay_of(scenario)
    replay.due(START + timedelta(seconds=400))
    (down,) = of(LinkObserved, replay.due(START + timedelta(seconds=460)))
    assert (down.link, down.up, down.rate_bps) == ("a>b", False, 0.0)
    assert down.observed_at == START + timedelta(seconds=450)


def test_a_site_shows_its_price_and_only_measured_carbon(scenario):
    (scrape,) = of(MetricsScraped, replay_of(scenario).due(START + timedelta(minutes=90, seconds=5)))
    values = dict(zip(scrape.series, scrape.values, strict=True))
    assert scrape.source == "berlin"
    assert scrape.scraped_at == START + timedelta(minutes=90)
    assert values['solyx_site_price_eur_per_mwh{site="berlin"}'] == 73.0  # the running hour
    assert values['solyx_site_carbon_gco2_per_kwh{site="berlin"}'] == 372.0  # the hour before
    assert values['solyx_site_nodes_ready{site="berlin"}'] == 2.0


def test_a_site_shows_the_load_of_its_services_and_of_no_other(scenario):
    readings = np.array([5.0, 7.0])
    loads = tuple(Load(service="web", site=where, period_s=60, values=readings) for where in ("berlin", "elsewhere"))
    replay = replay_of(msgspec.structs.replace(scenario, loads=loads))
    (scrape,) = of(MetricsScraped, replay.due(START + timedelta(minutes=1)))
    shown = dict(zip(scrape.series, scrape.values, strict=True))
    assert {name: value for name, value in shown.items() if "load" in name} == {
        'solyx_service_load{service="web",site="berlin"}': 7.0
    }


def test_a_restart_repeats_ids_and_contents(scenario):
    at = START + timedelta(hours=11, minutes=7)
    running = replay_of(scenario)
    before = {event.id: event for minute in range(668) for event in running.due(START + timedelta(minutes=minute))}
    again = [event for event in replay_of(scenario).due(at) if not isinstance(event, MetricsScraped)]
    assert again
    assert [before[event.id] for event in again] == again


def test_own_generation_is_published_ahead_where_the_file_has_it(scenario):
    generating = msgspec.structs.replace(ENERGY, on_site_w=np.full(6 * 24, 900.0))
    today = energy_of("on_site_w", replay_of(scenario, generating).due(START))[-1]
    assert (today.start, today.values) == (START, (900.0,) * 22)
    assert not energy_of("on_site_w", replay_of(scenario).due(START))
