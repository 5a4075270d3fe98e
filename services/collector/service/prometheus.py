"""Polls real Prometheus servers with instant and range queries: one feed for each server and query."""

from __future__ import annotations

import asyncio
import urllib.parse
from typing import TYPE_CHECKING

from services.collector.core.answers import Answered, RangeCursor, read_answer
from services.collector.core.readings import Meters
from services.collector.service.discovery import Discovery
from services.collector.service.feed import Fetched
from services.collector.service.http import HttpSource
from services.collector.service.meters import DROPPED, SAMPLES, readings_too
from solyx.telemetry import get_logger

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    import aiohttp

    from services.collector.core.targets import Server
    from services.collector.model import PrometheusSource, Query
    from services.collector.service.feed import Feeds

log = get_logger()


class QueryFeed:
    """One query of one server."""

    def __init__(self, source: PrometheusSource, query: Query, server: Server, http: HttpSource) -> None:
        self._source, self._query, self._server, self._http = source, query, server, http
        self._cursor, self._meters = RangeCursor(query), Meters()
        place = server.url.split("://", maxsplit=1)[1]
        self.name = f"{source.name}/{query.name}@{place}"
        self.every_s, self.stale_after_s = query.every_s, query.stale_after_s

    async def fetch(self, now: datetime) -> Fetched:
        """The samples that are new."""
        if self._query.mode == "instant":
            oldest_s = now.timestamp() - self._query.max_age_s
            answered = await self._ask("query", {"time": f"{now.timestamp():.3f}"}, oldest_s)
        else:
            window = self._cursor.window(now)
            if window is None:
                return Fetched()
            begin, end = window
            times = {"start": f"{begin.timestamp():.3f}", "end": f"{end.timestamp():.3f}"}
            answered = await self._ask("query_range", times | {"step": f"{self._query.step_s:g}"}, begin.timestamp())
            self._cursor.taken(end)
        DROPPED.labels("stale").inc(answered.stale)
        DROPPED.labels("not_finite").inc(answered.not_finite)
        SAMPLES.labels("query").inc(answered.count)
        events = readings_too(self._meters, answered.by_source)
        empty = not events and not self._query.may_be_empty
        return Fetched(events=events, problem=_emptiness(answered) if empty else "")

    async def _ask(self, endpoint: str, parameters: dict[str, str], oldest_s: float) -> Answered:
        arguments = urllib.parse.urlencode({"query": self._query.query} | parameters)
        return read_answer(
            await self._http.get(f"{self._server.url}/api/v1/{endpoint}?{arguments}"),
            query=self._query,
            labels=dict(self._server.labels),
            source_labels=self._source.source_labels,
            default_source=self._server.target,
            oldest_s=oldest_s,
        )


def _emptiness(answered: Answered) -> str:
    if answered.stale:
        return f"all {answered.stale} samples are older than max_age_s"
    if answered.not_finite:
        return f"all {answered.not_finite} samples are NaN or infinite"
    return "the query yields no series"


async def poll(source: PrometheusSource, feeds: Feeds, session: aiohttp.ClientSession, directory: Path) -> None:
    """Poll whatever servers are there, until cancelled: feeds come and go with them."""
    running: dict[tuple[Server, str], asyncio.Task[None]] = {}
    http = HttpSource(session, source.http, directory)
    async with asyncio.TaskGroup() as tasks:

        def reconcile(servers: frozenset[Server]) -> None:
            log.info("servers_discovered", feed=source.name, servers=sorted(server.url for server in servers))
            wanted = {(server, query.name): query for server in servers for query in source.queries}
            for gone in running.keys() - wanted.keys():
                running.pop(gone).cancel()
            for (server, query_name), query in wanted.items():
                if (server, query_name) not in running:
                    feed = QueryFeed(source, query, server, http)
                    running[server, query_name] = tasks.create_task(feeds.run(feed))

        await feeds.run(Discovery(source, session, directory, reconcile))
