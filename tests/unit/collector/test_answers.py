"""What Prometheus answers, which points are asked for, and which servers there are."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from services.collector.core.answers import MAX_POINTS, RangeCursor, read_answer
from services.collector.core.paths import MappingError
from services.collector.core.series import MAX_NAMES_BYTES, SeriesError, batches, canonical
from services.collector.core.targets import read_groups, servers
from services.collector.model import Query, TargetGroup

NOW = datetime(2023, 6, 1, tzinfo=UTC)


def query(**changes) -> Query:
    return msgspec.convert({"name": "cpu-use", "query": "x"} | changes, Query)


def read(result: object, kind: str = "vector", **changes):
    body = msgspec.json.encode({"status": "success", "data": {"resultType": kind, "result": result}})
    given = {"labels": {"site": "berlin"}, "source_labels": ("site", "instance"), "default_source": "p:9090"} | changes
    return read_answer(body, query=query(), oldest_s=100.0, **given)


# Names and events


def test_a_series_has_one_name_whatever_the_order_of_its_labels():
    assert canonical({"b": "2", "__name__": "m", "a": "1"}) == canonical({"a": "1", "b": "2", "__name__": "m"})
    assert canonical({"__name__": "m"}) == "m"
    assert canonical({"__name__": "m", "empty": ""}) == "m"
    assert canonical({"__name__": "m", "a": 'q"\\\n'}) == 'm{a="q\\"\\\\\\n"}'


def test_a_label_that_is_no_name_is_refused():
    with pytest.raises(SeriesError, match="a-b"):
        canonical({"__name__": "m", "a-b": "x"})


def test_events_hold_at_most_500_samples_each_with_its_own_id():
    events = batches("s", [(f"m{n}", float(n), 1000.5) for n in range(1201)])
    assert [len(event.series) for event in events] == [500, 500, 201]
    assert len({event.id for event in events}) == 3
    assert [event.id for event in batches("s", [(f"m{n}", float(n), 1000.5) for n in range(1201)])] == [
        event.id for event in events
    ]
    assert sum((event.series for event in events), ()) == tuple(f"m{n}" for n in range(1201))
    assert events[0].times_s[0] == 1000.5


def test_two_scrapes_in_one_second_do_not_share_an_id():
    first, second = (batches("s", [("m", 1.0, at)])[0] for at in (1000.25, 1000.75))
    assert first.id != second.id


@pytest.mark.parametrize("letter", ["a", "\x01", "ü", "𝄞"])
def test_an_event_stays_below_what_a_producer_takes(letter):
    events = batches("s", [(letter * (30_000 // len(letter.encode())), 1.0, 1.0)] * 100)
    assert all(len(msgspec.json.encode(event)) < 1_000_000 for event in events)
    assert sum(len(event.series) for event in events) == 100
    assert MAX_NAMES_BYTES < 1_000_000


# Answers


def test_a_vector_yields_samples_by_source():
    answered = read(
        [
            {"metric": {"__name__": "up", "instance": "a"}, "value": [200.5, "1"]},
            {"metric": {"__name__": "up", "site": "texas"}, "value": [200.5, "0"]},
        ]
    )
    assert answered.by_source == {
        "berlin": [('up{instance="a",site="berlin"}', 1.0, 200.5)],
        "texas": [('up{site="texas"}', 0.0, 200.5)],
    }


def test_a_matrix_yields_every_point():
    answered = read([{"metric": {"__name__": "up"}, "values": [[200, "1"], [215, "2"]]}], "matrix", labels={})
    assert answered.by_source == {"p:9090": [("up", 1.0, 200.0), ("up", 2.0, 215.0)]}


def test_an_expression_is_named_after_its_query():
    assert read([3.0, "4"][:0]).count == 0
    assert list(read([200, "4"], "scalar").by_source["berlin"]) == [('cpu_use{site="berlin"}', 4.0, 200.0)]


def test_stale_and_infinite_samples_are_left_out_and_counted():
    values = [[99.0, "1"], [100.0, "2"], [101.0, "NaN"], [102.0, "+Inf"]]
    answered = read([{"metric": {"__name__": "up"}, "values": values}], "matrix")
    assert [value for _, value, _ in answered.by_source["berlin"]] == [2.0]
    assert (answered.stale, answered.not_finite) == (1, 2)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"status":"error","errorType":"bad_data","error":"parse error"}', "Prometheus says: parse error"),
        (b'{"status":"success","data":{"resultType":"string","result":[1,"x"]}}', "the result is a string"),
        (b'{"status":"success","data":{"resultType":"vector","result":[{"value":[1,2]}]}}', "no answer"),
        (b'{"status":"success","data":{"resultType":"scalar","result":[1,"x"]}}', "not a number"),
        (b"<html>", "no answer of Prometheus"),
        (b'{"status":"success","data":{"resultType":"scalar","result":[1e20,"1"]}}', "has the time 1e"),
        (b"[" * 100_000, "no answer of Prometheus"),
        (b'{"status":"success","data":{"result":' + b"[" * 100_000, "no answer of Prometheus"),
    ],
)
def test_what_is_no_answer_is_an_error(body, reason):
    with pytest.raises(MappingError, match=reason):
        read_answer(body, query=query(), labels={}, source_labels=(), default_source="p", oldest_s=0)


# Ranges


def seconds(window: tuple[datetime, datetime] | None) -> tuple[float, float] | None:
    return window and ((window[0] - NOW).total_seconds(), (window[1] - NOW).total_seconds())


def test_every_point_of_a_range_is_asked_for_once():
    cursor = RangeCursor(query(step_s=10, lookback_s=30))
    first = cursor.window(NOW + timedelta(seconds=5))
    assert seconds(first) == (-30, 0)
    assert cursor.window(NOW + timedelta(seconds=7)) == first  # it failed: asked for again
    cursor.taken(first[1])
    assert cursor.window(NOW + timedelta(seconds=9)) is None
    assert seconds(cursor.window(NOW + timedelta(seconds=35))) == (10, 30)


def test_an_outage_is_caught_up_as_far_as_allowed():
    cursor = RangeCursor(query(step_s=10, lookback_s=0, max_catch_up_s=100))
    cursor.taken(NOW)
    assert seconds(cursor.window(NOW + timedelta(seconds=1000))) == (900, 1000)


def test_a_long_range_is_asked_for_in_parts():
    cursor = RangeCursor(query(step_s=1, lookback_s=15_000))
    begin, end = cursor.window(NOW)
    assert (end - begin).total_seconds() == MAX_POINTS - 1
    cursor.taken(end)
    assert seconds(cursor.window(NOW)) == ((end - NOW).total_seconds() + 1, 0)


# Servers


def test_target_groups_are_read_from_json_and_yaml():
    in_json = read_groups(b'[{"targets":["a:9090"],"labels":{"site":"x"}},{"targets":["b"]}]', "json")
    in_yaml = read_groups(b"- targets: ['a:9090']\n  labels: {site: x}\n- targets: [b]\n", "yaml")
    assert in_json == in_yaml == (TargetGroup(targets=("a:9090",), labels={"site": "x"}), TargetGroup(targets=("b",)))
    assert read_groups(b"", "yaml") == ()


@pytest.mark.parametrize(
    ("text", "form"), [(b"{", "json"), (b"{}x", "json"), (b"- [", "yaml"), (b"- labels: {}", "yaml"), (b"7", "yaml")]
)
def test_what_is_no_list_of_groups_is_an_error(text, form):
    with pytest.raises(MappingError, match="target groups"):
        read_groups(text, form)


def test_meta_labels_steer_and_are_not_kept():
    group = TargetGroup(targets=("a:1",), labels={"__scheme__": "https", "__path_prefix__": "/prom/", "site": "x"})
    (server,) = servers([group, TargetGroup(targets=())], scheme="http", path_prefix="")
    assert (server.url, server.labels) == ("https://a:1/prom", (("site", "x"),))


def test_a_server_that_is_named_twice_is_one():
    groups = [TargetGroup(targets=("a:1", "[::1]:9090")), TargetGroup(targets=("a:1",), labels={"x": "y"})]
    assert len(servers(groups, scheme="http", path_prefix="")) == 2


def test_a_target_with_a_path_is_refused():
    with pytest.raises(MappingError, match="a/b"):
        servers([TargetGroup(targets=("a/b",))], scheme="http", path_prefix="")
