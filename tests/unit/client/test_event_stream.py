"""The event stream as the client reads it: pieces, refusals, breaks, silence."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from services.gateway.api.stream import HEARTBEAT_S
from solyx.client import ApiError, Unreachable, calls
from solyx.client.calls import EventParser
from tests.unit.client.client_server import Recorder, async_client, client, refusal

STREAM = (
    b"retry: 1000\n\n"
    b": still here\n\n"
    b'id: 7\nevent: io.solyx.job.placed.v1\ndata: {"subject": "j1"}\n\n'
    b'id: 8\nevent: io.solyx.job.finished.v1\ndata: {"subject":\ndata:  "j1"}\n\n'
    b"id: 9\nevent: cut off before its empty line"
)


class Stream(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body in pieces that fall anywhere."""

    def __iter__(self) -> Iterator[bytes]:
        yield from (STREAM[at : at + 5] for at in range(0, len(STREAM), 5))

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self:
            yield piece


def test_events_are_read_whatever_pieces_they_come_in() -> None:
    gateway = Recorder(httpx.Response(200, stream=Stream()))
    with client(gateway) as solyx:
        events = list(solyx.events(last_event_id="6", job="j1", event_type=["job.placed.v1"]))
    assert [(event.id, event.event) for event in events] == [
        ("7", "io.solyx.job.placed.v1"),
        ("8", "io.solyx.job.finished.v1"),
    ]
    assert events[1].data == {"subject": "j1"}
    assert gateway.only.headers["last-event-id"] == "6"
    assert dict(gateway.only.url.params) == {"type": "job.placed.v1", "job": "j1"}


async def test_the_async_client_reads_the_same_events() -> None:
    gateway = Recorder(httpx.Response(200, stream=Stream()))
    async with async_client(gateway) as solyx:
        assert [event.id async for event in solyx.events()] == ["7", "8"]
    assert "last-event-id" not in gateway.only.headers


async def test_a_stream_whose_server_has_vanished_without_a_word_is_cut() -> None:
    gateways = [Recorder(httpx.Response(200, stream=Stream())) for _ in range(2)]
    with client(gateways[0]) as solyx:
        assert len(list(solyx.events())) == 2
    async with async_client(gateways[1]) as solyx:
        assert len([event async for event in solyx.events()]) == 2
    silences = [gateway.only.extensions["timeout"]["read"] for gateway in gateways]
    assert silences == [calls.STREAM_SILENCE_S] * 2
    assert calls.STREAM_SILENCE_S > 2 * HEARTBEAT_S, "a server that is there is heard in time"


def test_a_stream_that_is_refused_says_why() -> None:
    with client(refusal) as solyx, pytest.raises(ApiError, match="Some fields are wrong"):
        next(solyx.events())


def test_a_stream_that_breaks_off_is_unreachable() -> None:
    class Broken(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            yield b'id: 7\ndata: {"subject": "j1"}\n\n'
            msg = "peer closed the connection"
            raise httpx.RemoteProtocolError(msg, request=httpx.Request("GET", "http://solyx.test/v1/events"))

    with client(Recorder(httpx.Response(200, stream=Broken()))) as solyx:
        stream = solyx.events()
        assert next(stream).id == "7"
        with pytest.raises(Unreachable, match="peer closed"):
            next(stream)


def fed(*lines: str) -> list[tuple[str, str, Any]]:
    parser = EventParser()
    found = [event for line in lines if (event := parser.feed(line)) is not None]
    return [(event.id, event.event, event.data) for event in found]


def test_an_id_stays_until_the_next_one() -> None:
    assert fed("id: 1", "data: 1", "", "data: 2", "", "id: 3", "data: 3", "") == [
        ("1", "message", 1),
        ("1", "message", 2),
        ("3", "message", 3),
    ]


def test_one_space_after_the_colon_is_not_part_of_the_value() -> None:
    assert fed("id:1", "event:a", 'data:"x"', "") == fed("id: 1", "event: a", 'data: "x"', "")


def test_an_event_without_data_is_none() -> None:
    assert fed("id: 1", "event: a", "", ": comment", "", "retry: 5", "") == []
