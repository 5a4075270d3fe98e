"""What running a job costs where and when, at what is known now; and the choice that says so.

Everything that depends on the present only is made once for each moment: the outlook, and the cost of lengths that many jobs share.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from services.cmo.core.ledger import SLOT_S
from services.cmo.model import Choice
from solyx.events import Alternative, CostBreakdown, PlacementReason

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from services.cmo.core.jobs import Job
    from services.cmo.core.kinds import Kind
    from services.cmo.core.ledger import Stretch
    from services.cmo.core.limits import Limit
    from services.cmo.core.outlook import Outlook, Prices
    from services.cmo.core.sites import Sites
    from services.cmo.model import Policy
    from solyx.events import JobSpec

    Floats: TypeAlias = NDArray[np.float64]

Then: TypeAlias = "tuple[tuple[str, Stretch], ...]"
"""Where and when a job goes on at other sites than the one it begins at."""
_DAY_H = 24


@dataclass(frozen=True, slots=True)
class Work:
    """What a job still has to do, and within which limits."""

    job: Job
    spec: JobSpec
    kind: Kind
    usable: NDArray[np.bool_]  # by site
    length_s: float  # the work left, with what a restart costs
    limit: Limit
    delay_eur_per_h: float
    ready_s: Floats | None = None  # by site: from when on its data is there; None: it is everywhere at once

    def begins_s(self, site: int, start_s: float) -> float:
        """When a start at this time begins: not before its data is there."""
        return start_s if self.ready_s is None else max(start_s, float(self.ready_s[site]))

    def waited_eur(self, now_s: float) -> float:
        """The delay so far, which every plan bears."""
        assert self.job.submitted_at is not None
        waited_s = max(0.0, now_s - self.job.submitted_at.timestamp() - self.job.kept_s)
        return waited_s / SLOT_S * self.delay_eur_per_h


class Costing:
    """The present, and what it says of costs."""

    def __init__(self, policy: Policy, sites: Sites, outlook: Outlook) -> None:
        self._policy, self._sites, self._outlook = policy, sites, outlook
        self._prices: Prices | None = None
        self.now_s = 0.0
        self._unit_costs: dict[tuple[float, int, float | None], Floats] = {}
        self._rates: dict[tuple[float | None, int], Floats] = {}

    def look(self, now: datetime) -> None:
        """Come up to the present."""
        now_s = now.timestamp()
        prices = self._outlook.prices([site.name for site in self._sites.all], now_s)
        if prices is not self._prices or now_s != self.now_s:
            self._prices, self.now_s = prices, now_s
            self._unit_costs.clear()
            self._rates.clear()

    @property
    def prices(self) -> Prices:
        """As of the last look."""
        assert self._prices is not None
        return self._prices

    def unit_cost(self, work: Work, count: int) -> Floats:
        """EUR/MW of the work in one piece over (site, start), the same for all jobs of one length."""
        weight = work.spec.weights.carbon_eur_per_t
        key = (work.length_s, count, weight)
        costs = self._unit_costs.get(key)
        if costs is None:
            costs = self._unit_costs[key] = self.prices.unit_costs(work.length_s, self.now_s, count, weight)
        return costs

    def rates(self, carbon_eur_per_t: float | None, hours: int) -> Floats:
        """EUR/MWh with carbon, over (site, hour from now); where nothing is known any more the last known day is repeated."""
        rates = self._rates.get((carbon_eur_per_t, hours))
        if rates is None:
            rates = self.prices.rates(carbon_eur_per_t, hours)
            hour = np.arange(rates.shape[1])
            for site, known in enumerate(self.prices.starts.tolist()):
                if known >= _DAY_H:
                    rates[site] = rates[site, np.where(hour < known, hour, known - _DAY_H + (hour - known) % _DAY_H)]
            self._rates[carbon_eur_per_t, hours] = rates
        return rates

    def starts_s(self, count: int) -> Floats:
        """The times of starts: now, then every full hour."""
        starts: Floats = (self.now_s // SLOT_S + np.arange(count, dtype=np.float64)) * SLOT_S
        starts[0] = self.now_s
        return starts

    def starts_until(self, latest_s: float) -> int:
        """How many starts (now, then every full hour) lie at or before ``latest_s``: at least one, at most the horizon's."""
        turn = (self.now_s // SLOT_S + 1) * SLOT_S
        if latest_s < turn:
            return 1
        return 2 + int(min(self._policy.horizon_h - 1, (latest_s - turn) // SLOT_S))

    def is_last(self, start: int, latest_s: float) -> bool:
        """Whether no later start lies at or before ``latest_s``; not if it is the horizon that ends them."""
        return start == self.starts_until(latest_s) - 1 < self._policy.horizon_h

    def of_runs(self, spec: JobSpec, kind: Kind, site: int, stretches: tuple[Stretch, ...], then: Then = ()) -> float:
        """EUR of running in these stretches, as plans are compared; infinite where it may not run."""
        prefix = self.prices.weigh(spec.weights.carbon_eur_per_t)
        eur, late_h, before_h, lies_at = float(kind.movement_eur[site]), 0.0, 0.0, site
        runs = self._runs(site, stretches, then)
        for where, (start_s, duration_s) in runs:
            if not self.prices.known[where] or not kind.candidates[where]:
                return inf
            if where != lies_at:
                eur, lies_at = eur + float(kind.leaving_eur[lies_at]), where
            begin_s = max(start_s, self.now_s)
            length_s = max(0.0, start_s + duration_s - begin_s)
            rate = float(self.prices.between(prefix[where : where + 1], begin_s, length_s)[0])
            eur += float(kind.power_mw[where]) * rate
            if before_h and length_s:
                eur += float(kind.power_mw[where]) * rate / length_s * self._policy.restart_s
            late_h += ((begin_s - self.now_s) / SLOT_S - before_h) * length_s
            before_h += length_s / SLOT_S
        return eur + self._policy.delay_of(spec) * late_h / max(before_h * SLOT_S, 1.0)

    def choice(
        self,
        job: Job,
        spec: JobSpec,
        kind: Kind,
        site: int,
        stretches: tuple[Stretch, ...],
        reason: PlacementReason,
        bound_by: str,
        then: Then = (),
    ) -> Choice:
        """With the components of its cost."""
        prices = self.prices
        energy_eur = energy_mwh = carbon_kg = length_s = 0.0
        movement_eur, lies_at = float(kind.movement_eur[site]), site
        runs = self._runs(site, stretches, then)
        for where, (start_s, duration_s) in runs:
            power_mw = float(kind.power_mw[where])
            length_s += duration_s
            energy_mwh += power_mw * duration_s / SLOT_S
            if where != lies_at:
                movement_eur, lies_at = movement_eur + float(kind.leaving_eur[lies_at]), where
            if prices.known[where]:
                price, carbon = prices.integrals(where, start_s, duration_s)
                energy_eur, carbon_kg = energy_eur + power_mw * price, carbon_kg + power_mw * carbon
        weights, policy = spec.weights, self._policy
        carbon_eur_per_t = policy.carbon_eur_per_t if weights.carbon_eur_per_t is None else weights.carbon_eur_per_t
        assert job.submitted_at is not None
        late_s = sum(runs[-1][1]) - length_s - job.submitted_at.timestamp() - job.kept_s
        cost = CostBreakdown(
            energy_eur=energy_eur,
            carbon_eur=carbon_kg * carbon_eur_per_t / 1000.0,
            movement_eur=movement_eur,
            delay_eur=max(0.0, late_s) / SLOT_S * policy.delay_of(spec),
            energy_kwh=energy_mwh * 1000.0,
            carbon_kg=carbon_kg,
        )
        return Choice(
            site=self._sites.all[site].name,
            start_at=datetime.fromtimestamp(stretches[0][0], UTC),
            reason=reason if reason is PlacementReason.NO_FORECAST else job.reason_after(reason),
            cost=cost,
            alternative=None,
            bound_by=bound_by,
            stretches=stretches,
            then=then,
            total_eur=cost.total_eur,
        )

    def second(self, work: Work, costs: Floats) -> Alternative | None:
        """The best pair over (site, start) that was not taken; the chosen one is struck out."""
        site, start = least(costs)
        cost = float(costs[site, start])
        if cost == inf:
            return None
        return Alternative(
            site=self._sites.all[site].name,
            start_at=datetime.fromtimestamp(work.begins_s(site, float(self.starts_s(start + 1)[start])), UTC),
            total_eur=cost + work.waited_eur(self.now_s),
        )

    def _runs(self, site: int, stretches: tuple[Stretch, ...], then: Then) -> list[tuple[int, Stretch]]:
        later = [(self._sites.by_name[name].index, stretch) for name, stretch in then]
        return [*((site, stretch) for stretch in stretches), *later]


def least(costs: Floats) -> tuple[int, int]:
    """Site and start of the least cost; of equals the earliest start, then the first site."""
    start, site = divmod(int(costs.T.argmin()), costs.shape[0])
    return site, start
