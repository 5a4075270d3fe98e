"""The whole file."""

from __future__ import annotations

from pathlib import Path

import msgspec

from services.collector.model.energy import EnergyFeed
from services.collector.model.grid import GridFeed, OpenAdrFeed
from services.collector.model.parts import Config, Positive, check_distinct
from services.collector.model.prometheus import PrometheusSource, RemoteWrite
from services.collector.model.sites import SiteEntry


class Collection(Config, frozen=True, kw_only=True):
    """The whole file."""

    prometheus: tuple[PrometheusSource, ...] = ()
    remote_write: RemoteWrite = RemoteWrite()
    sites: tuple[SiteEntry, ...] = ()
    energy: tuple[EnergyFeed, ...] = ()
    grid: tuple[GridFeed, ...] = ()
    openadr: tuple[OpenAdrFeed, ...] = ()
    max_backoff_s: Positive = 300.0  # longest pause between two attempts at a feed that fails

    def __post_init__(self) -> None:
        for key in ("prometheus", "sites", "energy", "grid", "openadr"):
            check_distinct(key, [feed.name for feed in getattr(self, key)])


class Located(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration and the directory that its file names are relative to."""

    collection: Collection = Collection()
    directory: Path = Path()
