"""Who holds how much of what is guaranteed to whom: the arithmetic of a tree of cohorts, one site.

The concepts are Kueue's (kueue.sigs.k8s.io/docs/concepts/cohort): what a member does not keep to itself (its lending limit)
counts as its cohort's; use beyond what it keeps is use of the cohort's, up to its borrowing limit; and so on up the tree.
"""

from __future__ import annotations

import operator
from collections import Counter
from typing import TYPE_CHECKING, Final, TypeAlias

from services.drm.quotas import RESOURCES, Cohort, Figure, Quota, Reclaim, Share, SiteQuotas, device_of, figures

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from services.drm.core.inventory import Inventory
    from services.drm.model import Demand, Holding

Amounts: TypeAlias = tuple[int, ...]
"""In the order of ``SiteQuotas.resources``: CPU in thousandths, bytes of memory, accelerators in thousandths, and the same of
each kind or model that the site's quotas name."""
Shares: TypeAlias = tuple[float, ...]
"""Weighted dominant shares, from the top cohort down to the tenant; compared one after the other."""
UNLIMITED: Final = 1 << 62


class Tree:
    """Accounts that lend to each other, directly or through cohorts. A tenant in no cohort is a tree of its own."""

    def __init__(self, resources: tuple[str, ...]) -> None:
        self.resources = resources  # of the site
        self.accounts: list[Account] = []  # parents before their members
        self.governed: tuple[int, ...] = ()  # those of them that anybody in it names
        self.holdings: dict[str, Holding] = {}  # of all its tenants, by job id


class Account:
    """A tenant or a cohort. ``used`` of a cohort is what its members hold beyond what they keep to themselves."""

    __slots__ = (
        "borrow",
        "firm",
        "guaranteed",
        "held",
        "holdings",
        "index",
        "is_cohort",
        "is_named",
        "kept",
        "lend",
        "most",
        "name",
        "parent",
        "reclaim",
        "total",
        "tree",
        "used",
        "weight",
    )

    def __init__(self, name: str, tree: Tree, parent: Account | None, quota: Quota | Cohort) -> None:
        named = figures(quota)
        shares = [_share(named.get(resource)) for resource in tree.resources]
        self.name, self.tree, self.parent = name, tree, parent
        self.is_cohort, self.is_named = isinstance(quota, Cohort), False
        self.index = len(tree.accounts)
        tree.accounts.append(self)
        tree.governed = tuple(
            index
            for index, resource in enumerate(tree.resources)
            if index in tree.governed or named.get(resource) is not None
        )
        self.weight = quota.weight or 1.0
        self.reclaim: Reclaim = quota.reclaim if isinstance(quota, Cohort) else parent.reclaim if parent else "never"
        self.guaranteed = [share.guaranteed for share in shares]
        self.total = self.guaranteed.copy()  # its own, and what its members lend
        self.lend = [UNLIMITED if share.lend is None else share.lend for share in shares]
        self.kept = [0] * len(shares)  # of the total, what others never get
        self.borrow = [UNLIMITED if share.borrow is None else share.borrow for share in shares]
        self.most = [0] * len(shares)  # what it holds when nobody else holds anything
        self.used = [0] * len(shares)
        self.held = [0] * len(
            shares
        )  # of a cohort: by all in it, whoever keeps it; followed where cohorts have weights
        self.firm = [0] * len(shares)  # what its jobs hold that must not be stopped
        self.holdings: dict[str, Holding] = {}  # by job id

    def never_holds(self, amounts: Amounts, *, preemptible: bool) -> bool:
        """Whether its quota would be too small even if nobody held anything."""
        firm = not preemptible and self.parent is not None and self.reclaim != "never"
        return any(
            amounts[r] > (min(self.most[r], self.guaranteed[r]) if firm else self.most[r])
            for r in self.tree.governed
            if amounts[r]
        )


