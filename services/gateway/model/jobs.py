"""Jobs: as they are submitted, stored, listed and told."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from services.gateway.model.view import View
from solyx.events import JobSpec

JobState = Literal["submitted", "placed", "allocated", "running", "succeeded", "failed", "cancelled"]

JOB_STATES: tuple[JobState, ...] = ("submitted", "placed", "allocated", "running", "succeeded", "failed", "cancelled")

TERMINAL: frozenset[str] = frozenset({"succeeded", "failed", "cancelled"})


class HistoryEntry(View, frozen=True, kw_only=True):
    """One event of the log as the read model keeps it."""

    seq: int  # position in GET /v1/events; grows with every entry
    type: str  # CloudEvents type
    subject: str  # job id, site, or source>target
    tenant: str | None
    site: str | None
    revision: int | None
    reason: str
    time: datetime
    figures: msgspec.Raw  # what the decision rests on, by type of event


class JobSummary(View, frozen=True, kw_only=True):
    """A job in a list."""

    id: str
    tenant: str
    name: str
    state: JobState
    reason: str  # of the latest change of state
    site: str | None
    revision: int
    submitted_at: datetime
    state_at: datetime  # when the state began
    started_at: datetime | None = None
    finished_at: datetime | None = None
    cancel_requested_at: datetime | None = None
    labels: dict[str, str]


class JobRun(View, frozen=True, kw_only=True):
    """A run that is over, with what it took."""

    revision: int
    site: str
    started_at: datetime
    ended_at: datetime
    cpu_h: float
    gpu_h: float
    energy_kwh: float
    cost_eur: float
    carbon_kg: float
    measured_kwh: float  # of energy_kwh; the rest is modelled


class Wait(View, frozen=True, kw_only=True):
    """Why a job does not run yet."""

    reason: str  # of the decision that made it wait
    detail: str = ""  # which figure must change, in words
    since: datetime
    until: datetime | None = None  # when it starts, or is looked at again; null: when the world changes


class Breach(View, frozen=True, kw_only=True):
    """What a job asks for and does not have where it is: the latency to the place that it must be near."""

    reason: str  # why it stays there all the same
    detail: str  # the figures, in words
    since: datetime


class JobDetail(JobSummary, frozen=True, kw_only=True):
    """A job with its specification and all that was decided about it."""

    spec: JobSpec | None  # in canonical units
    trace_id: str
    waits: Wait | None = None  # null: it runs, is over, or nothing was decided about it yet
    breach: Breach | None = (
        None  # null: its site is within its `max_latency`, or not known to have been too far for long
    )
    runs: list[JobRun]  # that are over
    history: list[HistoryEntry]


class JobPage(View, frozen=True, kw_only=True):
    jobs: list[JobSummary]
    next: str | None = None  # cursor of the next page; null: this is the last


class JobFilter(View, frozen=True, kw_only=True):
    """What a list of jobs is narrowed to; None: not narrowed."""

    tenant: str | None = None
    state: tuple[str, ...] = ()
    site: str | None = None
    labels: tuple[tuple[str, str], ...] = ()
    name_prefix: str | None = None
    since: datetime | None = None  # submitted at or after
    before_id: str | None = None  # keyset: ids sort by time of submission, newest first
    limit: int = 100


class NewJob(View, frozen=True, kw_only=True):
    """A job that was accepted but not stored yet."""

    id: str
    tenant: str
    spec: JobSpec
    traceparent: str


class StoredSpec(View, frozen=True, kw_only=True):
    """What a cancellation needs to know of a job."""

    id: str
    tenant: str
    state: JobState
    reason: str
    spec: JobSpec | None
    submitted_at: datetime
    cancel_requested_at: datetime | None
    traceparent: str | None


class Accepted(View, frozen=True, kw_only=True):
    """Ids of the jobs that were stored, or that had been stored under the same Idempotency-Key."""

    ids: list[str]
    replayed: bool = False


class KeyMismatch(Exception):  # noqa: N818 - an outcome that the API turns into 409
    """The Idempotency-Key was used for another body."""


class SubmittedJob(View, frozen=True, kw_only=True):
    """Answer to one job."""

    id: str
    state: Literal["submitted"] = "submitted"


class SubmittedBatch(View, frozen=True, kw_only=True):
    """Answer to an NDJSON body: ids in the order of its lines."""

    count: int
    ids: list[str]


class CancelledJob(View, frozen=True, kw_only=True):
    id: str
    state: JobState
    cancel_requested_at: datetime
