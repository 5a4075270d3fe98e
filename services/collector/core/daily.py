"""Points of one feed to one record a UTC day, published again only when the day has changed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from services.collector.core.paths import MappingError
from solyx.events import EnergySeriesPublished

if TYPE_CHECKING:
    from collections.abc import Iterable

    from services.collector.core.mapping import Point
    from services.collector.model import EnergyFeed

DAY = timedelta(days=1)
KEPT_DAYS = 401
"""One more than a feed may look back: what is older is never asked for again."""


class DayBook:
    """What is known of each day. A later answer adds and corrects; what it leaves out stays as it was."""

    def __init__(self, feed: EnergyFeed) -> None:
        self._feed = feed
        self._steps = int(DAY.total_seconds() // feed.step_s)
        self._days: dict[datetime, list[float | None]] = {}
        self.newest: datetime | None = None  # the end of the latest value

    def merge(self, points: Iterable[Point], now: datetime) -> list[EnergySeriesPublished]:
        """The days that changed, in order.

        Carbon and renewables are measured: a value whose step has not ended by ``now`` is somebody's forecast and is left out.

        Raises:
            MappingError: a time does not fall on a step. Nothing is merged then.
        """
        feed = self._feed
        step = timedelta(seconds=feed.step_s)
        placed: list[tuple[datetime, int, float]] = []
        for at, value in points:
            if feed.kind != "price_eur_per_mwh" and at + step > now:
                continue
            day = at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
            index, rest = divmod((at - day).total_seconds(), feed.step_s)
            if rest:
                raise MappingError(f"the value at {at.isoformat()} does not begin a step of {feed.step_s:g} s")
            placed.append((day, int(index), value))
        changed: set[datetime] = set()
        for day, index, value in placed:
            values = self._days.setdefault(day, [None] * self._steps)
            if values[index] != value:
                values[index] = value
                changed.add(day)
            end = day + step * (index + 1)
            self.newest = end if self.newest is None else max(self.newest, end)
        for old in [day for day in self._days if day < now - KEPT_DAYS * DAY]:
            del self._days[old]
            changed.discard(old)
        return [self._record(day, now) for day in sorted(changed)]

    def _record(self, day: datetime, now: datetime) -> EnergySeriesPublished:
        values = self._days[day]
        known = max(index for index, value in enumerate(values) if value is not None) + 1
        return EnergySeriesPublished(
            site=self._feed.site,
            kind=self._feed.kind,
            start=day,
            step_s=self._feed.step_s,
            values=tuple(values[:known]),
            published_at=now,
            source=self._feed.name,
        )
