"""Placements whose site is not within the latency that the job asks for any more.

The simple algorithm: of every live placement with a latency bound, ask how far its site is from the place now. If that has been too
far for ``latency_patience_s``, and another site that is nearer than the bound by a margin has room, take the placement back; once it has
stopped it is placed anew, with its progress. If no other site will do, or it runs and keeps no progress, it stays where it is, and its owner is
told: once for each reason, and once when its site is near enough again. Here it is asked only when a
round trip, or a site, is another than before, or when the time of somebody's patience is over.

Patience, the margin (hysteresis) and the rest after a run keep a latency that goes up and down from moving a job to and fro.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from datetime import UTC, datetime
from math import inf
from typing import TYPE_CHECKING, Protocol

import msgspec

from services.cmo.core.limits import done_s
from services.cmo.model import Choice, Refuse, Wait
from solyx.events import DeferralCause, FinishReason, LatencyBoundReported, LatencyReason

if TYPE_CHECKING:
    from collections.abc import Mapping

    from services.cmo.core.jobs import Job
    from services.cmo.core.latencies import Reading
    from services.cmo.core.placing import Placer
    from services.cmo.core.sites import Sites
    from services.cmo.model import Policy, Verdict
    from solyx.events import JobSpec, LatencyBound


MARGIN = 0.1  # by this share another site must be nearer than the bound for a job to be taken there
_REST = 6.0  # a job whose last run ended less than this many times the patience ago is left where it is
_STAYS = {
    LatencyReason.NOT_SUSPENDABLE: "it runs and is not suspendable, so it stays",
    LatencyReason.NO_NEARER_SITE: f"no other site that is nearer than that by {100 * MARGIN:g} % can take it now",
    LatencyReason.RECENT: "it began to run, or was stopped, only a while ago, so it stays for now",
}


class TakeBack(Protocol):
    """Takes a placement back; the room at ``instead`` is held meanwhile. ``detail``: which figure stands against it."""

    def __call__(self, job: Job, spec: JobSpec, instead: Choice | None, detail: str = "") -> None: ...


class Proximity:
    """Goes through the live placements with a latency bound, a bounded number in each decision."""

    def __init__(self, policy: Policy, sites: Sites, placer: Placer) -> None:
        self._policy, self._sites, self._placer = policy, sites, placer
        self._bounded: set[str] = set()  # live placements, and some that were
        self._told: dict[str, LatencyBoundReported] = {}  # the last of each job
        self._pending: deque[str] = deque()
        self._seen = -1
        self._again_s = inf

    def watch(self, job: Job, spec: JobSpec) -> None:
        """A live placement, to be told of once at least."""
        if spec.max_latency is not None:
            self._bounded.add(job.job_id)

    def recall(self, event: LatencyBoundReported) -> None:
        """What was told of a job that is not over."""
        known = self._told.get(event.job_id)
        if known is None or (event.revision, event.reported_at) > (known.revision, known.reported_at):
            self._told[event.job_id] = event

    def forget(self, job_id: str) -> None:
        """The job is over."""
        self._told.pop(job_id, None)

    def act(self, jobs: Mapping[str, Job], now: datetime, take_back: TakeBack) -> list[LatencyBoundReported]:
        """Take back what is too far and can be nearer elsewhere; what is news of the others."""
        now_s = now.timestamp()
        if self._seen != self._sites.changes or now_s >= self._again_s:
            self._seen, self._again_s = self._sites.changes, inf
            self._bounded = {job_id for job_id in self._bounded if job_id in jobs and jobs[job_id].live}
            # Who has not had a turn yet goes first: news that never ends must not keep the last from theirs.
            self._pending = deque(dict.fromkeys((*self._pending, *sorted(self._bounded))))
        news: list[LatencyBoundReported] = []
        for _ in range(min(len(self._pending), self._policy.replan_jobs)):
            job = jobs.get(self._pending.popleft())
            if job is not None and job.spec is not None and job.spec.max_latency is not None and job.stays:
                told = self._look(job, job.spec, job.spec.max_latency, now, take_back)
                if told is not None:
                    self._told[job.job_id] = told
                    news.append(told)
        return news

    def _look(
        self, job: Job, spec: JobSpec, bound: LatencyBound, now: datetime, take_back: TakeBack
    ) -> LatencyBoundReported | None:
        site = self._sites.by_name.get(job.site)
        reading = None if site is None else self._sites.latency(site, bound.to)
        if reading is None:
            return None
        if reading.ms <= bound.max_ms:
            return self._news(job, bound, reading, LatencyReason.WITHIN, now)
        broken_s = reading.since_s + self._policy.latency_patience_s
        if broken_s > now.timestamp():
            self._again_s = min(self._again_s, broken_s)
            return None
        stays = self._stays(job, spec, bound, now)
        if isinstance(stays, Choice):
            take_back(job, spec, stays, f"{reading.between(job.site, bound.to)}; {asked(bound)}")
            return None
        return self._news(job, bound, reading, stays, now)

    def _stays(self, job: Job, spec: JobSpec, bound: LatencyBound, now: datetime) -> Choice | LatencyReason:
        """Why it stays, or where to it is moved."""
        now_s = now.timestamp()
        if job.started and not spec.suspendable:  # what keeps no progress is moved only before it starts
            return LatencyReason.NOT_SUSPENDABLE
        rested_s = self._rested_s(job)
        if rested_s > now_s:
            self._again_s = min(self._again_s, rested_s)
            return LatencyReason.RECENT
        choice = self._nearer(job, spec, bound, now)
        if choice is not None:
            return choice
        self._again_s = min(self._again_s, now_s + self._policy.latency_patience_s)
        return LatencyReason.NO_NEARER_SITE

    def _nearer(self, job: Job, spec: JobSpec, bound: LatencyBound, now: datetime) -> Choice | None:
        """Another site that has room and is nearer than the bound by the margin."""
        nearer = msgspec.structs.replace(bound, max_ms=bound.max_ms * (1.0 - MARGIN))
        verdict = self._placer.choose(
            job,
            msgspec.structs.replace(spec, max_latency=nearer),
            now,
            done_s=done_s(job, spec, now.timestamp(), self._policy.restart_s),
        )
        return verdict if isinstance(verdict, Choice) and not verdict.queued else None

    def _rested_s(self, job: Job) -> float:
        """When the job is not only just where it is."""
        rested_s = -inf
        if job.runs:
            rested_s = job.runs[-1].ended_at.timestamp() + _REST * self._policy.latency_patience_s
        began = job.run_began_at
        return rested_s if began is None else max(rested_s, began.timestamp() + self._policy.restart_s)

    def _news(
        self, job: Job, bound: LatencyBound, reading: Reading, reason: LatencyReason, now: datetime
    ) -> LatencyBoundReported | None:
        """What is to be told; None: it was told before under this placement, or there is nothing that is over."""
        told = self._told.get(job.job_id)
        known = LatencyReason.WITHIN if told is None or told.revision != job.revision else told.reason
        # That it is left in peace explains why nothing happens yet: it is no news to who knows of another reason.
        if reason is known or (reason is LatencyReason.RECENT and known is not LatencyReason.WITHIN):
            return None
        words = (reading.between(job.site, bound.to), asked(bound), _STAYS.get(reason, ""))
        return LatencyBoundReported(
            job_id=job.job_id,
            tenant=job.tenant,
            site=job.site,
            revision=job.revision,
            reason=reason,
            to=bound.to,
            max_ms=bound.max_ms,
            round_trip_ms=None if reading.ms == inf else reading.ms,
            since=None if reading.since_s == -inf else datetime.fromtimestamp(reading.since_s, UTC),
            detail="; ".join(word for word in words if word),
            reported_at=now,
        )

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
