"""The published contracts say what the code does, stay compatible, and their examples are read by the code."""

from __future__ import annotations

import copy
import itertools
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import jsonschema_rs
import pytest
import yaml

from devstack.contracts import SCHEMAS, event_schema, incompatibilities, stale, versions
from solyx.events import Event, JobSubmitted, Poison, decode, encode
from solyx.events.catalog import EVENT_TYPES
from solyx.events.examples import EXAMPLES
from solyx.topics import BY_NAME

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def test_the_committed_contracts_are_what_the_code_says() -> None:
    assert stale() == [], "run python -m devstack.contracts and commit schemas/"


def test_every_event_type_has_an_example_and_a_topic() -> None:
    assert {type(example).TYPE for example in EXAMPLES} == set(EVENT_TYPES)
    assert {event_type.TOPIC for event_type in EVENT_TYPES.values()} <= set(BY_NAME)


@pytest.mark.parametrize("type_name", sorted(EVENT_TYPES))
def test_every_pair_of_published_versions_is_compatible(type_name: str) -> None:
    published = versions(type_name)
    assert published, f"{type_name} was never published"
    for old, new in itertools.combinations(published, 2):
        assert incompatibilities(old, new) == []


@pytest.mark.parametrize("type_name", sorted(EVENT_TYPES))
def test_the_code_reads_the_example_of_every_published_version(type_name: str) -> None:
    for schema in versions(type_name):
        for payload in schema["examples"]:
            jsonschema_rs.validate(schema, payload)
            headers = [
                ("ce_type", type_name.encode()),
                ("ce_id", b"1"),
                ("ce_source", b"t"),
                ("ce_time", b"2026-06-01T00:00:00Z"),
            ]
            event = decode(json.dumps(payload).encode(), headers).event
            assert type(event) is EVENT_TYPES[type_name]
            assert event.key
            assert event.id


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: type(example).__name__)
def test_an_event_comes_back_from_the_wire_as_it_went(example: Event) -> None:
    record = encode(example, source="solyx/test", time=NOW, traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01")
    assert record.value is not None
    envelope = decode(record.value, record.headers)
    assert envelope.event == example
    assert envelope.id == example.id
    assert envelope.time == NOW
    assert envelope.traceparent is not None
    assert dict(record.headers)["ce_specversion"] == b"1.0"


def test_an_unknown_field_is_ignored_and_a_wrong_one_is_named() -> None:
    record = encode(EXAMPLES[0], source="t", time=NOW)
    assert record.value is not None
    payload = json.loads(record.value) | {"field_of_the_future": 1}
    assert decode(json.dumps(payload).encode(), record.headers).event == EXAMPLES[0]
    del payload["tenant"]
    with pytest.raises(Poison, match="tenant"):
        decode(json.dumps(payload).encode(), record.headers)


def _remove(schema: dict[str, Any]) -> None:
    del schema["properties"]["tenant"]


def _retype(schema: dict[str, Any]) -> None:
    schema["properties"]["tenant"] = {"type": "integer"}


def _require(schema: dict[str, Any]) -> None:
    schema["properties"]["extra"] = {"type": "string"}
    schema["required"].append("extra")


def _retype_deep(schema: dict[str, Any]) -> None:
    schema["$defs"]["Resources"]["properties"]["cpu_milli"]["type"] = "string"


def _drop_enum_value(schema: dict[str, Any]) -> None:
    schema["$defs"]["DeviceRequest"]["properties"]["kind"]["enum"].remove("tpu")


@pytest.mark.parametrize("change", [_remove, _retype, _require, _retype_deep, _drop_enum_value])
def test_a_breaking_change_is_found(change: Callable[[dict[str, Any]], None]) -> None:
    old = event_schema(JobSubmitted)
    new = copy.deepcopy(old)
    change(new)
    assert incompatibilities(old, new)


def test_a_new_optional_field_is_compatible() -> None:
    old = event_schema(JobSubmitted)
    new = copy.deepcopy(old)
    new["properties"]["note"] = {"type": "string", "default": ""}
    assert incompatibilities(old, new) == []


def test_asyncapi_names_every_topic_with_its_key_and_retention() -> None:
    document = yaml.safe_load((SCHEMAS / "asyncapi.yaml").read_text())
    assert set(document["channels"]) == set(BY_NAME)
    for name, channel in document["channels"].items():
        assert channel["x-key"] == BY_NAME[name].keyed_by
        assert channel["bindings"]["kafka"]["partitions"] == BY_NAME[name].partitions
        for message in channel["messages"]:
            payload = document["components"]["messages"][message]["payload"]["$ref"]
            assert (SCHEMAS / payload).exists()


def test_an_event_type_without_a_key_or_an_id_cannot_be_made() -> None:
    fields = {"__annotations__": {"name": "str"}, "TYPE": "io.solyx.test.happened.v1", "TOPIC": "jobs"}
    with pytest.raises(TypeError, match="Happened is an event type without key and id"):
        type(Event)("Happened", (Event,), fields, frozen=True, kw_only=True)
    whole = fields | {"key": property(lambda event: event.name), "id": property(lambda event: event.name)}
    happened = type(Event)("Happened", (Event,), whole, frozen=True, kw_only=True)
    assert happened(name="n").ordering_key == "n"
