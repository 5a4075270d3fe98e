"""All event types by their CloudEvents type. A type that is not here is unknown and goes to the dead letters."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from solyx.events import (
    allocation,
    budget,
    energy,
    job,
    latency,
    metrics,
    node,
    outcome,
    placement,
    quota,
    relief,
    response,
    route,
    site,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from solyx.events.event import Event

_TYPES: tuple[type[Event], ...] = (
    job.JobSubmitted,
    job.JobCancellationRequested,
    site.SiteObserved,
    node.NodesOrdered,
    site.LinkObserved,
    site.FeedReported,
    energy.EnergySeriesPublished,
    energy.GridEventAnnounced,
    response.DemandResponseReported,
    relief.ReliefRequested,
    relief.ReliefAnswered,
    latency.LatencyBoundReported,
    metrics.MetricsScraped,
    metrics.SeriesWindowed,
    metrics.ForecastIssued,
    metrics.AnomalyDetected,
    metrics.WorkloadEnergyRead,
    placement.JobPlaced,
    placement.PlacementWithdrawn,
    placement.PlacementDeferred,
    placement.JobFinished,
    allocation.JobAllocated,
    allocation.AllocationDeferred,
    allocation.AllocationReleased,
    quota.QuotasReported,
    route.RouteDecided,
    route.SiteLatenciesMeasured,
    outcome.WorkloadReported,
    outcome.RouteReported,
    budget.BudgetSet,
)

EVENT_TYPES: Mapping[str, type[Event]] = MappingProxyType({event.TYPE: event for event in _TYPES})
