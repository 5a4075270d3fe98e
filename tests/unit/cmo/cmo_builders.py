"""Short ways to say what happened, for tests of the CMO. Times are hours from T0, a full hour."""

from datetime import UTC, datetime, timedelta

from services.cmo.core import CmoCore
from services.cmo.model import Policy
from solyx.events import (
    Budget,
    BudgetSet,
    CostBreakdown,
    DataSet,
    DeviceGroup,
    DeviceRequest,
    EnergySeriesPublished,
    Event,
    ForecastIssued,
    GridEventAnnounced,
    JobCancellationRequested,
    JobFinished,
    JobPlaced,
    JobSpec,
    JobSubmitted,
    LatencyBound,
    Node,
    PlaceLatency,
    PlacementDeferred,
    PlacementReason,
    PlacementWithdrawn,
    PowerModel,
    Resources,
    RouteDecided,
    RouteReason,
    SiteLatenciesMeasured,
    SiteObserved,
    WorkloadEnergyRead,
    WorkloadReason,
    WorkloadReported,
)

T0 = datetime(2023, 6, 1, tzinfo=UTC)
GIB = 1 << 30


def at(hours: float) -> datetime:
    return T0 + timedelta(hours=hours)


def node(name="n", *, cores=8, memory_gib=64, gpus=0, model="V100", ready=True) -> Node:
    return Node(
        name=name,
        cpu_milli=cores * 1000,
        memory_bytes=memory_gib * GIB,
        devices=(DeviceGroup(model=model, count=gpus),) if gpus else (),
        ready=ready,
    )


def site(name, *nodes: Node, hours=0.0, egress=0.0, latency=None, lost=False, power=None) -> SiteObserved:
    return SiteObserved(
        site=name,
        observed_at=at(hours),
        nodes=nodes or (node(),),
        power=power or PowerModel(idle_w_per_node=100, w_per_core=10, w_per_gpu=300, pue=1.0),
        egress_eur_per_gib=egress,
        latency_ms=latency or {},
        lost=lost,
    )


def series(name, kind, values, *, start=0.0) -> EnergySeriesPublished:
    return EnergySeriesPublished(
        site=name, kind=kind, start=at(start), values=tuple(values), published_at=at(start), source="test"
    )


def prices(name, *values, start=0.0) -> EnergySeriesPublished:
    return series(name, "price_eur_per_mwh", values, start=start)


def carbon(name, *values, start=0.0) -> EnergySeriesPublished:
    return series(name, "carbon_gco2_per_kwh", values or (0.0,), start=start)


def forecast(name, kind, values, *, issued=0.0, start=0.0) -> ForecastIssued:
    mean = tuple(float(value) for value in values)
    return ForecastIssued(
        subject_id=name,
        kind=kind,
        issued_at=at(issued),
        start=at(start),
        step_s=3600.0,
        mean=mean,
        lower=mean,
        upper=mean,
        model="test",
    )


def cap(name, watts, start, end, *, event_id="e", status="announced", announced=0.0) -> GridEventAnnounced:
    return GridEventAnnounced(
        event_id=event_id,
        site=name,
        start=at(start),
        end=at(end),
        power_cap_w=watts,
        status=status,
        announced_at=at(announced),
    )


def submitted(
    job_id="j",
    *,
    hours=0.0,
    cores=1.0,
    memory_gib=0,
    gpus=0,
    models=(),
    share=1000,
    runs=1.0,
    pods=1,
    deadline=None,
    max_delay=None,
    priority=0,
    data=None,
    sites=(),
    home=None,
    latency=None,
    tenant="t",
    suspendable=False,
    preemptible=False,
    grace_s=30.0,
) -> JobSubmitted:
    spec = JobSpec(
        name=job_id,
        image="i",
        resources=Resources(
            cpu_milli=int(cores * 1000),
            memory_bytes=memory_gib * GIB,
            devices=(DeviceRequest(models=tuple(models), count=gpus, share_milli=share),) if gpus else (),
        ),
        duration_estimate_s=runs * 3600,
        parallelism=pods,
        deadline=None if deadline is None else at(deadline),
        max_delay_s=None if max_delay is None else max_delay * 3600,
        priority=priority,
        suspendable=suspendable,
        preemptible=preemptible,
        grace_period_s=grace_s,
        data=None if data is None else DataSet(size_bytes=data[0] * GIB, site=data[1]),
        allowed_sites=tuple(sites),
        home_site=home,
        max_latency=None if latency is None else LatencyBound(to=latency[0], max_ms=latency[1]),
    )
    return JobSubmitted(job_id=job_id, tenant=tenant, spec=spec, submitted_at=at(hours))


