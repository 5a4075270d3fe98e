"""Routes: the highest revision is installed, and each outcome is told once."""

from __future__ import annotations

from pathlib import Path

from services.actuator.core import ActuatorCore
from services.actuator.model import InstalledRoute, RouteOutcome, RoutesDone, RoutesFailed, RoutesSeen, Verdict
from services.actuator.simulated.network import SimulatedNetwork
from solyx.clock import ManualClock
from solyx.events import RouteReported
from tests.unit.actuator.actuator_cases import START, new_core, route, story


def listed(*installed: InstalledRoute) -> ActuatorCore:
    core = new_core()
    core.fold(route())
    core.observe(RoutesSeen(installed=installed), wall_s=0.0)
    return core


def commands(core: ActuatorCore, wall_s: float = 0.0):
    return core.route_commands(limit=10, wall_s=wall_s)


def done(verdict: Verdict, revision: int = 1) -> RoutesDone:
    return RoutesDone(outcomes=(RouteOutcome(route=route(revision), verdict=verdict),))


def test_a_route_is_installed_and_reported_once():
    core = listed()
    assert commands(core) == [route()]
    assert commands(core) == [], "under way"
    core.observe(done(Verdict.APPLIED), wall_s=0.0)
    assert story(core.decide(START)) == ["paris>oslo.1.applied"]
    core.fold(route())
    assert core.decide(START) == []
    assert commands(core) == []


def test_no_route_is_installed_before_the_network_was_listed():
    core = new_core()
    core.fold(route())
    assert commands(core) == []


def test_a_lower_revision_is_refused_and_a_higher_one_wins():
    core = listed()
    core.fold(route(3))
    core.fold(route(2))
    assert commands(core) == [route(3)]


def test_a_route_decided_while_its_predecessor_is_under_way_follows_it():
    core = listed()
    commands(core)
    core.fold(route(2))
    assert commands(core) == []
    core.observe(done(Verdict.APPLIED), wall_s=0.0)
    assert story(core.decide(START)) == ["paris>oslo.1.applied"]
    assert commands(core) == [route(2)]


def test_a_refused_route_is_reported_failed_and_not_tried_again():
    core = listed()
    commands(core)
    core.observe(done(Verdict.REJECTED), wall_s=0.0)
    assert story(core.decide(START)) == ["paris>oslo.1.failed"]
    assert commands(core, wall_s=1000.0) == []


def test_an_unavailable_route_waits_and_a_failed_call_gives_its_routes_back():
    core = listed()
    commands(core)
    core.observe(done(Verdict.UNAVAILABLE), wall_s=0.0)
    assert commands(core, wall_s=0.3) == []
    assert commands(core, wall_s=1.1) == [route()]
    core.observe(RoutesFailed(routes=(route(),)), wall_s=1.1)
    assert commands(core, wall_s=1.1) == [route()]


def test_a_route_missing_from_the_network_is_installed_again_without_a_second_report():
    core = listed()
    commands(core)
    core.observe(done(Verdict.APPLIED), wall_s=0.0)
    core.decide(START)
    core.observe(RoutesSeen(installed=()), wall_s=0.0)
    assert commands(core) == [route()]
    core.observe(done(Verdict.APPLIED), wall_s=0.0)
    assert core.decide(START) == []


def test_a_recovered_core_does_not_install_or_report_again():
    core = new_core()
    core.fold(RouteReported(source="paris", target="oslo", revision=1, status="applied", at=START))
    core.fold(route())
    core.observe(RoutesSeen(installed=(InstalledRoute(key="paris>oslo", revision=1),)), wall_s=0.0)
    assert commands(core) == []
    assert core.decide(START) == []


def test_the_simulated_network_keeps_its_routes_and_refuses_a_lower_revision(tmp_path: Path):
    clock = ManualClock(START)
    first, second = (SimulatedNetwork(tmp_path / "network", clock) for _ in range(2))
    assert [outcome.verdict for outcome in first.apply([route(2)])] == [Verdict.APPLIED]
    assert [outcome.verdict for outcome in second.apply([route(1)])] == [Verdict.STALE]
    assert [outcome.verdict for outcome in second.apply([route(2)])] == [Verdict.APPLIED]
    assert second.observe() == [InstalledRoute(key="paris>oslo", revision=2)]
