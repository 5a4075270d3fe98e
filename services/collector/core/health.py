"""Whether a feed can be relied on, and how long to wait before it is asked again. Pure: times are given."""

from __future__ import annotations

import re
import zlib
from datetime import datetime, timedelta

from solyx.events import FeedReported
from solyx.events.site import FeedStatus

FIRST_BACKOFF_S = 1.0
MIN_PAUSE_S = 0.05
MAX_ERROR_LETTERS = 500


_QUERY = re.compile(r"\?[^\s'\"<>)]*")
_USER = re.compile(r"://[^/@\s]*@")


def without_secrets(error: str) -> str:
    """An error as every viewer may read it: addresses without what often holds a token, their query and user."""
    return _USER.sub("://…@", _QUERY.sub("?…", error))


class FeedHealth:
    """Fresh after a success, stale when the last one (or the start) is ``stale_after_s`` ago. Each change is reported once.

    The first success is reported too: a predecessor may have left the feed reported stale.
    """

    def __init__(
        self, feed: str, *, started_at: datetime, every_s: float, stale_after_s: float, max_backoff_s: float
    ) -> None:
        self._feed, self._every_s = feed, every_s
        self._stale_after = timedelta(seconds=stale_after_s)
        self._max_backoff_s = max_backoff_s
        self._last_success = started_at
        self._failures = 0
        self._reported: FeedStatus | None = None
        self._error = ""

    @property
    def is_stale(self) -> bool:
        """Whether it was reported stale."""
        return self._reported == "stale"

    @property
    def error(self) -> str:
        """Why the last attempt failed; empty when it did not."""
        return self._error

    def succeeded(self, now: datetime) -> FeedReported | None:
        """Take note of a success."""
        self._last_success, self._failures, self._error = now, 0, ""
        if self._reported == "fresh":
            return None
        self._reported = "fresh"
        return FeedReported(feed=self._feed, status="fresh", since=now)

    def failed(self, now: datetime, error: str) -> FeedReported | None:
        """Take note of a failure."""
        self._failures += 1
        self._error = without_secrets(error)[:MAX_ERROR_LETTERS]
        if self._reported == "stale" or now - self._last_success < self._stale_after:
            return None
        self._reported = "stale"
        return FeedReported(feed=self._feed, status="stale", since=self._last_success, error=self._error)

    def pause_s(self, now: datetime, *, asked_for_s: float = 0.0) -> float:
        """Until the next attempt: the feed's period, or after failures 1, 2, 4, … s, at most ``max_backoff_s``, spread by name by up to
        a quarter so that feeds that failed together do not come back together. Never past the moment at which the feed
        turns stale. ``asked_for_s``: what the server asked for (Retry-After).
        """
        if not self._failures:
            return self._every_s
        spread = 1 + zlib.crc32(f"{self._feed}/{self._failures}".encode()) / 2**32 / 4
        backoff_s = min(FIRST_BACKOFF_S * 2 ** min(self._failures - 1, 30) * spread, self._max_backoff_s)
        pause_s = min(max(backoff_s, asked_for_s), self._max_backoff_s)
        until_stale_s = (self._last_success + self._stale_after - now).total_seconds()
        if self._reported != "stale" and until_stale_s > 0:
            pause_s = min(pause_s, until_stale_s)
        return max(pause_s, MIN_PAUSE_S)
