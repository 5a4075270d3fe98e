"""The read model's fold: which state follows from which events."""

import msgspec
import pytest

from services.gateway.core import FINISHED, Changes, JobChange
from services.gateway.service.projector import fold
from solyx.bus.port import Partition, Received
from solyx.events import (
    EnergySeriesPublished,
    Event,
    JobCancellationRequested,
    RouteDecided,
    RouteReason,
    SiteObserved,
    decode,
)
from tests.gateway_events import (
    TRACEPARENT,
    allocated,
    at,
    deferred,
    finished,
    life,
    placed,
    ran,
    record,
    released,
    reported,
    spec,
    submitted,
    withdrawn,
)


def changes_of(*events: Event) -> Changes:
    changes = Changes()
    for event in events:
        written = record(event)
        assert written.value is not None
        changes.fold(decode(written.value, written.headers), written.value)
    return changes


def job_after(*events: Event) -> JobChange:
    return changes_of(*events).jobs["j1"]


@pytest.mark.parametrize(
    ("events", "state", "site", "reason"),
    [
        ([submitted()], "submitted", None, ""),
        ([submitted(), placed()], "placed", "oslo", "least_cost"),
        ([submitted(), placed(), allocated()], "allocated", "oslo", "fits"),
        ([placed(), allocated(), reported("started")], "running", "oslo", "applied"),
        ([placed(), allocated(), reported("started"), withdrawn()], "running", "oslo", "applied"),
        ([reported("started"), reported("succeeded")], "running", "oslo", "applied"),
        ([reported("started"), reported("failed")], "submitted", None, "exit_code"),
        ([reported("started"), withdrawn(), reported("stopped")], "submitted", None, "exit_code"),
        ([submitted(), deferred()], "submitted", None, "budget"),
        ([deferred(), placed()], "placed", "oslo", "least_cost"),
        ([placed(), deferred(revision=1), reported("failed")], "submitted", None, "budget"),
        ([placed(revision=2), deferred(revision=1)], "placed", "oslo", "least_cost"),
        ([reported("failed"), placed(revision=2, site="bergen")], "placed", "bergen", "least_cost"),
        ([placed(revision=2, site="bergen"), reported("failed")], "placed", "bergen", "least_cost"),
        ([finished(), reported("started"), placed(revision=3)], "succeeded", "oslo", "completed"),
        ([finished("cancelled", revision=0, site="-")], "cancelled", None, "cancelled"),
        (life(), "succeeded", "bergen", "completed"),
    ],
)
def test_the_state_follows_from_the_highest_progress(events: list[Event], state: str, site: str, reason: str) -> None:
    job = job_after(*events)
    assert (job.state, job.site, job.reason) == (state, site, reason)


def test_a_submission_alone_changes_no_state() -> None:
    assert job_after(submitted()).progress == 0


def test_an_outcome_is_above_every_revision() -> None:
    assert job_after(finished()).progress == FINISHED > job_after(placed(revision=2**31)).progress


def test_what_a_row_needs_comes_from_any_event_that_tells_it() -> None:
    job = job_after(placed())
    assert job.submission is not None
    assert (job.submission.tenant, job.submission.spec.name, job.submission.submitted_at) == ("acme", "train", at(0))
    assert job.submission.traceparent == TRACEPARENT


def test_a_request_to_cancel_is_noted_and_is_no_state() -> None:
    request = JobCancellationRequested(job_id="j1", tenant="acme", spec=spec(), submitted_at=at(0), requested_at=at(3))
    job = job_after(submitted(), request)
    assert (job.state, job.cancel_requested_at) == ("submitted", at(3))


