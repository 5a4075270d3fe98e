"""What command lines share: a service takes no arguments, for its settings are the environment; and a reader may go, as ``| head`` does."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from solyx.settings import S, SettingsError, load

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence


def start(
    service: str,
    arguments: Sequence[str] | None,
    *,
    says: str | None,
    settings: type[S],
    run: Callable[[S], int],
    refusals: tuple[type[Exception], ...] = (),
) -> int:
    """Read the settings and run the service. Its exit code, or 2 for settings, or what ``refusals`` say of, that do not fit.

    Raises:
        SystemExit: after ``--help`` with 0, after an argument with 2. To start on a mistyped command would be a surprise.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m services.{service}",
        description=(says or "").replace("``", ""),
        epilog=f"It takes its settings from the environment: see docs/configuration.md and services/{service}/README.md.",
    )
    parser.parse_args(arguments)
    try:
        return run(load(settings, service))
    except (SettingsError, *refusals) as error:
        sys.stderr.write(f"{error}\n")
        return 2


def mute() -> None:
    """Nobody reads what is printed from now on, and neither that nor the flush at the exit complains."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def though_unread() -> Generator[None]:
    """For what is said in the middle of a work: the work goes on when nobody reads it any more."""
    try:
        yield
    except BrokenPipeError:
        mute()
