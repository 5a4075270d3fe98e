"""Generates the contracts in ``schemas/`` from the code: ``python -m devstack.contracts [--check]``.

- ``schemas/events/<type>/<n>.json``: the JSON Schema of an event type with an example. A change adds the next number; what was
  published is never rewritten, and every later version must be readable by, and able to read, every earlier one.
- ``schemas/asyncapi.yaml``: topics and messages. ``schemas/openapi.yaml``: the gateway's REST API.

A field that is removed or retyped, a new required field, or an enum value that is taken away is refused: publish a new event
type (``….v2``) instead.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import yaml

from solyx import __version__
from solyx.events.catalog import EVENT_TYPES
from solyx.events.examples import EXAMPLES
from solyx.topics import TOPICS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from solyx.events import Event

SCHEMAS = Path(__file__).resolve().parent.parent / "schemas"


def event_schema(event_type: type[Event]) -> dict[str, Any]:
    """The JSON Schema (2020-12) of an event type, with its example."""
    (reference,), components = msgspec.json.schema_components([event_type], ref_template="#/$defs/{name}")
    name = reference["$ref"].rsplit("/", 1)[1]
    schema = dict(components.pop(name))
    example = next(example for example in EXAMPLES if type(example) is event_type)
    schema |= {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:solyx:{event_type.TYPE}",
        "title": event_type.TYPE,
        "description": (event_type.__doc__ or "").split("\n\n")[0].strip(),
        "x-topic": event_type.TOPIC,
        "examples": [msgspec.to_builtins(example)],
    }
    if components:
        schema["$defs"] = components
    return json.loads(json.dumps(schema))


def incompatibilities(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Why a reader of one version could not read the other's records; empty when both ways work."""
    return list(_compare(old, new, old, new, "$"))


def _compare(old: Any, new: Any, old_root: Any, new_root: Any, path: str) -> Iterator[str]:
    old, new = _resolve(old, old_root), _resolve(new, new_root)
    if _shape(old) != _shape(new):
        yield f"{path}: was {_shape(old)}, is {_shape(new)}"
        return
    old_fields, new_fields = old.get("properties", {}), new.get("properties", {})
    for name, field in old_fields.items():
        if name not in new_fields:
            yield f"{path}.{name}: was removed"
        else:
            yield from _compare(field, new_fields[name], old_root, new_root, f"{path}.{name}")
    for name in sorted(set(new.get("required", ())) - set(old.get("required", ()))):
        yield f"{path}.{name}: is required, and was not"
    for value in sorted(set(map(str, old.get("enum", ()))) - set(map(str, new.get("enum", ())))):
        yield f"{path}: value {value!r} was removed"
    for part in ("items", "additionalProperties"):
        if isinstance(old.get(part), dict) and isinstance(new.get(part), dict):
            yield from _compare(old[part], new[part], old_root, new_root, f"{path}[]")
    yield from _tighter(old, new, path)
    for one, other in zip(old.get("anyOf", ()), new.get("anyOf", ()), strict=False):
        yield from _compare(one, other, old_root, new_root, path)


def _tighter(old: Any, new: Any, path: str) -> Iterator[str]:
    for bound, sign in (("minimum", 1), ("exclusiveMinimum", 1), ("maximum", -1), ("exclusiveMaximum", -1)):
        was, now = old.get(bound), new.get(bound)
        if now is not None and (was is None or (now - was) * sign > 0):
            yield f"{path}: {bound} {now} refuses values that were allowed"


def _shape(schema: Any) -> Any:
    """What must not change: the JSON type, or the types of a union."""
    if "anyOf" in schema:
        return sorted(str(part.get("type", part.get("$ref"))) for part in schema["anyOf"])
    if "enum" in schema:
        return "enum"
    return schema.get("type")


def _resolve(schema: Any, root: Any) -> Any:
    while "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rsplit("/", 1)[1]]
    return schema


def versions(type_name: str, root: Path = SCHEMAS) -> list[dict[str, Any]]:
    """The published versions of an event type's schema, oldest first."""
    paths = sorted((root / "events" / type_name).glob("*.json"), key=lambda path: int(path.stem))
    return [json.loads(path.read_text()) for path in paths]


