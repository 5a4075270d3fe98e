"""``python -m services.cmo``: decide where and when jobs run, until SIGTERM or SIGINT."""

from __future__ import annotations

import sys

from services.cmo.app import run
from services.cmo.settings import CmoSettings
from solyx.settings import SettingsError, load


def main() -> int:
    """Exit code 0 after a signal, 1 after a failure, 2 for settings that do not fit."""
    try:
        return run(load(CmoSettings, "cmo"))
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main())
