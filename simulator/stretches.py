"""The cheapest plan of one job that runs for a given time in all, by dynamic programming.

One job, the rates known: its plan is a list of stretches, each at a site. A plan's cost is linear in where stretches begin and end as
long as none of them passes the edge of a cell (``simulator/plans.py``), and the one thing that couples them is the time run in all. So
some cheapest plan is a vertex: all stretches begin and end on edges, but for one beginning or end, which the time run in all decides.
Such a plan runs whole cells, and in one cell beside them a piece whose length is known: what whole cells leave of the time.

The simple algorithm tries all of these plans. The dynamic program goes over cells and keeps the least cost for each (whether the piece
was run, where the data lies, whether the first cell was run, full hours run) of a job that runs and of one that does not; whether the
last cell is run is decided before. Data moves, and is paid for, each time it leaves a site, and going on after a pause or at another site
costs what the caller says. Bertsekas, "Dynamic Programming and Optimal Control", vol. 1, §1.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from simulator.plans import Windows

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

_ROUNDING_H = 1e-9
_RUNNING, _PAUSED, _FRESH, _AGAIN = range(4)
"""Where a job may have been before a cell: at the same site, running or not, nowhere yet, or there and going on; then moved, by site."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Costs:
    """What jobs pay; ``again_eur`` may be infinite."""

    work_eur: Floats  # for an hour, over (cell, site, job)
    again_eur: Floats  # for going on after a pause or at another site, over (cell, site, job)
    leaving_eur: Floats  # when data leaves a site, over (site, job)


@dataclass(frozen=True, kw_only=True, eq=False)
class Course:
    """The cheapest plans, over (cell, site, job)."""

    run_h: Floats
    again: NDArray[np.bool_]  # goes on there after a pause or a movement


def least(windows: Windows, costs: Costs, time_h: Floats) -> Floats:
    """What the cheapest plans cost of jobs that run for ``time_h`` in all; infinite where the window is shorter."""
    return np.minimum(*(_Search(windows, costs, time_h, last=last).eur for last in (False, True)))


def cheapest(windows: Windows, costs: Costs, time_h: Floats) -> tuple[Floats, Course]:
    """The same, with the plans."""
    without, through = (_Search(windows, costs, time_h, last=last, remember=True) for last in (False, True))
    shape = costs.work_eur.shape
    course = Course(run_h=np.zeros(shape), again=np.zeros(shape, np.bool_))
    better = through.eur < without.eur
    without.write(course, np.flatnonzero(~better))
    through.write(course, np.flatnonzero(better))
    return np.minimum(without.eur, through.eur), course


@dataclass(frozen=True, kw_only=True, eq=False)
class _At:
    """Where each job is on its way back."""

    job: Ints
    first: Ints
    part: Ints
    site: Ints
    full: Ints
    runs: NDArray[np.bool_]
    begun: NDArray[np.bool_]  # it runs in this cell or before it


