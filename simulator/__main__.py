"""``python -m simulator --scenario DIR --policy NAME[,NAME…] --out DIR``: policies on a scenario, side by side."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from simulator.experiment import POLICIES, Experiment, Settings, with_gaps
from simulator.plots import draw, names_of
from simulator.report import Document, rows_of, write_csv, write_json
from solyx.scenario import ScenarioError, load

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.progress import TaskID

    from simulator.bill import Summary
    from simulator.experiment import Result
    from simulator.runs import Runs
    from solyx.scenario import Scenario

_FAILED = 2


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m simulator",
        description="Run policies on a scenario under a virtual clock and compare what they cost. Policies: "
        + ", ".join(POLICIES)
        + "; all: every one of them.",
    )
    made.add_argument("--scenario", type=Path, required=True, metavar="DIR", help="a directory with a scenario.toml")
    made.add_argument("--policy", default="all", metavar="NAME[,NAME…]", help="default: all")
    made.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="where figures and plots go; made if needed"
    )
    made.add_argument("--seed", type=int, default=0, metavar="N", help="same seed, same bytes (default 0)")
    made.add_argument("--from", dest="since", type=_time, metavar="T", help="first arrival, UTC (default: the start)")
    made.add_argument("--to", dest="until", type=_time, metavar="T", help="end of arrivals, UTC (default: the last)")
    made.add_argument("--carbon-price", type=float, default=100.0, metavar="EUR", help="per t of CO2eq (default 100)")
    made.add_argument(
        "--forecast-every-h", type=int, default=Settings().forecast_every_h, metavar="H", choices=range(1, 25),
        help="hours between forecasts, besides those at each auction (default %(default)s)",
    )  # fmt: skip
    made.add_argument("--no-plots", action="store_true", help="figures only")
    return made


def _time(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def main(arguments: Sequence[str] | None = None) -> int:
    """0: done. 2: the scenario or an option does not fit; the message says what to do."""
    options = parser().parse_args(arguments)
    console = Console(stderr=True)
    names = list(POLICIES) if options.policy == "all" else options.policy.split(",")
    unknown = [name for name in names if name not in POLICIES]
    if unknown:
        console.print(f"No policy is named {', '.join(unknown)}. Known: {', '.join(POLICIES)}.", highlight=False)
        return _FAILED
    settings = Settings(
        carbon_eur_per_t=options.carbon_price, forecast_every_h=options.forecast_every_h, seed=options.seed
    )
    try:
        scenario = load(options.scenario)
        since = options.since or scenario.start
        until = options.until or end_of(scenario)
        options.out.mkdir(parents=True, exist_ok=True)
        with _progress(console) as bars:
            experiment = Experiment(scenario, since, until, settings, _reporter(bars))
            results = [experiment.run(name) for name in names]
    except (ScenarioError, ValueError, OSError) as error:
        console.print(str(error), highlight=False, markup=False)
        return _FAILED
    summaries = with_gaps(results)
    write(options.out, experiment, summaries)
    files = [] if options.no_plots else draw(options.out, experiment, _schedules(results), summaries)
    show(summaries, console)
    console.print(f"{options.out}: metrics_summary.csv, metrics.json{', ' if files else ''}{names_of(files)}")
    return 0


def end_of(scenario: Scenario) -> datetime:
    """The end of the hour of the last arrival, or of the scenario's hours where it names them."""
    if scenario.hours is not None:
        return scenario.start + timedelta(hours=scenario.hours)
    last_s = max((job.arrival_s for job in scenario.jobs()), default=0.0)
    return scenario.start + timedelta(hours=int(last_s // 3600) + 1)


def write(out: Path, experiment: Experiment, summaries: list[Summary]) -> None:
    """Both files of figures."""
    write_csv(out / "metrics_summary.csv", summaries)
    write_json(
        out / "metrics.json",
        Document(
            scenario=experiment.scenario.name,
            since=experiment.since.isoformat(),
            until=experiment.until.isoformat(),
            seed=experiment.settings.seed,
            carbon_eur_per_t=experiment.settings.carbon_eur_per_t,
            forecast_every_h=experiment.settings.forecast_every_h,
            policies=rows_of(summaries),
        ),
    )


def _schedules(results: list[Result]) -> dict[str, Runs]:
    return {result.summary.policy: result.runs for result in results if result.runs is not None}


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:16}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), console=console
    )


def _reporter(bars: Progress) -> Callable[[str, float], None]:
    tasks: dict[str, TaskID] = {}

    def report(name: str, share: float) -> None:
        if name not in tasks:
            tasks[name] = bars.add_task(name, total=1.0)
        bars.update(tasks[name], completed=min(share, 1.0))

    return report


def show(summaries: list[Summary], console: Console) -> None:
    """The figures that matter most, as a table."""
    columns = (
        "policy",
        "EUR + carbon",
        "EUR",
        "kg CO2",
        "kWh",
        "movement",
        "wait h",
        "p95 h",
        "missed",
        "migr",
        "susp",
    )
    table = Table(*columns, "gap", title="above the idle floor", title_justify="left")
    for row in summaries:
        figures = (row.objective_eur, row.cost_eur, row.carbon_kg, row.energy_kwh, row.movement_eur, row.mean_wait_h)
        cells = ["" if figure != figure else f"{figure:,.2f}" for figure in (*figures, row.p95_wait_h)]  # noqa: PLR0124 - NaN
        counts = [f"{count:,}" for count in (row.deadline_misses, row.migrations, row.suspensions)]
        gap = "" if row.oracle_gap is None else f"{row.oracle_gap:.1%}"
        table.add_row(row.policy, *cells, *counts, gap)
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
