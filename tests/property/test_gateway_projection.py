"""Any order, any repeat and any cut into batches of a job's events give the same state."""

from hypothesis import given, settings
from hypothesis import strategies as st

from services.gateway.core import Changes
from solyx.events import Event, decode
from tests.gateway_events import life, record


def folded(events: list[Event]) -> Changes:
    changes = Changes()
    for event in events:
        written = record(event)
        assert written.value is not None
        changes.fold(decode(written.value, written.headers), written.value)
    return changes


@given(st.permutations(life()), st.lists(st.sampled_from(life()), max_size=6))
@settings(max_examples=60, deadline=None)
def test_order_and_repeats_change_nothing(events: list[Event], repeats: list[Event]) -> None:
    expected, got = folded(life()).jobs["j1"], folded([*events, *repeats]).jobs["j1"]
    assert (got.state, got.site, got.revision, got.progress) == (
        expected.state,
        expected.site,
        expected.revision,
        expected.progress,
    )
    assert (got.reason, got.started_at, got.finished_at, got.state_at) == (
        expected.reason,
        expected.started_at,
        expected.finished_at,
        expected.state_at,
    )


@given(st.permutations(life()), st.integers(0, len(life())))
@settings(max_examples=60, deadline=None)
def test_two_batches_merge_to_what_one_gives(events: list[Event], cut: int) -> None:
    whole = folded(list(events)).jobs["j1"]
    parts = [folded(part).jobs.get("j1") for part in (list(events[:cut]), list(events[cut:]))]
    best = max((part for part in parts if part is not None), key=lambda part: part.progress)
    assert (best.state, best.site, best.progress) == (whole.state, whole.site, whole.progress)


@given(st.permutations(life()), st.lists(st.sampled_from(life()), max_size=6))
@settings(max_examples=60, deadline=None)
def test_runs_are_the_same_in_any_order(events: list[Event], repeats: list[Event]) -> None:
    assert folded([*events, *repeats]).runs == folded(life()).runs
