"""Sites, routes, energy and the stream of history, as the projector left them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from sqlalchemy import Text, cast, func, or_, select

from services.gateway.model import EnergyList, GridEntry, GridList, HistoryEntry, PriceRelief, Route, SiteEnergy
from services.gateway.store.jobs import HISTORY_COLUMNS, history_entry
from services.gateway.store.tables import ENTITIES, HISTORY
from solyx.events import (
    DemandResponseReported,
    EnergySeriesPublished,
    FeedReported,
    ForecastIssued,
    GridEventAnnounced,
    NodesOrdered,
    QuotaAccount,
    QuotasReported,
    ReliefAnswered,
    ReliefRequested,
    RouteDecided,
    RouteReported,
    SiteLatenciesMeasured,
    SiteObserved,
)
from solyx.nodes import under

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

PAST_SHOWN = timedelta(days=1)
GRID_PAST_SHOWN = timedelta(days=7)
_ENERGY_FORECASTS = ("price_eur_per_mwh", "carbon_gco2_per_kwh", "renewable_pct")

T = TypeVar("T")


class EventFilter(msgspec.Struct, frozen=True, kw_only=True):
    """What a stream of events is narrowed to."""

    tenant: str | None = None  # this tenant's and nobody's; None: everybody's
    types: tuple[str, ...] = ()
    subject: str | None = None


class ReadModel:
    """Queries of the projected state."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def sites(self) -> tuple[list[SiteObserved], list[NodesOrdered]]:
        """The latest inventory of each site, by name, under what operators ordered; and these orders."""
        async with self._engine.connect() as connection:
            observed = await _entities(connection, "site", SiteObserved)
            ordered = {one.site: one for one in await _entities(connection, "nodes", NodesOrdered)}
        sites = [under(site, ordered.get(site.site)) for site in observed]
        return sites, [one for one in ordered.values() if one.orders]

    async def routes(self) -> list[Route]:
        """Each pair's latest route, and what the network reported of that revision."""
        async with self._engine.connect() as connection:
            decided = await _entities(connection, "route", RouteDecided)
            reports = {report.subject: report for report in await _entities(connection, "route_report", RouteReported)}
        routes: list[Route] = []
        for route in decided:
            report = reports.get(route.key)
            if report is not None and report.revision == route.revision:
                routes.append(Route(decided=route, status=report.status, message=report.message))
            else:
                routes.append(Route(decided=route, status="decided"))
        return routes

    async def latencies(self, now: datetime) -> list[SiteLatenciesMeasured]:
        """How far places are from each site, where that is measured."""
        async with self._engine.connect() as connection:
            return await _entities(connection, "latencies", SiteLatenciesMeasured, valid_after=now)

    async def energy(self, now: datetime) -> EnergyList:
        """Per site: what holds at ``now``, what was published from a day before on, and the forecasts."""
        async with self._engine.connect() as connection:
            since = now - PAST_SHOWN
            series = await _entities(connection, "energy", EnergySeriesPublished, valid_after=since)
            forecasts = await _entities(connection, "forecast", ForecastIssued, valid_after=since)
            feeds = await _entities(connection, "feed", FeedReported)
        return EnergyList(now=now, sites=_by_site(series, forecasts, now), feeds=feeds)

    async def grid(self, now: datetime) -> GridList:
        """Events that ended less than a week ago, or are to come, the earliest first."""
        since = now - GRID_PAST_SHOWN
        async with self._engine.connect() as connection:
            events = await _entities(connection, "grid_event", GridEventAnnounced, valid_after=since)
            reported = await _entities(connection, "response", DemandResponseReported, valid_after=since)
            asked = await _entities(connection, "relief", ReliefRequested, valid_after=since)
            answered = await _entities(connection, "relief_answer", ReliefAnswered, valid_after=since)
        responses = {response.key: response for response in reported}
        events.sort(key=lambda event: (event.start, event.key))
        answers = {(answer.site, answer.requested_at): answer for answer in answered}
        return GridList(
            now=now,
            events=[GridEntry(event=one, response=responses.get(one.key)) for one in events],
            reliefs=[PriceRelief(request=one, answer=answers.get((one.site, one.requested_at))) for one in asked],
        )

    async def quotas(self, site: str | None, tenant: str | None) -> list[QuotasReported]:
        """How the quotas (of that site) are used; of a tenant its own and those of the cohorts that it belongs to."""
        async with self._engine.connect() as connection:
            reports = await _entities(connection, "quotas", QuotasReported, key=site)
        shown = [report if tenant is None else _seen_by(tenant, report) for report in reports]
        return [report for report in shown if report.accounts]

    async def last_seq(self) -> int:
        """The position of the newest event."""
        async with self._engine.connect() as connection:
            return (await connection.execute(select(func.coalesce(func.max(HISTORY.c.seq), 0)))).scalar_one()

    async def events_after(self, seq: int, chosen: EventFilter, limit: int) -> tuple[list[HistoryEntry], int]:
        """The next events that pass the filter, and the position up to which everything was looked at."""
        async with self._engine.connect() as connection:
            newest: int = (await connection.execute(select(func.coalesce(func.max(HISTORY.c.seq), 0)))).scalar_one()
            if newest <= seq:
                return [], seq
            query = select(*HISTORY_COLUMNS).where(HISTORY.c.seq > seq, HISTORY.c.seq <= newest)
            if chosen.tenant is not None:
                query = query.where(or_(HISTORY.c.tenant.is_(None), HISTORY.c.tenant == chosen.tenant))
            if chosen.types:
                query = query.where(HISTORY.c.type.in_(chosen.types))
            if chosen.subject is not None:
                query = query.where(HISTORY.c.subject == chosen.subject)
            rows = await connection.execute(query.order_by(HISTORY.c.seq).limit(limit))
            entries = [history_entry(row) for row in rows]
        return entries, (entries[-1].seq if len(entries) == limit else newest)


