"""Demand-response events from a JSON address."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.collector.core.grid import GridBook, listed_events
from services.collector.core.mapping import filled_in, window
from services.collector.service.energy import decoded
from services.collector.service.feed import Fetched
from services.collector.service.http import HttpSource

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    import aiohttp

    from services.collector.model import GridFeed


class GridSource:
    """One feed of ``grid``."""

    def __init__(self, feed: GridFeed, session: aiohttp.ClientSession, directory: Path) -> None:
        self._feed = feed
        self._book = GridBook(cancel_when_absent=feed.cancel_when_absent)
        self._http = HttpSource(session, feed.json.http, directory)
        self.name, self.every_s, self.stale_after_s = feed.name, feed.every_s, feed.stale_after_s

    async def fetch(self, now: datetime) -> Fetched:
        """Events that are new or differ."""
        mapping = self._feed.json
        begin, end = window(now, back_days=0, ahead_days=self._feed.ahead_days)
        url = filled_in(
            mapping.url,
            mapping.params,
            begin=begin,
            end=end,
            window_format=mapping.window_format,
            site=self._feed.site,
        )
        listed = listed_events(decoded(await self._http.get(url)), self._feed)
        return Fetched(events=self._book.changes(listed, now))
