"""``python -m services.forecaster``: settings from the environment, then the app until SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import os
import sys

from services.forecaster.app import run
from services.forecaster.settings import ForecasterSettings
from solyx.settings import SettingsError, load


def main() -> int:
    """The exit status."""
    try:
        settings = load(ForecasterSettings, "forecaster")
        settings.check()
    except SettingsError as error:
        print(error, file=sys.stderr)  # noqa: T201 - there is no logger before the settings are read
        return 2
    return asyncio.run(run(settings))


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # a thread that hangs in a library must not keep a stopped process alive
