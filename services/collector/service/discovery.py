"""Finds the Prometheus servers of one source: listed, in files that are read again when they change, at HTTP endpoints.

A file or endpoint that cannot be read keeps the servers it last named: a broken discovery does not stop what works.
"""

from __future__ import annotations

import asyncio
import glob
from typing import TYPE_CHECKING, Literal

from services.collector.core.paths import MappingError
from services.collector.core.targets import Server, read_groups, servers
from services.collector.service.feed import FeedError, Fetched
from services.collector.service.http import HttpSource

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    import aiohttp

    from services.collector.model import PrometheusSource, TargetGroup

STALE_AFTER_REFRESHES = 10


class Discovery:
    """A feed that yields no events but tells ``on_change`` the servers whenever they are others than before."""

    def __init__(
        self,
        source: PrometheusSource,
        session: aiohttp.ClientSession,
        directory: Path,
        on_change: Callable[[frozenset[Server]], None],
    ) -> None:
        self._source, self._directory, self._on_change = source, directory, on_change
        self._endpoints = [(one.url, HttpSource(session, one.http, directory)) for one in source.http_sd]
        self._found: dict[str, frozenset[Server]] = {}  # by file or endpoint
        self._versions: dict[str, tuple[int, int]] = {}
        self._told: frozenset[Server] | None = None
        self.name = f"{source.name}/discovery"
        self.every_s = source.refresh_s
        self.stale_after_s = source.refresh_s * STALE_AFTER_REFRESHES

    async def fetch(self, now: datetime) -> Fetched:
        """Look everywhere once."""
        del now
        self._found["static"] = self._servers(self._source.static)
        problems = await asyncio.to_thread(self._read_files)
        for url, http in self._endpoints:
            try:
                self._found[url] = self._servers(read_groups(await http.get(url), "json"))
            except (FeedError, MappingError) as error:
                problems.append(f"{url}: {error}")
        current = frozenset[Server]().union(*self._found.values())
        if current != self._told:
            self._told = current
            self._on_change(current)
        return Fetched(problem="; ".join(problems))

    def _servers(self, groups: tuple[TargetGroup, ...]) -> frozenset[Server]:
        return servers(groups, scheme=self._source.scheme, path_prefix=self._source.path_prefix)

    def _read_files(self) -> list[str]:
        """Read what is new or changed, forget files that are gone; returns what went wrong."""
        problems: list[str] = []
        present: set[str] = set()
        for pattern in self._source.files:
            names = glob.glob(str(self._directory / pattern))  # noqa: PTH207 - patterns may be absolute
            if not names and not glob.has_magic(pattern):
                problems.append(f"{pattern} is not there")
                continue
            present.update(names)
        for name in sorted(present):
            try:
                self._read_file(name)
            except (OSError, MappingError) as error:
                problems.append(f"{name}: {error}")
        plain = {str(self._directory / pattern) for pattern in self._source.files if not glob.has_magic(pattern)}
        for name in [name for name in self._versions if name not in present | plain]:
            del self._versions[name]
            self._found.pop(name, None)
        return problems

    def _read_file(self, name: str) -> None:
        file = self._directory / name
        state = file.stat()
        version = (state.st_mtime_ns, state.st_size)
        if self._versions.get(name) == version:
            return
        form: Literal["json", "yaml"] = "json" if file.suffix == ".json" else "yaml"
        self._found[name] = self._servers(read_groups(file.read_bytes(), form))
        self._versions[name] = version
