"""The replay of the real grids: what the files say, when it was known, and their gaps."""

import csv
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from services.collector.core.replay import Replay
from services.collector.service.replay import make_replay
from services.collector.settings import CollectorSettings
from solyx.events import EnergySeriesPublished, LinkObserved, SiteObserved
from solyx.scenario import Scenario, load
from tests.data import shared_data

HOUR = timedelta(hours=1)


@pytest.fixture
def scenario() -> Scenario:
    return load(shared_data() / "scenarios" / "grids-2023")


@pytest.fixture
def replay(scenario) -> Replay:
    return make_replay(scenario, CollectorSettings(history_days=28))


def file_values(zone: str, column: str) -> dict[datetime, float | None]:
    with (shared_data() / "energy" / f"{zone}-2021-2023.csv").open() as file:
        return {
            datetime.fromisoformat(row["time"]).astimezone(UTC): float(row[column]) if row[column] else None
            for row in csv.DictReader(file)
        }


def told(events: list, site: str, kind: str) -> dict[datetime, float | None]:
    last = {event.key: event for event in events if isinstance(event, EnergySeriesPublished)}
    return {
        event.start + index * HOUR: value
        for event in last.values()
        if (event.site, event.kind) == (site, kind)
        for index, value in enumerate(event.values)
    }


@pytest.mark.parametrize(("site", "zone"), [("frankfurt", "DE-LU"), ("texas", "US-TEX-ERCO")])
def test_two_days_of_real_prices_and_carbon_are_told_as_the_files_have_them(replay, scenario, site, zone):
    now = scenario.start + timedelta(hours=40, minutes=10)  # 2 June, 16:10 UTC
    events = [*replay.due(scenario.start), *replay.due(now)]
    for kind, column in (("price_eur_per_mwh", "price_eur_mwh"), ("carbon_gco2_per_kwh", "carbon_gco2_kwh")):
        series, file = told(events, site, kind), file_values(zone, column)
        assert series == {when: file[when] for when in series}
        assert min(series) == scenario.start - timedelta(days=28)
    # Frankfurt's auction was published at 12:45 local (10:45 UTC); Texas's at 13:30 local (18:30 UTC) is yet to come.
    ends = {"frankfurt": datetime(2023, 6, 3, 22, tzinfo=UTC), "texas": datetime(2023, 6, 3, 5, tzinfo=UTC)}
    assert max(told(events, site, "price_eur_per_mwh")) + HOUR == ends[site]
    assert max(told(events, site, "carbon_gco2_per_kwh")) + HOUR == datetime(2023, 6, 2, 16, tzinfo=UTC)


def test_the_real_inventory_and_network_are_told_whole(replay, scenario):
    events = replay.due(scenario.start)
    sites = [event for event in events if isinstance(event, SiteObserved)]
    assert sum(len(event.nodes) for event in sites) == 39
    assert sum(device.count for event in sites for node in event.nodes for device in node.devices) == 168
    links = [event for event in events if isinstance(event, LinkObserved)]
    assert {event.link for event in links} == {link.name for link in scenario.network.links}
    assert all(0 <= event.rate_bps <= event.capacity_bps and event.up for event in links)


def test_the_hours_without_a_price_stay_without(scenario):
    values = file_values("DE-LU", "price_eur_mwh")
    energy = scenario.energy("frankfurt")
    gaps = [when for when in energy.times() if values.get(when) is None]
    assert len(gaps) == 48
    moved = msgspec.structs.replace(scenario, start=gaps[0])
    replay = make_replay(moved, CollectorSettings(history_days=2))
    series = told(replay.due(gaps[-1] + 3 * HOUR), "frankfurt", "price_eur_per_mwh")
    assert all(series[when] is None for when in gaps)
