"""Whether the broker answers shows in `/readyz` within seconds, also of a service that has nothing to do."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from solyx.bus.memory import MemoryBus
from solyx.bus.port import Transient
from solyx.bus.probe import BrokerProbe
from solyx.bus.runner import Role, ServiceRunner
from solyx.clock import ManualClock
from solyx.events import Event
from solyx.settings import Settings
from solyx.topics import ANOMALIES, SITES


class LeavingBus(MemoryBus):
    """A bus whose broker can go away."""

    away = False

    def ask(self, *, timeout_s: float) -> None:
        if self.away:
            msg = f"no answer in {timeout_s:g} s"
            raise Transient(msg)


class IdleCore:
    """Has nothing to do."""

    def fold(self, event: Event) -> None:
        del event

    def decide(self, now: datetime) -> list[Event]:
        del now
        return []


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def bus(monkeypatch: pytest.MonkeyPatch) -> LeavingBus:
    monkeypatch.setattr("solyx.bus.probe.PROBE_EVERY_S", 0.01)
    return LeavingBus()


def test_before_the_first_answer_the_broker_is_not_taken_for_there() -> None:
    probe = BrokerProbe(LeavingBus())
    assert not probe.answers
    assert probe.status == "not asked yet"


def test_a_broker_that_goes_and_comes_is_noticed_with_its_reason(bus: LeavingBus) -> None:
    probe = BrokerProbe(bus)
    probe.start()
    wait_for(lambda: probe.answers)
    bus.away = True
    wait_for(lambda: probe.status == "unreachable: no answer in 3 s")
    bus.away = False
    wait_for(lambda: probe.answers)
    probe.stop()


def test_an_idle_service_is_not_ready_while_its_broker_is_away(bus: LeavingBus) -> None:
    role = Role(
        service="idle",
        inputs=(SITES,),
        outputs=(ANOMALIES,),
        shards=1,
        by="site",
        standby=False,
        make_core=lambda _: IdleCore(),
    )
    runner = ServiceRunner(role, Settings(), bus, ManualClock(datetime(2026, 1, 1, tzinfo=UTC)))
    runner.start()
    wait_for(runner.ready)
    bus.away = True
    wait_for(lambda: not runner.ready())
    assert runner.details()["broker"] == "unreachable: no answer in 3 s"
    bus.away = False
    wait_for(runner.ready)
    runner.stop()
