"""The reconciler: from allocations and observations to commands and reports."""

from __future__ import annotations

import itertools

import pytest

from services.actuator.core import ActuatorCore
from services.actuator.model import Apply, Changes, Command, CommandsFailed, Delete, Phase, SiteSeen, Verdict
from solyx.events import AllocationDeferred, DeferralReason, Event, ReleaseReason, WorkloadReason, WorkloadReported
from tests.unit.actuator.actuator_cases import (
    SITE,
    START,
    Actuator,
    allocated,
    new_core,
    outcome,
    released,
    reported,
    state,
    story,
)


def look(core: ActuatorCore, *states: object, complete: bool = True) -> None:
    core.observe(SiteSeen(site=SITE, changes=Changes(states=states, cursor="1", complete=complete)), wall_s=0.0)  # pyright: ignore[reportArgumentType]


def commands(core: ActuatorCore, wall_s: float = 0.0) -> list[Command]:
    return core.commands(SITE, limit=100, wall_s=wall_s)


def listed(*events: Event) -> ActuatorCore:
    """A core that has folded ``events`` and looked at an empty cluster."""
    core = new_core()
    for event in events:
        core.fold(event)
    core.decide(START)
    look(core)
    core.decide(START)
    return core


def running(*, job: str = "job", revision: int = 1) -> ActuatorCore:
    core = listed(allocated(job, revision))
    (command,) = commands(core)
    core.observe(outcome(command, state=state(job, revision)), wall_s=0.0)
    assert story(core.decide(START)) == [f"{job}.{revision}.started"]
    return core


def only(events: list[Event]) -> WorkloadReported:
    (event,) = events
    assert isinstance(event, WorkloadReported)
    return event


def test_an_allocation_is_applied_and_reported_started_and_succeeded_once():
    core = running()
    look(core, state(phase=Phase.SUCCEEDED, ended_at=START, reason=WorkloadReason.COMPLETED), complete=False)
    report = only(core.decide(START))
    assert (report.id, report.reason, report.at) == ("job.1.succeeded", WorkloadReason.COMPLETED, START)
    look(core, state(phase=Phase.SUCCEEDED, ended_at=START))
    assert core.decide(START) == []
    assert commands(core) == []


def test_an_end_seen_before_the_start_was_told_reports_both_in_order():
    core = listed(allocated())
    (command,) = commands(core)
    core.observe(outcome(command, state=state(phase=Phase.FAILED, reason=WorkloadReason.EXIT_CODE)), wall_s=0.0)
    assert story(core.decide(START)) == ["job.1.started", "job.1.failed"]


def test_nothing_is_commanded_before_the_first_complete_list():
    core = new_core()
    core.fold(allocated())
    core.decide(START)
    assert commands(core) == []
    look(core, state())
    assert story(core.decide(START)) == ["job.1.started"]
    assert commands(core) == [], "what a predecessor applied is not applied again"


def test_a_repeated_allocation_changes_nothing():
    core = running()
    core.fold(allocated())
    assert core.decide(START) == []
    assert commands(core) == []


def test_a_job_has_one_command_under_way_at_a_time():
    core = listed(allocated())
    assert commands(core) == [Apply(allocation=allocated())]
    core.fold(released())
    assert core.decide(START) == []
    assert commands(core) == []


@pytest.mark.parametrize("reason", [ReleaseReason.WITHDRAWN, ReleaseReason.PREEMPTED])
def test_a_released_workload_is_deleted_and_reported_stopped(reason: ReleaseReason):
    core = running()
    core.fold(released(reason=reason))
    assert core.decide(START) == []
    (command,) = commands(core)
    assert command == Delete(job_id="job", revision=1)
    core.observe(outcome(command, state=state(phase=Phase.STOPPED, reason=WorkloadReason.RELEASED)), wall_s=0.0)
    report = only(core.decide(START))
    assert (report.id, report.reason, report.started_at) == ("job.1.stopped", WorkloadReason.RELEASED, START)
    assert core.jobs(SITE) == 0


def test_a_released_workload_that_never_started_is_fenced_and_reported_stopped():
    core = listed(released())
    (command,) = commands(core)
    assert isinstance(command, Delete)
    assert core.decide(START) == [], "stopped is told only when the cluster has confirmed it"
    core.observe(outcome(command), wall_s=0.0)
    report = only(core.decide(START))
    assert (report.id, report.started_at) == ("job.1.stopped", None)


