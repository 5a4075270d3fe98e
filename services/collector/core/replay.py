"""A scenario as the world would report it: what is to be published at a scenario time, given what already was.

Simple equivalent: at every time, everything that is known then is published; what was published before, unchanged, is left
out. So a planner that was asked every second and one that was asked once publish the same last record for each key, and a
planner that starts anew (a restart) repeats ids that are there already.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, get_args
from zoneinfo import ZoneInfo

import msgspec
import numpy as np

from services.collector.core.series import canonical
from solyx.events import EnergySeriesPublished, LinkObserved, MetricsScraped, SiteObserved
from solyx.events.energy import EnergyKind
from solyx.scenario import LOAD_METRIC, EnergySeries, known_at

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    from solyx.events import Event
    from solyx.scenario import DayAheadMarket, Load, Outage, Scenario, Site, Slowdown

HOUR = timedelta(hours=1)
ENERGY_KINDS: tuple[EnergyKind, ...] = get_args(EnergyKind)
_AHEAD: frozenset[EnergyKind] = frozenset(("price_eur_per_mwh", "on_site_w"))  # known before their hours


class ReplayPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a scenario, how often (scenario time)."""

    history_days: int = 28
    link_period_s: float = 300.0  # where the scenario's traffic has no period
    metrics_period_s: float = 60.0


class Replay:
    """Says what to publish next; remembers only what it has said."""

    def __init__(self, scenario: Scenario, energy: Mapping[str, EnergySeries], policy: ReplayPolicy) -> None:
        """``energy`` holds the series of every site by name."""
        background = scenario.network.background
        link_period_s = background.period_s if background else policy.link_period_s
        self._energy = [_SiteEnergy(site, energy[site.name], scenario.start, policy) for site in scenario.sites]
        self._sites = [_Inventory(site, scenario.start) for site in scenario.sites]
        self._links = _Links(scenario, link_period_s)
        self._metrics = [
            _Exporter(
                site,
                energy[site.name],
                [load for load in scenario.loads if load.site == site.name],
                scenario.start,
                policy.metrics_period_s,
            )
            for site in scenario.sites
        ]

    def due(self, now: datetime) -> list[Event]:
        """Inventory first (who am I placing on?), then energy, then link and site readings."""
        events: list[Event] = [event for site in self._sites for event in site.due(now)]
        events.extend(event for energy in self._energy for event in energy.due(now))
        events.extend(self._links.due(now))
        events.extend(event for exporter in self._metrics for event in exporter.due(now))
        return events


class _SiteEnergy:
    """One site's prices, carbon and renewable share, by UTC day."""

    def __init__(self, site: Site, series: EnergySeries, start: datetime, policy: ReplayPolicy) -> None:
        self._site, self._series = site, series
        first_day = midnight(start) - timedelta(days=policy.history_days)
        self._said: dict[EnergyKind, int] = dict.fromkeys(ENERGY_KINDS, series.index(first_day))  # hours published

    def due(self, now: datetime) -> Iterable[EnergySeriesPublished]:
        known = known_at(now, self._site.market)
        for kind in _kinds(self._series):
            known_until = known.price if kind in _AHEAD else known.carbon
            first, end = self._said[kind], self._series.index(known_until)
            while first < end:
                day, next_day = self._day_of(first)
                yield self._published(kind, day, min(next_day, end))
                first = min(next_day, end)
            self._said[kind] = max(first, end)

    def _day_of(self, hour: int) -> tuple[int, int]:
        """The hours [from, to) of the UTC day that holds ``hour``."""
        day = midnight(self._series.start + HOUR * hour)
        return self._series.index(day), self._series.index(day + timedelta(days=1))

    def _published(self, kind: EnergyKind, first: int, end: int) -> EnergySeriesPublished:
        values: NDArray[np.float64] = getattr(self._series, kind)[first:end]
        known_since = self._series.start + HOUR * end
        if kind in _AHEAD:
            known_since = auctioned_at(known_since - HOUR, self._site.market)
        return EnergySeriesPublished(
            site=self._site.name,
            kind=kind,
            start=self._series.start + HOUR * first,
            values=tuple(None if np.isnan(value) else float(value) for value in values),
            published_at=known_since,  # from the market's calendar, not from now: a restart repeats the record as it was
            source=f"scenario/{self._site.zone}",
        )


def _kinds(series: EnergySeries) -> Iterator[EnergyKind]:
    return (kind for kind in ENERGY_KINDS if getattr(series, kind) is not None)


class _Inventory:
    """One site's machines, and which of them work."""

    def __init__(self, site: Site, start: datetime) -> None:
        self._site, self._start = site, start
        self._said: datetime | None = None

    def due(self, now: datetime) -> Iterable[SiteObserved]:
        since_s = (now - self._start).total_seconds()
        changes = (*self._site.outages, *self._site.maintenance)
        changed_at = self._start + timedelta(seconds=last_change_s(changes, since_s))
        if changed_at == self._said:
            return
        self._said = changed_at
        site = self._site
        closed = not_ready(site, since_s)
        drained = {work.subject for work in site.maintenance if work.drains and is_out(work, since_s)}
        yield SiteObserved(
            site=site.name,
            observed_at=changed_at,
            nodes=tuple(
                msgspec.structs.replace(node, ready=False, draining=node.name in drained)
                if node.name in closed
                else node
                for node in site.nodes
            ),
            power=site.power,
            zone=site.zone,
            network_node=site.network_node,
            egress_eur_per_gib=site.egress_eur_per_gib,
            latency_ms=site.latency_ms,
            battery=site.battery,
            price_bound_eur_per_mwh=site.price_bound_eur_per_mwh,
        )


