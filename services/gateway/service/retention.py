"""Ended jobs leave after a while: from ``jobs`` by a tombstone, which lets compaction drop them, and from the read model.

The tombstones first, the rows after the broker's acknowledgement: a crash in between repeats them, which changes nothing.
In batches that keep the relay waiting for milliseconds. The relay's leader does it: it alone writes ``jobs``.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from prometheus_client import Counter

from services.gateway.store import retention
from solyx.clock import monotonic_s
from solyx.events import Record
from solyx.topics import JOBS

if TYPE_CHECKING:
    import asyncpg

    from solyx.bus.port import Publisher
    from solyx.clock import Clock

BATCH_JOBS = 500
BATCH_HISTORY = 5_000
LOOK_EVERY_S = 60.0
NEXT_BATCH_S = 0.5
PUBLISH_TIMEOUT_S = 10.0

RETIRED = Counter("solyx_retired_jobs_total", "Ended jobs that left the read model and the topic of jobs")


def tombstone(job_id: str) -> Record:
    """The record that ends a job's record in ``jobs``."""
    return Record(JOBS.name, job_id, job_id, None, [])


class Retention:
    """Looks for what is over long enough, a batch at a time."""

    def __init__(self, days: float, clock: Clock) -> None:
        """``days``: since a job ended; 0 keeps everything."""
        self._after = timedelta(days=days)
        self._clock = clock
        self._next_s = 0.0
        self._swept_seq = 0

    async def turn(self, connection: asyncpg.Connection, publisher: Publisher) -> None:
        """One batch, when it is time for one."""
        if not self._after or monotonic_s() < self._next_s:
            return
        before = self._clock.now() - self._after
        jobs = await retention.ended_before(connection, before, BATCH_JOBS)
        if jobs:
            publisher.publish([tombstone(job_id) for job_id in jobs], timeout_s=PUBLISH_TIMEOUT_S)
            await retention.forget_jobs(connection, jobs)
            RETIRED.inc(len(jobs))
        self._swept_seq = await retention.sweep_history(connection, before, self._swept_seq, BATCH_HISTORY)
        more = len(jobs) == BATCH_JOBS or self._swept_seq > 0
        self._next_s = monotonic_s() + (NEXT_BATCH_S if more else LOOK_EVERY_S)
