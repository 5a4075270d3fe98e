"""Budgets over time: what each tenant has used and planned, and whether another job fits.

The simple algorithm: a job fits if, for each hard budget of its tenant, what the runs took that ended in the window, plus what the
tenant's live placements should take, plus the job itself, stay within the limit. Planned use counts from the moment of the
placement, so that a burst cannot overshoot: what can is only a run that takes more than was expected of it.

Here use is kept as sums by tenant and hour, in whole millionths: sums of integers do not depend on the order in which they are
made, so a recovered core, which reads outcomes partition by partition, arrives at the same figures to the last digit.
What waits is looked at again when something of its tenant was given back, when its budgets changed, and at each full hour,
because every window turns at one.
"""

from __future__ import annotations

import sys
from bisect import bisect_left, insort
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, TypeAlias

from solyx.budget import LONGEST_S, QUANTITIES, leaves_at, window_end, window_start, window_words
from solyx.energy import HOUR_S
from solyx.events import Usage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from solyx.events import Budget, BudgetSet, Run

Amounts: TypeAlias = tuple[int, ...]
"""Millionths of each of ``QUANTITIES``, in their order."""

Order: TypeAlias = tuple[int, float, str]
"""Who goes first: the queue's order."""

_MICRO = 1_000_000
_NOTHING: Amounts = (0,) * len(QUANTITIES)
_INDEX = {name: index for index, name in enumerate(QUANTITIES)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Within:
    """No budget stands against the job."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Over:
    """A budget that the job would exceed: it waits (hard), or goes after others (soft)."""

    enforcement: Literal["hard", "soft"]
    detail: str  # in words, with the figures
    until: (
        datetime | None
    )  # when the window turns or has let enough go; None: only when running work ends or the limit is raised


@dataclass(frozen=True, slots=True)
class Share:
    """What one job that is not over has in its tenant's account.

    A run may change until the next placement carries it: its end is reported late, or its last hour's prices come in.
    """

    tenant: str
    runs: tuple[tuple[int, Amounts], ...]  # hour in which each ended, what it took
    planned: Amounts


@dataclass(slots=True)
class Waiting:
    """A job that waits for its tenant's budget."""

    order: Order
    needs: Amounts
    until: datetime | None  # when it was told to be looked at again


@dataclass(slots=True)
class Account:
    """One tenant."""

    tenant: str
    revision: int = 0
    budgets: tuple[Budget, ...] = ()
    # Hour since the Unix epoch → taken by the runs that ended in it, and the sums from an hour on that were asked for.
    ended: dict[int, Amounts] = field(default_factory=dict[int, Amounts])
    since: dict[int, Amounts] = field(default_factory=dict[int, Amounts])
    first: int = sys.maxsize  # no hour before it is kept
    planned: Amounts = _NOTHING
    waiting: dict[str, Waiting] = field(default_factory=dict[str, Waiting])
    queue: list[tuple[Order, str]] = field(default_factory=list[tuple[Order, str]])  # those, sorted

    def wait(self, job_id: str, waiting: Waiting) -> None:
        """It waits; instead of what was known of it before."""
        self.leave(job_id)
        self.waiting[job_id] = waiting
        insort(self.queue, (waiting.order, job_id))

    def leave(self, job_id: str) -> None:
        """It waits no more."""
        known = self.waiting.pop(job_id, None)
        if known is not None:
            del self.queue[bisect_left(self.queue, (known.order, job_id))]

    def ended_since(self, start: datetime) -> Amounts:
        """Taken by the runs that ended from that full hour on."""
        first = _hour_of(start)
        known = self.since.get(first)
        if known is None:
            known = self.since[first] = _sum(used for hour, used in self.ended.items() if hour >= first)
        return known

    def add(self, hour: int, amounts: Amounts) -> None:
        """A run ended."""
        self.ended[hour] = _plus(self.ended.get(hour, _NOTHING), amounts)
        self.first = min(self.first, hour)
        for first, known in self.since.items():
            if hour >= first:
                self.since[first] = _plus(known, amounts)

    def let_go_before(self, oldest: int) -> None:
        """Forget hours that no window reaches, and sums for windows that have moved on."""
        self.since.clear()
        for hour in range(self.first, oldest):
            self.ended.pop(hour, None)
        self.first = max(self.first, oldest)


class Budgets:
    """Fold what was used and planned; ask whether more fits."""

    def __init__(self) -> None:
        self._accounts: dict[str, Account] = {}
        self._shares: dict[str, Share] = {}  # of the jobs that are not over
        self._waits: dict[str, str] = {}  # job → tenant
        self._changed: set[str] = set()  # tenants to which something was given back, or whose budgets are others
        self._hour = 0

    # What is known ----------------------------------------------------------------------------------------------------

    def set(self, event: BudgetSet) -> None:
        """Take over a tenant's budgets, unless later ones are known."""
        account = self._account(event.tenant)
        if event.revision > account.revision:
            account.revision, account.budgets = event.revision, event.budgets
            self._changed.add(event.tenant)

    def put(self, job_id: str, tenant: str, runs: Iterable[Run], planned: Usage) -> None:
        """The runs that a job had and what its live placement should take, instead of what was known of it before."""
        before = self._shares.get(job_id)
        share = Share(tenant, tuple((_hour_of(run.ended_at), _amounts(run.usage)) for run in runs), _amounts(planned))
        if share == before or (before is None and not share.runs and share.planned == _NOTHING):
            return
        account = self._account(tenant)
        for hour, amounts in before.runs if before is not None and before.runs != share.runs else ():
            account.add(hour, _minus(_NOTHING, amounts))
        for hour, amounts in share.runs if before is None or before.runs != share.runs else ():
            account.add(hour, amounts)
        given = before.planned if before is not None else _NOTHING
        account.planned = _plus(account.planned, _minus(share.planned, given))
        if any(new < old for new, old in zip(share.planned, given, strict=True)):
            self._changed.add(tenant)
        self._shares[job_id] = share

    def close(self, job_id: str, tenant: str, runs: Iterable[Run]) -> None:
        """The job is over: its runs stay where they are, nothing of it is planned, and it waits for nothing."""
        self.put(job_id, tenant, runs, Usage())
        self._shares.pop(job_id, None)
        self.leave(job_id)

    def _account(self, tenant: str) -> Account:
        account = self._accounts.get(tenant)
        if account is None:
            account = self._accounts[tenant] = Account(tenant)
        return account

    # What fits --------------------------------------------------------------------------------------------------------

    def check(self, tenant: str, more: Usage, now: datetime) -> Within | Over:
        """Whether a job that should take ``more`` may be placed, and if not, all budgets against it. Hard ones speak first."""
        account = self._accounts.get(tenant)
        if account is None or not account.budgets:
            return Within()
        planned, amounts = account.planned, _amounts(more)
        found: list[Over] = []
        for budget in account.budgets:
            at = _INDEX[budget.quantity]
            used = account.ended_since(window_start(budget, now))[at]
            lacking = used + planned[at] + amounts[at] - _limit(budget)
            if amounts[at] > 0 and lacking > 0:
                found.append(_over(account, budget, used, planned[at], amounts[at], now))
        if not found:
            return Within()
        worst = max(found, key=_severity)
        others = [over.detail for over in found if over is not worst and over.enforcement == worst.enforcement]
        return replace(worst, detail="; ".join((worst.detail, *others)))

    # What waits -------------------------------------------------------------------------------------------------------

    def wait(self, job_id: str, tenant: str, order: Order, more: Usage, until: datetime | None) -> None:
        """The job waits until its tenant's budget has room for it."""
        self._account(tenant).wait(job_id, Waiting(order, _amounts(more), until))
        self._waits[job_id] = tenant

    def waits(self, job_id: str) -> bool:
        """Whether it waits for a budget."""
        return job_id in self._waits

    def leave(self, job_id: str) -> None:
        """It waits no more."""
        tenant = self._waits.pop(job_id, None)
        if tenant is not None:
            self._accounts[tenant].leave(job_id)

    def freed(self, now: datetime) -> list[str]:
        """The jobs that fit now by what they needed when they were last looked at.

        Once an hour also the first of each tenant, as what energy costs is another matter then, and those that were told this hour.
        In the queue's order, each seeing what those before it take. A job that does not fit is passed over: a budget is an
        amount, not a place, and what a smaller job takes of it the larger one gets back when the window turns.
        """
        hour = _hour_of(now)
        turned, self._hour = hour != self._hour, hour
        changed, self._changed = self._changed, set()
        if turned:
            for account in self._accounts.values():
                account.let_go_before(hour - int(LONGEST_S // HOUR_S) - 1)
        tenants = set(self._waits.values()) if turned else changed
        found: list[str] = []
        for tenant in sorted(tenants):
            found += _fitting(self._accounts[tenant], now, probe=turned)
        return found


def _fitting(account: Account, now: datetime, *, probe: bool) -> list[str]:
    room = {
        budget: _limit(budget)
        - account.ended_since(window_start(budget, now))[_INDEX[budget.quantity]]
        - account.planned[_INDEX[budget.quantity]]
        for budget in account.budgets
        if budget.enforcement == "hard"
    }
    found: list[str] = []
    for _, job_id in account.queue:
        waiting = account.waiting[job_id]
        needs = {budget: waiting.needs[_INDEX[budget.quantity]] for budget in room}
        if all(needed <= max(0, room[budget]) for budget, needed in needs.items()):
            room = {budget: left - needs[budget] for budget, left in room.items()}
            found.append(job_id)
        elif probe or (waiting.until is not None and waiting.until <= now):
            found.append(job_id)
        probe = False
    return found


def _over(account: Account, budget: Budget, used: int, planned: int, needed: int, now: datetime) -> Over:
    limit = _limit(budget)
    words = (
        f"{account.tenant} has used {_words(used)} and planned {_words(planned)} of its {_words(limit)} {budget.quantity} "
        f"per {window_words(budget)}; this job needs {_words(needed)}"
    )
    if needed > limit:
        words += ": more than the whole budget"
    until = None if needed > limit else _free_at(account, budget, used + planned + needed - limit, now)
    return Over(enforcement=budget.enforcement, detail=words, until=until)


def _free_at(account: Account, budget: Budget, lacking: int, now: datetime) -> datetime | None:
    """When the window has let ``lacking`` go."""
    end = window_end(budget, now)
    if end is not None:
        return end
    at, first = _INDEX[budget.quantity], _hour_of(window_start(budget, now))
    for hour in sorted(hour for hour in account.ended if hour >= first):
        lacking -= account.ended[hour][at]
        if lacking <= 0:
            return leaves_at(budget, datetime.fromtimestamp(hour * HOUR_S, UTC))
    return None


def _severity(over: Over) -> tuple[bool, bool, float]:
    """Hard before soft; of equals the one that lasts longest."""
    until = over.until
    return over.enforcement == "hard", until is None, 0.0 if until is None else until.timestamp()


def _hour_of(moment: datetime) -> int:
    return int(moment.timestamp() // HOUR_S)


def _limit(budget: Budget) -> int:
    return round(budget.limit * _MICRO)


def _amounts(usage: Usage) -> Amounts:
    return tuple(round(getattr(usage, name) * _MICRO) for name in QUANTITIES)


def _plus(one: Amounts, other: Amounts) -> Amounts:
    return tuple(a + b for a, b in zip(one, other, strict=True))


def _minus(one: Amounts, other: Amounts) -> Amounts:
    return tuple(a - b for a, b in zip(one, other, strict=True))


def _sum(amounts: Iterable[Amounts]) -> Amounts:
    return tuple(map(sum, zip(_NOTHING, *amounts, strict=True)))


def _words(micro: int) -> str:
    return f"{micro / _MICRO:.4g}"
