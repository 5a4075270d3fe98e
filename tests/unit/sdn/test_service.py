import time
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from services.sdn.service import role
from services.sdn.settings import SdnSettings
from solyx.bus.memory import MemoryBus
from solyx.bus.runner import run_roles
from solyx.clock import ManualClock
from solyx.events import LinkObserved, RouteReason, SiteObserved, decode, encode
from solyx.settings import SettingsError, load

NOW = datetime(2025, 6, 2, tzinfo=UTC)


def test_settings_come_from_the_environment():
    settings = load(SdnSettings, "sdn", {"SOLYX_SDN_DWELL_S": "30", "SOLYX_HYSTERESIS": "0.1"})
    assert (settings.policy(speed=1).dwell_s, settings.policy(speed=1).hysteresis) == (30, 0.1)


@pytest.mark.parametrize("setting", ["SOLYX_SDN_MAX_UTILISATION=0", "SOLYX_SDN_HYSTERESIS=1", "SOLYX_SDN_DWELL_S=-1"])
def test_a_setting_out_of_range_is_refused_by_name(setting):
    name, value = setting.split("=")
    with pytest.raises(SettingsError, match=name.replace("SDN_", "")):
        load(SdnSettings, "sdn", {name: value})


def test_a_fast_replay_evaluates_no_more_than_four_times_a_wall_second():
    assert SdnSettings().policy(speed=1).evaluation_interval_s == 60
    assert SdnSettings().policy(speed=7200).evaluation_interval_s == 1800


LINKS = [
    LinkObserved(link=f"{s}>{t}", source=s, target=t, capacity_bps=1e9, latency_ms=5, observed_at=NOW)
    for s, t in (("a", "z"), ("z", "a"))
]
SITES = [SiteObserved(site=site, observed_at=NOW, nodes=()) for site in ("a", "z")]


def start(bus, replica):
    settings = SdnSettings(settle_s=0, replica=replica)
    (runner,) = run_roles([role(settings.policy(speed=1))], settings, bus, ManualClock(NOW))
    return runner


def publish(bus, *events):
    bus.publisher(name="test").publish([encode(event, source="test", time=NOW) for event in events])


def read_routes(tail, count):
    """The next ``count`` routes, in the order of their publication."""
    routes = []
    deadline = time.monotonic() + 20
    while len(routes) < count and time.monotonic() < deadline:
        received = tail.read(max_records=10, timeout_s=0.1)
        routes += [decode(record.value, record.headers).event for record in received]
    assert len(routes) == count
    return routes


def test_links_and_sites_on_the_bus_become_routes_on_the_bus():
    with MemoryBus() as bus:
        runner = start(bus, "0")
        try:
            tail = bus.tail(["routes"])
            publish(bus, *SITES, *LINKS)
            assert {route.key: route.path for route in read_routes(tail, 2)} == {"a>z": ("a", "z"), "z>a": ("z", "a")}
        finally:
            runner.stop()


def test_a_standby_goes_on_where_the_writer_stopped():
    with MemoryBus() as bus:
        writer = start(bus, "0")
        standby = start(bus, "1")
        try:
            tail = bus.tail(["routes"])
            publish(bus, *SITES, *LINKS)
            read_routes(tail, 2)
            writer.stop()
            down = msgspec.structs.replace(LINKS[0], up=False, observed_at=NOW + timedelta(seconds=1))
            publish(bus, down)
            (route,) = read_routes(tail, 1)
            assert (route.key, route.revision, route.reason, route.path) == ("a>z", 2, RouteReason.NO_PATH, ())
        finally:
            writer.stop()
            standby.stop()
