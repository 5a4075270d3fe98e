"""What ``solyx usage`` and ``solyx budgets`` show, and how budgets are written on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import typer

from solyx.cli.output import errors, moment, number, print_json, print_table
from solyx.events import Enforcement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from solyx.client import BudgetStatus, TenantBudgets, UsageReport

FIGURES = ("cpu_h", "gpu_h", "energy_kwh", "measured_kwh", "cost_eur", "carbon_kg")
_CURE = "write QUANTITY=LIMIT/WINDOW[/soft], such as gpu_h=500/month or cost_eur=80/30d/soft"


def show_usage(report: UsageReport, by: Sequence[str], *, as_json: bool) -> None:
    """A row for each group, and the total."""
    if as_json:
        print_json(report)
        return
    grouped = [name for name in ("tenant", "site") if name in by]
    label = next((name.removeprefix("label:") for name in by if name.startswith("label:")), None)
    timed = any(name in by for name in ("day", "week", "month"))
    columns = [*(["from"] if timed else []), *grouped, *([label] if label else [])]
    rows: list[list[object]] = []
    for row in report.rows if columns else ():
        keys: list[object] = [f"{row.start:%Y-%m-%d}"] if timed else []
        keys += [getattr(row, name) for name in grouped]
        keys += [row.label] if label else []
        rows.append([*keys, row.jobs, *(number(getattr(row, name)) for name in FIGURES)])
    total = report.total
    keys = ["total", *[""] * (len(columns) - 1)] if columns else []
    rows.append([*keys, total.jobs, *(number(getattr(total, name)) for name in FIGURES)])
    print_table(
        [*columns, "jobs", *FIGURES],
        rows,
        title=f"runs that ended from {moment(report.since)} to {moment(report.until)}",
    )
    if report.next is not None:
        errors.print(f"more rows: ask for fewer groups, or go on with --cursor {report.next}")


def show_budgets(found: Sequence[BudgetStatus], *, as_json: bool) -> None:
    """Each budget with what is left of it."""
    if as_json:
        for one in found:
            print_json(one)
        return
    print_table(
        ("tenant", "quantity", "window", "kind", "limit", "used", "planned", "left", "state", "turns"),
        (
            (
                one.tenant,
                one.quantity,
                one.window,
                one.enforcement,
                number(one.limit),
                number(one.used),
                number(one.planned),
                number(one.left),
                one.state,
                moment(one.window_end) or "rolling",
            )
            for one in found
        ),
    )


def show_set(stored: TenantBudgets, *, as_json: bool) -> None:
    """What holds from now on."""
    if as_json:
        print_json(stored)
    else:
        typer.echo(f"{stored.tenant}: {len(stored.budgets)} budgets (revision {stored.revision})")


def parse_budgets(texts: Sequence[str]) -> list[dict[str, Any]]:
    """Budgets for the API from ``gpu_h=500/month`` or ``cost_eur=80/30d/soft``; what they hold is checked there."""
    parsed: list[dict[str, Any]] = []
    for text in texts:
        quantity, _, rest = text.partition("=")
        limit, _, rest = rest.partition("/")
        window, _, enforcement = rest.partition("/")
        enforcement = enforcement or "hard"
        try:
            amount = float(limit)
        except ValueError:
            amount = None
        if amount is None or not quantity or not window or enforcement not in get_args(Enforcement):
            errors.print(f"--set {text}: is not understood; {_CURE}", style="red", markup=False)
            raise typer.Exit(2)
        parsed.append({"quantity": quantity, "limit": amount, "window": window, "enforcement": enforcement})
    return parsed
