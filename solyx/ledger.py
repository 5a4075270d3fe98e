"""The books of an installation, kept from the topics alone: the state of each job, and what its runs used and cost.

A fold like the cores': events of different topics may come in any order and more than once, the revision decides. Beside each
job's own bill stands what *the same work* would have cost at once in its home site. The method is in docs/report.md; its rules:

- a run is billed by `solyx.energy.run_bill` from its start to its end (or now), at the prices and carbon published for its site;
- moving a job's data to a site that is not the data's costs the source site's egress price for each run there;
- the baseline is one run of the work that the job has done so far, at its home site, from the moment it was submitted, whatever
  the capacity there. Work counts once: a job that goes on where it was stopped has done the sum of its runs' useful work, one that
  begins anew its longest run. What was repeated, restarts and the writing of checkpoints count on our side only;
- the idle floor of the sites is on neither side.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from solyx.energy import (
    HOUR_S,
    HourlyCurve,
    HourlySeries,
    RunBill,
    cores_of,
    dynamic_power_w,
    gpus_of,
    movement_eur,
    run_bill,
)
from solyx.events import (
    AllocationDeferred,
    EnergySeriesPublished,
    JobCancellationRequested,
    JobFinished,
    JobSubmitted,
    SiteObserved,
    WorkloadReported,
)
from solyx.joblife import Job, JobEvent, merge

if TYPE_CHECKING:
    from collections.abc import Iterable

    from solyx.events import Event, JobSpec

TOPICS = ("jobs", "placements", "allocations", "actuations", "sites", "energy")
"""What the books are kept from."""

_PRICE, _CARBON = "price_eur_per_mwh", "carbon_gco2_per_kwh"
_KEPT_BEFORE_S = 48 * HOUR_S  # of each series before the first submission


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What was used so far."""

    energy_kwh: float = 0.0
    cost_eur: float = 0.0  # energy and data movement
    carbon_kg: float = 0.0
    movement_eur: float = 0.0
    held_h: float = 0.0  # hours that were billed at a held value, because none was published

    def plus(self, bill: RunBill, movement_eur: float = 0.0, sign: int = 1) -> Totals:
        """With one more bill, or without it."""
        return Totals(
            energy_kwh=self.energy_kwh + sign * bill.energy_kwh,
            cost_eur=self.cost_eur + sign * (bill.cost_eur + movement_eur),
            carbon_kg=self.carbon_kg + sign * bill.carbon_kg,
            movement_eur=self.movement_eur + sign * movement_eur,
            held_h=self.held_h + sign * bill.held_h,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """Our bill, the baseline's for the same work, and ours by site."""

    own: Totals
    baseline: Totals
    by_site: dict[str, Totals]


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteUse:
    """A site now."""

    site: str
    cores: float
    cores_used: float
    gpus: float
    gpus_used: float
    jobs: int  # that hold resources
    price_eur_per_mwh: float | None
    carbon_gco2_per_kwh: float | None
    lost: bool


@dataclass(frozen=True, slots=True)
class _JobBill:
    own: tuple[tuple[str, RunBill, float], ...]  # site, bill, movement
    baseline: RunBill
    baseline_movement_eur: float


class Ledger:
    """Fold events, ask for books."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.sites: dict[str, SiteObserved] = {}
        self.counts: Counter[str] = Counter()
        self._series: dict[tuple[str, str], HourlySeries] = {}
        self._holding: set[str] = set()  # jobs that hold resources
        self._open: set[str] = set()  # jobs whose bill may still change
        self._settled: dict[str, _JobBill] = {}
        self._own, self._baseline = Totals(), Totals()
        self._by_site: dict[str, Totals] = {}

    def fold(self, event: Event, *, timestamp_ms: int = 0) -> None:
        """Merge one event; ``timestamp_ms`` is when its record was appended (Unix time)."""
        match event:
            case EnergySeriesPublished():
                series = self._series.setdefault((event.site, event.kind), HourlySeries())
                series.add(event.start, event.step_s, event.values)
            case SiteObserved():
                known = self.sites.get(event.site)
                if known is None or known.observed_at <= event.observed_at:
                    self.sites[event.site] = event
            case _ if isinstance(event, JobEvent):
                self._fold_job(event, timestamp_ms)
            case _:
                pass

    def _fold_job(self, event: JobEvent, timestamp_ms: int) -> None:
        job = self.jobs.get(event.job_id)
        if job is None:
            job = self.jobs[event.job_id] = Job(event.job_id)
            self.counts["submitted"] += 1
        before = job.state
        job.tenant = event.tenant
        if isinstance(event, JobSubmitted | JobCancellationRequested):
            job.submitted_ms = job.submitted_ms or max(timestamp_ms, 1)
        if not isinstance(event, AllocationDeferred | WorkloadReported | JobFinished):
            job.spec, job.submitted_at = event.spec, event.submitted_at
        if merge(job, event, timestamp_ms):
            self._reopen(job.id)
        after = job.state
        if before != after:
            self.counts[before] -= 1
            self.counts[after] += 1
            if after in ("allocated", "running"):
                self._holding.add(job.id)
            else:
                self._holding.discard(job.id)

    def lost(self, accepted: Iterable[str]) -> list[str]:
        """Accepted jobs that the log does not know, and jobs the log decides about without knowing who they are.

        One that has ended may have left `jobs` (docs/decisions/0006-retention.md): it is not lost.
        """
        missing = [job_id for job_id in accepted if job_id not in self.jobs]
        return missing + [job.id for job in self.jobs.values() if job.submitted_ms == 0 and job.outcome is None]

    def latencies_ms(self, accepted_ms: dict[str, float] | None = None) -> list[float]:
        """Wall time from acceptance to the first allocation of each job that nothing held back.

        Jobs that were placed for later, or that waited for capacity or quota, are left out: their wait is a decision.
        Where ``accepted_ms`` has no Unix time for a job, that of its record in ``jobs`` counts.
        """
        began = accepted_ms or {}
        return [
            max(job.allocated_ms - began.get(job.id, job.submitted_ms), 0.0)
            for job in self.jobs.values()
            if job.allocated_ms and job.submitted_ms and job.at_once and not job.deferred
        ]

    def use(self, now: datetime) -> list[SiteUse]:
        """Every site with its use, price and carbon, by name."""
        cores: Counter[str] = Counter()
        gpus: Counter[str] = Counter()
        holders: Counter[str] = Counter()
        for job_id in self._holding:
            job = self.jobs[job_id]
            holders[job.site] += 1
            if job.spec is not None:
                cores[job.site] += cores_of(job.spec)  # pyright: ignore[reportArgumentType] - a Counter adds floats too
                gpus[job.site] += gpus_of(job.spec)  # pyright: ignore[reportArgumentType]
        return [
            SiteUse(
                site=name,
                cores=sum(node.cpu_milli for node in site.nodes) / 1000,
                cores_used=float(cores[name]),
                gpus=float(sum(group.count for node in site.nodes for group in node.devices)),
                gpus_used=float(gpus[name]),
                jobs=holders[name],
                price_eur_per_mwh=_at(self._curve(name, _PRICE), now),
                carbon_gco2_per_kwh=_at(self._curve(name, _CARBON), now),
                lost=site.lost,
            )
            for name, site in sorted(self.sites.items())
        ]

    def books(self, now: datetime) -> Books:
        """Everything billed up to ``now``. What can change no more is added up once."""
        self._forget_history()
        own, baseline, by_site = self._own, self._baseline, dict(self._by_site)
        for job_id in list(self._open):
            job = self.jobs[job_id]
            bill = self._bill(job, now)
            if bill is None:
                continue
            own, baseline = _add(own, baseline, by_site, bill)
            if self._is_final(job):
                self._open.discard(job_id)
                self._settled[job_id] = bill
                self._own, self._baseline = _add(self._own, self._baseline, self._by_site, bill)
        return Books(own=own, baseline=baseline, by_site=by_site)

    def _reopen(self, job_id: str) -> None:
        self._open.add(job_id)
        bill = self._settled.pop(job_id, None)
        if bill is not None:
            self._own, self._baseline = _add(self._own, self._baseline, self._by_site, bill, sign=-1)

    def _bill(self, job: Job, now: datetime) -> _JobBill | None:
        spec, submitted_at = job.spec, job.submitted_at
        home = self._home_of(job)
        if spec is None or submitted_at is None or home is None or not job.runs:
            return None
        own: list[tuple[str, RunBill, float]] = []
        for run in job.runs.values():
            site = self.sites.get(run.site)
            if site is None:
                return None
            end = max(run.end or now, run.start)
            own.append((run.site, self._run_bill(spec, site, run.start, end), self._movement_eur(spec, run.site)))
        return _JobBill(
            own=tuple(own),
            baseline=self._run_bill(spec, home, submitted_at, submitted_at + job.work_done(now)),
            baseline_movement_eur=self._movement_eur(spec, home.site),
        )

    def _run_bill(self, spec: JobSpec, site: SiteObserved, start: datetime, end: datetime) -> RunBill:
        return run_bill(
            power_w=dynamic_power_w(spec, site.power),
            start=start,
            end=end,
            price=self._curve(site.site, _PRICE),
            carbon=self._curve(site.site, _CARBON),
        )

    def _movement_eur(self, spec: JobSpec, site: str) -> float:
        source = self.sites.get(spec.data.site) if spec.data is not None else None
        egress = 0.0 if source is None else source.egress_eur_per_gib
        return movement_eur(spec.data, to_site=site, egress_eur_per_gib=egress)

    def _home_of(self, job: Job) -> SiteObserved | None:
        """The home site; for a job without one the first it allows, else where it first ran."""
        if job.spec is None or not job.runs:
            return None
        first = job.runs[min(job.runs)].site
        names = (job.spec.home_site, *job.spec.allowed_sites[:1], first)
        return next((self.sites[name] for name in names if name in self.sites), None)

    def _is_final(self, job: Job) -> bool:
        """No event is to come, and the prices and carbon of every billed hour are published."""
        home = self._home_of(job)
        if job.outcome is None or home is None or any(run.end is None for run in job.runs.values()):
            return False
        ends = [(run.site, run.end) for run in job.runs.values() if run.end is not None]
        assert job.submitted_at is not None
        ends.append(
            (home.site, job.submitted_at + job.work_done(job.submitted_at))
        )  # nothing runs: now does not matter
        return all(self._covers(site, end) for site, end in ends)

    def _covers(self, site: str, end: datetime) -> bool:
        curves = (self._curve(site, _PRICE), self._curve(site, _CARBON))
        return all(curve is not None and curve.end_hour * HOUR_S >= end.timestamp() for curve in curves)

    def _curve(self, site: str, kind: str) -> HourlyCurve | None:
        series = self._series.get((site, kind))
        return series.curve() if series is not None else None

    def _forget_history(self) -> None:
        """Years of history may be published; bills begin with the first submission."""
        times = (job.submitted_at for job in self.jobs.values() if job.submitted_at is not None)
        first = next(times, None)  # the oldest known: jobs are kept in order of arrival, two days cover the difference
        if first is None:
            return
        hour = int((first.timestamp() - _KEPT_BEFORE_S) // HOUR_S)
        for series in self._series.values():
            series.forget_before(hour)


def _add(
    own: Totals, baseline: Totals, by_site: dict[str, Totals], bill: _JobBill, *, sign: int = 1
) -> tuple[Totals, Totals]:
    for site, run, moved_eur in bill.own:
        own = own.plus(run, moved_eur, sign)
        by_site[site] = by_site.get(site, Totals()).plus(run, moved_eur, sign)
    return own, baseline.plus(bill.baseline, bill.baseline_movement_eur, sign)


def _at(curve: HourlyCurve | None, now: datetime) -> float | None:
    return curve.at(now) if curve is not None else None
