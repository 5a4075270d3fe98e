"""The least expected cost of a job that may pause, while nobody knows how long it takes.

The simple algorithm: go through all ways to run in some of the hours to come and to pause in the others, add up for each hour what it
costs times the probability that the job still runs then, and take the least. Here that is a dynamic program (Bertsekas, "Dynamic
Programming and Optimal Control", vol. 1, §1.3) at all sites at once, backwards over the hours of work: in the hour with n hours of work
behind it and p hours of pause, the job runs on, or it pauses until a later hour. To pause until the best later hour is a running
minimum over p, so an hour of work takes a few array operations, whatever the pauses.

Where the length is known this is the cheapest set of hours with their restarts ("wait awhile", Wiesner et al., "Let's wait awhile",
Middleware 2021, §4.3: interrupting workloads). Where it is not, an hour far ahead counts less, for the job may be over by then: a job
that may end any minute pauses for less than one that will surely run all day.

A restart repeats some work; an hour's pause costs an hour's delay of the end, if the job is not over by then.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from services.cmo.core.ledger import SLOT_S

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from services.cmo.core.ledger import Stretch
    from services.cmo.core.lengths import Ahead

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]

NOW = -1
"""The start that is now; start k is the k-th full hour from now, the first being 0."""
_DAY_H = 24
_ROUNDING_H = 1e-6
_CLOSED = 1e15  # EUR; of what cannot be
_POSSIBLE = 1e9  # EUR; above it there is something in it that cannot be


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """What is to be done, seen from now."""

    ahead: Ahead
    now_s: float
    slack_h: float  # how long it may not run, in all
    delay_eur_per_h: float
    restart_h: float  # work repeated after a pause
    begun: bool  # work was done: the next start is a restart
    running: int | None = None  # the site where it runs now: going on there is no restart
    pauses: bool = True  # if not, and it has not begun, it runs in one piece

    @property
    def turn_h(self) -> float:
        """What is left of the present hour."""
        return 1.0 - self.now_s % SLOT_S / SLOT_S

    @property
    def starts(self) -> int:
        """Full hours at which it may start: at least one is looked at, though it may be too late."""
        return 1 + int(max(0.0, self.slack_h))


class Plans:
    """The best plan for each site and start."""

    now_eur: Floats  # of running from now on, by site; ``inf`` where it cannot
    later_eur: Floats  # over (site, start); ``inf`` where it cannot

    def __init__(self, task: Task, rates: Floats, room: Bools, leaving_eur: Floats) -> None:
        """Makes them.

        ``rates``: EUR for an hour of work over (site, hour from now), for ``task.ahead.hours + task.starts`` hours; infinite where it may
        never run. ``room``: whether the job fits, over the same: in hours in which it is expected to run it must.
        ``leaving_eur``: of moving its data away, by site.
        """
        self._task, self._hours, self._starts = task, task.ahead.hours, task.starts
        hours, starts = self._hours, self._starts
        # 1. How much is done in each hour of work and how probable it is that the job is not over before it; for a plan that
        #    begins with a full hour, and for one that begins with what is left of this one.
        done_h, alive = _by_hour(task)
        self._mean_h = task.ahead.mean_s / SLOT_S
        # 2. What each hour of work costs after so many pauses, over (hour of work, how it began, site, pauses). Pauses are in
        #    descending order throughout: the best of all later hours is a running minimum then.
        rates = np.minimum(rates, _CLOSED)
        rate = _by_work(rates, hours, starts)[:, :, None]
        closed = rates
        if not room.all():
            closed = np.where(room, rates, _CLOSED)
            firm = np.arange(hours)[:, None] < self._mean_h - _ROUNDING_H - np.array([0.0, task.turn_h])
            rate = np.where(firm[:, None, :, None], _by_work(closed, hours, starts)[:, :, None], rate)
        lost = np.maximum(rate, 0.0) + task.delay_eur_per_h  # nobody restarts to be paid for it
        # All that belongs to an hour lies in one piece: that is faster.
        self._run, self._restart, self._again = np.empty((3, hours, len(rates), 2, starts))
        np.multiply(lost, (alive[:-1] * task.restart_h)[:, None, :, None], out=self._restart)
        if not task.pauses:
            self._restart += _CLOSED
        # Pauses delay the end: those before an hour are counted with it so far as the job may be over by the next.
        tardy = (alive[:-1] - alive[1:])[:, :, None] * (task.delay_eur_per_h * np.arange(starts - 1.0, -1.0, -1.0))
        np.multiply((done_h[1:] - done_h[:-1])[:, None, :, None], rate, out=self._run)
        self._run += tardy[:, None]
        # 3. What lies ahead after the last of these hours, and from there backwards.
        last = rates[:, max(0, hours + starts - _DAY_H) : hours + starts].mean(axis=1)
        ahead_eur = np.empty((len(rates), 2, starts))
        ahead_eur[:] = ((self._mean_h - done_h[-1]) * last[:, None])[:, :, None]
        in_time = int(max(0.0, task.slack_h - task.turn_h + 1.0))
        ahead_eur[:, 0, : starts - in_time] = _CLOSED
        self._backwards(ahead_eur, alive[:-1, None, :, None] * leaving_eur[:, None, None])
        # 4. The first start.
        first = self._run[0, :, 0] + self._restart[0, :, 0] if task.begun else self._run[0, :, 0]
        later = first[:, ::-1] + task.delay_eur_per_h * task.turn_h
        self.later_eur = np.where(later < _POSSIBLE, later, np.inf)
        lost_h = np.full(len(rates), task.restart_h if task.begun else 0.0)
        rate_now = closed[:, 0].copy()
        if task.running is not None:
            lost_h[task.running], rate_now[task.running] = 0.0, rates[task.running, 0]
        now = (
            done_h[0, 1] * rate_now + lost_h * (np.maximum(rate_now, 0.0) + task.delay_eur_per_h) + ahead_eur[:, 1, -1]
        )
        self.now_eur = np.where(now < _POSSIBLE, now, np.inf)

    def _backwards(self, ahead_eur: Floats, leaving: Floats) -> None:
        """What lies ahead of a job that runs, over (site, how it began, pauses), from the last hour of work to the first; in place."""
        least, moved = np.empty_like(ahead_eur[0]), np.empty_like(ahead_eur)
        hours = (self._run, self._restart, self._again, leaving)
        for run, restart, again, leave in zip(*(of[::-1] for of in hours), strict=True):
            np.add(run, ahead_eur, out=run)
            np.add(run, restart, out=again)  # as `_next` does, which finds the same figure where a move gains nothing
            np.minimum.reduce(again, axis=0, out=least)
            np.add(least, leave, out=moved)
            np.minimum(again, moved, out=again)
            np.minimum.accumulate(again, axis=2, out=ahead_eur)
            np.minimum(ahead_eur, run, out=ahead_eur)

    def stretches(self, site: int, start: int, work_s: float | None = None) -> tuple[tuple[int, Stretch], ...]:
        """Where and when the best plan with this site and start runs, until ``work_s`` is done; None: the work that is expected."""
        turn_s = (self._task.now_s // SLOT_S + 1.0) * SLOT_S
        left_s = self._mean_h * SLOT_S if work_s is None else work_s
        joined: list[tuple[int, Stretch]] = []

        def run(begin_s: float, length_s: float) -> None:
            if joined and joined[-1][0] == site and abs(sum(joined[-1][1]) - begin_s) < 1.0:
                joined[-1] = (site, (joined[-1][1][0], joined[-1][1][1] + length_s))
            else:
                joined.append((site, (begin_s, length_s)))

        ladder, paused, hour = 0, start, 0
        if start == NOW:
            ladder, paused = 1, 0
            length_s = min(left_s, self._task.turn_h * SLOT_S)
            run(self._task.now_s, length_s)
            left_s -= length_s
        while left_s > 1.0:
            if (start == NOW or hour) and hour < self._hours:
                site, paused = self._next(ladder, site, hour, paused)
            length_s = left_s if hour >= self._hours else min(left_s, SLOT_S)
            run(turn_s + (hour + paused) * SLOT_S, length_s)
            left_s -= length_s
            hour += 1
        return tuple(joined)

    def _next(self, ladder: int, site: int, hour: int, paused: int) -> tuple[int, int]:
        """Where this hour of work is done, and the pauses before it: here and ``paused`` if it runs on."""
        column = self._starts - 1 - paused
        again = self._again[hour, site, ladder, column::-1]
        best = int(again.argmin())
        if self._run[hour, site, ladder, column] <= again[best]:
            return site, paused
        paused, column = paused + best, column - best
        restart = self._run[hour, :, ladder, column] + self._restart[hour, :, ladder, column]
        return site if restart[site] <= again[best] else int(restart.argmin()), paused


def _by_hour(task: Task) -> tuple[Floats, Floats]:
    """Over (hour of work, how it began): what is done before it, h; how probable it is that the job is not over by then.

    With a last row for the end of the last hour: what comes after is not planned, and the job counts as over.
    """
    whole_s, still = task.ahead.by_hour
    done_s, alive = np.empty((len(whole_s), 2)), np.empty((len(whole_s), 2))
    spans_s: Floats = (np.arange(len(whole_s), dtype=np.float64) + task.turn_h) * SLOT_S
    done_s[:, 0], alive[:, 0] = whole_s, still
    done_s[:, 1], alive[:, 1] = task.ahead.after(spans_s)
    alive[-1] = 0.0
    return done_s / SLOT_S, alive


def _by_work(rates: Floats, hours: int, starts: int) -> Floats:
    """Rates over (hour of work, site, pauses): hour n after p pauses is the (n + p)-th full hour from now; the most pauses first."""
    return rates.take(_slots(hours, starts), axis=1).transpose(1, 0, 2)


@lru_cache(maxsize=4096)
def _slots(hours: int, starts: int) -> NDArray[np.int64]:
    return 1 + np.arange(hours)[:, None] + np.arange(starts)[::-1]
