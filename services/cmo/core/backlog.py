"""Who is to be placed next, and who waits until the sites are others.

The order: whose tenant is not beyond a soft budget before those whose tenant is; then the highest priority, then the oldest. While sites
are still being observed for the first time nobody is told or refused for what they lack: who fits none waits until they have settled.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

    from services.cmo.core.jobs import Job
    from services.cmo.core.sites import Sites
    from services.cmo.model import Policy, Refuse, Wait

# Whether it goes after others because of a soft budget, then highest priority first, then the oldest; the job.
Turn: TypeAlias = tuple[bool, int, float, str]


class Backlog:
    """Jobs without a live placement."""

    def __init__(self, policy: Policy, sites: Sites) -> None:
        self._policy, self._sites = policy, sites
        self._queue: list[Turn] = []
        self._waiting: dict[str, None] = {}  # no site can take them now
        self._seen_changes = 0
        self._settled_at_s: float | None = None
        self._sites_seen = 0

    def may_tell(self, verdict: Refuse | Wait) -> bool:
        """Not while sites are still being observed for the first time, if it is about what they lack."""
        return self._settled_at_s is None or not verdict.about_sites

    def note_sites(self, now_s: float) -> None:
        """Inventories were taken over."""
        if len(self._sites.all) > self._sites_seen:
            self._sites_seen = len(self._sites.all)
            self._settled_at_s = now_s + self._policy.settle_s

    def put(self, job: Job, *, late: bool = False) -> bool:
        """Queue a job; whether it was not queued before. ``late``: after all others."""
        if job.queued or job.spec is None or job.submitted_at is None:
            return False
        job.queued = True
        self._waiting.pop(job.job_id, None)
        heappush(self._queue, (late, -job.spec.priority, job.submitted_at.timestamp(), job.job_id))
        return True

    def take(self, jobs: dict[str, Job]) -> Iterator[tuple[Turn, Job]]:
        """Those to be placed in one decision, in turn; what is queued meanwhile is among them."""
        taken = 0
        while self._queue and taken < self._policy.batch_jobs:
            turn = heappop(self._queue)
            job = jobs.get(turn[-1])
            if job is None or job.spec is None:
                continue
            job.queued = False
            if not job.live:
                taken += 1
                yield turn, job

    def wait(self, job_id: str) -> None:
        """No site can take it now."""
        self._waiting[job_id] = None

    def waits(self, job_id: str) -> bool:
        """It waits for other sites."""
        return job_id in self._waiting

    def forget(self, job_id: str) -> None:
        """It is over."""
        self._waiting.pop(job_id, None)

    def stirred(self, now_s: float) -> list[str]:
        """All who wait, once the sites are others or have settled; they wait no more."""
        settled = self._settled_at_s is not None and now_s >= self._settled_at_s
        if not settled and self._sites.changes == self._seen_changes:
            return []
        if settled:
            self._settled_at_s = None
        self._seen_changes = self._sites.changes
        waiting, self._waiting = self._waiting, {}
        return list(waiting)
