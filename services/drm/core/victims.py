"""Whose workload is stopped so that a job can start: the fewest and cheapest.

Who may be stopped for a job (always only preemptible workloads):

- without cohorts: whoever has a lower priority;
- with cohorts: its own tenant's jobs of lower priority. A job that stays within what is guaranteed to its tenant may also have
  what was lent returned: by tenants of its tree of cohorts that hold more than is guaranteed to them of what is missing (of its quota,
  else on the nodes), and by tenants in no cohort; of any priority if the cohort's ``reclaim`` is ``any``, of lower priority if it
  is ``lower_priority``.

Nobody is stopped who is about to end: by its estimate within ``REACTION_S``, which is about what stopping takes, or up to ``PATIENCE_S``
ago. It counts as if it had been told to stop.

The simple algorithm: walk the candidates, the cheapest first, until those that were passed are enough; then spare whoever can be
spared, the dearest first. The same with the largest of each priority first; the better of the two sets is taken.

Where the placement names victims (``JobPlaced.victims``: the CMO has planned for all sites and knows where they can go on), they
are walked alone first: if those of them who may be stopped are enough, nobody else is. So a job has one set of victims, whoever
chose it, and nobody is stopped whom the rules above protect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from services.drm.model import IMMINENT
from services.drm.quotas import RESOURCES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from services.drm.core.accounts import Use
    from services.drm.core.capacity import Capacity
    from services.drm.core.pool import Pool
    from services.drm.core.queue import Waiting
    from services.drm.model import Holding
    from solyx.events import Victim

Orders: TypeAlias = "tuple[Sequence[Holding], Sequence[Holding]]"
"""Workloads of each priority, the cheapest first; and the same, the largest first."""

REACTION_S = 1.0
PATIENCE_S = 10.0


def is_ending(holding: Holding, now_s: float) -> bool:
    """Whether it was told to stop, or is about to end by itself."""
    return holding.end_s == IMMINENT or now_s - PATIENCE_S <= holding.end_s <= now_s + REACTION_S


def when_ended(pool: Pool, now_s: float) -> Capacity:
    """What is free once all that is ending has ended."""
    expected, freed = pool.occupancy.freed_between(now_s - PATIENCE_S, now_s + REACTION_S)
    if expected:
        pool.look_again(now_s + REACTION_S)  # it may turn out not to end
    return pool.free.plus(*freed)


class Candidates:
    """Workloads that may be stopped, in both orders. What is ending is not among them."""

    def __init__(self, holdings: Iterable[Holding], now_s: float) -> None:
        stoppable = [h for h in holdings if h.preemptible and not is_ending(h, now_s)]
        self.orders: Orders = (
            sorted(stoppable, key=lambda h: (h.priority, *_loss(h))),
            sorted(stoppable, key=lambda h: (h.priority, *_negated_size(h), *_loss(h))),
        )

    def named(self, victims: Iterable[Victim]) -> Orders:
        """Those of them that a placement names, under the revision that it names."""
        wanted = {(victim.job_id, victim.revision) for victim in victims}
        cheapest, largest = self.orders
        return (
            [h for h in cheapest if (h.job_id, h.revision) in wanted],
            [h for h in largest if (h.job_id, h.revision) in wanted],
        )


def choose_victims(pool: Pool, head: Waiting, now_s: float) -> list[Holding]:
    """Whom to stop for a job that its quota lets start, but that does not fit; empty if none help or none are needed.

    Minimal: none of them can be spared. Of the sets that were looked at, the one whose highest priority is lowest, then the
    smallest, then the one that loses less work. It is not always the least of all sets: that is a covering problem and NP-hard.
    """
    if not _may_have_victims(pool, head):
        return []
    room = when_ended(pool, now_s)
    if room.fits(head.demand):
        return []
    return Search(pool, head, None, room).best(Candidates(pool.preemptible.values(), now_s))


def _may_have_victims(pool: Pool, head: Waiting) -> bool:
    """Whether a search is worth its time."""
    account, priority = head.account, -head.order[0]
    holdings = account.holdings if pool.accounts.fair else pool.preemptible
    if any(h.preemptible and h.priority < priority for h in holdings.values()):
        return True
    if account.parent is None or account.reclaim == "never":
        return False
    return pool.accounts.use(account).within(account, head.amounts)


class Search:
    """For one job: what would be free, and used, without some of the workloads.

    ``use`` is what its tree will use, ``room`` what will be free, once all that is ending has ended; both are put back as they were.
    """

    def __init__(self, pool: Pool, head: Waiting, use: Use | None, room: Capacity) -> None:
        """``use`` only where it is its quota that does not let it start."""
        self._head, self._accounts = head, pool.accounts
        self._account, self._priority = head.account, -head.order[0]
        self._quota = use is not None
        self._use = use if use is not None else self._accounts.use(head.account).copy()
        self._room = room
        self._lent: tuple[int, ...] = ()  # the resources that are to be returned
        self._everybody = not self._accounts.fair and not self._quota  # without cohorts, priority goes across tenants

    def best(self, candidates: Candidates) -> list[Holding]:
        """Of those that the placement names, if they are enough; else the best set that was found."""
        victims, everybody = self._head.placed.victims, candidates.orders[0]
        named = self._best(candidates.named(victims), everybody) if victims else []
        return named or self._best(candidates.orders, everybody)

    def _best(self, orders: Orders, everybody: Sequence[Holding]) -> list[Holding]:
        found = [self._set(order, reclaim=False) for order in self._own(orders)]
        if self._account.parent is not None and self._account.reclaim != "never" and self._may_stay_within(orders):
            found += self._reclaim(orders, everybody)
        found = [victims for victims in found if victims]
        return min(found, key=_cost) if found else []

    def _reclaim(self, orders: Orders, everybody: Sequence[Holding]) -> list[list[Holding]]:
        """By those who borrow what is missing; also by those who borrow what is missing even if all of that comes back."""
        governed, self._lent = self._account.tree.governed, self._missing(())
        while True:
            found = [victims for order in orders if (victims := self._set(order, reclaim=True))]
            if found or self._lent == governed:
                return found
            wider = tuple(sorted({*self._lent, *self._missing(everybody)}))
            if wider == self._lent:
                return []
            self._lent = wider

    def _missing(self, order: Sequence[Holding]) -> tuple[int, ...]:
        """Of which resources its quota, or if not that, the nodes have too little, without those in ``order`` that may be stopped.

        Of what nobody in the tree is guaranteed anything there is nothing to return: then it is whatever is lent.
        """
        governed, amounts = self._account.tree.governed, self._head.amounts
        gone = self._stop_all(order, reclaim=True)
        short = self._quota and [r for r in governed if amounts[r] and amounts[r] > self._use.room(self._account, r)]
        lacking = short or self._lacking_on_nodes()
        for holding in gone:
            self._change(holding, 1)
        return tuple(r for r in lacking if r in governed) or (governed if lacking else ())

    def _lacking_on_nodes(self) -> tuple[int, ...]:
        devices = len(RESOURCES) - 1
        lacking = self._room.lacks(self._head.demand)
        if devices not in lacking:
            return lacking
        return (*(r for r in lacking if r != devices), *self._accounts.devices(self._account, self._head.amounts))

    def _stop_all(self, order: Sequence[Holding], *, reclaim: bool) -> list[Holding]:
        gone: list[Holding] = []
        for holding in order:
            if self._may_stop(holding, reclaim=reclaim):
                self._change(holding, -1)
                gone.append(holding)
        return gone

    def _own(self, orders: Orders) -> Sequence[Sequence[Holding]]:
        if self._everybody:
            return orders
        mine = self._account.holdings
        if not any(h.preemptible and h.priority < self._priority for h in mine.values()):
            return ()
        return [[h for h in order if h.job_id in mine] for order in orders]

    def _may_stay_within(self, orders: Orders) -> bool:
        """Whether it stays within what is guaranteed, at least if all of its tenant's lower priorities are stopped."""
        if self._use.within(self._account, self._head.amounts):
            return True
        lower = self._stop_all(orders[0], reclaim=False)
        within = self._use.within(self._account, self._head.amounts)
        for holding in lower:
            self._change(holding, 1)
        return within

    def _set(self, order: Sequence[Holding], *, reclaim: bool) -> list[Holding]:
        """The shortest beginning of ``order`` that helps, less whoever can be spared, from its end."""
        victims: list[Holding] = []
        enough = False
        for holding in order:
            if self._may_stop(holding, reclaim=reclaim):
                self._change(holding, -1)
                victims.append(holding)
                if enough := self._suffices(reclaim=reclaim):
                    break
        if enough and len(victims) > 1:
            for victim in reversed(victims.copy()):
                self._change(victim, 1)
                if self._suffices(reclaim=reclaim):
                    victims.remove(victim)
                else:
                    self._change(victim, -1)
        for victim in victims:
            self._change(victim, 1)
        return victims if enough else []

    def _may_stop(self, holding: Holding, *, reclaim: bool) -> bool:
        lower = holding.priority < self._priority
        account = self._accounts.of(holding.tenant)
        if holding.end_s == IMMINENT:  # told to stop since the candidates were looked for
            return False
        if account is self._account or self._everybody:
            return lower
        if not reclaim:
            return False
        if account.tree is not self._account.tree:
            return not account.tree.governed and not self._quota and (lower or self._account.reclaim == "any")
        return self._use.over(account, self._lent) and (lower or self._account.reclaim == "any")

    def _suffices(self, *, reclaim: bool) -> bool:
        head, account = self._head, self._account
        if reclaim and not self._use.within(account, head.amounts):
            return False
        if self._quota and not self._use.admits(account, head.amounts, preemptible=head.preemptible):
            return False
        return self._room.fits(head.demand)

    def _change(self, holding: Holding, sign: int) -> None:
        account = self._accounts.of(holding.tenant)
        if account.tree is self._account.tree:
            self._use.add(account, holding.amounts, sign, firm=False)
        if sign < 0:
            self._room.give(holding.demand, holding.spots)
        else:
            self._room.take(holding.demand, holding.spots)


def _loss(holding: Holding) -> tuple[bool, float, str]:
    """What is lost: nothing where work is kept, else the less the shorter it ran."""
    return not holding.suspendable, -holding.decided_at_s, holding.job_id


def _negated_size(holding: Holding) -> tuple[int, int]:
    return -holding.demand.total_gpu_milli, -holding.demand.total_cpu_milli


def _cost(victims: Sequence[Holding]) -> tuple[int, int, int, float]:
    lost = [h.decided_at_s for h in victims if not h.suspendable]
    return max(h.priority for h in victims), len(victims), len(lost), -sum(lost)
