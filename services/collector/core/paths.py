"""Dotted paths into JSON documents: ``data.items[0].start``, ``regions[*].points``, ``"a.b".value``.

A part is a name (in double quotes where it holds dots or brackets), ``[n]`` an element (from the end where negative), and
``[*]`` every element, one after the other.
"""

from __future__ import annotations

import re
from typing import Any, Final, Literal, TypeAlias, cast

Each = Literal["*"]


class _Name(str):
    """A key, told apart from ``[*]``."""

    __slots__ = ()


Step: TypeAlias = _Name | int | Each
Path: TypeAlias = tuple[Step, ...]

EACH: Final[Each] = "*"
_TOKEN = re.compile(r'"(?P<quoted>(?:[^"\\]|\\.)*)"|\[(?P<index>-?\d+|\*)\]|(?P<name>[^.\[\]"]+)|(?P<dot>\.)')


class MappingError(Exception):
    """A document that does not look as the mapping says."""


def parse_path(text: str) -> Path:
    """Read a path; the empty one is the document itself.

    Raises:
        ValueError: it is none; says where and what a path looks like.
    """
    steps: list[Step] = []
    at, expects_name = 0, True
    while at < len(text):
        token = _TOKEN.match(text, at)
        kind = token.lastgroup if token else None
        after_part = not expects_name
        fits = {"dot": after_part, "index": after_part or not steps, "name": expects_name, "quoted": expects_name}
        if token is None or kind is None or not fits[kind]:
            msg = f"{text!r} is no path at character {at + 1}. Write it like data.items[0].value"
            raise ValueError(msg)
        match kind:
            case "index":
                steps.append(EACH if token["index"] == "*" else int(token["index"]))
            case "name":
                steps.append(_Name(token["name"].strip()))
            case "quoted":
                steps.append(_Name(re.sub(r"\\(.)", r"\1", token["quoted"])))
            case _:
                pass
        expects_name = kind == "dot"
        at = token.end()
    if steps and expects_name:
        msg = f"{text!r} ends with a dot. Write it like data.items[0].value"
        raise ValueError(msg)
    return tuple(steps)


def look_up(document: Any, path: Path) -> Any:
    """What stands at the path; with ``[*]`` in it, the list of all that does (lists found there are joined).

    Raises:
        MappingError: there is nothing; says how far the path goes and what is there instead.
    """
    value = document
    for place, step in enumerate(path):
        if step == EACH and not isinstance(step, _Name):
            return _each(value, path, place)
        value = _child(value, step, path, place)
    return value


def has(document: Any, path: Path) -> bool:
    """Whether something stands there."""
    try:
        look_up(document, path)
    except MappingError:
        return False
    return True


def _each(value: Any, path: Path, place: int) -> list[Any]:
    if not isinstance(value, list):
        raise MappingError(f"{written(path[:place]) or 'the document'} is no list but {_kind(value)}")
    found: list[Any] = []
    for element in cast("list[Any]", value):
        inner = look_up(element, path[place + 1 :])
        found.extend(cast("list[Any]", inner) if isinstance(inner, list) else [inner])
    return found


def _child(value: Any, step: Step, path: Path, place: int) -> Any:
    here = written(path[:place]) or "the document"
    if isinstance(step, int):
        if not isinstance(value, list):
            raise MappingError(f"{here} is no list but {_kind(value)}")
        elements = cast("list[Any]", value)
        if not -len(elements) <= step < len(elements):
            raise MappingError(f"{here} has {len(elements)} elements, no [{step}]")
        return elements[step]
    if not isinstance(value, dict):
        raise MappingError(f"{here} is no object but {_kind(value)}; {step!r} was looked for")
    members = cast("dict[str, Any]", value)
    if step not in members:
        raise MappingError(f"{here} has no {str(step)!r}; it has {', '.join(list(members)[:10]) or 'nothing'}")
    return members[step]


def written(path: Path) -> str:
    """The path as text."""
    text = ""
    for step in path:
        if isinstance(step, _Name):
            plain = str(step)
            name = plain if re.fullmatch(r'[^.\[\]"\\\s]+', plain) else '"' + re.sub(r'(["\\])', r"\\\1", plain) + '"'
            text += f".{name}" if text else name
        else:
            text += f"[{step}]"
    return text


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case str():
            return f"the text {value[:40]!r}"
        case int() | float():
            return f"the number {value}"
        case list():
            return "a list"
        case _:
            return "an object"
