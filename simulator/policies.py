"""The baselines, each small enough to read: what is decided about a job when it arrives, from what is known then.

All of them weigh the same thing, the price of energy with carbon at the run's carbon price ("rate", EUR/MWh), so that they are
compared on how they decide and not on what they want. GAIA's policies (Hanafy et al., "Going Green for Less Green", ASPLOS 2024,
§4) and the threshold and suspend-resume policies shift in time only and stay at home, as published; length classes and
waiting limits are GAIA's: short jobs (≤ 2 h) may wait 6 h, long ones 24 h, never longer than their owner allows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from solyx.energy import HOUR_S

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from simulator.knowledge import Outlook
    from simulator.workload import Job
    from simulator.world import World

    Floats = NDArray[np.float64]

_SHORT_S = 2 * HOUR_S
_WAIT_SHORT_S, _WAIT_LONG_S = 6 * HOUR_S, 24 * HOUR_S
_LOOK_BACK_H = 168
_CHEAP_SHARE = 0.4


@dataclass(frozen=True, slots=True)
class Run:
    """Run at ``site`` in these spans, each (start, end); the last one until the work is done."""

    site: int
    spans: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class AskAgain:
    """Nothing yet; ask again then."""

    at_s: float


class Baseline(Protocol):
    """A policy of the simple engine."""

    def plan(self, job: Job, now_s: float) -> Run | AskAgain:
        """What to do with a job that has arrived or whose time to be asked again has come."""
        ...

    def ended(self, job: Job) -> None:
        """A job is done: its true length is known from now on."""
        ...


def at_once(site: int, now_s: float) -> Run:
    """Now, at that site."""
    return Run(site, ((now_s, np.inf),))


class _Known:
    """What the policies look at: the outlook, and the sites' power and egress."""

    def __init__(self, outlook: Outlook, world: World) -> None:
        self.outlook, self.world = outlook, world

    def ended(self, job: Job) -> None:
        """Most policies learn nothing from it."""


class AtHome(_Known):
    """At once in the home site (``Job.base``): what happens where nobody decides."""

    def plan(self, job: Job, now_s: float) -> Run:
        return at_once(job.base, now_s)


class CheapestNow(_Known):
    """At once at the site that is cheapest for the job at this hour's rate, with the movement of its data."""

    def plan(self, job: Job, now_s: float) -> Run:
        power_kw = self.world.power_kw(np.array([job.cores]), np.array([job.gpus]))[:, 0]
        rate = np.array([self.outlook.prefix(site, now_s, 2)[1] for site in range(len(power_kw))])
        cost = power_kw * rate * (job.spec.duration_estimate_s / HOUR_S) / 1000.0
        cost[np.arange(len(cost)) != job.home] += job.data_gib * self.world.egress_eur_per_gib[job.home]
        return at_once(min(job.sites, key=cost.__getitem__), now_s)


class BestOnAverage(_Known):
    """Always at once at the site of the least rate over the whole span: spatial shifting without looking at the hour.

    It knows that average beforehand, which no real policy does. Movement is not weighed: everything goes there.
    """

    def __init__(self, outlook: Outlook, world: World, carbon_eur_per_t: float) -> None:
        super().__init__(outlook, world)
        power_kw = world.power_kw(np.ones(1), np.zeros(1))[:, 0]
        self._rate = world.weighted(carbon_eur_per_t).mean(axis=1) * power_kw

    def plan(self, job: Job, now_s: float) -> Run:
        return at_once(min(job.sites, key=self._rate.__getitem__), now_s)


