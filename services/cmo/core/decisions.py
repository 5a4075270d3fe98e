"""What is published of a decision: the events, filled in from the record of the job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.cmo.core.jobs import total
from solyx.events import JobFinished, JobPlaced, PlacementDeferred, PlacementWithdrawn

if TYPE_CHECKING:
    from datetime import datetime

    from services.cmo.core.jobs import Job
    from services.cmo.model import Choice, Wait
    from solyx.events import FinishReason, JobSpec, Run, WithdrawalReason
    from solyx.events.placement import JobOutcome


def placement_of(job: Job, spec: JobSpec, choice: Choice, runs: tuple[Run, ...], now: datetime) -> JobPlaced:
    """The job shall run there from then on, under its next revision."""
    assert job.submitted_at is not None
    return JobPlaced(
        job_id=job.job_id,
        tenant=job.tenant,
        spec=spec,
        submitted_at=job.submitted_at,
        site=choice.site,
        start_at=choice.start_at,
        data_from=choice.data_from,
        data_at=choice.data_at,
        revision=job.next_revision,
        attempt=job.next_attempt,
        reason=choice.reason,
        cost=choice.cost,
        alternative=choice.alternative,
        bound_by=choice.bound_by,
        victims=choice.victims,
        progress_s=job.kept_s,
        used=total(runs),
        runs=runs,
        decided_at=now,
    )


def withdrawal_of(
    job: Job, spec: JobSpec, reason: WithdrawalReason, now: datetime, detail: str = ""
) -> PlacementWithdrawn:
    """The latest placement is taken back."""
    assert job.submitted_at is not None
    return PlacementWithdrawn(
        job_id=job.job_id,
        tenant=job.tenant,
        spec=spec,
        submitted_at=job.submitted_at,
        site=job.site,
        revision=job.revision,
        attempt=job.attempt,
        reason=reason,
        detail=detail,
        data_at=job.data_at,
        progress_s=job.progress_s,
        used=job.used,
        runs=job.runs,
        decided_at=now,
    )


def deferral_of(job: Job, spec: JobSpec, why: Wait, runs: tuple[Run, ...], now: datetime) -> PlacementDeferred | None:
    """What is to be told of a job that waits: once for each reason, and again when the time that was told has come."""
    said = job.deferral
    known = said is not None and (said.revision, said.reason) == (job.revision, why.cause)
    if known and said is not None and (said.until is None or said.until > now or said.until == why.until):
        return None
    assert job.submitted_at is not None
    return PlacementDeferred(
        job_id=job.job_id,
        tenant=job.tenant,
        revision=job.revision,
        spec=spec,
        submitted_at=job.submitted_at,
        reason=why.cause,
        detail=why.message,
        until=why.until,
        runs=runs,
        decided_at=now,
    )


def outcome_of(
    job: Job, outcome: JobOutcome, reason: FinishReason, message: str, runs: tuple[Run, ...], now: datetime
) -> JobFinished:
    """The job is over, with all its runs."""
    return JobFinished(
        job_id=job.job_id,
        tenant=job.tenant,
        site=job.site,
        revision=job.revision,
        outcome=outcome,
        reason=reason,
        message=message,
        usage=total(runs) if runs else None,
        runs=runs,
        finished_at=now,
    )
