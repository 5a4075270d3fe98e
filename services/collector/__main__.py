"""``python -m services.collector``: turn the outside world into events, until SIGTERM or SIGINT."""

from __future__ import annotations

import sys

from services.collector.app import run
from services.collector.config import ConfigError
from services.collector.settings import CollectorSettings
from solyx.scenario import ScenarioError
from solyx.settings import SettingsError, load


def main() -> int:
    """Exit code 0 after a signal, 1 after a failure, 2 for settings, a configuration or a scenario that do not fit."""
    try:
        return run(load(CollectorSettings, "collector"))
    except (SettingsError, ConfigError, ScenarioError) as error:
        sys.stderr.write(f"{error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main())
