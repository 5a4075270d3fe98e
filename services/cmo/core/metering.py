"""What the runs of a job used: the CMO's meter, read whenever a run ends and whenever the next placement is published.

The simple algorithm: a job's use is the sum over its runs of what `solyx.energy.run_bill` says for the span in which it ran, at the
prices and carbon published for its site, plus the movement of its data for each run elsewhere. The power is what the run's meters read, and
where none did, what the site's power model says. Only the latest run has to be metered: what those before it used stands in the placement
(`JobPlaced.used`), or in what was said of the job while it waited. So nothing is kept here but readings, and a recovered core, which has its
own placements, the reports and the readings again, arrives at the same figures.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from services.cmo.core.readings import drawn
from solyx.budget import expected_use
from solyx.energy import HOUR_S, RunBill, cores_of, gpus_of, movement_eur, run_bill
from solyx.events import PowerModel, Run, Usage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.cmo.core.jobs import Job
    from services.cmo.core.outlook import Outlook
    from services.cmo.core.readings import Drawn, Readings, Trace
    from services.cmo.core.sites import Sites
    from solyx.energy import HourlyCurve
    from solyx.events import JobSpec


def run_usage(
    spec: JobSpec,
    power: PowerModel,
    *,
    start: datetime,
    end: datetime,
    price: HourlyCurve | None,
    carbon: HourlyCurve | None,
    movement_eur: float = 0.0,
    traces: Sequence[Trace] = (),
) -> Usage:
    """What one run took from ``start`` to ``end`` above the site's idle floor, at the meter: as measured, and where it was not, as modelled.

    Hours for which nothing is published yet are billed at the last known value, as `solyx/ledger.py` does.
    """
    bill, measured_kwh = RunBill(), 0.0
    for stretch in drawn(traces, start.timestamp(), end.timestamp()):
        begin, until = _moment(stretch.start_s, start, end), _moment(stretch.end_s, start, end)
        measured_w = power.pue * stretch.measured_w
        modelled_w = power.dynamic_w(
            cores=cores_of(spec) * (1.0 - _covered(stretch, "cpu", spec)),
            gpus=gpus_of(spec) * (1.0 - _covered(stretch, "gpu", spec)),
        )
        bill += run_bill(power_w=measured_w + modelled_w, start=begin, end=until, price=price, carbon=carbon)
        measured_kwh += measured_w / 1000.0 * (until - begin).total_seconds() / HOUR_S
    hours = max(0.0, (end - start).total_seconds() / HOUR_S)
    return Usage(
        cpu_h=cores_of(spec) * hours,
        gpu_h=gpus_of(spec) * hours,
        energy_kwh=bill.energy_kwh,
        cost_eur=bill.cost_eur + movement_eur,
        carbon_kg=bill.carbon_kg,
        measured_kwh=measured_kwh,
    )


def _moment(at_s: float, start: datetime, end: datetime) -> datetime:
    """A time within the run; its ends as they are, without rounding."""
    if at_s <= start.timestamp():
        return start
    return end if at_s >= end.timestamp() else datetime.fromtimestamp(at_s, UTC)


def _covered(stretch: Drawn, part: str, spec: JobSpec) -> float:
    """The share of the job's pods whose part was measured."""
    return min(1.0, stretch.pods.get(part, 0) / spec.parallelism)


class Meter:
    """Reads off a job's record what it used and what it is still expected to use."""

    def __init__(self, sites: Sites, outlook: Outlook, readings: Readings) -> None:
        self._sites, self._outlook, self._readings = sites, outlook, readings

    def runs(self, job: Job, spec: JobSpec) -> tuple[Run, ...]:
        """All its runs that are over, the latest metered now, unless that was told already: what comes in later changes no bill."""
        span = job.run_span
        if span is None:
            return job.runs
        told = job.deferral.runs if job.deferral is not None and job.deferral.revision == job.revision else ()
        if told and (told[-1].revision, told[-1].started_at, told[-1].ended_at) == (job.revision, *span):
            return told
        start, end = span
        site = self._sites.by_name.get(job.site)
        price, carbon = self._outlook.published(job.site)
        usage = run_usage(
            spec,
            site.power if site is not None else PowerModel(),
            start=start,
            end=end,
            price=price,
            carbon=carbon,
            traces=self._readings.of(job.job_id, job.revision),
            movement_eur=self._movement_eur(spec, job.runs[-1].site if job.runs else None, job.site),
        )
        return (*job.runs, Run(revision=job.revision, site=job.site, started_at=start, ended_at=end, usage=usage))

    def planned(self, job: Job, spec: JobSpec, *, until_s: float | None = None) -> Usage:
        """What its live placement should take; nothing when there is none, unless it is to go on where it was stopped.

        ``until_s``: a run that outlasts its estimate is now expected to end then.
        """
        if not job.live and not job.goes_on:
            return Usage()
        run_s = max(0.0, spec.duration_estimate_s - job.progress_s)
        begun = job.run_began_at
        until_run_s = 0.0 if until_s is None or begun is None else until_s - begun.timestamp()
        if run_s == 0:  # it had done all of its estimate when it began: what it takes is known only as it goes on
            return expected_use(spec, job.cost, run_s=max(0.0, until_run_s))
        expected = expected_use(spec, job.cost, run_s=run_s)
        if not job.live:
            return _times(expected, max(0.0, spec.duration_estimate_s - job.kept_s) / run_s)
        return _times(expected, max(1.0, until_run_s / run_s))

    def _movement_eur(self, spec: JobSpec, ran_at: str | None, to_site: str) -> float:
        """As the placement expected it: data lies where the job ran last, at first where its owner put it.

        If nobody knows that place, at the price of the place it goes to.
        """
        if spec.data is None:
            return 0.0
        lies_at = ran_at or spec.data.site
        source = self._sites.by_name.get(lies_at) or self._sites.by_name.get(to_site)
        egress = 0.0 if source is None else source.observed.egress_eur_per_gib
        data = msgspec.structs.replace(spec.data, site=lies_at)
        return movement_eur(data, to_site=to_site, egress_eur_per_gib=egress)


def _times(usage: Usage, factor: float) -> Usage:
    return Usage(
        cpu_h=usage.cpu_h * factor,
        gpu_h=usage.gpu_h * factor,
        energy_kwh=usage.energy_kwh * factor,
        cost_eur=usage.cost_eur * factor,
        carbon_kg=usage.carbon_kg * factor,
    )
