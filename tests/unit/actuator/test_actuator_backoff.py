"""Back-off and circuit breaker on a clock of their own."""

from __future__ import annotations

from services.actuator.backoff import Backoff, Breaker, BreakerState

BACKOFF = Backoff(first_s=1.0, cap_s=8.0)


def test_delays_double_up_to_the_cap_with_a_jitter_of_at_most_half():
    for attempt, whole in enumerate([1, 2, 4, 8, 8, 8], start=1):
        assert whole / 2 <= BACKOFF.delay_s("site", attempt) <= whole
    assert BACKOFF.delay_s("site", 10_000) <= 8


def test_the_jitter_is_reproducible_and_differs_between_keys_and_seeds():
    assert BACKOFF.delay_s("a", 3) == BACKOFF.delay_s("a", 3)
    assert len({BACKOFF.delay_s(key, 3) for key in "abcdef"}) == 6
    assert BACKOFF.delay_s("a", 3) != Backoff(first_s=1.0, cap_s=8.0, seed=1).delay_s("a", 3)


def test_a_breaker_waits_after_a_failure_and_opens_at_the_threshold():
    breaker = Breaker("site", BACKOFF, threshold=2)
    assert (breaker.state, breaker.wait_s(0)) == (BreakerState.CLOSED, 0)
    breaker.failed(0)
    assert breaker.state is BreakerState.CLOSED
    assert 0.5 <= breaker.wait_s(0) <= 1
    breaker.failed(1)
    assert breaker.state is BreakerState.OPEN
    assert 1 <= breaker.wait_s(1) <= 2


def test_one_probe_decides_whether_an_open_breaker_closes():
    breaker = Breaker("site", BACKOFF, threshold=1)
    breaker.failed(0)
    assert breaker.begin() is BreakerState.HALF_OPEN
    breaker.failed(5)
    assert breaker.state is BreakerState.OPEN
    assert breaker.wait_s(5) >= 1
    assert breaker.begin() is BreakerState.HALF_OPEN
    breaker.succeeded()
    assert breaker.state is BreakerState.CLOSED


def test_a_target_may_ask_for_a_longer_wait():
    breaker = Breaker("site", BACKOFF)
    breaker.failed(0, after_s=30)
    assert breaker.wait_s(0) == 30


def test_a_success_forgets_earlier_failures():
    breaker = Breaker("site", BACKOFF, threshold=2)
    breaker.failed(0)
    breaker.succeeded()
    breaker.failed(10)
    assert breaker.state is BreakerState.CLOSED
