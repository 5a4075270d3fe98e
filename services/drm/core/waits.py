"""Who waits for quota in one pass, and whom that holds up.

The simple algorithm, for a job whose quota does not let it start, in its turn:

1. If it could not start even if nobody else held anything, it holds up nobody.
2. If what was told to stop, or is told now (``victims.py``), makes room, that room is promised to it: until it has started, nobody
   later borrows in its tree of cohorts, and nobody later of its tenant starts.
3. Else it gets a reservation as in ``reservation.py``, of quota: the first estimated end after which it may start. Others
   of its tenant, and, for the first such job of a tree, all borrowers, start only if they end by then or fit beside it.
4. The first of a tree is the oldest of the highest priority that was told that it waits for quota: that is published, so it is the
   same after a restart. Where nobody was, it is the first such job of the pass. Whose turn it is changes with every end; a job that
   is larger than what the fair share of the others leaves would otherwise never be first for long enough.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from services.drm.core.accounts import Use
from services.drm.core.models import prefer
from services.drm.core.victims import REACTION_S, Candidates, Search, is_ending, when_ended
from services.drm.model import IMMINENT
from solyx.events import DeferralReason

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from services.drm.core.accounts import Account, Accounts, Tree
    from services.drm.core.capacity import Capacity
    from services.drm.core.pool import Pool
    from services.drm.core.queue import Lane, Waiting
    from services.drm.model import Holding, Spot

NEVER = float("-inf")


class Obstacle(NamedTuple):
    """Why quotas keep a job waiting."""

    before: Waiting | None  # whom it would delay; None: its quota is too small
    within_s: float = NEVER  # a job that takes no longer than this would not


class Hold:
    """A job that waits for quota."""

    def __init__(self, head: Waiting, accounts: Accounts) -> None:
        self.head, self.promised = head, False
        self._accounts = accounts
        self._at_s = NEVER
        self._after: Use | None = None  # what is used at that time, once the head has started

    def lets(self, waiting: Waiting, now_s: float) -> bool:
        """Whether a later job may start."""
        if self.promised:
            return False
        if self._after is None:
            self._look_ahead()
        assert self._after is not None
        if waiting.duration_s <= self._at_s - now_s:
            return True
        return self._after.admits(waiting.account, waiting.amounts, preemptible=waiting.preemptible)

    def within_s(self, now_s: float) -> float:
        """How long a job may take that does not fit beside the head."""
        return NEVER if self.promised else self._at_s - now_s

    def took(self, waiting: Waiting, now_s: float) -> None:
        """A later job has started."""
        if self._after is not None and now_s + waiting.duration_s > self._at_s:
            self._after.add(waiting.account, waiting.amounts, 1, firm=not waiting.preemptible)

    def _look_ahead(self) -> None:
        head, tree = self.head, self.head.account.tree
        after = self._after = Use(tree, copy=True)
        for holding in sorted(tree.holdings.values(), key=lambda h: (h.end_s, h.job_id)):
            if after.admits(head.account, head.amounts, preemptible=head.preemptible):
                break
            account = self._accounts.of(holding.tenant)
            after.add(account, holding.amounts, -1, firm=not holding.preemptible)
            self._at_s = holding.end_s
        after.add(head.account, head.amounts, 1, firm=not head.preemptible)


class QuotaWaits:
    """What one pass has to remember of those that wait for quota."""

    def __init__(self, pool: Pool, lanes: Iterable[Lane], now_s: float) -> None:
        self._pool, self._accounts, self._now_s = pool, pool.accounts, now_s
        self._lanes: dict[int, list[Lane]] = {}  # by tree
        for lane in lanes:
            if lane.account.tree.governed:
                self._lanes.setdefault(id(lane.account.tree), []).append(lane)
        self._by_account: dict[int, Hold] = {}
        self._by_tree: dict[int, Hold] = {}
        self._behind: dict[int, Waiting] = {}  # by tree: whom the first of it kept waiting, and who comes after it
        self._returning: dict[int, Hold] = {}  # by tree: room is promised
        # By tree, and of the site: use and room once all that is ending has ended, and the promised have started.
        self._pending: dict[int, Use] = {}
        self._room: Capacity | None = None
        self._candidates: dict[int, Candidates] = {}  # by tree
        for mine in self._lanes.values():
            self._find_first(mine[0].account.tree)

    def obstacle(self, waiting: Waiting) -> Obstacle | None:
        """What keeps it waiting, if anything does."""
        account = waiting.account
        tree = account.tree
        if not tree.governed:
            return None
        use = self._accounts.use(account)
        if not use.admits(account, waiting.amounts, preemptible=waiting.preemptible):
            return Obstacle(None)
        holds = [self._by_account.get(id(account))]
        first = self._by_tree.get(id(tree))
        if (first is not None or id(tree) in self._returning) and not use.within(account, waiting.amounts):
            goes_first = first is None or first.head is waiting or waiting.order[0] < first.head.order[0]
            holds += [None if goes_first else first, self._returning.get(id(tree))]
        binding = [hold for hold in holds if hold is not None and not hold.lets(waiting, self._now_s)]
        if not binding:
            return None
        if first is not None and first in binding:
            self._remember(tree, waiting)
        return Obstacle(binding[0].head, min(hold.within_s(self._now_s) for hold in binding))

    def _find_first(self, tree: Tree) -> None:
        head = self._oldest_told(tree)
        if head is not None:
            self._by_tree[id(tree)] = Hold(head, self._accounts)

    def _oldest_told(self, tree: Tree) -> Waiting | None:
        """Of those who were told that they wait for its quota, the oldest of the highest priority that only others keep from it."""
        oldest: Waiting | None = None
        for lane in self._lanes.get(id(tree), ()):
            position = lane.first()
            if position is None:
                continue
            order, waiting = lane.entries[position]
            if (oldest is None or order < oldest.order) and waiting.was_told(DeferralReason.QUOTA):
                prefer(waiting, lane, self._pool)
                by_itself = _is_hopeless(waiting) or self._limited_by_itself(waiting)
                if not by_itself and self._pool.could_hold(waiting.demand):
                    oldest = waiting
        return oldest

    def _become_first(self, tree: Tree, hold: Hold) -> None:
        first = self._by_tree.get(id(tree))
        if first is None or first.head is hold.head or hold.head.order[0] < first.head.order[0]:
            self._by_tree[id(tree)] = hold
        else:
            self._remember(tree, hold.head)

    def _remember(self, tree: Tree, waiting: Waiting) -> None:
        """The oldest of the highest priority that waits comes after the first."""
        known = self._behind.get(id(tree))
        if known is None or waiting.order < known.order:
            self._behind[id(tree)] = waiting

    def goes_ahead(self, waiting: Waiting) -> bool:
        """Whether somebody before it waits for quota of the same tree."""
        return id(waiting.account.tree) in self._by_tree or id(waiting.account) in self._by_account

    def wait(self, waiting: Waiting) -> tuple[bool, list[Holding]]:
        """Its quota does not let it start: whether room is promised to it, and who has to stop for that."""
        account, tree = waiting.account, waiting.account.tree
        if _is_hopeless(waiting):
            return False, []
        hold = Hold(waiting, self._accounts)
        pending = self._pending_use(tree)
        victims: list[Holding] = []
        if self._room is None:
            self._room = when_ended(self._pool, self._now_s)
        hold.promised = (
            pending.admits(account, waiting.amounts, preemptible=waiting.preemptible)
            and self._room.place(waiting.demand) is not None
        )
        if not hold.promised and self._may_have_victims(waiting, pending):
            if id(tree) not in self._candidates:
                self._candidates[id(tree)] = Candidates(tree.holdings.values(), self._now_s)
            victims = Search(self._pool, waiting, pending, self._room).best(self._candidates[id(tree)])
            hold.promised = bool(victims)
        self._by_account.setdefault(id(account), hold)
        if not self._limited_by_itself(waiting):
            self._become_first(tree, hold)
        if hold.promised:
            for victim in victims:
                self._release(pending, victim)
                self._room.give(victim.demand, victim.spots)
            self._room.take(waiting.demand, self._room.place(waiting.demand) or ())
            pending.add(account, waiting.amounts, 1, firm=not waiting.preemptible)
            self._returning.setdefault(id(tree), hold)
        return hold.promised, victims

    def took(self, waiting: Waiting, spots: Sequence[Spot]) -> None:
        """It was admitted."""
        if self._room is not None:
            self._room.take(waiting.demand, spots)
        account, tree = waiting.account, waiting.account.tree
        pending = self._pending.get(id(tree))
        if pending is not None:
            pending.add(account, waiting.amounts, 1, firm=not waiting.preemptible)
        first = self._by_tree.get(id(tree))
        if first is not None and first.head is waiting:
            del self._by_tree[id(tree)]
            self._find_first(tree)
            after = self._behind.pop(id(tree), None)
            if after is not None and after.alive:
                self._become_first(tree, Hold(after, self._accounts))
        holds = {id(hold): hold for hold in (self._by_account.get(id(account)), self._by_tree.get(id(tree))) if hold}
        for hold in holds.values():
            hold.took(waiting, self._now_s)

    def _pending_use(self, tree: Tree) -> Use:
        pending = self._pending.get(id(tree))
        if pending is None:
            pending = self._pending[id(tree)] = Use(tree, copy=True)
            for holding in tree.holdings.values():
                if is_ending(holding, self._now_s):
                    self._release(pending, holding)
                    if holding.end_s != IMMINENT:
                        self._pool.look_again(self._now_s + REACTION_S)
        return pending

    def _may_have_victims(self, waiting: Waiting, pending: Use) -> bool:
        """Whether a search is worth its time."""
        account, priority = waiting.account, -waiting.order[0]
        if account.parent is not None and account.reclaim != "never" and pending.within(account, waiting.amounts):
            return True
        return any(h.preemptible and h.priority < priority for h in account.holdings.values())

    def _release(self, use: Use, holding: Holding) -> None:
        account = self._accounts.of(holding.tenant)
        use.add(account, holding.amounts, -1, firm=not holding.preemptible)

    def _limited_by_itself(self, waiting: Waiting) -> bool:
        """Whether it is the account's own limit that is too small, whatever the others of the tree hold."""
        account = waiting.account
        use = self._accounts.use(account)
        if account.parent is None or (not waiting.preemptible and use.too_firm(account, waiting.amounts)):
            return True
        row = use.used[account.index]
        return any(
            waiting.amounts[r] > max(0, account.kept[r] - row[r]) + use.own_room(account, r)
            for r in account.tree.governed
            if waiting.amounts[r]
        )