def test_history_keeps_each_event_with_reason_and_figures() -> None:
    history = changes_of(*life()).history
    assert [row.type.split(".", 2)[2] for row in history[:3]] == [
        "job.submitted.v1",
        "job.placed.v1",
        "job.allocated.v1",
    ]
    figures = msgspec.json.decode(history[1].figures)
    assert history[1].reason == "least_cost"
    assert history[1].revision == 1
    assert figures["cost"] == {"energy_eur": 2.5, "energy_kwh": 30.0}
    assert figures["alternative"]["site"] == "bergen"
    assert "spec" not in figures
    assert msgspec.json.decode(history[2].figures)["pods"] == [{"index": 0, "node": "n1"}]


def test_history_tells_since_when_and_until_when_the_data_of_a_placement_moves() -> None:
    moved = msgspec.structs.replace(placed(), data_from=at(2), data_at=at(5))
    told, silent = (msgspec.json.decode(row.figures) for row in changes_of(moved, placed()).history)
    assert (told["data_from"], told["data_at"]) == (msgspec.to_builtins(at(2)), msgspec.to_builtins(at(5)))
    assert not {"data_from", "data_at"} & silent.keys()


def test_history_tells_what_was_kept_and_the_grace_to_keep_it() -> None:
    release = msgspec.structs.replace(released(), grace_s=30)
    going_on = (reported("stopped"), placed(revision=2), allocated(revision=2))
    kept = (msgspec.structs.replace(event, progress_s=90) for event in going_on)
    history = changes_of(placed(), release, *kept).history
    told = [msgspec.json.decode(row.figures) for row in history]
    assert [(row.get("progress_s"), row.get("grace_s")) for row in told] == [
        (None, None),
        (None, 30),
        (90, None),
        (90, None),
        (90, None),
    ]


def test_inventory_is_state_and_not_history() -> None:
    older, newer = (SiteObserved(site="oslo", observed_at=at(minute), nodes=()) for minute in (1, 2))
    changes = changes_of(newer, older)
    assert changes.history == []
    assert msgspec.json.decode(changes.entities["site", "oslo"].body, type=SiteObserved) == newer


def test_a_route_of_a_lower_revision_does_not_replace_a_higher_one() -> None:
    old, new = (
        RouteDecided(
            source="a",
            target="b",
            revision=revision,
            path=("a", "b"),
            reason=RouteReason.FIRST,
            decided_at=at(revision),
        )
        for revision in (1, 2)
    )
    assert changes_of(new, old).entities["route", "a>b"].version == 2


def test_an_energy_series_is_valid_until_its_last_step_ends() -> None:
    series = EnergySeriesPublished(
        site="oslo", kind="price_eur_per_mwh", start=at(0), values=(1.0, None, -3.0), published_at=at(0)
    )
    assert changes_of(series).entities["energy", series.key].valid_until == at(180)


def test_unreadable_records_are_left_out_and_the_offsets_move_on() -> None:
    good = record(placed())
    batch = [
        Received("placements", 1, 7, 0, "k", b"{", [("ce_type", b"io.solyx.job.placed.v1")]),
        Received("placements", 1, 8, 0, "k", None, []),
        Received("placements", 1, 9, 0, good.key, good.value, good.headers),
        Received("jobs", 0, 3, 0, "k", b"{}", [("ce_type", b"io.solyx.unheard.of.v1")]),
    ]
    changes, offsets = fold(batch)
    assert list(changes.jobs) == ["j1"]
    assert offsets == {Partition("placements", 1): 10, Partition("jobs", 0): 4}


def test_a_release_is_history_only() -> None:
    changes = changes_of(released())
    assert changes.jobs == {}
    assert len(changes.history) == 1


def test_what_a_run_took_replaces_what_was_expected_of_it_in_any_order() -> None:
    took = ran(1, gpu_h=3.0)
    for events in ([placed(), finished(runs=(took,))], [finished(runs=(took,)), placed()]):
        (row,) = changes_of(*events).runs.values()
        assert (row.ended_at, row.usage) == (took.ended_at, took.usage)
    (planned,) = changes_of(placed()).runs.values()
    assert (planned.ended_at, planned.usage.cpu_h, planned.usage.cost_eur) == (None, 1 / 6, 2.5)
