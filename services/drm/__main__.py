"""``python -m services.drm``: decide on which nodes and devices placed jobs run, until SIGTERM or SIGINT."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from services.drm.app import run
from services.drm.settings import DrmSettings
from solyx.command import start

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 after a signal, 1 after a failure, 2 for settings that do not fit."""
    return start("drm", arguments, says=__doc__, settings=DrmSettings, run=run)


if __name__ == "__main__":
    sys.exit(main())
