"""Reads the YAML file that ``SOLYX_COLLECTOR_CONFIG`` names; every mistake is told with its key and what to do."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec
import yaml

from services.collector import model
from services.collector.model import Collection, Config, Located

if TYPE_CHECKING:
    from collections.abc import Mapping

_SECRET = re.compile(r"\$(?:\$\{|\{([A-Za-z_][A-Za-z0-9_]*)\})")
_README = "services/collector/README.md has a complete example."
_KEYS = sorted(
    {
        field
        for part in vars(model).values()
        if isinstance(part, type) and issubclass(part, Config)
        for field in part.__struct_fields__
    }
)


class ConfigError(Exception):
    """The file cannot be used: the file, the key, what is wrong, and what to do."""

    def __init__(self, file: Path, key: str, message: str, cure: str) -> None:
        self.file, self.key, self.message, self.cure = file, key, message, cure
        about = f"{key}: " if key else ""
        super().__init__(f"{file}: {about}{message.rstrip('.')}. {cure}")


def read_config(file: Path, environment: Mapping[str, str]) -> Located:
    """Read the file; ``${NAME}`` in any text is the environment's ``NAME``, so that secrets stay out of it (``$${`` is ``${``).

    Raises:
        ConfigError: it cannot be read, is no YAML, or does not fit.
    """
    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            file, "", f"cannot be read ({error})", "Correct SOLYX_COLLECTOR_CONFIG, or the file."
        ) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}" if mark else ""
        problem = str(getattr(error, "problem", error))
        raise ConfigError(
            file, place, f"is no YAML ({problem})", "Correct the indentation or the quotes there."
        ) from error
    document = _with_secrets(document if document is not None else {}, file, "", environment)
    try:
        collection = msgspec.convert(document, Collection)
    except msgspec.ValidationError as error:
        raise _explained(file, str(error)) from error
    return Located(collection=collection, directory=file.resolve().parent)


def _with_secrets(value: Any, file: Path, key: str, environment: Mapping[str, str]) -> Any:
    match value:
        case dict():
            members = cast("dict[Any, Any]", value)
            return {
                name: _with_secrets(inner, file, f"{key}.{name}" if key else str(name), environment)
                for name, inner in members.items()
            }
        case list():
            elements = cast("list[Any]", value)
            return [_with_secrets(inner, file, f"{key}[{i}]", environment) for i, inner in enumerate(elements)]
        case str():
            return _SECRET.sub(lambda match: _secret(match, file, key, environment), value)
        case _:
            return value


def _secret(match: re.Match[str], file: Path, key: str, environment: Mapping[str, str]) -> str:
    name = match[1]
    if name is None:
        return "${"
    if name not in environment:
        cure = "Set it for the collector's process, or write $${ for a plain ${."
        raise ConfigError(file, key, f"needs the environment variable {name}, which is not set", cure)
    return environment[name]


def _explained(file: Path, text: str) -> ConfigError:
    """The key, message and cure in a complaint of msgspec."""
    message, _, path = text.partition(" - at `$")
    key = path.rstrip("`").lstrip(".").replace("[...]", ".*")
    if unknown := re.match(r"Object contains unknown field `(.*)`", message):
        close = difflib.get_close_matches(unknown[1], _KEYS, n=1)
        cure = f"Write `{close[0]}`, or remove it." if close else f"Remove it. {_README}"
        return ConfigError(file, _joined(key, unknown[1]), "is not a key here", cure)
    if missing := re.match(r"Object missing required field `(.*)`", message):
        return ConfigError(file, _joined(key, missing[1]), "is missing", f"Add it. {_README}")
    if expected := re.match(r"Expected `([^`]*)`(?:, got `([^`]*)`)?", message):
        got = f"is {_words(expected[2])}" if expected[2] else "does not fit"
        return ConfigError(file, key, got, f"Write {_words(expected[1])}{message[expected.end() :]}.")
    if invalid := re.match(r"Invalid enum value (.*)", message):
        return ConfigError(file, key, f"is {invalid[1]}, which is not known", f"{_README}")
    problem, _, cure = message.rpartition(". ")  # a struct's own check: what is wrong. What to do
    return ConfigError(file, key, problem or message, f"{cure}." if problem else _README)


def _joined(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


def _words(types: str) -> str:
    words = {"str": "a text", "float": "a number", "int": "a whole number", "bool": "true or false"}
    words |= {"array": "a list", "object": "a mapping", "null": "nothing"}
    return " or ".join(words.get(name.strip(), name) for name in types.split("|"))
