"""The life of one feed: asked again and again, never twice at a time; a failure is retried and, when it lasts, reported.

Each feed is a task of its own, so one that hangs or fails stops no other. Only ``FeedError`` is expected; anything else is a bug and
ends the process, which starts anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import msgspec

from services.collector.core.health import FeedHealth
from services.collector.core.paths import MappingError
from services.collector.service.meters import FEED_ATTEMPTS, FEED_UP
from solyx.events import Event
from solyx.telemetry import get_logger

if TYPE_CHECKING:
    from datetime import datetime

    from services.collector.service.outlet import Outlet
    from solyx.clock import Clock

log = get_logger()


class FeedError(Exception):
    """The source cannot be read now; it may be later."""

    def __init__(self, message: str, *, retry_after_s: float = 0.0, status: int = 0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.status = status  # of the HTTP answer; 0: there was none


class Fetched(msgspec.Struct, frozen=True, kw_only=True):
    """What an attempt brought. With a ``problem`` it counts as a failure all the same: the source answers, but with old news."""

    events: Sequence[Event] = ()
    problem: str = ""


class Feed(Protocol):
    """Something that is polled."""

    @property
    def name(self) -> str:
        """Unique in this process; stable, for it is what reports are keyed by."""
        ...

    @property
    def every_s(self) -> float:
        """Wall seconds between two polls."""
        ...

    @property
    def stale_after_s(self) -> float:
        """Without success for so long it is stale."""
        ...

    async def fetch(self, now: datetime) -> Fetched:
        """What is new. It will be published, or the process ends.

        Raises:
            FeedError: the source cannot be read.
            MappingError: what it says does not look as configured.
        """
        ...


class FeedState(msgspec.Struct, frozen=True, kw_only=True):
    """For ``/readyz``."""

    stale: bool
    error: str


class Feeds:
    """The feeds of this process and how they are."""

    def __init__(self, outlet: Outlet, clock: Clock, *, max_backoff_s: float) -> None:
        self._outlet, self._clock, self._max_backoff_s = outlet, clock, max_backoff_s
        self._health: dict[str, FeedHealth] = {}

    def states(self) -> dict[str, FeedState]:
        """By name."""
        return {name: FeedState(stale=one.is_stale, error=one.error) for name, one in self._health.items()}

    async def run(self, feed: Feed) -> None:
        """Poll until cancelled."""
        health = self._health[feed.name] = FeedHealth(
            feed.name,
            started_at=self._clock.now(),
            every_s=feed.every_s,
            stale_after_s=feed.stale_after_s,
            max_backoff_s=max(self._max_backoff_s, feed.every_s),
        )
        FEED_UP.labels(feed.name).set(0)
        try:
            while True:
                pause_s = await self._poll(feed, health)
                await asyncio.sleep(pause_s)
        finally:
            if self._health.get(feed.name) is health:  # a successor of the same name may have begun
                del self._health[feed.name]
                FEED_UP.remove(feed.name)

    async def _poll(self, feed: Feed, health: FeedHealth) -> float:
        """One attempt; the pause after it in s."""
        asked_for_s = 0.0
        try:
            fetched = await feed.fetch(self._clock.now())
        except (FeedError, MappingError) as error:
            fetched = Fetched(problem=str(error))
            asked_for_s = error.retry_after_s if isinstance(error, FeedError) else 0.0
        await self._outlet.publish(fetched.events)
        if fetched.problem:
            report = health.failed(self._clock.now(), fetched.problem)
            log.warning("feed_failed", feed=feed.name, error=health.error, stale=health.is_stale)
        else:
            report = health.succeeded(self._clock.now())
        outcome = "failure" if health.error else "success"
        FEED_ATTEMPTS.labels(feed.name, outcome).inc()
        FEED_UP.labels(feed.name).set(outcome == "success")
        if report is not None:
            log.info("feed_reported", feed=feed.name, status=report.status, since=report.since.isoformat())
            await self._outlet.publish([report])
        return health.pause_s(self._clock.now(), asked_for_s=asked_for_s)