class _Links:
    """Every link's rate once a period, and at once when it fails or comes back."""

    def __init__(self, scenario: Scenario, period_s: float) -> None:
        self._scenario, self._period_s = scenario, period_s
        self._said: dict[str, datetime] = {}
        self._outages: dict[str, list[Outage]] = {}
        for outage in scenario.network.outages:
            self._outages.setdefault(outage.subject, []).append(outage)
        self._slowdowns: dict[str, list[Slowdown]] = {}
        for slowdown in scenario.network.slowdowns:
            self._slowdowns.setdefault(slowdown.subject, []).append(slowdown)

    def due(self, now: datetime) -> Iterable[LinkObserved]:
        start = self._scenario.start
        since_s = max((now - start).total_seconds(), 0.0)
        read_s = since_s // self._period_s * self._period_s
        rates: dict[str, float] | None = None
        for link in self._scenario.network.links:
            outages, slowdowns = self._outages.get(link.name, []), self._slowdowns.get(link.name, [])
            at = start + timedelta(seconds=max(read_s, last_change_s([*outages, *slowdowns], since_s)))
            if self._said.get(link.name) == at:
                continue
            self._said[link.name] = at
            rates = self._scenario.link_rates(read_s) if rates is None else rates
            up = not any(is_out(outage, since_s) for outage in outages)
            slow = [slowdown.latency_ms for slowdown in slowdowns if is_out(slowdown, since_s)]
            yield LinkObserved(
                link=link.name,
                source=link.source,
                target=link.target,
                capacity_bps=link.capacity_bps,
                rate_bps=rates[link.name] if up else 0.0,
                latency_ms=slow[-1] if slow else link.latency_ms,
                up=up,
                observed_at=at,
            )


class _Exporter:
    """What a site's exporter would show: the price in force, the last measured carbon and renewables, nodes that work, and the
    load of its services.
    """

    def __init__(
        self, site: Site, series: EnergySeries, loads: Iterable[Load], start: datetime, period_s: float
    ) -> None:
        self._site, self._series, self._start, self._period_s = site, series, start, period_s
        self._loads = [
            (canonical({"__name__": LOAD_METRIC, "service": load.service, "site": site.name}), load) for load in loads
        ]
        self._said: datetime | None = None
        self._names = {
            kind: canonical({"__name__": f"solyx_site_{kind}", "site": site.name}) for kind in ENERGY_KINDS
        } | {"nodes": canonical({"__name__": "solyx_site_nodes_ready", "site": site.name})}

    def due(self, now: datetime) -> Iterable[Event]:
        since_s = max((now - self._start).total_seconds(), 0.0) // self._period_s * self._period_s
        at = self._start + timedelta(seconds=since_s)
        if at == self._said:
            return
        self._said = at
        known = known_at(at, self._site.market)
        readings: list[tuple[str, float]] = []
        for kind in _kinds(self._series):
            hour = at if kind in _AHEAD else known.carbon - HOUR
            values: NDArray[np.float64] = getattr(self._series, kind)
            if self._series.start <= hour < self._series.end and not np.isnan(
                value := values[self._series.index(hour)]
            ):
                readings.append((self._names[kind], float(value)))
        ready = len(self._site.nodes) - len(not_ready(self._site, since_s))
        readings.append((self._names["nodes"], float(ready)))
        readings.extend((name, load.at(since_s)) for name, load in self._loads)
        yield MetricsScraped(
            source=self._site.name,
            scraped_at=at,
            series=tuple(name for name, _ in readings),
            values=tuple(value for _, value in readings),
        )


def auctioned_at(hour: datetime, market: DayAheadMarket) -> datetime:
    """When the day-ahead price of ``hour`` came out: at the publication on the local day before."""
    zone = ZoneInfo(market.timezone)
    day_before = hour.astimezone(zone).date() - timedelta(days=1)
    return datetime.combine(day_before, market.published, tzinfo=zone).astimezone(UTC)


def midnight(at: datetime) -> datetime:
    """The beginning of the UTC day of ``at``."""
    return at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def not_ready(site: Site, since_s: float) -> set[str]:
    """Machines that are dead, cordoned or drained ``since_s`` after the scenario's start."""
    return {change.subject for change in (*site.outages, *site.maintenance) if is_out(change, since_s)}


def is_out(outage: Outage, since_s: float) -> bool:
    """Whether the outage holds ``since_s`` after the scenario's start."""
    return outage.from_s <= since_s and (outage.until_s is None or since_s < outage.until_s)


def last_change_s(outages: Iterable[Outage], since_s: float) -> float:
    """When one of them last began or ended, in s after the start; 0 when none has yet."""
    edges = (edge for outage in outages for edge in (outage.from_s, outage.until_s) if edge is not None)
    return max((edge for edge in edges if edge <= since_s), default=0.0)
