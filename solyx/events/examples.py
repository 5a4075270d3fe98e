"""One example of every event type: what the schemas show, and what the golden tests read back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from solyx.events.allocation import (
    AllocationDeferred,
    AllocationReason,
    AllocationReleased,
    DeferralReason,
    DeviceAssignment,
    JobAllocated,
    PodAssignment,
    ReleaseReason,
)
from solyx.events.budget import Budget, BudgetSet
from solyx.events.energy import EnergySeriesPublished, GridEventAnnounced
from solyx.events.job import (
    DataSet,
    DeviceRequest,
    JobCancellationRequested,
    JobSpec,
    JobSubmitted,
    LatencyBound,
    Resources,
)
from solyx.events.latency import LatencyBoundReported, LatencyReason
from solyx.events.metrics import AnomalyDetected, ForecastIssued, MetricsScraped, SeriesWindowed, WorkloadEnergyRead
from solyx.events.node import NodeOrder, NodesOrdered
from solyx.events.outcome import RouteReported, WorkloadReason, WorkloadReported
from solyx.events.placement import (
    Alternative,
    CostBreakdown,
    DeferralCause,
    FinishReason,
    JobFinished,
    JobPlaced,
    PlacementDeferred,
    PlacementReason,
    PlacementWithdrawn,
    Run,
    Usage,
    Victim,
    WithdrawalReason,
)
from solyx.events.quota import QuotaAccount, QuotaFigure, QuotasReported
from solyx.events.relief import KeptReason, ReliefAnswered, ReliefJob, ReliefKept, ReliefReason, ReliefRequested
from solyx.events.response import DemandResponseReported
from solyx.events.route import PlaceLatency, RouteDecided, RouteReason, SiteLatenciesMeasured
from solyx.events.site import DeviceGroup, FeedReported, LinkObserved, Node, PowerModel, SiteObserved

if TYPE_CHECKING:
    from solyx.events.event import Event

_NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
_JOB = "01jwmy2x7c9q4v8b3n5t6r0k1d"
_SPEC = JobSpec(
    name="train-resnet",
    image="registry.example/train:1.4",
    command=("python", "train.py"),
    env={"EPOCHS": "90"},
    resources=Resources(
        cpu_milli=8000, memory_bytes=32 * 2**30, devices=(DeviceRequest(kind="gpu", models=("A100", "V100"), count=2),)
    ),
    parallelism=2,
    duration_estimate_s=7200.0,
    max_delay_s=86400.0,
    priority=10,
    preemptible=True,
    suspendable=True,
    data=DataSet(size_bytes=40 * 2**30, site="frankfurt"),
    allowed_sites=("frankfurt", "texas"),
    home_site="frankfurt",
    max_latency=LatencyBound(to="frankfurt", max_ms=150.0),
    labels={"team": "vision"},
)

_USED = Usage(cpu_h=32.0, gpu_h=8.0, energy_kwh=5.1, cost_eur=0.34, carbon_kg=1.2)

EXAMPLES: tuple[Event, ...] = (
    JobSubmitted(job_id=_JOB, tenant="vision", spec=_SPEC, submitted_at=_NOON),
    JobCancellationRequested(
        job_id=_JOB, tenant="vision", spec=_SPEC, submitted_at=_NOON, requested_at=_NOON + timedelta(minutes=5)
    ),
    SiteObserved(
        site="frankfurt",
        observed_at=_NOON,
        nodes=(
            Node(
                name="node-1",
                cpu_milli=96000,
                memory_bytes=768 * 2**30,
                devices=(DeviceGroup(kind="gpu", model="A100", count=8),),
            ),
        ),
        power=PowerModel(idle_w_per_node=250.0, w_per_core=6.0, w_per_gpu=300.0, pue=1.25),
        zone="DE-LU",
        network_node="2",
        egress_eur_per_gib=0.0005,
        latency_ms={"berlin": 9.0},
        price_bound_eur_per_mwh=150.0,
    ),
    LinkObserved(
        link="frankfurt>texas",
        source="frankfurt",
        target="texas",
        capacity_bps=40e9,
        rate_bps=12.5e9,
        latency_ms=58.0,
        observed_at=_NOON,
    ),
    FeedReported(feed="prices", status="stale", since=_NOON, error="HTTP 503"),
    EnergySeriesPublished(
        site="frankfurt",
        kind="price_eur_per_mwh",
        start=_NOON,
        values=(84.1, None, -3.2),
        published_at=_NOON,
        source="scenario",
    ),
    GridEventAnnounced(
        event_id="dr-17",
        site="texas",
        start=_NOON + timedelta(hours=1),
        end=_NOON + timedelta(hours=4),
        power_cap_w=45000.0,
        announced_at=_NOON,
    ),
    DemandResponseReported(
        event_id="dr-17",
        site="texas",
        start=_NOON + timedelta(hours=1),
        end=_NOON + timedelta(hours=4),
        power_cap_w=45000.0,
        status="active",
        baseline_w=60000.0,
        planned_w=44600.0,
        now_w=44600.0,
        mean_w=44650.0,
        peak_w=44900.0,
        capped_at=_NOON + timedelta(hours=1),
        suspended=5,
        migrated=1,
        delayed=2,
        reported_at=_NOON + timedelta(hours=2),
    ),
    ReliefRequested(
        site="frankfurt",
        start=_NOON + timedelta(hours=5),
        end=_NOON + timedelta(hours=8),
        reason=ReliefReason.PRICE_BOUND,
        price_bound_eur_per_mwh=150.0,
        price_eur_per_mwh=230.1,
        jobs=(ReliefJob(job_id=_JOB, revision=1, power_w=2480.0, saves_eur=0.38),),
        detail="up to 230.10 EUR/MWh until 2026-06-01T20:00+00:00, above the bound of 150.00",
        requested_at=_NOON + timedelta(hours=5),
    ),
    ReliefAnswered(
        site="frankfurt",
        start=_NOON + timedelta(hours=5),
        end=_NOON + timedelta(hours=8),
        requested_at=_NOON + timedelta(hours=5),
        asked_w=2480.0,
        relieved_w=2480.0,
        suspended=1,
        kept=(ReliefKept(job_id="01jwmy2x7c9q4v8b3n5t6r0k2e", reason=KeptReason.DEADLINE),),
        answered_at=_NOON + timedelta(hours=5),
    ),
    LatencyBoundReported(
        job_id=_JOB,
        tenant="vision",
        site="texas",
        revision=1,
        reason=LatencyReason.NOT_SUSPENDABLE,
        to="newyork",
        max_ms=60.0,
        round_trip_ms=74.5,
        since=_NOON + timedelta(hours=2),
        detail="texas is 74.5 ms from newyork (measured); the job asks for at most 60 ms; it runs and is not suspendable",
        reported_at=_NOON + timedelta(hours=3),
    ),
    MetricsScraped(
        source="frankfurt/node-1",
        scraped_at=_NOON,
        series=('node_load1{instance="node-1"}', 'up{instance="node-1"}'),
        values=(3.5, 1.0),
    ),
    SeriesWindowed(
        source="frankfurt/node-1",
        window_start=_NOON,
        window_end=_NOON + timedelta(minutes=1),
        series=('node_load1{instance="node-1"}',),
        count=(4,),
        mean=(3.4,),
        min=(3.1,),
        max=(3.9,),
        last=(3.5,),
        levels=(0.5, 0.99),
        quantiles=((3.4,), (3.9,)),
    ),
    ForecastIssued(
        subject_id="frankfurt",
        kind="price_eur_per_mwh",
        issued_at=_NOON,
        start=_NOON,
        step_s=3600.0,
        mean=(84.1, 80.0),
        lower=(84.1, 61.0),
        upper=(84.1, 99.5),
        known_steps=1,
        model="seasonal-naive",
    ),
    AnomalyDetected(source="frankfurt/node-1", series="node_load1", at=_NOON, value=42.0, score=9.1, expected=3.4),
    JobPlaced(
        job_id=_JOB,
        tenant="vision",
        spec=_SPEC,
        submitted_at=_NOON,
        site="texas",
        start_at=_NOON + timedelta(hours=2),
        data_from=_NOON,
        data_at=_NOON + timedelta(minutes=8),
        revision=1,
        reason=PlacementReason.LEAST_COST,
        cost=CostBreakdown(
            energy_eur=0.31, carbon_eur=0.12, movement_eur=0.02, delay_eur=0.01, energy_kwh=5.2, carbon_kg=1.2
        ),
        alternative=Alternative(site="frankfurt", start_at=_NOON + timedelta(hours=14), total_eur=0.52),
        bound_by="texas is full for the next two hours",
        victims=(Victim(job_id="01J0EXAMPLE0VICTIM00000000", revision=3),),
        decided_at=_NOON,
    ),
    PlacementWithdrawn(
        job_id=_JOB,
        tenant="vision",
        spec=_SPEC,
        submitted_at=_NOON,
        site="texas",
        revision=1,
        reason=WithdrawalReason.CANCELLED,
        decided_at=_NOON,
    ),
    PlacementDeferred(
        job_id=_JOB,
        tenant="vision",
        spec=_SPEC,
        submitted_at=_NOON,
        reason=DeferralCause.BUDGET,
        detail="vision has used 90 and planned 8 of its 100 gpu_h per day; this job needs 8",
        until=_NOON + timedelta(hours=12),
        decided_at=_NOON,
    ),
    JobFinished(
        job_id=_JOB,
        tenant="vision",
        site="texas",
        revision=1,
        outcome="succeeded",
        reason=FinishReason.COMPLETED,
        usage=_USED,
        runs=(
            Run(
                revision=1,
                site="texas",
                started_at=_NOON + timedelta(hours=2),
                ended_at=_NOON + timedelta(hours=4),
                usage=_USED,
            ),
        ),
        finished_at=_NOON + timedelta(hours=4),
    ),
    JobAllocated(
        job_id=_JOB,
        tenant="vision",
        spec=_SPEC,
        site="texas",
        revision=1,
        pods=(
            PodAssignment(index=0, node="node-1", devices=(DeviceAssignment(model="A100", index=3, share_milli=1000),)),
        ),
        reason=AllocationReason.FITS,
        submitted_at=_NOON,
        decided_at=_NOON + timedelta(hours=2),
    ),
    AllocationDeferred(
        job_id=_JOB,
        tenant="vision",
        site="texas",
        revision=1,
        reason=DeferralReason.NO_CAPACITY,
        detail="needs 4 A100 or V100, 1 is free",
        decided_at=_NOON,
    ),
    AllocationReleased(
        job_id=_JOB, tenant="vision", site="texas", revision=1, reason=ReleaseReason.FINISHED, decided_at=_NOON
    ),
    QuotasReported(
        site="texas",
        capacity={"cpu_milli": 512000, "memory_bytes": 2 << 40, "gpu_milli": 64000, "gpu/A100": 32000},
        accounts=(
            QuotaAccount(
                name="research",
                kind="cohort",
                share=0.5,
                waiting_jobs=2,
                figures=(QuotaFigure(resource="gpu/A100", guaranteed=32000, most=32000, held=16000, waiting=4000),),
            ),
            QuotaAccount(
                name="vision",
                kind="tenant",
                cohort="research",
                share=0.375,
                figures=(QuotaFigure(resource="gpu/A100", guaranteed=8000, most=20000, held=12000, borrowed=4000),),
            ),
            QuotaAccount(
                name="speech",
                kind="tenant",
                cohort="research",
                share=0.125,
                waiting_jobs=2,
                figures=(
                    QuotaFigure(resource="gpu/A100", guaranteed=24000, most=32000, held=4000, lent=4000, waiting=4000),
                ),
            ),
        ),
        reported_at=_NOON,
    ),
    NodesOrdered(
        site="texas",
        revision=2,
        orders=(NodeOrder(node="node-1", state="draining", note="new power supply", since=_NOON),),
        ordered_at=_NOON,
    ),
    RouteDecided(
        source="frankfurt",
        target="texas",
        revision=3,
        path=("2", "5", "9"),
        backup=("2", "7", "9"),
        latency_ms=58.0,
        headroom_bps=27.5e9,
        free_bps=(64e9, 27.5e9),
        reason=RouteReason.BETTER_PATH,
        decided_at=_NOON,
    ),
    SiteLatenciesMeasured(
        site="frankfurt",
        places={"texas": PlaceLatency(round_trip_ms=116.4, since=_NOON), "exchange": PlaceLatency(since=_NOON)},
        measured_at=_NOON,
        valid_until=_NOON + timedelta(minutes=90),
    ),
    WorkloadEnergyRead(
        site="texas",
        job_id=_JOB,
        revision=1,
        meter="train-resnet-0/cpu",
        pod="train-resnet-0",
        part="cpu",
        joules=1.26e6,
        at=_NOON + timedelta(hours=3),
    ),
    WorkloadReported(
        job_id=_JOB,
        tenant="vision",
        site="texas",
        revision=1,
        status="started",
        reason=WorkloadReason.APPLIED,
        started_at=_NOON + timedelta(hours=2),
        at=_NOON + timedelta(hours=2),
    ),
    RouteReported(source="frankfurt", target="texas", revision=3, status="applied", at=_NOON),
    BudgetSet(
        tenant="vision",
        revision=3,
        budgets=(
            Budget(quantity="gpu_h", limit=100.0, window="day"),
            Budget(quantity="cost_eur", limit=500.0, window="rolling", rolling_s=30 * 86400.0, enforcement="soft"),
        ),
        set_at=_NOON,
    ),
)
