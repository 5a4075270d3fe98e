"""A site's capacity and who holds it: charges allocations, whether or not the inventory that they name is known yet."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from services.drm.core.accounts import Accounts
from services.drm.core.capacity import Capacity
from services.drm.core.fragmentation import History
from services.drm.core.inventory import Inventory, Mask
from services.drm.core.occupancy import Occupancy

if TYPE_CHECKING:
    from services.drm.model import Demand, Holding
    from services.drm.quotas import SiteQuotas
    from solyx.events import SiteObserved
    from solyx.events.site import Node


class Pool:
    """Nodes, what is free on them, and use by tenant.

    ``version`` grows with every change that may alter a decision; ``growth`` with every change after which something may
    fit that did not before.
    """

    def __init__(self, quotas: SiteQuotas) -> None:
        self.accounts = Accounts(quotas)
        self.version = 0
        self.growth = 0
        self._could_hold: dict[Demand, bool] = {}  # on the nodes that are open, with nothing on them
        self.inventory: Inventory | None = None
        self.free = Capacity.empty(Inventory(()), np.zeros(0, dtype=np.bool_))
        self.history = History()
        self.occupancy = Occupancy(0, 0)
        self.holdings: dict[str, Holding] = {}  # by job id
        self.preemptible: dict[str, Holding] = {}  # those of them
        self.suspendable: dict[int, dict[str, Holding]] = {}  # those of them that have a pod there, by row of the node
        self.look_again_at_s = float("inf")  # something may be decided then that follows from no event
        self._nodes: tuple[Node, ...] = ()
        self._observed_at_s = float("-inf")
        self._lost = False
        self._lost_at_s = float("-inf")
        self._lost_nodes: dict[str, float] = {}  # name → Unix time of the loss
        self._draining: frozenset[str] = frozenset()  # names

    # --------------------------------------------------------------------------------------------------- inventory

    def observe(self, event: SiteObserved) -> None:
        """A newer inventory replaces the one at hand; allocations stay."""
        observed_at_s = event.observed_at.timestamp()
        if observed_at_s < self._observed_at_s:
            return
        self._observed_at_s, self._lost = observed_at_s, event.lost
        if event.lost:
            self._lost_at_s = observed_at_s
        back = {node.name for node in event.nodes if node.ready}
        self._lost_nodes = {
            name: at_s for name, at_s in self._lost_nodes.items() if not (at_s < observed_at_s and name in back)
        }
        self._draining = frozenset(node.name for node in event.nodes if node.draining)
        if self.inventory is None or self._nodes != event.nodes:
            self._nodes, self.inventory = event.nodes, Inventory(event.nodes)
            self._rebuild(self.inventory)
            self.accounts.set_capacity(self.inventory)
        self._reopen()

    def lose_nodes(self, holding: Holding, at_s: float, message: str) -> None:
        """A workload was lost with its node: nothing new starts there until a newer inventory says that it is ready.

        Of a gang's nodes it is those that the message names; all of them where it names none.
        """
        nodes = {pod.node for pod in holding.pods}
        words = set(re.findall(r"[\w.-]+", message))
        for name in {node for node in nodes if node in words} or nodes:
            self._lost_nodes[name] = max(at_s, self._lost_nodes.get(name, at_s))
        self._reopen()

    def must_leave(self, holding: Holding) -> bool:
        """One of its nodes is to be empty, and it has not gone with its site."""
        return not self.outlived(holding) and not self._draining.isdisjoint(pod.node for pod in holding.pods)

    def outlived(self, holding: Holding) -> bool:
        """The site was declared lost and fenced after this was allocated: nothing of it runs any more."""
        return holding.decided_at_s < self._lost_at_s

    def _rebuild(self, inventory: Inventory) -> None:
        self.free = Capacity.empty(inventory, inventory.ready, self.history.typical)
        self.occupancy = Occupancy(len(inventory.names), inventory.width)
        self.suspendable = {}
        for holding in self.holdings.values():
            holding.spots = inventory.spots(holding.pods)
            self.free.take(holding.demand, holding.spots)
            self.occupancy.add(holding)
            self._enter(holding)

    def _reopen(self) -> None:
        if self.inventory is None:
            return
        is_open: Mask = self.inventory.ready.copy()
        if self._lost:
            is_open[:] = False
        for name, at_s in self._lost_nodes.items():
            if name in self.inventory.rows and at_s >= self._observed_at_s:
                is_open[self.inventory.rows[name]] = False
        for name in self._draining:
            is_open[self.inventory.rows[name]] = False
        if not np.array_equal(is_open, self.free.open):
            self.free.open = is_open
        self._could_hold = {}
        self._changed(grown=True)

    def learn(self) -> None:
        """Pack for the pods that the site has come to expect."""
        if self.history.refresh():
            self.free.typical = self.history.typical

    def could_hold(self, demand: Demand) -> bool:
        """Whether the nodes that are open hold the gang when nothing else runs on them."""
        known = self._could_hold.get(demand)
        if known is None:
            assert self.inventory is not None
            known = self._could_hold[demand] = Capacity.empty(self.inventory, self.free.open).fits(demand)
        return known

    # ---------------------------------------------------------------------------------------------------- holdings

    def charge(self, holding: Holding) -> None:
        """Take what the allocation holds. One that is read back gets its spots here."""
        if self.inventory is not None:
            if not holding.spots:
                holding.spots = self.inventory.spots(holding.pods)
                self.history.note(holding.demand)
            self.free.take(holding.demand, holding.spots)
            self.occupancy.add(holding)
            self._enter(holding)
        self.holdings[holding.job_id] = holding
        if holding.preemptible:
            self.preemptible[holding.job_id] = holding
        self.accounts.charge(holding, 1)
        self._changed(grown=False)

    def discharge(self, holding: Holding) -> None:
        """Give back what it held."""
        if self.inventory is not None:
            self.free.give(holding.demand, holding.spots)
            self.occupancy.remove(holding)
            for spot in holding.spots if holding.suspendable else ():
                self.suspendable[spot.node].pop(holding.job_id, None)
        del self.holdings[holding.job_id]
        self.preemptible.pop(holding.job_id, None)
        self.accounts.charge(holding, -1)
        self._changed(grown=True)

    def _enter(self, holding: Holding) -> None:
        for spot in holding.spots if holding.suspendable else ():
            self.suspendable.setdefault(spot.node, {})[holding.job_id] = holding

    def set_end(self, holding: Holding, end_s: float) -> None:
        """It is expected to end at another time."""
        if end_s != holding.end_s:
            holding.end_s = end_s
            self.occupancy.set_end(holding)
            self._changed(grown=False)

    def look_again(self, at_s: float) -> None:
        """What was decided holds until then only."""
        self.look_again_at_s = min(self.look_again_at_s, at_s)

    def looks_again(self, now_s: float) -> None:
        """If it is time to look again, what was remembered is not relied on."""
        if self.look_again_at_s <= now_s:
            self.look_again_at_s = float("inf")
            self._changed(grown=False)

    def _changed(self, *, grown: bool) -> None:
        self.version += 1
        self.growth += grown
