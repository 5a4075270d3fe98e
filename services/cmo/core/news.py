"""Whether a site has become another than the one that plans were made on: what runs there costs, and how much can run there.

The simple algorithm: compare what is known now with what was known then. Most of what comes in changes next to nothing, so a change
counts only from a bound on: of the hours to come, how far prices with carbon are from those the plans were made on, as a share of these.
It adds up: what was planned on is replaced when plans are looked at, not with every change below the bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from services.cmo.core.ledger import SLOT_S

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from services.cmo.core.outlook import Outlook
    from services.cmo.core.sites import Site, Sites
    from services.cmo.model import Policy

    Floats = NDArray[np.float64]

_AHEAD_H = 24  # most of what is planned begins and ends in a day
_EUR_PER_MWH = 1.0  # where prices are about 0 a share of them says nothing


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Basis:
    """What is known of a site."""

    hour: int  # the first of `rates`
    rates: Floats  # EUR/MWh with carbon; empty: unknown
    capacity: tuple[int, ...]  # cores, memory and devices of its ready nodes
    terms: tuple[object, ...]  # all else that placements depend on

    def differs(self, then: Basis, share: float) -> bool:
        """Whether plans made on ``then`` are worth another look."""
        return self.terms != then.terms or self._has_other_capacity(then, share) or self._has_other_rates(then, share)

    def _has_other_capacity(self, then: Basis, share: float) -> bool:
        return any(abs(now - before) > share * before for now, before in zip(self.capacity, then.capacity, strict=True))

    def _has_other_rates(self, then: Basis, share: float) -> bool:
        over = self.hour - then.hour
        hours = min(_AHEAD_H, len(self.rates), len(then.rates) - over)
        if hours <= 0:  # its prices have become known, or nobody knows them any more
            return bool(len(self.rates))
        now, before = self.rates[:hours], then.rates[over : over + hours]
        return float(np.abs(now - before).sum()) > share * max(float(np.abs(before).sum()), hours * _EUR_PER_MWH)


class News:
    """Keeps for each site what the plans were made on."""

    def __init__(self, policy: Policy, sites: Sites, outlook: Outlook) -> None:
        self._policy, self._sites, self._outlook = policy, sites, outlook
        self._basis: dict[str, Basis] = {}
        self._looked: tuple[int, int, int] | None = None
        self._found: frozenset[str] = frozenset()

    def look(self, now_s: float) -> frozenset[str]:
        """The sites that differ from what plans were made on. The first look makes no news: plans are taken as they are found."""
        looked = (int(now_s // SLOT_S), self._outlook.version, self._sites.generation)
        if looked != self._looked:
            first, self._looked = self._looked is None, looked
            known, share = self._known(now_s), self._policy.news_share
            if first:
                self._basis = known
            self._found = frozenset(
                name for name, now in known.items() if name not in self._basis or now.differs(self._basis[name], share)
            )
        return self._found

    def plan_on(self, names: frozenset[str] | None, now_s: float) -> None:
        """From now on plans are made on what is known now of these sites; None: of all."""
        known = self._known(now_s)
        self._basis.update(known if names is None else {name: known[name] for name in names})
        self._found = frozenset() if names is None else self._found - names

    def _known(self, now_s: float) -> dict[str, Basis]:
        sites = self._sites.all
        prices = self._outlook.prices([site.name for site in sites], now_s)
        rates = prices.rates(None, self._policy.horizon_h)
        return {
            site.name: Basis(
                hour=prices.hour,
                rates=rates[site.index] if prices.known[site.index] else rates[site.index, :0],
                capacity=_capacity(site),
                terms=(site.lost, site.power, site.observed.egress_eur_per_gib, site.observed.latency_ms),
            )
            for site in sites
        }


def _capacity(site: Site) -> tuple[int, ...]:
    ready = site.ready.items() if not site.lost else ()
    return (
        sum(count * shape.cpu_milli for shape, count in ready),
        sum(count * shape.memory_bytes for shape, count in ready),
        sum(count * group.count for shape, count in ready for group in shape.devices),
    )
