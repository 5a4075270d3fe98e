"""What the REST API answers. Fields that a newer server adds are ignored."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from solyx.events import (
    Budget,
    DemandResponseReported,
    EnergySeriesPublished,
    FeedReported,
    ForecastIssued,
    GridEventAnnounced,
    JobSpec,
    NodesOrdered,
    QuotasReported,
    ReliefAnswered,
    ReliefRequested,
    RouteDecided,
    SiteLatenciesMeasured,
    SiteObserved,
)

TERMINAL = frozenset({"succeeded", "failed", "cancelled"})


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """Part of an answer."""


class HistoryEntry(Answer, frozen=True, kw_only=True):
    """One event about a job, with its reason and figures."""

    seq: int
    type: str
    subject: str = ""
    tenant: str | None = None
    time: datetime
    reason: str = ""
    site: str | None = None
    revision: int | None = None
    figures: dict[str, Any] = msgspec.field(default_factory=dict)


class JobSummary(Answer, frozen=True, kw_only=True):
    """A job in a list."""

    id: str
    tenant: str
    name: str
    state: str
    reason: str = ""
    site: str | None = None
    revision: int = 0
    submitted_at: datetime
    state_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    cancel_requested_at: datetime | None = None
    labels: dict[str, str] = msgspec.field(default_factory=dict)


class Run(Answer, frozen=True, kw_only=True):
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
    measured_kwh: float = 0.0  # of energy_kwh


class Totals(Answer, frozen=True, kw_only=True):
    """What runs took, above the idle floor of their sites."""

    jobs: int
    cpu_h: float
    gpu_h: float
    energy_kwh: float
    cost_eur: float
    carbon_kg: float
    measured_kwh: float = 0.0  # of energy_kwh


class UsageRow(Totals, frozen=True, kw_only=True):
    """What the runs of one group took; texts are empty where it is not grouped by that."""

    start: datetime
    tenant: str = ""
    site: str = ""
    label: str = ""


class UsageReport(Answer, frozen=True, kw_only=True):
    """Rows in the order of their keys; ``next`` is the cursor of the following page, None on the last."""

    since: datetime
    until: datetime
    rows: list[UsageRow]
    total: Totals
    next: str | None = None


class BudgetStatus(Answer, frozen=True, kw_only=True):
    """A budget, and what is left of it."""

    tenant: str
    quantity: str
    limit: float
    window: str
    enforcement: str
    used: float
    planned: float
    left: float
    state: str
    window_start: datetime
    window_end: datetime | None = None


class BudgetList(Answer, frozen=True, kw_only=True):
    """Budgets by tenant."""

    now: datetime
    budgets: list[BudgetStatus]


class TenantBudgets(Answer, frozen=True, kw_only=True):
    """A tenant's budgets as they were set."""

    tenant: str
    revision: int
    budgets: list[Budget]
    set_at: datetime


class Wait(Answer, frozen=True, kw_only=True):
    """Why a job does not run yet; ``until`` None: until the world changes."""

    reason: str
    detail: str = ""
    since: datetime
    until: datetime | None = None


class Breach(Answer, frozen=True, kw_only=True):
    """Its site is farther from a place than the job asks for; ``reason``: why it stays there."""

    reason: str
    detail: str = ""
    since: datetime


class Job(JobSummary, frozen=True, kw_only=True):
    """A job with its specification and history."""

    spec: JobSpec | None = None
    trace_id: str = ""
    runs: list[Run] = msgspec.field(default_factory=list)
    waits: Wait | None = None
    breach: Breach | None = None
    history: list[HistoryEntry] = msgspec.field(default_factory=list)


class JobPage(Answer, frozen=True, kw_only=True):
    """One page; ``next`` is the cursor of the following one, None on the last."""

    jobs: list[JobSummary]
    next: str | None = None


class SubmittedJob(Answer, frozen=True, kw_only=True):
    """Answer to one job."""

    id: str
    state: str = "submitted"


class SubmittedBatch(Answer, frozen=True, kw_only=True):
    """Answer to many jobs; ids in their order."""

    count: int
    ids: list[str]


class CancelledJob(Answer, frozen=True, kw_only=True):
    """The cancellation is recorded; the job ends when its cluster has stopped it."""

    id: str
    state: str
    cancel_requested_at: datetime


class QuotaList(Answer, frozen=True, kw_only=True):
    """How the quotas of each site are used."""

    sites: list[QuotasReported]


class Route(Answer, frozen=True, kw_only=True):
    """A decided route and what the network did with it."""

    decided: RouteDecided
    status: str
    message: str = ""


class SiteEnergy(Answer, frozen=True, kw_only=True):
    """Price and carbon of a site, now and ahead."""

    site: str
    price_eur_per_mwh: float | None = None
    carbon_gco2_per_kwh: float | None = None
    renewable_pct: float | None = None
    series: list[EnergySeriesPublished] = msgspec.field(default_factory=list)
    forecasts: list[ForecastIssued] = msgspec.field(default_factory=list)


class Energy(Answer, frozen=True, kw_only=True):
    """All sites' energy, and the state of the feeds."""

    now: datetime
    sites: list[SiteEnergy]
    feeds: list[FeedReported] = msgspec.field(default_factory=list)


class GridEntry(Answer, frozen=True, kw_only=True):
    """A demand-response event, and how its site answers it."""

    event: GridEventAnnounced
    response: DemandResponseReported | None = None


class PriceRelief(Answer, frozen=True, kw_only=True):
    """What a site asks for because of its price, and what was done about it."""

    request: ReliefRequested
    answer: ReliefAnswered | None = None


class Grid(Answer, frozen=True, kw_only=True):
    """Events of the last week and to come, the earliest first."""

    now: datetime
    events: list[GridEntry]
    reliefs: list[PriceRelief] = msgspec.field(default_factory=list)  # the latest of each site


class SiteList(Answer, frozen=True, kw_only=True):
    """Inventories."""

    sites: list[SiteObserved]
    orders: list[NodesOrdered] = msgspec.field(default_factory=list)


class RouteList(Answer, frozen=True, kw_only=True):
    """Routes of all pairs, and measured round trips."""

    routes: list[Route]
    latencies: list[SiteLatenciesMeasured] = msgspec.field(default_factory=list)


class ServerEvent(Answer, frozen=True, kw_only=True):
    """One server-sent event. Pass ``id`` as ``last_event_id`` to go on after it."""

    id: str
    event: str
    data: Any


class FieldProblem(Answer, frozen=True, kw_only=True):
    """One field of a request that must change."""

    field: str
    message: str
    cure: str = ""
    line: int | None = None


class Problem(Answer, frozen=True, kw_only=True):
    """RFC 9457 problem details."""

    title: str = ""
    status: int = 0
    detail: str = ""
    errors: list[FieldProblem] = msgspec.field(default_factory=list)