def _is_hopeless(waiting: Waiting) -> bool:
    return waiting.account.never_holds(waiting.amounts, preemptible=waiting.preemptible)


def quota_words(accounts: Accounts, waiting: Waiting) -> str:
    """Which figure of its quota must change; of a job that takes several models, for each of them."""
    lane = waiting.lane
    if lane is None or not lane.flexible:
        return _words(accounts, waiting)
    texts: dict[str, None] = {}
    for variant in lane.variants:
        lane.take(waiting, variant)
        texts[_words(accounts, waiting)] = None
    return "; or: ".join(text for text in texts if text)


def _words(accounts: Accounts, waiting: Waiting) -> str:
    account = waiting.account
    use = accounts.use(account)
    firm = [] if waiting.preemptible else use.too_firm(account, waiting.amounts)
    short = [resource for resource in use.short_of(account, waiting.amounts) if resource not in firm]
    clauses = [_firm_words(account, use, waiting, resource) for resource in firm]
    clauses += [_short_words(account, use, waiting, resource) for resource in short]
    return f"{waiting.placed.tenant} {', and '.join(clauses)}" if clauses else ""


_UNITS = ((1000, "CPU"), (2**30, "GiB"), (1000, "GPU"))


def _unit(account: Account, resource: int) -> tuple[int, str]:
    """How many of the resource's amounts people call one, and of what."""
    return _UNITS[resource] if resource < len(_UNITS) else (1000, account.tree.resources[resource])


def _short_words(account: Account, use: Use, waiting: Waiting, resource: int) -> str:
    size, unit = _unit(account, resource)
    asked = f"{waiting.amounts[resource] / size:g}"
    held, guaranteed = use.used[account.index][resource] / size, account.guaranteed[resource] / size
    if account.parent is None:
        return f"holds {held:g} of its {guaranteed:g} {unit} here and asks for {asked}"
    most = account.most[resource] / size
    room = max(0, use.room(account, resource)) / size
    return (
        f"asks for {asked} {unit} and holds {held:g}; {guaranteed:g} are guaranteed to it, it may hold {most:g} here at most, "
        f"and its cohort {account.parent.name} has {room:g} left for it"
    )


def _firm_words(account: Account, use: Use, waiting: Waiting, resource: int) -> str:
    size, unit = _unit(account, resource)
    return (
        f"asks for {waiting.amounts[resource] / size:g} {unit} for a job that is not preemptible and holds "
        f"{use.firm[account.index][resource] / size:g} in such jobs, of {account.guaranteed[resource] / size:g} guaranteed to it; "
        "only preemptible jobs may borrow"
    )
