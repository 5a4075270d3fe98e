"""What came of a start: one snapshot of books and processes, shown live and written as the report (docs/report.md)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec

from devstack.stack import Part
from solyx.joblife import JOB_STATES
from solyx.ledger import Books, SiteUse, Totals

__all__ = ["Report", "Snapshot", "make_report", "percentile"]


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Everything at one moment."""

    scenario: str
    now: datetime  # scenario time
    start: datetime  # of the scenario
    speed: float
    wall_s: float  # since all services were ready
    ready_s: float
    counts: Mapping[str, int]  # jobs by state
    total_jobs: int  # of the scenario
    accepted: int
    lost: int
    books: Books
    uses: Sequence[SiteUse]
    latencies_ms: Sequence[float]
    events: int  # since all services were ready
    events_per_s: float  # lately
    parts: Sequence[Part]
    peak_mb: float
    notices: Sequence[str]
    trouble: str


class Use(msgspec.Struct, frozen=True, kw_only=True):
    """Money, carbon and energy; the idle floor of the sites is not in it."""

    cost_eur: float
    carbon_kg: float
    energy_kwh: float


class Jobs(msgspec.Struct, frozen=True, kw_only=True):
    """Jobs by the state they are in; a job is in one of them. ``lost`` ones are in none, or in a state nobody can explain."""

    submitted: int  # accepted, not placed
    placed: int
    allocated: int
    running: int
    succeeded: int
    failed: int
    cancelled: int
    lost: int
    total: int  # all states together


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """Submission to allocation, wall time, of the jobs that nothing was to hold back; null: there was none."""

    p50: float | None
    p99: float | None
    jobs: int


class ServiceReport(msgspec.Struct, frozen=True, kw_only=True):
    ready_s: float | None  # from the start of its process; null: it never was
    rss_mb: float  # the most that was seen
    restarts: int


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The file that ``--report`` writes."""

    scenario: str
    scenario_hours: float  # since the scenario's beginning, earlier starts included
    speed: float
    wall_s: float
    ready_s: float
    jobs: Jobs
    cost_eur: float
    carbon_kg: float
    energy_kwh: float
    baseline: Use
    movement_eur: float  # the part of the cost that moved data
    held_hours: float  # job hours that were billed at a held value, because none was published (yet)
    latency_ms: Latency
    events: int
    events_per_s: float
    rss_total_mb: float
    services: dict[str, ServiceReport]


def make_report(snapshot: Snapshot) -> Report:
    """The report of the moment."""
    own, baseline = _use(snapshot.books.own), _use(snapshot.books.baseline)
    return Report(
        scenario=snapshot.scenario,
        scenario_hours=round((snapshot.now - snapshot.start).total_seconds() / 3600, 3),
        speed=snapshot.speed,
        wall_s=round(snapshot.wall_s, 3),
        ready_s=round(snapshot.ready_s, 3),
        jobs=Jobs(
            **{state: snapshot.counts.get(state, 0) for state in JOB_STATES},
            lost=snapshot.lost,
            total=sum(snapshot.counts.values()),
        ),
        cost_eur=own.cost_eur,
        carbon_kg=own.carbon_kg,
        energy_kwh=own.energy_kwh,
        baseline=baseline,
        movement_eur=round(snapshot.books.own.movement_eur, 4),
        held_hours=round(snapshot.books.own.held_h, 3),
        latency_ms=Latency(
            p50=percentile(snapshot.latencies_ms, 0.50),
            p99=percentile(snapshot.latencies_ms, 0.99),
            jobs=len(snapshot.latencies_ms),
        ),
        events=snapshot.events,
        events_per_s=round(snapshot.events / snapshot.wall_s, 1) if snapshot.wall_s > 0 else 0.0,
        rss_total_mb=round(snapshot.peak_mb, 1),
        services={
            part.name: ServiceReport(
                ready_s=round(part.ready_s, 3) if part.ready_s is not None else None,
                rss_mb=round(part.peak_mb, 1),
                restarts=part.restarts,
            )
            for part in snapshot.parts
        },
    )


def percentile(values: Sequence[float], share: float) -> float | None:
    """The nearest-rank percentile; None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    return round(ordered[min(int(share * len(ordered)), len(ordered) - 1)], 3)


def _use(totals: Totals) -> Use:
    return Use(
        cost_eur=round(totals.cost_eur, 4),
        carbon_kg=round(totals.carbon_kg, 4),
        energy_kwh=round(totals.energy_kwh, 4),
    )
