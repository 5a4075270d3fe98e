"""What the time that data takes does to the starts of a job: no start before its data is there.

A start now becomes a start at the arrival, if that lies within the present hour; else the starts before the arrival are closed.
"""

from __future__ import annotations

from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING

import numpy as np

from services.cmo.core.ledger import SLOT_S, Room
from services.cmo.core.limits import iso
from services.cmo.core.wan import sized

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from services.cmo.core.costing import Costing, Floats, Work
    from services.cmo.core.kinds import Kind
    from services.cmo.core.ledger import Ledger
    from services.cmo.core.sites import Site, Sites
    from services.cmo.model import Choice


def shift_starts(work: Work, costs: Floats, fits: NDArray[np.bool_], costing: Costing, ledger: Ledger) -> None:
    """Make ``costs`` and ``fits``, over (site, start), those of starts with the data in place."""
    ready_s, now_s = work.ready_s, costing.now_s
    assert ready_s is not None
    count = costs.shape[1]
    late = costing.starts_s(count) < ready_s[:, None]
    waits = late[:, 0] & (ready_s < (now_s // SLOT_S + 1) * SLOT_S) & (ready_s <= work.limit.latest_s)
    waits &= costs[:, 0] < inf
    prefix = costing.prices.weigh(work.spec.weights.carbon_eur_per_t)
    for site in np.flatnonzero(waits).tolist():
        begin_s, row = float(ready_s[site]), slice(site, site + 1)
        run_eur = float(costing.prices.between(prefix[row], begin_s, work.length_s)[0]) * float(
            work.kind.power_mw[site]
        )
        delay_eur = (begin_s - now_s) / SLOT_S * work.delay_eur_per_h
        costs[site, 0] = run_eur + float(work.kind.movement_eur[site]) + delay_eur
        fits[site, 0] = Room(ledger, work.kind.demand, work.length_s, begin_s).starts(1)[site, 0]
    late[:, 0] &= ~waits
    costs[late] = inf


def queue_of(work: Work, costs: Floats, load: Floats) -> tuple[int, int]:
    """Site and start of a job that finds no room: where the load is least, of those that its data reaches in time; else where it is first."""
    usable = work.usable
    if work.ready_s is not None:
        reached = usable & (costs < inf).any(axis=1)
        if not reached.any():
            return int(np.where(usable, work.ready_s, inf).argmin()), 0
        usable = reached
    return int(np.where(usable, load, inf).argmin()), 0


def full(site: Site, start_s: float) -> str:
    """Why it does not begin where and when it would be cheapest."""
    return f"capacity: {site.name} has no room from {iso(start_s)}"


def no_room(work: Work, costs: Floats) -> str:
    """Why it is queued."""
    within = work.limit.words or "the horizon"
    if work.ready_s is not None and not (costs < inf).any():
        return f"WAN: its data reaches no feasible site within {within}"
    return f"capacity: no feasible site has room within {within}; waits in the site's queue"


def told(choice: Choice, kind: Kind, unhindered: Choice | None, ready_s: Floats | None, sites: Sites) -> Choice:
    """The choice with the figures, where the network changed it or kept a site from the job.

    ``unhindered``: what would have been chosen if data took no time.
    """
    words = [choice.bound_by] if choice.bound_by else []
    if unhindered is not None and (unhindered.site, unhindered.start_at) != (choice.site, choice.start_at):
        words.extend(arrival(kind, sites.by_name[unhindered.site], ready_s))
    if kind.cut_off:
        words.append(f"WAN: {kind.cut_off}")
    return replace(choice, bound_by="; ".join(words))


def arrival(kind: Kind, site: Site, ready_s: Floats | None) -> list[str]:
    """When the data is there, in words; none if that takes no time."""
    if ready_s is None or kind.data is None:
        return []
    return [f"WAN: {sized(kind.data)} reach {site.name} at {iso(float(ready_s[site.index]))}"]
