"""Values of the gateway: what the store returns and the API shows. Times are scenario time, UTC, unless a name says otherwise."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec

from solyx.events import (
    Budget,
    DemandResponseReported,
    EnergySeriesPublished,
    Enforcement,
    FeedReported,
    ForecastIssued,
    GridEventAnnounced,
    JobSpec,
    Quantity,
    RouteDecided,
    SiteObserved,
)
from solyx.security import Role

JobState = Literal["submitted", "placed", "allocated", "running", "succeeded", "failed", "cancelled"]
JOB_STATES: tuple[JobState, ...] = ("submitted", "placed", "allocated", "running", "succeeded", "failed", "cancelled")
TERMINAL: frozenset[str] = frozenset({"succeeded", "failed", "cancelled"})


class View(msgspec.Struct, frozen=True, kw_only=True):
    """A record that the API shows."""


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


class Totals(View, frozen=True, kw_only=True):
    """What runs took, above the idle floor of their sites."""

    jobs: int
    cpu_h: float
    gpu_h: float
    energy_kwh: float
    cost_eur: float  # energy and data movement
    carbon_kg: float


class UsageRow(Totals, frozen=True, kw_only=True):
    """What the runs of one group took. A text is empty where it is not grouped by that, and where a job has no such label."""

    start: datetime  # of the day, week or month; of the range, where it is not grouped by time
    tenant: str
    site: str
    label: str


class UsageReport(View, frozen=True, kw_only=True):
    since: datetime
    until: datetime
    rows: list[UsageRow]
    total: Totals  # of all rows, those of other pages too; a job that is in several rows counts once
    next: str | None = None  # cursor of the next page; null: this is the last


class UsageFilter(View, frozen=True, kw_only=True):
    """What is added up, and how it is grouped. A run counts when it ended."""

    since: datetime
    until: datetime
    tenant: str | None = None
    site: str | None = None
    labels: tuple[tuple[str, str], ...] = ()
    period: Literal["day", "week", "month"] | None = None
    by_tenant: bool = False
    by_site: bool = False
    by_label: str | None = None
    after: tuple[datetime, str, str, str] | None = None  # keyset: the key of the last row of the page before
    limit: int = 1000


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


BudgetState = Literal["open", "full", "exceeded"]


class BudgetStatus(View, frozen=True, kw_only=True):
    """A budget, and what is left of it now."""

    tenant: str
    quantity: Quantity
    limit: float
    window: str  # day, week, month; or the length of a rolling window, such as 30d
    enforcement: Enforcement
    used: float  # by runs that ended in the window
    planned: float  # what live placements should take
    left: float
    state: BudgetState  # full: used and planned reach the limit; exceeded: what was used does
    window_start: datetime
    window_end: datetime | None  # null: a rolling window ends now


class BudgetList(View, frozen=True, kw_only=True):
    now: datetime
    budgets: list[BudgetStatus]


class TenantBudgets(View, frozen=True, kw_only=True):
    """A tenant's budgets as they were set."""

    tenant: str
    revision: int
    budgets: list[Budget]
    set_at: datetime


class NewBudget(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One budget in the body of PUT /v1/budgets/{tenant}."""

    quantity: Quantity
    limit: Annotated[float, msgspec.Meta(ge=0)]
    window: str | float  # "day", "week", "month"; or a duration, for a rolling window
    enforcement: Enforcement = "hard"


class NewBudgets(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of PUT /v1/budgets/{tenant}: all of the tenant's budgets; an empty list takes them away."""

    budgets: list[NewBudget]


class Wait(View, frozen=True, kw_only=True):
    """Why a job does not run yet."""

    reason: str  # of the decision that made it wait
    detail: str = ""  # which figure must change, in words
    since: datetime
    until: datetime | None = None  # when it starts, or is looked at again; null: when the world changes


class JobDetail(JobSummary, frozen=True, kw_only=True):
    """A job with its specification and all that was decided about it."""

    spec: JobSpec | None  # in canonical units
    trace_id: str
    waits: Wait | None = None  # null: it runs, is over, or nothing was decided about it yet
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


class Tenant(View, frozen=True, kw_only=True):
    name: str
    home_site: str | None = None
    created_at: datetime


class NewTenant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of POST /v1/tenants."""

    name: str
    home_site: str | None = None


class NewKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of POST /v1/tenants/{name}/keys."""

    role: Role = Role.SUBMITTER
    label: str = ""


class ApiKey(View, frozen=True, kw_only=True):
    """A key as it is listed: never the key itself."""

    id: str
    tenant: str
    role: Role
    label: str
    created_at: datetime
    revoked_at: datetime | None = None


class IssuedKey(ApiKey, frozen=True, kw_only=True):
    """A key just made; ``key`` is shown this once."""

    key: str


class TenantList(View, frozen=True, kw_only=True):
    tenants: list[Tenant]


class KeyList(View, frozen=True, kw_only=True):
    keys: list[ApiKey]


class SiteList(View, frozen=True, kw_only=True):
    sites: list[SiteObserved]


class Route(View, frozen=True, kw_only=True):
    """A decided route and what the network did with it."""

    decided: RouteDecided
    status: Literal["decided", "applied", "failed"]
    message: str = ""


class RouteList(View, frozen=True, kw_only=True):
    routes: list[Route]


class SiteEnergy(View, frozen=True, kw_only=True):
    """Price and carbon of a site: now, what is published, what is forecast."""

    site: str
    price_eur_per_mwh: float | None  # now; null: unknown
    carbon_gco2_per_kwh: float | None  # now, or the latest published value
    renewable_pct: float | None
    series: list[EnergySeriesPublished]  # published values from a day ago on
    forecasts: list[ForecastIssued]


class EnergyList(View, frozen=True, kw_only=True):
    now: datetime
    sites: list[SiteEnergy]
    feeds: list[FeedReported]


class GridEntry(View, frozen=True, kw_only=True):
    """A demand-response event, and how its site answers it."""

    event: GridEventAnnounced
    response: DemandResponseReported | None = None


class GridList(View, frozen=True, kw_only=True):
    now: datetime
    events: list[GridEntry]


class ParkedRecord(View, frozen=True, kw_only=True):
    """A record that no service could read."""

    topic: str
    partition: int
    offset: int
    key: str
    error: str
    service: str
    time: str
    value: str  # as text, cut after 10,000 characters
    headers: dict[str, str]


class DeadLetterList(View, frozen=True, kw_only=True):
    deadletters: list[ParkedRecord]


class Readiness(View, frozen=True, kw_only=True):
    ready: bool
    database: str
    broker: str
    relay: str
    projector: str
    lag_records: int  # read model behind the log
    oldest_unpublished_s: float  # age of the oldest outbox row, wall seconds


class Health(View, frozen=True, kw_only=True):
    status: Literal["ok"] = "ok"


class FieldProblem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One field of a request that must change."""

    field: str
    message: str
    cure: str
    line: int | None = None


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """RFC 9457 problem details."""

    type: str  # a URI reference: /problems/<slug>, explained in docs/api.md
    title: str
    status: int
    detail: str
    instance: str = ""
    errors: tuple[FieldProblem, ...] = ()
