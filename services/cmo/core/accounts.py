"""The books of the tenants while jobs live and end: the meter's readings into the budgets, and the budgets' word on a placement."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from services.cmo.core.budgets import Budgets, Over
from services.cmo.core.metering import Meter
from services.cmo.core.readings import Readings
from services.cmo.model import Wait
from solyx.budget import expected_use
from solyx.energy import hour_of
from solyx.events import DeferralCause

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from services.cmo.core.budgets import Order
    from services.cmo.core.jobs import Job
    from services.cmo.core.outlook import Outlook
    from services.cmo.core.sites import Sites
    from services.cmo.model import Choice
    from solyx.events import JobFinished, JobSpec, Run


class Accounts:
    """What every job used and plans, told to the budgets whenever it changes."""

    def __init__(self, sites: Sites, outlook: Outlook) -> None:
        self.budgets, self.readings = Budgets(), Readings()
        self._meter, self._outlook = Meter(sites, outlook, self.readings), outlook
        self._hour = 0

    def runs(self, job: Job, spec: JobSpec | None) -> tuple[Run, ...]:
        """All its runs that are over."""
        return () if spec is None else self._meter.runs(job, spec)

    def plan(self, job: Job, spec: JobSpec, *, until_s: float | None = None) -> None:
        """Its placement, its run or its end is another than before; ``until_s``: when a run that outlasts its estimate should end."""
        planned = self._meter.planned(job, spec, until_s=until_s)
        self.budgets.put(job.job_id, job.tenant, self._meter.runs(job, spec), planned)

    def close(self, finished: JobFinished) -> None:
        """A job is over. To be told once of each job."""
        self.budgets.close(finished.job_id, finished.tenant, finished.runs)
        self.readings.forget(finished.job_id)

    def keep(self, jobs: Mapping[str, Job], now: datetime) -> None:
        """Once an hour: how far back published prices are needed to bill the runs that are under way, and which readings."""
        hour = hour_of(now)
        if hour != self._hour:
            self._hour = hour
            begun = [job.began[1] for job in jobs.values() if job.began is not None]
            self._outlook.keep_from(hour_of(min(begun)) if begun else None)
            self.readings.expire(jobs, now.timestamp())

    def within(self, job: Job, spec: JobSpec, choice: Choice, order: Order, now: datetime) -> Choice | Wait | Over:
        """The choice if its tenant's budgets have room for it, or it waits for them; ``Over``: beyond a soft one.

        A job that was suspended, moved or preempted goes on: its budget was granted once, and is still set aside.
        """
        if job.goes_on:
            return choice
        run_s = max(0.0, spec.duration_estimate_s - job.kept_s)
        more = expected_use(spec, choice.cost, run_s=run_s)
        over = self.budgets.check(job.tenant, more, now)
        if not isinstance(over, Over):
            return choice
        if over.enforcement == "soft":
            return over
        until = _kept(job, over.until, now)
        self.budgets.wait(job.job_id, job.tenant, order, more, until)
        return Wait(message=over.detail, cause=DeferralCause.BUDGET, until=until)


def beyond(choice: Choice, over: Over) -> Choice:
    """The choice of a job that goes after others, and says so."""
    words = f"soft budget, so after others: {over.detail}"
    return replace(choice, bound_by=f"{choice.bound_by}; {words}" if choice.bound_by else words)


def _kept(job: Job, until: datetime | None, now: datetime) -> datetime | None:
    """When it is looked at again: not later than was told of it, so that a recovered core looks when the one before it would have."""
    said = job.deferral
    if said is None or said.until is None or (said.revision, said.reason) != (job.revision, DeferralCause.BUDGET):
        return until
    return until if said.until <= now or (until is not None and until < said.until) else said.until
