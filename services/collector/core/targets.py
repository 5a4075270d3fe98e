"""Target groups of Prometheus service discovery (file SD, HTTP SD) to the servers that are to be asked. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

import msgspec
import yaml

from services.collector.core.paths import MappingError
from services.collector.model import TargetGroup

if TYPE_CHECKING:
    from collections.abc import Iterable

_HOST = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?")
_META = "__"  # labels that begin so steer, and are not kept


class Server(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """One Prometheus server."""

    target: str  # host:port
    url: str  # without a slash at the end
    labels: tuple[tuple[str, str], ...]  # sorted


class _Group(msgspec.Struct, frozen=True):
    targets: tuple[str, ...]
    labels: dict[str, str] = {}


def read_groups(text: bytes, form: Literal["json", "yaml"]) -> tuple[TargetGroup, ...]:
    """The groups in a file or an answer.

    Raises:
        MappingError: it is no list of ``{targets: […], labels: {…}}``.
    """
    try:
        document = msgspec.json.decode(text) if form == "json" else yaml.safe_load(text)
        groups = msgspec.convert(document or (), tuple[_Group, ...])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, yaml.YAMLError) as error:
        raise MappingError(f"this is no list of target groups: {error}") from error
    return tuple(TargetGroup(targets=group.targets, labels=group.labels) for group in groups)


def servers(groups: Iterable[TargetGroup], *, scheme: str, path_prefix: str) -> frozenset[Server]:
    """The servers of the groups; the labels ``__scheme__`` and ``__path_prefix__`` override the source's.

    Raises:
        MappingError: a target is no host and port.
    """
    found: dict[str, Server] = {}
    for group in groups:
        kept = tuple(sorted((name, value) for name, value in group.labels.items() if not name.startswith(_META)))
        own_scheme = group.labels.get("__scheme__", scheme)
        prefix = group.labels.get("__path_prefix__", path_prefix).strip("/")
        for target in group.targets:
            if _HOST.fullmatch(target) is None:
                raise MappingError(f"target {target!r} is no host or host:port")
            url = f"{own_scheme}://{target}" + (f"/{prefix}" if prefix else "")
            found.setdefault(url, Server(target=target, url=url, labels=kept))
    return frozenset(found.values())
