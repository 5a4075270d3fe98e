"""The simulated actuator's side of the contract: one end for each start, and progress that a suspension keeps."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from services.cmo.model import Policy
from simulator.production import Production
from simulator.workload import Job, Workload
from solyx.events import (
    AllocationReason,
    AllocationReleased,
    JobAllocated,
    JobSpec,
    PodAssignment,
    ReleaseReason,
    Resources,
)

T0 = datetime(2023, 1, 1, tzinfo=UTC)


def job(*, suspendable: bool) -> Job:
    spec = JobSpec(
        name="j",
        image="i",
        resources=Resources(cpu_milli=1000),
        duration_estimate_s=3600,
        suspendable=suspendable,
    )
    return Job(
        index=0,
        job_id="j",
        tenant="t",
        spec=spec,
        arrival_s=T0.timestamp(),
        true_duration_s=7200.0,
        cores=1.0,
        gpus=0.0,
        home=0,
        sites=(0,),
        data_gib=0.0,
        limit_s=float("inf"),
        deadline_s=float("inf"),
    )


def allocated(spec: JobSpec, revision: int, at: datetime, progress_s: float = 0.0) -> JobAllocated:
    return JobAllocated(
        job_id="j",
        tenant="t",
        spec=spec,
        site="a",
        revision=revision,
        pods=(PodAssignment(index=0, node="n"),),
        reason=AllocationReason.FITS,
        submitted_at=T0,
        progress_s=progress_s,
        decided_at=at,
    )


def released(revision: int, reason: ReleaseReason, at: datetime) -> AllocationReleased:
    return AllocationReleased(job_id="j", tenant="t", site="a", revision=revision, reason=reason, decided_at=at)


@pytest.mark.parametrize(("suspendable", "left_s"), [(True, 7200 - 1800 + 60), (False, 7200)])
def test_a_stopped_job_has_left_what_it_did_not_do_and_the_overhead_or_all_of_it(
    suspendable: bool, left_s: float
) -> None:
    given = job(suspendable=suspendable)
    production = Production(Workload(jobs=[given], refused=0), ["a"], Policy(), suspend_overhead_s=60.0)
    start, stop = T0, T0 + timedelta(minutes=30)
    (started,) = production._actuate(allocated(given.spec, 1, start), start.timestamp())
    (stopped,) = production._actuate(released(1, ReleaseReason.WITHDRAWN, stop), stop.timestamp())
    assert (started.status, stopped.status, stopped.started_at) == ("started", "stopped", start)
    again = stop + timedelta(hours=1)
    production._actuate(allocated(given.spec, 2, again, stopped.progress_s), again.timestamp())
    end_s = max(at_s for at_s, *_ in production._heap)
    assert end_s == pytest.approx(again.timestamp() + left_s)
    assert production.runs.end_s == [stop.timestamp()]


def test_a_placement_that_is_taken_back_before_it_started_is_reported_stopped() -> None:
    given = job(suspendable=True)
    production = Production(Workload(jobs=[given], refused=0), ["a"], Policy(), suspend_overhead_s=60.0)
    (report,) = production._actuate(released(1, ReleaseReason.WITHDRAWN, T0), T0.timestamp())
    assert (report.status, report.started_at) == ("stopped", None)


def test_a_release_after_the_end_is_not_reported_again() -> None:
    given = job(suspendable=True)
    production = Production(Workload(jobs=[given], refused=0), ["a"], Policy(), suspend_overhead_s=60.0)
    production._actuate(allocated(given.spec, 1, T0), T0.timestamp())
    assert production._actuate(released(1, ReleaseReason.FINISHED, T0), T0.timestamp()) == []
    production._actuate(released(1, ReleaseReason.PREEMPTED, T0), T0.timestamp())
    assert production._actuate(released(1, ReleaseReason.PREEMPTED, T0), T0.timestamp()) == []