def asyncapi() -> dict[str, Any]:
    """AsyncAPI 3.0: each topic with its key, order, partitions, retention and messages."""
    channels: dict[str, Any] = {}
    messages: dict[str, Any] = {}
    for topic in TOPICS:
        names = [name for name, event_type in EVENT_TYPES.items() if topic.name == event_type.TOPIC]
        channels[topic.name] = {
            "address": topic.name,
            "description": topic.description,
            "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
            "bindings": {
                "kafka": {
                    "partitions": topic.partitions,
                    "topicConfiguration": {"cleanup.policy": [topic.cleanup], "retention.ms": topic.retention_ms},
                }
            },
            "x-key": topic.keyed_by,
            "x-ordered-by": topic.ordered_by,
        }
    for name, event_type in EVENT_TYPES.items():
        latest = len(versions(name)) or 1
        messages[name] = {
            "name": name,
            "contentType": "application/json",
            "headers": {"$ref": "#/components/schemas/CloudEventHeaders"},
            "payload": {"$ref": f"events/{name}/{latest}.json"},
            "summary": (event_type.__doc__ or "").split("\n")[0].strip(),
        }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Solyx topics",
            "version": __version__,
            "description": "CloudEvents 1.0 in Kafka binary mode; values are JSON. De-duplicate by ce_id.",
        },
        "channels": channels,
        "components": {"messages": messages, "schemas": {"CloudEventHeaders": _HEADERS}},
    }


_HEADERS: dict[str, Any] = {
    "type": "object",
    "required": ["ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time", "ce_subject", "content-type"],
    "properties": {
        "ce_specversion": {"const": "1.0"},
        "ce_id": {"type": "string", "description": "derived from the cause: the same cause, the same id"},
        "ce_source": {"type": "string", "description": "the service that wrote it"},
        "ce_type": {"type": "string"},
        "ce_time": {"type": "string", "format": "date-time"},
        "ce_subject": {"type": "string", "description": "the entity that the event is about"},
        "content-type": {"const": "application/json"},
        "traceparent": {"type": "string", "description": "W3C trace context of the job"},
    },
}


def openapi() -> dict[str, Any]:
    """The gateway's OpenAPI document, as it serves it."""
    from services.gateway.api.application import openapi as document  # noqa: PLC0415 - loads the web stack

    return document()


def generate(root: Path = SCHEMAS) -> dict[Path, str]:
    """The files as they should be: path → content. A changed event schema is a new numbered file.

    Raises:
        SystemExit: a change is not compatible with what was published.
    """
    files: dict[Path, str] = {}
    problems: list[str] = []
    for name, event_type in EVENT_TYPES.items():
        schema, published = event_schema(event_type), versions(name, root)
        if not published or _contract(published[-1]) != _contract(schema):
            files[root / "events" / name / f"{len(published) + 1}.json"] = json.dumps(schema, indent=2) + "\n"
        problems += [f"{name}: {problem}" for old in published for problem in incompatibilities(old, schema)]
    if problems:
        listing = "\n  ".join(problems)
        sys.exit(f"not compatible with published schemas; publish a new event type (….v2) instead:\n  {listing}")
    for path, document in ((root / "asyncapi.yaml", asyncapi()), (root / "openapi.yaml", openapi())):
        files[path] = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)
    return files


def _contract(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A schema without what binds nobody: a new wording or example is no new version."""
    return {key: value for key, value in schema.items() if key not in ("examples", "description")}


def stale(root: Path = SCHEMAS) -> list[Path]:
    """Files that are missing or differ from what the code says."""
    return [
        path for path, text in generate(root).items() if not path.exists() or path.read_text(encoding="utf-8") != text
    ]


def main() -> int:
    """Write the contracts, or check that they are what the code says."""
    parser = argparse.ArgumentParser(prog="python -m devstack.contracts", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a file is stale")
    if parser.parse_args().check:
        outdated = stale()
        for path in outdated:
            print(f"stale: {path.relative_to(SCHEMAS.parent)}; run python -m devstack.contracts")
        return 1 if outdated else 0
    for _ in range(2):  # the second pass names the numbers that the first one wrote
        for path, text in generate().items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
