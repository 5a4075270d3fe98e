"""A site around the DRM's core: builders, and an actuator's view that keeps its own books and objects to every wrong decision."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from services.drm.core import DrmCore
from services.drm.quotas import RESOURCES, Cohort, Figure, Quota, Quotas, Share
from solyx.events import (
    AllocationDeferred,
    AllocationReleased,
    CostBreakdown,
    DeviceGroup,
    DeviceRequest,
    EnergySeriesPublished,
    Event,
    FinishReason,
    JobAllocated,
    JobFinished,
    JobPlaced,
    JobSpec,
    Node,
    PlacementReason,
    PlacementWithdrawn,
    PowerModel,
    QuotasReported,
    ReliefRequested,
    Resources,
    SiteObserved,
    Victim,
    Weights,
    WithdrawalReason,
    WorkloadReason,
    WorkloadReported,
)

T0 = datetime(2023, 6, 1, tzinfo=UTC)
GIB = 2**30
SITE = "north"


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def node(
    name: str,
    *,
    cpu: float = 8,
    memory_gib: int = 32,
    gpus: int = 0,
    model: str = "A100",
    ready: bool = True,
    draining: bool = False,
    taints: tuple[str, ...] = (),
    rack: str = "",
) -> Node:
    devices = (DeviceGroup(model=model, count=gpus),) if gpus else ()
    return Node(
        name=name,
        cpu_milli=int(cpu * 1000),
        memory_bytes=memory_gib * GIB,
        devices=devices,
        ready=ready,
        draining=draining,
        taints=taints,
        rack=rack,
    )


def observed(
    *nodes: Node, seconds: float = 0, site: str = SITE, lost: bool = False, bound: float | None = None
) -> SiteObserved:
    return SiteObserved(
        site=site,
        observed_at=at(seconds),
        nodes=nodes,
        lost=lost,
        power=PowerModel(w_per_core=10, w_per_gpu=300, pue=1.0),
        price_bound_eur_per_mwh=bound,
    )


def prices(*values: float | None, hours: float = 0, site: str = SITE) -> EnergySeriesPublished:
    """From that hour on."""
    start = at(hours * 3600)
    return EnergySeriesPublished(
        site=site, kind="price_eur_per_mwh", start=start, values=values, published_at=start, source="test"
    )


def gpu(share: float = 1, *, models: tuple[str, ...] = (), count: int = 1) -> DeviceRequest:
    return DeviceRequest(models=models, count=count, share_milli=int(share * 1000))


def job_spec(
    *,
    cpu: float = 1,
    memory_gib: int = 1,
    devices: tuple[DeviceRequest, ...] = (),
    pods: int = 1,
    duration: float = 100,
    priority: int = 0,
    preemptible: bool = False,
    suspendable: bool = False,
    delay_eur_per_h: float | None = None,
    grace: float = 30,
    tolerations: tuple[str, ...] = (),
) -> JobSpec:
    return JobSpec(
        name="job",
        image="image",
        resources=Resources(cpu_milli=int(cpu * 1000), memory_bytes=memory_gib * GIB, devices=devices),
        duration_estimate_s=duration,
        parallelism=pods,
        priority=priority,
        preemptible=preemptible,
        suspendable=suspendable,
        weights=Weights(delay_eur_per_h=delay_eur_per_h),
        grace_period_s=grace,
        tolerations=tolerations,
    )


def placed(
    job_id: str,
    spec: JobSpec | None = None,
    *,
    revision: int = 1,
    start: float = 0,
    submitted: float = 0,
    tenant: str = "lab",
    site: str = SITE,
    progress: float = 0,
    victims: tuple[Victim, ...] = (),
) -> JobPlaced:
    return JobPlaced(
        job_id=job_id,
        tenant=tenant,
        spec=spec or job_spec(),
        submitted_at=at(submitted),
        site=site,
        start_at=at(start),
        revision=revision,
        reason=PlacementReason.LEAST_COST,
        cost=CostBreakdown(),
        progress_s=progress,
        victims=victims,
        decided_at=at(submitted),
    )


def withdrawn(placement: JobPlaced, reason: WithdrawalReason = WithdrawalReason.CANCELLED) -> PlacementWithdrawn:
    return PlacementWithdrawn(
        job_id=placement.job_id,
        tenant=placement.tenant,
        spec=placement.spec,
        submitted_at=placement.submitted_at,
        site=placement.site,
        revision=placement.revision,
        reason=reason,
        decided_at=placement.decided_at,
    )


def reported(
    decision: JobAllocated | AllocationReleased | JobPlaced,
    status: str,
    *,
    seconds: float = 0,
    reason: WorkloadReason = WorkloadReason.COMPLETED,
    message: str = "",
) -> WorkloadReported:
    return WorkloadReported(
        job_id=decision.job_id,
        tenant=decision.tenant,
        site=decision.site,
        revision=decision.revision,
        status=status,  # pyright: ignore[reportArgumentType]
        reason=reason,
        message=message,
        started_at=at(seconds) if status == "started" else None,
        at=at(seconds),
    )


def finished(placement: JobPlaced, outcome: str = "succeeded", *, seconds: float = 0) -> JobFinished:
    return JobFinished(
        job_id=placement.job_id,
        tenant=placement.tenant,
        site=placement.site,
        revision=placement.revision,
        outcome=outcome,  # pyright: ignore[reportArgumentType]
        reason=FinishReason.COMPLETED,
        finished_at=at(seconds),
    )


class World:
    """A core, everything it was told and said, and the books of what must be true."""

    def __init__(self, *nodes: Node, quotas: dict[str, Quota] | Quotas | None = None) -> None:
        document = quotas if isinstance(quotas, Quotas) else Quotas(tenants=quotas or {})
        self.document, self.quotas = document, document.tenants
        self.core = DrmCore(document)
        self.seconds = 0.0
        self.history: dict[str, list[Event]] = defaultdict(list)  # topic → events, in order
        self.nodes: dict[str, Node] = {}
        self.running: dict[str, JobAllocated] = {}  # job → allocation whose end was not reported
        self.released: Counter[tuple[str, int]] = Counter()
        self.allocated: Counter[tuple[str, int]] = Counter()
        if nodes:
            self.tell(observed(*nodes))

    def tell(self, *events: Event) -> None:
        for event in events:
            self.history[event.TOPIC].append(event)
            self.core.fold(event)
            match event:
                case SiteObserved():
                    self.nodes = {n.name: n for n in event.nodes}
                case WorkloadReported(job_id=job_id, revision=revision, status=status):
                    holder = self.running.get(job_id)
                    if status != "started" and holder is not None and holder.revision <= revision:
                        del self.running[job_id]
                case _:
                    pass

    def decide(self, seconds: float | None = None) -> list[Event]:
        if seconds is not None:
            self.seconds = seconds
        decisions = self.core.decide(at(self.seconds))
        for decision in decisions:
            self.history[decision.TOPIC].append(decision)
            match decision:
                case JobAllocated():
                    self._check_allocation(decision)
                case AllocationReleased(job_id=job_id, revision=revision):
                    self.released[job_id, revision] += 1
                    assert self.released[job_id, revision] == 1, f"{job_id}.{revision} released twice"
                case _:
                    pass
        return [decision for decision in decisions if not isinstance(decision, QuotasReported)]

    def _check_allocation(self, event: JobAllocated) -> None:
        self.allocated[event.job_id, event.revision] += 1
        assert self.allocated[event.job_id, event.revision] == 1, f"{event.job_id}.{event.revision} allocated twice"
        assert event.job_id not in self.running, f"{event.job_id} admitted while it still runs"
        assert len(event.pods) == event.spec.parallelism, "a part of a gang was admitted"
        for pod in event.pods:
            assert self.nodes[pod.node].ready, f"{pod.node} is not ready"
            assert not self.nodes[pod.node].draining, f"{pod.node} is to be empty"
            assert set(self.nodes[pod.node].taints) <= set(event.spec.tolerations), f"{pod.node} has taints"
            for request in event.spec.resources.devices:
                fitting = [
                    d
                    for d in pod.devices
                    if d.kind == request.kind
                    and d.share_milli == request.share_milli
                    and (not request.models or d.model in request.models)
                ]
                assert len(fitting) >= request.count, f"{pod} does not answer {request}"
            assert len(pod.devices) == sum(r.count for r in event.spec.resources.devices)
        self.running[event.job_id] = event
        self.check_books({pod.node for pod in event.pods})
        quota = self.quotas.get(event.tenant, Quota())
        mine = [a for a in self.running.values() if a.tenant == event.tenant]
        cpu = sum(a.spec.resources.cpu_milli * a.spec.parallelism for a in mine)
        gpus = sum(a.spec.resources.gpu_milli * a.spec.parallelism for a in mine)
        assert quota.cpu_milli is None or cpu <= quota.cpu_milli, "CPU quota exceeded"
        assert quota.gpu_milli is None or gpus <= quota.gpu_milli, "GPU quota exceeded"

        self._check_cohorts()
        self._check_devices(event.tenant, mine)

    def _check_devices(self, tenant: str, mine: list[JobAllocated]) -> None:
        """What a tenant outside all cohorts really holds of each kind and model is in its quota."""
        held = devices_held(mine)
        for name, limit in self.quotas.get(tenant, Quota()).devices_milli.items():
            assert isinstance(limit, int)
            assert held[name] <= limit, f"{tenant}: {name} {held[name]} of {limit}"

    def _check_cohorts(self) -> None:
        """Every tenant and cohort keeps its limits, and jobs that must not be stopped stay in what is guaranteed."""
        for resource in self.document.resources():
            held: Counter[str] = Counter()
            firm: Counter[str] = Counter()
            for allocation in self.running.values():
                if resource in RESOURCES:
                    amount = getattr(allocation.spec.resources, resource) * allocation.spec.parallelism
                else:
                    amount = devices_held([allocation])[resource]
                held[allocation.tenant] += amount
                firm[allocation.tenant] += amount * (not allocation.spec.preemptible)
            for name, cohort in self.document.cohorts.items():
                if not cohort.parent:
                    total, used = self._check_cohort(name, resource, held, firm)
                    assert used <= total or not self._named(name, resource), (
                        f"cohort {name}: {resource} {used} of {total}"
                    )

    def _named(self, name: str, resource: str) -> bool:
        """Whether anybody in the cohort names the resource."""
        cohort = self.document.cohorts[name]
        return any(figure_of(quota, resource) is not None for quota in (cohort, *cohort.tenants.values())) or any(
            self._named(child, resource) for child, c in self.document.cohorts.items() if c.parent == name
        )

    def _check_cohort(self, name: str, resource: str, held: Counter[str], firm: Counter[str]) -> tuple[int, int]:
        """What the cohort has and uses, its members' own shares that they do not lend left out."""
        cohort, figure = self.document.cohorts[name], figure_of(self.document.cohorts[name], resource)
        own = figure if isinstance(figure, Share) else Share(guaranteed=figure or 0)
        total, used = own.guaranteed, 0
        members: list[tuple[str, Share, int, int]] = []
        for tenant, quota in cohort.tenants.items():
            figure = figure_of(quota, resource)
            share = figure if isinstance(figure, Share) else Share(guaranteed=figure or 0)
            members.append((tenant, share, share.guaranteed, held[tenant]))
            if cohort.reclaim != "never" and self._named(name, resource):
                assert firm[tenant] <= share.guaranteed, f"{tenant}: what must not be stopped is borrowed"
        for child, its in self.document.cohorts.items():
            if its.parent == name:
                figure = figure_of(its, resource)
                share = figure if isinstance(figure, Share) else Share(guaranteed=figure or 0)
                members.append((child, share, *self._check_cohort(child, resource, held, firm)))
        for member, share, has, uses in members:
            if share.borrow is not None and self._named(name, resource):
                assert uses <= has + share.borrow, f"{member}: {resource} {uses}, may hold {has} + {share.borrow}"
            kept = 0 if share.lend is None else max(0, has - share.lend)
            total, used = total + has - kept, used + max(0, uses - kept)
        return total, used

    def check_books(self, names: set[str]) -> None:
        """No more is in use on these nodes than they have."""
        used: Counter[tuple[str, ...]] = Counter()
        for allocation in self.running.values():
            for pod in allocation.pods:
                used[pod.node, "cpu"] += allocation.spec.resources.cpu_milli
                used[pod.node, "memory"] += allocation.spec.resources.memory_bytes
                for device in pod.devices:
                    used[pod.node, device.kind, device.model, str(device.index)] += device.share_milli
        for (name, *what), amount in used.items():
            if name not in names:
                continue
            match what:
                case ["cpu"]:
                    limit = self.nodes[name].cpu_milli
                case ["memory"]:
                    limit = self.nodes[name].memory_bytes
                case [kind, model, index]:
                    groups = self.nodes[name].devices
                    count = sum(g.count for g in groups if (g.kind, g.model) == (kind, model))
                    limit = 1000 if int(index) < count else 0
                case _:
                    raise AssertionError(what)
            assert amount <= limit, f"{name} {what}: {amount} of {limit}"

    def end(self, job_id: str, status: str = "succeeded", **more: object) -> None:
        """The actuator reports the end of what runs."""
        self.tell(reported(self.running[job_id], status, seconds=self.seconds, **more))  # pyright: ignore[reportArgumentType]


