"""The read model as a fold: records of the log in, changes to tables out. Pure; the store applies what comes out.

A job's events lie in several topics without an order among them, so its state is a maximum, not a sequence. Each event
stands for a number, ``progress`` = revision × 8 + how far the job is under that revision; the highest one decides the state,
and a terminal outcome is above all. So any order, any repeat and any cut into batches give the same state (a semilattice;
Shapiro et al., "Conflict-free Replicated Data Types", 2011, section 2.2).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from solyx.budget import expected_use
from solyx.events import (
    NOWHERE,
    AllocationDeferred,
    AllocationReleased,
    BudgetSet,
    DeferralCause,
    DemandResponseReported,
    EnergySeriesPublished,
    Event,
    FeedReported,
    ForecastIssued,
    GridEventAnnounced,
    JobAllocated,
    JobCancellationRequested,
    JobFinished,
    JobPlaced,
    JobSpec,
    JobSubmitted,
    LatencyBoundReported,
    NodesOrdered,
    PlacementDeferred,
    PlacementWithdrawn,
    QuotasReported,
    ReliefAnswered,
    ReliefRequested,
    RouteDecided,
    RouteReported,
    SiteLatenciesMeasured,
    SiteObserved,
    Usage,
    WorkloadReported,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from solyx.events import Envelope

FINISHED = 1 << 60
"""Progress of a job that has its terminal outcome."""
_PER_REVISION = 8
_PLACED, _ALLOCATED, _RUNNING, _ENDED = 1, 2, 3, 4
_DEFERRED = {DeferralCause.NO_READY_SITE: 5, DeferralCause.BUDGET: 6, DeferralCause.LATENCY: 7}

_encode = msgspec.json.Encoder().encode
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class JobChange:
    """What a batch says about one job. Progress 0: nothing that changes its state."""

    progress: int = 0
    state: str = "submitted"
    reason: str = ""
    site: str | None = None
    revision: int = 0
    state_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    cancel_requested_at: datetime | None = None
    submission: Submission | None = None  # where an event of the batch tells it


@dataclass(frozen=True, slots=True)
class Submission:
    """What a job's row needs to exist."""

    tenant: str
    spec: JobSpec
    submitted_at: datetime
    traceparent: str | None


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run with what it took or, without an end, a placement with what it is expected to take."""

    tenant: str
    site: str
    usage: Usage
    expected_s: float = 0.0
    started_at: datetime | None = None
    ended_at: datetime | None = None
    labels: dict[str, str] | None = None  # None: the events do not say


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """One event for the history table."""

    event_id: str
    type: str
    subject: str
    tenant: str | None
    site: str | None
    revision: int | None
    reason: str
    time: datetime
    figures: str


@dataclass(frozen=True, slots=True)
class Entity:
    """The latest record about a site, route, feed, forecast or energy series; a higher version replaces a lower one."""

    version: int
    body: bytes
    valid_until: datetime | None = None


@dataclass(slots=True)
class Changes:
    """What one batch of records does to the tables."""

    jobs: dict[str, JobChange] = field(default_factory=dict[str, JobChange])
    history: list[HistoryRow] = field(default_factory=list[HistoryRow])
    entities: dict[tuple[str, str], Entity] = field(default_factory=dict[tuple[str, str], Entity])
    runs: dict[tuple[str, int], RunRow] = field(default_factory=dict[tuple[str, int], RunRow])

    def fold(self, envelope: Envelope, value: bytes) -> None:
        """Merge one event; ``value`` is its record's bytes, kept as they are where the read model shows a whole event."""
        event = envelope.event
        handler = _HANDLERS.get(type(event))
        if handler is not None:
            handler(self, event, envelope, value)
        figures = _FIGURES.get(type(event))
        if figures is not None:
            self.history.append(_history_row(event, envelope, figures))

    def _advance(self, event: Any, rank: int, state: str, at: datetime, *, site: str | None) -> JobChange:
        change = self._job(event.job_id)
        progress = FINISHED if rank == FINISHED else event.revision * _PER_REVISION + rank
        if progress > change.progress:
            change.progress, change.state, change.state_at = progress, state, at
            change.reason, change.site, change.revision = str(event.reason), site, event.revision
        return change

    def _job(self, job_id: str) -> JobChange:
        change = self.jobs.get(job_id)
        if change is None:
            change = self.jobs[job_id] = JobChange()
        return change

    def _ran(self, event: JobPlaced | PlacementWithdrawn | PlacementDeferred | JobFinished) -> None:
        """The job's runs so far: an end is final, whatever else is said of that revision."""
        said = None if isinstance(event, JobFinished) else event.spec.labels
        for run in event.runs:
            known = self.runs.get((event.job_id, run.revision))
            labels = known.labels if said is None and known is not None else said
            self.runs[event.job_id, run.revision] = RunRow(
                event.tenant, run.site, run.usage, started_at=run.started_at, ended_at=run.ended_at, labels=labels
            )

    def _planned(self, event: JobPlaced) -> None:
        key, labels = (event.job_id, event.revision), event.spec.labels
        known = self.runs.get(key)
        if known is not None:
            self.runs[key] = replace(known, labels=labels)
            return
        run_s = max(0.0, event.spec.duration_estimate_s - event.progress_s)
        usage = expected_use(event.spec, event.cost, run_s=run_s)
        self.runs[key] = RunRow(event.tenant, event.site, usage, run_s, labels=labels)

    def _entity(self, kind: str, key: str, entity: Entity) -> None:
        known = self.entities.get((kind, key))
        if known is None or entity.version >= known.version:
            self.entities[kind, key] = entity


