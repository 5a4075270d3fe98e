"""Committed use: what placed and running jobs are expected to take of each site in each hour to come.

The simple algorithm: every job is a rectangle (resources × estimated interval); an hour has room for another if the rectangles
in it, with the new one, stay within the site's ready nodes. A run that covers only part of an hour takes that part of it, so
that a thousand short jobs may follow each other within one hour; what is left of the present hour counts as a whole one.
The ledger keeps the sum of the rectangles instead of the rectangles: integers, so that giving back restores exactly.

Devices: a request names a set of models, and the pool of a set is charged with every request that can only be met from it
(a subset). That is Hall's condition (1935) on the sets in use: necessary always, sufficient where they nest.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from services.cmo.core.sites import Site
    from solyx.events import JobSpec

    Ints: TypeAlias = NDArray[np.int64]
    Bools: TypeAlias = NDArray[np.bool_]

SLOT_S = 3600
SLOTS = 1024  # six weeks; a longer run is written down again before they are over
ROLL_AFTER = 256  # hours that pass before the arrays are moved on
WINDOW_SLOTS = 168  # capacity more than a week after a start says nothing about that start
CPU, MEMORY, POWER, FIRST_POOL = 0, 1, 2, 3
_MIB = 1 << 20
_UNLIMITED = 1 << 58
_CLOSED = 1e9  # the load of a site that has nothing of what is asked for; finite, so that whoever must choose one can

Stretch: TypeAlias = tuple[float, float]  # start and duration, s
Pool: TypeAlias = tuple[str, frozenset[str]]  # kind and allowed models; an empty set: any model


@dataclass(frozen=True, slots=True)
class Demand:
    """What all pods of a job take together."""

    cpu_milli: int
    memory_mib: int
    devices_milli: tuple[tuple[Pool, int], ...]

    @classmethod
    def of(cls, spec: JobSpec) -> Demand:
        """The demand of a job."""
        resources, pods = spec.resources, spec.parallelism
        devices: dict[Pool, int] = {}
        for request in resources.devices:
            pool = (request.kind, frozenset(request.models))
            devices[pool] = devices.get(pool, 0) + request.count * request.share_milli * pods
        return cls(resources.cpu_milli * pods, -(-resources.memory_bytes // _MIB) * pods, tuple(devices.items()))

    @property
    def gpus(self) -> float:
        """Devices of any kind."""
        return sum(milli for _, milli in self.devices_milli) / 1000.0


@dataclass(frozen=True, slots=True)
class Span:
    """The hours that a run covers: a head, whole hours, a tail. Weights are in parts of 3600."""

    first: int  # hours since the Unix epoch
    head: int
    whole: int
    tail: int

    @classmethod
    def of(cls, start_s: float, duration_s: float, now_s: float) -> Span:
        """The part of the run that lies ahead of ``now_s``, at least one second of it."""
        end = max(start_s + duration_s, now_s + 1.0)
        start = max(start_s, now_s)
        first = int(start // SLOT_S)
        turn = (first + 1) * SLOT_S
        head = min(end, turn) - start
        if first == int(now_s // SLOT_S):
            head *= SLOT_S / (turn - now_s)
        rest = max(0.0, end - turn)
        return cls(first, min(SLOT_S, ceil(head)), int(rest // SLOT_S), ceil(rest % SLOT_S))


@dataclass(slots=True)
class Commitment:
    """What one job takes where and when."""

    site: Site
    stretches: tuple[Stretch, ...]  # in order of time; more than one where the plan pauses
    then: tuple[tuple[Site, Stretch], ...]  # after these, at other sites
    end_s: float  # of what is done here
    stretch_end_s: float  # where the first stretch of the plan ends; what outlasts its plan is past it
    spans: tuple[tuple[Site, Span], ...]
    demand: Demand
    row: Ints  # of its site


class Ledger:
    """Free capacity as an array over (site, hour, resource), and the commitments that it is short of."""

    def __init__(self) -> None:
        self._base = 0  # hour of slot 0
        self._pools: list[Pool] = []
        self._limit: Ints = np.zeros((0, SLOTS, FIRST_POOL), np.int64)  # × 3600
        self._free: Ints = self._limit.copy()
        self._caps: dict[int, list[tuple[int, int, int]]] = {}  # site → first hour, end hour, W above the idle floor
        self._commitments: dict[str, Commitment] = {}
        self._rows: dict[Demand, Ints] = {}
        self._columns: dict[Demand, list[int]] = {}
        self._sites: Sequence[Site] = ()

    @property
    def base(self) -> int:
        """The hour of slot 0."""
        return self._base

    @property
    def free(self) -> Ints:
        """Capacity × 3600 that is not committed, over (site, hour from ``base``, resource); below 0 where too much is."""
        return self._free

    @property
    def limit(self) -> Ints:
        """Capacity × 3600."""
        return self._limit

    def advance(self, now_s: float) -> None:
        """Let the hours before the present go."""
        if int(now_s // SLOT_S) - self._base > ROLL_AFTER:
            self._base = int(now_s // SLOT_S)
            self._caps = {
                index: kept
                for index, caps in self._caps.items()
                if (kept := [cap for cap in caps if cap[1] > self._base])
            }
            self._rebuild()

    def set_sites(self, sites: Sequence[Site], caps: dict[int, list[tuple[int, int, int]]], now_s: float) -> None:
        """Take over inventories and power caps (by site: first hour, end hour, W above idle); what is committed stays."""
        self._base = int(now_s // SLOT_S)
        self._sites, self._caps = sites, caps
        self._rebuild()

    def rows(self, demand: Demand) -> Ints:
        """The demand over (site, resource); power differs from site to site."""
        rows = self._rows.get(demand)
        if rows is None:
            self._know_pools(demand)
            rows = self._rows[demand] = self._make_rows(demand)
        return rows

    def columns(self, demand: Demand) -> list[int]:
        """The resources that the demand takes and that are limited."""
        columns = self._columns.get(demand)
        if columns is None:
            taken = np.flatnonzero(self.rows(demand).any(axis=0))
            columns = [int(column) for column in taken if column != POWER or self._caps]
            self._columns[demand] = columns
        return columns

    def commit(self, key: str, *, site: Site, demand: Demand, start_s: float, duration_s: float, now_s: float) -> float:
        """Write down a run, instead of what was written under ``key`` before; returns when it should end."""
        return self.commit_all(key, site=site, demand=demand, stretches=((start_s, duration_s),), now_s=now_s)

    def commit_all(
        self,
        key: str,
        *,
        site: Site,
        demand: Demand,
        stretches: tuple[Stretch, ...],
        now_s: float,
        then: tuple[tuple[Site, Stretch], ...] = (),
    ) -> float:
        """Write down a run with pauses, and what is to follow elsewhere; what of it is over is left out, but never all of it."""
        self.release(key)
        ahead = tuple(stretch for stretch in stretches if sum(stretch) > now_s) or stretches[-1:]
        runs = (*((site, stretch) for stretch in ahead), *then)
        spans = tuple((where, Span.of(*stretch, now_s)) for where, stretch in runs)
        end_s = max(sum(ahead[-1]), now_s + 1.0)
        row = self.rows(demand)[site.index]
        commitment = Commitment(site, ahead, then, end_s, sum(ahead[0]), spans, demand, row)
        self._commitments[key] = commitment
        self._charge(commitment, -1)
        return end_s

    def extend(self, key: str, more_s: float, now_s: float) -> float:
        """What is written under ``key`` outlasts its plan by a guess: returns when it should end now. Its stretch has ended all the same."""
        known = self._commitments[key]
        end_s = self.commit(key, site=known.site, demand=known.demand, start_s=now_s, duration_s=more_s, now_s=now_s)
        self._commitments[key].stretch_end_s = known.stretch_end_s
        return end_s

    def restore(self, key: str, known: Commitment, now_s: float) -> None:
        """Write down again what was released in this decision."""
        self.commit_all(
            key, site=known.site, demand=known.demand, stretches=known.stretches, now_s=now_s, then=known.then
        )
        self._commitments[key].stretch_end_s = known.stretch_end_s

    def release(self, key: str) -> None:
        """Give back what was written under ``key``."""
        commitment = self._commitments.pop(key, None)
        if commitment is not None:
            self._charge(commitment, 1)

    def committed(self, key: str) -> Commitment | None:
        """What is written under ``key``."""
        return self._commitments.get(key)

    def __len__(self) -> int:
        return len(self._commitments)

    def _charge(self, commitment: Commitment, sign: int) -> None:
        rows = self.rows(commitment.demand)
        for site, span in commitment.spans:
            row, free = rows[site.index], self._free[site.index]
            first = span.first - self._base
            last = min(first + 1 + span.whole, SLOTS)
            if 0 <= first < SLOTS:
                free[first] += (sign * span.head) * row
            begin = max(first + 1, 0)
            if span.whole and begin < last:
                free[begin:last] += (sign * SLOT_S) * row
            if span.tail and 0 <= first + 1 + span.whole < SLOTS:
                free[first + 1 + span.whole] += (sign * span.tail) * row

    def _know_pools(self, demand: Demand) -> None:
        new = [pool for pool, _ in demand.devices_milli if pool not in self._pools]
        if new:
            self._pools.extend(new)
            self._rebuild()

    def _rebuild(self) -> None:
        """Make every array anew from sites, pools and commitments; rare: an inventory changed, or a pool was first asked for."""
        width = FIRST_POOL + len(self._pools)
        self._rows, self._columns = {}, {}
        capacity = np.zeros((len(self._sites), width), np.int64)
        for site in self._sites:
            capacity[site.index] = self._capacity_of(site)
        limit = np.repeat(capacity[:, None, :], SLOTS, axis=1) * SLOT_S
        for index, caps in self._caps.items():
            for first, end, watts in caps:
                hours = slice(max(0, first - self._base), max(0, end - self._base))
                limit[index, hours, POWER] = np.minimum(limit[index, hours, POWER], watts * SLOT_S)
        self._limit = limit
        self._free = limit.copy()
        for commitment in self._commitments.values():
            commitment.row = self.rows(commitment.demand)[commitment.site.index]
            self._charge(commitment, -1)

    def _capacity_of(self, site: Site) -> list[int]:
        """What the ready nodes have together; power is unlimited but in the windows of grid events."""
        nodes = list(site.ready.items()) if not site.lost else []
        pools = [
            1000
            * sum(
                count * group.count
                for shape, count in nodes
                for group in shape.devices
                if group.kind == kind and (not models or group.model in models)
            )
            for kind, models in self._pools
        ]
        return [
            sum(count * shape.cpu_milli for shape, count in nodes),
            sum(count * shape.memory_bytes for shape, count in nodes) // _MIB,
            _UNLIMITED // SLOT_S,
            *pools,
        ]

    def _make_rows(self, demand: Demand) -> Ints:
        rows = np.zeros((len(self._sites), FIRST_POOL + len(self._pools)), np.int64)
        rows[:, CPU], rows[:, MEMORY] = demand.cpu_milli, demand.memory_mib
        cores, gpus = demand.cpu_milli / 1000.0, demand.gpus
        for site in self._sites:
            rows[site.index, POWER] = ceil(site.power.dynamic_w(cores=cores, gpus=gpus))
        for (kind, models), milli in demand.devices_milli:
            for column, (pool_kind, pool_models) in enumerate(self._pools, start=FIRST_POOL):
                if kind == pool_kind and (not pool_models or (models and models <= pool_models)):
                    rows[:, column] += milli
        return rows


class Room:
    """Where and when a demand fits: a few array operations for all sites and starts at once."""

    def __init__(self, ledger: Ledger, demand: Demand, duration_s: float, now_s: float) -> None:
        self._rows, self._columns = ledger.rows(demand), ledger.columns(demand)
        self._offset = int(now_s // SLOT_S) - ledger.base
        self._ledger = ledger
        seconds = min(duration_s, WINDOW_SLOTS * SLOT_S)
        self._now = Span.of(now_s, seconds, now_s)
        self._whole, self._tail = int(seconds // SLOT_S), ceil(seconds % SLOT_S)

    def starts(self, count: int) -> Bools:
        """Whether it fits, over (site, start): start 0 is now, start k the k-th full hour from now."""
        span, whole, tail = self._now, self._whole, self._tail
        width = count + max(whole, span.whole) + 2
        free = self._ledger.free[:, self._offset : self._offset + width]
        fits = np.ones((free.shape[0], count), np.bool_)
        now = np.ones(free.shape[0], np.bool_)
        for column in self._columns:
            left, asked = free[:, :, column], self._rows[:, column : column + 1]
            now &= left[:, 0] >= asked[:, 0] * span.head
            if span.tail:  # else it says nothing of that hour, which others may have taken too much of
                now &= left[:, 1 + span.whole] >= asked[:, 0] * span.tail
            if whole:  # no hour of the window lacks anything: equal prefix sums at its ends
                lacking = np.zeros((left.shape[0], width + 1), np.int32)
                np.cumsum(left < asked * SLOT_S, axis=1, out=lacking[:, 1:])
                now &= lacking[:, 1 + span.whole] == lacking[:, 1]
                fits &= lacking[:, whole : whole + count] == lacking[:, :count]
            if tail:
                fits &= left[:, whole : whole + count] >= asked * tail
        fits[:, 0] = now
        return fits

    def lacks(self, site: int) -> tuple[Ints, Ints, Ints]:
        """What a start now lacks at a site: hours since the epoch, resources, and how much × 3600 in each such pair."""
        span = self._now
        hours = slice(self._offset, self._offset + 2 + span.whole)
        weights = np.array([span.head, *[SLOT_S] * span.whole, span.tail], np.int64)
        short = weights[:, None] * self._rows[site, self._columns] - self._ledger.free[site, hours][:, self._columns]
        slots, columns = np.nonzero(short > 0)
        return slots + span.first, np.array(self._columns, np.int64)[columns], short[slots, columns]

    def hours(self, count: int) -> Bools:
        """Whether it fits for the whole of an hour (or all its length, if that is less), over (site, hour from now)."""
        free = self._ledger.free[:, self._offset : self._offset + count]
        seconds = SLOT_S if self._whole else self._tail
        fits = np.ones(free.shape[:2], np.bool_)
        for column in self._columns:
            asked = self._rows[:, column : column + 1]
            fits &= free[:, :, column] >= asked * seconds
            fits[:, 0] &= free[:, 0, column] >= asked[:, 0] * max(seconds, self._now.head)
        return fits

    def load(self) -> NDArray[np.float64]:
        """How full each site is for this demand, from now to the end of the run: its scarcest resource, 1 when it is full."""
        span = self._now
        hours = slice(self._offset, self._offset + 1 + span.whole)
        load = np.zeros(self._rows.shape[0])
        for column in self._columns:
            limit = self._ledger.limit[:, hours, column].mean(axis=1)
            free = self._ledger.free[:, hours, column].mean(axis=1)
            with np.errstate(divide="ignore", invalid="ignore"):
                share = np.where(limit > 0, 1.0 - free / limit, _CLOSED)
            load = np.maximum(load, np.where(self._rows[:, column] > 0, share, 0.0))
        return load
