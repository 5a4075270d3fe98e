"""What planners reach that know more than anybody can: what the gap to the lower bound is made of.

``with_foresight`` knows all prices and carbon to come and has all the room there could be, but not how long jobs run. Of lengths it
knows what can be learned from owners' estimates, and that from all jobs of the run, those to come included
(`services/cmo/core/lengths.py`). For each job by itself it follows the plan of least expected cost (`services/cmo/core/interruption.py`)
until the job is done. No policy with the same estimates can expect to pay less, but for what hourly plans leave: so what this pays over
the bound of the oracle is the price of not knowing lengths, which no scheduling can win back.

``with_clairvoyance`` knows lengths too, but shares the sites' cores: jobs are planned one after the other, in order of arrival, each in the
hours in which those before it leave its cores free, and keep their plans. It is a schedule of that knowledge (of cores: nodes are not
packed, the minutes that restarts add to the last hour are not held against room, and a job that finds none in its time runs all the same), so an
oracle of cores costs no more than this, and no less than its bound.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

import numpy as np

from services.cmo.core.interruption import NOW, Plans, Task
from services.cmo.core.lengths import Ahead, Lengths
from simulator.runs import Runs
from solyx.energy import HOUR_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from services.cmo.core.ledger import Stretch
    from simulator.workload import Job, Workload
    from simulator.world import World

    Floats = NDArray[np.float64]

_UNBOUNDED_WAIT_H = 168.0
_REPORT_EVERY = 1000
_ROUNDING = 1e-6


def with_foresight(
    workload: Workload,
    world: World,
    *,
    carbon_eur_per_t: float,
    suspend_overhead_s: float,
    progress: Callable[[float], None] = lambda _share: None,
) -> Runs:
    """Every job by itself, lengths unknown."""
    lengths, planner = Lengths(), _Planner(workload, world, carbon_eur_per_t, suspend_overhead_s)
    for job in workload.jobs:
        lengths.learn(job.spec.duration_estimate_s, job.true_duration_s)
    for job in _one_by_one(workload, progress):
        planner.run(job, lengths.ahead(job.spec.duration_estimate_s, 0.0))
    return planner.runs


def with_clairvoyance(
    workload: Workload,
    world: World,
    *,
    carbon_eur_per_t: float,
    suspend_overhead_s: float,
    progress: Callable[[float], None] = lambda _share: None,
) -> Runs:
    """One job after the other within the sites' cores, lengths known. What finds no room in its time takes what others have."""
    planner = _Planner(workload, world, carbon_eur_per_t, suspend_overhead_s)
    free = np.broadcast_to(world.cores[:, None], planner.rates.shape).copy()  # cores over (site, hour)
    for job in _one_by_one(workload, progress):
        ahead = Ahead(np.array([job.true_duration_s]), np.ones(1))
        courses = planner.run(job, ahead, free) or planner.run(job, ahead)
        for site, (begin_s, length_s) in courses:
            first = int(begin_s // HOUR_S) - world.first_hour
            last = ceil((begin_s + length_s) / HOUR_S - _ROUNDING) - world.first_hour
            free[site, first:last] -= job.cores
    return planner.runs


def _one_by_one(workload: Workload, progress: Callable[[float], None]) -> Iterator[Job]:
    for job in workload.jobs:
        yield job
        if job.index % _REPORT_EVERY == 0:
            progress(job.index / len(workload.jobs))


class _Planner:
    """Plans at true prices and carbon, and what they make of the jobs."""

    def __init__(self, workload: Workload, world: World, carbon_eur_per_t: float, overhead_s: float) -> None:
        self.runs = Runs()
        self.rates = world.weighted(carbon_eur_per_t) / 1000.0  # EUR/kWh over (site, hour)
        self._world, self._overhead_s = world, overhead_s
        self._power_kw = world.power_kw(workload.cores, np.array([job.gpus for job in workload.jobs]))

    def run(self, job: Job, ahead: Ahead, free: Floats | None = None) -> tuple[tuple[int, Stretch], ...]:
        """Follow the best plan until the job is done; nothing where no plan stays within the ``free`` cores, over (site, hour)."""
        world = self._world
        wait_s = min(job.limit_s, job.deadline_s - job.true_duration_s) - job.arrival_s
        task = Task(
            ahead=ahead,
            now_s=job.arrival_s,
            slack_h=min(max(0.0, wait_s) / HOUR_S, _UNBOUNDED_WAIT_H),
            delay_eur_per_h=0.0,
            restart_h=self._overhead_s / HOUR_S,
            begun=False,
            pauses=job.spec.suspendable,
        )
        leaving = job.data_gib * world.egress_eur_per_gib
        first = int(job.arrival_s // HOUR_S) - world.first_hour
        hours = np.minimum(np.arange(first, first + task.ahead.hours + task.starts), self.rates.shape[1] - 1)
        room = np.full((len(world.sites), len(hours)), True)
        if free is not None:
            room = free[:, hours] >= job.cores - _ROUNDING
        rates = np.full(room.shape, np.inf)
        sites = list(job.sites)
        rates[sites] = self.rates[sites][:, hours] * self._power_kw[sites, job.index, None]
        plans = Plans(task, rates, room, leaving)
        eur = np.concatenate((plans.now_eur[:, None], plans.later_eur), axis=1)
        eur += np.where(np.arange(len(world.sites)) == job.home, 0.0, leaving[job.home])[:, None]
        site, column = np.unravel_index(int(eur.argmin()), eur.shape)
        if not np.isfinite(eur[site, column]):
            return ()
        courses = plans.stretches(int(site), int(column) + NOW, job.true_duration_s)
        self._note(job, courses)
        return courses

    def _note(self, job: Job, courses: tuple[tuple[int, Stretch], ...]) -> None:
        end_s = job.arrival_s
        for count, (where, (begin_s, length_s)) in enumerate(courses):
            # What a suspension loses is repeated when it goes on: the stretches after it begin as planned, the last one ends later.
            last = count == len(courses) - 1
            end_s = begin_s + length_s + (self._overhead_s * count if last else 0.0)
            self.runs.add(job.index, where, begin_s, end_s)
        self.runs.done_s[job.index] = end_s