# --- jobs ------------------------------------------------------------------------------------------------------------


def _remember(change: JobChange, event: Any, envelope: Envelope) -> None:
    if change.submission is None:
        change.submission = Submission(event.tenant, event.spec, event.submitted_at, envelope.traceparent)


def _submitted(changes: Changes, event: JobSubmitted, envelope: Envelope, _value: bytes) -> None:
    _remember(changes._job(event.job_id), event, envelope)  # noqa: SLF001 - the fold's own parts


def _cancellation(changes: Changes, event: JobCancellationRequested, envelope: Envelope, _value: bytes) -> None:
    change = changes._job(event.job_id)  # noqa: SLF001
    change.cancel_requested_at = event.requested_at
    _remember(change, event, envelope)


def _placed(changes: Changes, event: JobPlaced, envelope: Envelope, _value: bytes) -> None:
    _remember(changes._advance(event, _PLACED, "placed", event.decided_at, site=event.site), event, envelope)  # noqa: SLF001
    changes._planned(event)  # noqa: SLF001
    changes._ran(event)  # noqa: SLF001


def _deferred(changes: Changes, event: PlacementDeferred, envelope: Envelope, _value: bytes) -> None:
    change = changes._advance(event, _DEFERRED[event.reason], "submitted", event.decided_at, site=None)  # noqa: SLF001
    _remember(change, event, envelope)
    changes._ran(event)  # noqa: SLF001


def _allocated(changes: Changes, event: JobAllocated, envelope: Envelope, _value: bytes) -> None:
    _remember(changes._advance(event, _ALLOCATED, "allocated", event.decided_at, site=event.site), event, envelope)  # noqa: SLF001


def _withdrawn(changes: Changes, event: PlacementWithdrawn, envelope: Envelope, _value: bytes) -> None:
    _remember(changes._job(event.job_id), event, envelope)  # noqa: SLF001 - its pods may still run: `stopped` ends it
    changes._ran(event)  # noqa: SLF001


def _workload(changes: Changes, event: WorkloadReported, _envelope: Envelope, _value: bytes) -> None:
    if event.status == "started":
        change = changes._advance(event, _RUNNING, "running", event.at, site=event.site)  # noqa: SLF001
        change.started_at = max(change.started_at or _EPOCH, event.started_at or event.at)
    elif event.status != "succeeded":
        # Failed or stopped without a terminal outcome: it waits for its next placement. After success JobFinished follows.
        changes._advance(event, _ENDED, "submitted", event.at, site=None)  # noqa: SLF001


def _finished(changes: Changes, event: JobFinished, _envelope: Envelope, _value: bytes) -> None:
    site = event.site if event.site != NOWHERE else None
    change = changes._advance(event, FINISHED, event.outcome, event.finished_at, site=site)  # noqa: SLF001
    change.finished_at = event.finished_at
    changes._ran(event)  # noqa: SLF001


# --- entities --------------------------------------------------------------------------------------------------------


def _micros(time: datetime) -> int:
    return (time - _EPOCH) // timedelta(microseconds=1)


def _site(changes: Changes, event: SiteObserved, _envelope: Envelope, value: bytes) -> None:
    changes._entity("site", event.site, Entity(_micros(event.observed_at), value))  # noqa: SLF001


def _nodes(changes: Changes, event: NodesOrdered, _envelope: Envelope, value: bytes) -> None:
    changes._entity("nodes", event.site, Entity(event.revision, value))  # noqa: SLF001


def _route(changes: Changes, event: RouteDecided, _envelope: Envelope, value: bytes) -> None:
    changes._entity("route", event.key, Entity(event.revision, value))  # noqa: SLF001


def _latencies(changes: Changes, event: SiteLatenciesMeasured, _envelope: Envelope, value: bytes) -> None:
    changes._entity("latencies", event.site, Entity(_micros(event.measured_at), value, event.valid_until))  # noqa: SLF001


def _route_report(changes: Changes, event: RouteReported, _envelope: Envelope, value: bytes) -> None:
    version = event.revision * 2 + (event.status == "applied")
    changes._entity("route_report", event.subject, Entity(version, value))  # noqa: SLF001


def _energy(changes: Changes, event: EnergySeriesPublished, _envelope: Envelope, value: bytes) -> None:
    end = event.start + timedelta(seconds=event.step_s * len(event.values))
    changes._entity("energy", event.key, Entity(_micros(event.published_at), value, end))  # noqa: SLF001


def _feed(changes: Changes, event: FeedReported, _envelope: Envelope, value: bytes) -> None:
    changes._entity("feed", event.feed, Entity(_micros(event.since), value))  # noqa: SLF001


