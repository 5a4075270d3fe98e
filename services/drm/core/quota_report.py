"""How a site's quotas are used, for people: told when it changes, but not more often than every few seconds."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from services.drm.core.accounts import UNLIMITED
from solyx.events import QuotaAccount, QuotaFigure, QuotasReported

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from services.drm.core.accounts import Account, Accounts
    from services.drm.core.pool import Pool
    from services.drm.core.queue import Queue

REPORT_EVERY_S: Final = 5.0
"""A site's report follows the one before after so long at the earliest: a busy site decides many times a second."""


class QuotaReports:
    """What was told last, and whether it still holds. It follows from the state alone, so a restart tells nothing twice."""

    def __init__(self, site: str, pool: Pool, queue: Queue) -> None:
        self._site, self._pool, self._queue = site, pool, queue
        self._said: QuotasReported | None = None
        self._looked_for: object = None  # the version of the state that ``_said`` was compared with

    def recall(self, event: QuotasReported) -> None:
        """An own report, read back."""
        if self._said is None or event.reported_at > self._said.reported_at:
            self._said, self._looked_for = event, None

    def is_due(self, now_s: float, version: object) -> bool:
        """Whether something may be told."""
        if version == self._looked_for:
            return False
        if self._said is None:
            return self._pool.accounts.named
        return now_s >= self._said.reported_at.timestamp() + REPORT_EVERY_S

    def look(self, now: datetime, version: object) -> QuotasReported | None:
        """What is to be told now; None: what was told still holds."""
        self._looked_for = version
        accounts = self._pool.accounts
        report = QuotasReported(
            site=self._site,
            capacity=dict(zip(accounts.resources, accounts.capacity, strict=True)) if accounts.named else {},
            accounts=account_uses(accounts, self._waiting()) if accounts.named else (),
            reported_at=now,
        )
        said = self._said
        if said is not None and (said.accounts, said.capacity) == (report.accounts, report.capacity):
            return None
        self._said = report
        return report

    def _waiting(self) -> dict[int, tuple[int, Sequence[int]]]:
        """By account: how many jobs wait whose start time has come, and for how much."""
        waiting: dict[int, tuple[int, Sequence[int]]] = {}
        for lane in self._queue.lanes():
            asked = self._pool.accounts.amounts(lane.asked)
            jobs, sums = waiting.get(id(lane.account), (0, (0,) * len(asked)))
            waiting[id(lane.account)] = (
                jobs + lane.alive,
                [known + lane.alive * more for known, more in zip(sums, asked, strict=True)],
            )
        return waiting


def account_uses(accounts: Accounts, waiting: Mapping[int, tuple[int, Sequence[int]]]) -> tuple[QuotaAccount, ...]:
    """Each cohort and tenant of the document, and other tenants that hold or wait for something."""
    every = [*accounts.cohorts, *sorted(accounts.tenants, key=lambda account: account.name)]
    members = _members(every)
    books = [_Books(members, every, resource) for resource in range(len(accounts.resources))]
    nothing = (0, (0,) * len(books))
    sums: dict[int, tuple[int, Sequence[int]]] = {}
    for account in reversed(every):  # members before their cohorts
        jobs, asked = waiting.get(id(account), nothing)
        for member in members.get(id(account), ()):
            more_jobs, more = sums[id(member)]
            jobs, asked = jobs + more_jobs, [a + b for a, b in zip(asked, more, strict=True)]
        sums[id(account)] = (jobs, asked)
    uses: list[QuotaAccount] = []
    for account in every:
        jobs, asked = sums[id(account)]
        figures = tuple(
            figure
            for resource, book in enumerate(books)
            if (figure := book.figure(account, accounts.resources[resource], asked[resource])) is not None
        )
        if figures or jobs or account.is_named:
            held = [book.held[id(account)] for book in books]
            uses.append(
                QuotaAccount(
                    name=account.name,
                    kind="cohort" if account.is_cohort else "tenant",
                    cohort=account.parent.name if account.parent is not None else "",
                    share=round(accounts.dominant(held) / account.weight, 6),
                    waiting_jobs=jobs,
                    figures=figures,
                )
            )
    return tuple(uses)


def _members(every: Sequence[Account]) -> dict[int, list[Account]]:
    members: dict[int, list[Account]] = {}
    for account in every:
        if account.parent is not None:
            members.setdefault(id(account.parent), []).append(account)
    return members


class _Books:
    """One resource: what each account holds and is guaranteed with all in it, and what it lends."""

    def __init__(self, members: Mapping[int, Sequence[Account]], every: Sequence[Account], resource: int) -> None:
        self._members, self._resource = members, resource
        self.held: Counter[int] = Counter()
        self.guaranteed: Counter[int] = Counter()
        self.kept_inside: Counter[int] = Counter()  # by members of a cohort, from each other
        self.lent: Counter[int] = Counter()
        for account in reversed(every):
            key = id(account)
            self.guaranteed[key] += account.guaranteed[resource]
            if not account.is_cohort:
                self.held[key] = account.used[resource]
            if account.parent is not None:
                above = id(account.parent)
                self.held[above] += self.held[key]
                self.guaranteed[above] += self.guaranteed[key]
                self.kept_inside[above] += self.kept_inside[key] + account.kept[resource]
        for account in every:
            if account.parent is None:
                self._lend(account, 0)

    def borrowed(self, account: Account) -> int:
        """Of a cohort: what its members use beyond what they keep, its own figure and what they lend each other."""
        return max(0, account.used[self._resource] - account.total[self._resource])

    def idle(self, account: Account) -> int:
        """What others of its cohort may use of what is guaranteed to it."""
        unused = max(0, account.total[self._resource] - account.used[self._resource])
        return min(unused, account.lend[self._resource])

    def _lend(self, account: Account, out: int) -> None:
        """It lends ``out`` to others: of a cohort's that is its own figure first, then what its members leave, in proportion."""
        self.lent[id(account)] = out
        members = self._members.get(id(account), ())
        if not members:
            return
        idle = [self.idle(member) for member in members]
        needed = out + sum(self.borrowed(member) for member in members)
        from_members = min(max(0, needed - account.guaranteed[self._resource]), sum(idle))
        whole, before, given = sum(idle), 0, 0
        for member, its in zip(members, idle, strict=True):
            before += its
            upto = from_members * before // whole if whole else 0
            self._lend(member, upto - given)
            given = upto

    def figure(self, account: Account, name: str, waiting: int) -> QuotaFigure | None:
        """None: nothing is limited, held or waited for."""
        key = id(account)
        governed = self._resource in account.tree.governed
        if not governed and not self.held[key] and not waiting:
            return None
        most = account.most[self._resource] + self.kept_inside[key]
        return QuotaFigure(
            resource=name,
            guaranteed=self.guaranteed[key],
            most=most if governed and most < UNLIMITED else None,
            held=self.held[key],
            borrowed=self.borrowed(account) if governed else 0,
            lent=self.lent[key],
            waiting=waiting,
        )
