"""What a tenant may use over time (topic ``budgets``, written by the gateway)."""

from __future__ import annotations

from typing import ClassVar, Literal

from solyx.events.event import Event, Model, NonNegative, Positive, PositiveInt, Time

Quantity = Literal["gpu_h", "cpu_h", "energy_kwh", "carbon_kg", "cost_eur"]
"""A field of ``Usage``."""

Window = Literal["day", "week", "month", "rolling"]
"""Calendar windows turn at midnight UTC, weeks on Monday; a rolling one ends now."""

Enforcement = Literal["hard", "soft"]


class Budget(Model, frozen=True, kw_only=True):
    """A limit on one quantity over one window."""

    quantity: Quantity
    limit: NonNegative
    window: Window
    rolling_s: Positive | None = None  # length of a rolling window; None: a calendar window
    enforcement: Enforcement = "hard"  # soft: jobs beyond it still run, but after others


class BudgetSet(Event, frozen=True, kw_only=True):
    """An administrator set a tenant's budgets, all of them; none: nothing limits it. The highest revision holds."""

    TYPE: ClassVar[str] = "io.solyx.budget.set.v1"
    TOPIC: ClassVar[str] = "budgets"

    tenant: str
    revision: PositiveInt
    budgets: tuple[Budget, ...] = ()
    set_at: Time

    @property
    def key(self) -> str:
        return self.tenant

    @property
    def id(self) -> str:
        return f"{self.tenant}.budgets.{self.revision}"
