"""The event stream as a response: it says when it has ended, and hears of all that happens."""

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from starlette.requests import ClientDisconnect

from services.gateway.api.stream import CountedStream, Wakeups, _events
from services.gateway.model import HistoryEntry
from services.gateway.settings import GatewaySettings
from services.gateway.store.readmodel import EventFilter
from tests.gateway_events import START


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


ENTRY = HistoryEntry(
    seq=1,
    type="t",
    subject="j",
    tenant=None,
    site=None,
    revision=None,
    reason="",
    time=START,
    figures=msgspec.Raw(b"{}"),
)


class GrowsMeanwhile:
    """A read model to which an event comes, and is told of, while the first question is being answered."""

    def __init__(self, wakeups: Wakeups) -> None:
        self.wakeups, self.entries = wakeups, list[HistoryEntry]()

    async def events_after(self, position: int, *_: Any) -> tuple[list[HistoryEntry], int]:
        found = list(self.entries)
        if not found:
            self.entries.append(ENTRY)
            self.wakeups.wake()
        return found, position + len(found)


async def test_what_happens_while_a_stream_looks_is_not_missed_until_the_next_look() -> None:
    wakeups = Wakeups("", 1.0)
    parts: Any = SimpleNamespace(
        wakeups=wakeups, readmodel=GrowsMeanwhile(wakeups), settings=GatewaySettings(poll_s=3600.0)
    )
    stream = _events(parts, EventFilter(tenant=None, types=(), subject=None), 0, 1)
    async with asyncio.timeout(20):
        frames = [frame async for frame in stream]
    assert frames[-1].startswith(b"id: 1\n")
