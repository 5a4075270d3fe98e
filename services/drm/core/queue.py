"""Who waits at a site: for the start time, and then for admission.

The simple structure is one list, sorted by priority, submission and id, of which every pass looks at every job. Equal to it,
but independent of the queue's length: lanes of jobs that fit or do not fit together (same tenant, same demand). When the
first of a lane does not fit, no other of the lane does, and all lanes of that demand are left alone until capacity grows.

Turns go to jobs within what is guaranteed to their tenant before borrowers, then by priority, then to the tenant with the least
weighted dominant share, then by age. Without cohorts only priority and age count (``accounts.py``).
"""

from __future__ import annotations

import heapq
import math
from bisect import insort
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from services.drm.core.accounts import Shares
from services.drm.core.models import variants_of
from services.drm.model import demand_of, left_s

if TYPE_CHECKING:
    from collections.abc import Iterable

    from services.drm.core.accounts import Account, Accounts, Amounts
    from services.drm.core.inventory import Inventory
    from services.drm.core.job import JobState
    from services.drm.model import Demand
    from solyx.events import DeferralReason, JobPlaced

Order: TypeAlias = tuple[int, float, str, int]
"""Priority (negated), submission (Unix time), job id, and a serial number that makes it unique."""
Turn: TypeAlias = tuple[bool, int, Shares, float, str, int]
"""Whether it borrows, priority (negated), weighted dominant shares of its tenant, submission, job id, serial number."""


class Fit:
    """Where a demand was seen not to fit; shared by all lanes of the demand."""

    __slots__ = ("unfit_beside", "unfit_since")

    def __init__(self) -> None:
        self.unfit_since = -1  # at this growth of capacity, in what was free
        self.unfit_beside: object = None  # beside this reservation


class Variant(NamedTuple):
    """A demand as one choice of models makes it, and what it counts against quotas."""

    demand: Demand
    amounts: Amounts
    fit: Fit


class Waiting:
    """One placement that waits to be admitted."""

    __slots__ = (
        "account",
        "alive",
        "amounts",
        "asked",
        "demand",
        "duration_s",
        "job",
        "lane",
        "order",
        "placed",
        "preemptible",
        "start_s",
    )

    def __init__(self, job: JobState, placed: JobPlaced, serial: int, account: Account, asked: Variant) -> None:
        spec = placed.spec
        self.account, self.preemptible = account, spec.preemptible
        self.job, self.placed, self.asked = job, placed, asked.demand
        self.demand, self.amounts = asked.demand, asked.amounts  # of the models that it is to get; see ``models.py``
        self.order: Order = (-spec.priority, placed.submitted_at.timestamp(), placed.job_id, serial)
        self.start_s = placed.start_at.timestamp()
        self.duration_s = left_s(spec, placed.progress_s)
        self.lane: Lane | None = None  # None: its start time has not come
        self.alive = True  # False: admitted or taken back; queues drop it when they come across it

    def was_told(self, reason: DeferralReason) -> bool:
        """Whether it was published that it waits for this."""
        return self.placed.revision == self.job.deferred_revision and reason in self.job.deferred


