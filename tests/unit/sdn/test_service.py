import time
from datetime import UTC, datetime

import pytest

from services.sdn.service import role
from services.sdn.settings import SdnSettings
from solyx.bus.memory import MemoryBus
from solyx.bus.runner import run_roles
from solyx.clock import ManualClock
from solyx.events import LinkObserved, SiteObserved, decode, encode
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


def test_links_and_sites_on_the_bus_become_routes_on_the_bus():
    with MemoryBus() as bus:
        settings = SdnSettings(settle_s=0)
        clock = ManualClock(NOW)
        (runner,) = run_roles([role(settings.policy(speed=1))], settings, bus, clock)
        try:
            publisher = bus.publisher(name="test")
            events = [SiteObserved(site=site, observed_at=NOW, nodes=()) for site in ("a", "z")]
            events += [
                LinkObserved(link=f"{s}>{t}", source=s, target=t, capacity_bps=1e9, latency_ms=5, observed_at=NOW)
                for s, t in (("a", "z"), ("z", "a"))
            ]
            tail = bus.tail(["routes"])
            publisher.publish([encode(event, source="test", time=NOW) for event in events])
            found = {}
            deadline = time.monotonic() + 20
            while len(found) < 2 and time.monotonic() < deadline:
                for received in tail.read(max_records=10, timeout_s=0.1):
                    found[received.key] = decode(received.value, received.headers).event.path
            assert found == {"a>z": ("a", "z"), "z>a": ("z", "a")}
        finally:
            runner.stop()
