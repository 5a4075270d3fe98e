"""What a planner reaches that knows all prices and carbon to come and has all the room there could be, but not how long jobs run.

Of lengths it knows what can be learned from owners' estimates, and that from all jobs of the run, those to come included
(`services/cmo/core/lengths.py`). For each job by itself it follows the plan of least expected cost (`services/cmo/core/interruption.py`)
until the job is done. No policy with the same estimates can expect to pay less, but for what hourly plans leave: so what this pays over
the bound of the oracle is the price of not knowing lengths, which no scheduling can win back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from services.cmo.core.interruption import NOW, Plans, Task
from services.cmo.core.lengths import Lengths
from simulator.runs import Runs
from solyx.energy import HOUR_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from simulator.workload import Job, Workload
    from simulator.world import World

    Floats = NDArray[np.float64]

_UNBOUNDED_WAIT_H = 168.0
_NEVER_H = 1e6  # of work that a pause loses, so that there is none
_REPORT_EVERY = 1000


def with_foresight(
    workload: Workload,
    world: World,
    *,
    carbon_eur_per_t: float,
    suspend_overhead_s: float,
    progress: Callable[[float], None] = lambda _share: None,
) -> Runs:
    """Every job by itself."""
    lengths, runs = Lengths(), Runs()
    for job in workload.jobs:
        lengths.learn(job.spec.duration_estimate_s, job.true_duration_s)
    rates = world.weighted(carbon_eur_per_t) / 1000.0  # EUR/kWh
    power_kw = world.power_kw(workload.cores, np.array([job.gpus for job in workload.jobs]))
    for job in workload.jobs:
        _run(job, rates * power_kw[:, job.index, None], lengths, world, suspend_overhead_s, runs)
        if job.index % _REPORT_EVERY == 0:
            progress(job.index / len(workload.jobs))
    return runs


def _run(job: Job, rates: Floats, lengths: Lengths, world: World, overhead_s: float, runs: Runs) -> None:
    wait_s = min(job.limit_s, job.deadline_s - job.true_duration_s) - job.arrival_s
    task = Task(
        ahead=lengths.ahead(job.spec.duration_estimate_s, 0.0),
        now_s=job.arrival_s,
        slack_h=min(max(0.0, wait_s) / HOUR_S, _UNBOUNDED_WAIT_H),
        delay_eur_per_h=0.0,
        restart_h=overhead_s / HOUR_S if job.spec.suspendable else _NEVER_H,
        begun=False,
    )
    leaving = job.data_gib * world.egress_eur_per_gib
    first = int(job.arrival_s // HOUR_S) - world.first_hour
    hours = np.minimum(np.arange(first, first + task.ahead.hours + task.starts), rates.shape[1] - 1)
    plans = Plans(task, rates[:, hours], np.ones((len(rates), len(hours)), np.bool_), leaving)
    eur = np.concatenate((plans.now_eur[:, None], plans.later_eur), axis=1)
    eur += np.where(np.arange(len(rates)) == job.home, 0.0, leaving[job.home])[:, None]
    site, column = np.unravel_index(int(eur.argmin()), eur.shape)
    end_s = job.arrival_s
    courses = plans.stretches(int(site), int(column) + NOW, job.true_duration_s)
    for count, (where, (begin_s, length_s)) in enumerate(courses):
        # What a suspension loses is repeated when it goes on: the stretches after it begin as planned, the last one ends later.
        last = count == len(courses) - 1
        end_s = begin_s + length_s + (overhead_s * count if last else 0.0)
        runs.add(job.index, where, begin_s, end_s)
    runs.done_s[job.index] = end_s
