"""What `./run` shows: a live table on a terminal, a line every few seconds elsewhere."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from devstack.report import Snapshot
from devstack.stack import Part
from solyx.joblife import JOB_STATES
from solyx.ledger import SiteUse, Totals

__all__ = ["line", "saving", "screen"]

_COLOURS = {"running": "cyan", "succeeded": "green", "failed": "red", "cancelled": "yellow"}
_NOTICES = 6


def screen(snapshot: Snapshot, *, api: str, key: str) -> RenderableType:
    """The live table."""
    parts = [
        _head(snapshot, api, key),
        _jobs(snapshot),
        _sites(snapshot.uses, snapshot.books.by_site),
        _money(snapshot),
        _processes(snapshot.parts, snapshot.peak_mb),
    ]
    if snapshot.notices:
        parts.append(Panel("\n".join(snapshot.notices[-_NOTICES:]), title="lately", title_align="left"))
    return Group(*parts, Text("Ctrl-C stops everything", style="dim"))


def line(snapshot: Snapshot) -> str:
    """One line for a log."""
    states = ", ".join(f"{snapshot.counts.get(state, 0)} {state}" for state in JOB_STATES)
    own = snapshot.books.own
    return (
        f"{snapshot.now:%Y-%m-%d %H:%M}  {_jobs_so_far(snapshot)}: {states}"
        f" | {own.cost_eur:.2f} EUR ({saving(own.cost_eur, snapshot.books.baseline.cost_eur)})"
        f", {own.carbon_kg:.1f} kg CO2 ({saving(own.carbon_kg, snapshot.books.baseline.carbon_kg)})"
        f" | {snapshot.events_per_s:.0f} events/s{f' | {snapshot.trouble}' if snapshot.trouble else ''}"
    )


def saving(own: float, baseline: float) -> str:
    """The difference to the baseline in words."""
    if baseline <= 0:
        return "no baseline yet" if baseline == 0 else f"at home {baseline:.2f}"
    return f"{_percent(own, baseline)} against at once at home"


def _percent(own: float, baseline: float) -> str:
    return f"{round(100 * (own - baseline) / baseline, 1) + 0.0:+.1f} %"  # + 0.0: no minus before a zero


def _head(snapshot: Snapshot, api: str, key: str) -> RenderableType:
    days = (snapshot.now - snapshot.start).total_seconds() / 86400
    text = Text()
    text.append("Solyx", style="bold")
    text.append(
        f"  {snapshot.scenario}   {snapshot.now:%a %Y-%m-%d %H:%M} UTC (day {days:.1f}) at {snapshot.speed:g}x"
        f"   running {snapshot.wall_s:.0f} s\n"
    )
    text.append(f"API {api}   key {key}")
    if snapshot.trouble:
        text.append(f"\n{snapshot.trouble}", style="yellow")
    return text


def _jobs_so_far(snapshot: Snapshot) -> str:
    """All jobs, and how many the scenario will have submitted; what others submit is in the first figure only."""
    return f"{sum(snapshot.counts.values())} jobs, {snapshot.accepted} of the scenario's {snapshot.total_jobs}"


def _jobs(snapshot: Snapshot) -> Table:
    table = Table(title=_jobs_so_far(snapshot), title_justify="left")
    for state in JOB_STATES:
        table.add_column(state, justify="right", style=_COLOURS.get(state))
    table.add_column("events/s", justify="right")
    counts = (str(snapshot.counts.get(state, 0)) for state in JOB_STATES)
    table.add_row(*counts, f"{snapshot.events_per_s:,.0f}")
    return table


def _sites(uses: Sequence[SiteUse], by_site: dict[str, Totals]) -> Table:
    table = Table(title="sites", title_justify="left")
    table.add_column("site")
    for heading in ("jobs", "cores", "CPU", "GPUs", "GPU", "EUR/MWh", "gCO2/kWh", "EUR", "kg CO2"):
        table.add_column(heading, justify="right")
    for use in uses:
        totals = by_site.get(use.site, Totals())
        table.add_row(
            Text(use.site, style="red strike" if use.lost else ""),
            str(use.jobs),
            f"{use.cores_used:,.0f}/{use.cores:,.0f}",
            _share(use.cores_used, use.cores),
            f"{use.gpus_used:,.1f}/{use.gpus:,.0f}",
            _share(use.gpus_used, use.gpus),
            _figure(use.price_eur_per_mwh, 1),
            _figure(use.carbon_gco2_per_kwh, 0),
            f"{totals.cost_eur:,.2f}",
            f"{totals.carbon_kg:,.1f}",
        )
    return table


def _money(snapshot: Snapshot) -> Table:
    own, home = snapshot.books.own, snapshot.books.baseline
    table = Table(title="so far, without the idle floor", title_justify="left")
    for heading in ("", "cost EUR", "carbon kg", "energy kWh"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, totals in (("Solyx", own), ("each job at once at home", home)):
        table.add_row(name, f"{totals.cost_eur:,.2f}", f"{totals.carbon_kg:,.1f}", f"{totals.energy_kwh:,.1f}")
    pairs = ((own.cost_eur, home.cost_eur), (own.carbon_kg, home.carbon_kg), (own.energy_kwh, home.energy_kwh))
    table.add_row("difference", *(_difference(ours, theirs) for ours, theirs in pairs))
    return table


def _processes(parts: Sequence[Part], peak_mb: float) -> Text:
    text = Text("processes  ")
    for part in parts:
        restarts = f" ({part.restarts} restarts)" if part.restarts else ""
        text.append(f"{part.name}{restarts}  ", style="green" if part.ready else "yellow")
    text.append(f"{peak_mb:,.0f} MB at most", style="dim")
    return text


def _share(used: float, total: float) -> str:
    return f"{100 * used / total:.0f} %" if total else "-"


def _figure(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _difference(own: float, baseline: float) -> Text:
    if baseline <= 0:
        return Text("-")
    return Text(_percent(own, baseline), style="green" if own < baseline else "yellow")
