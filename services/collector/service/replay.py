"""Plays a scenario to Kafka: asks the planner a few times a wall second what is due, and waits until it is safe.

Slow publishing makes rounds rarer, never longer queues: the planner is asked for the present only.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from services.collector.core.replay import Replay, ReplayPolicy
from solyx.telemetry import get_logger

if TYPE_CHECKING:
    from services.collector.service.outlet import Outlet
    from services.collector.settings import CollectorSettings
    from solyx.clock import Clock
    from solyx.scenario import Scenario

log = get_logger()


def make_replay(scenario: Scenario, settings: CollectorSettings) -> Replay:
    """Read the scenario's energy and plan with it.

    Raises:
        ScenarioError: an energy file does not fit.
    """
    policy = ReplayPolicy(
        history_days=settings.history_days,
        link_period_s=settings.link_period_s,
        metrics_period_s=settings.metrics_period_s,
    )
    return Replay(scenario, {site.name: scenario.energy(site.name) for site in scenario.sites}, policy)


async def play(replay: Replay, outlet: Outlet, clock: Clock, *, rounds_per_s: float, started: asyncio.Event) -> None:
    """Until cancelled; ``started`` is set once everything known at the beginning is safe."""
    while True:
        events = replay.due(clock.now())
        if events:
            await outlet.publish(events)
        if not started.is_set():
            log.info("scenario_started", events=len(events), at=clock.now().isoformat())
            started.set()
        await asyncio.sleep(1 / rounds_per_s)
