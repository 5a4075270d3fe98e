"""A site's energy: hourly price, carbon intensity and renewable share, and what of it was known at a time."""

from __future__ import annotations

from datetime import datetime, time, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
from numpy.typing import NDArray

from solyx.events.event import Model
from solyx.scenario.cells import read_rows
from solyx.scenario.errors import ScenarioError

if TYPE_CHECKING:
    from pathlib import Path

Values = NDArray[np.float64]

STEP_S = 3600.0
_STEP = timedelta(seconds=STEP_S)
_COLUMNS = ("time", "price_eur_mwh", "carbon_gco2_kwh", "renewable_pct")
_ON_SITE = "on_site_w"  # a column that a file may have


class DayAheadMarket(Model, frozen=True):
    """When a zone's day-ahead prices come out: from ``published`` on, local time, those of the whole next local day."""

    zone: str
    published: time
    timezone: str  # IANA name


class KnownUntil(Model, frozen=True):
    """The ends, exclusive, of what is known of each series."""

    price: datetime
    carbon: datetime  # and the renewable share, which is measured with it


class EnergySeries(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Consecutive hours from ``start``; NaN where the file has a gap, never filled in."""

    start: datetime
    price_eur_per_mwh: Values
    carbon_gco2_per_kwh: Values
    renewable_pct: Values
    on_site_w: Values | None = None  # what the site expects to generate itself, known as prices are; None: it does not

    @property
    def end(self) -> datetime:
        """The end of the last hour."""
        return self.start + _STEP * len(self.price_eur_per_mwh)

    def times(self) -> list[datetime]:
        """The beginning of each hour."""
        return [self.start + _STEP * hour for hour in range(len(self.price_eur_per_mwh))]

    def index(self, at: datetime) -> int:
        """The hour that holds ``at``, kept within [0, number of hours]."""
        return min(max(int((at - self.start) // _STEP), 0), len(self.price_eur_per_mwh))


def known_at(now: datetime, market: DayAheadMarket) -> KnownUntil:
    """What is known at ``now``: day-ahead prices to the end of a local day, carbon to the last full hour.

    From the publication on, prices reach to the end of tomorrow; before it, to the end of today. Local days have 23 or 25 hours
    when the clocks change.
    """
    zone = ZoneInfo(market.timezone)
    local = now.astimezone(zone)
    days = 2 if local.time() >= market.published else 1
    end_of_day = datetime.combine(local.date() + timedelta(days=days), time(), tzinfo=zone)
    return KnownUntil(
        price=end_of_day.astimezone(now.tzinfo),
        carbon=now.replace(minute=0, second=0, microsecond=0),
    )


def next_publication(after: datetime, market: DayAheadMarket) -> datetime:
    """The first publication later than ``after``."""
    zone = ZoneInfo(market.timezone)
    day = after.astimezone(zone).date()
    for ahead in range(3):
        at = datetime.combine(day + timedelta(days=ahead), market.published, tzinfo=zone).astimezone(after.tzinfo)
        if at > after:
            return at
    msg = "a day has a publication"
    raise AssertionError(msg)


def read_energy(file: Path) -> EnergySeries:
    """Read an energy CSV: ``time`` (UTC, hourly), ``price_eur_mwh``, ``carbon_gco2_kwh``, ``renewable_pct`` and, where
    the site generates power, ``on_site_w``; empty cells are gaps.

    Raises:
        ScenarioError: a cell is no number, a time is missing, repeated, out of order or off the hour, or there are no rows.
    """
    start: datetime | None = None
    hours: list[tuple[int, float, float, float, float]] = []
    last = -1
    nan = float("nan")
    for row in read_rows(file, _COLUMNS):
        cell = row.required("time")
        try:
            at = datetime.fromisoformat(cell)
        except ValueError as error:
            raise row.error("time", f"is {cell!r}, not a time", "Write it like 2023-01-01T00:00:00Z.") from error
        if at.tzinfo is None:
            raise row.error("time", f"is {cell!r}, without a time zone", "Add Z for UTC.")
        start = start or at
        hour, rest = divmod(at - start, _STEP)
        if rest or hour <= last:
            raise row.error("time", f"is {cell}, not a full hour after the row before", "Rows are hourly and in order.")
        last = hour
        cells = (row.number_or(column, nan) for column in (*_COLUMNS[1:], _ON_SITE))
        hours.append((hour, *cells))  # pyright: ignore[reportArgumentType] - four of them
    if start is None:
        raise ScenarioError(file, 2, "time", "there are no rows", "Add one row for each hour.")
    table = np.full((4, last + 1), np.nan)
    indices = [hour[0] for hour in hours]
    table[:, indices] = np.array([hour[1:] for hour in hours]).T
    return EnergySeries(
        start=start,
        price_eur_per_mwh=table[0],
        carbon_gco2_per_kwh=table[1],
        renewable_pct=table[2],
        on_site_w=None if np.isnan(table[3]).all() else table[3],
    )
