"""What could make room at a site for a job of higher priority, and what that would cost.

In the order of what is done to it, the mildest first:

- what **leaves** anyhow (taken back, cancelled, or named for another job) or **queues** in vain makes room by itself, at no cost: the
  queue of the site lets the higher priority go first;
- what is **planned** for hours ahead is taken back and planned anew, if its own limit on waiting is kept, or it is preemptible;
- what **runs** and is preemptible may be stopped.

What it costs when a job makes room, in EUR like any placement: the energy of the work that has to be done again (what it ran, or the
restart where it keeps its work), the movement of its data if it can go on elsewhere at once, and the delay: that work, its grace
period, and where no other site has room now, until the job that it makes room for has ended.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from math import ceil, inf
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from services.cmo.core.kinds import Kinds
from services.cmo.core.ledger import SLOT_S, Room
from services.cmo.core.limits import done_s, limit_of
from services.cmo.core.sites import Shape
from solyx.events import DeviceGroup

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from services.cmo.core.expected import ExpectedUse
    from services.cmo.core.jobs import Job
    from services.cmo.core.kinds import Kind
    from services.cmo.core.ledger import Commitment, Ledger
    from services.cmo.core.outlook import Outlook
    from services.cmo.core.placing import Placer
    from services.cmo.core.sites import Site, Sites
    from services.cmo.model import Policy
    from solyx.events import JobSpec, Resources

    Ints: TypeAlias = NDArray[np.int64]

MOST = 256
"""Live placements of a site that are looked at, those of the lowest priority first."""
WHOLE = 1000  # a device that is not shared, in thousandths
_STARTING_S = 60.0  # what should have started less long ago than this may be about to
_LEAST_EUR = 1e-9  # nobody makes room for nothing: of sets that cost the same the smaller is taken


@dataclass(frozen=True, kw_only=True, slots=True)
class Yield:
    """One live placement that could make room."""

    job: Job
    spec: JobSpec
    commitment: Commitment
    queues: bool = False  # it should have started: the site is full for it
    planned: bool = False  # it is not to start yet
    done_s: float = 0.0  # the work that is kept when it makes room now
    eur: float = 0.0  # without the wait for the end of the job that it makes room for
    waits: bool = False  # it cannot go on elsewhere now
    delay_eur_per_h: float = 0.0
    latest_s: float = inf  # when it must go on at the latest, by its owner

    @property
    def leaves(self) -> bool:
        """It was taken back, or is about to be."""
        return self.job.withdrawn >= self.job.revision or self.job.cancel_requested

    def loss_eur(self, length_s: float) -> float:
        """What it costs if the job that it makes room for takes so long."""
        return self.eur + (self.delay_eur_per_h * length_s / SLOT_S if self.waits else 0.0)

    def misses(self, now_s: float, length_s: float) -> bool:
        """Whether its own limit is missed then."""
        return now_s + (length_s if self.waits else 0.0) > self.latest_s


class Bystanders:
    """Those of one site at one moment, with what they hold as columns."""

    def __init__(self, yields: list[Yield], below: int, width: int) -> None:
        self.yields, self.below, self.width = yields, below, width
        spans = [
            (index, span)
            for index, one in enumerate(yields)
            for site, span in one.commitment.spans
            if site is one.commitment.site
        ]
        self._owner = np.array([index for index, _ in spans], np.int64)
        figures = [(span.first, span.head, span.whole, span.tail) for _, span in spans]
        self._first, self._head, whole, self._tail = np.array(figures, np.int64).reshape(-1, 4).T[:, :, None]
        self._last = self._first + 1 + whole
        self._rows = np.array([one.commitment.row for one in yields], np.int64).reshape(-1, width)

    def holds(self, slots: Ints, columns: Ints) -> Ints:
        """What each holds × 3600, over (yield, pair of hour since the epoch and resource), as the ledger counts it."""
        weight = np.where(slots == self._first, self._head, 0)
        weight += np.where((slots > self._first) & (slots < self._last), SLOT_S, 0)
        weight += np.where(slots == self._last, self._tail, 0)
        held = np.zeros((len(self.yields), len(slots)), np.int64)
        np.add.at(held, self._owner, weight)
        return held * self._rows[:, columns]


class Yields:
    """Finds them, site by site; within one decision once."""

    def __init__(
        self, policy: Policy, sites: Sites, ledger: Ledger, outlook: Outlook, placer: Placer, use: ExpectedUse
    ) -> None:
        self._policy, self._sites, self._ledger, self._outlook = policy, sites, ledger, outlook
        self._placer, self._use, self._kinds = placer, use, Kinds(sites)
        self._elsewhere: dict[
            tuple[int, int, int], tuple[bool, float]
        ] = {}  # by kind, site and hours: may it; movement
        self._known: dict[str, Bystanders] = {}
        self._now_s = 0.0

    def forget(self) -> None:
        """What was found is true within one decision only, even if the next is at the same time."""
        self._elsewhere.clear()
        self._known.clear()

    def at(self, site: Site, priority: int, jobs: dict[str, Job], named: Iterable[str], now_s: float) -> Bystanders:
        """Who has a lower priority there and could make room; and those of any priority that are ``named`` to leave."""
        self._now_s = now_s
        known, width = self._known.get(site.name), self._ledger.free.shape[2]
        if known is None or known.below < priority or known.width != width:
            lower = islice(self._use.below(site.name, priority), MOST)
            found = (self._of(jobs.get(job_id), site) for job_id in dict.fromkeys((*lower, *named)))
            yields = [one for one in found if one is not None]
            known = self._known[site.name] = Bystanders(yields, priority, width)
        return known

    def _of(self, job: Job | None, site: Site) -> Yield | None:
        commitment = None if job is None else self._ledger.committed(job.job_id)
        if job is None or job.spec is None or commitment is None or commitment.site is not site:
            return None
        spec, starting_s = job.spec, max(_STARTING_S, self._policy.reaction_s)
        start_s = self._now_s if job.start_at is None else job.start_at.timestamp()
        queues = not job.started and start_s <= self._now_s - starting_s
        planned = not job.started and start_s > self._now_s + starting_s
        if queues or not (planned or spec.preemptible):  # it may be leaving all the same
            return Yield(job=job, spec=spec, commitment=commitment, queues=queues, eur=inf)
        return self._priced(job, spec, commitment, planned=planned)

    def _priced(self, job: Job, spec: JobSpec, commitment: Commitment, *, planned: bool) -> Yield:
        site, redo_s, grace_s = commitment.site, 0.0, 0.0
        kept_s = done_s(job, spec, self._now_s, self._policy.restart_s)
        if job.run_began_at is not None:
            ran_s = max(0.0, self._now_s - job.run_began_at.timestamp())
            grace_s = spec.grace_period_s
            redo_s = self._policy.restart_s if spec.suspendable else ran_s
        left_s = self._placer.left_s(job, spec, kept_s)
        kind = self._kinds.of(spec, job.ran_at)
        may_move, movement_eur = self._goes_on_elsewhere(kind, site, left_s)
        delay = self._policy.delay_of(spec)
        energy_eur = float(kind.power_mw[site.index]) * self._rate(spec, site) * redo_s / SLOT_S
        return Yield(
            job=job,
            spec=spec,
            commitment=commitment,
            planned=planned,
            done_s=kept_s,
            eur=_LEAST_EUR + energy_eur + movement_eur + delay * (redo_s + grace_s) / SLOT_S,
            waits=not may_move,
            delay_eur_per_h=delay,
            latest_s=limit_of(job, spec, left_s, kept_s).latest_s - grace_s,
        )

    def _rate(self, spec: JobSpec, site: Site) -> float:
        """EUR/MWh there now. Work that is done again is never a gain, whatever the price."""
        prices = self._outlook.prices([known.name for known in self._sites.all], self._now_s)
        if not prices.known[site.index]:
            return 0.0
        return max(0.0, float(prices.rates(spec.weights.carbon_eur_per_t, 1)[site.index, 0]))

    def _goes_on_elsewhere(self, kind: Kind, site: Site, left_s: float) -> tuple[bool, float]:
        """Whether another site has room for what is left of it now (rounded up to hours), and what its movement costs."""
        hours = ceil(left_s / SLOT_S)
        key = (id(kind), site.index, hours)
        known = self._elsewhere.get(key)
        if known is None:
            room = Room(self._ledger, kind.demand, hours * SLOT_S, self._now_s).starts(1)[:, 0] & kind.candidates
            room[site.index] = False
            eur = float(kind.movement_eur[room].min()) if room.any() else 0.0
            known = self._elsewhere[key] = bool(room.any()), eur
        return known


def pods_in_place_of(victim: JobSpec, spec: JobSpec) -> int:
    """How many pods of a job fit where those of the victim run, each in the place of one, on whatever nodes these are."""
    return victim.parallelism * _pods_in(victim.resources, spec.resources)


@lru_cache(maxsize=4096)
def _pods_in(freed: Resources, asked: Resources) -> int:
    groups = tuple(
        DeviceGroup(kind=device.kind, model=device.models[0] if len(device.models) == 1 else "", count=device.count)
        for device in freed.devices
        if device.share_milli == WHOLE  # what is left of a shared device is not known
    )
    return Shape(freed.cpu_milli, freed.memory_bytes, groups).pods(asked)
