"""A consumer that stalls without an error."""

from services.forecaster.service.progress import Place, Stall


def place(committed, lag=5):
    return Place(committed=committed, lag=lag)


def test_records_that_wait_while_none_is_committed_are_a_stall():
    stall = Stall(60.0)
    seen = [stall.longest({2: place(10)}, float(now_s)) for now_s in (100, 130, 160, 161)]
    assert seen == [None, None, None, 2]


def test_one_partition_stalls_while_others_go_on():
    stall = Stall(60.0)
    seen = [stall.longest({0: place(number), 1: place(7)}, 25.0 * number) for number in range(4)]
    assert seen == [None, None, None, 1]


def test_as_long_as_offsets_move_a_lag_is_no_stall():
    stall = Stall(60.0)
    assert all(stall.longest({0: place(number)}, 50.0 * number) is None for number in range(20))


def test_nothing_to_read_is_no_stall_and_neither_is_a_broker_that_is_away():
    stall = Stall(60.0)
    for number in range(10):
        assert stall.longest({0: place(7, lag=0)}, 100.0 * number) is None
    assert stall.longest({}, 1000.0) is None
    assert stall.longest({0: place(7)}, 2000.0) is None


def test_a_partition_that_went_and_came_back_is_judged_anew():
    stall = Stall(60.0)
    stall.longest({0: place(7)}, 0.0)
    stall.longest({1: place(3)}, 50.0)
    assert stall.longest({0: place(7)}, 100.0) is None
