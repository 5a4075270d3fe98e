"""Promises of bandwidth add up exactly whatever comes and goes, and of all movements the one that is over first is found."""

from __future__ import annotations

from itertools import pairwise
from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cmo.core.bandwidth import Promised, first_over, steps, whole_bps

times_of = st.integers(0, 40)
promise = st.tuples(st.one_of(st.just(-inf), times_of), st.integers(1, 20), st.integers(1, 9)).map(
    lambda each: (each[0], max(each[0], 0) + each[1], each[2])
)


@given(st.lists(st.tuples(promise, st.booleans()), max_size=12), times_of, times_of)
def test_what_is_promised_at_a_time_is_the_sum_of_those_who_move_then(promises, looked, now):
    promised = Promised()
    for index, ((begin, until, bps), _) in enumerate(promises):
        promised.add(begin, until, bps)
        if index % 3 == 0:
            promised.look(min(looked, now))
    for (begin, until, bps), taken_back in promises:
        if taken_back:
            promised.add(begin, until, -bps)
    times, free = steps([(1000, promised), (995, Promised())], now)
    assert times[0] == now
    assert (np.diff(times) > 0).all()
    for time in range(now, 90):
        kept = sum(bps for (begin, until, bps), gone in promises if not gone and begin <= time < until)
        step = int(np.searchsorted(times, time, side="right")) - 1
        assert free[step] == min(1000 - kept, 995)


@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(-2, 9)), max_size=10),
    st.integers(1, 9),
    st.integers(1, 200),
)
def test_the_movement_that_is_over_first_is_found(spans, last, bits):
    """Against the simple algorithm: every beginning, every window that ends with a step, or in it."""
    times, free = [0.0], []
    for length, bps in spans:
        times.append(times[-1] + length)
        free.append(float(bps))
    free.append(float(last))
    earliest = inf
    for begin in range(len(times)):
        for end in range(begin, len(times)):
            rate = min(free[begin : end + 1])
            over = times[begin] + bits / rate if rate > 0 else inf
            if over <= (*times[1:], inf)[end]:
                earliest = min(earliest, over)
    begin_s, over_s = first_over(np.array(times), np.array(free), bits)
    assert over_s == pytest.approx(earliest)
    rate = bits / (over_s - begin_s)
    for (since, until), bps in zip(pairwise((*times, inf)), free, strict=True):
        if since < over_s - 1e-9 and until > begin_s:
            assert rate <= bps + 1e-9


@given(st.integers(0, 10**15), st.integers(0, 100), st.integers(1, 10**6))
def test_a_movement_at_its_whole_rate_is_over_in_time(bits, begin, lasts):
    rate = whole_bps(bits, begin, begin + lasts)
    assert isinstance(rate, int)
    assert bits <= rate * lasts < bits + 2 * lasts
