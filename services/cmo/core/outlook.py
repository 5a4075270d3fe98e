"""What energy will cost: published values and forecasts of every site, as arrays over (site, hour from now).

For each site and kind: the forecast if it is fresh, with published values laid over it; else the published values alone, whose
last one is held. Prices say nothing about hours for which none is published or forecast, so no start is considered there.

Power that a site generates itself costs nothing and emits nothing: it takes its share of the site's power at full use off price and
carbon of each hour for which it is published (none is guessed). Every job of an hour is charged that mix, not the first ones nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from services.cmo.core.ledger import SLOT_S, WINDOW_SLOTS
from solyx.energy import HourlySeries, curve_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from services.cmo.model import Policy
    from solyx.energy import HourlyCurve
    from solyx.events import EnergySeriesPublished, ForecastIssued

    Floats = NDArray[np.float64]

PRICE: Final = "price_eur_per_mwh"
CARBON: Final = "carbon_gco2_per_kwh"
ON_SITE: Final = "on_site_w"

# A published value older than this says nothing about now: the daily cycle is the strongest in prices and carbon
# (Lago et al. 2021, Applied Energy 293, §3).
_HOLDS_H = 24
_KEEP_H = 48


@dataclass(frozen=True, slots=True)
class Forecast:
    """The latest forecast of a site and kind."""

    issued_at_s: float
    curve: HourlyCurve | None


@dataclass(frozen=True, slots=True)
class Prices:
    """Price and carbon of all sites from ``hour`` on. A run longer than a week is priced by its first week."""

    hour: int
    price: Floats  # prefix sums over (site, hours + 1), EUR/MWh·h
    carbon: Floats  # prefix sums, gCO2/kWh·h
    weighted: Floats  # prefix sums of price + carbon price × carbon, EUR/MWh·h
    known: NDArray[np.bool_]  # by site: price and carbon are known now
    starts: NDArray[np.int64]  # by site: how many hourly starts lie in hours of known price

    def weigh(self, carbon_eur_per_t: float | None) -> Floats:
        """Prefix sums of price with carbon at the job's own carbon price; None: the federation's."""
        return self.weighted if carbon_eur_per_t is None else self.price + self.carbon * (carbon_eur_per_t / 1000.0)

    def rates(self, carbon_eur_per_t: float | None, count: int) -> Floats:
        """EUR/MWh with carbon, over (site, hour from now)."""
        return np.diff(self.weigh(carbon_eur_per_t)[:, : count + 1], axis=1)

    def unit_costs(self, duration_s: float, now_s: float, count: int, carbon_eur_per_t: float | None = None) -> Floats:
        """EUR/MW of running for ``duration_s``, over (site, start): start 0 is now, start k the k-th full hour."""
        seconds = min(duration_s, WINDOW_SLOTS * SLOT_S)
        whole, part = int(seconds // SLOT_S), seconds % SLOT_S / SLOT_S
        prefix = self.weigh(carbon_eur_per_t)
        costs = prefix[:, whole : whole + count] - prefix[:, :count]
        if part:
            costs += part * (prefix[:, whole + 1 : whole + count + 1] - prefix[:, whole : whole + count])
        costs[:, 0] = self.between(prefix, now_s, seconds)
        return costs * (duration_s / seconds) if seconds < duration_s else costs

    def integrals(self, site: int, start_s: float, duration_s: float) -> tuple[float, float]:
        """∫ price dt (EUR/MWh·h) and ∫ carbon dt (gCO2/kWh·h) over a run at one site."""
        seconds = min(duration_s, WINDOW_SLOTS * SLOT_S)
        stretch = duration_s / seconds
        row = slice(site, site + 1)
        price = self.between(self.price[row], start_s, seconds)[0]
        carbon = self.between(self.carbon[row], start_s, seconds)[0]
        return float(price) * stretch, float(carbon) * stretch

    def between(self, prefix: Floats, start_s: float, seconds: float) -> Floats:
        """What prefix sums add up to in the ``seconds`` from ``start_s`` on, by row."""
        first = start_s / SLOT_S - self.hour
        return _at(prefix, first + seconds / SLOT_S) - _at(prefix, first)


def _at(prefix: Floats, position: float) -> Floats:
    """The sum up to a position; past the end the last hour's value is held."""
    index = min(int(position), prefix.shape[1] - 2)
    return prefix[:, index] + (position - index) * (prefix[:, index + 1] - prefix[:, index])


