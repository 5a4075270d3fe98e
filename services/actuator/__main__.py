"""``python -m services.actuator``: apply what was decided and report what came of it, until SIGTERM or SIGINT."""

from __future__ import annotations

import sys

from services.actuator.app import run
from services.actuator.settings import ActuatorSettings
from solyx.scenario import ScenarioError
from solyx.settings import SettingsError, load


def main() -> int:
    """Exit code 0 after a signal, 1 after a failure, 2 for settings or a scenario that do not fit."""
    try:
        return run(load(ActuatorSettings, "actuator"))
    except (SettingsError, ScenarioError) as error:
        sys.stderr.write(f"{error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main())
