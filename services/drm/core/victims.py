"""Whose workload is stopped so that a job can start: the fewest and cheapest.

Who may be stopped for a job (always only preemptible workloads):

- without cohorts: whoever has a lower priority;
- with cohorts: its own tenant's jobs of lower priority. A job that stays within what is guaranteed to its tenant may also have
  what was lent returned: by tenants of its tree of cohorts that hold more than is guaranteed to them, and by tenants in no
  cohort; of any priority if the cohort's ``reclaim`` is ``any``, of lower priority if it is ``lower_priority``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.drm.core.accounts import Use, amounts_of
from services.drm.model import IMMINENT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from services.drm.core.pool import Pool
    from services.drm.core.queue import Waiting
    from services.drm.model import Holding


def choose_victims(pool: Pool, head: Waiting, use: Use | None = None) -> list[Holding]:
    """Running workloads without which the head may start; empty if none help or none are needed.

    ``use``: it is its quota that does not let it start; what its tree will use once all that was told to stop has stopped.

    Minimal: none of them can be spared. Of the sets that were looked at, the one whose highest priority is lowest, then the
    smallest, then the one that loses less work. It is not always the least of all sets: that is a covering problem and NP-hard.
    """
    search = _Search(pool, head, use)
    if search.suffices([]):
        return []
    found: list[list[Holding]] = []
    own = search.own()
    if own and search.suffices(own):
        found += [_irreducible(order, search.suffices) for order in _orders(own)]
    if search.may_reclaim(own):
        for order in _orders([*own, *search.lent()]):
            borrowed = search.while_borrowed(order)
            if borrowed and search.returns(borrowed):
                found.append(_irreducible(borrowed, search.returns))
    return min(found, key=_cost) if found else []


class _Search:
    """What would be free, and used, without some of the workloads."""

    def __init__(self, pool: Pool, head: Waiting, use: Use | None) -> None:
        self._pool, self._head, self._accounts = pool, head, pool.accounts
        self._tree = head.account.tree
        self._quota = use is not None
        self._use = use if use is not None else self._accounts.use(head.account)
        self._told_to_stop = pool.free.plus(*pool.occupancy.freed_by(IMMINENT))

    def own(self) -> list[Holding]:
        """What may be stopped for its priority."""
        account, priority = self._head.account, -self._head.order[0]
        holdings = account.holdings if self._accounts.fair or self._quota else self._pool.holdings
        return [h for h in holdings.values() if h.preemptible and h.priority < priority and h.end_s != IMMINENT]

    def may_reclaim(self, own: Sequence[Holding]) -> bool:
        """Whether the head stays within what is guaranteed to its tenant, at least when ``own`` are stopped."""
        account = self._head.account
        if account.parent is None or account.reclaim == "never":
            return False
        return self._without(own).within(account, self._head.amounts)

    def lent(self) -> list[Holding]:
        """What others hold that they may have to return."""
        account, priority = self._head.account, -self._head.order[0]
        found: list[Holding] = []
        for holding in self._tree.holdings.values() if self._quota else self._pool.holdings.values():
            if not holding.preemptible or holding.end_s == IMMINENT:
                continue
            its = self._accounts.of(holding.tenant)
            lent = self._use.over(its) if its.tree is self._tree else not its.tree.governed
            if its is not account and lent and (account.reclaim == "any" or holding.priority < priority):
                found.append(holding)
        return found

    def while_borrowed(self, order: Sequence[Holding]) -> list[Holding]:
        """Without those that are not borrowed any more once those before them have stopped."""
        use = self._without([])
        taken: list[Holding] = []
        for holding in order:
            account = self._accounts.of(holding.tenant)
            if account is self._head.account or account.tree is not self._tree or use.over(account):
                taken.append(holding)
                if account.tree is self._tree:
                    use.add(account, amounts_of(holding.demand), -1, firm=False)
        return taken

    def suffices(self, victims: Sequence[Holding]) -> bool:
        """Whether the head may start without them."""
        head = self._head
        if self._quota and not self._without(victims).admits(head.account, head.amounts, preemptible=head.preemptible):
            return False
        capacity = self._told_to_stop
        if victims:
            capacity = capacity.plus(0 * capacity.cpu, 0 * capacity.memory, 0 * capacity.devices)
            for victim in victims:
                capacity.give(victim.demand, victim.spots)
        return capacity.fits(head.demand)

    def returns(self, victims: Sequence[Holding]) -> bool:
        """Whether the head may start without them, within what is guaranteed to its tenant."""
        return self._without(victims).within(self._head.account, self._head.amounts) and self.suffices(victims)

    def _without(self, victims: Iterable[Holding]) -> Use:
        use = self._use.copy()
        for victim in victims:
            account = self._accounts.of(victim.tenant)
            if account.tree is self._tree:
                use.add(account, amounts_of(victim.demand), -1, firm=False)
        return use


def _orders(candidates: Sequence[Holding]) -> list[list[Holding]]:
    """The cheapest first; and of equal priority the largest first, so that few are enough."""
    cheapest = sorted(candidates, key=lambda h: (h.priority, *_loss(h)))
    largest = sorted(candidates, key=lambda h: (h.priority, *_negated_size(h), *_loss(h)))
    return [cheapest, largest]


def _loss(holding: Holding) -> tuple[bool, float, str]:
    """What is lost: nothing where work is kept, else the less the shorter it ran."""
    return not holding.suspendable, -holding.decided_at_s, holding.job_id


def _negated_size(holding: Holding) -> tuple[int, int]:
    return -holding.demand.total_gpu_milli, -holding.demand.total_cpu_milli


def _cost(victims: Sequence[Holding]) -> tuple[int, int, int, float]:
    lost = [h.decided_at_s for h in victims if not h.suspendable]
    return max(h.priority for h in victims), len(victims), len(lost), -sum(lost)


def _irreducible(order: Sequence[Holding], suffices: Callable[[Sequence[Holding]], bool]) -> list[Holding]:
    """The shortest beginning of ``order`` that helps, less whoever can be spared, from its end."""
    victims = list(order[: first_true(len(order) - 1, lambda index: suffices(order[: index + 1])) + 1])
    for victim in reversed(victims.copy()):
        rest = [other for other in victims if other is not victim]
        if rest and suffices(rest):
            victims = rest
    return victims


def first_true(last: int, holds: Callable[[int], bool]) -> int:
    """The first index from 0 to ``last`` at which a condition holds that stays true and is true at ``last``."""
    low, high = 0, last
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low
