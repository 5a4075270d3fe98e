"""The jobs of a run as columns, and the hours in which each may run, in batches of jobs whose windows are equally long.

A job may run from its arrival until its length and its longest wait have passed. Its window is cut into cells: what is left of the
hour of arrival, then full hours, then the part of the last one. Rates are constant in a cell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from solyx.energy import HOUR_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from simulator.workload import Workload
    from simulator.world import World

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

_ALIKE = 4  # windows of a batch differ by less than so many cells: few large batches are faster than many small ones
_UNBOUNDED_WAIT_S = 168 * HOUR_S  # where an owner sets no limit; further ahead nothing is known anyway


@dataclass(frozen=True, kw_only=True, eq=False)
class Jobs:
    """Jobs as columns."""

    arrival_h: Floats  # hours from the world's first
    length_h: Floats
    wait_h: Floats  # the longest that it may not do its work
    cores: Floats
    power_kw: Floats  # over (site, job)
    movement_eur: Floats  # when its data leaves home
    leaving_eur: Floats  # when its data leaves a site, over (site, job)
    home: Ints
    closed: NDArray[np.bool_]  # whether a site may not take it, over (site, job)
    suspendable: NDArray[np.bool_]

    @property
    def end_h(self) -> Floats:
        """The latest end."""
        return self.arrival_h + self.length_h + self.wait_h

    def of(self, which: Ints) -> Jobs:
        """Some of them."""
        return Jobs(
            arrival_h=self.arrival_h[which],
            length_h=self.length_h[which],
            wait_h=self.wait_h[which],
            cores=self.cores[which],
            power_kw=self.power_kw[:, which],
            movement_eur=self.movement_eur[which],
            leaving_eur=self.leaving_eur[:, which],
            home=self.home[which],
            closed=self.closed[:, which],
            suspendable=self.suspendable[which],
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Windows:
    """Some jobs with the cells in which they may run; the first cell begins with the arrival, the last one ends with the latest end.

    Where a job has fewer cells than the batch, as many as it is ``short`` of follow on its first one, and are no time at all.
    """

    jobs: Jobs
    short: Ints
    hour: Ints  # over (cell, job), from the world's first
    room_h: Floats  # over (cell, job)

    def of(self, which: Ints) -> Windows:
        """Some of them."""
        return Windows(
            jobs=self.jobs.of(which), short=self.short[which], hour=self.hour[:, which], room_h=self.room_h[:, which]
        )


def columns(workload: Workload, world: World) -> Jobs:
    """The jobs in order of arrival."""
    jobs = workload.jobs
    wait_s = np.array([min(job.limit_s, job.deadline_s - job.true_duration_s) - job.arrival_s for job in jobs])
    wait_s = np.where(np.isfinite(wait_s), np.maximum(wait_s, 0.0), _UNBOUNDED_WAIT_S)
    data_gib = np.array([job.data_gib for job in jobs])
    return Jobs(
        arrival_h=workload.arrival_s / HOUR_S - world.first_hour,
        length_h=workload.duration_s / HOUR_S,
        wait_h=wait_s / HOUR_S,
        cores=workload.cores,
        power_kw=world.power_kw(workload.cores, np.array([job.gpus for job in jobs])),
        movement_eur=data_gib * world.egress_eur_per_gib[workload.home],
        leaving_eur=world.egress_eur_per_gib[:, None] * data_gib,
        home=workload.home,
        closed=_closed(workload, len(world.sites)),
        suspendable=np.array([job.spec.suspendable for job in jobs], dtype=np.bool_),
    )


def _closed(workload: Workload, sites: int) -> NDArray[np.bool_]:
    closed = np.full((sites, len(workload.jobs)), True)
    for job in workload.jobs:
        closed[job.sites, job.index] = False
    return closed


def windows(jobs: Jobs, entries: int) -> Iterator[Windows]:
    """All jobs in batches in which (job × cell × hour of work) is at most ``entries``, or one job."""
    first = np.floor(jobs.arrival_h).astype(np.int64)
    # Two cells at least: a window within one hour gets a second one without room.
    cells = np.maximum(np.ceil(jobs.end_h).astype(np.int64) - first, 2)
    wide = -(-cells // _ALIKE) * _ALIKE
    order = np.lexsort((jobs.length_h, wide))
    begin = 0
    while begin < len(order):
        width = int(wide[order[begin]])
        alike = int(np.searchsorted(wide[order], width, side="right"))
        longest = int(jobs.length_h[order[alike - 1]]) + 2
        end = min(begin + max(1, entries // (longest * width)), alike)
        yield _window(jobs.of(order[begin:end]), width - cells[order[begin:end]], width)
        begin = end


def _window(jobs: Jobs, short: Ints, width: int) -> Windows:
    cell = np.arange(width)[:, None]
    hour = np.floor(jobs.arrival_h).astype(np.int64) + np.maximum(cell - short, 0)
    opens, closes = np.maximum(hour, jobs.arrival_h), np.minimum(hour + 1, jobs.end_h)
    room = np.where((cell > 0) & (cell <= short), 0.0, np.maximum(closes - opens, 0.0))
    return Windows(jobs=jobs, short=short, hour=hour, room_h=room)
