"""Events to Kafka records and back: CloudEvents 1.0 in Kafka binary mode, the value is JSON.

Unknown fields are ignored, so that a newer writer does not stop an older reader. An unknown type, a wrong or missing
field, or bytes that are no JSON raise ``Poison``.
"""

from __future__ import annotations

from datetime import datetime
from functools import cache, lru_cache
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from solyx.events.catalog import EVENT_TYPES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from solyx.events.event import Event

Headers: TypeAlias = list[tuple[str, bytes]]

_ENCODER = msgspec.json.Encoder()
_SPEC_VERSION = ("ce_specversion", b"1.0")
_CONTENT_TYPE = ("content-type", b"application/json")


class Poison(Exception):  # noqa: N818 - one of the project's two error words (docs/conventions)
    """A record that no retry will make readable; it goes to the dead letters."""


class Record(msgspec.Struct, frozen=True):
    """What is written to Kafka. ``value`` None is a tombstone."""

    topic: str
    key: str
    ordering_key: str
    value: bytes | None
    headers: Headers


class Envelope(msgspec.Struct, frozen=True):
    """An event with what came along: where it stands in its topic, its cause and its trace."""

    event: Event
    id: str
    source: str
    time: datetime
    traceparent: str | None
    topic: str = ""
    partition: int = -1
    offset: int = -1


_DECODERS: dict[bytes, msgspec.json.Decoder[Event]] = {
    name.encode(): msgspec.json.Decoder(event_type) for name, event_type in EVENT_TYPES.items()
}


def _decoder_of(type_name: bytes) -> msgspec.json.Decoder[Event]:
    decoder = _DECODERS.get(type_name)
    if decoder is None:
        text = type_name.decode(errors="replace")
        msg = f"unknown event type {text!r}" if text else "no ce_type header"
        raise Poison(msg)
    return decoder


@lru_cache(maxsize=16)
def _time_header(time: datetime) -> tuple[str, bytes]:
    """A batch of decisions has one time."""
    return "ce_time", time.isoformat().encode()


@cache
def _static_headers(event_type: type[Event], source: str) -> tuple[tuple[str, bytes], ...]:
    return (_SPEC_VERSION, _CONTENT_TYPE, ("ce_type", event_type.TYPE.encode()), ("ce_source", source.encode()))


def encode(event: Event, *, source: str, time: datetime, traceparent: str | None = None) -> Record:
    """The record of ``event``; ``source`` is the service that writes it, ``time`` its clock."""
    headers: Headers = [
        *_static_headers(type(event), source),
        ("ce_id", event.id.encode()),
        _time_header(time),
        ("ce_subject", event.subject.encode()),
    ]
    if traceparent is not None:
        headers.append(("traceparent", traceparent.encode()))
    return Record(event.TOPIC, event.key, event.ordering_key, _ENCODER.encode(event), headers)


def decode_event(value: bytes, headers: Iterable[tuple[str, bytes | None]]) -> tuple[Event, str | None]:
    """The event in a record and its traceparent: what a core's loop needs, without the rest of the envelope.

    Raises:
        Poison: the type is missing or unknown, or the value does not fit the type.
    """
    type_name = traceparent = None
    for name, text in headers:
        if name == "ce_type":
            type_name = text
        elif name == "traceparent":
            traceparent = text
    decoder = _decoder_of(type_name or b"")
    try:
        return decoder.decode(value), traceparent.decode() if traceparent is not None else None
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as error:
        msg = f"{(type_name or b'').decode()}: {error}"
        raise Poison(msg) from error


def decode(
    value: bytes,
    headers: Iterable[tuple[str, bytes | None]],
    *,
    topic: str = "",
    partition: int = -1,
    offset: int = -1,
) -> Envelope:
    """The event in a record.

    Raises:
        Poison: the type is missing or unknown, or the value does not fit the type.
    """
    fields = {name: text for name, text in headers if text is not None}
    event, _ = decode_event(value, fields.items())
    try:
        time = datetime.fromisoformat(fields["ce_time"].decode())
        traceparent = fields.get("traceparent")
        return Envelope(
            event,
            fields["ce_id"].decode(),
            fields["ce_source"].decode(),
            time,
            traceparent.decode() if traceparent is not None else None,
            topic,
            partition,
            offset,
        )
    except KeyError as error:
        msg = f"no {error.args[0]} header"
        raise Poison(msg) from error
    except ValueError as error:
        msg = f"headers: {error}"
        raise Poison(msg) from error
