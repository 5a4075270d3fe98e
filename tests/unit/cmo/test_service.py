"""The CMO behind a bus: its role, its settings, and one leader whose standby goes on without repeating anything."""

import time

import pytest

from services.cmo.service import role
from services.cmo.settings import CmoSettings
from solyx.bus.memory import MemoryBus
from solyx.bus.runner import ServiceRunner
from solyx.clock import ManualClock
from solyx.events import JobPlaced, decode, encode
from solyx.settings import SettingsError, load
from solyx.topics import DEADLETTERS, PLACEMENTS
from tests.unit.cmo.cmo_builders import T0, flat, submitted


def wait_for(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "condition not met in time"
        time.sleep(0.01)


def publish(bus, *events):
    publisher = bus.publisher(name="test")
    publisher.publish([encode(event, source="test", time=T0) for event in events])
    publisher.close()


def placed(bus) -> list[str]:
    tail = bus.tail([PLACEMENTS.name])
    read = []
    while not tail.caught_up():
        read.extend(tail.read(max_records=100, timeout_s=0.01))
    tail.close()
    events = [decode(record.value, record.headers).event for record in read]
    return sorted(event.job_id for event in events if isinstance(event, JobPlaced))


def test_one_replica_decides_and_its_standby_goes_on_without_repeating():
    bus = MemoryBus()
    settings = [CmoSettings(replica=replica) for replica in "01"]
    runners = [ServiceRunner(role(one, speed=1.0), one, bus, ManualClock(T0)) for one in settings]
    bus.ensure_topics([*role(settings[0], speed=1.0).inputs, PLACEMENTS, DEADLETTERS])
    publish(bus, *flat("a", "b"), submitted("first", max_delay=0))
    for runner in runners:
        runner.start()
    wait_for(lambda: placed(bus) == ["first"])
    wait_for(lambda: all(runner.ready() for runner in runners))
    leader, standby = sorted(runners, key=lambda runner: not runner.details()["leading"])
    leader.stop()
    publish(bus, submitted("second", max_delay=0))
    wait_for(lambda: placed(bus) == ["first", "second"])
    standby.stop()
    assert leader.failed is None
    assert standby.failed is None


def test_settings_become_the_policy_and_a_replay_stretches_what_is_meant_in_wall_time():
    settings = load(
        CmoSettings,
        "cmo",
        {"SOLYX_CMO_CARBON_EUR_PER_T": "65", "SOLYX_CMO_STUCK_H": "1", "SOLYX_CMO_REACTION_WALL_S": "5"},
    )
    policy = settings.policy(speed=100.0)
    assert (policy.carbon_eur_per_t, policy.stuck_s) == (65.0, 3600.0)
    assert (policy.reaction_s, policy.settle_s) == (500.0, 200.0)
    assert settings.policy(speed=1.0).reaction_s == 5.0


@pytest.mark.parametrize(
    ("name", "value"),
    [("CARBON_EUR_PER_T", "-1"), ("HORIZON_H", "0"), ("HORIZON_H", "169"), ("MAX_ATTEMPTS", "0"), ("STUCK_H", "soon")],
)
def test_a_setting_out_of_its_range_is_refused_by_name(name, value):
    with pytest.raises(SettingsError, match=f"SOLYX_{name}"):
        load(CmoSettings, "cmo", {f"SOLYX_CMO_{name}": value})