class Use:
    """What every account of a tree uses: as it is, or on a copy, as it would be."""

    __slots__ = ("firm", "tree", "used")

    def __init__(self, tree: Tree, *, copy: bool) -> None:
        self.tree = tree
        self.used = [account.used.copy() if copy else account.used for account in tree.accounts]
        self.firm = [account.firm.copy() if copy else account.firm for account in tree.accounts]

    def copy(self) -> Use:
        """A copy, on which something may be tried."""
        other = Use.__new__(Use)
        other.tree = self.tree
        other.used = [row.copy() for row in self.used]
        other.firm = [row.copy() for row in self.firm]
        return other

    def add(self, account: Account, amounts: Amounts, sign: int, *, firm: bool) -> None:
        """Charge a tenant, and its cohorts with what goes beyond what their members keep."""
        used = self.used
        for resource, amount in enumerate(amounts):
            delta = sign * amount
            at: Account | None = account
            while delta and at is not None:
                row, kept = used[at.index], at.kept[resource]
                before = row[resource]
                row[resource] = before + delta
                delta = max(0, before + delta - kept) - max(0, before - kept)
                at = at.parent
        if firm:
            row = self.firm[account.index]
            for resource, amount in enumerate(amounts):
                row[resource] += sign * amount

    def room(self, account: Account, resource: int) -> int:
        """How much more the account may hold."""
        used = self.used[account.index][resource]
        if account.parent is None:
            return account.total[resource] - used
        return max(0, account.kept[resource] - used) + min(
            self.own_room(account, resource), self.room(account.parent, resource)
        )

    def own_room(self, account: Account, resource: int) -> int:
        """How much of the cohort's it may still use, as far as its own limit goes."""
        kept = account.kept[resource]
        beyond = max(0, self.used[account.index][resource] - kept)
        return account.total[resource] - kept + account.borrow[resource] - beyond

    def short_of(self, account: Account, amounts: Amounts) -> list[int]:
        """The resources of which the account may not hold so much more."""
        return [r for r in account.tree.governed if amounts[r] and amounts[r] > self.room(account, r)]

    def too_firm(self, account: Account, amounts: Amounts) -> list[int]:
        """The resources of which jobs that must not be stopped would hold more than is guaranteed."""
        if account.parent is None or account.reclaim == "never":
            return []
        firm, guaranteed = self.firm[account.index], account.guaranteed
        return [r for r in account.tree.governed if amounts[r] and firm[r] + amounts[r] > guaranteed[r]]

    def admits(self, account: Account, amounts: Amounts, *, preemptible: bool) -> bool:
        """Whether the quotas let the account hold so much more."""
        if not account.tree.governed:
            return True
        if not preemptible and self.too_firm(account, amounts):
            return False
        return not self.short_of(account, amounts)

    def within(self, account: Account, amounts: Amounts) -> bool:
        """Whether it stays in what is guaranteed to it."""
        used = self.used[account.index]
        for resource in account.tree.governed:
            if amounts[resource] and used[resource] + amounts[resource] > account.guaranteed[resource]:
                return False
        return True

    def over(self, account: Account, resources: tuple[int, ...]) -> bool:
        """Whether it holds more of one of these resources than is guaranteed to it."""
        used, guaranteed = self.used[account.index], account.guaranteed
        return any(used[resource] > guaranteed[resource] for resource in resources)