class Threshold(_Known):
    """At home once the rate is among the cheapest 40 % of the last week, at the latest when the wait runs out."""

    def __init__(self, outlook: Outlook, world: World) -> None:
        super().__init__(outlook, world)
        self._bounds: dict[int, tuple[int, float]] = {}

    def plan(self, job: Job, now_s: float) -> Run | AskAgain:
        rate = float(self.outlook.prefix(job.base, now_s, 2)[1])
        turn_s = (now_s // HOUR_S + 1) * HOUR_S
        if rate <= self._bound(job.base, now_s) or turn_s > _latest_s(job):
            return at_once(job.base, now_s)
        return AskAgain(turn_s)

    def _bound(self, site: int, now_s: float) -> float:
        day = int(now_s // (24 * HOUR_S))
        known = self._bounds.get(site)
        if known is None or known[0] != day:
            past = self.outlook.past(site, now_s, _LOOK_BACK_H)
            bound = float(np.quantile(past, _CHEAP_SHARE)) if len(past) else np.inf
            known = self._bounds[site] = (day, bound)
        return known[1]


class _Gaia(_Known):
    """The two GAIA policies: they know a job's queue (short or long) and the average length of the queue's jobs so far."""

    def __init__(self, outlook: Outlook, world: World) -> None:
        super().__init__(outlook, world)
        self._seen = {
            True: [1, HOUR_S],
            False: [1, 4 * HOUR_S],
        }  # short?: jobs and seconds; one guess each to begin with

    def ended(self, job: Job) -> None:
        seen = self._seen[_is_short(job)]
        seen[0] += 1
        seen[1] += job.true_duration_s

    def mean_length_s(self, job: Job) -> float:
        """Of the job's queue."""
        count, seconds = self._seen[_is_short(job)]
        return seconds / count

    def starts(self, job: Job, now_s: float) -> Floats:
        """Now, and every hour from now in the waiting limit."""
        limit_s = min(_WAIT_SHORT_S if _is_short(job) else _WAIT_LONG_S, max(job.limit_s - now_s, 0.0))
        return (now_s + np.arange(int(limit_s // HOUR_S) + 1) * HOUR_S).astype(np.float64)


class LowestWindow(_Gaia):
    """Start where a window of the queue's average length is cheapest (GAIA §4, "Lowest carbon window")."""

    def plan(self, job: Job, now_s: float) -> Run:
        starts = self.starts(job, now_s)
        costs = self.outlook.between(job.base, now_s, starts, self.mean_length_s(job))
        return at_once(job.base, float(starts[costs.argmin()]))


class CarbonTime(_Gaia):
    """Start where what is saved per hour of completion time is most (GAIA §4, "Carbon-Time"): (C(now) − C(t)) ÷ (t + length)."""

    def plan(self, job: Job, now_s: float) -> Run:
        starts, length_s = self.starts(job, now_s), self.mean_length_s(job)
        costs = self.outlook.between(job.base, now_s, starts, length_s)
        saved = (costs[0] - costs) / (starts - now_s + length_s)
        return at_once(job.base, float(starts[saved.argmax()]))


class SuspendResume(_Known):
    """Run in the cheapest hours of the job's estimate and its maximum delay, suspended between them, at home.

    "Wait awhile" (Wiesner et al., "Let's wait awhile", Middleware 2021, §4.3: interrupting) with the estimate as the length;
    what the estimate misses is run at the end without a pause.
    """

    def plan(self, job: Job, now_s: float) -> Run:
        estimate_s = job.spec.duration_estimate_s
        limit_s = min(job.limit_s - now_s, _WAIT_LONG_S)
        if not job.spec.suspendable or limit_s < HOUR_S:
            return at_once(job.base, now_s)
        hours = int((estimate_s + limit_s) // HOUR_S)
        edges = np.concatenate(([now_s], (now_s // HOUR_S + 1 + np.arange(hours)) * HOUR_S))
        length_s = np.diff(edges)
        rate = np.diff(self.outlook.prefix(job.base, now_s, hours + 1))[: len(length_s)]
        order = np.lexsort((np.arange(len(rate)), rate))
        needed = int(np.searchsorted(np.cumsum(length_s[order]), estimate_s)) + 1
        chosen = np.sort(order[:needed])
        late = job.limit_s < edges[chosen[0]]
        return at_once(job.base, now_s) if late else Run(job.base, _spans(edges, chosen))


def _spans(edges: Floats, hours: NDArray[np.int64]) -> tuple[tuple[float, float], ...]:
    """Neighbouring hours joined; the last span is open."""
    spans: list[tuple[float, float]] = []
    for hour in hours.tolist():
        if spans and spans[-1][1] == edges[hour]:
            spans[-1] = (spans[-1][0], float(edges[hour + 1]))
        else:
            spans.append((float(edges[hour]), float(edges[hour + 1])))
    spans[-1] = (spans[-1][0], np.inf)
    return tuple(spans)


def _is_short(job: Job) -> bool:
    return job.spec.duration_estimate_s <= _SHORT_S


def _latest_s(job: Job) -> float:
    return min(job.limit_s, job.arrival_s + _WAIT_LONG_S)


BASELINES = (
    "at-home",
    "cheapest-now",
    "best-on-average",
    "threshold",
    "lowest-window",
    "carbon-time",
    "suspend-resume",
)


def baseline(name: str, outlook: Outlook, world: World, carbon_eur_per_t: float) -> Baseline:
    """The baseline of that name.

    Raises:
        KeyError: there is none.
    """
    if name == "best-on-average":
        return BestOnAverage(outlook, world, carbon_eur_per_t)
    simple: dict[str, type[AtHome | CheapestNow | Threshold | LowestWindow | CarbonTime | SuspendResume]] = {
        "at-home": AtHome,
        "cheapest-now": CheapestNow,
        "threshold": Threshold,
        "lowest-window": LowestWindow,
        "carbon-time": CarbonTime,
        "suspend-resume": SuspendResume,
    }
    return simple[name](outlook, world)
