"""What is kept between a VTN's events and the reports on them, and for how long. Pure."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from datetime import datetime

    from services.collector.core.openadr import Asked, Origin
    from solyx.events import DemandResponseReported

Key: TypeAlias = tuple[str, str]
"""Site, and id of the grid event."""
KEPT = timedelta(days=1)
"""After the end of its window: the last report may still be under way, or the VTN away."""


class Correspondence:
    """Where each grid event came from, the report that the VTN has of it, and the response that it does not have yet."""

    def __init__(self) -> None:
        self.origins: dict[Key, Origin] = {}
        self.report_ids: dict[Key, str] = {}
        self.waiting: dict[Key, DemandResponseReported] = {}  # the latest of each event
        self._ends: dict[Key, datetime] = {}

    def learn(self, wanted: Asked, now: datetime) -> None:
        """Take over what the VTN asks for now, and forget what it asks for no more once its window is long over."""
        self.origins.update(wanted.origins)
        self._ends.update({(one.site, one.event_id): one.end for one in wanted.listed})
        for key in [key for key, end in self._ends.items() if key not in wanted.origins and end + KEPT <= now]:
            del self._ends[key], self.origins[key]
        self.report_ids = {key: known for key, known in self.report_ids.items() if key in self.origins}
        for key in [key for key, response in self.waiting.items() if response.end + KEPT <= now]:
            if key not in self.origins:
                del self.waiting[key]

    def hear(self, response: DemandResponseReported) -> None:
        """It is to be reported, instead of what was said before."""
        self.waiting[response.site, response.event_id] = response

    def due(self) -> list[tuple[Key, DemandResponseReported, Origin]]:
        """What can be reported: of events that were polled, once their window has begun."""
        return [
            (key, response, self.origins[key])
            for key, response in self.waiting.items()
            if key in self.origins and response.status != "planned"
        ]