def test_a_workload_that_ended_before_its_deletion_is_reported_as_it_ended():
    core = running()
    core.fold(released())
    core.decide(START)
    (command,) = commands(core)
    core.observe(outcome(command, state=state(phase=Phase.SUCCEEDED, reason=WorkloadReason.COMPLETED)), wall_s=0.0)
    assert story(core.decide(START)) == ["job.1.succeeded"]


def test_a_finished_workload_is_deleted_without_a_report():
    core = running()
    look(core, state(phase=Phase.SUCCEEDED), complete=False)
    core.decide(START)
    assert commands(core) == []
    core.fold(released(reason=ReleaseReason.FINISHED))
    assert core.decide(START) == []
    (command,) = commands(core)
    assert command == Delete(job_id="job", revision=1)
    core.observe(outcome(command, state=state(phase=Phase.SUCCEEDED)), wall_s=0.0)
    assert core.decide(START) == []
    assert core.jobs(SITE) == 0, "a job that is over is forgotten"


def test_a_revision_lower_than_one_that_was_seen_is_refused():
    core = listed(allocated(revision=3), allocated(revision=2))
    assert commands(core) == [Apply(allocation=allocated(revision=3))]
    assert core.take_tally()[SITE, "refused"] == 1


def test_an_allocation_of_a_forgotten_revision_is_refused():
    core = running()
    core.fold(released())
    core.decide(START)
    core.observe(outcome(commands(core)[0]), wall_s=0.0)
    assert story(core.decide(START)) == ["job.1.stopped"]
    core.fold(allocated())
    core.fold(released())
    assert core.decide(START) == []
    assert commands(core) == []


def test_a_higher_revision_is_applied_only_after_the_lower_is_reported_ended():
    core = running()
    core.fold(allocated(revision=2))
    assert core.decide(START) == []
    (command,) = commands(core)
    assert command == Delete(job_id="job", revision=1)
    core.observe(outcome(command, state=state(phase=Phase.STOPPED)), wall_s=0.0)
    assert commands(core) == [], "not before the report is committed"
    assert story(core.decide(START)) == ["job.1.stopped"]
    assert commands(core) == [Apply(allocation=allocated(revision=2))]


def test_stops_go_before_starts():
    core = running(job="old")
    core.fold(allocated("new"))
    core.fold(released("old"))
    core.decide(START)
    assert [type(command) for command in commands(core)] == [Delete, Apply]


def test_a_rejected_workload_is_reported_failed():
    core = listed(allocated())
    (command,) = commands(core)
    core.observe(outcome(command, Verdict.REJECTED), wall_s=0.0)
    report = only(core.decide(START))
    assert (report.id, report.reason, report.started_at) == ("job.1.failed", WorkloadReason.REJECTED, None)
    core.fold(released(reason=ReleaseReason.FAILED))
    assert core.decide(START) == []
    assert core.jobs(SITE) == 0


def test_a_workload_refused_as_stale_by_the_cluster_is_reported_failed():
    core = listed(allocated())
    (command,) = commands(core)
    core.observe(outcome(command, Verdict.STALE), wall_s=0.0)
    assert story(core.decide(START)) == ["job.1.failed"]


def test_an_unavailable_item_is_tried_again_after_its_own_growing_back_off():
    core = listed(allocated(), allocated("other"))
    first, second = commands(core)
    core.observe(outcome(second, state=state("other")), wall_s=0.0)
    core.observe(outcome(first, Verdict.UNAVAILABLE), wall_s=0.0)
    assert story(core.decide(START)) == ["other.1.started"]
    assert commands(core, wall_s=0.4) == []
    assert commands(core, wall_s=1.1) == [first]
    core.observe(outcome(first, Verdict.UNAVAILABLE), wall_s=10.0)
    core.decide(START)
    assert commands(core, wall_s=10.9) == []
    assert commands(core, wall_s=12.1) == [first]


def test_a_deletion_that_the_cluster_refuses_is_tried_again_and_not_reported():
    core = listed(released())
    (command,) = commands(core)
    core.observe(outcome(command, Verdict.REJECTED), wall_s=0.0)
    assert core.decide(START) == []
    assert commands(core, wall_s=2.0) == [command]


