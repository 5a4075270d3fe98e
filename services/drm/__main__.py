"""``python -m services.drm``: decide on which nodes and devices placed jobs run, until SIGTERM or SIGINT."""

from __future__ import annotations

import sys

from services.drm.app import run
from services.drm.settings import DrmSettings
from solyx.settings import SettingsError, load


def main() -> int:
    """Exit code 0 after a signal, 1 after a failure, 2 for settings that do not fit."""
    try:
        return run(load(DrmSettings, "drm"))
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main())
