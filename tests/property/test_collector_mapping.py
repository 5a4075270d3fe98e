"""Mapped sources: however a feed hands its points over, readers come to know the same, and nothing that it did not say."""

import itertools
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from services.collector.core.daily import DayBook
from services.collector.core.health import FeedHealth
from services.collector.core.mapping import csv_points, json_points
from services.collector.core.paths import MappingError, look_up, parse_path, written
from services.collector.model import Csv, EnergyFeed, Json

START = datetime(2023, 10, 28, tzinfo=UTC)  # the clocks of Berlin go back on the next day
NOW = START + timedelta(days=2)
HOUR = timedelta(hours=1)
prices = st.floats(-500, 4000).map(lambda price: round(price, 2))
hourly = st.dictionaries(st.integers(0, 71), prices, min_size=1, max_size=30)
some = settings(max_examples=60, deadline=None)


def feed(**changes) -> EnergyFeed:
    fields = {"name": "f", "site": "s", "kind": "price_eur_per_mwh", "csv": {"file": "f.csv"}} | changes
    return msgspec.convert(fields, EnergyFeed)


def at(hour: int) -> datetime:
    return START + hour * HOUR


def known(events: list) -> dict[datetime, float]:
    """What a reader that keeps the last record of each key knows."""
    last = {event.key: event for event in events}
    return {
        event.start + index * HOUR: value
        for event in last.values()
        for index, value in enumerate(event.values)
        if value is not None
    }


@some
@given(hourly, st.lists(st.integers(0, 71), max_size=5), st.randoms(use_true_random=False))
def test_points_in_parts_and_in_any_order_come_to_the_same(values, cuts, random):
    points = [(at(hour), price) for hour, price in values.items()]
    random.shuffle(points)
    book = DayBook(feed())
    bounds = [0, *sorted(cuts), len(points)]
    parts = [points[begin:end] for begin, end in itertools.pairwise(bounds)]
    events = [event for part in parts for event in book.merge(part, NOW)]
    assert known(events) == dict(points) == known(DayBook(feed()).merge(points, NOW))
    assert book.merge(points, NOW) == []


@some
@given(hourly, st.integers(0, 71))
def test_measured_kinds_never_reach_beyond_the_present(values, hour):
    now = at(hour) + timedelta(minutes=20)
    events = DayBook(feed(kind="carbon_gco2_per_kwh")).merge([(at(h), value) for h, value in values.items()], now)
    assert known(events) == {at(h): value for h, value in values.items() if at(h) + HOUR <= now}


@some
@given(hourly)
def test_every_form_of_a_source_yields_the_same_points(values):
    points = [(at(hour), price) for hour, price in sorted(values.items())]
    local = ZoneInfo("Europe/Berlin")
    rows = [{"t": when.astimezone(local).isoformat(), "v": str(price)} for when, price in points]
    columns = {"t": [when.timestamp() * 1000 for when, _ in points], "v": [price for _, price in points]}
    text = "t;v\n" + "".join(f"{when:%d.%m.%Y %H:%M};{price}\n" for when, price in points)
    mapping = msgspec.convert({"url": "u", "list": "", "time": "t", "value": "v"}, Json)
    assert json_points(rows, feed(), mapping) == points
    assert json_points(columns, feed(time_format="unix_ms"), mapping) == points
    assert (
        csv_points(text, feed(time_format="%d.%m.%Y %H:%M"), Csv(file="f", time="t", value="v", delimiter=";"))
        == points
    )


@some
@given(st.integers(1, 70))
def test_consecutive_local_hours_are_read_right_over_a_clock_change(hours):
    local = ZoneInfo("Europe/Berlin")
    points = [(at(hour), float(hour)) for hour in range(hours)]
    rows = [{"t": f"{when.astimezone(local):%Y-%m-%dT%H:%M}", "v": value} for when, value in points]
    mapping = msgspec.convert({"url": "u", "time": "t", "value": "v"}, Json)
    assert json_points(rows, feed(timezone="Europe/Berlin"), mapping) == points


names = st.one_of(st.from_regex(r"[a-z]{1,3}", fullmatch=True), st.text('a.[]"\\ ', min_size=1, max_size=4))
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=12,
)


def places(document: object) -> list[tuple[str, object]]:
    """Each place in a document as a path, and what stands there."""
    found = [("", document)]
    if isinstance(document, list):
        for index, inner in enumerate(document):
            found += [
                (f"[{index}]" + ("." if rest[:1] not in {"", "["} else "") + rest, v) for rest, v in places(inner)
            ]
    if isinstance(document, dict):
        for name, inner in document.items():
            quoted = '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
            found += [(quoted + ("." if rest[:1] not in {"", "["} else "") + rest, v) for rest, v in places(inner)]
    return found


@some
@given(documents)
def test_every_place_has_a_path_that_leads_there(document):
    for path, value in places(document):
        assert look_up(document, parse_path(path)) == value
        assert parse_path(written(parse_path(path))) == parse_path(path)


@settings(max_examples=100, deadline=None)
@given(documents, st.sampled_from(["iso", "unix_s", "%Y"]))
def test_an_arbitrary_document_is_read_or_refused_with_a_reason(document, time_format):
    mapping = msgspec.convert({"url": "u", "time": "a", "value": "b"}, Json)
    try:
        points = json_points(document, feed(time_format=time_format), mapping)
    except MappingError as error:
        points, reason = [], str(error)
        assert reason
    assert all(when.tzinfo is UTC and price == price for when, price in points)  # noqa: PLR0124 - no NaN


@some
@given(st.lists(st.tuples(st.booleans(), st.floats(0.1, 900)), max_size=30))
def test_reports_alternate_and_a_success_is_never_stale(attempts):
    health = FeedHealth("f", started_at=START, every_s=60, stale_after_s=300, max_backoff_s=120)
    now = last_success = START
    reported = []
    for works, pause_s in attempts:
        now += timedelta(seconds=pause_s)
        report = health.succeeded(now) if works else health.failed(now, "no")
        last_success = now if works else last_success
        if report is not None:
            assert not reported or reported[-1] != report.status
            assert report.since == last_success
            reported.append(report.status)
        assert health.is_stale == (bool(reported) and reported[-1] == "stale")
        if works:
            assert reported[-1] == "fresh"
        elif now - last_success >= timedelta(seconds=300):
            assert reported[-1] == "stale"
        assert 0 < health.pause_s(now) <= 120
