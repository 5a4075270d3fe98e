"""Which model a job gets that takes several, where quotas tell models from each other.

Such a job is looked at as one for each model that has a quota in its tenant's tree, and one for all other models together: its
variants. With several requests there is one for each combination. In its turn it takes the first variant that may start now, of
those that stay within what is guaranteed before those that borrow. If none may, it waits for one of them:

1. the first that is within what is guaranteed: whatever is missing is returned to it;
2. else the first whose quota has room, which waits for capacity;
3. else the first that somebody else's wait holds up;
4. else the first that its quota could ever hold.

So a job never has others stopped while a model that it takes is to be had. All its pods get the model of one variant: it is Kueue's
choice of a flavor for each resource of a workload (kueue.sigs.k8s.io/docs/concepts/cluster_queue, "flavors and borrowing").
"""

from __future__ import annotations

from itertools import islice, product
from typing import TYPE_CHECKING, Final

import msgspec

from services.drm.model import by_constraint

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.drm.core.accounts import Account, Accounts
    from services.drm.core.inventory import Inventory
    from services.drm.core.pool import Pool
    from services.drm.core.queue import Lane, Waiting
    from services.drm.core.waits import Obstacle, QuotaWaits
    from services.drm.model import Demand
    from solyx.events import DeviceRequest

MOST_VARIANTS: Final = 64
"""Combinations of one job that are looked at; four requests of three models each are 81."""
_WITHIN, _ADMITTED, _HELD_UP, _SHORT, _HOPELESS, _NO_NODE = range(6)
"""What a job that may not start now is to wait for, the best first."""


def variants_of(demand: Demand, accounts: Accounts, account: Account, inventory: Inventory) -> tuple[Demand, ...]:
    """The demand for each choice of models that its quotas tell from another; itself where they tell none."""
    choices = [_choices(request, accounts.models(account, request.kind), inventory) for request in demand.devices]
    if all(choice == [request] for choice, request in zip(choices, demand.devices, strict=True)):
        return (demand,)
    return tuple(
        msgspec.structs.replace(demand, devices=by_constraint(devices))
        for devices in islice(product(*choices), MOST_VARIANTS)
    )


def one_model_each(demand: Demand, inventory: Inventory) -> tuple[Demand, ...]:
    """The demand for each choice of one model for each request; none where its requests leave no choice at the site."""
    choices = [
        [model for model in request.models or there if model in there]
        for request in demand.devices
        for there in (inventory.models(request.kind),)
    ]
    if all(len(models) < 2 for models in choices):
        return ()
    return tuple(
        msgspec.structs.replace(
            demand,
            devices=by_constraint(
                msgspec.structs.replace(request, models=(model,))
                for request, model in zip(demand.devices, models, strict=True)
            ),
        )
        for models in islice(product(*choices), MOST_VARIANTS)
    )


def _choices(request: DeviceRequest, governed: tuple[str, ...], inventory: Inventory) -> list[DeviceRequest]:
    """One request for each model with a quota, in the order in which it names them, and one for all the others."""
    if not governed:
        return [request]
    models = request.models or inventory.models(request.kind)
    groups: list[tuple[str, ...]] = [(model,) for model in models if model in governed]
    others = tuple(model for model in models if model not in governed)
    if others:
        groups.append(others)
    return [msgspec.structs.replace(request, models=group) for group in groups] or [request]


def settle(
    waiting: Waiting, lane: Lane, quotas: QuotaWaits, pool: Pool, may_start: Callable[[], bool]
) -> Obstacle | None:
    """Choose its models as stated above; what then keeps it waiting, if its quotas do.

    ``may_start``: whether it fits now as it then is. ``lane.further_s`` tells how short another of the lane must be to do better.
    """
    if not lane.flexible:
        return quotas.obstacle(waiting)
    within = [pool.accounts.use(lane.account).within(lane.account, variant.amounts) for variant in lane.variants]
    order = sorted(range(len(within)), key=lambda index: not within[index])
    lane.further_s = float("-inf")
    ranked: list[tuple[int, int, Obstacle | None]] = []
    for index in order:
        lane.take(waiting, lane.variants[index])
        obstacle = quotas.obstacle(waiting)
        if obstacle is None and may_start():
            return None
        if obstacle is not None:
            lane.further_s = max(lane.further_s, obstacle.within_s)
        ranked.append((_rank(waiting, pool, _blocked(obstacle), within=within[index]), index, obstacle))
    _, index, obstacle = min(ranked, key=lambda entry: entry[:2])
    lane.take(waiting, lane.variants[index])
    return obstacle


def _blocked(obstacle: Obstacle | None) -> int:
    if obstacle is None:
        return _ADMITTED
    return _HELD_UP if obstacle.before is not None else _SHORT


def prefer(waiting: Waiting, lane: Lane, pool: Pool) -> None:
    """Choose its models by its quotas alone."""
    if not lane.flexible:
        return
    use = pool.accounts.use(lane.account)

    def rank(index: int) -> tuple[int, int]:
        variant = lane.variants[index]
        lane.take(waiting, variant)
        admits = use.admits(lane.account, variant.amounts, preemptible=waiting.preemptible)
        within = use.within(lane.account, variant.amounts)
        return _rank(waiting, pool, _ADMITTED if admits else _SHORT, within=within), index

    lane.take(waiting, lane.variants[min(range(len(lane.variants)), key=rank)])


def _rank(waiting: Waiting, pool: Pool, blocked: int, *, within: bool) -> int:
    if not pool.could_hold(waiting.demand):
        return _NO_NODE
    if waiting.account.never_holds(waiting.amounts, preemptible=waiting.preemptible):
        return _HOPELESS
    return _WITHIN if within else blocked
