"""The actuator's composition root: the targets, then the role that works on them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from services.actuator.service import role
from services.actuator.simulated.course import Chance
from services.actuator.simulated.targets import SimulatedTargets, planned_outages
from solyx import scenario
from solyx.process import run_role

if TYPE_CHECKING:
    from contextlib import ExitStack

    from services.actuator.settings import ActuatorSettings
    from solyx.bus.runner import Role
    from solyx.clock import Clock


def run(settings: ActuatorSettings) -> int:
    """Work until SIGTERM or SIGINT; the exit code."""

    def make_role(clock: Clock, stack: ExitStack) -> Role:
        outages = planned_outages(scenario.load(settings.scenario)) if settings.scenario else {}
        chance = Chance(failure_rate=settings.simulated_failure_rate, seed=settings.simulated_seed)
        targets = SimulatedTargets(Path(settings.state_dir), clock, chance=chance, outages=outages)
        return role(stack.enter_context(targets), settings)

    return run_role("actuator", settings, make_role)
