"""Prices, carbon and grid signals (topics ``energy`` and ``grid``, written by the collector)."""

from __future__ import annotations

from typing import ClassVar, Literal

from solyx.events.event import NonNegative, Positive, SiteEvent, Time

EnergyKind = Literal[
    "price_eur_per_mwh", "carbon_gco2_per_kwh", "renewable_pct", "on_site_w"
]  # on site: generated there


class EnergySeriesPublished(SiteEvent, frozen=True, kw_only=True):
    """Values of one site's price, carbon intensity or renewable share over consecutive steps.

    Day-ahead prices cover the future that is already auctioned; carbon covers the past only. ``values[k]`` holds for
    ``[start + k·step_s, start + (k+1)·step_s)``. A missing value is ``null``, never guessed.
    """

    TYPE: ClassVar[str] = "io.solyx.energy.series_published.v1"
    TOPIC: ClassVar[str] = "energy"

    site: str
    kind: EnergyKind  # names the unit of the values
    start: Time
    step_s: Positive = 3600.0
    values: tuple[float | None, ...]
    published_at: Time
    source: str = ""  # the feed

    @property
    def key(self) -> str:
        return f"{self.site}/{self.kind}/{self.start.isoformat()}"

    @property
    def id(self) -> str:
        return f"{self.key}.{len(self.values)}"


class GridWindow(SiteEvent, frozen=True, kw_only=True):
    """About one site in the window of one grid event."""

    event_id: str
    site: str
    start: Time
    end: Time
    power_cap_w: NonNegative

    @property
    def key(self) -> str:
        return f"{self.site}/{self.event_id}"

    @property
    def subject(self) -> str:
        return self.key  # a site is asked for many things; each is an entity of its own


class GridEventAnnounced(GridWindow, frozen=True, kw_only=True):
    """The grid asks a site to keep its power at or below a cap in a window (demand response)."""

    TYPE: ClassVar[str] = "io.solyx.grid.event_announced.v1"
    TOPIC: ClassVar[str] = "grid"

    status: Literal["announced", "cancelled"] = "announced"
    announced_at: Time

    @property
    def id(self) -> str:
        return f"{self.key}.{self.status}.{self.announced_at.isoformat()}"
