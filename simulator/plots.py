"""Pictures of a run. Days are averaged where the span is long, so that a year is read as well as a week."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np

from solyx.energy import HOUR_S

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.rcsetup import cycler

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from simulator.bill import Summary
    from simulator.experiment import Experiment
    from simulator.runs import Runs

    Floats = NDArray[np.float64]

_LONG_H = 24 * 45
_DPI = 110
_METADATA = {"Software": None}  # matplotlib's version would make the bytes depend on it
# More colours than there are policies, so that no two look alike.
plt.rcParams["axes.prop_cycle"] = cycler(
    "color", [mpl.colormaps[name](k) for name in ("tab10", "Dark2") for k in range(8)]
)


def draw(directory: Path, experiment: Experiment, schedules: dict[str, Runs], summaries: list[Summary]) -> list[Path]:
    """All plots; returns the files."""
    files = [_bars(directory / "policies.png", summaries)]
    if schedules:
        load = {name: _load(experiment, runs) for name, runs in schedules.items()}
        files.append(_over_time(directory / "power_price_carbon.png", experiment, load))
        files.append(_by_site(directory / "jobs_by_site.png", experiment, schedules))
        files.append(_queue(directory / "queue.png", experiment, schedules))
    return files


def pareto(file: Path, points: dict[str, list[tuple[float, float, float]]]) -> Path:
    """Cost against carbon, a line a policy; each point is (carbon price, EUR, kg)."""
    figure, axes = plt.subplots(figsize=(8, 5.5))
    for name, line in points.items():
        axes.plot([p[2] for p in line], [p[1] for p in line], marker="o", ms=4, lw=1, label=name)
        if len(line) > 1:
            for price, cost, carbon in line:
                axes.annotate(f"{price:g}", (carbon, cost), textcoords="offset points", xytext=(4, 4), fontsize=7)
    axes.set_xlabel("carbon, kg (above the idle floor)")
    axes.set_ylabel("energy and movement, EUR (above the idle floor)")
    axes.set_title("Cost against carbon; figures are the carbon price in EUR/t")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return _save(figure, file)


def _bars(file: Path, summaries: list[Summary]) -> Path:
    names = [row.policy for row in summaries]
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 0.5 * len(names) + 1.8), sharey=True)
    at = np.arange(len(names))
    begin = np.zeros(len(names))
    parts = {
        "energy": [row.energy_eur for row in summaries],
        "movement": [row.movement_eur for row in summaries],
        "carbon": [row.objective_eur - row.cost_eur for row in summaries],
        "lower bound": [row.objective_eur if np.isnan(row.cost_eur) else 0.0 for row in summaries],
    }
    for name, values in parts.items():
        width = np.nan_to_num(np.array(values))
        left.barh(at, width, left=begin, label=name)
        begin = begin + width
    left.set_yticks(at, names)
    left.invert_yaxis()
    left.set_xlabel("EUR above the idle floor")
    left.legend(fontsize=8)
    right.barh(at, np.nan_to_num(np.array([row.mean_wait_h for row in summaries])), color="tab:gray")
    right.set_xlabel("mean wait, h")
    return _save(figure, file)


def _hours(experiment: Experiment) -> tuple[int, int, int]:
    """First hour, number of hours, and how many are averaged into one point."""
    first = int(experiment.since.timestamp() // HOUR_S)
    count = max(1, int((experiment.until.timestamp() - experiment.since.timestamp()) // HOUR_S))
    return first, count, 24 if count > _LONG_H else 1


def _averaged(values: Floats, step: int) -> Floats:
    usable = len(values) // step * step
    return values[:usable].reshape(-1, step).mean(axis=1) if usable else values


def _times(first: int, points: int, step: int) -> list[datetime]:
    return [datetime.fromtimestamp((first + k * step) * HOUR_S, UTC) for k in range(points)]


def _occupancy(first: int, count: int, start_s: Floats, end_s: Floats, weight: Floats) -> Floats:
    """Mean of Σ weight over who is there, in each hour."""
    begin, end = start_s / HOUR_S - first, end_s / HOUR_S - first
    edges = np.arange(count + 1)
    area = np.zeros(count + 1)
    for moment, sign in ((begin, 1.0), (end, -1.0)):
        clipped = np.clip(moment, 0.0, count)
        order = np.argsort(clipped)
        at, w = clipped[order], weight[order]
        number = np.searchsorted(at, edges, side="right")
        sums, moments = np.concatenate(([0.0], np.cumsum(w))), np.concatenate(([0.0], np.cumsum(w * at)))
        area += sign * (sums[number] * edges - moments[number])
    return np.diff(area)


def _load(experiment: Experiment, runs: Runs) -> Floats:
    """Power above the idle floor, kW, by hour."""
    first, count, _ = _hours(experiment)
    table, workload = runs.table(), experiment.workload
    gpus = np.array([job.gpus for job in workload.jobs])
    power = experiment.world.power_kw(workload.cores, gpus)[table.site, table.job]
    return _occupancy(first, count, table.start_s, table.end_s, power)


def _over_time(file: Path, experiment: Experiment, load: dict[str, Floats]) -> Path:
    first, count, step = _hours(experiment)
    figure, (power, price, carbon) = plt.subplots(3, 1, figsize=(12, 9), sharex=True)
    for name, values in load.items():
        _line(power, first, step, values, name)
    power.set_ylabel("power above idle, kW")
    span = experiment.world.span(first * HOUR_S, (first + count) * HOUR_S)
    for index, name in enumerate(experiment.world.names):
        _line(price, first, step, experiment.world.price[index, span], name)
        _line(carbon, first, step, experiment.world.carbon[index, span], name)
    price.set_ylabel("price, EUR/MWh")
    carbon.set_ylabel("carbon, gCO2/kWh")
    for axes in (power, price, carbon):
        axes.legend(fontsize=7, ncols=4)
        axes.grid(alpha=0.3)
    return _save(figure, file)


def _line(axes: Any, first: int, step: int, values: Floats, name: str) -> None:
    points = _averaged(values, step)
    axes.plot(_times(first, len(points), step), points, lw=0.9, label=name)


def _by_site(file: Path, experiment: Experiment, schedules: dict[str, Runs]) -> Path:
    names = experiment.world.names
    figure, axes = plt.subplots(figsize=(9, 0.5 * len(schedules) + 1.6))
    begin = np.zeros(len(schedules))
    counts = np.stack([np.bincount(runs.table().site, minlength=len(names)) for runs in schedules.values()])
    for index, name in enumerate(names):
        axes.barh(list(schedules), counts[:, index], left=begin, label=name)
        begin = begin + counts[:, index]
    axes.invert_yaxis()
    axes.set_xlabel("runs")
    axes.legend(fontsize=8, ncols=len(names))
    return _save(figure, file)


def _queue(file: Path, experiment: Experiment, schedules: dict[str, Runs]) -> Path:
    """Jobs that have arrived and do not run yet, by hour."""
    first, count, step = _hours(experiment)
    arrival = experiment.workload.arrival_s
    figure, axes = plt.subplots(figsize=(12, 4))
    for name, runs in schedules.items():
        table = runs.table()
        begun = table.first
        waiting = _occupancy(first, count, arrival[table.job[begun]], table.start_s[begun], np.ones(int(begun.sum())))
        _line(axes, first, step, waiting, name)
    axes.set_ylabel("jobs that wait to start")
    axes.legend(fontsize=7, ncols=4)
    axes.grid(alpha=0.3)
    return _save(figure, file)


def _save(figure: Any, file: Path) -> Path:
    figure.tight_layout()
    figure.savefig(file, dpi=_DPI, metadata=_METADATA)
    plt.close(figure)
    return file


def names_of(files: Sequence[Path]) -> str:
    """For people."""
    return ", ".join(file.name for file in files)
