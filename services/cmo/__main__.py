"""``python -m services.cmo``: decide where and when jobs run, until SIGTERM or SIGINT."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from services.cmo.app import run
from services.cmo.settings import CmoSettings
from solyx.command import start

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 after a signal, 1 after a failure, 2 for settings that do not fit."""
    return start("cmo", arguments, says=__doc__, settings=CmoSettings, run=run)


if __name__ == "__main__":
    sys.exit(main())