class _Search:
    """Plans that run (``last``), or do not run, the whole last cell. States are over (piece run?, site, first run?, hours, job)."""

    def __init__(self, windows: Windows, costs: Costs, time_h: Floats, *, last: bool, remember: bool = False) -> None:
        self.room_h, self.costs, self.last, self._short = windows.room_h, costs, last, windows.short
        self._most_short = int(windows.short.max())
        sites, jobs = costs.leaving_eur.shape
        self._at = np.arange(jobs)
        home = windows.jobs.home
        self._fresh = np.where(np.arange(sites)[:, None] == home, 0.0, costs.leaving_eur[home, self._at])
        # 1. How many full hours, and how long a piece, make up the time, with the first cell and without it.
        rest = time_h - np.stack([np.zeros(jobs), self.room_h[0]]) - (self.room_h[-1] if last else 0.0)
        self._full = np.floor(rest + _ROUNDING_H).astype(np.int64)
        self.piece_h = np.maximum(rest - self._full, 0.0)
        # 2. Forward over cells; what is remembered is the states before each.
        shape = (2, sites, 2, int(max(self._full.max(), 0)) + 1, jobs)
        running, paused = np.full(shape, np.inf), np.full(shape, np.inf)
        running[0, :, 1, 0] = self._fresh + costs.work_eur[0] * self.room_h[0]
        running[1, :, 0, 0] = np.where(
            self.piece_h[0] <= self.room_h[0] + _ROUNDING_H, self._fresh + costs.work_eur[0] * self.piece_h[0], np.inf
        )
        self.before: list[tuple[Floats, Floats]] = [(running, paused)]
        for cell in range(1, len(self.room_h) - 1):
            running, paused = self._step(cell, running, paused)
            if remember:
                self.before.append((running, paused))
        # 3. The last cell, and the least of what has run for the time.
        self._ends = self._end(running, paused)
        final = self._ends.min(axis=1)
        count = np.clip(self._full, 0, shape[3] - 1)
        found = np.stack([final[:, first, count[first], self._at] for first in (0, 1)], axis=1)
        found[0, self.piece_h > _ROUNDING_H] = np.inf
        found[:, self._full < 0] = np.inf
        self._found = found  # over (piece run?, first run?, job)
        self.eur: Floats = found.min(axis=(0, 1))

    def _enter(self, cell: int, running: Floats, paused: Floats) -> Floats:
        """Begin to run in the cell: again after a pause, after a movement, or for the first time."""
        moved = (np.minimum(running, paused) + self.costs.leaving_eur[:, None, None]).min(axis=1, keepdims=True)
        enter = np.minimum(paused, moved) + self.costs.again_eur[cell][:, None, None]
        enter[0, :, 0, 0] = np.minimum(enter[0, :, 0, 0], self._fresh)
        return enter

    def _step(self, cell: int, running: Floats, paused: Floats) -> tuple[Floats, Floats]:
        """A cell of a full hour: run it, run the piece of it at its end or its beginning, or pause."""
        enter = self._enter(cell, running, paused)
        work = self.costs.work_eur[cell][:, None, None]
        piece = work * self.piece_h[:, None]
        run = np.empty_like(running)
        run[:, :, :, 0] = np.inf
        np.add(np.minimum(running, enter)[:, :, :, :-1], work, out=run[:, :, :, 1:])
        np.minimum(run[1], enter[0] + piece, out=run[1])
        pause = np.minimum(running, paused)
        np.minimum(pause[1], running[0] + piece, out=pause[1])
        if cell <= self._most_short:
            absent = cell <= self._short
            return np.where(absent, running, run), np.where(absent, paused, pause)
        return run, pause

    def _end(self, running: Floats, paused: Floats) -> Floats:
        cell, work = len(self.room_h) - 1, self.costs.work_eur[-1][:, None, None]
        run = np.minimum(running, self._enter(cell, running, paused))
        if self.last:
            return run + work * self.room_h[-1]
        fits = (self.piece_h <= self.room_h[-1] + _ROUNDING_H)[:, None]
        ended = np.minimum(running, paused)
        np.minimum(ended[1], np.where(fits, run[0] + work * self.piece_h[:, None], np.inf), out=ended[1])
        return ended

    def write(self, course: Course, jobs: Ints) -> None:
        """The plans of some jobs, from their ends back to the arrivals."""
        best = self._found.reshape(4, -1)[:, jobs].argmin(axis=0)
        part, first = best // 2, best % 2
        full = np.clip(self._full[first, jobs], 0, self._ends.shape[3] - 1)
        site = self._ends[part, :, first, full, jobs].argmin(axis=1)
        begun, runs = np.isfinite(self.eur[jobs]), np.full(len(jobs), self.last)
        at = _At(job=jobs, first=first, part=part, site=site, full=full, runs=runs, begun=begun)
        for cell in range(len(self.room_h) - 1, 0, -1):
            at = self._back(cell, at, course)
        run_h = np.where(at.part == 0, self.room_h[0, jobs], self.piece_h[0, jobs])
        course.run_h[0, at.site, jobs] = np.where(at.begun, run_h, 0.0)

    def _back(self, cell: int, at: _At, course: Course) -> _At:
        """What was done in the cell and where the job was before it: the choice that gave the state its value, worked out again."""
        end, row = cell == len(self.room_h) - 1, np.arange(len(at.job))
        absent = cell <= self._short[at.job]
        room_h, piece_h = self.room_h[cell, at.job], self.piece_h[at.first, at.job]
        run_h = np.stack([room_h, piece_h, np.zeros_like(piece_h)])
        part = np.stack([at.part, np.zeros_like(at.part), at.part])
        full = np.stack([at.full - (not end), at.full, at.full])
        eur = self._origins(cell, at, part, full)
        eur += (self.costs.work_eur[cell, at.site, at.job] * run_h)[:, None]
        allowed = self._allowed(
            at, np.arange(eur.shape[1])[:, None], (piece_h <= room_h + _ROUNDING_H) if end else None
        )
        choice = np.where(allowed, eur, np.inf).reshape(3 * eur.shape[1], len(row)).argmin(axis=0)
        what, whence = choice // eur.shape[1], choice % eur.shape[1]
        course.run_h[cell, at.site, at.job] = np.where(at.begun & ~absent, run_h[what, row], 0.0)
        course.again[cell, at.site, at.job] = at.begun & ~absent & (whence >= _AGAIN)
        part, full = part[what, row], full[what, row]
        moved = whence > _AGAIN
        site = np.where(moved, whence - _AGAIN - 1, at.site)
        running, paused = (table[part, site, at.first, np.maximum(full, 0), at.job] for table in self.before[cell - 1])
        runs = (whence == _RUNNING) | moved & (running <= paused)
        begun = at.begun & (whence != _FRESH)
        return _At(
            job=at.job,
            first=at.first,
            part=np.where(absent, at.part, part),
            site=np.where(absent, at.site, site),
            full=np.where(absent, at.full, full),
            runs=runs,  # what follows on the first cell ran in it
            begun=np.where(absent, at.begun, begun),
        )

    @staticmethod
    def _allowed(at: _At, origin: Ints, fits: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
        """Which ways lead to where the job is, over (whole, piece or nothing; origin; job). ``fits``: the piece, in the last cell."""
        begins = np.where(at.runs, origin >= _FRESH, origin == _RUNNING)
        if fits is not None:
            begins = ~at.runs & fits & (origin != _PAUSED)
        return np.stack([at.runs & (origin != _PAUSED), (at.part == 1) & begins, ~at.runs & (origin < _FRESH)])

    def _origins(self, cell: int, at: _At, part: Ints, full: Ints) -> Floats:
        """What had been paid before the cell, over (what is done in it, origin, job)."""
        running, paused = (table[part, :, at.first, np.maximum(full, 0), at.job] for table in self.before[cell - 1])
        lies = np.moveaxis(np.minimum(running, paused), -1, 1)  # over (what, site, job)
        here = (slice(None), np.arange(len(at.job)), at.site)
        again = self.costs.again_eur[cell, at.site, at.job]
        nothing = (part == 0) & (at.first == 0) & (full == 0)
        fresh = np.where(nothing, self._fresh[at.site, at.job], np.inf)
        told = np.stack([running[here], paused[here], fresh, paused[here] + again], axis=1)
        found = np.concatenate((told, lies + self.costs.leaving_eur[:, at.job] + again), axis=1)
        return np.where((full < 0)[:, None], np.inf, found)
