"""The figures of a policy, from its runs and the truth alone: the same for every policy, whoever made the runs.

Energy, cost and carbon of a run are the integrals of ``solyx.energy`` over the hourly truth. Data moves when a job starts at a
site where its data is not: they lie at home first, then wherever it ran last; what they leave charges its egress price. The wait of
a job is all the time between arrival and end in which it does not do its own work (also the work repeated after a suspension).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from solyx.energy import HOUR_S

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from simulator.runs import Runs, RunTable
    from simulator.workload import Workload
    from simulator.world import World

    Floats = NDArray[np.float64]

_SHORT_S = 10.0
"""Bounded slowdown counts a shorter job as this long (Feitelson et al. 1997, "Theory and practice in parallel job scheduling", §3)."""
_TOLERANCE_S = 1.0


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the report. Energy, cost and carbon are those above the idle floor; the floor stands apart."""

    policy: str
    jobs: int
    finished: int
    refused: int  # larger than every site; the same for all policies
    objective_eur: float  # cost + carbon price × carbon
    cost_eur: float  # energy and data movement
    energy_eur: float
    movement_eur: float
    carbon_kg: float
    energy_kwh: float
    idle_cost_eur: float
    idle_carbon_kg: float
    idle_energy_kwh: float
    mean_wait_h: float
    p95_wait_h: float
    mean_slowdown: float
    p95_slowdown: float
    deadline_misses: int  # started after the maximum delay, or ended after the deadline
    migrations: int
    suspensions: int
    moved_jobs: int  # ran away from home
    utilisation: float  # of all cores over the span
    oracle_gap: float | None  # objective ÷ the lower bound − 1


def summarise(
    policy: str,
    runs: Runs,
    workload: Workload,
    world: World,
    *,
    since_s: float,
    until_s: float,
    carbon_eur_per_t: float,
) -> Summary:
    """The bill and the waits of what a policy did."""
    table = runs.table()
    cores, arrival, duration = workload.cores, workload.arrival_s, workload.duration_s
    gpus = np.array([job.gpus for job in workload.jobs])
    power = world.power_kw(cores, gpus)[table.site, table.job] if len(table.job) else np.zeros(0)
    price = world.integral(world.price, table.site, table.start_s, table.end_s)
    carbon = world.integral(world.carbon, table.site, table.start_s, table.end_s)
    hours = (table.end_s - table.start_s) / HOUR_S
    movement, moves = _movement(table, workload, world)
    energy_eur, carbon_kg = float((power * price).sum() / 1000), float((power * carbon).sum() / 1000)
    movement_eur = float(movement.sum())
    idle = world.span(since_s, until_s)
    done = np.array(sorted(runs.done_s), dtype=np.int64)
    end = np.array([runs.done_s[index] for index in done.tolist()])
    wait = np.maximum(end - arrival[done] - duration[done], 0.0) / HOUR_S
    slow = np.maximum((end - arrival[done]) / np.maximum(duration[done], _SHORT_S), 1.0)
    repeats = ~table.first
    return Summary(
        policy=policy,
        jobs=len(workload.jobs),
        finished=len(done),
        refused=workload.refused,
        objective_eur=energy_eur + movement_eur + carbon_kg * carbon_eur_per_t / 1000,
        cost_eur=energy_eur + movement_eur,
        energy_eur=energy_eur,
        movement_eur=movement_eur,
        carbon_kg=carbon_kg,
        energy_kwh=float((power * hours).sum()),
        idle_cost_eur=float((world.idle_kw[:, None] * world.price[:, idle]).sum() / 1000),
        idle_carbon_kg=float((world.idle_kw[:, None] * world.carbon[:, idle]).sum() / 1000),
        idle_energy_kwh=float(world.idle_kw.sum() * world.price[:, idle].shape[1]),
        mean_wait_h=float(wait.mean()) if len(wait) else 0.0,
        p95_wait_h=float(np.quantile(wait, 0.95)) if len(wait) else 0.0,
        mean_slowdown=float(slow.mean()) if len(slow) else 0.0,
        p95_slowdown=float(np.quantile(slow, 0.95)) if len(slow) else 0.0,
        deadline_misses=_misses(table, runs, workload),
        migrations=int((repeats & moves).sum()),
        suspensions=int((repeats & ~moves).sum()),
        moved_jobs=len(np.unique(table.job[table.site != workload.home[table.job]])) if len(table.job) else 0,
        utilisation=float((cores[table.job] * hours).sum() / (world.cores.sum() * (until_s - since_s) / HOUR_S)),
        oracle_gap=None,
    )


def _movement(table: RunTable, workload: Workload, world: World) -> tuple[Floats, NDArray[np.bool_]]:
    """EUR by stretch, and whether the job came from another place than it runs at."""
    if not len(table.job):
        return np.zeros(0), np.zeros(0, np.bool_)
    before = np.concatenate(([0], table.site[:-1]))
    origin = np.where(table.first, workload.home[table.job], before)
    moved = origin != table.site
    data_gib = np.array([job.data_gib for job in workload.jobs])[table.job]
    return np.where(moved, data_gib * world.egress_eur_per_gib[origin], 0.0), moved


def _misses(table: RunTable, runs: Runs, workload: Workload) -> int:
    limit = np.array([job.limit_s for job in workload.jobs])
    started = table.job[table.first]
    late = int((table.start_s[table.first] > limit[started] + _TOLERANCE_S).sum())
    over = sum(end > workload.jobs[index].deadline_s + _TOLERANCE_S for index, end in runs.done_s.items())
    return late + over + sum(index not in runs.done_s for index in range(len(workload.jobs)))
