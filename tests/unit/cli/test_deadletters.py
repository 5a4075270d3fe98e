"""``solyx deadletters``: each unreadable record once, shown whole, put back with its ids."""

from datetime import UTC, datetime

import pytest

from solyx.bus.memory import MemoryBus
from solyx.bus.partition import partition_of
from solyx.bus.port import Received
from solyx.bus.worker import dead_letter
from solyx.events import Event, Record, encode
from solyx.events.examples import EXAMPLES
from solyx.topics import BY_NAME
from tests.unit.cli.cli_answers import Solyx

HEADERS = [("ce_id", b"e1"), ("ce_type", b"io.solyx.job.placed.v9"), ("traceparent", b"00-ab-cd-01")]


def park(bus: MemoryBus, offset: int, *, topic: str = "placements", key: str = "north/j1", service: str = "drm") -> str:
    """Park a record as a service would; returns its place."""
    received = Received(topic, 2, offset, 0, key, b'{"job_id": [1]}', HEADERS)
    bus.append([dead_letter(received, "unknown event type [v9]", service=service, time="2026-01-02T03:04:05Z")])
    return f"{topic}/2/{offset}"


def test_a_record_that_several_services_parked_is_listed_once(solyx: Solyx, bus: MemoryBus) -> None:
    place = park(bus, 5, service="drm")
    park(bus, 5, service="cmo")
    other = park(bus, 6)
    listed = solyx("deadletters", "list")
    assert listed.status == 0
    assert listed.out.count(place) == 1
    assert "unknown event type [v9]" in listed.out
    assert {letter["place"] for letter in solyx("deadletters", "list", "--json").documents} == {place, other}


def test_a_dead_letter_is_shown_with_headers_bytes_and_error(solyx: Solyx, bus: MemoryBus) -> None:
    place = park(bus, 5)
    shown = solyx("deadletters", "show", place).out
    for text in (place, "north/j1", "drm", "unknown event type [v9]", "ce_id: e1", '{"job_id": [1]}'):
        assert text in shown
    (letter,) = solyx("deadletters", "show", place, "--json").documents
    assert letter["headers"] == {name: value.decode() for name, value in HEADERS}
    assert letter["value"] == '{"job_id": [1]}'


def test_a_replay_keeps_key_value_and_ids_and_says_where_it_came_from(solyx: Solyx, bus: MemoryBus) -> None:
    place = park(bus, 5)
    done = solyx("deadletters", "replay", place)
    assert (done.status, done.out) == (0, f"replayed {place}\n")
    (record,) = bus.records("placements")
    assert (record.key, record.value) == ("north/j1", b'{"job_id": [1]}')
    headers = dict(record.headers)
    assert headers["ce_id"] == b"e1"
    assert headers["solyx_replayed_from"] == place.encode()
    assert "dl_error" not in headers
    assert record.partition == partition_of("north", BY_NAME["placements"].partitions)


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda event: type(event).TYPE)
def test_what_can_be_read_by_now_goes_where_its_key_lies(solyx: Solyx, bus: MemoryBus, event: Event) -> None:
    record = encode(event, source="solyx/test", time=datetime(2026, 1, 2, tzinfo=UTC))
    received = Received(record.topic, 0, 5, 0, record.key, record.value, record.headers)
    bus.append([dead_letter(received, "of a version to come", service="drm", time="2026-01-02T03:04:05Z")])
    assert solyx("deadletters", "replay", "--all").status == 0
    (replayed,) = bus.records(record.topic)
    assert replayed.partition == partition_of(event.ordering_key, BY_NAME[record.topic].partitions)


def test_all_of_them_are_replayed_at_a_rate(solyx: Solyx, bus: MemoryBus) -> None:
    places = {park(bus, 5), park(bus, 6), park(bus, 7, topic="jobs", key="j1")}
    documents = solyx("deadletters", "replay", "--all", "--rate", "1000", "--json").documents
    assert {document["replayed"] for document in documents} == places
    assert len(bus.records("placements")) == 2
    assert len(bus.records("jobs")) == 1


@pytest.mark.parametrize("arguments", [(), ("placements/2/5", "--all")])
def test_a_replay_is_of_named_ones_or_of_all(solyx: Solyx, bus: MemoryBus, arguments: tuple[str, ...]) -> None:
    park(bus, 5)
    assert solyx("deadletters", "replay", *arguments).status == 2
    assert bus.records("placements") == []


def test_one_that_is_not_there_is_4_and_nothing_is_replayed(solyx: Solyx, bus: MemoryBus) -> None:
    place = park(bus, 5)
    done = solyx("deadletters", "replay", place, "placements/2/99")
    assert done.status == 4
    assert "placements/2/99" in done.err
    assert bus.records("placements") == []
    assert solyx("deadletters", "show", "placements/2/99").status == 4


def test_one_that_names_no_topic_stays_parked(solyx: Solyx, bus: MemoryBus) -> None:
    bus.append([Record("deadletters", "k", "k", b"{}", [])])
    done = solyx("deadletters", "replay", "--all")
    assert done.status == 2
    assert "stays parked" in done.err
    assert bus.records("deadletters")[1:] == []


def test_one_that_stays_parked_keeps_no_other_from_its_replay_and_is_named_at_the_end(
    solyx: Solyx, bus: MemoryBus
) -> None:
    places = [park(bus, 5)]
    bus.append([Record("deadletters", "k", "k", b"{}", [])])
    strange = park(bus, 7, topic="of_another_version")
    places += [park(bus, 8), park(bus, 9, topic="jobs", key="j1")]
    done = solyx("deadletters", "replay", "--all", "--rate", "1000")
    assert done.status == 2
    assert {line.removeprefix("replayed ") for line in done.out.splitlines()} == set(places)
    assert (len(bus.records("placements")), len(bus.records("jobs"))) == (2, 1)
    *named, last = done.err.splitlines()
    assert last == "3 replayed, 2 not"
    assert len(named) == 2
    assert any(line.startswith("deadletters/") and "not parked by Solyx" in line for line in named)
    assert any(line.startswith(f"{strange} stays parked: it is of no topic") for line in named)


def test_programs_hear_which_were_not_replayed_and_why(solyx: Solyx, bus: MemoryBus) -> None:
    place, strange = park(bus, 5), park(bus, 7, topic="of_another_version")
    done = solyx("deadletters", "replay", strange, place, "--json")
    replayed, kept = done.documents
    assert (done.status, replayed, kept["not_replayed"]) == (2, {"replayed": place}, strange)
    assert "no topic that it could go back to" in kept["why"]
