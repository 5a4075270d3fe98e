"""What the parts of the file are made of, and the checks that several of them share."""

from __future__ import annotations

from typing import Annotated, TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from services.collector.core.paths import parse_path

Positive: TypeAlias = Annotated[float, msgspec.Meta(gt=0)]
NonNegative: TypeAlias = Annotated[float, msgspec.Meta(ge=0)]
Name: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
Text: TypeAlias = Annotated[str, msgspec.Meta(min_length=1)]


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of the file. An unknown key is an error: it is a typing error that would change nothing, silently."""


def check_distinct(key: str, names: list[str]) -> None:
    """Refuse a second entry of one name."""
    for index, name in enumerate(names):
        if name in names[:index]:
            raise ValueError(f"{key}[{index}].name is {name!r}, as of another one. Names must differ")


def check_paths(**paths: str) -> None:
    """Refuse what is no path into a document; the keys are those of the file."""
    for key, path in paths.items():
        try:
            parse_path(path)
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from error


def check_template(*texts: str) -> None:
    """Refuse what cannot be filled in."""
    for text in texts:
        try:
            text.format_map({"from": "", "to": "", "site": ""})
        except (KeyError, ValueError, IndexError) as error:
            raise ValueError(
                f"{text!r} cannot be filled in ({error}). Only {{from}}, {{to}} and {{site}} are known; a brace is {{{{"
            ) from error


def check_zone(name: str) -> None:
    """Refuse what is no time zone."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError(f"timezone {name!r} is none. Write an IANA name like Europe/Berlin") from error