class Outlook:
    """Series and forecasts as they come; ``prices`` is made anew when they, the sites or the hour changed."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._series: dict[tuple[str, str], HourlySeries] = {}
        self._forecasts: dict[tuple[str, str], Forecast] = {}
        self._keep_from: int | None = (
            None  # hour from which on published values are still asked for; None: no run is under way
        )
        self.version = 0  # grows with all that comes in
        self._full_w: dict[str, float] = {}
        self._made_for: tuple[int, int, list[str]] | None = None
        self._prices: Prices | None = None

    def fold_series(self, event: EnergySeriesPublished) -> None:
        """Take over published values."""
        if event.kind in (PRICE, CARBON, ON_SITE):
            self._series.setdefault((event.site, event.kind), HourlySeries()).add(
                event.start, event.step_s, event.values
            )
            self.version += 1

    def fold_forecast(self, event: ForecastIssued) -> None:
        """Take over a forecast, unless a later one is known."""
        if event.kind not in (PRICE, CARBON):
            return
        key, issued_at_s = (event.subject_id, event.kind), event.issued_at.timestamp()
        known = self._forecasts.get(key)
        if known is None or issued_at_s > known.issued_at_s:
            self._forecasts[key] = Forecast(issued_at_s, curve_of(event.start, event.step_s, event.mean))
            self.version += 1

    def set_full_w(self, full_w: dict[str, float]) -> None:
        """Each site's power at full use, of which its own generation is a share."""
        if full_w != self._full_w:
            self._full_w = full_w
            self.version += 1

    def keep_from(self, hour: int | None) -> None:
        """Published values from that hour on are wanted, however old: a run that began then is not billed yet."""
        self._keep_from = hour

    def published(self, site: str) -> tuple[HourlyCurve | None, HourlyCurve | None]:
        """Price and carbon of a site as published, the past that is still wanted included; None: never published."""
        price, carbon = self._series.get((site, PRICE)), self._series.get((site, CARBON))
        return price.curve() if price else None, carbon.curve() if carbon else None

    def prices(self, sites: list[str], now_s: float) -> Prices:
        """The outlook from the present hour on."""
        hour = int(now_s // SLOT_S)
        wanted = (hour, self.version, sites)
        if self._prices is None or self._made_for != wanted:
            for series in self._series.values() if self._made_for and self._made_for[0] != hour else ():
                series.forget_before(min(hour, self._keep_from or hour) - _KEEP_H)
            self._prices, self._made_for = self._make(sites, hour, now_s), wanted
        return self._prices

    def _make(self, sites: list[str], hour: int, now_s: float) -> Prices:
        horizon = self._policy.horizon_h
        hours = horizon + WINDOW_SLOTS + 3
        price, carbon = np.zeros((len(sites), hours)), np.zeros((len(sites), hours))
        known, starts = np.zeros(len(sites), np.bool_), np.zeros(len(sites), np.int64)
        for index, site in enumerate(sites):
            prices = self._look(site, PRICE, hour, hours, now_s)
            carbons = self._look(site, CARBON, hour, hours, now_s)
            if prices is None or (carbons is None and self._policy.carbon_eur_per_t):
                continue
            known[index] = True
            price[index], end_hour = prices
            starts[index] = max(1, min(horizon + 1, end_hour - hour))
            bought = 1.0 - self._on_site(site, hour, hours)
            price[index] *= bought
            if carbons is not None:
                carbon[index] = carbons[0] * bought
        # EUR/t × gCO2/kWh = EUR/t × kg/MWh = EUR/MWh ÷ 1000
        weighted = price + carbon * (self._policy.carbon_eur_per_t / 1000.0)
        return Prices(hour, _prefix(price), _prefix(carbon), _prefix(weighted), known, starts)

    def _on_site(self, site: str, hour: int, hours: int) -> Floats:
        """The share of the site's power at full use that its own generation covers, by hour; 0 where nothing is published."""
        share, full_w = np.zeros(hours), self._full_w.get(site, 0.0)
        series = self._series.get((site, ON_SITE))
        published = series.curve() if series else None
        if published is not None and full_w > 0.0 and published.start_hour <= hour < published.end_hour:
            span = slice(hour - published.start_hour, hour - published.start_hour + hours)
            ahead = np.where(published.held[span], 0.0, published.values[span])
            share[: len(ahead)] = np.clip(ahead / full_w, 0.0, 1.0)
        return share

    def _look(self, site: str, kind: str, hour: int, hours: int, now_s: float) -> tuple[Floats, int] | None:
        """Hourly values from the present hour on, and the first hour for which there is none but a held one."""
        series = self._series.get((site, kind))
        published = series.curve() if series else None
        forecast = self._forecasts.get((site, kind))
        fresh_s = max(self._policy.forecast_fresh_s, self._policy.reaction_s)
        if forecast and forecast.curve and now_s - forecast.issued_at_s <= fresh_s and forecast.curve.end_hour > hour:
            values = _sampled(forecast.curve, hour, hours)
            if published and published.start_hour <= hour < published.end_hour:
                span = slice(hour - published.start_hour, hour - published.start_hour + hours)
                ahead = published.values[span]
                values[: len(ahead)] = np.where(published.held[span], values[: len(ahead)], ahead)
            return values, forecast.curve.end_hour
        if published and published.end_hour + _HOLDS_H > hour:
            return _sampled(published, hour, hours), published.end_hour
        return None


def _sampled(curve: HourlyCurve, hour: int, hours: int) -> Floats:
    index = np.arange(hour, hour + hours) - curve.start_hour
    return curve.values[np.clip(index, 0, len(curve.values) - 1)]


def _prefix(values: Floats) -> Floats:
    return np.concatenate((np.zeros((values.shape[0], 1)), np.cumsum(values, axis=1)), axis=1)