class Lane:
    """Waiting jobs of one account and demand, whose estimates are within a factor of two."""

    def __init__(self, first: Waiting, variants: tuple[Variant, ...]) -> None:
        self.account, self.asked = first.account, first.asked
        self.further_s = -math.inf  # of a flexible lane: how short the next must be to do better than the last
        self.set_variants(variants)
        self.entries: list[tuple[Order, Waiting]] = []
        self.arrived: list[Waiting] = []  # in order of arrival: who has been told why it waits
        self.told: dict[DeferralReason, int] = {}  # how far into ``arrived``
        self.alive = 0
        self.start = 0
        self.shortest_s = math.inf  # at most the shortest estimate of those that wait

    def set_variants(self, variants: tuple[Variant, ...]) -> None:
        """The choices of models that its jobs have at the site."""
        self.variants = variants
        self.flexible = variants[0].demand is not self.asked
        self.demand, self._amounts, self.fit = variants[0]

    def take(self, waiting: Waiting, variant: Variant | None = None) -> None:
        """A job of it is to get these models; those that the last one was to get if none are given."""
        if variant is not None:
            self.demand, self._amounts, self.fit = variant
        waiting.demand, waiting.amounts = self.demand, self._amounts

    def borrows(self, accounts: Accounts) -> bool:
        """Whether its next job would hold more than is guaranteed to its tenant, whatever models it got."""
        if not self.flexible:
            return accounts.borrows(self.account, self._amounts)
        return all(accounts.borrows(self.account, variant.amounts) for variant in self.variants)

    def first(self, position: int = 0) -> int | None:
        """The position of the first that still waits, from ``position`` on."""
        position = max(position, self.start)
        entries, end = self.entries, len(self.entries)
        from_start = position == self.start
        while position < end and not entries[position][1].alive:
            position += 1
        if from_start:
            self.start = position
        return position if position < end else None

    def first_within(self, duration_s: float, position: int) -> int | None:
        """The position of the first whose estimate is at most ``duration_s``, from ``position`` on."""
        if self.shortest_s > duration_s:
            return None
        entries = self.entries
        for index in range(position, len(entries)):
            waiting = entries[index][1]
            if waiting.alive and waiting.duration_s <= duration_s:
                return index
        self.shortest_s = min((w.duration_s for _, w in entries if w.alive), default=math.inf)
        return None

    def add(self, waiting: Waiting) -> None:
        insort(self.entries, (waiting.order, waiting), lo=self.start)
        self.arrived.append(waiting)
        self.shortest_s = min(self.shortest_s, waiting.duration_s)
        self.alive += 1

    def untold(self, reason: DeferralReason) -> list[Waiting]:
        """Who has not been told of this reason; now they have."""
        new = self.arrived[self.told.get(reason, 0) :]
        self.told[reason] = len(self.arrived)
        return [waiting for waiting in new if waiting.alive]

    def tidy(self) -> None:
        """Forget those that left, once they are the larger part."""
        if len(self.entries) > 2 * self.alive + 64:
            self.entries = [entry for entry in self.entries if entry[1].alive]
            self.start = 0
        if len(self.arrived) > 2 * self.alive + 64:
            self.told = {r: sum(w.alive for w in self.arrived[:seen]) for r, seen in self.told.items()}
            self.arrived = [waiting for waiting in self.arrived if waiting.alive]


class Queue:
    """All who wait at one site. ``version`` grows when somebody comes or is taken back."""

    def __init__(self, accounts: Accounts) -> None:
        self.version = 0
        self._accounts = accounts
        self._inventory: Inventory | None = None
        self._known: dict[Demand, Variant] = {}
        self.length = 0  # waiting for admission; those before their start time are not counted
        self._serial = 0
        self._starts: list[tuple[float, int, Waiting]] = []
        self._left = 0  # of those before their start time, how many were taken back
        self._lanes: dict[tuple[str, Demand, bool, int], Lane] = {}

    def add(self, job: JobState, placed: JobPlaced) -> Waiting:
        """Wait for the start time first."""
        self._serial += 1
        demand = demand_of(placed.spec)
        waiting = Waiting(job, placed, self._serial, self._accounts.of(placed.tenant), self._variant(demand))
        heapq.heappush(self._starts, (waiting.start_s, self._serial, waiting))
        return waiting

    def start_due(self, now_s: float) -> None:
        """Whoever's start time has come waits for admission."""
        while self.is_due(now_s):
            waiting = heapq.heappop(self._starts)[2]
            if not waiting.alive:
                self._left = max(self._left - 1, 0)
                continue
            account = waiting.account
            firm = bool(account.parent) and not waiting.preemptible  # quotas treat them differently
            key = (account.name, waiting.asked, firm, math.frexp(waiting.duration_s)[1])
            lane = self._lanes.get(key)
            if lane is None:
                lane = self._lanes[key] = Lane(waiting, self._variants(account, waiting.asked))
            lane.add(waiting)
            waiting.lane = lane
            self.length += 1
            self.version += 1

    def know(self, inventory: Inventory) -> None:
        """The models that the site has are what jobs may choose from."""
        if inventory is not self._inventory:
            self._inventory = inventory
            for lane in self._lanes.values():
                lane.set_variants(self._variants(lane.account, lane.asked))

    def _variants(self, account: Account, asked: Demand) -> tuple[Variant, ...]:
        inventory = self._inventory
        demands = variants_of(asked, self._accounts, account, inventory) if inventory is not None else (asked,)
        return tuple(self._variant(demand) for demand in demands)

    def _variant(self, demand: Demand) -> Variant:
        known = self._known.get(demand)
        if known is None:
            known = self._known[demand] = Variant(demand, self._accounts.amounts(demand), Fit())
        return known

    def is_due(self, now_s: float) -> bool:
        """Whether somebody's start time has come."""
        return bool(self._starts) and self._starts[0][0] <= now_s

    def remove(self, waiting: Waiting) -> None:
        """It was admitted or taken back."""
        waiting.alive = False
        if waiting.lane is not None:
            waiting.lane.alive -= 1
            self.length -= 1
            self.version += 1
            return
        self._left += 1
        if self._left > len(self._starts) // 2 + 64:
            self._starts = [entry for entry in self._starts if entry[2].alive]
            heapq.heapify(self._starts)
            self._left = 0

    def lanes(self) -> Iterable[Lane]:
        """The lanes in which somebody waits."""
        empty = [key for key, lane in self._lanes.items() if not lane.alive]
        for key in empty:
            del self._lanes[key]
        if len(self._known) > 2 * len(self._lanes) + 64:
            self._known = {variant.demand: variant for lane in self._lanes.values() for variant in lane.variants}
        for lane in self._lanes.values():
            lane.tidy()
        return self._lanes.values()


