"""What is true: sites, prices and carbon of every hour. Policies never see it; bills and the lower bound are made from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from solyx.energy import HOUR_S, hour_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from numpy.typing import NDArray

    from solyx.scenario import EnergySeries, Site

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

_KG_PER_T = 1000.0
_AFTER_H = 168  # of prices after the last arrival


@dataclass(frozen=True, kw_only=True, eq=False)
class World:
    """Hourly truth over (site, hour from ``first_hour``); before and after, the first and last values are held."""

    sites: tuple[Site, ...]
    first_hour: int  # Unix time in hours
    price: Floats  # EUR/MWh
    carbon: Floats  # gCO2/kWh

    @property
    def names(self) -> list[str]:
        """Sites in order."""
        return [site.name for site in self.sites]

    @property
    def cores(self) -> Floats:
        """Cores by site."""
        return np.array([sum(node.cpu_milli for node in site.nodes) / 1000.0 for site in self.sites])

    @property
    def idle_kw(self) -> Floats:
        """The floor that no job changes, by site, at the meter."""
        return np.array([site.power.idle_w(nodes=len(site.nodes)) / 1000.0 for site in self.sites])

    @property
    def egress_eur_per_gib(self) -> Floats:
        """By the site that the data leaves."""
        return np.array([site.egress_eur_per_gib for site in self.sites])

    def power_kw(self, cores: Floats, gpus: Floats) -> Floats:
        """Power of jobs above the idle floor, over (site, job), at the meter."""
        per_core = np.array([site.power.dynamic_w(cores=1.0, gpus=0.0) for site in self.sites])
        per_gpu = np.array([site.power.dynamic_w(cores=0.0, gpus=1.0) for site in self.sites])
        return (per_core[:, None] * cores + per_gpu[:, None] * gpus) / 1000.0

    def weighted(self, carbon_eur_per_t: float) -> Floats:
        """Price with carbon, EUR/MWh over (site, hour): EUR/t × g/kWh = EUR/t × kg/MWh."""
        return self.price + self.carbon * (carbon_eur_per_t / _KG_PER_T)

    def integral(self, values: Floats, site: Ints, start_s: Floats, end_s: Floats) -> Floats:
        """∫ values dt in value × hours, for many (site, span) at once."""
        prefix = np.concatenate([np.zeros((len(values), 1)), np.cumsum(values, axis=1)], axis=1)
        return self._upto(values, prefix, site, end_s) - self._upto(values, prefix, site, start_s)

    def _upto(self, values: Floats, prefix: Floats, site: Ints, at_s: Floats) -> Floats:
        position = at_s / HOUR_S - self.first_hour
        index = np.clip(np.floor(position).astype(np.int64), 0, values.shape[1] - 1)
        return prefix[site, index] + (position - index) * values[site, index]

    def span(self, since_s: float, until_s: float) -> slice:
        """The hours of [``since_s``, ``until_s``)."""
        first = int(since_s // HOUR_S) - self.first_hour
        return slice(max(0, first), max(0, int(-(-until_s // HOUR_S)) - self.first_hour))


def make_world(sites: Sequence[Site], energy: Mapping[str, EnergySeries], since: datetime, until: datetime) -> World:
    """The truth from ``since`` to a week after ``until``, as far as the series reach.

    A missing hour holds the value before it, as the bill of ``solyx.energy`` does.
    """
    first, end = hour_of(since), hour_of(until) + _AFTER_H
    price, carbon = [], []
    for site in sites:
        series = energy[site.name]
        start = hour_of(series.start)
        last = start + len(series.price_eur_per_mwh)
        hours = np.clip(np.arange(first, max(first + 1, min(end, last))), start, last - 1) - start
        price.append(_held(series.price_eur_per_mwh)[hours])
        carbon.append(_held(series.carbon_gco2_per_kwh)[hours])
    shortest = min(len(row) for row in price)
    return World(
        sites=tuple(sites),
        first_hour=first,
        price=_stack(price, shortest),
        carbon=_stack(carbon, shortest),
    )


def _stack(rows: Sequence[Floats], length: int) -> Floats:
    return np.stack([row[:length] for row in rows])


def _held(values: Floats) -> Floats:
    """Gaps hold the value before them; a gap at the beginning, the first known one."""
    known = np.flatnonzero(np.isfinite(values))
    if not len(known):
        return np.zeros_like(values)
    before = np.searchsorted(known, np.arange(len(values)), side="right") - 1
    return values[known[np.maximum(before, 0)]]