class Accounts:
    """The accounts of a site's tenants.

    ``fair``: there are cohorts, so turns go by weighted dominant share; else by priority and age alone, and
    all tenants without a limit of their own share one account.
    """

    def __init__(self, quotas: SiteQuotas) -> None:
        self.fair = bool(quotas.cohorts)
        self.named = bool(quotas.cohorts or quotas.tenants)  # anybody is
        self.resources = quotas.resources()
        self._devices = [device_of(resource) for resource in self.resources[len(RESOURCES) :]]
        self._weighs_cohorts = any(cohort.weight is not None for cohort in quotas.cohorts.values())
        self.capacity: Amounts = (0,) * len(self.resources)
        self._per_capacity = [0.0] * len(self.resources)
        self._tenants: dict[str, Account] = {}
        self._uses: dict[int, Use] = {}
        cohorts: dict[str, Account] = {}
        for name in quotas.cohorts:
            _open_cohort(name, quotas.cohorts, cohorts, self.resources)
        for name, cohort in quotas.cohorts.items():
            for tenant, quota in cohort.tenants.items():
                self._tenants[tenant] = Account(tenant, cohorts[name].tree, cohorts[name], quota)
        for tenant, quota in quotas.tenants.items():
            self._tenants[tenant] = Account(tenant, Tree(self.resources), None, quota)
        self.cohorts = tuple(cohorts.values())  # after those that they belong to
        for account in (*self.cohorts, *self._tenants.values()):
            account.is_named = True
            if account.parent is None:
                _settle(account.tree)
        self._others = None if self.fair else self._open_other("")

    @property
    def tenants(self) -> Iterable[Account]:
        """Those that the quotas name and, where there are cohorts, all others that were seen."""
        return self._tenants.values()

    def of(self, tenant: str) -> Account:
        """The tenant's account."""
        account = self._tenants.get(tenant, self._others)
        if account is None:
            account = self._tenants[tenant] = self._open_other(tenant)
        return account

    def _open_other(self, tenant: str) -> Account:
        """The account of a tenant that the quotas do not name."""
        return Account(tenant, Tree(self.resources), None, Quota())

    def use(self, account: Account) -> Use:
        """What the account's tree uses now."""
        use = self._uses.get(id(account.tree))
        if use is None:
            use = self._uses[id(account.tree)] = Use(account.tree, copy=False)
        return use

    def set_capacity(self, inventory: Inventory) -> None:
        """What the site has, of which dominant shares are parts."""
        self.capacity = (*inventory.totals(), *(inventory.total_of(*device) for device in self._devices))
        self._per_capacity = [1.0 / amount if amount else 0.0 for amount in self.capacity]

    def share(self, account: Account) -> Shares:
        """Its dominant share over its weight; the same for all where there are no cohorts.

        Ghodsi et al., "Dominant resource fairness", NSDI 2011, section 4.1 (algorithm 1) and section 4.3 (weights). Where cohorts
        have weights, their shares count first, from the top down: a cohort among its siblings, then the tenant in its cohort.
        """
        if not self.fair:
            return ()
        own = self.dominant(account.used) / account.weight
        if not self._weighs_cohorts:
            return (own,)
        path = [own]
        at = account.parent
        while at is not None:
            path.append(self.dominant(at.held) / at.weight)
            at = at.parent
        return tuple(reversed(path))

    def dominant(self, used: list[int]) -> float:
        """The largest part of anything that the site has."""
        return max(map(operator.mul, used, self._per_capacity))

    def borrows(self, account: Account, amounts: Amounts) -> bool:
        """Whether it would hold more than is guaranteed to it. Outside all cohorts nothing is, if there are any."""
        return self.fair and (not account.tree.governed or not self.use(account).within(account, amounts))

    def charge(self, holding: Holding, sign: int) -> None:
        """Add or take back what an allocation holds."""
        account = self.of(holding.tenant)
        if not holding.amounts:
            holding.amounts = self._held(holding)
        self.use(account).add(account, holding.amounts, sign, firm=not holding.preemptible)
        if self._weighs_cohorts:
            at = account.parent
            while at is not None:
                for resource, amount in enumerate(holding.amounts):
                    at.held[resource] += sign * amount
                at = at.parent
        for holdings in (account.holdings, account.tree.holdings):
            if sign > 0:
                holdings[holding.job_id] = holding
            else:
                holdings.pop(holding.job_id, None)

    def _held(self, holding: Holding) -> Amounts:
        """What it holds: of devices what it really got."""
        got: Counter[tuple[str, str]] = Counter()
        if self._devices:
            for pod in holding.pods:
                for device in pod.devices:
                    got[device.kind, device.model] += device.share_milli
                    got[device.kind, ""] += device.share_milli
        return (*_of_all_pods(holding.demand), *(got[device] for device in self._devices))

    def amounts(self, demand: Demand) -> Amounts:
        """What a gang asks for. A request that names several models, or none, counts against no model (``models.py``)."""
        asked: Counter[tuple[str, str]] = Counter()
        if self._devices:
            for request in demand.devices:
                amount = request.count * request.share_milli * demand.parallelism
                asked[request.kind, ""] += amount
                if len(request.models) == 1:
                    asked[request.kind, request.models[0]] += amount
        return (*_of_all_pods(demand), *(asked[device] for device in self._devices))

    def devices(self, account: Account, amounts: Amounts) -> tuple[int, ...]:
        """As what the devices of a job count: the models that it names, else the kinds, else all; of what its tree governs."""
        first = len(RESOURCES)
        asked = [resource for resource in account.tree.governed if resource >= first and amounts[resource]]
        models = [resource for resource in asked if self._devices[resource - first][1]]
        return tuple(models or asked or (first - 1,))

    def models(self, account: Account, kind: str) -> tuple[str, ...]:
        """The models of a kind of which the account has no more than its quotas let it."""
        first = len(RESOURCES)
        governed = (self._devices[resource - first] for resource in account.tree.governed if resource >= first)
        return tuple(model for its_kind, model in governed if model and its_kind == kind)


def _of_all_pods(demand: Demand) -> tuple[int, int, int]:
    return demand.total_cpu_milli, demand.total_memory_bytes, demand.total_gpu_milli


def _share(figure: Figure) -> Share:
    return figure if isinstance(figure, Share) else Share(guaranteed=figure or 0)


def _open_cohort(
    name: str, quotas: Mapping[str, Cohort], made: dict[str, Account], resources: tuple[str, ...]
) -> Account:
    """The account of a cohort, after those above it."""
    if name not in made:
        parent = quotas[name].parent
        above = _open_cohort(parent, quotas, made, resources) if parent else None
        made[name] = Account(name, above.tree if above is not None else Tree(resources), above, quotas[name])
    return made[name]


def _settle(tree: Tree) -> None:
    """Work out the figures that follow: what is kept, what there is in all, and the most that each may hold."""
    for account in reversed(tree.accounts):
        for resource, total in enumerate(account.total):
            if account.parent is not None:
                account.kept[resource] = max(0, total - account.lend[resource])
                account.parent.total[resource] += total - account.kept[resource]
    nothing = Use(tree, copy=True)
    for account in tree.accounts:
        account.most = [nothing.room(account, resource) for resource in range(len(account.total))]