async def _entities(
    connection: AsyncConnection,
    kind: str,
    kind_of: type[T],
    *,
    key: str | None = None,
    valid_after: datetime | None = None,
) -> list[T]:
    query = select(cast(ENTITIES.c.body, Text)).where(ENTITIES.c.kind == kind).order_by(ENTITIES.c.key)
    if key is not None:
        query = query.where(ENTITIES.c.key == key)
    if valid_after is not None:
        query = query.where(ENTITIES.c.valid_until > valid_after)
    decoder = msgspec.json.Decoder(kind_of)
    return [decoder.decode(row[0]) for row in await connection.execute(query)]


def _seen_by(tenant: str, report: QuotasReported) -> QuotasReported:
    """Its own account and the cohorts above it, without what the other tenants hold."""
    cohorts = {account.name: account for account in report.accounts if account.kind == "cohort"}
    seen: list[QuotaAccount] = [a for a in report.accounts if a.kind == "tenant" and a.name == tenant]
    while seen and (above := cohorts.pop(seen[0].cohort, None)) is not None:
        seen.insert(0, above)
    return msgspec.structs.replace(report, accounts=tuple(seen))


def _by_site(
    series: Sequence[EnergySeriesPublished], forecasts: Sequence[ForecastIssued], now: datetime
) -> list[SiteEnergy]:
    sites = {one.site for one in series} | {one.subject_id for one in forecasts if one.kind in _ENERGY_FORECASTS}
    result: list[SiteEnergy] = []
    for site in sorted(sites):
        own = sorted((one for one in series if one.site == site), key=lambda one: (one.kind, one.start))
        current: dict[str, Any] = {kind: _current(own, kind, now) for kind in _ENERGY_FORECASTS}
        predicted = [one for one in forecasts if one.subject_id == site and one.kind in _ENERGY_FORECASTS]
        result.append(SiteEnergy(site=site, **current, series=own, forecasts=predicted))
    return result


def _current(series: Sequence[EnergySeriesPublished], kind: str, now: datetime) -> float | None:
    """The value that holds now or, for what is only published afterwards, the latest one before."""
    latest: tuple[datetime, float] | None = None
    for one in series:
        if one.kind != kind:
            continue
        step = timedelta(seconds=one.step_s)
        for index, value in enumerate(one.values):
            begins = one.start + index * step
            if value is not None and begins <= now and (latest is None or begins >= latest[0]):
                latest = (begins, value)
    return latest[1] if latest is not None else None
