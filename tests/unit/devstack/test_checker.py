"""The checker finds each kind of damage, and finds none where there is none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from devstack.checker import judge
from solyx.events import (
    AllocationReason,
    AllocationReleased,
    Event,
    FinishReason,
    JobAllocated,
    JobFinished,
    JobSpec,
    JobSubmitted,
    Node,
    PodAssignment,
    ReleaseReason,
    Resources,
    SiteObserved,
    WorkloadReason,
    WorkloadReported,
)

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


def at(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


def spec(cpu: int = 4000) -> JobSpec:
    return JobSpec(name="j", image="i", resources=Resources(cpu_milli=cpu), duration_estimate_s=60)


def site(name: str = "a", cpu: int = 8000) -> Event:
    return SiteObserved(site=name, observed_at=NOON, nodes=(Node(name="n", cpu_milli=cpu, memory_bytes=0),))


def submitted(job: str) -> Event:
    return JobSubmitted(job_id=job, tenant="t", spec=spec(), submitted_at=NOON)


def allocated(job: str, *, revision: int = 1, where: str = "a", cpu: int = 4000) -> Event:
    return JobAllocated(
        job_id=job,
        tenant="t",
        spec=spec(cpu),
        site=where,
        revision=revision,
        pods=(PodAssignment(index=0, node="n"),),
        reason=AllocationReason.FITS,
        submitted_at=NOON,
        decided_at=NOON,
    )


def released(job: str, *, revision: int = 1, where: str = "a") -> Event:
    return AllocationReleased(
        job_id=job, tenant="t", site=where, revision=revision, reason=ReleaseReason.FINISHED, decided_at=NOON
    )


def ran(job: str, start: float, end: float | None, *, revision: int = 1, where: str = "a") -> list[Event]:
    def report(status: str, when: float) -> Event:
        return WorkloadReported(
            job_id=job,
            tenant="t",
            site=where,
            revision=revision,
            status=status,  # type: ignore[arg-type]
            reason=WorkloadReason.APPLIED,
            started_at=at(start),
            at=at(when),
        )

    return [report("started", start)] + ([report("succeeded", end)] if end is not None else [])


def finished(job: str) -> Event:
    return JobFinished(job_id=job, tenant="t", outcome="succeeded", reason=FinishReason.COMPLETED, finished_at=at(100))


def whole(job: str, start: float, end: float) -> list[Event]:
    return [submitted(job), allocated(job), *ran(job, start, end), released(job), finished(job)]


def test_a_sound_log_is_clean() -> None:
    findings = judge([site(), *whole("x", 0, 10), *whole("y", 5, 15), *whole("z", 10, 20)], accepted=["x", "y", "z"])
    assert findings.clean
    assert findings.jobs == 3
    assert findings.runs == 3


def test_an_accepted_job_without_an_event_or_without_an_outcome_is_lost() -> None:
    findings = judge([site(), submitted("x")], accepted=["x", "never-seen"])
    assert findings.lost == ["x", "never-seen"]


def test_two_outcomes_are_found() -> None:
    findings = judge([site(), *whole("x", 0, 10), finished("x")], accepted=["x"])
    assert findings.doubled == ["x ended 2 times"]


def test_running_at_two_places_at_a_time_is_found() -> None:
    events = [
        site("a"),
        site("b"),
        *whole("x", 0, 10),
        allocated("x", revision=2, where="b"),
        *ran("x", 9, 20, revision=2, where="b"),
        released("x", revision=2, where="b"),
    ]
    assert len(judge(events, accepted=["x"]).doubled) == 1


def test_a_second_run_after_the_first_ended_is_no_double() -> None:
    events = [
        site("a"),
        site("b"),
        *whole("x", 0, 10),
        allocated("x", revision=2, where="b"),
        *ran("x", 10, 20, revision=2, where="b"),
        released("x", revision=2, where="b"),
    ]
    assert judge(events, accepted=["x"]).clean


def test_a_second_allocation_under_one_revision_is_found() -> None:
    assert judge([site(), *whole("x", 0, 10), allocated("x")], accepted=["x"]).doubled


def test_exceeded_capacity_is_found() -> None:
    findings = judge([site(), *whole("x", 0, 10), *whole("y", 5, 15), *whole("z", 9, 20)], accepted=["x", "y", "z"])
    assert findings.exceeded == [f"a/n/cpu: 12000 of 8000 in use at {at(9).isoformat()}"]


def test_an_allocation_that_was_never_released_is_left_over() -> None:
    events = [site(), submitted("x"), allocated("x"), *ran("x", 0, 10), finished("x")]
    assert judge(events, accepted=["x"]).left_over == ["x revision 1 at a"]
