"""Where and when a job runs that may pause and go on elsewhere: its plans, and the choice of one of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, inf
from typing import TYPE_CHECKING

import numpy as np

from services.cmo.core.arrivals import full
from services.cmo.core.costing import Work, least
from services.cmo.core.interruption import NOW, Plans, Task
from services.cmo.core.ledger import SLOT_S, Room
from services.cmo.core.lengths import MOST_WORK_H
from services.cmo.core.limits import limit_of
from solyx.events import PlacementReason

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from services.cmo.core.costing import Costing, Then
    from services.cmo.core.jobs import Job
    from services.cmo.core.kinds import Kind
    from services.cmo.core.ledger import Ledger, Stretch
    from services.cmo.core.lengths import Lengths
    from services.cmo.core.sites import Sites
    from services.cmo.model import Choice, Policy
    from solyx.events import JobSpec

_SHORTEST_S = SLOT_S  # what is not expected to take longer runs in one piece


@dataclass(frozen=True, slots=True)
class Course:
    """Where and when, as the ledger and a choice have it."""

    total_eur: float
    stretches: tuple[Stretch, ...]
    then: Then


class Courses:
    """All plans of one job."""

    def __init__(
        self,
        work: Work,
        costing: Costing,
        sites: Sites,
        make: Callable[[NDArray[np.bool_]], Plans],
        room: NDArray[np.bool_],
    ) -> None:
        """``make``: the plans for such room."""
        self._work, self._costing, self._sites = work, costing, sites
        self._make, self._room = make, room
        self._plans = plans = make(room)
        self._eur = np.concatenate((plans.now_eur[:, None], plans.later_eur), axis=1)
        self._eur += work.kind.movement_eur[:, None]
        self._eur[np.arange(self._eur.shape[1]) >= costing.prices.starts[:, None]] = inf
        if work.ready_s is not None:
            self._close(work.ready_s, room)

    def at(self, site: int, start: int) -> Course | None:
        """The best plan with this site and start; None: there is no room for it. What should have begun begins now."""
        column = max(start, NOW) - NOW
        eur = float(self._eur[site, column]) if column < self._eur.shape[1] else inf
        return None if eur == inf else Course(eur, *self._parts(site, column + NOW))

    def least(self) -> tuple[int, int, float]:
        """Site, start and EUR of the cheapest plan; infinite: there is none."""
        site, column = least(self._eur)
        return site, column + NOW, float(self._eur[site, column])

    def forbid(self, site: int, start: int) -> None:
        """Leave this one out."""
        self._eur[site, start - NOW] = inf

    def _bound_by(self, site: int, start: int) -> tuple[str, PlacementReason]:
        """Why the cheapest plan begins there and then, in words."""
        work = self._work
        reason = PlacementReason.ONLY_SITE if work.kind.only else PlacementReason.LEAST_COST
        if not self._room.all():
            wish = Courses(work, self._costing, self._sites, self._make, np.ones_like(self._room)).least()
            if wish[:2] != (site, start):
                begins_s = float(self._costing.starts_s(wish[1] - NOW + 1)[-1])
                return full(self._sites.all[wish[0]], begins_s), reason
        if work.limit.words and self._costing.is_last(start - NOW, work.limit.latest_s):
            return work.limit.words, PlacementReason.DEADLINE
        return work.kind.only, reason

    def best(self, *, told: bool = False) -> Choice | None:
        """The cheapest plan; None: there is none. ``told``: with the constraint that bound it."""
        site, start, total = self.least()
        if total == inf:
            return None
        work, (stretches, then) = self._work, self._parts(site, start)
        bound_by, reason = self._bound_by(site, start) if told else ("", PlacementReason.LEAST_COST)
        chosen = self._costing.choice(work.job, work.spec, work.kind, site, stretches, reason, bound_by, then)
        self.forbid(site, start)
        alternative = self._costing.second(work, self._eur)
        self._eur[site, start - NOW] = total
        return replace(chosen, alternative=alternative, total_eur=total)

    def _parts(self, site: int, start: int) -> tuple[tuple[Stretch, ...], Then]:
        """What the plan does at its first site, and what comes after that elsewhere."""
        runs = self._runs(site, start)
        away = next((index for index, (where, _) in enumerate(runs) if where != site), len(runs))
        then = tuple((self._sites.all[where].name, stretch) for where, stretch in runs[away:])
        return tuple(stretch for _, stretch in runs[:away]), then

    def _runs(self, site: int, start: int) -> tuple[tuple[int, Stretch], ...]:
        """A start now that waits for its data takes all that follows with it."""
        runs = self._plans.stretches(site, start)
        later_s = self._work.begins_s(site, self._costing.now_s) - self._costing.now_s if start == NOW else 0.0
        if later_s:
            return tuple((where, (begin_s + later_s, length_s)) for where, (begin_s, length_s) in runs)
        return runs

    def _close(self, ready_s: NDArray[np.float64], room: NDArray[np.bool_]) -> None:
        """No start before the data is there; one within this hour is put off until then, if that keeps limit and room."""
        starts_s = self._costing.starts_s(self._eur.shape[1])
        late = starts_s < ready_s[:, None]
        late[:, 0] &= (ready_s >= starts_s[0] // SLOT_S * SLOT_S + SLOT_S) | (self._eur[:, 0] == inf)
        self._eur[late] = inf
        now_s = self._costing.now_s
        for site in np.flatnonzero((ready_s > now_s) & (self._eur[:, 0] < inf)).tolist():
            later_h = (float(ready_s[site]) - now_s) / SLOT_S
            keeps = self._keeps_limit_and_room(self._runs(site, NOW), room)
            self._eur[site, 0] = self._eur[site, 0] + later_h * self._work.delay_eur_per_h if keeps else inf

    def _keeps_limit_and_room(self, runs: tuple[tuple[int, Stretch], ...], room: NDArray[np.bool_]) -> bool:
        now_s, end_s = self._costing.now_s, sum(runs[-1][1])
        waits_s = end_s - now_s - sum(length_s for _, (_, length_s) in runs)
        if waits_s > self._work.limit.latest_s - now_s:
            return False
        hour = int(now_s // SLOT_S)
        spans = (
            (where, int(begin_s // SLOT_S), ceil((begin_s + length_s) / SLOT_S)) for where, (begin_s, length_s) in runs
        )
        return all(bool(room[where, max(first - hour, 0) : end - hour].all()) for where, first, end in spans)


class Pausing:
    """Makes the plans of a job against the ledger as it is."""

    def __init__(self, policy: Policy, sites: Sites, ledger: Ledger, lengths: Lengths, costing: Costing) -> None:
        self._policy, self._sites, self._ledger = policy, sites, ledger
        self._lengths, self._costing = lengths, costing

    def courses(
        self,
        job: Job,
        spec: JobSpec,
        kind: Kind,
        usable: NDArray[np.bool_],
        *,
        done_s: float,
        running: int | None = None,
        ready_s: NDArray[np.float64] | None = None,
    ) -> Courses | None:
        """All plans, at the ``usable`` sites; None: it is too short to pause, or keeps nothing when it does.

        ``done_s``: the work done so far. ``running``: the site where it runs now. ``ready_s``: from when on its data is there, by site.
        """
        if not spec.suspendable or not usable.any():
            return None
        ahead = self._lengths.ahead(spec.duration_estimate_s, done_s)
        if ahead.mean_s <= _SHORTEST_S:
            return None
        now_s, horizon_h = self._costing.now_s, self._policy.horizon_h
        limit = limit_of(job, spec, ahead.mean_s, done_s)
        work = Work(job, spec, kind, usable, ahead.mean_s, limit, self._policy.delay_of(spec), ready_s)
        task = Task(
            ahead=ahead,
            now_s=now_s,
            slack_h=min((limit.latest_s - now_s) / SLOT_S, horizon_h - 1.0),
            delay_eur_per_h=work.delay_eur_per_h,
            restart_h=self._policy.restart_s / SLOT_S,
            begun=done_s > 0.0,
            running=running,
        )
        hours = ahead.hours + task.starts
        rates = self._costing.rates(spec.weights.carbon_eur_per_t, horizon_h + MOST_WORK_H + 1)
        rates = rates[:, :hours] * kind.power_mw[:, None]
        rates[~usable] = inf
        room = Room(self._ledger, kind.demand, work.length_s, now_s).hours(hours)

        def make(room: NDArray[np.bool_]) -> Plans:
            return Plans(task, rates, room, kind.leaving_eur)

        return Courses(work, self._costing, self._sites, make, room)
