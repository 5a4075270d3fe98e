"""What runs took, and the budgets that limit it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec

from services.gateway.model.view import View
from solyx.events import Budget, Enforcement, Quantity


class Totals(View, frozen=True, kw_only=True):
    """What runs took, above the idle floor of their sites."""

    jobs: int
    cpu_h: float
    gpu_h: float
    energy_kwh: float
    cost_eur: float  # energy and data movement
    carbon_kg: float
    measured_kwh: float  # of energy_kwh; the rest is modelled


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
