"""scenario.toml as typed values: each reader names the file, line and key of what does not fit.

``tomllib`` forgets where a value stood, so a scan of the text remembers the line of each key, table header and element of a
multi-line array; a key inside an inline table is found at the line of the nearest enclosing one.
"""

from __future__ import annotations

import re
import tomllib
from datetime import UTC, datetime, time
from math import isfinite
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

from solyx.scenario.errors import ScenarioError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

KeyPath: TypeAlias = tuple[str | int, ...]
T = TypeVar("T")

_HEADER = re.compile(r"\s*\[\s*([\w.\-\"' ]+?)\s*\]\s*(?:#.*)?$")
_ARRAY_HEADER = re.compile(r"\s*\[\[\s*([\w.\-\"' ]+?)\s*\]\]")
_KEY = re.compile(r"\s*([\w.\-]+|\"[^\"]*\"|'[^']*')\s*=")
_ELEMENT = re.compile(r"\s*\{")
_TOML_LINE = re.compile(r"line (\d+)")
_MISSING: Any = object()


def _names(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in dotted.split("."))


def key_lines(text: str) -> dict[KeyPath, int]:
    """The 1-based line of each key path that begins a line of ``text``."""
    lines: dict[KeyPath, int] = {}
    counts: dict[KeyPath, int] = {}
    table: KeyPath = ()
    key: KeyPath = ()
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _ARRAY_HEADER.match(line):
            name = _within(counts, _names(header[1]))
            counts[name] = counts.get(name, -1) + 1
            table = (*name, counts[name])
            lines[table] = number
            lines.setdefault(name, number)
        elif header := _HEADER.match(line):
            table = _within(counts, _names(header[1]))
            lines[table] = number
        elif _ELEMENT.match(line):
            counts[key] = counts.get(key, -1) + 1
            lines[(*key, counts[key])] = number
        elif assignment := _KEY.match(line):
            key = (*table, *_names(assignment[1]))
            lines[key] = number
    return lines


def _within(counts: Mapping[KeyPath, int], names: tuple[str, ...]) -> KeyPath:
    """``sites.outages`` after a ``[[sites]]`` belongs to the last site."""
    path: KeyPath = ()
    for position, name in enumerate(names):
        path = (*path, name)
        if position < len(names) - 1 and path in counts:
            path = (*path, counts[path])
    return path


