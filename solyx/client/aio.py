"""The client for asyncio; the same calls as ``solyx.client.sync``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, TypeVar

import httpx

from solyx.client import calls
from solyx.client.calls import Call, EventParser, Unreachable
from solyx.client.sync import TIMEOUT_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
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


class AsyncClient:
    """One connection pool to a gateway. Every call may raise ``ApiError`` (refused) or ``Unreachable`` (no answer)."""

    def __init__(
        self, url: str, *, key: str, timeout_s: float = TIMEOUT_S, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        """``transport``: how requests travel, for proxies and tests; none: httpx's own."""
        self._http = httpx.AsyncClient(
            base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=timeout_s, transport=transport
        )

    async def submit(
        self, job: Mapping[str, Any], *, idempotency_key: str | None = None, tenant: str | None = None
    ) -> SubmittedJob:
        """Submit one job."""
        return await self._send(calls.submit(job, idempotency_key=idempotency_key, tenant=tenant))

    async def submit_many(
        self, jobs: Iterable[Mapping[str, Any]], *, idempotency_key: str | None = None, tenant: str | None = None
    ) -> SubmittedBatch:
        """Submit up to 10,000 jobs, all or none."""
        return await self._send(calls.submit_many(jobs, idempotency_key=idempotency_key, tenant=tenant))

    async def jobs(
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
        """One page of jobs, newest first."""
        return await self._send(
            calls.jobs(
                state=state, site=site, tenant=tenant, label=label, name=name, since=since, limit=limit, cursor=cursor
            )
        )

    async def all_jobs(self, **filters: Any) -> AsyncIterator[JobSummary]:
        """Every job that the filters leave, page by page."""
        cursor: str | None = None
        while True:
            page = await self.jobs(**filters, cursor=cursor)
            for job in page.jobs:
                yield job
            cursor = page.next
            if cursor is None:
                return

    async def job(self, job_id: str) -> Job:
        """A job with its history."""
        return await self._send(calls.job(job_id))

    async def cancel(self, job_id: str) -> CancelledJob:
        """Ask for a job's end."""
        return await self._send(calls.cancel(job_id))

    async def sites(self) -> list[SiteObserved]:
        """The sites and their nodes."""
        return (await self._send(calls.sites())).sites

    async def routes(self) -> list[Route]:
        """The routes between sites."""
        return (await self._send(calls.routes())).routes

    async def energy(self) -> Energy:
        """Prices, carbon and forecasts."""
        return await self._send(calls.energy())

    async def grid(self) -> Grid:
        """Demand-response events, and what each site delivers."""
        return await self._send(calls.grid())

    async def usage(
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
        return await self._send(
            calls.usage(
                by=by, since=since, until=until, tenant=tenant, site=site, label=label, limit=limit, cursor=cursor
            )
        )

    async def budgets(self, *, tenant: str | None = None) -> list[BudgetStatus]:
        """Budgets over time, and what is left of each."""
        return (await self._send(calls.budgets(tenant=tenant))).budgets

    async def set_budgets(self, tenant: str, budgets: Sequence[Mapping[str, Any]]) -> TenantBudgets:
        """Set all budgets of a tenant, in the format of docs/api.md; none takes them away."""
        return await self._send(calls.set_budgets(tenant, budgets))

    async def events(
        self, *, last_event_id: str | None = None, job: str | None = None, event_type: Sequence[str] = ()
    ) -> AsyncIterator[ServerEvent]:
        """Events as they happen, until the server ends the stream; "0" is before the first one."""
        headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
        params = calls.event_filter(job=job, event_type=event_type)
        timeout = httpx.Timeout(TIMEOUT_S, read=None)
        try:
            async with self._http.stream(
                "GET", "/v1/events", headers=headers, params=params, timeout=timeout
            ) as stream:
                if stream.is_error:
                    Call(method="GET", path="/v1/events", answer=dict).parse(stream.status_code, await stream.aread())
                parser = EventParser()
                async for line in stream.aiter_lines():
                    event = parser.feed(line)
                    if event is not None:
                        yield event
        except httpx.TransportError as error:
            msg = f"no answer from {self._http.base_url}: {error}"
            raise Unreachable(msg) from error

    async def _send(self, call: Call[T]) -> T:
        try:
            response = await self._http.request(
                call.method, call.path, params=call.params, content=call.content or None, headers=call.headers
            )
        except httpx.TransportError as error:
            msg = f"no answer from {self._http.base_url}: {error}"
            raise Unreachable(msg) from error
        return call.parse(response.status_code, response.content)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
