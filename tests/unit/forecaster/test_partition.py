"""The windows of a partition: what is due when, what is saved, what survives a crash."""

import pytest

from services.forecaster.core.rows import RowKey


def test_an_open_window_is_published_at_once_and_then_at_most_once_in_the_interval(make_partition):
    partition = make_partition(update_s=1.0)
    partition.fold("s", 0, {"a": 1.0})
    assert partition.due(100.0) == [("s", 0, 60, 1)]
    partition.fold("s", 5, {"a": 1.0})
    assert partition.due(100.5) == []
    assert partition.due(101.1) == [("s", 0, 60, 2)]
    assert partition.due(110.0) == []


def test_a_window_that_ended_is_published_without_waiting(make_partition):
    partition = make_partition(update_s=10.0)
    partition.fold("s", 0, {"a": 1.0})
    partition.due(100.0)
    partition.fold("s", 30, {"a": 1.0})
    partition.fold("s", 61, {"a": 1.0})
    assert sorted(partition.due(100.1)) == [("s", 0, 60, 2), ("s", 60, 60, 1)]


def test_a_late_sample_publishes_its_window_again(make_partition):
    partition = make_partition()
    partition.fold("s", 0, {"a": 1.0})
    partition.fold("s", 61, {"a": 1.0})
    partition.due(100.0)
    partition.fold("s", 30, {"a": 1.0})
    assert partition.due(100.1) == [("s", 0, 60, 2)]


def test_when_time_is_short_updates_wait_but_ended_windows_do_not(make_partition):
    partition = make_partition()
    partition.fold("s", 0, {"a": 1.0})
    partition.fold("s", 61, {"a": 1.0})
    assert partition.due(100.0, time_left=False) == [("s", 0, 60, 1)]
    assert partition.due(100.1) == [("s", 60, 60, 1)]


def test_a_hopping_window_is_published_when_it_has_ended(make_partition):
    partition = make_partition("300/60", update_s=1.0)
    for minute in range(4):
        partition.fold("s", 60 * minute, {"a": 1.0})
    assert sorted(partition.due(100.0)) == [("s", -240, 300, 1), ("s", -180, 300, 2), ("s", -120, 300, 3)]
    partition.fold("s", 300, {"a": 1.0})
    assert sorted(partition.due(101.0)) == [("s", -60, 300, 4), ("s", 0, 300, 4)]


def test_a_hopping_window_is_published_although_its_source_fell_silent(make_partition):
    partition = make_partition("300/60", update_s=1.0)
    partition.fold("s", 0, {"a": 1.0})
    assert partition.due(100.0) == []
    assert partition.due(399.0) == []
    assert sorted(partition.due(401.0)) == [("s", start, 300, 1) for start in (-240, -180, -120, -60, 0)]


def test_each_source_has_windows_of_its_own(make_partition):
    partition = make_partition()
    partition.fold("s", 0, {"a": 1.0})
    partition.fold("t", 3600, {"a": 1.0})
    assert sorted(partition.due(100.0)) == [("s", 0, 60, 1), ("t", 3600, 60, 1)]


def test_a_window_that_is_over_leaves_memory_and_table(make_partition):
    partition = make_partition()
    partition.fold("s", 0, {"a": 1.0})
    (row,) = partition.windows.rows()
    assert row[0] == RowKey(partition=3, start_us=row[0].start_us, first=0, source="s")
    partition.fold("s", 120, {"a": 1.0})
    partition.due(100.0)
    rows = dict(partition.windows.rows())
    assert rows[row[0]] is None
    assert len(partition.windows.sources["s"].panes) == 1


def test_a_row_is_written_only_when_it_changed(make_partition):
    partition = make_partition()
    partition.fold("s", 0, {"a": 1.0})
    assert len(list(partition.windows.rows())) == 1
    assert list(partition.windows.rows()) == []
    partition.fold("s", 0, {"a": 1.0})
    assert list(partition.windows.rows()) == []


@pytest.mark.parametrize("series", [3, 128, 300])
def test_after_a_crash_what_is_read_again_is_not_counted_twice(make_partition, series):
    values = {f"m{number}": float(number) for number in range(series)}
    before, after = make_partition(), make_partition()
    for at_s in range(0, 50, 10):
        before.fold("a/source", at_s, values)
    for key, value in before.windows.rows():
        after.windows.restore(RowKey.decode(key.encode()), value)
    folded = [after.fold("a/source", at_s, values) for at_s in range(20, 60, 10)]  # three again, one new
    assert folded == [0, 0, 0, series]
    assert after.due(100.0) == [("a/source", 0, 60, 6)]


def test_saved_windows_go_on_as_if_nothing_had_happened(make_partition):
    whole, first, second = make_partition(), make_partition(), make_partition()
    for step in range(300):
        values = {"a": float(step * 37 % 101), "b": float(step)}
        whole.fold("s", step * 0.2, values)
        first.fold("s", step * 0.2, values)
        if step == 199:
            for key, value in first.windows.rows():
                second.windows.restore(key, value)
        if step > 199:
            second.fold("s", step * 0.2, values)
    (_, expected), (_, found) = (next(iter(p.windows.due(0.0, time_left=lambda: True))) for p in (whole, second))
    assert found.series == expected.series
    for name in ("count", "mean", "min", "max", "last"):
        assert getattr(found, name).tolist() == pytest.approx(getattr(expected, name).tolist())
    assert [q.tolist() for q in found.quantiles] == [q.tolist() for q in expected.quantiles]


def test_a_row_of_another_version_says_what_to_do(make_partition):
    partition = make_partition()
    partition.fold("s", 0, {"a": 1.0})
    ((key, value),) = partition.windows.rows()
    with pytest.raises(ValueError, match="empty the table's changelog topic"):
        partition.windows.restore(key, value.replace(b"\x01", b"\x63", 1))


def test_an_event_whose_lengths_differ_is_refused(make_partition):
    partition = make_partition()
    with pytest.raises(ValueError, match="equally many"):
        partition.fold("s", 0, {"a": 1.0, "b": 2.0}, times_s=[1.0])


def test_times_of_their_own_that_are_all_equal_are_as_good_as_one(make_partition):
    partition = make_partition()
    assert partition.fold("s", 0, {"a": 1.0, "b": 2.0}, times_s=[30.0, 30.0]) == 2
    assert partition.fold("s", 30, {"a": 1.0}) == 0
