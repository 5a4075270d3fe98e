"""``energy``: what every policy pays for a year of real jobs on four real grids, with honest forecasts and noisy estimates.

The scenario is ``grids-2023-year`` of the real data beside the checkout. Files with all figures and plots, among them the sweep of
the carbon price as a Pareto plot, go to the directory of ``SOLYX_BENCHMARK_OUT``, or to ``.solyx/benchmarks/energy``.
"""

from __future__ import annotations

import os
import resource
from concurrent.futures import ProcessPoolExecutor
from math import isnan
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from simulator.__main__ import end_of, show, write
from simulator.experiment import (
    CLAIRVOYANT,
    FORESIGHT,
    HONEST,
    ORACLE,
    POLICIES,
    SOLYX,
    SOLYX_AT_ONCE,
    SOLYX_PATIENT,
    Experiment,
    Settings,
    Variant,
    with_gaps,
)
from simulator.plots import draw, pareto
from simulator.policies import BASELINES
from solyx.scenario import load

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from rich.console import Console

    from simulator.bill import Summary

SCENARIO = Path(__file__).resolve().parents[2] / "shared" / "data" / "scenarios" / "grids-2023-year"
CARBON_PRICES = (0.0, 50.0, 200.0, 500.0)  # EUR/t, besides the benchmark's own
STEPS: dict[str, Variant] = {
    "true_lengths": Variant(delay_eur_per_job_h=0.0, true_lengths=True),
    "true_future": Variant(delay_eur_per_job_h=0.0, true_lengths=True, true_future=True),
    "one_node": Variant(delay_eur_per_job_h=0.0, true_lengths=True, true_future=True, one_node=True),
    "sites_4x": Variant(delay_eur_per_job_h=0.0, true_lengths=True, true_future=True, one_node=True, site_factor=4),
}
"""One simplification of ``solyx-patient`` after the other, so that each difference is what that one costs."""


def measure(console: Console, until: datetime | None = None) -> dict[str, float]:
    """All policies, the sweep, and what the gap is made of; of the whole year, or of the arrivals before ``until``.

    Raises:
        ScenarioError: the real data is not beside the checkout; the message names the file.
    """
    out = Path(os.environ.get("SOLYX_BENCHMARK_OUT", ".solyx/benchmarks/energy"))
    out.mkdir(parents=True, exist_ok=True)
    scenario = load(SCENARIO)
    bars = Progress(
        TextColumn("{task.description:24}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), console=console
    )
    with bars:
        task = bars.add_task("reading", total=1.0)

        def report(name: str, share: float) -> None:
            bars.update(task, description=name, completed=share)

        experiment = Experiment(scenario, scenario.start, until or end_of(scenario), Settings(), report)
        results = [experiment.run(name) for name in POLICIES]
        rows = {row.policy: row for row in with_gaps(results)}
        figures = _figures(rows)
        figures["forecast_and_solyx_wall_s"] = experiment.forecast_wall_s + results[0].wall_s
        figures["rss_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        report("sweep and steps", 0.0)
        _more(experiment, rows, out, figures, lambda share: report("sweep and steps", share))
    summaries = list(rows.values())
    write(out, experiment, summaries)
    draw(out, experiment, {r.summary.policy: r.runs for r in results if r.runs is not None}, summaries)
    show(summaries, console)
    console.print(f"files: {out.resolve()}", highlight=False)
    return figures


def _figures(rows: dict[str, Summary]) -> dict[str, float]:
    """Each policy's objective and wait, and how far ours is below the best baseline that waits as long or longer.

    Baselines that never wait for a better hour are compared with the same cores told not to wait.
    """
    ours, quick = rows[SOLYX], rows[SOLYX_AT_ONCE]
    slow = [name for name in BASELINES if rows[name].mean_wait_h >= ours.mean_wait_h]
    fast = [name for name in BASELINES if name not in slow]
    figures: dict[str, float] = {}
    for name, row in rows.items():
        figures[f"{_key(name)}_objective_eur"] = row.objective_eur
        if name != ORACLE:
            figures[f"{_key(name)}_mean_wait_h"] = row.mean_wait_h
    figures["to_waiting_baselines"] = max(ours.objective_eur / rows[name].objective_eur for name in slow)
    figures["to_baselines_at_once"] = max(quick.objective_eur / rows[name].objective_eur for name in fast)
    figures["at_once_extra_wait_h"] = max(quick.mean_wait_h - rows[name].mean_wait_h for name in fast)
    figures["oracle_gap"] = ours.oracle_gap or 0.0
    figures["patient_oracle_gap"] = rows[SOLYX_PATIENT].oracle_gap or 0.0
    figures["foresight_oracle_gap"] = rows[FORESIGHT].oracle_gap or 0.0
    figures["clairvoyant_oracle_gap"] = rows[CLAIRVOYANT].oracle_gap or 0.0
    figures["migrations"], figures["suspensions"] = float(ours.migrations), float(ours.suspensions)
    figures["deadline_misses"] = float(ours.deadline_misses)
    return figures


def _key(policy: str) -> str:
    return policy.replace("-", "_")


def _more(
    experiment: Experiment,
    rows: dict[str, Summary],
    out: Path,
    figures: dict[str, float],
    report: Callable[[float], None],
) -> None:
    """Our policy at several carbon prices, and with one simplification after the other; on all cores."""
    own = experiment.settings.carbon_eur_per_t
    asked = [(price, HONEST) for price in CARBON_PRICES] + [(own, variant) for variant in STEPS.values()]
    found: list[Summary] = []
    # A fork has the forecasts already.
    with ProcessPoolExecutor(mp_context=get_context("fork"), initializer=_take, initargs=(experiment,)) as pool:
        for row in pool.map(_summary, asked):
            found.append(row)
            report(len(found) / len(asked))
    swept = {price: row for (price, _), row in zip(asked, found, strict=False) if price != own}
    _plot(rows, swept | {own: rows[SOLYX]}, own, out)
    bound = experiment.bound(own)
    for name, row in zip(STEPS, found[len(CARBON_PRICES) :], strict=True):
        figures[f"gap_with_{name}"] = row.objective_eur / bound.objective_eur - 1.0
    figures["gap_without_suspension"] = bound.contiguous_eur / bound.objective_eur - 1.0


_experiment: Experiment | None = None


def _take(experiment: Experiment) -> None:
    global _experiment  # noqa: PLW0603 - what a worker is given once
    experiment.silence()
    _experiment = experiment


def _summary(asked: tuple[float, Variant]) -> Summary:
    assert _experiment is not None
    price, variant = asked
    return _experiment.run(SOLYX, price, variant).summary


def _plot(rows: dict[str, Summary], swept: dict[float, Summary], own: float, out: Path) -> None:
    points = {SOLYX: [(price, row.cost_eur, row.carbon_kg) for price, row in sorted(swept.items())]}
    others = (name for name, row in rows.items() if name != SOLYX and not isnan(row.cost_eur))
    points |= {name: [(own, rows[name].cost_eur, rows[name].carbon_kg)] for name in others}
    pareto(out / "pareto.png", points)
