"""Samples of one source to windows."""

import numpy as np

from services.forecaster.core.windows import SECOND_US, Layout, Refusal
from services.forecaster.model import WindowSpec

FAR = 1 << 60
MINUTE = WindowSpec(size_s=60, hop_s=60)
FIVE = WindowSpec(size_s=300, hop_s=60)


def fold(source, us, at_s, refused=None, **values):
    return source.fold(Layout(list(values)), np.array(list(values.values()), float), us(at_s), FAR, refused)


def test_a_window_tells_count_mean_min_max_last_and_quantiles_of_each_series(make_source, us):
    source = make_source()
    for at_s, a, b in ((0, 3.0, -1.0), (15, 1.0, -2.0), (30, 8.0, -3.0), (45, 4.0, -4.0)):
        fold(source, us, at_s, a=a, b=b)
    window = source.aggregate(MINUTE, us(0))
    assert window.series == ("a", "b")
    assert window.count.tolist() == [4, 4]
    assert window.mean.tolist() == [4.0, -2.5]
    assert window.min.tolist() == [1.0, -4.0]
    assert window.max.tolist() == [8.0, -1.0]
    assert window.last.tolist() == [4.0, -4.0]
    assert [quantile.tolist() for quantile in window.quantiles] == [[3.0, -3.0], [8.0, -1.0], [8.0, -1.0]]


def test_a_sample_at_the_border_belongs_to_the_window_that_begins(make_source, us):
    source = make_source()
    fold(source, us, 59.999999, a=1.0)
    fold(source, us, 60, a=2.0)
    assert source.aggregate(MINUTE, us(0)).last.tolist() == [1.0]
    assert source.aggregate(MINUTE, us(60)).last.tolist() == [2.0]


def test_a_hopping_window_is_the_merge_of_its_minutes(make_source, us):
    source = make_source("60,300/60")
    for minute in range(6):
        fold(source, us, 60 * minute + 5, a=float(minute))
    windows = {start: source.aggregate(FIVE, us(start)) for start in (-60, 0, 60)}
    assert windows[-60].count.tolist() == [4]
    assert windows[0].mean.tolist() == [2.0]
    assert windows[60].min.tolist() == [1.0]
    assert windows[60].quantiles[0].tolist() == [3.0]


def test_a_pane_is_in_every_window_that_covers_it(make_source, us):
    source = make_source("60,300/60")
    fold(source, us, 0, a=1.0)
    (pane,) = source.panes.values()
    windows = sorted((spec.size_s, (start - us(0)) // SECOND_US) for spec, start in source.windows_of(pane))
    assert windows == [(60, 0), (300, -240), (300, -180), (300, -120), (300, -60), (300, 0)]


def test_a_repeated_sample_changes_nothing(make_source, us):
    source, refused = make_source(), {}
    fold(source, us, 10, a=5.0, b=1.0)
    assert fold(source, us, 10, refused, a=5.0, b=1.0) == 0
    assert refused == {Refusal.REPEATED: 2}
    assert source.aggregate(MINUTE, us(0)).count.tolist() == [1, 1]


def test_a_sample_is_identified_by_series_and_time_whatever_event_it_came_in(make_source, us):
    source = make_source()
    fold(source, us, 10, a=5.0, b=1.0)
    assert fold(source, us, 10, b=1.0, c=2.0) == 1
    window = source.aggregate(MINUTE, us(0))
    assert dict(zip(window.series, window.count.tolist(), strict=True)) == {"a": 1, "b": 1, "c": 1}


def test_a_series_named_twice_in_one_event_is_one_sample(make_source, us):
    source = make_source()
    assert source.fold(Layout(["a", "b", "a"]), np.array([1.0, 2.0, 3.0]), us(0), FAR) == 2
    assert source.aggregate(MINUTE, us(0)).last.tolist() == [1.0, 2.0]


def test_a_late_sample_within_the_allowed_lateness_goes_to_its_window(make_source, us):
    source = make_source(lateness_s=60)
    fold(source, us, 10, a=1.0)
    fold(source, us, 119, a=2.0)
    assert fold(source, us, 20, a=3.0) == 1
    window = source.aggregate(MINUTE, us(0))
    assert (window.count.tolist(), window.last.tolist()) == ([2], [3.0])


def test_a_sample_that_is_too_late_is_counted_and_dropped(make_source, us):
    source, refused = make_source(lateness_s=60), {}
    fold(source, us, 10, a=1.0)
    fold(source, us, 120, a=2.0)
    assert fold(source, us, 20, refused, a=3.0) == 0
    assert refused == {Refusal.LATE: 1}


def test_the_last_value_is_the_newest_whatever_order_samples_come_in(make_source, us):
    source = make_source()
    for at_s in (30, 10, 50, 20):
        fold(source, us, at_s, a=float(at_s))
    assert source.aggregate(MINUTE, us(0)).last.tolist() == [50.0]


def test_a_wrong_clock_far_ahead_does_not_make_everything_late(make_source, us):
    source, refused = make_source(), {}
    now_us = us(100)
    layout = Layout(["a"])
    assert source.fold(layout, np.array([1.0]), us(100 + 7200), now_us, refused) == 0
    assert source.fold(layout, np.array([1.0]), us(50), now_us, refused) == 1
    assert refused == {Refusal.FUTURE: 1}


def test_a_value_that_is_no_finite_number_is_left_out(make_source, us):
    source, refused = make_source(), {}
    assert fold(source, us, 10, refused, a=float("nan"), b=2.0, c=float("inf")) == 1
    assert refused == {Refusal.NOT_FINITE: 2}
    assert source.aggregate(MINUTE, us(0)).series == ("b",)


def test_a_source_with_too_many_series_is_counted_and_refused(make_source, us):
    source, refused = make_source(most_series=2), {}
    fold(source, us, 10, a=1.0, b=2.0)
    assert fold(source, us, 20, refused, a=1.0, c=2.0) == 0
    assert refused == {Refusal.TOO_MANY_SERIES: 2}


def test_samples_with_times_of_their_own_go_where_their_times_say(make_source, us):
    source = make_source()
    times = np.array([us(5), us(65), us(5), us(30)])
    assert source.fold_timed(["a", "a", "b", "a"], np.array([1.0, 2.0, 3.0, 4.0]), times, FAR) == 4
    first, second = source.aggregate(MINUTE, us(0)), source.aggregate(MINUTE, us(60))
    assert dict(zip(first.series, first.count.tolist(), strict=True)) == {"a": 2, "b": 1}
    assert (second.series, second.last.tolist()) == (("a",), [2.0])


def test_series_that_come_and_go_are_merged_by_name(make_source, us):
    source = make_source("60,300/60")
    fold(source, us, 0, a=1.0, b=2.0)
    fold(source, us, 60, b=4.0, c=6.0)
    window = source.aggregate(FIVE, us(0))
    means = dict(zip(window.series, window.mean.tolist(), strict=True))
    medians = dict(zip(window.series, window.quantiles[0].tolist(), strict=True))
    assert means == {"a": 1.0, "b": 3.0, "c": 6.0}
    assert medians == {"a": 1.0, "b": 2.0, "c": 6.0}


def test_a_window_without_samples_is_no_window(make_source, us):
    assert make_source().aggregate(MINUTE, us(0)) is None
