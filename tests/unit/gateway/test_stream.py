"""The event stream as a response: it says when it has ended."""

from collections.abc import AsyncIterator

import pytest
from starlette.requests import ClientDisconnect

from services.gateway.api.stream import CountedStream


async def events() -> AsyncIterator[bytes]:
    yield b"retry: 1000\n\n"


async def nothing_more() -> dict[str, str]:
    return {"type": "http.disconnect"}


@pytest.mark.parametrize(
    "spec_version", ["2.0", "2.4"]
)  # of ASGI: from 2.4 on a reader that is gone shows when sending
async def test_a_stream_whose_reader_left_before_the_first_event_has_ended(spec_version: str) -> None:
    ended: list[bool] = []

    async def gone(_: object) -> None:
        raise OSError

    response = CountedStream(events(), ended=lambda: ended.append(True))
    with pytest.raises((OSError, ClientDisconnect, ExceptionGroup)):
        await response({"type": "http", "asgi": {"spec_version": spec_version}}, nothing_more, gone)
    assert ended == [True]
