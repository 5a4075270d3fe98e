"""Allowances, cursors and the classification of errors."""

import asyncpg
import pytest
from sqlalchemy.exc import IntegrityError

from services.gateway.api import cursor
from services.gateway.api.access import RateLimit, StreamLimit, TokenBucket
from services.gateway.api.problem import ApiProblem
from solyx.database import dsn, is_transient


def test_a_bucket_gives_its_burst_then_its_rate() -> None:
    bucket = TokenBucket(rate=10, burst=5, now=0.0)
    assert [bucket.take(1, 0.0) for _ in range(5)] == [0.0] * 5
    assert bucket.take(1, 0.0) == pytest.approx(0.1)
    assert bucket.take(1, 0.1) == 0.0
    assert bucket.take(5, 100.0) == 0.0, "it never holds more than its burst"
    assert bucket.take(1, 100.0) > 0


def test_a_refused_request_says_when_to_come_back_and_costs_nothing() -> None:
    now = [0.0]
    limit = RateLimit(requests_per_s=1, jobs_per_s=100, jobs_burst=1000, now=lambda: now[0])
    limit.take_jobs("k", 1000)
    with pytest.raises(ApiProblem) as caught:
        limit.take_jobs("k", 500)
    assert caught.value.kind == "too-many-requests"
    assert caught.value.headers["Retry-After"] == "6"
    now[0] = 5.0
    limit.take_jobs("k", 500)


def test_more_jobs_than_a_key_ever_has_at_a_time_are_not_told_to_come_back() -> None:
    limit = RateLimit(requests_per_s=1, jobs_per_s=100, jobs_burst=1000, now=lambda: 0.0)
    with pytest.raises(ApiProblem) as caught:
        limit.take_jobs("k", 1001)
    assert caught.value.kind == "too-large"
    limit.take_jobs("k", 1000)


def test_keys_do_not_share_an_allowance() -> None:
    limit = RateLimit(requests_per_s=1, jobs_per_s=1, jobs_burst=1, now=lambda: 0.0)
    limit.take_jobs("a", 1)
    limit.take_jobs("b", 1)
    limit.take_request("a")
    limit.take_request("a")
    with pytest.raises(ApiProblem):
        limit.take_request("a")


def test_a_cursor_comes_back_as_it_went() -> None:
    assert cursor.decode(cursor.encode("01m7yse6y364gsbpdz8v05edht")) == "01m7yse6y364gsbpdz8v05edht"


@pytest.mark.parametrize("text", ["", "x", "%%%", "aGVsbG8", "ajE6", "ajE6QUJD", "é"])
def test_a_foreign_cursor_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not"):
        cursor.decode(text)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConnectionRefusedError(), True),
        (TimeoutError(), True),
        (asyncpg.CannotConnectNowError(), True),
        (asyncpg.ConnectionDoesNotExistError(), True),
        (asyncpg.DeadlockDetectedError(), True),
        (asyncpg.InternalClientError(), True),
        (asyncpg.UniqueViolationError(), False),
        (asyncpg.UndefinedTableError(), False),
        (IntegrityError("s", {}, Exception()), False),
        (ValueError(), False),
    ],
)
def test_only_what_may_pass_by_itself_is_transient(error: BaseException, expected: bool) -> None:
    assert is_transient(error) is expected


def test_the_engines_address_serves_the_driver_too() -> None:
    assert dsn("postgresql+asyncpg://a@b/c") == "postgresql://a@b/c"


def test_a_key_has_so_many_streams_open_and_no_more() -> None:
    streams = StreamLimit(2)
    for _ in range(2):
        streams.take("a")
    with pytest.raises(ApiProblem) as caught:
        streams.take("a")
    assert caught.value.kind == "too-many-requests"
    assert "close one" in caught.value.detail
    assert caught.value.headers["Retry-After"]
    streams.take("b")
    streams.give_back("a")
    streams.take("a")


def test_nothing_is_remembered_of_keys_whose_streams_have_ended() -> None:
    streams = StreamLimit(1)
    for number in range(3):
        streams.take(f"k{number}")
        streams.give_back(f"k{number}")
    assert len(streams) == 0
