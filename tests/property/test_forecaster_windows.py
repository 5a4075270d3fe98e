"""The fast windows equal the simple ones: a set of (series, time) for each window, aggregated when asked."""

import math
from collections.abc import Sequence

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from services.forecaster.core import rows
from services.forecaster.core.windows import SECOND_US, Layout, SourceWindows
from services.forecaster.model import QUANTILE_LEVELS, WindowSpec

START_S = 1_767_268_800
SPECS = (WindowSpec(size_s=20, hop_s=20), WindowSpec(size_s=40, hop_s=20))
FAR = 1 << 60

Event = tuple[int, dict[str, float]]

events = st.lists(
    st.tuples(
        st.integers(0, 90),
        st.dictionaries(st.sampled_from("abcd"), st.integers(-50, 50).map(float), min_size=1),
    ),
    max_size=40,
)


def source(lateness_s: float = 1000.0) -> SourceWindows:
    return SourceWindows(SPECS, lateness_s=lateness_s, most_series=100)


def fold(windows: SourceWindows, event: Event) -> int:
    at_s, values = event
    return windows.fold(Layout(list(values)), np.array(list(values.values())), (START_S + at_s) * SECOND_US, FAR)


def consistent(sequence: Sequence[Event]) -> list[Event]:
    """One value for each series and time: what a sample's identity promises."""
    known: dict[tuple[str, int], float] = {}
    return [
        (at, {name: known.setdefault((name, at), value) for name, value in values.items()}) for at, values in sequence
    ]


def reference(sequence: Sequence[Event]) -> dict[tuple[int, int], dict[str, list[tuple[int, float]]]]:
    """Window (size, start) → series → its samples by time."""
    windows: dict[tuple[int, int], dict[str, dict[int, float]]] = {}
    for at_s, values in sequence:
        for spec in SPECS:
            for start in range(-40, 100, spec.hop_s):
                if start <= at_s < start + spec.size_s:
                    held = windows.setdefault((spec.size_s, start), {})
                    for name, value in values.items():
                        held.setdefault(name, {})[at_s] = value
    return {key: {name: sorted(held.items()) for name, held in series.items()} for key, series in windows.items()}


def told(windows: SourceWindows) -> dict[tuple[int, int], dict[str, tuple[float, ...]]]:
    result: dict[tuple[int, int], dict[str, tuple[float, ...]]] = {}
    for spec in SPECS:
        for start in range(-40, 100, spec.hop_s):
            window = windows.aggregate(spec, (START_S + start) * SECOND_US)
            if window is not None:
                columns = (window.count, window.mean, window.min, window.max, window.last, *window.quantiles)
                table = zip(*(column.tolist() for column in columns), strict=True)
                result[spec.size_s, start] = dict(zip(window.series, table, strict=True))
    return result


def expected(samples: list[tuple[int, float]]) -> tuple[float, ...]:
    values = [value for _, value in samples]
    ordered = sorted(values)
    quantiles = [ordered[max(1, math.ceil(level * len(values) - 1e-9)) - 1] for level in QUANTILE_LEVELS]
    return (len(values), sum(values) / len(values), min(values), max(values), samples[-1][1], *quantiles)


@settings(max_examples=80, deadline=None)
@given(events)
def test_windows_equal_the_aggregate_of_their_samples(sequence):
    sequence = consistent(sequence)
    windows = source()
    for event in sequence:
        fold(windows, event)
    found = told(windows)
    wanted = reference(sequence)
    assert found.keys() == wanted.keys()
    for key, series in wanted.items():
        assert found[key] == {name: expected(samples) for name, samples in series.items()}


@settings(max_examples=60, deadline=None)
@given(events, st.randoms(use_true_random=False))
def test_repeats_and_order_within_the_lateness_do_not_matter(sequence, random):
    sequence = consistent(sequence)
    shuffled = [event for event in sequence for _ in range(random.randint(1, 3))]
    random.shuffle(shuffled)
    one, other = source(), source()
    for event in sequence:
        fold(one, event)
    for event in shuffled:
        fold(other, event)
    assert told(one) == told(other)


@settings(max_examples=60, deadline=None)
@given(events, st.integers(0, 40), st.integers(0, 40))
def test_a_crash_after_any_event_and_any_reread_counts_nothing_twice(sequence, saved_after, committed_before):
    """Rows saved after some events, offsets committed at or before that: the rest is read again."""
    sequence = consistent(sequence)
    saved_after = min(saved_after, len(sequence))
    whole, before, after = source(), source(), source()
    for event in sequence:
        fold(whole, event)
    for event in sequence[:saved_after]:
        fold(before, event)
    for pane in before.panes.values():
        for _, row in rows.save(pane):
            rows.restore(after, pane.start_us, row)
    for event in sequence[max(0, saved_after - committed_before) :]:
        fold(after, event)
    assert told(after) == told(whole)


@settings(max_examples=60, deadline=None)
@given(events, st.integers(0, 60))
def test_every_sample_is_folded_or_refused_with_a_reason(sequence, lateness_s):
    windows = source(lateness_s)
    for at_s, values in sequence:
        refused: dict = {}
        at_us = (START_S + at_s) * SECOND_US
        folded = windows.fold(Layout(list(values)), np.array(list(values.values())), at_us, FAR, refused)
        assert folded + sum(refused.values()) == len(values)
