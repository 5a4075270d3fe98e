"""Why a job waits: the decision in its history that explains it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from services.gateway.model import Breach, HistoryEntry, JobState, JobSummary, Wait
from services.gateway.waiting import broken_bound, why_it_waits
from solyx.events import (
    AllocationDeferred,
    AllocationReleased,
    Event,
    JobPlaced,
    LatencyBoundReported,
    PlacementDeferred,
    PlacementWithdrawn,
    WorkloadReported,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(hours=5)


def job(state: JobState, *, reason: str = "", revision: int = 0) -> JobSummary:
    return JobSummary(
        id="j",
        tenant="t",
        name="n",
        state=state,
        reason=reason,
        site=None,
        revision=revision,
        submitted_at=NOW,
        state_at=NOW,
        labels={},
    )


def entry(kind: type[Event], reason: str, revision: int = 1, **figures: Any) -> HistoryEntry:
    return HistoryEntry(
        seq=1,
        type=kind.TYPE,
        subject="j",
        tenant="t",
        site=None,
        revision=revision,
        reason=reason,
        time=NOW,
        figures=msgspec.Raw(msgspec.json.encode(figures)),
    )


SUSPENDED = [
    entry(JobPlaced, "least_cost", start_at=NOW, cost={"energy_eur": 1.0}),
    entry(PlacementWithdrawn, "suspension"),
    entry(AllocationReleased, "withdrawn", grace_s=30),
    entry(WorkloadReported, "released", status="stopped", progress_s=3600.0),
]
RESUMED = entry(JobPlaced, "resumed", 2, start_at=LATER, progress_s=3600.0)


def test_a_job_without_a_placement_shows_the_deferral_that_holds_now() -> None:
    history = [
        entry(PlacementDeferred, "no_ready_site", 0, detail="no site has 8 GPUs ready"),
        entry(PlacementDeferred, "budget", 0, detail="gpu_h: 12 of 10", until=LATER),
    ]
    assert why_it_waits(job("submitted", reason="budget"), history) == Wait(
        reason="budget", detail="gpu_h: 12 of 10", since=NOW, until=LATER
    )


def test_a_suspended_job_waits_with_what_it_has_kept() -> None:
    wait = why_it_waits(job("submitted", reason="released", revision=1), SUSPENDED)
    assert wait == Wait(reason="suspension", detail="3600 s of its work are kept", since=NOW)


def test_a_suspended_job_that_is_placed_again_waits_for_its_start() -> None:
    wait = why_it_waits(job("placed", reason="resumed", revision=2), [*SUSPENDED, RESUMED])
    assert wait == Wait(reason="resumed", detail="for its start", since=NOW, until=LATER)


@pytest.mark.parametrize(
    ("data_at", "detail"),
    [(LATER, "for its data"), (NOW, "for its start; its data is there at 2026-03-01T12:00+00:00")],
)
def test_a_placed_job_says_when_its_data_is_there(data_at: datetime, detail: str) -> None:
    history = [entry(JobPlaced, "least_cost", start_at=LATER, data_at=data_at)]
    wait = why_it_waits(job("placed", revision=1), history)
    assert wait == Wait(reason="least_cost", detail=detail, since=NOW, until=LATER)


@pytest.mark.parametrize("reason", ["preempted", "drained", "consolidated"])
def test_a_job_that_was_stopped_at_its_site_says_what_for(reason: str) -> None:
    history = [entry(AllocationReleased, reason), entry(WorkloadReported, "released", status="stopped")]
    assert why_it_waits(job("submitted", reason="released", revision=1), history) == Wait(reason=reason, since=NOW)


def test_a_job_that_failed_waits_for_its_next_placement() -> None:
    history = [entry(AllocationReleased, "failed"), entry(WorkloadReported, "exit_code", status="failed")]
    wait = why_it_waits(job("submitted", reason="exit_code", revision=1), history)
    assert wait == Wait(reason="exit_code", since=NOW)


def test_a_placed_job_shows_why_its_site_lets_it_wait() -> None:
    history = [RESUMED, entry(AllocationDeferred, "quota", 2, detail="lab holds 4 of its 4 GPU")]
    wait = why_it_waits(job("placed", revision=2), history)
    assert wait == Wait(reason="quota", detail="lab holds 4 of its 4 GPU", since=NOW)


@pytest.mark.parametrize("state", ["allocated", "running", "succeeded", "failed", "cancelled"])
def test_a_job_that_runs_or_is_over_waits_for_nothing(state: JobState) -> None:
    assert why_it_waits(job(state, revision=2), [*SUSPENDED, RESUMED]) is None


def test_of_a_job_that_was_only_submitted_nothing_was_decided() -> None:
    assert why_it_waits(job("submitted"), []) is None


TOO_FAR = entry(LatencyBoundReported, "not_suspendable", detail="a is 50 ms from b", since=NOW - timedelta(hours=1))
DECLARED = entry(LatencyBoundReported, "no_nearer_site", detail="a is 50 ms from b")
NEAR = entry(LatencyBoundReported, "within")


@pytest.mark.parametrize("state", ["placed", "allocated", "running"])
def test_a_job_whose_site_is_too_far_says_why_it_stays_and_since_when_it_is(state: JobState) -> None:
    breach = Breach(reason="not_suspendable", detail="a is 50 ms from b", since=NOW - timedelta(hours=1))
    assert broken_bound(job(state, revision=1), [NEAR, TOO_FAR]) == breach


def test_what_is_declared_has_been_too_far_since_it_was_told() -> None:
    breach = broken_bound(job("running", revision=1), [DECLARED])
    assert breach is not None
    assert (breach.reason, breach.since) == ("no_nearer_site", NOW)


@pytest.mark.parametrize(
    ("state", "revision", "history"),
    [
        ("running", 1, []),
        ("running", 1, [TOO_FAR, NEAR]),
        ("running", 2, [TOO_FAR]),
        ("submitted", 1, [TOO_FAR]),
        ("succeeded", 1, [TOO_FAR]),
    ],
)
def test_a_site_that_is_near_enough_again_or_not_its_own_any_more_is_no_breach(
    state: JobState, revision: int, history: list[HistoryEntry]
) -> None:
    assert broken_bound(job(state, revision=revision), history) is None
