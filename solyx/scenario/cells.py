"""CSV files as typed cells: a bad one is named by file, line and column."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

from solyx.scenario.errors import ScenarioError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


class Row:
    """One line of a CSV file."""

    __slots__ = ("_columns", "_file", "_values", "line")

    def __init__(self, file: Path, line: int, columns: dict[str, int], values: Sequence[str]) -> None:
        self._file = file
        self.line = line
        self._columns = columns
        self._values = values

    def error(self, column: str, message: str, cure: str) -> ScenarioError:
        """The error of one cell."""
        return ScenarioError(self._file, self.line, column, message, cure)

    def text(self, column: str) -> str:
        """The cell as it stands; a column that the file lacks is empty."""
        index = self._columns.get(column)
        return self._values[index].strip() if index is not None else ""

    def required(self, column: str) -> str:
        """A cell that is not empty."""
        value = self.text(column)
        if not value:
            raise self.error(column, "is empty", "Fill the cell in, or remove the row.")
        return value

    def number(self, column: str, *, least: float | None = None) -> float:
        """A finite number."""
        value = self.required(column)
        try:
            number = float(value)
        except ValueError as error:
            raise self.error(column, f"is {value!r}, not a number", "Correct the cell.") from error
        if number - number != 0 or (least is not None and number < least):
            bound = "" if least is None else f" of at least {least:g}"
            raise self.error(column, f"is {value}", f"It must be a finite number{bound}.")
        return number

    def number_or(self, column: str, otherwise: float) -> float:
        """A finite number, or ``otherwise`` where the cell is empty."""
        return self.number(column) if self.text(column) else otherwise

    def integer(self, column: str, *, least: int = 0) -> int:
        """A whole number; "8.0" is one."""
        number = self.number(column, least=least)
        if number != int(number):
            raise self.error(column, f"is {number:g}, not a whole number", "Correct the cell.")
        return int(number)


def read_rows(file: Path, columns: Sequence[str]) -> Iterator[Row]:
    """The rows of a CSV file whose header has at least ``columns``; empty lines are skipped.

    Raises:
        ScenarioError: the file cannot be read, a column is missing, or a row has too few or too many cells.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream)
            header = next(reader, None)
            if header is None:
                raise ScenarioError(file, 1, "", "is empty", f"It needs a header with {', '.join(columns)}.")
            places = {name.strip(): index for index, name in enumerate(header)}
            if missing := [name for name in columns if name not in places]:
                raise ScenarioError(
                    file, 1, missing[0], "is not among the columns", f"The header must have {', '.join(columns)}."
                )
            for values in reader:
                if not values:
                    continue
                if len(values) != len(header):
                    message = f"has {len(values)} cells, the header {len(header)}"
                    raise ScenarioError(file, reader.line_num, "", message, "Correct the row.")
                yield Row(file, reader.line_num, places, values)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ScenarioError(file, 0, "", f"cannot be read ({error})", "Make it a readable UTF-8 CSV file.") from error
