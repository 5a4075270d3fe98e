"""Every call of the REST API as a value: what to send and what comes back. The sync and the async client only carry it out.

What is public here is a method of both, under the same name, with the same arguments and words.
"""

from __future__ import annotations

import inspect
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
    QuotaList,
    RouteList,
    ServerEvent,
    SiteList,
    SubmittedBatch,
    SubmittedJob,
    TenantBudgets,
    UsageReport,
)
from solyx.events import NodesOrdered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from solyx.client.model import BudgetStatus, Route
    from solyx.events import QuotasReported, SiteLatenciesMeasured, SiteObserved

T = TypeVar("T")

Params = dict[str, str | int | list[str]]

_HTTP_ERROR = 400
TIMEOUT_S = 30.0
STREAM_SILENCE_S = 60.0
"""A stream that says nothing for so long is cut: the server writes a comment every 15 s (docs/api.md)."""


class ApiError(Exception):
    """The server refused. ``errors`` names the fields to change."""

    def __init__(self, status: int, title: str, detail: str, errors: Sequence[FieldProblem] = ()) -> None:
        lines = [f"{title or 'refused'} ({status})" + (f": {detail}" if detail else "")]
        lines += [_field_line(error) for error in errors]
        super().__init__("\n".join(lines))
        self.status, self.title, self.detail, self.errors = status, title, detail, tuple(errors)


class Unreachable(Exception):  # noqa: N818 - says what happened
    """No answer from the server."""


def unreachable(url: object, error: Exception) -> Unreachable:
    """In words: where, and why."""
    return Unreachable(f"no answer from {str(url).rstrip('/')}: {error}")


def _field_line(error: FieldProblem) -> str:
    place = f"line {error.line}: " if error.line is not None else ""
    return f"  {place}{error.field}: {error.message}" + (f"; {error.cure}" if error.cure else "")


def _whole(answer: Any) -> Any:
    return answer


class Call(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """One request, the type of its answer, and what of the answer the caller gets."""

    method: str
    path: str
    answer: type[Any]
    part: Callable[[Any], T] = _whole
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
            answer = msgspec.json.decode(body, type=self.answer)
        except msgspec.MsgspecError as error:
            raise ApiError(status, "unexpected answer", str(error)) from error
        return self.part(answer)


def present(method: Callable[..., Any], describe: Callable[..., Call[Any]]) -> None:
    """Let ``help`` and editors show a client's method with the name, the words and the arguments of its call."""
    client = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    arguments = inspect.signature(describe).parameters.values()
    method.__name__, method.__doc__ = describe.__name__, describe.__doc__
    method.__signature__ = inspect.Signature([client, *arguments])  # pyright: ignore[reportFunctionMemberAccess]


def submit(
    job: Mapping[str, Any], *, idempotency_key: str | None = None, tenant: str | None = None
) -> Call[SubmittedJob]:
    """Submit one job, in the format of docs/api.md. With an idempotency key a repeat returns the same job."""
    headers = {"Content-Type": "application/json"} | _optional(idempotency_key, tenant)
    return Call(method="POST", path="/v1/jobs", answer=SubmittedJob, content=msgspec.json.encode(job), headers=headers)


def submit_many(
    jobs: Iterable[Mapping[str, Any]], *, idempotency_key: str | None = None, tenant: str | None = None
) -> Call[SubmittedBatch]:
    """Submit up to 10,000 jobs, all or none."""
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
    """One page of jobs, newest first; ``label`` entries are ``name=value``, ``name`` is a prefix."""
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
    return Call(method="GET", path="/v1/jobs", answer=JobPage, params=_given(given))


def _given(params: dict[str, Any]) -> Params:
    return {key: value for key, value in params.items() if value not in (None, [])}


def _job_path(job_id: str) -> str:
    """Quoted: what is no id must not become another path or a query."""
    return f"/v1/jobs/{quote(job_id, safe='')}"


def job(job_id: str) -> Call[Job]:
    """A job with its history."""
    return Call(method="GET", path=_job_path(job_id), answer=Job)


def cancel(job_id: str) -> Call[CancelledJob]:
    """Ask for a job's end."""
    return Call(method="DELETE", path=_job_path(job_id), answer=CancelledJob)


def sites() -> Call[list[SiteObserved]]:
    """The sites and their nodes."""
    return Call(method="GET", path="/v1/sites", answer=SiteList, part=lambda answer: answer.sites)


def node_orders() -> Call[list[NodesOrdered]]:
    """What operators ordered about nodes, of the sites where there is something."""
    return Call(method="GET", path="/v1/sites", answer=SiteList, part=lambda answer: answer.orders)


def order_node(site: str, node: str, state: str, *, note: str = "") -> Call[NodesOrdered]:
    """Make a node ``cordoned``, ``draining`` or ``open`` again; the answer is all orders of the site."""
    content = msgspec.json.encode({"state": state, "note": note})
    headers = {"Content-Type": "application/json"}
    path = f"/v1/sites/{quote(site, safe='')}/nodes/{quote(node, safe='')}"
    return Call(method="PUT", path=path, answer=NodesOrdered, content=content, headers=headers)


def quotas(*, site: str | None = None, tenant: str | None = None) -> Call[list[QuotasReported]]:
    """What each cohort and tenant holds, borrows, lends and waits for at the sites that have quotas."""
    params = _given({"site": site, "tenant": tenant})
    return Call(method="GET", path="/v1/quotas", answer=QuotaList, part=lambda answer: answer.sites, params=params)


def routes() -> Call[list[Route]]:
    """The routes between sites."""
    return Call(method="GET", path="/v1/routes", answer=RouteList, part=lambda answer: answer.routes)


def latencies() -> Call[list[SiteLatenciesMeasured]]:
    """How far places are from each site, where the network measures it."""
    return Call(method="GET", path="/v1/routes", answer=RouteList, part=lambda answer: answer.latencies)


def energy() -> Call[Energy]:
    """Prices, carbon and forecasts."""
    return Call(method="GET", path="/v1/energy", answer=Energy)


def grid() -> Call[Grid]:
    """Demand-response events, and what each site delivers."""
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
    """What runs took that ended in a range; ``by``: tenant, site, label:KEY, and one of day, week, month."""
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
    return Call(method="GET", path="/v1/usage", answer=UsageReport, params=_given(given))


def budgets(*, tenant: str | None = None) -> Call[list[BudgetStatus]]:
    """Budgets over time, and what is left of each."""
    params: Params = {} if tenant is None else {"tenant": tenant}
    return Call(method="GET", path="/v1/budgets", answer=BudgetList, part=lambda answer: answer.budgets, params=params)


def set_budgets(tenant: str, budgets: Sequence[Mapping[str, Any]]) -> Call[TenantBudgets]:
    """Set all budgets of a tenant, in the format of docs/api.md; none takes them away."""
    content = msgspec.json.encode({"budgets": list(budgets)})
    headers = {"Content-Type": "application/json"}
    path = f"/v1/budgets/{quote(tenant, safe='')}"
    return Call(method="PUT", path=path, answer=TenantBudgets, content=content, headers=headers)


def events(
    *, last_event_id: str | None = None, job: str | None = None, event_type: Sequence[str] = ()
) -> Call[ServerEvent]:
    """Events as they happen, until the server ends the stream; "0" is before the first one.

    ``job`` is an id, ``event_type`` names as in the API ("job.finished.v1"); without them everything is told.
    """
    headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
    params = _given({"type": list(event_type), "job": job})
    return Call(method="GET", path="/v1/events", answer=ServerEvent, params=params, headers=headers)


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
