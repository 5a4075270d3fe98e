"""What is known when: the collector's planner and the forecaster's core are run once over the whole span, for all policies.

Nothing here depends on a policy, so it is done once and replayed. A moment is a full hour, the publication of a day-ahead
auction, or a change of a site's inventory. At each: what the collector would publish then (inventories, prices, carbon); at auctions and
every few hours also what the forecaster would issue from that alone, as it would in production. A policy at time t is given the moments up to t and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from services.collector.core.replay import Replay, ReplayPolicy
from services.forecaster.core import ForecastCore
from services.forecaster.model import ForecastPolicy
from solyx.energy import HOUR_S
from solyx.events import EnergySeriesPublished, ForecastIssued, SiteObserved
from solyx.scenario import next_publication

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

    from solyx.events import Event
    from solyx.scenario import EnergySeries, Scenario

    Floats = NDArray[np.float64]

PRICE, CARBON = "price_eur_per_mwh", "carbon_gco2_per_kwh"
_KINDS = (PRICE, CARBON)
_HISTORY_DAYS = 90  # what the forecaster keeps
FORECAST_EVERY_H = 3
"""How often the forecaster is asked besides at publications. Hourly, as in production, takes three times as long; the CMO counts a
forecast as fresh for 3 h, and what is published meanwhile reaches it at once."""


@dataclass(frozen=True, slots=True, eq=False)
class Issued:
    """A forecast, small: mean, lower and upper in one array."""

    site: str
    kind: str
    known_steps: int
    model: str
    level: float
    bands: NDArray[np.float32]

    def event(self, at: datetime) -> ForecastIssued:
        mean, lower, upper = (tuple(row) for row in self.bands.tolist())
        return ForecastIssued(
            subject_id=self.site,
            kind=self.kind,
            issued_at=at,
            start=at.replace(minute=0, second=0, microsecond=0),
            step_s=HOUR_S,
            mean=mean,
            lower=lower,
            upper=upper,
            level=self.level,
            known_steps=self.known_steps,
            model=self.model,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Moment:
    """What becomes known at a time."""

    at: datetime
    published: tuple[SiteObserved | EnergySeriesPublished, ...]
    issued: tuple[Issued, ...]

    @property
    def at_s(self) -> float:
        """Unix time."""
        return self.at.timestamp()

    def events(self) -> Iterator[Event]:
        """As the topics would carry them."""
        yield from self.published
        for issued in self.issued:
            yield issued.event(self.at)


def learn(
    scenario: Scenario,
    energy: Mapping[str, EnergySeries],
    since: datetime,
    until: datetime,
    *,
    every_h: int = FORECAST_EVERY_H,
    progress: Callable[[float], None] = lambda _share: None,
) -> list[Moment]:
    """Every moment from ``since`` to ``until``; the first one carries the history before it."""
    end = min([until, *(series.end for series in energy.values())])
    replay = Replay(scenario, energy, ReplayPolicy(history_days=_HISTORY_DAYS))
    core = ForecastCore(ForecastPolicy(history_days=_HISTORY_DAYS))
    publications = _publications(scenario, since, end)
    times = sorted({*_hours(since, end), *publications, *_outages(scenario, since, end)})
    moments: list[Moment] = []
    for at in times:
        published = tuple(e for e in replay.due(at) if isinstance(e, SiteObserved | EnergySeriesPublished))
        for event in published:
            core.fold(event)
        issued: list[Issued] = []
        if at == since or at in publications or (at.minute == 0 and at.hour % every_h == 0):
            while decided := core.decide(at):
                issued.extend(_small(event) for event in decided if isinstance(event, ForecastIssued))
        moments.append(Moment(at, published, tuple(issued)))
        progress((at - since) / max(end - since, timedelta(hours=1)))
    return moments


def _small(event: ForecastIssued) -> Issued:
    bands = np.array([event.mean, event.lower, event.upper], dtype=np.float32)
    return Issued(event.subject_id, event.kind, event.known_steps, event.model, event.level, bands)


def _hours(since: datetime, until: datetime) -> Iterator[datetime]:
    yield since
    at = since.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
    while at < until:
        yield at
        at += timedelta(hours=1)


def _publications(scenario: Scenario, since: datetime, until: datetime) -> set[datetime]:
    found: set[datetime] = set()
    for site in scenario.sites:
        at = next_publication(since, site.market)
        while at < until:
            found.add(at.astimezone(UTC))
            at = next_publication(at, site.market)
    return found


def _outages(scenario: Scenario, since: datetime, until: datetime) -> Iterator[datetime]:
    for site in scenario.sites:
        for outage in (*site.outages, *site.maintenance):
            for edge_s in (outage.from_s, outage.until_s):
                at = scenario.start + timedelta(seconds=edge_s) if edge_s is not None else since
                if since < at < until:
                    yield at


class Outlook:
    """For the baselines: price with carbon by site and hour as far as it is known or forecast now, EUR/MWh.

    The latest forecast of each series; its first steps are the published values. Past its end its last value is held.
    """

    def __init__(self, sites: list[str], carbon_eur_per_t: float) -> None:
        self._sites = {name: index for index, name in enumerate(sites)}
        self._carbon_weight = carbon_eur_per_t / 1000.0  # EUR/t × g/kWh = EUR/t × kg/MWh
        self._latest: dict[tuple[int, str], tuple[int, Floats]] = {}  # first hour, mean
        self._past: list[dict[str, dict[int, float]]] = [{PRICE: {}, CARBON: {}} for _ in sites]
        self._cache: dict[int, tuple[int, Floats]] = {}

    def take(self, moment: Moment) -> None:
        """Learn what becomes known."""
        for event in moment.published:
            if isinstance(event, EnergySeriesPublished) and event.kind in _KINDS:
                known = self._past[self._sites[event.site]][event.kind]
                first = int(event.start.timestamp() // HOUR_S)
                known.update({first + k: value for k, value in enumerate(event.values) if value is not None})
        for issued in moment.issued:
            mean = issued.bands[0].astype(np.float64)
            self._latest[self._sites[issued.site], issued.kind] = (int(moment.at_s // HOUR_S), mean)
        self._cache.clear()

    def prefix(self, site: int, now_s: float, hours: int) -> Floats:
        """Prefix sums of the weighted price from the present hour on, over at least ``hours`` hours."""
        hour = int(now_s // HOUR_S)
        cached = self._cache.get(site)
        if cached is None or cached[0] != hour or len(cached[1]) <= hours:
            rate = self._hourly(site, PRICE, hour, hours + 96)
            rate = rate + self._carbon_weight * self._hourly(site, CARBON, hour, hours + 96)
            cached = self._cache[site] = (hour, np.concatenate(([0.0], np.cumsum(rate))))
        return cached[1]

    def between(self, site: int, now_s: float, start_s: Floats, duration_s: float) -> Floats:
        """∫ rate dt of runs that start at ``start_s`` (each not before the present hour), EUR/MWh·h."""
        offset = now_s // HOUR_S
        last_h = float(start_s.max() + duration_s) / HOUR_S - offset
        prefix = self.prefix(site, now_s, int(last_h) + 2)
        first = start_s / HOUR_S - offset
        return _at(prefix, first + duration_s / HOUR_S) - _at(prefix, first)

    def past(self, site: int, now_s: float, hours: int) -> Floats:
        """The known rates of the last ``hours`` hours."""
        hour = int(now_s // HOUR_S)
        price, carbon = self._past[site][PRICE], self._past[site][CARBON]
        span = [h for h in range(hour - hours, hour) if h in price and h in carbon]
        return np.array([price[h] + self._carbon_weight * carbon[h] for h in span])

    def _hourly(self, site: int, kind: str, hour: int, hours: int) -> Floats:
        first, mean = self._latest.get((site, kind), (hour, np.zeros(1)))
        return mean[np.clip(np.arange(hour - first, hour - first + hours), 0, len(mean) - 1)]


def _at(prefix: Floats, position: Floats) -> Floats:
    index = np.clip(position.astype(np.int64), 0, len(prefix) - 2)
    return prefix[index] + (position - index) * (prefix[index + 1] - prefix[index])
