"""Builders of the events that the gateway's read model folds; shared by its unit, property and integration tests."""

from datetime import UTC, datetime, timedelta
from functools import reduce

from solyx.events import (
    AllocationReason,
    AllocationReleased,
    Alternative,
    CostBreakdown,
    DeferralCause,
    Event,
    FinishReason,
    JobAllocated,
    JobFinished,
    JobPlaced,
    JobSpec,
    JobSubmitted,
    PlacementDeferred,
    PlacementReason,
    PlacementWithdrawn,
    PodAssignment,
    Record,
    ReleaseReason,
    Resources,
    Run,
    Usage,
    WithdrawalReason,
    WorkloadReason,
    WorkloadReported,
    encode,
)

START = datetime(2026, 11, 21, 12, tzinfo=UTC)
TRACEPARENT = f"00-{'a' * 32}-{'b' * 16}-00"


def at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


def spec(name: str = "train", **fields: object) -> JobSpec:
    return JobSpec(name=name, image="busybox", resources=Resources(cpu_milli=1000), duration_estimate_s=600, **fields)


def submitted(job: str = "j1", tenant: str = "acme", **fields: object) -> JobSubmitted:
    return JobSubmitted(job_id=job, tenant=tenant, spec=spec(**fields), submitted_at=at(0))


def ran(revision: int = 1, site: str = "oslo", gpu_h: float = 2.0, ended: float | None = None) -> Run:
    """A run that ended ``ended`` minutes after the start; 1 core, a tenth of a EUR and 1 kWh for each GPU-hour."""
    end = revision + 0.5 if ended is None else ended
    usage = Usage(
        cpu_h=1.0, gpu_h=gpu_h, energy_kwh=gpu_h, cost_eur=gpu_h / 10, carbon_kg=gpu_h / 2, measured_kwh=gpu_h / 4
    )
    return Run(revision=revision, site=site, started_at=at(revision + 0.2), ended_at=at(end), usage=usage)


def placed(
    job: str = "j1", revision: int = 1, site: str = "oslo", tenant: str = "acme", *, runs: tuple[Run, ...] = ()
) -> JobPlaced:
    return JobPlaced(
        job_id=job,
        tenant=tenant,
        spec=spec(),
        submitted_at=at(0),
        site=site,
        start_at=at(30),
        revision=revision,
        reason=PlacementReason.LEAST_COST,
        cost=CostBreakdown(energy_eur=2.5, energy_kwh=30),
        alternative=Alternative(site="bergen", start_at=at(40), total_eur=3.0),
        runs=runs,
        decided_at=at(revision),
    )


def allocated(job: str = "j1", revision: int = 1, site: str = "oslo", tenant: str = "acme") -> JobAllocated:
    return JobAllocated(
        job_id=job,
        tenant=tenant,
        spec=spec(),
        site=site,
        revision=revision,
        pods=(PodAssignment(index=0, node="n1"),),
        reason=AllocationReason.FITS,
        submitted_at=at(0),
        decided_at=at(revision + 0.1),
    )


def reported(
    status: str, job: str = "j1", revision: int = 1, site: str = "oslo", tenant: str = "acme"
) -> WorkloadReported:
    reason = {"started": WorkloadReason.APPLIED, "succeeded": WorkloadReason.COMPLETED}.get(
        status, WorkloadReason.EXIT_CODE
    )
    return WorkloadReported(
        job_id=job,
        tenant=tenant,
        site=site,
        revision=revision,
        status=status,  # type: ignore[arg-type]
        reason=reason,
        started_at=at(revision + 0.2),
        at=at(revision + (0.2 if status == "started" else 0.5)),
    )


def released(job: str = "j1", revision: int = 1, site: str = "oslo", tenant: str = "acme") -> AllocationReleased:
    return AllocationReleased(
        job_id=job,
        tenant=tenant,
        site=site,
        revision=revision,
        reason=ReleaseReason.FINISHED,
        decided_at=at(revision + 0.6),
    )


def withdrawn(job: str = "j1", revision: int = 1, site: str = "oslo", tenant: str = "acme") -> PlacementWithdrawn:
    return PlacementWithdrawn(
        job_id=job,
        tenant=tenant,
        spec=spec(),
        submitted_at=at(0),
        site=site,
        revision=revision,
        reason=WithdrawalReason.MIGRATION,
        decided_at=at(revision + 0.3),
    )


def finished(
    outcome: str = "succeeded",
    job: str = "j1",
    revision: int = 1,
    site: str = "oslo",
    tenant: str = "acme",
    *,
    runs: tuple[Run, ...] = (),
) -> JobFinished:
    reason = {"succeeded": FinishReason.COMPLETED, "cancelled": FinishReason.CANCELLED}.get(
        outcome, FinishReason.RETRIES_EXHAUSTED
    )
    return JobFinished(
        job_id=job,
        tenant=tenant,
        site=site,
        revision=revision,
        outcome=outcome,  # type: ignore[arg-type]
        reason=reason,
        usage=reduce(Usage.plus, (run.usage for run in runs)) if runs else None,
        runs=runs,
        finished_at=at(revision + 0.7),
    )


def deferred(
    job: str = "j1", revision: int = 0, reason: DeferralCause = DeferralCause.BUDGET, *, runs: tuple[Run, ...] = ()
) -> PlacementDeferred:
    return PlacementDeferred(
        job_id=job,
        tenant="acme",
        revision=revision,
        spec=spec(),
        submitted_at=at(0),
        reason=reason,
        detail="acme has used 4 and planned 0 of its 4 gpu_h per day; this job needs 2",
        until=at(720),
        runs=runs,
        decided_at=at(revision + 0.8),
    )


def life(job: str = "j1", tenant: str = "acme") -> list[Event]:
    """Fails once at oslo, moves to bergen, succeeds there."""
    return [
        submitted(job, tenant),
        placed(job, 1, "oslo", tenant),
        allocated(job, 1, "oslo", tenant),
        reported("started", job, 1, "oslo", tenant),
        reported("failed", job, 1, "oslo", tenant),
        released(job, 1, "oslo", tenant),
        placed(job, 2, "bergen", tenant, runs=(ran(1, "oslo"),)),
        allocated(job, 2, "bergen", tenant),
        reported("started", job, 2, "bergen", tenant),
        reported("succeeded", job, 2, "bergen", tenant),
        finished("succeeded", job, 2, "bergen", tenant, runs=(ran(1, "oslo"), ran(2, "bergen"))),
        released(job, 2, "bergen", tenant),
    ]


def record(event: Event) -> Record:
    return encode(event, source="solyx/test", time=START, traceparent=TRACEPARENT)
