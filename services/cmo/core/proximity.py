"""Placements whose site is not within the latency that the job asks for any more.

The simple algorithm: of every live placement with a latency bound, ask how far its site is from the place now. If that has been too
far for ``latency_patience_s``, and another site that is nearer than the bound by a margin has room, take the placement back; once it has
stopped it is placed anew, with its progress. If no other site will do, it stays where it is. Here it is asked only when a
round trip, or a site, is another than before, or when the time of somebody's patience is over.

Patience, the margin (hysteresis) and the rest after a run keep a latency that goes up and down from moving a job to and fro.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING, Protocol

import msgspec

from services.cmo.model import Choice, Refuse, Wait
from solyx.events import DeferralCause, FinishReason

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from services.cmo.core.jobs import Job
    from services.cmo.core.latencies import Reading
    from services.cmo.core.placing import Placer
    from services.cmo.core.sites import Sites
    from services.cmo.model import Policy, Verdict
    from solyx.events import JobSpec, LatencyBound


MARGIN = 0.1  # by this share another site must be nearer than the bound for a job to be taken there
_REST = 6.0  # a job whose last run ended less than this many times the patience ago is left where it is


class TakeBack(Protocol):
    """Takes a placement back; the room at ``instead`` is held meanwhile. ``detail``: which figure stands against it."""

    def __call__(self, job: Job, spec: JobSpec, instead: Choice | None, detail: str = "") -> None: ...


class Proximity:
    """Goes through the live placements with a latency bound, a bounded number in each decision."""

    def __init__(self, policy: Policy, sites: Sites, placer: Placer) -> None:
        self._policy, self._sites, self._placer = policy, sites, placer
        self._bounded: set[str] = set()  # live placements, and some that were
        self._pending: deque[str] = deque()
        self._seen = -1
        self._again_s = inf

    def watch(self, job: Job, spec: JobSpec) -> None:
        """A live placement, to be told of once at least."""
        if spec.max_latency is not None:
            self._bounded.add(job.job_id)

    def act(self, jobs: Mapping[str, Job], now: datetime, take_back: TakeBack) -> None:
        """Take back what is too far and can be nearer elsewhere."""
        now_s = now.timestamp()
        if self._seen != self._sites.changes or now_s >= self._again_s:
            self._seen, self._again_s = self._sites.changes, inf
            self._bounded = {job_id for job_id in self._bounded if job_id in jobs and jobs[job_id].live}
            # Who has not had a turn yet goes first: news that never ends must not keep the last from theirs.
            self._pending = deque(dict.fromkeys((*self._pending, *sorted(self._bounded))))
        for _ in range(min(len(self._pending), self._policy.replan_jobs)):
            job = jobs.get(self._pending.popleft())
            if job is not None and job.spec is not None and job.spec.max_latency is not None and job.stays:
                self._look(job, job.spec, job.spec.max_latency, now, take_back)

    def _look(self, job: Job, spec: JobSpec, bound: LatencyBound, now: datetime, take_back: TakeBack) -> None:
        site, now_s = self._sites.by_name.get(job.site), now.timestamp()
        if site is None or (job.started and not spec.suspendable):
            return  # what keeps no progress is moved only before it starts
        reading = self._sites.latency(site, bound.to)
        if reading is None or reading.ms <= bound.max_ms:
            return
        due_s = self._due_s(job, reading)
        if due_s > now_s:
            self._again_s = min(self._again_s, due_s)
            return
        nearer = msgspec.structs.replace(bound, max_ms=bound.max_ms * (1.0 - MARGIN))
        choice = self._placer.choose(
            job,
            msgspec.structs.replace(spec, max_latency=nearer),
            now,
            done_s=job.done_s(now_s, self._policy.restart_s),
        )
        if isinstance(choice, Choice) and not choice.queued:
            take_back(job, spec, choice, f"{reading.between(job.site, bound.to)}; {asked(bound)}")
        else:
            self._again_s = min(self._again_s, now_s + self._policy.latency_patience_s)

    def _due_s(self, job: Job, reading: Reading) -> float:
        """When it has been too far for long enough, and the job is not only just where it is."""
        patience_s = self._policy.latency_patience_s
        due_s = reading.since_s + patience_s
        if job.runs:
            due_s = max(due_s, job.runs[-1].ended_at.timestamp() + _REST * patience_s)
        began = job.run_began_at
        return due_s if began is None else max(due_s, began.timestamp() + self._policy.restart_s)

    def wait(self, job: Job, verdict: Verdict) -> Verdict:
        """The verdict; a job that was placed before is not refused for its latency, but waits."""
        if isinstance(verdict, Refuse) and verdict.reason is FinishReason.LATENCY_UNREACHABLE and job.revision:
            return Wait(cause=DeferralCause.LATENCY, message=verdict.message)
        return verdict

    def told(self, spec: JobSpec, choice: Choice) -> Choice:
        """The choice with the figures, where the latency kept a site from the job."""
        bound = spec.max_latency
        if bound is None or not self._sites.too_far(spec):
            return choice
        reading = self._sites.latency(self._sites.by_name[choice.site], bound.to)
        if reading is None:
            return choice
        words = f"latency: {reading.between(choice.site, bound.to)}; {asked(bound)}"
        return replace(choice, bound_by=f"{choice.bound_by}; {words}" if choice.bound_by else words)


def asked(bound: LatencyBound) -> str:
    """The bound in words."""
    return f"the job asks for at most {bound.max_ms:g} ms"