def figure_of(quota: Quota | Cohort, resource: str) -> Figure:
    return getattr(quota, resource) if resource in RESOURCES else quota.devices_milli.get(resource)


def devices_held(running: Iterable[JobAllocated]) -> Counter[str]:
    """Thousandths of each kind, and of each kind and model, as they were really assigned."""
    held: Counter[str] = Counter()
    for allocation in running:
        for pod in allocation.pods:
            for device in pod.devices:
                held[device.kind] += device.share_milli
                held[f"{device.kind}/{device.model}"] += device.share_milli
    return held


def allocations(decisions: list[Event]) -> dict[str, JobAllocated]:
    return {d.job_id: d for d in decisions if isinstance(d, JobAllocated)}


def deferrals(decisions: list[Event]) -> dict[str, AllocationDeferred]:
    return {d.job_id: d for d in decisions if isinstance(d, AllocationDeferred)}


def releases(decisions: list[Event]) -> list[tuple[str, int, str]]:
    return [(d.job_id, d.revision, str(d.reason)) for d in decisions if isinstance(d, AllocationReleased)]


def requests(decisions: list[Event]) -> list[ReliefRequested]:
    return [d for d in decisions if isinstance(d, ReliefRequested)]


def nodes_of(event: JobAllocated) -> list[str]:
    return [pod.node for pod in event.pods]