def test_commands_of_a_failed_call_are_given_again_as_the_state_then_asks():
    core = listed(allocated(), allocated("other"))
    given = commands(core)
    core.fold(released("other"))
    core.observe(CommandsFailed(site=SITE, commands=tuple(given)), wall_s=0.0)
    core.decide(START)
    assert commands(core) == [Delete(job_id="other", revision=1), Apply(allocation=allocated())]


def test_a_workload_missing_from_a_complete_list_is_applied_again():
    core = running()
    look(core)
    assert core.decide(START) == []
    assert commands(core) == [Apply(allocation=allocated())]


def test_a_missing_workload_that_was_reported_ended_is_not_applied_again():
    core = running()
    look(core, state(phase=Phase.FAILED), complete=False)
    core.decide(START)
    look(core)
    assert core.decide(START) == []
    assert commands(core) == []


def test_a_list_taken_before_a_command_was_carried_out_does_not_count_as_drift():
    core = listed(allocated())
    (command,) = commands(core)
    look(core)
    core.observe(outcome(command, state=state()), wall_s=0.0)
    assert story(core.decide(START)) == ["job.1.started"]
    assert commands(core) == []


def test_a_leftover_of_a_job_that_is_over_is_deleted_at_once():
    core = listed(released(), reported(status="stopped"))
    look(core, state())
    assert core.decide(START) == []
    assert commands(core) == [Delete(job_id="job", revision=1)]


def test_an_unknown_object_is_deleted_when_two_lists_in_a_row_have_it():
    core = listed(allocated("mine"))
    look(core, state("unknown", 4))
    core.decide(START)
    assert commands(core) == [Apply(allocation=allocated("mine"))]
    look(core, state("unknown", 4))
    core.decide(START)
    (command,) = commands(core)
    assert command == Delete(job_id="unknown", revision=4)
    core.observe(outcome(command), wall_s=0.0)
    assert core.decide(START) == [], "nobody waits for a report about it"


def test_an_unknown_object_whose_allocation_comes_after_all_is_kept():
    core = listed(allocated("mine"))
    look(core, state("late", 1))
    look(core, state("late", 1))
    core.fold(allocated("late"))
    core.decide(START)
    assert Apply(allocation=allocated("late")) in commands(core)


def test_an_object_of_a_lower_revision_is_replaced():
    core = listed(allocated(revision=2))
    look(core, state(revision=1))
    core.decide(START)
    assert commands(core) == [Apply(allocation=allocated(revision=2))]


def test_an_object_of_a_lower_revision_is_removed_when_the_higher_is_over():
    core = listed(allocated(revision=2), reported(revision=2, status="failed"))
    look(core, state(revision=1))
    core.fold(released(revision=2, reason=ReleaseReason.FAILED))
    core.decide(START)
    assert commands(core) == [Delete(job_id="job", revision=2)]


def test_recovery_does_not_depend_on_how_inputs_and_own_reports_interleave():
    inputs = [allocated(), released(), allocated(revision=2), allocated("other")]
    own = [reported(), reported(status="stopped"), reported(revision=2)]
    for places in itertools.combinations(range(7), 3):
        core, left, right = new_core(), list(inputs), list(own)
        for position in range(7):
            core.fold((right if position in places else left).pop(0))
        assert core.decide(START) == []
        look(core, state(revision=2), state("other"))
        assert story(core.decide(START)) == ["other.1.started"], places
        assert commands(core) == []


def test_recovery_from_compacted_topics_decides_nothing_anew():
    core = listed(reported(revision=5, status="stopped"), released(revision=5))
    assert commands(core) == []
    assert core.jobs(SITE) == 0


def test_a_release_that_compaction_removed_is_implied_by_a_later_deferral():
    deferred = AllocationDeferred(
        job_id="job", tenant="t", site=SITE, revision=2, reason=DeferralReason.QUOTA, decided_at=START
    )
    core = listed(reported(revision=1, status="failed"), deferred)
    assert core.jobs(SITE) == 0


def test_events_of_no_concern_are_ignored(actuator: Actuator):
    from tests.unit.actuator.actuator_cases import route

    actuator.core.fold(route())
    assert actuator.settle() == []
