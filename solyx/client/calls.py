"""Every call of the REST API as a value: what to send and what comes back. The sync and the async client only carry it out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar
from urllib.parse import quote

import msgspec

from solyx.client.model import (
    BudgetList,
    CancelledJob,
    Energy,
    FieldProblem,
    Grid,
    Job,
    JobPage,
    Problem,
    RouteList,
    ServerEvent,
    SiteList,
    SubmittedBatch,
    SubmittedJob,
    TenantBudgets,
    UsageReport,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

T = TypeVar("T")

Params = dict[str, str | int | list[str]]

_HTTP_ERROR = 400


class ApiError(Exception):
    """The server refused. ``errors`` names the fields to change."""

    def __init__(self, status: int, title: str, detail: str, errors: Sequence[FieldProblem] = ()) -> None:
        lines = [f"{title or 'refused'} ({status})" + (f": {detail}" if detail else "")]
        lines += [_field_line(error) for error in errors]
        super().__init__("\n".join(lines))
        self.status, self.title, self.detail, self.errors = status, title, detail, tuple(errors)


class Unreachable(Exception):  # noqa: N818 - says what happened
    """No answer from the server."""


def _field_line(error: FieldProblem) -> str:
    place = f"line {error.line}: " if error.line is not None else ""
    return f"  {place}{error.field}: {error.message}" + (f"; {error.cure}" if error.cure else "")


class Call(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """One request and the type of its answer."""

    method: str
    path: str
    answer: type[T]
    params: Params = msgspec.field(default_factory=dict)
    content: bytes = b""
    headers: dict[str, str] = msgspec.field(default_factory=dict)

    def parse(self, status: int, body: bytes) -> T:
        """The answer in a response.

        Raises:
            ApiError: the server refused, or answered something else than this client knows.
        """
        if status >= _HTTP_ERROR:
            try:
                problem = msgspec.json.decode(body, type=Problem)
            except msgspec.MsgspecError:
                problem = Problem(title="unexpected answer", detail=body[:200].decode(errors="replace"))
            raise ApiError(status, problem.title, problem.detail, problem.errors)
        try:
            return msgspec.json.decode(body, type=self.answer)
        except msgspec.MsgspecError as error:
            raise ApiError(status, "unexpected answer", str(error)) from error


def submit(job: Mapping[str, Any], *, idempotency_key: str | None, tenant: str | None) -> Call[SubmittedJob]:
    """POST one job."""
    headers = {"Content-Type": "application/json"} | _optional(idempotency_key, tenant)
    return Call(method="POST", path="/v1/jobs", answer=SubmittedJob, content=msgspec.json.encode(job), headers=headers)


def submit_many(
    jobs: Iterable[Mapping[str, Any]], *, idempotency_key: str | None, tenant: str | None
) -> Call[SubmittedBatch]:
    """POST up to 10,000 jobs, all or none."""
    headers = {"Content-Type": "application/x-ndjson"} | _optional(idempotency_key, tenant)
    content = b"\n".join(msgspec.json.encode(job) for job in jobs)
    return Call(method="POST", path="/v1/jobs", answer=SubmittedBatch, content=content, headers=headers)


def _optional(idempotency_key: str | None, tenant: str | None) -> dict[str, str]:
    headers = {"Idempotency-Key": idempotency_key, "X-Solyx-Tenant": tenant}
    return {name: value for name, value in headers.items() if value is not None}


def jobs(
    *,
    state: Sequence[str] = (),
    site: str | None = None,
    tenant: str | None = None,
    label: Sequence[str] = (),
    name: str | None = None,
    since: datetime | None = None,
    limit: int = 100,
    cursor: str | None = None,
) -> Call[JobPage]:
    """GET a page of jobs, newest first."""
    given: dict[str, Any] = {
        "state": list(state),
        "site": site,
        "tenant": tenant,
        "label": list(label),
        "name": name,
        "since": since.isoformat() if since else None,
        "limit": limit,
        "cursor": cursor,
    }
    params = {key: value for key, value in given.items() if value not in (None, [])}
    return Call(method="GET", path="/v1/jobs", answer=JobPage, params=params)


def job(job_id: str) -> Call[Job]:
    """GET one job with its history."""
    return Call(method="GET", path=f"/v1/jobs/{job_id}", answer=Job)


def cancel(job_id: str) -> Call[CancelledJob]:
    """DELETE a job."""
    return Call(method="DELETE", path=f"/v1/jobs/{job_id}", answer=CancelledJob)


def sites() -> Call[SiteList]:
    """GET the inventories."""
    return Call(method="GET", path="/v1/sites", answer=SiteList)


def routes() -> Call[RouteList]:
    """GET the routes."""
    return Call(method="GET", path="/v1/routes", answer=RouteList)


def energy() -> Call[Energy]:
    """GET prices, carbon and forecasts."""
    return Call(method="GET", path="/v1/energy", answer=Energy)


def grid() -> Call[Grid]:
    """GET demand-response events and responses."""
    return Call(method="GET", path="/v1/grid", answer=Grid)


def usage(
    *,
    by: Sequence[str] = (),
    since: datetime | None = None,
    until: datetime | None = None,
    tenant: str | None = None,
    site: str | None = None,
    label: Sequence[str] = (),
    limit: int = 1000,
    cursor: str | None = None,
) -> Call[UsageReport]:
    """GET what runs took."""
    given: dict[str, Any] = {
        "by": list(by),
        "since": since.isoformat() if since else None,
        "until": until.isoformat() if until else None,
        "tenant": tenant,
        "site": site,
        "label": list(label),
        "limit": limit,
        "cursor": cursor,
    }
    params = {key: value for key, value in given.items() if value not in (None, [])}
    return Call(method="GET", path="/v1/usage", answer=UsageReport, params=params)


def budgets(*, tenant: str | None = None) -> Call[BudgetList]:
    """GET budgets and what is left of them."""
    params: Params = {} if tenant is None else {"tenant": tenant}
    return Call(method="GET", path="/v1/budgets", answer=BudgetList, params=params)


def set_budgets(tenant: str, budgets: Sequence[Mapping[str, Any]]) -> Call[TenantBudgets]:
    """PUT all budgets of a tenant."""
    content = msgspec.json.encode({"budgets": list(budgets)})
    headers = {"Content-Type": "application/json"}
    path = f"/v1/budgets/{quote(tenant, safe='')}"
    return Call(method="PUT", path=path, answer=TenantBudgets, content=content, headers=headers)


def event_filter(*, job: str | None, event_type: Sequence[str]) -> Params:
    """What a stream of events is narrowed to."""
    params: Params = {"type": list(event_type)} if event_type else {}
    return params if job is None else params | {"job": job}


class EventParser:
    """Server-sent events from lines (WHATWG HTML, section 9.2.6), comments and retry hints left out."""

    def __init__(self) -> None:
        self._id = self._event = ""
        self._data: list[str] = []

    def feed(self, line: str) -> ServerEvent | None:
        """The event that this line completes, if it does."""
        if line:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            match name:
                case "id":
                    self._id = value
                case "event":
                    self._event = value
                case "data":
                    self._data.append(value)
                case _:
                    pass
            return None
        if not self._data:
            return None
        data = msgspec.json.decode("\n".join(self._data))
        event = ServerEvent(id=self._id, event=self._event or "message", data=data)
        self._event, self._data = "", []
        return event
