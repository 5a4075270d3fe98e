"""What ``solyx quotas`` shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from solyx.cli.output import errors, moment, number, print_json, print_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from solyx.events import QuotaAccount, QuotasReported

_UNITS = {"cpu_milli": ("cores", 1000), "memory_bytes": ("GiB", 2**30), "gpu_milli": ("devices", 1000)}
COLUMNS = ("cohort", "tenant", "resource", "guaranteed", "held", "borrowed", "lent", "waits for", "most", "share")


def show_quotas(sites: Sequence[QuotasReported], *, as_json: bool) -> None:
    """A table for each site: every cohort with its tenants below it."""
    if as_json:
        for site in sites:
            print_json(site)
        return
    for site in sites:
        print_table(COLUMNS, _rows(site), title=f"{site.site}, {moment(site.reported_at)}")
    if not sites:
        errors.print("no site has quotas; SOLYX_DRM_QUOTAS sets them (services/drm/README.md)")


def _rows(site: QuotasReported) -> Iterator[list[object]]:
    for account, depth in _in_order(site.accounts, "", 0):
        names = [" " * depth + account.name, ""] if account.kind == "cohort" else [account.cohort, account.name]
        share = f"{account.share:.1%}"
        for figure in account.figures:
            unit, size = _UNITS.get(figure.resource, (figure.resource, 1000))
            missing = not site.capacity.get(figure.resource)  # a model that is misspelt, or not there yet
            amounts = (figure.guaranteed, figure.held, figure.borrowed, figure.lent, figure.waiting)
            yield [
                *names,
                Text(f"{unit} (no node has it)", style="yellow") if missing else unit,
                *(number(amount / size, 1) if amount else "" for amount in amounts),
                "" if figure.most is None else number(figure.most / size, 1),
                share,
            ]
            names, share = ["", ""], ""
        if not account.figures:
            yield [*names, "", *[""] * 6, share]


def _in_order(accounts: Sequence[QuotaAccount], cohort: str, depth: int) -> Iterator[tuple[QuotaAccount, int]]:
    """Each cohort, then its tenants, then the cohorts in it; who is in none comes last."""
    names = {account.name for account in accounts if account.kind == "cohort"}
    mine = [account for account in accounts if (account.cohort if account.cohort in names else "") == cohort]
    tenants = [(account, depth) for account in mine if account.kind == "tenant"]
    if cohort:
        yield from tenants
    for account in mine:
        if account.kind == "cohort":
            yield account, depth
            yield from _in_order(accounts, account.name, depth + 1)
    if not cohort:
        yield from tenants
