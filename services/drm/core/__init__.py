"""The DRM's decision core: on which nodes and devices of its site each placed job runs, and when it may start there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.drm.core.site import SiteState
from services.drm.quotas import Quotas
from solyx.events import (
    NOWHERE,
    AllocationDeferred,
    AllocationReleased,
    EnergySeriesPublished,
    Event,
    JobAllocated,
    JobFinished,
    JobPlaced,
    NodesOrdered,
    PlacementWithdrawn,
    QuotasReported,
    ReliefRequested,
    SiteObserved,
    WorkloadReported,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from services.drm.core.job import JobState

__all__ = ["DrmCore"]


class DrmCore:
    """All sites of one shard: whatever sites its events speak of. Sites are independent of each other."""

    def __init__(self, quotas: Quotas | None = None) -> None:
        """A tenant that ``quotas`` do not name is unlimited."""
        self._quotas = quotas or Quotas()
        self._sites: dict[str, SiteState] = {}

    def fold(self, event: Event) -> None:  # noqa: C901, PLR0912 - one case for each kind of event
        """Merge an event of the inputs, or an own decision that is read back. Changes facts only, decides nothing."""
        match event:
            case JobPlaced():
                self._learn(event, lambda job: job.on_placed(event))
            case WorkloadReported():
                self._learn(event, lambda job: job.on_reported(event))
            case JobAllocated():
                self._learn(event, lambda job: job.on_allocated(event))
            case AllocationReleased():
                self._learn(event, lambda job: job.on_released(event))
            case AllocationDeferred():
                self._learn(event, lambda job: job.on_deferred(event))
            case PlacementWithdrawn():
                self._learn(event, lambda job: job.on_withdrawn(event))
            case JobFinished():
                if event.site != NOWHERE:
                    self._learn(event, lambda job: job.on_finished(event))
            case SiteObserved():
                self._site(event.site).observe(event)
            case NodesOrdered():
                self._site(event.site).order(event)
            case EnergySeriesPublished() if event.kind == "price_eur_per_mwh":
                self._site(event.site).relief.learn(event)
            case QuotasReported():
                self._site(event.site).quotas.recall(event)
            case ReliefRequested():
                self._site(event.site).relief.recall(event)
            case _:
                pass  # routes, carbon and events of the grid share the topics; nothing here follows from them

    def decide(self, now: datetime) -> list[Event]:
        """Releases, admissions and deferrals that are due; quick when nothing changed and nobody's time has come."""
        decisions: list[Event] = []
        now_s = now.timestamp()
        for site in self._sites.values():
            if site.is_due(now_s):
                site.decide(now, decisions)
        return decisions

    def _site(self, name: str) -> SiteState:
        site = self._sites.get(name)
        if site is None:
            site = self._sites[name] = SiteState(name, self._quotas.at(name))
        return site

    def _learn(
        self,
        event: JobPlaced
        | PlacementWithdrawn
        | JobFinished
        | JobAllocated
        | AllocationDeferred
        | AllocationReleased
        | WorkloadReported,
        fact: Callable[[JobState], None],
    ) -> None:
        self._site(event.site).learn(event.job_id, event.tenant, event.revision, fact)
