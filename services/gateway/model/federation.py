"""Sites, routes, energy and the grid, as they are now."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from services.gateway.model.view import View
from solyx.events import (
    DemandResponseReported,
    EnergySeriesPublished,
    FeedReported,
    ForecastIssued,
    GridEventAnnounced,
    NodesOrdered,
    QuotasReported,
    ReliefAnswered,
    ReliefRequested,
    RouteDecided,
    SiteLatenciesMeasured,
    SiteObserved,
)


class SiteList(View, frozen=True, kw_only=True):
    sites: list[SiteObserved]  # nodes as they are under the orders
    orders: list[NodesOrdered] = msgspec.field(default_factory=list)  # of operators, of sites where there are some


class NewNodeState(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of PUT /v1/sites/{site}/nodes/{node}."""

    state: Literal["open", "cordoned", "draining"]
    note: str = ""  # for other operators


class Route(View, frozen=True, kw_only=True):
    """A decided route and what the network did with it."""

    decided: RouteDecided
    status: Literal["decided", "applied", "failed"]
    message: str = ""


class QuotaList(View, frozen=True, kw_only=True):
    sites: list[QuotasReported]  # by name; those that have quotas


class RouteList(View, frozen=True, kw_only=True):
    routes: list[Route]
    latencies: list[SiteLatenciesMeasured] = msgspec.field(default_factory=list)  # that hold now


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


class PriceRelief(View, frozen=True, kw_only=True):
    """What a site asks for because of its price, and what was done about it; the latest of each site."""

    request: ReliefRequested
    answer: ReliefAnswered | None = None  # null: it is not answered, or asks for nothing any more


class GridList(View, frozen=True, kw_only=True):
    now: datetime
    events: list[GridEntry]
    reliefs: list[PriceRelief]
