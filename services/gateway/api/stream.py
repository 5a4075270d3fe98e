"""GET /v1/events: the history as server-sent events, from any position on (WHATWG HTML, section 9.2)."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Annotated

import msgspec
from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse

from services.gateway.api.documents import answers
from services.gateway.api.parts import Parts, PartsDep, Viewer
from services.gateway.api.problem import invalid_field
from services.gateway.model import HistoryEntry
from services.gateway.store.projection import HISTORY_CHANNEL
from services.gateway.store.readmodel import EventFilter
from solyx.clock import monotonic_s
from solyx.database import connect, is_transient
from solyx.events.catalog import EVENT_TYPES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.types import Receive, Scope, Send

HEARTBEAT_S = 15.0
"""Proxies commonly close what is silent for 30 or 60 s."""
BATCH = 500
PAUSE_S = 0.05
"""Between two looks at the database, so that a busy log costs a listener no more than 20 queries a second."""
MAX_SEQ = 2**63 - 1

_encode = msgspec.json.Encoder().encode

router = APIRouter()


class Wakeups:
    """Tells waiting streams that the history has grown: one LISTEN for all of them."""

    def __init__(self, database_url: str, retry_s: float) -> None:
        self._url, self._retry_s = database_url, retry_s
        self._grown = asyncio.Event()
        self.closing = False

    async def listen(self) -> None:
        """Run until cancelled. While the connection is away, streams look by themselves now and then."""
        while True:
            try:
                await self._listen_once()
            except Exception as error:
                if not is_transient(error):
                    raise
            await asyncio.sleep(self._retry_s)

    async def _listen_once(self) -> None:
        connection = await connect(self._url, name="solyx-gateway-wakeups")
        gone = asyncio.Event()
        connection.add_termination_listener(lambda *_: gone.set())
        try:
            await connection.add_listener(HISTORY_CHANNEL, lambda *_: self.wake())
            self.wake()  # of what was said before somebody listened nobody hears
            await gone.wait()
        finally:
            connection.terminate()

    def wake(self) -> None:
        """Everybody who waits now goes on."""
        grown, self._grown = self._grown, asyncio.Event()
        grown.set()

    def next(self) -> asyncio.Event:
        """Set when the history grows from now on. To be taken before one looks: it may grow while the database answers."""
        return self._grown

    def close(self) -> None:
        """End the streams: the process leaves."""
        self.closing = True
        self.wake()


@router.get("/v1/events", responses=answers(200, HistoryEntry, 401, 422, 429, stream=True), tags=["events"])
async def stream_events(
    parts: PartsDep,
    principal: Viewer,
    type_: Annotated[list[str], Query(alias="type", description="CloudEvents type, or its end: job.placed.v1")] = [],  # noqa: B006
    job: Annotated[str | None, Query(max_length=64, pattern="^[0-9a-z]+$")] = None,
    after: Annotated[
        int | None, Query(ge=0, le=MAX_SEQ, description="From this position on; 0: from the beginning")
    ] = None,
    limit: Annotated[int | None, Query(ge=1, description="End after so many events")] = None,
    last_event_id: Annotated[int | None, Header(ge=0, le=MAX_SEQ)] = None,
) -> StreamingResponse:
    """Follow what happens. Without a position only what is new."""
    chosen = EventFilter(tenant=None if principal.is_admin else principal.tenant, types=_types(type_), subject=job)
    start = last_event_id if last_event_id is not None else after
    if start is None:
        start = await parts.readmodel.last_seq()
    parts.streams.take(principal.key_id)
    return CountedStream(_events(parts, chosen, start, limit), ended=lambda: parts.streams.give_back(principal.key_id))


class CountedStream(StreamingResponse):
    """Says when it has ended, also where its reader left before the first event."""

    def __init__(self, events: AsyncIterator[bytes], *, ended: Callable[[], None]) -> None:
        super().__init__(
            events, media_type="text/event-stream", headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        )
        self._ended = ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._ended()


def _types(asked: list[str]) -> tuple[str, ...]:
    found: list[str] = []
    for name in asked:
        matching = [known for known in EVENT_TYPES if known == name or known.endswith(f".{name}")]
        if not matching:
            raise invalid_field("type", f"{name[:80]!r} is no event type", f"use one of: {', '.join(EVENT_TYPES)}")
        found.extend(matching)
    return tuple(found)


async def _events(parts: Parts, chosen: EventFilter, position: int, limit: int | None) -> AsyncIterator[bytes]:
    yield b"retry: 1000\n\n"
    spoke_at, left = monotonic_s(), limit if limit is not None else MAX_SEQ
    while not parts.wakeups.closing:
        grown = parts.wakeups.next()
        try:
            entries, position = await parts.readmodel.events_after(position, chosen, min(BATCH, left))
        except Exception as error:
            if not is_transient(error):
                raise
            entries = []
        if entries:
            yield b"".join(_frame(entry) for entry in entries)
            spoke_at = monotonic_s()
            left -= len(entries)
            if left == 0:
                return
            await asyncio.sleep(PAUSE_S)
            continue
        if monotonic_s() - spoke_at > HEARTBEAT_S:
            yield b": still here\n\n"
            spoke_at = monotonic_s()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(grown.wait(), parts.settings.poll_s)


def _frame(entry: HistoryEntry) -> bytes:
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (entry.seq, entry.type.encode(), _encode(entry))
