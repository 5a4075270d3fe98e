"""Tables for people, JSON lines for programs."""

from __future__ import annotations

import errno
import os
import sys
from typing import TYPE_CHECKING, Any, TextIO

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

PIPE_WIDTH = 200
"""Columns where no terminal says how many there are: wide enough that ids and reasons stay on their line."""


class _Console(Console):
    """Leaves it to the command line what a reader that has gone means; rich would end the process with status 1."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def _width(stream: TextIO) -> int | None:
    return None if stream.isatty() or "COLUMNS" in os.environ else PIPE_WIDTH


console = _Console(width=_width(sys.stdout))
errors = _Console(stderr=True, soft_wrap=True, width=_width(sys.stderr))

STATE_STYLES = {"succeeded": "green", "failed": "red", "cancelled": "yellow", "running": "cyan", "allocated": "blue"}


def print_json(value: Any) -> None:
    """One JSON document on one line."""
    sys.stdout.write(msgspec.json.encode(value, enc_hook=str).decode() + "\n")
    sys.stdout.flush()


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None) -> None:
    """A table; empty cells for None."""
    table = Table(title=title, title_justify="left", header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=column == "id", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(cell) for cell in row))
    console.print(table)


def _cell(value: object) -> Text:
    """As it is: what a user wrote in square brackets is no markup."""
    return value if isinstance(value, Text) else Text("" if value is None else str(value))


def state(name: str) -> Text:
    """A job's state, coloured."""
    return Text(name, style=STATE_STYLES.get(name, ""))


def moment(time: datetime | None) -> str:
    """To the second, UTC."""
    return time.strftime("%Y-%m-%d %H:%M:%S") if time else ""


def number(value: float | None, digits: int = 2) -> str:
    """A figure, or a dash where nothing is known."""
    return "–" if value is None else f"{value:,.{digits}f}"
