"""When a feed is stale, and when it is asked again."""

import itertools
from datetime import UTC, datetime, timedelta

import pytest

from services.collector.core.health import FeedHealth

START = datetime(2023, 6, 1, tzinfo=UTC)


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


@pytest.fixture
def health() -> FeedHealth:
    return FeedHealth("prices", started_at=START, every_s=60, stale_after_s=300, max_backoff_s=120)


def test_the_first_success_says_fresh_and_the_next_says_nothing(health):
    report = health.succeeded(after(1))
    assert (report.feed, report.status, report.since) == ("prices", "fresh", after(1))
    assert health.succeeded(after(61)) is None


def test_a_failure_is_reported_only_when_it_lasts(health):
    health.succeeded(after(0))
    assert health.failed(after(299), "no route") is None
    report = health.failed(after(300), "no route")
    assert (report.status, report.since, report.error) == ("stale", after(0), "no route")
    assert health.failed(after(400), "no route") is None


def test_what_is_reported_holds_no_secret_of_an_address(health):
    told = health.failed(after(301), "InvalidURL: https://me:word@prices.example/v1?token=abc&zone=DE (404)").error
    assert told == "InvalidURL: https://…@prices.example/v1?… (404)"


def test_a_feed_that_never_worked_goes_stale_too(health):
    assert health.failed(after(301), "refused").since == START


def test_a_feed_that_works_again_says_so_once(health):
    health.failed(after(301), "refused")
    assert health.succeeded(after(302)).status == "fresh"
    assert health.error == ""
    assert health.succeeded(after(362)) is None


def test_failures_back_off_up_to_a_bound(health):
    pauses = []
    for _ in range(12):
        health.failed(after(1000), "refused")
        pauses.append(health.pause_s(after(1000)))
    assert pauses[0] < 1.26
    assert all(earlier < later for earlier, later in itertools.pairwise(pauses[:7]))
    assert pauses[-1] == 120
    health.succeeded(after(1001))
    assert health.pause_s(after(1001)) == 60


def test_the_attempt_at_which_it_turns_stale_is_not_slept_through(health):
    for _ in range(10):
        health.failed(after(290), "refused")
    assert health.pause_s(after(290)) == 10


def test_a_servers_wish_is_heard_within_the_bound(health):
    health.succeeded(after(0))
    health.failed(after(1), "429")
    assert health.pause_s(after(1), asked_for_s=50) == 50
    assert health.pause_s(after(1), asked_for_s=5000) == 120


def test_feeds_that_failed_together_do_not_come_back_together():
    pauses = set()
    for name in ("a", "b", "c", "d"):
        one = FeedHealth(name, started_at=START, every_s=60, stale_after_s=300, max_backoff_s=120)
        one.failed(after(1), "refused")
        pauses.add(one.pause_s(after(1)))
    assert len(pauses) == 4
