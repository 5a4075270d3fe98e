"""How long data takes between sites, as the network told it; and when a movement that is decided now would be over.

The simple algorithm: a movement takes, on every link of its pair's path, one rate from when it begins until it is over. What was promised
to others is theirs until then. A new one begins now or when something that was promised ends or begins, at the highest rate that all of
its links have free until it is over; of these beginnings the one is taken with which the data is there first.

A placement says from when and until when its data moves (``data_from``, ``data_at``), so what is promised is read off the records of the
live placements, and a recovered core knows the same. What is withdrawn or over before its data has arrived gives back its share; those
behind it keep what they were promised.

What a link has free is what the latest route over it told: a route that is told for one pair counts for all that share links with it. A
pair whose links nobody told of has a pipe of its own, as wide as its headroom. A pair that nobody told of has no limit; one without
a path carries nothing.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, inf
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from services.cmo.core.bandwidth import ALL_BPS, Promised, first_over, steps, whole_bps

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from services.cmo.core.jobs import Job
    from services.cmo.core.sites import Site
    from solyx.events import DataSet, JobSpec, RouteDecided

    Floats: TypeAlias = NDArray[np.float64]
    Pair: TypeAlias = tuple[str, str]
    Link: TypeAlias = tuple[str, ...]  # the nodes that it leaves and enters; of a pipe of its own: a word and the pair

LEAST_BPS = (
    1_000_000  # a link that is full of other traffic is taken to carry this: it is not told again when it empties
)
LONGEST_S = 366 * 86400.0  # what would take longer is not moved, and no queue is looked at beyond that
_GIB = 1024**3
_OWN = "pair"


@dataclass(frozen=True, slots=True)
class _Promise:
    """What one live placement takes of the links of its pair."""

    revision: int
    pair: Pair
    begin_s: float
    until_s: float
    bps: int


class Wan:
    """The latest route of each pair and the movements on them. ``changes`` grows when a pair carries more or less than before."""

    def __init__(self) -> None:
        self.changes = 0
        self._routes: dict[Pair, RouteDecided] = {}
        self._pairs: defaultdict[Link, set[Pair]] = defaultdict(set)  # whose paths lead over it
        self._free_bps: dict[Link, int] = {}
        self._promises: dict[str, _Promise] = {}  # by job
        self._jobs: defaultdict[Pair, set[str]] = defaultdict(set)  # who has a promise
        self._promised: defaultdict[Link, Promised] = defaultdict(Promised)
        self._steps: dict[Pair, tuple[Floats, Floats]] = {}  # as of the moment below
        self._now_s = 0.0

    def fold(self, event: RouteDecided) -> None:
        """The latest revision of a pair counts."""
        pair = event.source, event.target
        known = self._routes.get(pair)
        if known is not None and event.revision <= known.revision:
            return
        promises = [self._promises[job_id] for job_id in self._jobs[pair]]
        for promise in promises:
            self._take(promise, -promise.bps)
        before = {} if known is None else _links(known)
        after = _links(event)
        self._routes[pair] = event
        for link in before:
            self._pairs[link].discard(pair)
        for link in after:
            self._pairs[link].add(pair)
        if known is None or known.path != event.path:
            self.changes += 1
        for link in {**before, **after}:
            self._look_at(link)
        for promise in promises:
            self._take(promise, promise.bps)
        self._steps.clear()

    def _look_at(self, link: Link) -> None:
        """What it has free, by the latest route over it."""
        pairs = self._pairs[link]
        if not pairs:
            for known in (self._pairs, self._free_bps, self._promised):
                known.pop(link, None)
            return
        latest = max(pairs, key=lambda pair: (self._routes[pair].decided_at, pair))
        free_bps = max(ceil(_links(self._routes[latest])[link]), LEAST_BPS)
        if self._free_bps.get(link) != free_bps:
            self._free_bps[link] = free_bps
            self.changes += 1

    def _take(self, promise: _Promise, bps: int) -> None:
        route = self._routes.get(promise.pair)
        for link in _links(route) if route is not None else ():
            self._promised[link].add(promise.begin_s, promise.until_s, bps)
        self._steps.clear()

    def transfer_s(self, data: DataSet, to: str) -> float:
        """What moving it takes if nothing else moves; infinite: there is no way."""
        route = self._routes.get((data.site, to))
        if route is None or data.site == to or not data.size_bytes:
            return 0.0
        if not route.path:
            return inf
        seconds = data.size_bytes * 8.0 / min(self._free_bps[link] for link in _links(route))
        return seconds if seconds <= LONGEST_S else inf

    def watch(self, job: Job, spec: JobSpec) -> None:
        """A live placement: if it moves data, its share is taken until then, or until it is forgotten."""
        source = job.ran_at or (spec.data.site if spec.data is not None else None)
        if job.data_at is None or spec.data is None or source is None or source == job.site:
            return
        known = self._promises.get(job.job_id)
        if known is not None and known.revision == job.revision:
            return
        self.forget(job.job_id)
        if not job.stays:
            return
        until_s, begin_s, bps = job.data_at.timestamp(), -inf, ALL_BPS  # who does not say since when has it all
        if job.data_from is not None:
            begin_s = job.data_from.timestamp()
            bps = whole_bps(spec.data.size_bytes * 8.0, begin_s, until_s)
        promise = self._promises[job.job_id] = _Promise(job.revision, (source, job.site), begin_s, until_s, bps)
        self._jobs[promise.pair].add(job.job_id)
        self._take(promise, promise.bps)

    def forget(self, job_id: str) -> None:
        """It is over, or taken back."""
        promise = self._promises.pop(job_id, None)
        if promise is not None:
            self._jobs[promise.pair].discard(job_id)
            self._take(promise, -promise.bps)

    def ready_s(self, data: DataSet, transfer_s: Floats, sites: list[Site], job: Job, now_s: float) -> Floats | None:
        """From when on the job finds its data, by site, if its movement is decided now; None: everywhere at once."""
        ready: Floats = np.full(len(sites), now_s)
        for index in np.flatnonzero(transfer_s).tolist():
            name = sites[index].name
            until_s = inf if transfer_s[index] == inf else self.movement(data, name, job, now_s)[1]
            ready[index] = min(until_s, _promised_s(job, name, now_s))
        return ready if (ready > now_s).any() else None

    def movement(self, data: DataSet, to: str, job: Job, now_s: float) -> tuple[float, float]:
        """When it begins and is over, if it is decided now; a promise to the job itself does not stand in its way."""
        own = self._promises.get(job.job_id)
        if own is not None:
            self._take(own, -own.bps)
        begin_s, until_s = first_over(*self._free((data.site, to), now_s), data.size_bytes * 8.0)
        if own is not None:
            self._take(own, own.bps)
        until_s = min(float(ceil(until_s)), now_s + LONGEST_S)
        return min(begin_s, until_s), until_s

    def _free(self, pair: Pair, now_s: float) -> tuple[Floats, Floats]:
        """What the path of the pair has free for one more movement, from now on."""
        if now_s != self._now_s:
            self._now_s = now_s
            self._steps.clear()
        known = self._steps.get(pair)
        if known is None:
            links = [(self._free_bps[link], self._promised[link]) for link in _links(self._routes[pair])]
            known = self._steps[pair] = steps(links, now_s)
        return known


def _links(route: RouteDecided) -> dict[Link, float]:
    """The links of its path and what they were told to have free; a pipe of its own where that was not told."""
    hops = list(pairwise(route.path))
    if not route.path:
        return {}
    if hops and len(hops) == len(route.free_bps):
        return dict(zip(hops, route.free_bps, strict=True))
    return {(_OWN, route.source, route.target): route.headroom_bps}


def _promised_s(job: Job, site: str, now_s: float) -> float:
    """From when on the data is at the job's present site by what was decided; infinite: nothing was, or it was taken back before.

    A placement that was decided when nobody had told of the pair keeps its start.
    """
    if job.site != site:
        return inf
    there = job.data_at or (job.start_at if job.stays else None)
    if there is None:
        return inf
    there_s = max(there.timestamp(), now_s)
    return there_s if job.stays or there_s == now_s else inf


def no_way(data: DataSet, to: str) -> str:
    """The pair in words."""
    return f"no path from {data.site}, where its data lies, to {to}"


def sized(data: DataSet) -> str:
    """How much there is to move, and from where."""
    return f"{data.size_bytes / _GIB:.3g} GiB from {data.site}"
