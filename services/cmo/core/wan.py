"""How long data takes between sites, as the network told it; and when a movement that is decided now would be over.

The simple algorithm: the movements between a pair of sites follow each other through a pipe of the pair's headroom. A new one begins
when the last that was promised is over, and takes its size ÷ the headroom. A placement says until when its data is under way
(``data_at``), so what is promised is read off the records of the live placements, and a recovered core knows the same. What is
withdrawn or over before its data has arrived gives back its turn if it is the last; those behind it keep theirs.

A pair that nobody told of has no limit; one without a path carries nothing.
"""

from __future__ import annotations

from heapq import heappop, heappush
from math import ceil, inf
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from services.cmo.core.jobs import Job
    from services.cmo.core.sites import Site
    from solyx.events import DataSet, JobSpec, RouteDecided

    Floats: TypeAlias = NDArray[np.float64]
    Pair: TypeAlias = tuple[str, str]
    Promise: TypeAlias = tuple[float, str, int]  # minus the time when it is over, job, revision

LEAST_BPS = 1e6  # a path that was full when it was chosen is taken to carry this: it is not told again when it empties
LONGEST_S = 366 * 86400.0  # what would take longer is not moved, and no queue is looked at beyond that
_GIB = 1024**3


class Wan:
    """The latest route of each pair and the movements on it. ``changes`` grows when a pair carries more or less than before."""

    def __init__(self) -> None:
        self.changes = 0
        self._routes: dict[Pair, RouteDecided] = {}
        self._promises: dict[Pair, list[Promise]] = {}  # a heap each: the last to be over first
        self._moving: dict[str, tuple[Job, int]] = {}  # who has a promise, under which revision

    def fold(self, event: RouteDecided) -> None:
        """The latest revision of a pair counts."""
        pair = event.source, event.target
        known = self._routes.get(pair)
        if known is not None and event.revision <= known.revision:
            return
        self._routes[pair] = event
        if known is None or _carries_bps(known) != _carries_bps(event):
            self.changes += 1

    def transfer_s(self, data: DataSet, to: str) -> float:
        """What moving it takes if nothing else moves; infinite: there is no way."""
        route = self._routes.get((data.site, to))
        if route is None or data.site == to or not data.size_bytes:
            return 0.0
        carries_bps = _carries_bps(route)
        seconds = data.size_bytes * 8.0 / carries_bps if carries_bps else inf
        return seconds if seconds <= LONGEST_S else inf

    def watch(self, job: Job, spec: JobSpec) -> None:
        """A live placement: if it moves data, its turn is taken until then."""
        source = job.ran_at or (spec.data.site if spec.data is not None else None)
        if job.data_at is None or source is None or source == job.site:
            return
        known, revision = self._moving.get(job.job_id, (None, 0))
        if known is not job or revision != job.revision:
            self._moving[job.job_id] = job, job.revision
            promises = self._promises.setdefault((source, job.site), [])
            heappush(promises, (-job.data_at.timestamp(), job.job_id, job.revision))

    def forget(self, job_id: str) -> None:
        """It is over."""
        self._moving.pop(job_id, None)

    def ready_s(self, data: DataSet, transfer_s: Floats, sites: list[Site], job: Job, now_s: float) -> Floats | None:
        """From when on the job finds its data, by site, if its movement is decided now; None: everywhere at once."""
        ready: Floats = np.full(len(sites), now_s)
        for index in np.flatnonzero(transfer_s).tolist():
            name, takes_s = sites[index].name, float(transfer_s[index])
            if takes_s < inf:
                begin_s = self._free_s((data.site, name), job, now_s)
                takes_s = min(ceil(begin_s + takes_s) - now_s, LONGEST_S)
            ready[index] = min(now_s + takes_s, _promised_s(job, name, now_s))
        return ready if (ready > now_s).any() else None

    def _free_s(self, pair: Pair, job: Job, now_s: float) -> float:
        """When what was promised to others is over."""
        promises = self._promises.get(pair)
        if not promises:
            return now_s
        own: list[Promise] = []
        while promises and not (self._holds(promises[0], now_s) and promises[0][1] != job.job_id):
            promise = heappop(promises)
            if self._holds(promise, now_s):
                own.append(promise)
            elif self._moving.get(promise[1], (None, 0))[1] == promise[2]:
                del self._moving[promise[1]]
        free_s = max(now_s, -promises[0][0]) if promises else now_s
        for promise in own:
            heappush(promises, promise)
        return free_s

    def _holds(self, promise: Promise, now_s: float) -> bool:
        until_s, job_id, revision = promise
        job, watched = self._moving.get(job_id, (None, 0))
        return -until_s > now_s and job is not None and watched == revision == job.revision and job.stays


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


def _carries_bps(route: RouteDecided) -> float:
    """Zero: there is no path."""
    return max(route.headroom_bps, LEAST_BPS) if route.path else 0.0


def no_way(data: DataSet, to: str) -> str:
    """The pair in words."""
    return f"no path from {data.site}, where its data lies, to {to}"


def sized(data: DataSet) -> str:
    """How much there is to move, and from where."""
    return f"{data.size_bytes / _GIB:.3g} GiB from {data.site}"
