"""``python -m services.collector``: turn the outside world into events, until SIGTERM or SIGINT."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from services.collector.app import run
from services.collector.config import ConfigError
from services.collector.settings import CollectorSettings
from solyx.command import start
from solyx.scenario import ScenarioError

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 after a signal, 1 after a failure, 2 for settings, a configuration or a scenario that do not fit."""
    return start(
        "collector", arguments, says=__doc__, settings=CollectorSettings, run=run, refusals=(ConfigError, ScenarioError)
    )


if __name__ == "__main__":
    sys.exit(main())
