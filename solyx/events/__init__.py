"""Everything that services tell each other, and how it looks on the wire (CloudEvents 1.0, Kafka binary mode)."""

from solyx.events.allocation import (
    AllocationDeferred,
    AllocationReason,
    AllocationReleased,
    DeferralReason,
    DeviceAssignment,
    JobAllocated,
    PodAssignment,
    ReleaseReason,
)
from solyx.events.codec import Envelope, Poison, Record, decode, decode_event, encode
from solyx.events.energy import EnergySeriesPublished, GridEventAnnounced
from solyx.events.event import Event
from solyx.events.job import (
    SIMULATED_DURATION_LABEL,
    DataSet,
    DeviceRequest,
    JobCancellationRequested,
    JobSpec,
    JobSubmitted,
    LatencyBound,
    Resources,
)
from solyx.events.metrics import AnomalyDetected, ForecastIssued, MetricsScraped, SeriesWindowed
from solyx.events.outcome import RouteReported, WorkloadReason, WorkloadReported
from solyx.events.placement import (
    NOWHERE,
    Alternative,
    CostBreakdown,
    FinishReason,
    JobFinished,
    JobPlaced,
    PlacementReason,
    PlacementWithdrawn,
    WithdrawalReason,
)
from solyx.events.route import RouteDecided, RouteReason
from solyx.events.site import DeviceGroup, FeedReported, LinkObserved, Node, PowerModel, SiteObserved

__all__ = [
    "NOWHERE",
    "SIMULATED_DURATION_LABEL",
    "AllocationDeferred",
    "AllocationReason",
    "AllocationReleased",
    "Alternative",
    "AnomalyDetected",
    "CostBreakdown",
    "DataSet",
    "DeferralReason",
    "DeviceAssignment",
    "DeviceGroup",
    "DeviceRequest",
    "EnergySeriesPublished",
    "Envelope",
    "Event",
    "FeedReported",
    "FinishReason",
    "ForecastIssued",
    "GridEventAnnounced",
    "JobAllocated",
    "JobCancellationRequested",
    "JobFinished",
    "JobPlaced",
    "JobSpec",
    "JobSubmitted",
    "LatencyBound",
    "LinkObserved",
    "MetricsScraped",
    "Node",
    "PlacementReason",
    "PlacementWithdrawn",
    "PodAssignment",
    "Poison",
    "PowerModel",
    "Record",
    "ReleaseReason",
    "Resources",
    "RouteDecided",
    "RouteReason",
    "RouteReported",
    "SeriesWindowed",
    "SiteObserved",
    "WithdrawalReason",
    "WorkloadReason",
    "WorkloadReported",
    "decode",
    "decode_event",
    "encode",
]
