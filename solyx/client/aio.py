"""The client for asyncio; the same calls as ``solyx.client.sync``."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar

import httpx

from solyx.client import calls
from solyx.client.calls import STREAM_SILENCE_S, TIMEOUT_S, Call, EventParser, unreachable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Sequence
    from types import TracebackType

    from solyx.client.model import JobSummary, ServerEvent

P = ParamSpec("P")
T = TypeVar("T")


def _carried_out(describe: Callable[P, Call[T]]) -> Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]]:
    """The coroutine method that sends what ``describe`` says and awaits the answer."""

    async def method(client: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await client.send(describe(*args, **kwargs))

    calls.present(method, describe)
    return method


class AsyncClient:
    """One connection pool to a gateway. Every call may raise ``ApiError`` (refused) or ``Unreachable`` (no answer)."""

    def __init__(
        self, url: str, *, key: str, timeout_s: float = TIMEOUT_S, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        """``transport``: how requests travel, for proxies and tests; none: httpx's own."""
        self._http = httpx.AsyncClient(
            base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=timeout_s, transport=transport
        )

    submit = _carried_out(calls.submit)
    submit_many = _carried_out(calls.submit_many)
    jobs = _carried_out(calls.jobs)
    job = _carried_out(calls.job)
    cancel = _carried_out(calls.cancel)
    sites = _carried_out(calls.sites)
    node_orders = _carried_out(calls.node_orders)
    order_node = _carried_out(calls.order_node)
    quotas = _carried_out(calls.quotas)
    routes = _carried_out(calls.routes)
    latencies = _carried_out(calls.latencies)
    energy = _carried_out(calls.energy)
    grid = _carried_out(calls.grid)
    usage = _carried_out(calls.usage)
    budgets = _carried_out(calls.budgets)
    set_budgets = _carried_out(calls.set_budgets)

    async def all_jobs(self, **filters: Any) -> AsyncIterator[JobSummary]:
        """Every job that the filters of ``jobs`` leave, page by page."""
        cursor: str | None = None
        while True:
            page = await self.jobs(**filters, cursor=cursor)
            for job in page.jobs:
                yield job
            cursor = page.next
            if cursor is None:
                return

    async def events(
        self, *, last_event_id: str | None = None, job: str | None = None, event_type: Sequence[str] = ()
    ) -> AsyncIterator[ServerEvent]:
        """Events as they happen, as of ``Client.events``."""
        call = calls.events(last_event_id=last_event_id, job=job, event_type=event_type)
        timeout = httpx.Timeout(TIMEOUT_S, read=STREAM_SILENCE_S)
        with self._reachable():
            async with self._http.stream(
                call.method, call.path, params=call.params, headers=call.headers, timeout=timeout
            ) as stream:
                if stream.is_error:
                    call.parse(stream.status_code, await stream.aread())
                parser = EventParser()
                async for line in stream.aiter_lines():
                    event = parser.feed(line)
                    if event is not None:
                        yield event

    async def send(self, call: Call[T]) -> T:
        """Carry out a call."""
        with self._reachable():
            response = await self._http.request(
                call.method, call.path, params=call.params, content=call.content or None, headers=call.headers
            )
        return call.parse(response.status_code, response.content)

    @contextlib.contextmanager
    def _reachable(self) -> Generator[None]:
        try:
            yield
        except httpx.TransportError as error:
            raise unreachable(self._http.base_url, error) from error

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
