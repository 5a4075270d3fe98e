"""``python -m services.actuator``: apply what was decided and report what came of it, until SIGTERM or SIGINT."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from services.actuator.app import run
from services.actuator.settings import ActuatorSettings
from solyx.command import start
from solyx.scenario import ScenarioError

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 after a signal, 1 after a failure, 2 for settings or a scenario that do not fit."""
    return start("actuator", arguments, says=__doc__, settings=ActuatorSettings, run=run, refusals=(ScenarioError,))


if __name__ == "__main__":
    sys.exit(main())