def _forecast(changes: Changes, event: ForecastIssued, _envelope: Envelope, value: bytes) -> None:
    end = event.start + timedelta(seconds=event.step_s * len(event.mean))
    changes._entity("forecast", event.key, Entity(_micros(event.issued_at), value, end))  # noqa: SLF001


def _grid_event(changes: Changes, event: GridEventAnnounced, _envelope: Envelope, value: bytes) -> None:
    changes._entity("grid_event", event.key, Entity(_micros(event.announced_at), value, event.end))  # noqa: SLF001


def _response(changes: Changes, event: DemandResponseReported, _envelope: Envelope, value: bytes) -> None:
    changes._entity("response", event.key, Entity(_micros(event.reported_at), value, event.end))  # noqa: SLF001


def _quotas(changes: Changes, event: QuotasReported, _envelope: Envelope, value: bytes) -> None:
    changes._entity("quotas", event.site, Entity(_micros(event.reported_at), value))  # noqa: SLF001


def _relief(changes: Changes, event: ReliefRequested, _envelope: Envelope, value: bytes) -> None:
    changes._entity("relief", event.key, Entity(_micros(event.requested_at), value, event.end))  # noqa: SLF001


def _relief_answer(changes: Changes, event: ReliefAnswered, _envelope: Envelope, value: bytes) -> None:
    changes._entity("relief_answer", event.key, Entity(_micros(event.requested_at), value, event.end))  # noqa: SLF001


def _budget(changes: Changes, event: BudgetSet, _envelope: Envelope, value: bytes) -> None:
    changes._entity("budget", event.tenant, Entity(event.revision, value))  # noqa: SLF001


_HANDLERS: dict[type[Event], Callable[[Changes, Any, Envelope, bytes], None]] = {
    JobSubmitted: _submitted,
    JobCancellationRequested: _cancellation,
    JobPlaced: _placed,
    JobAllocated: _allocated,
    PlacementWithdrawn: _withdrawn,
    PlacementDeferred: _deferred,
    BudgetSet: _budget,
    QuotasReported: _quotas,
    WorkloadReported: _workload,
    JobFinished: _finished,
    SiteObserved: _site,
    NodesOrdered: _nodes,
    RouteDecided: _route,
    SiteLatenciesMeasured: _latencies,
    RouteReported: _route_report,
    EnergySeriesPublished: _energy,
    FeedReported: _feed,
    ForecastIssued: _forecast,
    GridEventAnnounced: _grid_event,
    DemandResponseReported: _response,
    ReliefRequested: _relief,
    ReliefAnswered: _relief_answer,
}

# What the history keeps, and which fields of each are its figures. Inventory and forecasts are state, not history: they
# come every few seconds, and GET /v1/sites and /v1/energy show the latest.
_FIGURES: dict[type[Event], tuple[str, ...]] = {
    JobSubmitted: (),
    JobCancellationRequested: (),
    JobPlaced: ("start_at", "data_from", "data_at", "attempt", "cost", "alternative", "bound_by", "progress_s", "used"),
    PlacementWithdrawn: ("detail", "attempt", "progress_s", "used"),
    PlacementDeferred: ("detail", "until"),
    LatencyBoundReported: ("to", "max_ms", "round_trip_ms", "since", "detail"),
    JobFinished: ("outcome", "message", "usage"),
    BudgetSet: ("budgets",),
    NodesOrdered: ("orders",),
    JobAllocated: ("pods", "waited_s", "progress_s"),
    AllocationDeferred: ("detail",),
    AllocationReleased: ("grace_s",),
    WorkloadReported: ("status", "message", "started_at", "progress_s"),
    RouteDecided: ("path", "backup", "latency_ms", "headroom_bps"),
    RouteReported: ("status", "message"),
    EnergySeriesPublished: ("kind", "start", "step_s", "source"),
    FeedReported: ("feed", "status", "error"),
    GridEventAnnounced: ("event_id", "start", "end", "power_cap_w", "status"),
    ReliefRequested: ("start", "end", "price_bound_eur_per_mwh", "price_eur_per_mwh", "detail"),
    ReliefAnswered: ("asked_w", "relieved_w", "suspended", "migrated", "delayed", "stopped", "kept"),
    DemandResponseReported: ("event_id", "status", "power_cap_w", "baseline_w", "planned_w", "now_w", "mean_w"),
}


_NOTHING = (None, "", (), Usage())
_SILENT_AT_ZERO = frozenset({"progress_s", "grace_s"})


def _history_row(event: Any, envelope: Envelope, names: tuple[str, ...]) -> HistoryRow:
    figures = {name: value for name in names if (value := getattr(event, name)) not in _NOTHING}
    figures = {name: value for name, value in figures.items() if value or name not in _SILENT_AT_ZERO}
    site: str | None = getattr(event, "site", None)
    return HistoryRow(
        envelope.id,
        event.TYPE,
        event.subject,
        getattr(event, "tenant", None),
        site if site != NOWHERE else None,
        getattr(event, "revision", None),
        str(getattr(event, "reason", "")),
        envelope.time,
        _encode(figures).decode() if figures else "{}",
    )