class Turns:
    """The lanes whose next job is still to be looked at in this pass; the next in turn comes first.

    Equal to sorting anew before each choice: within a pass shares only grow and guarantees only fill, so a tenant's turn only moves
    back, and it is enough to look again at the tenant that is first. Inside a tenant the order changes only when a job that
    was within what is guaranteed becomes a borrower.
    """

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts
        self._lines: dict[int, _Line] = {}
        self._heap: list[tuple[Turn, int, _Line]] = []
        self._pushed = 0

    def push(self, lane: Lane, position: int | None) -> None:
        """Look at the job at this position of the lane, in its turn."""
        if position is None:
            return
        line = self._lines.get(id(lane.account))
        if line is None:
            line = self._lines[id(lane.account)] = _Line()
        heapq.heappush(
            line.borrowing if lane.borrows(self._accounts) else line.within, (lane.entries[position][0], position, lane)
        )
        self._line_up(line)

    def pop(self) -> tuple[Lane, int] | None:
        """Whose turn it is."""
        while self._heap:
            turn, _, line = heapq.heappop(self._heap)
            if turn is not line.turn:  # it has lined up anew since
                continue
            line.turn = None
            now = self._best(line)
            if now == turn:
                _, position, lane = heapq.heappop(line.borrowing if turn[0] else line.within)
                self._line_up(line)
                return lane, position
            self._line_up(line)
        return None

    def _line_up(self, line: _Line) -> None:
        turn = self._best(line)
        if turn is not None and (line.turn is None or turn < line.turn):
            line.turn = turn
            self._pushed += 1
            heapq.heappush(self._heap, (turn, self._pushed, line))

    def _best(self, line: _Line) -> Turn | None:
        """The turn of a tenant's next job, as things are."""
        while line.within:
            _, position, lane = line.within[0]
            if not lane.borrows(self._accounts):
                return _turn(self._accounts, lane.entries[position][1], borrows=False)
            heapq.heappush(line.borrowing, heapq.heappop(line.within))
        if not line.borrowing:
            return None
        _, position, lane = line.borrowing[0]
        return _turn(self._accounts, lane.entries[position][1], borrows=True)


class _Line:
    """The lanes of one account: those whose next job stays within what is guaranteed, and those whose next borrows."""

    __slots__ = ("borrowing", "turn", "within")

    def __init__(self) -> None:
        self.within: list[tuple[Order, int, Lane]] = []
        self.borrowing: list[tuple[Order, int, Lane]] = []
        self.turn: Turn | None = None  # under which it stands in line


def _turn(accounts: Accounts, waiting: Waiting, *, borrows: bool) -> Turn:
    priority, submitted_s, job_id, serial = waiting.order
    return borrows, priority, accounts.share(waiting.account), submitted_s, job_id, serial
