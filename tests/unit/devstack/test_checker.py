"""The checker finds each kind of damage, and finds none where there is none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec

from devstack.checker import judge
from solyx.events import (
    SIMULATED_DURATION_LABEL,
    AllocationReason,
    AllocationReleased,
    Event,
    FinishReason,
    JobAllocated,
    JobFinished,
    JobSpec,
    JobSubmitted,
    Node,
    PlacementWithdrawn,
    PodAssignment,
    ReleaseReason,
    Resources,
    SiteObserved,
    WithdrawalReason,
    WorkloadReason,
    WorkloadReported,
)

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


def at(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


def spec(cpu: int = 4000, *, work_min: float | None = None, suspendable: bool = False) -> JobSpec:
    labels = {} if work_min is None else {SIMULATED_DURATION_LABEL: str(60 * work_min)}
    return JobSpec(
        name="j",
        image="i",
        resources=Resources(cpu_milli=cpu),
        duration_estimate_s=60,
        suspendable=suspendable,
        labels=labels,
    )


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


def reported(
    status: str, when: float, *, job: str, start: float, revision: int, where: str, progress_min: float = 0
) -> Event:
    return WorkloadReported(
        job_id=job,
        tenant="t",
        site=where,
        revision=revision,
        status=status,  # type: ignore[arg-type]
        reason=WorkloadReason.APPLIED,
        started_at=at(start),
        progress_s=60 * progress_min,
        at=at(when),
    )


def ran(job: str, start: float, end: float | None, *, revision: int = 1, where: str = "a") -> list[Event]:
    about = {"job": job, "start": start, "revision": revision, "where": where}
    return [reported("started", start, **about)] + ([reported("succeeded", end, **about)] if end is not None else [])


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


def test_a_run_that_ended_as_it_started_is_no_double_of_the_next() -> None:
    died = [site(), site("b"), submitted("a"), allocated("a"), *ran("a", 5, 5), released("a")]
    again = [allocated("a", revision=2, where="b"), *ran("a", 5, 9, revision=2, where="b")]
    events = [*again, *died, released("a", revision=2, where="b"), finished("a")]
    assert judge(events, accepted=["a"]).doubled == []


def test_a_second_allocation_under_one_revision_is_found() -> None:
    assert judge([site(), *whole("x", 0, 10), allocated("x")], accepted=["x"]).doubled


def test_exceeded_capacity_is_found() -> None:
    findings = judge([site(), *whole("x", 0, 10), *whole("y", 5, 15), *whole("z", 9, 20)], accepted=["x", "y", "z"])
    assert findings.exceeded == [f"a/n/cpu: 12000 of 8000 in use at {at(9).isoformat()}"]


def test_an_allocation_that_was_never_released_is_left_over() -> None:
    events = [site(), submitted("x"), allocated("x"), *ran("x", 0, 10), finished("x")]
    assert judge(events, accepted=["x"]).left_over == ["x revision 1 at a"]


# ---------------------------------------------------------------------------------------------------------------- work


def stretch(
    revision: int,
    start: float,
    end: float,
    status: str,
    *,
    work: tuple[float, float],
    suspendable: bool = True,
    where: str = "a",
) -> list[Event]:
    """One run of ``x``, whose whole work are 20 minutes: ``work`` is the progress in minutes from which, and up to which."""
    allocation = msgspec.structs.replace(
        allocated("x", revision=revision, where=where),  # pyright: ignore[reportArgumentType]
        spec=spec(work_min=20, suspendable=suspendable),
        progress_s=60 * work[0],
    )

    about = {"job": "x", "start": start, "revision": revision, "where": where}
    reports = [
        reported("started", start, **about, progress_min=work[0]),
        reported(status, end, **about, progress_min=work[1]),
    ]
    return [allocation, *reports, released("x", revision=revision, where=where)]


def unworked(*runs: list[Event], more: Event | None = None) -> list[str]:
    events = [site("a"), site("b"), submitted("x"), *(event for run in runs for event in run), finished("x")]
    findings = judge([*events, more] if more is not None else events, accepted=["x"])
    assert [*findings.lost, *findings.doubled, *findings.exceeded, *findings.left_over] == []
    assert findings.clean is not bool(findings.unworked)
    return findings.unworked


def test_runs_under_different_revisions_that_add_up_to_the_whole_work_are_fine() -> None:
    first = stretch(1, 0, 9, "stopped", work=(0, 8))
    second = stretch(2, 20, 24, "failed", work=(8, 10))
    third = stretch(3, 30, 41, "succeeded", work=(10, 20), where="b")
    assert unworked(first, second, third) == []


def test_one_that_is_not_suspendable_does_its_work_in_one_run() -> None:
    first = stretch(1, 0, 9, "stopped", work=(0, 0), suspendable=False)
    assert unworked(first, stretch(2, 10, 30, "succeeded", work=(0, 0), suspendable=False)) == []
    (found,) = unworked(first, stretch(2, 10, 21, "succeeded", work=(0, 0), suspendable=False))
    assert found == "x revision 2 at a succeeded after 660.000 s of work; its whole work is 1200.000 s"


def test_work_that_was_left_out_is_found() -> None:
    (found,) = unworked(stretch(1, 0, 9, "stopped", work=(0, 8)), stretch(2, 20, 31, "succeeded", work=(9, 20)))
    assert found == "x revision 2 at a started from 540.000 s of work; only 480.000 s had been kept"


def test_kept_work_that_was_done_again_is_found() -> None:
    (found,) = unworked(stretch(1, 0, 9, "stopped", work=(0, 8)), stretch(2, 20, 40, "succeeded", work=(0, 20)))
    assert found == "x revision 2 at a started from 0.000 s of work; 480.000 s had been kept"


def test_nobody_knows_what_a_lost_site_had_kept() -> None:
    lost = PlacementWithdrawn(
        job_id="x",
        tenant="t",
        spec=spec(),
        submitted_at=NOON,
        site="a",
        revision=1,
        reason=WithdrawalReason.SITE_LOST,
        decided_at=at(9),
    )
    runs = (stretch(1, 0, 9, "stopped", work=(0, 8)), stretch(2, 20, 40, "succeeded", work=(0, 20), where="b"))
    assert unworked(*runs, more=lost) == []


def test_more_work_than_there_was_time_for_is_found() -> None:
    (found,) = unworked(stretch(1, 0, 9, "succeeded", work=(0, 20)))
    assert found == "x revision 1 at a says that it did 1200.000 s of work in 540.000 s"


def test_success_before_the_work_is_done_is_found() -> None:
    (found,) = unworked(stretch(1, 0, 19, "succeeded", work=(0, 19)))
    assert found == "x revision 1 at a succeeded after 1140.000 s of work; its whole work is 1200.000 s"
