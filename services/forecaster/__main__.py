"""``python -m services.forecaster``: settings from the environment, then the app until SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING

from services.forecaster.app import run
from services.forecaster.settings import ForecasterSettings
from solyx.command import start

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 after a signal, 1 after a failure, 2 for settings that do not fit."""
    return start("forecaster", arguments, says=__doc__, settings=ForecasterSettings, run=_run)


def _run(settings: ForecasterSettings) -> int:
    settings.check()
    return asyncio.run(run(settings))


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # a thread that hangs in a library must not keep a stopped process alive
