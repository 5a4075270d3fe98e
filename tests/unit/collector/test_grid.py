"""Demand-response signals: posted to us, and listed by a source."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from services.collector.core.grid import GridBook, listed_events, read_posted
from services.collector.core.paths import MappingError
from services.collector.model import GridFeed
from solyx.events import GridEventAnnounced

NOW = datetime(2023, 6, 1, 12, tzinfo=UTC)
POSTED = {
    "event_id": "e1",
    "site": "berlin",
    "start": "2023-06-01T15:00:00+02:00",
    "end": "2023-06-01T18:00:00+02:00",
    "power_cap_w": 5000,
}


def post(**changes):
    body = {name: value for name, value in (POSTED | changes).items() if value is not ...}
    return read_posted(msgspec.json.encode(body), now=NOW, sites={"berlin", "texas"})


def test_a_posted_event_is_announced_in_utc():
    event = post()
    assert isinstance(event, GridEventAnnounced)
    assert (event.start, event.end, event.announced_at) == (NOW + timedelta(hours=1), NOW + timedelta(hours=4), NOW)
    assert (event.power_cap_w, event.status) == (5000, "announced")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"event_id": ...}, "event_id"),
        ({"event_id": ""}, "event_id"),
        ({"site": "nowhere"}, "site"),
        ({"start": "2023-06-01T15:00:00"}, "start"),
        ({"end": "2023-06-01T15:00:00+02:00"}, "end"),
        ({"end": "2024-06-01T15:00:00+02:00"}, "end"),
        ({"start": "2023-05-01T00:00:00Z", "end": "2023-05-02T00:00:00Z"}, "end"),
        ({"start": "9999-12-31T00:00:00-23:00", "end": "9999-12-31T01:00:00-23:00"}, "start"),
        ({"power_cap_w": -1}, "power_cap_w"),
        ({"power_cap_w": "5 kW"}, "power_cap_w"),
        ({"status": "maybe"}, "status"),
        ({"power_cap_kw": 5}, "power_cap_kw"),
    ],
)
def test_a_bad_field_is_named(changes, field):
    problems = post(**changes)
    assert [problem.field for problem in problems] == [field]
    assert problems[0].message
    assert problems[0].cure


def test_all_that_is_wrong_is_told_at_once():
    assert {problem.field for problem in post(site="x", end="2023-06-01T00:00:00Z")} == {"end", "site"}


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff"])
def test_a_body_that_is_no_object_is_refused(body):
    (problem,) = read_posted(body, now=NOW, sites=())
    assert problem.field == ""


def test_an_event_that_is_over_can_still_be_cancelled():
    assert post(start="2023-05-01T00:00:00Z", end="2023-05-02T00:00:00Z", status="cancelled").status == "cancelled"


FEED = msgspec.convert(
    {
        "name": "utility",
        "power_unit": "kw",
        "json": {
            "url": "http://x",
            "list": "events",
            "event_id": "id",
            "site": "where",
            "start": "from",
            "duration_s": "lasts.s",
            "power_cap": "cap",
            "status": "state",
            "cancelled": ["withdrawn"],
        },
    },
    GridFeed,
)


def listed(*events: dict) -> list:
    usual = {"where": "berlin", "from": "2023-06-01T13:00:00Z", "lasts": {"s": 3600}, "cap": 5, "state": "active"}
    return listed_events({"events": [usual | event for event in events]}, FEED)


def test_listed_events_are_read_by_the_mapping():
    one, two = listed({"id": "a"}, {"id": 7, "state": "withdrawn"})
    assert (one.event_id, one.end, one.power_cap_w, one.status) == ("a", NOW + timedelta(hours=2), 5000, "announced")
    assert (two.event_id, two.status) == ("7", "cancelled")


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ({"id": "a", "cap": -1}, "cap is -1000 W"),
        ({"id": "a", "lasts": {"s": 0}}, "its window is"),
        ({"id": "a", "lasts": {"s": 1e12}}, "its window is"),
        ({"id": None}, "no id"),
        ({}, "no 'id'"),
    ],
)
def test_an_impossible_event_is_an_error_that_says_which(event, reason):
    with pytest.raises(MappingError, match=f"event 0: .*{reason}"):
        listed(event)


def test_only_what_is_new_or_differs_is_announced():
    book = GridBook(cancel_when_absent=False)
    assert [event.event_id for event in book.changes(listed({"id": "a"}, {"id": "b"}), NOW)] == ["a", "b"]
    assert book.changes(listed({"id": "a"}, {"id": "b"}), NOW) == []
    (changed,) = book.changes(listed({"id": "a", "cap": 9}, {"id": "b"}), NOW)
    assert (changed.event_id, changed.power_cap_w) == ("a", 9000)


def test_history_is_not_announced():
    assert GridBook(cancel_when_absent=False).changes(listed({"id": "a"}), NOW + timedelta(days=1)) == []


def test_an_event_that_is_listed_no_more_is_cancelled_only_where_that_is_what_it_means():
    for means_cancelled in (False, True):
        book = GridBook(cancel_when_absent=means_cancelled)
        book.changes(listed({"id": "a"}), NOW)
        assert [event.status for event in book.changes([], NOW)] == ["cancelled"] * means_cancelled
        assert book.changes([], NOW) == []


def test_an_event_that_ran_its_course_is_not_cancelled_when_it_vanishes():
    book = GridBook(cancel_when_absent=True)
    book.changes(listed({"id": "a"}), NOW)
    assert book.changes([], NOW + timedelta(hours=3)) == []
