"""Budgets over time: their windows, and what a placement is expected to take of them.

Shared by the CMO, which decides by it, and the gateway, which shows it, so that both have the same figures. What counts: a
run counts in the window in which it ends; until then all that it is expected to take is planned, and stands against the
present window. So the figures need no meter readings at midnight, and follow from the log alone.

Windows begin at full hours. A rolling window lets an hour go when all of it is over: up to an hour late, never early.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, get_args

from solyx.energy import HOUR_S, cores_of, gpus_of
from solyx.events import Quantity, Usage

if TYPE_CHECKING:
    from solyx.events import Budget, CostBreakdown, JobSpec

QUANTITIES: tuple[Quantity, ...] = get_args(Quantity)
UNITS: dict[Quantity, str] = {
    "gpu_h": "GPU-hours",
    "cpu_h": "core-hours",
    "energy_kwh": "kWh",
    "carbon_kg": "kgCO2",
    "cost_eur": "EUR",
}
CALENDAR = ("day", "week", "month")
LONGEST_S = 366 * 24 * HOUR_S  # of a rolling window
_HOUR = timedelta(hours=1)


def window_start(budget: Budget, now: datetime) -> datetime:
    """The full hour from which on use counts."""
    if budget.window == "rolling":
        return _floor_hour(now - timedelta(seconds=budget.rolling_s or HOUR_S))
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    match budget.window:
        case "day":
            return midnight
        case "week":
            return midnight - timedelta(days=midnight.weekday())
        case "month":
            return midnight.replace(day=1)


def window_end(budget: Budget, now: datetime) -> datetime | None:
    """When a calendar window turns; None: a rolling one always ends now."""
    start = window_start(budget, now)
    match budget.window:
        case "day":
            return start + timedelta(days=1)
        case "week":
            return start + timedelta(days=7)
        case "month":
            return (start + timedelta(days=32)).replace(day=1)
        case "rolling":
            return None


def leaves_at(budget: Budget, hour: datetime) -> datetime:
    """When what ended in the hour from ``hour`` on no longer counts in a rolling window."""
    length_s = budget.rolling_s or HOUR_S
    return _ceil_hour(hour + _HOUR + timedelta(seconds=length_s))


def window_words(budget: Budget) -> str:
    """The window as people write it: ``day``, ``week``, ``month``, ``30d``, ``12h``."""
    if budget.window != "rolling":
        return budget.window
    hours = (budget.rolling_s or HOUR_S) / HOUR_S
    return f"{hours / 24:g}d" if hours % 24 == 0 else f"{hours:g}h"


def expected_use(spec: JobSpec, cost: CostBreakdown | None, *, run_s: float) -> Usage:
    """What a run of ``run_s`` at that expected cost takes. None of it is below zero: a gain is not spent in advance."""
    return Usage(
        cpu_h=cores_of(spec) * run_s / HOUR_S,
        gpu_h=gpus_of(spec) * run_s / HOUR_S,
        energy_kwh=0.0 if cost is None else cost.energy_kwh,
        cost_eur=0.0 if cost is None else max(0.0, cost.energy_eur + cost.movement_eur),
        carbon_kg=0.0 if cost is None else cost.carbon_kg,
    )


def _floor_hour(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _ceil_hour(moment: datetime) -> datetime:
    floor = _floor_hour(moment)
    return floor if floor == moment else floor + _HOUR
