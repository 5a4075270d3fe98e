"""Other people's documents and files, read by declaration."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from services.collector.core.daily import DayBook
from services.collector.core.mapping import csv_points, filled_in, json_points, window
from services.collector.core.paths import MappingError, look_up, parse_path, written
from services.collector.model import Csv, EnergyFeed, Json

NOW = datetime(2023, 6, 1, 12, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)


def feed(**changes) -> EnergyFeed:
    fields = {"name": "f", "site": "berlin", "kind": "price_eur_per_mwh", "csv": {"file": "f.csv"}} | changes
    return msgspec.convert(fields, EnergyFeed)


def mapping(**changes) -> Json:
    return msgspec.convert({"url": "http://x", "time": "time", "value": "value"} | changes, Json)


def at(hour: int, day: int = 1) -> datetime:
    return datetime(2023, 6, day, hour, tzinfo=UTC)


# Paths


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("", {"a": {"b.c": [1, {"d": 2}]}, "l": [{"p": [1, 2]}, {"p": [3]}, {"p": 4}]}),
        ('a."b.c"[0]', 1),
        ('a."b.c"[-1].d', 2),
        ("l[*].p", [1, 2, 3, 4]),
        ("l[1].p", [3]),
    ],
)
def test_a_path_leads_to_a_value(path, found):
    document = {"a": {"b.c": [1, {"d": 2}]}, "l": [{"p": [1, 2]}, {"p": [3]}, {"p": 4}]}
    assert look_up(document, parse_path(path)) == found


@pytest.mark.parametrize("path", ["a.", ".a", "a..b", "a[x]", "a[", "a.[0]", 'a"b"', "[0]b", "a]"])
def test_what_is_no_path_is_refused(path):
    with pytest.raises(ValueError, match="Write it like"):
        parse_path(path)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("a.x", "a has no 'x'; it has b"),
        ("a.b.c", "a.b is no object but the number 1"),
        ("l[7]", "l has 2 elements, no \\[7\\]"),
        ("a[0]", "a is no list but an object"),
        ("n.x", "n is no object but null"),
    ],
)
def test_a_path_that_leads_nowhere_says_how_far_it_goes(path, reason):
    with pytest.raises(MappingError, match=reason):
        look_up({"a": {"b": 1}, "l": [1, 2], "n": None}, parse_path(path))


def test_a_path_is_written_as_it_was_read():
    for path in ("a.b[0]", 'x."a.b"[*].c', "[0].a"):
        assert written(parse_path(path)) == path


# Points


def test_a_list_of_objects_yields_points_in_the_kinds_unit():
    document = {"data": {"items": [{"time": "2023-06-01T00:00:00Z", "price": {"v": "5.5"}}]}}
    points = json_points(document, feed(unit="ct_per_kwh", factor=2), mapping(list="data.items", value="price.v"))
    assert points == [(at(0), 110.0)]


def test_two_parallel_lists_yield_points():
    document = {"unix": [1685577600, 1685581200], "price": [1, None]}
    points = json_points(document, feed(time_format="unix_s"), mapping(time="unix", value="price"))
    assert points == [(at(0), 1.0)]


def test_a_gap_stays_a_gap():
    rows = [{"time": "2023-06-01T00:00Z", "value": None}, {"time": "2023-06-01T01:00Z"}, {"time": "x", "value": ""}]
    assert json_points(rows, feed(), mapping()) == []


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ([{"time": "yesterday", "value": 1}], "time 0 is 'yesterday'"),
        ([{"time": "0001-01-01T00:00+23:00", "value": 1}], "too far away"),
        ([{"time": "9999-12-31T23:00-23:00", "value": 1}], "too far away"),
        ([{"time": "0001-01-01T00:00", "value": 1}], "too far away"),
        ([{"time": "2023-06-01T00:00Z", "value": "much"}], "value 0 is 'much', not a finite number"),
        ([{"time": "2023-06-01T00:00Z", "value": True}], "value 0 is True"),
        ([{"time": "2023-06-01T00:00Z", "value": "NaN"}], "finite"),
        ([{"value": 1}], "point 0: the document has no 'time'"),
        ([7], "point 0"),
        ({"time": [1], "value": [1, 2]}, "time has 1 elements, value has 2"),
        ({"time": 1, "value": 2}, "neither"),
        ({}, "has no 'time'; it has nothing"),
    ],
)
def test_a_document_of_another_shape_is_an_error_that_says_where(document, reason):
    with pytest.raises(MappingError, match=reason):
        json_points(document, feed(), mapping())


def test_milliseconds_read_as_seconds_are_noticed():
    with pytest.raises(MappingError, match="unix_ms"):
        json_points([{"time": 1685577600000, "value": 1}], feed(time_format="unix_s"), mapping())


def test_local_times_are_told_apart_when_the_clocks_go_back():
    rows = [{"time": f"2023-10-29T{hour:02}:00", "value": hour} for hour in (1, 2, 2, 3)]
    points = json_points(rows, feed(timezone="Europe/Berlin"), mapping())
    midnight = datetime(2023, 10, 28, 22, tzinfo=UTC)
    assert [point[0] for point in points] == [midnight + n * HOUR for n in (1, 2, 3, 4)]


def test_a_local_time_that_never_was_is_an_error():
    with pytest.raises(MappingError, match="no clock in Europe/Berlin showed"):
        json_points([{"time": "2023-03-26T02:00", "value": 1}], feed(timezone="Europe/Berlin"), mapping())


def test_a_csv_file_is_read_by_its_columns():
    text = "when;x; eur\n01.06.2023 02:00;1;5,\n"
    with pytest.raises(MappingError, match="line 2, eur is '5,'"):
        csv_points(text, german := feed(timezone="Europe/Berlin", time_format="%d.%m.%Y %H:%M"), SEMICOLONS)
    assert csv_points(text.replace("5,", "5.5"), german, SEMICOLONS) == [(at(0), 5.5)]
    assert csv_points(text.replace("5,", ""), german, SEMICOLONS) == []


SEMICOLONS = Csv(file="f.csv", time="when", value="eur", delimiter=";")


def test_a_column_that_is_not_there_is_named():
    with pytest.raises(MappingError, match="no column 'value'; there are time, price"):
        csv_points("time,price\n", feed(), Csv(file="f.csv"))


# Requests


def test_an_address_is_filled_in_and_escaped():
    begin, end = window(NOW, back_days=1, ahead_days=0)
    url = filled_in(
        "http://h/{site}/prices",
        {"from": "{from}", "to": "{to}", "q": "a&b"},
        begin=begin,
        end=end,
        window_format="iso",
        site="a b/c",
    )
    assert url == ("http://h/a%20b%2Fc/prices?from=2023-05-31T00%3A00%3A00Z&to=2023-06-02T00%3A00%3A00Z&q=a%26b")


@pytest.mark.parametrize(
    ("form", "text"), [("unix_s", "1685577600"), ("unix_ms", "1685577600000"), ("%Y%m%d", "20230601")]
)
def test_a_window_is_written_as_the_source_wants_it(form, text):
    url = filled_in("http://h?f={from}", {}, begin=at(0), end=at(1), window_format=form, site="s")
    assert url == f"http://h?f={text}"


# Days


def test_points_become_one_record_a_day_and_what_is_known_stays():
    book = DayBook(feed())
    first = book.merge([(at(1), 5.0), (at(0, 2), 7.0)], NOW)
    assert [(event.start, event.values) for event in first] == [(at(0), (None, 5.0)), (at(0, 2), (7.0,))]
    (second,) = book.merge([(at(0), 4.0)], NOW)
    assert second.values == (4.0, 5.0)
    assert second.key == first[0].key


def test_an_unchanged_day_is_not_published_again():
    book = DayBook(feed())
    book.merge([(at(1), 5.0)], NOW)
    assert book.merge([(at(1), 5.0)], NOW) == []
    assert book.newest == at(2)


def test_a_corrected_value_is_published():
    book = DayBook(feed())
    book.merge([(at(1), 5.0)], NOW)
    (event,) = book.merge([(at(1), 6.0)], NOW)
    assert event.values == (None, 6.0)


def test_forecast_carbon_is_not_taken_for_measured():
    book = DayBook(feed(kind="carbon_gco2_per_kwh"))
    (event,) = book.merge([(at(11), 300.0), (at(12), 310.0), (at(13), 320.0)], NOW)
    assert event.values[11:] == (300.0,)


def test_a_value_beside_the_steps_is_an_error_and_merges_nothing():
    book = DayBook(feed())
    with pytest.raises(MappingError, match="does not begin a step of 3600 s"):
        book.merge([(at(1), 5.0), (at(1) + timedelta(minutes=30), 6.0)], NOW)
    assert book.newest is None


def test_quarter_hours_are_a_step_too():
    book = DayBook(feed(step_s=900))
    (event,) = book.merge([(at(0) + timedelta(minutes=15), 5.0)], NOW)
    assert (event.step_s, event.values) == (900.0, (None, 5.0))
