"""What is said when a scenario is broken: the file, the place in it, what is wrong, and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class ScenarioError(Exception):
    """A scenario cannot be read. ``line`` 0: the file as a whole; ``key`` is a TOML key or a column."""

    def __init__(self, file: Path, line: int, key: str, message: str, cure: str) -> None:
        self.file = file
        self.line = line
        self.key = key
        self.message = message
        self.cure = cure
        place = f"{file}:{line}" if line else str(file)
        about = f"{key}: " if key else ""
        super().__init__(f"{place}: {about}{message}. {cure}")
