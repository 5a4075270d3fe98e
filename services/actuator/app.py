"""The actuator's composition root: the targets, then the role that works on them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from services.actuator.service import role
from services.actuator.simulated.course import Chance
from services.actuator.simulated.targets import SimulatedTargets, planned_outages
from services.actuator.simulated.work import Checkpoints
from solyx import scenario
from solyx.process import run_role

if TYPE_CHECKING:
    from contextlib import ExitStack

    from services.actuator.settings import ActuatorSettings
    from solyx.bus.runner import Role
    from solyx.clock import Clock
    from solyx.scenario import Scenario


def run(settings: ActuatorSettings) -> int:
    """Work until SIGTERM or SIGINT; the exit code."""

    def make_role(clock: Clock, stack: ExitStack) -> Role:
        world = scenario.load(settings.scenario) if settings.scenario else None
        chance = Chance(failure_rate=settings.simulated_failure_rate, seed=settings.simulated_seed)
        targets = SimulatedTargets(
            Path(settings.state_dir),
            clock,
            chance=chance,
            checkpoints=_checkpoints(settings, world),
            outages=planned_outages(world) if world else {},
        )
        return role(stack.enter_context(targets), settings)

    return run_role("actuator", settings, make_role)


def _checkpoints(settings: ActuatorSettings, world: Scenario | None) -> Checkpoints:
    overhead_s = settings.simulated_restart_overhead_s
    if overhead_s is None:
        overhead_s = world.job_source.suspend_overhead_s if world else 0.0
    return Checkpoints(restart_overhead_s=overhead_s, interval_s=settings.simulated_checkpoint_interval_s)
