"""The client that waits."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Self, TypeVar

import httpx

from solyx.client import calls
from solyx.client.calls import ApiError, Call, EventParser, Unreachable

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime
    from types import TracebackType

    from solyx.client.model import (
        BudgetStatus,
        CancelledJob,
        Energy,
        Grid,
        Job,
        JobPage,
        JobSummary,
        Route,
        ServerEvent,
        SubmittedBatch,
        SubmittedJob,
        TenantBudgets,
        UsageReport,
    )
    from solyx.events import SiteObserved

T = TypeVar("T")

TIMEOUT_S = 30.0


class Client:
    """One connection pool to a gateway. Every call may raise ``ApiError`` (refused) or ``Unreachable`` (no answer)."""

    def __init__(
        self, url: str, *, key: str, timeout_s: float = TIMEOUT_S, transport: httpx.BaseTransport | None = None
    ) -> None:
        """``transport``: how requests travel, for proxies and tests; none: httpx's own."""
        self._http = httpx.Client(
            base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=timeout_s, transport=transport
        )

    def submit(
        self, job: Mapping[str, Any], *, idempotency_key: str | None = None, tenant: str | None = None
    ) -> SubmittedJob:
        """Submit one job, in the format of docs/api.md. With an idempotency key a repeat returns the same job."""
        return self._send(calls.submit(job, idempotency_key=idempotency_key, tenant=tenant))

    def submit_many(
        self, jobs: Iterable[Mapping[str, Any]], *, idempotency_key: str | None = None, tenant: str | None = None
    ) -> SubmittedBatch:
        """Submit up to 10,000 jobs, all or none."""
        return self._send(calls.submit_many(jobs, idempotency_key=idempotency_key, tenant=tenant))

    def jobs(
        self,
        *,
        state: Sequence[str] = (),
        site: str | None = None,
        tenant: str | None = None,
        label: Sequence[str] = (),
        name: str | None = None,
        since: datetime | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> JobPage:
        """One page of jobs, newest first; ``label`` entries are ``name=value``, ``name`` is a prefix."""
        return self._send(
            calls.jobs(
                state=state, site=site, tenant=tenant, label=label, name=name, since=since, limit=limit, cursor=cursor
            )
        )

    def all_jobs(self, **filters: Any) -> Iterator[JobSummary]:
        """Every job that the filters leave, page by page."""
        cursor: str | None = None
        while True:
            page = self.jobs(**filters, cursor=cursor)
            yield from page.jobs
            cursor = page.next
            if cursor is None:
                return

    def job(self, job_id: str) -> Job:
        """A job with its history."""
        return self._send(calls.job(job_id))

    def cancel(self, job_id: str) -> CancelledJob:
        """Ask for a job's end."""
        return self._send(calls.cancel(job_id))

    def sites(self) -> list[SiteObserved]:
        """The sites and their nodes."""
        return self._send(calls.sites()).sites

    def routes(self) -> list[Route]:
        """The routes between sites."""
        return self._send(calls.routes()).routes

    def energy(self) -> Energy:
        """Prices, carbon and forecasts."""
        return self._send(calls.energy())

    def grid(self) -> Grid:
        """Demand-response events, and what each site delivers."""
        return self._send(calls.grid())

    def usage(
        self,
        *,
        by: Sequence[str] = (),
        since: datetime | None = None,
        until: datetime | None = None,
        tenant: str | None = None,
        site: str | None = None,
        label: Sequence[str] = (),
        limit: int = 1000,
        cursor: str | None = None,
    ) -> UsageReport:
        """What runs took that ended in a range; ``by``: tenant, site, label:KEY, and one of day, week, month."""
        return self._send(
            calls.usage(
                by=by, since=since, until=until, tenant=tenant, site=site, label=label, limit=limit, cursor=cursor
            )
        )

    def budgets(self, *, tenant: str | None = None) -> list[BudgetStatus]:
        """Budgets over time, and what is left of each."""
        return (self._send(calls.budgets(tenant=tenant))).budgets

    def set_budgets(self, tenant: str, budgets: Sequence[Mapping[str, Any]]) -> TenantBudgets:
        """Set all budgets of a tenant, in the format of docs/api.md; none takes them away."""
        return self._send(calls.set_budgets(tenant, budgets))

    def events(
        self, *, last_event_id: str | None = None, job: str | None = None, event_type: Sequence[str] = ()
    ) -> Iterator[ServerEvent]:
        """Events as they happen, until the server ends the stream; "0" is before the first one.

        ``job`` is an id, ``event_type`` names as in the API ("job.finished.v1"); without them everything is told.
        """
        headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
        params = calls.event_filter(job=job, event_type=event_type)
        with (
            _reachable(),
            self._http.stream(
                "GET", "/v1/events", headers=headers, params=params, timeout=httpx.Timeout(TIMEOUT_S, read=None)
            ) as stream,
        ):
            if stream.is_error:
                Call(method="GET", path="/v1/events", answer=dict).parse(stream.status_code, stream.read())
            parser = EventParser()
            for line in stream.iter_lines():
                event = parser.feed(line)
                if event is not None:
                    yield event

    def _send(self, call: Call[T]) -> T:
        with _reachable():
            response = self._http.request(
                call.method, call.path, params=call.params, content=call.content or None, headers=call.headers
            )
        return call.parse(response.status_code, response.content)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextlib.contextmanager
def _reachable() -> Generator[None]:
    try:
        yield
    except httpx.TransportError as error:
        request = error.request
        msg = f"no answer from {request.url.scheme}://{request.url.netloc.decode()}: {error}"
        raise Unreachable(msg) from error


__all__ = ["ApiError", "Client", "Unreachable"]
