"""The client that waits."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar

import httpx

from solyx.client import calls
from solyx.client.calls import STREAM_SILENCE_S, TIMEOUT_S, ApiError, Call, EventParser, Unreachable, unreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence
    from types import TracebackType

    from solyx.client.model import JobSummary, ServerEvent

P = ParamSpec("P")
T = TypeVar("T")


def _carried_out(describe: Callable[P, Call[T]]) -> Callable[Concatenate[Client, P], T]:
    """The method that sends what ``describe`` says and waits for the answer."""

    def method(client: Client, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return client.send(describe(*args, **kwargs))

    calls.present(method, describe)
    return method


class Client:
    """One connection pool to a gateway. Every call may raise ``ApiError`` (refused) or ``Unreachable`` (no answer)."""

    def __init__(
        self, url: str, *, key: str, timeout_s: float = TIMEOUT_S, transport: httpx.BaseTransport | None = None
    ) -> None:
        """``transport``: how requests travel, for proxies and tests; none: httpx's own."""
        self._http = httpx.Client(
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

    def all_jobs(self, **filters: Any) -> Iterator[JobSummary]:
        """Every job that the filters of ``jobs`` leave, page by page."""
        cursor: str | None = None
        while True:
            page = self.jobs(**filters, cursor=cursor)
            yield from page.jobs
            cursor = page.next
            if cursor is None:
                return

    def events(
        self, *, last_event_id: str | None = None, job: str | None = None, event_type: Sequence[str] = ()
    ) -> Iterator[ServerEvent]:
        """Events as they happen, until the server ends the stream; "0" is before the first one.

        ``job`` is an id, ``event_type`` names as in the API ("job.finished.v1"); without them everything is told.
        """
        call = calls.events(last_event_id=last_event_id, job=job, event_type=event_type)
        timeout = httpx.Timeout(TIMEOUT_S, read=STREAM_SILENCE_S)
        with (
            self._reachable(),
            self._http.stream(
                call.method, call.path, params=call.params, headers=call.headers, timeout=timeout
            ) as stream,
        ):
            if stream.is_error:
                call.parse(stream.status_code, stream.read())
            parser = EventParser()
            for line in stream.iter_lines():
                event = parser.feed(line)
                if event is not None:
                    yield event

    def send(self, call: Call[T]) -> T:
        """Carry out a call."""
        with self._reachable():
            response = self._http.request(
                call.method, call.path, params=call.params, content=call.content or None, headers=call.headers
            )
        return call.parse(response.status_code, response.content)

    @contextlib.contextmanager
    def _reachable(self) -> Generator[None]:
        try:
            yield
        except httpx.TransportError as error:
            raise unreachable(self._http.base_url, error) from error

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


__all__ = ["ApiError", "Client", "Unreachable"]
