"""Sites, routes, energy and the grid, as they are now."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from services.gateway.model.view import View
from solyx.events import (
    DemandResponseReported,
    EnergySeriesPublished,
    FeedReported,
    ForecastIssued,
    GridEventAnnounced,
    QuotasReported,
    RouteDecided,
    SiteObserved,
)


class SiteList(View, frozen=True, kw_only=True):
    sites: list[SiteObserved]


class Route(View, frozen=True, kw_only=True):
    """A decided route and what the network did with it."""

    decided: RouteDecided
    status: Literal["decided", "applied", "failed"]
    message: str = ""


class QuotaList(View, frozen=True, kw_only=True):
    sites: list[QuotasReported]  # by name; those that have quotas


class RouteList(View, frozen=True, kw_only=True):
    routes: list[Route]


class SiteEnergy(View, frozen=True, kw_only=True):
    """Price and carbon of a site: now, what is published, what is forecast."""

    site: str
    price_eur_per_mwh: float | None  # now; null: unknown
    carbon_gco2_per_kwh: float | None  # now, or the latest published value
    renewable_pct: float | None
    series: list[EnergySeriesPublished]  # published values from a day ago on
    forecasts: list[ForecastIssued]


class EnergyList(View, frozen=True, kw_only=True):
    now: datetime
    sites: list[SiteEnergy]
    feeds: list[FeedReported]


class GridEntry(View, frozen=True, kw_only=True):
    """A demand-response event, and how its site answers it."""

    event: GridEventAnnounced
    response: DemandResponseReported | None = None


class GridList(View, frozen=True, kw_only=True):
    now: datetime
    events: list[GridEntry]
