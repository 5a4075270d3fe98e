"""The traffic that placements bring: a job placed away from its data pulls the data over.

A movement's rate is its size over the time until the job starts, at least ``movement_s``; it counts from the placement until then.
What the counters already see of it counts twice meanwhile: routes keep a reserve for a movement rather than fill the link.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from solyx.events import JobFinished, JobPlaced, PlacementWithdrawn

if TYPE_CHECKING:
    from services.sdn.model import Pair


@dataclass(frozen=True, kw_only=True)
class _Movement:
    order: tuple[int, int]  # revision; 0 placed, 1 taken back, 2 finished: the later one counts
    pair: Pair | None  # None: nothing moves any more under this revision
    rate_bps: float
    until: datetime
    under_way: tuple[datetime, datetime, float] | None = None  # from, until and bit/s, as the placement promised it


class Movements:
    """The data movements of live placements, by job."""

    def __init__(self, movement_s: float) -> None:
        self._least = timedelta(seconds=movement_s)
        self._by_job: dict[str, _Movement] = {}
        self._ends: list[tuple[datetime, str, tuple[int, int]]] = []
        self._jobs_of: dict[Pair, set[str]] = {}

    def fold(self, event: JobPlaced | PlacementWithdrawn | JobFinished) -> bool:
        """Merge; True when some pair's demand changed."""
        match event:
            case JobPlaced():
                movement = self._placed(event)
            case PlacementWithdrawn():
                movement = self._ended((event.revision, 1), event.decided_at)
            case JobFinished():
                movement = self._ended((event.revision, 2), event.finished_at)
        known = self._by_job.get(event.job_id)
        if known is not None and known.order >= movement.order:
            return False
        changed = self._forget(event.job_id)
        self._by_job[event.job_id] = movement
        heapq.heappush(self._ends, (movement.until, event.job_id, movement.order))
        if movement.pair is not None:
            self._jobs_of.setdefault(movement.pair, set()).add(event.job_id)
            changed = True
        return changed

    def _placed(self, event: JobPlaced) -> _Movement:
        until = max(event.start_at, event.decided_at + self._least)
        data = event.spec.data
        lies_at = event.runs[-1].site if event.runs else data and data.site  # a job that ran takes its data along
        if data is None or lies_at is None or data.size_bytes == 0 or lies_at == event.site:
            return _Movement(order=(event.revision, 0), pair=None, rate_bps=0.0, until=until)
        bits = data.size_bytes * 8
        under_way = None
        if event.data_from is not None and event.data_at is not None and event.data_from < event.data_at:
            promised_bps = bits / (event.data_at - event.data_from).total_seconds()
            under_way = event.data_from, event.data_at, promised_bps
        return _Movement(
            order=(event.revision, 0),
            pair=(lies_at, event.site),
            rate_bps=bits / (until - event.decided_at).total_seconds(),
            until=until,
            under_way=under_way,
        )

    def _ended(self, order: tuple[int, int], at: datetime) -> _Movement:
        return _Movement(order=order, pair=None, rate_bps=0.0, until=at + self._least)

    def _forget(self, job_id: str) -> bool:
        known = self._by_job.pop(job_id, None)
        if known is None or known.pair is None:
            return False
        jobs = self._jobs_of[known.pair]
        jobs.discard(job_id)
        if not jobs:
            del self._jobs_of[known.pair]
        return True

    def expire(self, now: datetime) -> bool:
        """Forget what has arrived by ``now``; True when some pair's demand changed."""
        changed = False
        while self._ends and self._ends[0][0] <= now:
            _, job_id, order = heapq.heappop(self._ends)
            known = self._by_job.get(job_id)
            if known is not None and known.order == order:
                changed |= self._forget(job_id)
        return changed

    def __bool__(self) -> bool:
        """Whether anything moves."""
        return bool(self._jobs_of)

    def under_way(self, now: datetime) -> dict[Pair, float]:
        """Bit/s that each pair moves at this moment, by what placements promised."""
        moving: dict[Pair, float] = {}
        for pair, jobs in sorted(self._jobs_of.items()):
            for job in sorted(jobs):
                promised = self._by_job[job].under_way
                if promised is not None and promised[0] <= now < promised[1]:
                    moving[pair] = moving.get(pair, 0.0) + promised[2]
        return moving

    def demands(self) -> dict[Pair, float]:
        """Bit/s of each pair that moves something now."""
        return {
            pair: sum(self._by_job[job].rate_bps for job in sorted(jobs))
            for pair, jobs in sorted(self._jobs_of.items())
        }
