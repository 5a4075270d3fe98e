"""What is known of a series."""

import numpy as np

from services.forecaster.core.history import History

HOUR = 3600


def test_values_are_found_where_they_were_put():
    history = History(HOUR, keep_s=1e6)
    history.put(10 * HOUR, (1.0, 2.0, 3.0), stamp=1)
    history.put(7 * HOUR, (7.0,), stamp=1)
    assert history.end_s == 13 * HOUR
    known = history.between(7 * HOUR, 7)
    assert known[[0, 3, 4, 5]].tolist() == [7.0, 1.0, 2.0, 3.0]
    assert np.isnan(known[[1, 2, 6]]).all()


def test_of_two_publications_the_later_holds_in_whatever_order_they_come():
    for order in ((0, 1), (1, 0)):
        history = History(HOUR, keep_s=1e6)
        for number in order:
            history.put(0, (float(number), 5.0), stamp=number)
        assert history.between(0, 2).tolist() == [1.0, 5.0]


def test_a_missing_value_says_nothing():
    history = History(HOUR, keep_s=1e6)
    history.put(0, (1.0, 2.0), stamp=1)
    history.put(0, (None, 3.0), stamp=2)
    assert history.between(0, 2).tolist() == [1.0, 3.0]


def test_a_repeat_is_no_news():
    history = History(HOUR, keep_s=1e6)
    history.put(0, (1.0, 2.0), stamp=1)
    version = history.version
    history.put(0, (1.0, 2.0), stamp=1)
    assert history.version == version
    history.put(2 * HOUR, (1.0,), stamp=1)
    assert history.version == version + 1


def test_what_is_older_than_the_history_reaches_is_dropped():
    history = History(HOUR, keep_s=48 * HOUR)
    for day in range(100):
        history.put(day * 24 * HOUR, tuple(float(day) for _ in range(24)), stamp=day)
    values, end_s = history.until(100 * 24 * HOUR)
    assert end_s == 100 * 24 * HOUR
    assert 48 <= len(values) < 1000
    assert values[-48:].tolist() == [98.0] * 24 + [99.0] * 24
    history.put(0, (5.0,), stamp=1000)
    assert np.isnan(history.between(0, 1)).all()


def test_until_a_time_the_values_end_with_a_known_one():
    history = History(HOUR, keep_s=1e6)
    history.put(0, (1.0, None, 3.0, None, None, 6.0), stamp=1)
    values, end_s = history.until(5 * HOUR)
    assert end_s == 3 * HOUR
    assert values[[0, 2]].tolist() == [1.0, 3.0]
    assert np.isnan(values[1])
    assert len(history.until(0)[0]) == 0


def test_other_steps_repeat_a_value_or_average_several():
    history = History(HOUR, keep_s=1e6)
    history.put(10 * HOUR, (1.0, 2.0, 6.0), stamp=1)
    assert history.in_steps_of(HOUR, 10 * HOUR, 3).tolist() == [1.0, 2.0, 6.0]
    assert history.in_steps_of(1800, 10 * HOUR + 1800, 4).tolist() == [1.0, 2.0, 2.0, 6.0]
    assert history.in_steps_of(2 * HOUR, 11 * HOUR, 1).tolist() == [4.0]
    assert history.in_steps_of(5400, 10 * HOUR, 2).tolist() == [(1 + 1 + 2) / 3, (2 + 6 + 6) / 3]


def test_other_steps_have_no_value_where_a_part_of_them_has_none():
    history = History(900, keep_s=1e6)
    history.put(0, (1.0, 2.0, None, 4.0, 5.0, 5.0, 5.0, 9.0), stamp=1)
    hours = history.in_steps_of(HOUR, 0, 3)
    assert hours[1] == 6.0
    assert np.isnan(hours[[0, 2]]).all()
