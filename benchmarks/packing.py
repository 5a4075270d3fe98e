"""``packing``: how much of a cluster's GPUs each policy allocates, as the FGD paper measures it (USENIX ATC 2023, section 6.1).

The 1,213 nodes with GPUs of the openb trace; its tasks, sampled with replacement in random order until they ask for 130 % of the
GPUs; nobody leaves. Ours is the production core's packing, and has no history when it begins. ``SOLYX_BENCHMARK_PODS`` names
another list of tasks in the trace's form. The plot goes to ``SOLYX_BENCHMARK_OUT``, or to ``.solyx/benchmarks/packing``.
"""

from __future__ import annotations

import concurrent.futures
import csv
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import matplotlib as mpl
import numpy as np
from rich.table import Table

from benchmarks.packing_policies import Machine, Task, policies
from services.drm.model import WHOLE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

JOBS = Path(__file__).resolve().parents[2] / "shared" / "data" / "jobs"
NODES = JOBS / "openb_node_list_all_node.csv"
PODS = JOBS / "openb_pod_list_default.csv"
SEEDS = range(42, 52)
ARRIVED = 1.3
PUBLISHED = {  # allocated at 100 % and 130 % arrived, in %; mean of the paper's ten runs, from its artifact
    "random": (86.30, 87.47),
    "dot_product": (90.62, 90.85),
    "gpu_clustering": (91.65, 91.88),
    "gpu_packing": (91.78, 92.00),
    "best_fit": (92.86, 93.08),
    "fgd": (95.23, 95.39),
}
NAMES = (*PUBLISHED, "solyx")


class Run(NamedTuple):
    """Allocated share of the GPUs after each per cent that has arrived, and the time it took."""

    allocated: list[float]
    wall_s: float


def read_machines(path: Path = NODES) -> list[Machine]:
    """The nodes with GPUs.

    Raises:
        FileNotFoundError: the real data is not beside the checkout.
    """
    with path.open(encoding="utf-8") as file:
        rows = [
            Machine(r["sn"], int(r["cpu_milli"]), int(r["memory_mib"]), int(r["gpu"]), r["model"])
            for r in csv.DictReader(file)
        ]
    return [machine for machine in rows if machine.gpus]


def read_tasks(path: Path) -> list[Task]:
    """The tasks of a trace in openb's form.

    Raises:
        FileNotFoundError: the real data is not beside the checkout.
    """
    with path.open(encoding="utf-8") as file:
        return [
            Task(
                int(r["cpu_milli"]),
                int(r["memory_mib"]),
                int(r["num_gpu"]),
                int(r["gpu_milli"] or WHOLE) if int(r["num_gpu"]) else 0,
                tuple(sorted(filter(None, r["gpu_spec"].split("|")))),
            )
            for r in csv.DictReader(file)
        ]


def run(name: str, seed: int, machines: Sequence[Machine], workload: Sequence[Task]) -> Run:
    """One policy on one order of tasks; the order is the same for every policy."""
    chance = np.random.default_rng(seed)
    policy = policies(machines, workload, seed)[name]()
    every = sum(machine.gpus for machine in machines) * WHOLE
    asked = placed = 0
    allocated = [0.0]
    began = time.perf_counter()
    while asked < ARRIVED * every:
        task = workload[int(chance.integers(len(workload)))]
        asked += task.asked_milli
        placed += task.asked_milli if policy.place(task) else 0
        while len(allocated) <= min(100 * asked / every, 100 * ARRIVED):
            allocated.append(placed / every)
    return Run(allocated, time.perf_counter() - began)


def measure(console: Console) -> dict[str, float]:
    """All policies and seeds, two at a time where there are two processors.

    Raises:
        FileNotFoundError: the real data is not beside the checkout.
    """
    machines = read_machines()
    pods = Path(os.environ.get("SOLYX_BENCHMARK_PODS", PODS))
    workload = read_tasks(pods)
    began = time.perf_counter()
    with concurrent.futures.ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        futures = {(n, s): pool.submit(run, n, s, machines, workload) for s in SEEDS for n in reversed(NAMES)}
        runs = {name: [futures[name, seed].result() for seed in SEEDS] for name in NAMES}
    figures = {"wall_s": time.perf_counter() - began} | _figures(runs)
    _show(runs, pods.stem, console)
    out = Path(os.environ.get("SOLYX_BENCHMARK_OUT", ".solyx/benchmarks/packing"))
    out.mkdir(parents=True, exist_ok=True)
    _draw(runs, out / "packing.png")
    console.print(f"files: {out.resolve()}", highlight=False)
    return figures


def _figures(runs: Mapping[str, Sequence[Run]]) -> dict[str, float]:
    """Allocated shares in %, and what ours leaves unallocated as a share of what each other policy leaves."""
    figures: dict[str, float] = {}
    left = {name: 1 - float(np.mean([r.allocated[-1] for r in of_policy])) for name, of_policy in runs.items()}
    for name, of_policy in runs.items():
        figures[f"{name}_at_100_percent"] = 100 * float(np.mean([r.allocated[100] for r in of_policy]))
        figures[f"{name}_at_130_percent"] = 100 * (1 - left[name])
    for name in runs:
        if name != "solyx":
            figures[f"unallocated_to_{name}"] = left["solyx"] / left[name]
    figures["solyx_s_per_seed"] = float(np.mean([r.wall_s for r in runs["solyx"]]))
    return figures


def _show(runs: Mapping[str, Sequence[Run]], trace: str, console: Console) -> None:
    table = Table("policy", "at 100 %", "at 130 %", "lowest", "highest", "published", "s a seed", title=trace)
    for name, of_policy in runs.items():
        at_100, at_130 = (100 * np.array([r.allocated[i] for r in of_policy]) for i in (100, -1))
        published = " / ".join(f"{figure:.2f}" for figure in PUBLISHED.get(name, ())) if trace == PODS.stem else ""
        seconds = float(np.mean([r.wall_s for r in of_policy]))
        figures = (at_100.mean(), at_130.mean(), at_130.min(), at_130.max())
        table.add_row(name, *(f"{figure:.2f}" for figure in figures), published, f"{seconds:.1f}")
    console.print(table)


def _draw(runs: Mapping[str, Sequence[Run]], path: Path) -> None:
    """Allocated against arrived, mean of the seeds; the upper end, where policies part."""
    mpl.use("Agg")
    import matplotlib.pyplot as plt  # noqa: PLC0415 - after the backend is chosen

    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for name, of_policy in runs.items():
        mean = 100 * np.mean([r.allocated for r in of_policy], axis=0)
        axes.plot(range(len(mean)), mean, label=name, linewidth=2.5 if name == "solyx" else 1.2)
    axes.set(xlim=(70, 130), ylim=(70, 100), xlabel="GPUs asked for, % of the cluster", ylabel="GPUs allocated, %")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=120)
    plt.close(figure)