def dotted(path: KeyPath) -> str:
    """``("sites", 0, "power")`` as ``sites[0].power``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


class Table:
    """One table of the document. Every getter raises ``ScenarioError`` for a value that is missing or does not fit."""

    def __init__(self, values: Mapping[str, Any], *, file: Path, path: KeyPath, lines: Mapping[KeyPath, int]) -> None:
        self.file = file
        self._values = values
        self._path = path
        self._lines = lines
        self._asked: set[str] = set()
        self._inside: list[Table] = []

    def line_of(self, key: str = "") -> int:
        """The line of ``key`` or of the nearest thing around it; 0 when nothing is known."""
        path: KeyPath = (*self._path, key) if key else self._path
        while path:
            if path in self._lines:
                return self._lines[path]
            path = path[:-1]
        return 0

    def error(self, key: str, message: str, cure: str) -> ScenarioError:
        """The error of ``key`` in this table."""
        path = (*self._path, key) if key else self._path
        return ScenarioError(self.file, self.line_of(key), dotted(path), message, cure)

    def has(self, key: str) -> bool:
        """Whether the key is there."""
        return key in self._values

    def holds_table(self, key: str) -> bool:
        """Whether the key's value is a table."""
        return isinstance(self._values.get(key), dict)

    def names(self) -> list[str]:
        """The table's keys, where any key is allowed."""
        self._asked.update(self._values)
        return list(self._values)

    def unread(self) -> list[str]:
        """Keys that no reader asked for: additions of other programs, or typing errors."""
        own = [dotted((*self._path, key)) for key in self._values if key not in self._asked]
        return [*own, *(key for table in self._inside for key in table.unread())]

    def _take(self, key: str, default: Any) -> Any:
        self._asked.add(key)
        value = self._values.get(key, default)
        if value is _MISSING:
            raise self.error(key, "is missing", f"Add `{key} = …` here.")
        return value

    def _typed(self, key: str, wanted: type[T], words: str, default: Any) -> T:
        value = self._take(key, default)
        if value is default and default is not _MISSING:
            return cast("T", default)
        if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
            raise self.error(key, f"is {value!r}, not {words}", f"Write {words} there.")
        return value

    def text(self, key: str, default: str = _MISSING) -> str:
        """A string that is not empty, unless the default is."""
        value = self._typed(key, str, "a text in quotes", default)
        if not value and value != default:
            raise self.error(key, "is empty", "Write a text there.")
        return value

    def flag(self, key: str, *, default: bool) -> bool:
        """True or false."""
        return self._typed(key, bool, "true or false", default)

    def number(self, key: str, default: float | None = _MISSING, *, least: float = 0.0) -> float:
        """A number of at least ``least``."""
        value = self._typed(key, (int, float), "a number", default)  # pyright: ignore[reportArgumentType]
        if value is None:
            return cast("float", value)
        number = float(cast("float", value))
        if not number >= least or not isfinite(number):
            wanted = f"a number of at least {least:g}" if isfinite(least) else "a finite number"
            raise self.error(key, f"is {value!r}", f"It must be {wanted}.")
        return number

    def integer(self, key: str, default: int = _MISSING, *, least: int = 0) -> int:
        """A whole number of at least ``least``."""
        value = self._typed(key, int, "a whole number", default)
        if value < least:
            raise self.error(key, f"is {value}", f"It must be at least {least}.")
        return value

    def choice(self, key: str, among: Iterable[str]) -> str:
        """One of some words."""
        value = self.text(key)
        known = sorted(among)
        if value not in known:
            raise self.error(key, f"is {value!r}, which is not known", f"Known here: {', '.join(known)}.")
        return value

    def name(self, key: str, default: str = _MISSING) -> str:
        """A text, or a whole number that names something."""
        value = self._take(key, default)
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        return self.text(key, default)

    def instant(self, key: str) -> datetime:
        """A time with an offset, as UTC."""
        value = self._typed(key, datetime, "a time like 2023-06-01T00:00:00Z", _MISSING)
        if value.tzinfo is None:
            raise self.error(key, "has no time zone", "Add Z for UTC, or an offset.")
        return value.astimezone(UTC)

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts that are not empty; without the key none."""
        values = cast("list[Any]", self._typed(key, list, "a list of texts", []))
        for value in values:
            if not isinstance(value, str) or not value.strip():
                raise self.error(key, f"holds {value!r}, not a text", 'Write texts in quotes, like ["spot"].')
        return tuple(dict.fromkeys(cast("list[str]", values)))

    def holds_list(self, key: str) -> bool:
        """Whether the key's value is a list."""
        return isinstance(self._values.get(key), list)

    def time_of_day(self, key: str) -> time:
        """A local time such as "12:45"."""
        value = self._take(key, _MISSING)
        if isinstance(value, time):
            return value
        try:
            return time.fromisoformat(self.text(key))
        except ValueError as error:
            raise self.error(key, f"is {value!r}, not a time of day", 'Write it like "12:45".') from error

    def existing_file(self, key: str) -> Path:
        """A path relative to the document, of a file that is there."""
        path = (self.file.parent / self.text(key)).resolve()
        if not path.is_file():
            raise self.error(
                key,
                f"names {path}, which is not there",
                "Correct the path (it is relative to this file), or put the file there.",
            )
        return path

    def table(self, key: str) -> Table:
        """A table or inline table."""
        value = self._typed(key, dict, "a table", _MISSING)
        return self._nested(cast("dict[str, Any]", value), (*self._path, key))

    def tables(self, key: str, default: list[Any] = _MISSING) -> list[Table]:
        """An array of tables."""
        value = cast("list[Any]", self._typed(key, list, "a list of tables", default))
        found: list[Table] = []
        for index, element in enumerate(value):
            if not isinstance(element, dict):
                raise self.error(key, f"holds {element!r}, not a table", "Write a table {…} for each element.")
            found.append(self._nested(cast("dict[str, Any]", element), (*self._path, key, index)))
        return found

    def _nested(self, values: Mapping[str, Any], path: KeyPath) -> Table:
        table = Table(values, file=self.file, path=path, lines=self._lines)
        self._inside.append(table)
        return table


def read_document(file: Path) -> Table:
    """The root table of a TOML file.

    Raises:
        ScenarioError: the file is missing or no TOML.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError) as error:
        cure = "Name a directory that holds a scenario.toml, or make one: python -m solyx.scenario generate DIR"
        raise ScenarioError(file, 0, "", "there is no such file", cure) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError(file, 0, "", f"cannot be read ({error})", "Make it a readable UTF-8 text file.") from error
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = _TOML_LINE.search(str(error))
        line = int(found[1]) if found else len(text.splitlines())
        raise ScenarioError(
            file, line, "", f"is not TOML: {error}", "Correct that line; https://toml.io has the syntax."
        ) from error
    return Table(values, file=file, path=(), lines=key_lines(text))