def cancelled(job: JobSubmitted, hours=0.0) -> JobCancellationRequested:
    return JobCancellationRequested(
        job_id=job.job_id, tenant=job.tenant, spec=job.spec, submitted_at=job.submitted_at, requested_at=at(hours)
    )


def report(placed: JobPlaced, status, hours=0.0, *, reason=WorkloadReason.APPLIED, message="") -> WorkloadReported:
    return WorkloadReported(
        job_id=placed.job_id,
        tenant=placed.tenant,
        site=placed.site,
        revision=placed.revision,
        status=status,
        reason=reason,
        message=message,
        started_at=at(hours) if status == "started" else None,
        at=at(hours),
    )


def running(job: JobSubmitted, name, hours=0.0) -> list[Event]:
    """It was placed there and started."""
    placed = JobPlaced(
        job_id=job.job_id,
        tenant=job.tenant,
        spec=job.spec,
        submitted_at=job.submitted_at,
        site=name,
        start_at=at(hours),
        revision=1,
        reason=PlacementReason.LEAST_COST,
        cost=CostBreakdown(),
        decided_at=at(hours),
    )
    return [job, placed, report(placed, "started", hours)]


def budget(quantity="gpu_h", limit=10.0, window="day", *, enforcement="hard", hours=None) -> Budget:
    """``hours``: a rolling window of that length."""
    if hours is not None:
        return Budget(quantity=quantity, limit=limit, window="rolling", rolling_s=hours * 3600, enforcement=enforcement)
    return Budget(quantity=quantity, limit=limit, window=window, enforcement=enforcement)


def budgets(*each: Budget, tenant="t", revision=1, hours=0.0) -> BudgetSet:
    return BudgetSet(tenant=tenant, revision=revision, budgets=each, set_at=at(hours))


def measured(name, hours=0.0, *, since=None, lasts=10.0, **places: float | None) -> SiteLatenciesMeasured:
    """``since``: hours from which on the round trips have been at least that long."""
    return SiteLatenciesMeasured(
        site=name,
        places={
            place: PlaceLatency(round_trip_ms=ms, since=at(hours if since is None else since))
            for place, ms in places.items()
        },
        measured_at=at(hours),
        valid_until=at(hours + lasts),
    )


def route(source, target, *gib_per_h, revision=1, hours=0.0, path=True, via=()) -> RouteDecided:
    """``gib_per_h``: what the pair can move in an hour; with nodes on the way (``via``): what each link can."""
    bps = tuple(each * GIB * 8 / 3600 for each in gib_per_h)
    return RouteDecided(
        source=source,
        target=target,
        revision=revision,
        path=(source, *via, target) if path else (),
        headroom_bps=min(bps) if path else 0.0,
        free_bps=bps if via else (),
        reason=RouteReason.FIRST if path else RouteReason.NO_PATH,
        decided_at=at(hours),
    )


def energy_read(placed, hours, joules=None, *, watts=None, pod="p0", part="all", meter=None) -> WorkloadEnergyRead:
    return WorkloadEnergyRead(
        site=placed.site,
        job_id=placed.job_id,
        revision=placed.revision,
        meter=meter or f"{pod}/{part}",
        pod=pod,
        part=part,
        joules=joules,
        watts=watts,
        at=at(hours),
    )


def core(*events: Event, **policy) -> CmoCore:
    # The builders' jobs use a hundredth of a kWh: at the default delay cost none of them would ever wait.
    made = CmoCore(Policy(**{"delay_eur_per_job_h": 1e-7, **policy}))
    for event in events:
        made.fold(event)
    return made


def flat(*names: str, price=50.0, **options) -> list[Event]:
    """Sites with one price at all hours and no carbon: where and when do not matter."""
    return [
        event
        for name in names
        for event in (site(name, **options), prices(name, *[price] * 120, start=-24), carbon(name))
    ]


def placements(decisions) -> list[JobPlaced]:
    return [decision for decision in decisions if isinstance(decision, JobPlaced)]


def withdrawals(decisions) -> list[PlacementWithdrawn]:
    return [decision for decision in decisions if isinstance(decision, PlacementWithdrawn)]


def deferrals(decisions) -> list[PlacementDeferred]:
    return [decision for decision in decisions if isinstance(decision, PlacementDeferred)]


def outcomes(decisions) -> list[JobFinished]:
    return [decision for decision in decisions if isinstance(decision, JobFinished)]


def only(decisions):
    """The one decision that was taken."""
    assert len(decisions) == 1, decisions
    return decisions[0]


def placed_job(*extra, job=None, names=("a", "b"), **policy):
    """A core in which one job is placed at once at `a`, and the placement."""
    cmo = core(*flat(*names), *extra, job or submitted(max_delay=0), **policy)
    return cmo, only(placements(cmo.decide(T0)))
