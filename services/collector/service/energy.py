"""Price, carbon and renewable share of a site from a CSV file or a JSON address."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from services.collector.core.daily import DayBook
from services.collector.core.mapping import Point, csv_points, filled_in, json_points, window, within
from services.collector.core.paths import MappingError
from services.collector.service.feed import FeedError, Fetched
from services.collector.service.http import HttpSource

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    import aiohttp

    from services.collector.model import Csv, EnergyFeed, Json

MAX_CSV_BYTES = 256 * 1024 * 1024


class EnergySource:
    """One feed of ``energy``."""

    def __init__(self, feed: EnergyFeed, session: aiohttp.ClientSession, directory: Path) -> None:
        self._feed, self._directory = feed, directory
        self._book = DayBook(feed)
        self._http = HttpSource(session, feed.json.http, directory) if feed.json else None
        self._read: tuple[tuple[int, int], list[Point]] | None = None  # a file's version and its points
        self.name, self.every_s, self.stale_after_s = feed.name, feed.every_s, feed.stale_after_s

    async def fetch(self, now: datetime) -> Fetched:
        """The days that changed; a problem when the newest value is too old."""
        feed = self._feed
        begin, end = window(now, back_days=feed.back_days, ahead_days=feed.ahead_days)
        if feed.csv is not None:
            points = await asyncio.to_thread(self._from_file, feed.csv)
        elif feed.json is not None and self._http is not None:
            points = await self._from_address(feed.json, self._http, begin, end)
        else:
            raise AssertionError("a feed has a file or an address")  # EnergyFeed saw to it
        events = self._book.merge(within(points, begin, end), now)
        return Fetched(events=events, problem=self._too_old(now))

    def _too_old(self, now: datetime) -> str:
        newest, limit_s = self._book.newest, self._feed.max_value_age_s
        if limit_s and (newest is None or (now - newest).total_seconds() > limit_s):
            latest = "there is no value" if newest is None else f"the newest value ends at {newest.isoformat()}"
            return f"{latest}; max_value_age_s allows {limit_s:g} s"
        return ""

    def _from_file(self, mapping: Csv) -> list[Point]:
        """Parsed once for each version of the file."""
        file = self._directory / mapping.file
        try:
            state = file.stat()
            version = (state.st_mtime_ns, state.st_size)
            if self._read is None or self._read[0] != version:
                if state.st_size > MAX_CSV_BYTES:
                    raise FeedError(f"{file} is larger than {MAX_CSV_BYTES} bytes")
                self._read = (version, csv_points(file.read_text(encoding="utf-8-sig"), self._feed, mapping))
        except (OSError, UnicodeDecodeError) as error:
            raise FeedError(f"{file} cannot be read: {error}") from error
        return self._read[1]

    async def _from_address(self, mapping: Json, http: HttpSource, begin: datetime, end: datetime) -> list[Point]:
        url = filled_in(
            mapping.url,
            mapping.params,
            begin=begin,
            end=end,
            window_format=mapping.window_format,
            site=self._feed.site,
        )
        return json_points(decoded(await http.get(url)), self._feed, mapping)


def decoded(body: bytes) -> object:
    """The document in a body.

    Raises:
        MappingError: it is no JSON.
    """
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MappingError(f"the answer is no JSON ({error}): {body[:80]!r}") from error
