"""What was used, by whom and when; and the budgets that limit it."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import msgspec
from fastapi import APIRouter, Query, Request, Response

from services.gateway.api import cursor as cursors
from services.gateway.api.documents import answers, body
from services.gateway.api.parameters import DATE_TIME, label_of, no_nul, tenant_seen, time_of
from services.gateway.api.parts import Admin, PartsDep, Viewer, json, read
from services.gateway.api.problem import ApiProblem, invalid_field
from services.gateway.model import BudgetList, NewBudget, NewBudgets, TenantBudgets, UsageFilter, UsageReport
from solyx.budget import CALENDAR, LONGEST_S
from solyx.events import Budget
from solyx.quantity import DURATION_CURE, QuantityError, duration_s

if TYPE_CHECKING:
    from collections.abc import Sequence

router = APIRouter(tags=["usage"])

SHOWN = timedelta(days=30)
"""The range where none is asked for."""
MAX_LIMIT = 10_000
MAX_CURSOR = 5000  # site and label of 253 letters, each six bytes in JSON at most, in base64
MAX_BUDGETS = 20
MAX_AMOUNT = 1e12
NDJSON = "application/x-ndjson"
Moment = Annotated[datetime, msgspec.Meta(tz=True)]
_HOUR_S = 3600.0
_TENANT = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_BY_CURE = "use tenant, site, label:KEY, and one of day, week, month"

_USAGE_ANSWERS = answers(200, UsageReport, 401, 403, 422, 429)
_USAGE_ANSWERS[200]["content"][NDJSON] = {"schema": {"type": "string", "description": "one UsageRow a line"}}


@router.get("/v1/usage", responses=_USAGE_ANSWERS)
async def get_usage(
    *,
    request: Request,
    parts: PartsDep,
    principal: Viewer,
    by: Annotated[list[str], Query(description="tenant, site, label:KEY, day, week or month; several at once")] = [],  # noqa: B006 - FastAPI copies it
    since: Annotated[
        str | None, Query(description="Ended at or after, RFC 3339; default 30 days ago", json_schema_extra=DATE_TIME)
    ] = None,
    until: Annotated[
        str | None, Query(description="Ended before, RFC 3339; default now", json_schema_extra=DATE_TIME)
    ] = None,
    tenant: Annotated[str | None, Query(max_length=253, description="For administrators")] = None,
    site: Annotated[str | None, Query(max_length=253)] = None,
    label: Annotated[list[str], Query(description="key=value; several: all of them")] = [],  # noqa: B006
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 1000,
    cursor: Annotated[str | None, Query(max_length=MAX_CURSOR, description="`next` of the page before")] = None,
) -> Response:
    """What runs that ended in the range took: jobs, hours, energy, cost and carbon. JSON, or NDJSON where that is accepted."""
    no_nul(tenant=tenant, site=site)
    page_before = None if cursor is None else _after(cursor)
    if page_before is None:
        begin, end = _range(time_of("since", since), time_of("until", until), parts.clock.now())
    else:  # its own range: one that ends now has moved since, and with it the rows
        begin, end = page_before.since, page_before.until
    chosen = UsageFilter(
        since=begin,
        until=end,
        tenant=tenant_seen(principal, tenant, "usage"),
        site=site,
        labels=tuple(label_of(text) for text in label),
        limit=limit + 1,  # one more tells whether there is a next page
        after=None if page_before is None else page_before.last,
        **_grouping(by),
    )
    rows, total = await parts.usage.usage(chosen)
    page = rows[:limit]
    following = None
    if len(rows) > limit:
        last = page[-1]
        times = (time.isoformat() for time in (begin, end, last.start))
        following = cursors.encode_key(*times, last.tenant, last.site, last.label)
    if NDJSON in request.headers.get("accept", ""):
        lines = b"".join(msgspec.json.encode(row) + b"\n" for row in page)
        headers = {"X-Solyx-Next": following} if following else None
        return Response(lines, media_type=NDJSON, headers=headers)
    return json(UsageReport(since=begin, until=end, rows=page, total=total, next=following))


def _grouping(by: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in by:
        match name.partition(":"):
            case ("tenant" | "site", "", ""):
                found[f"by_{name}"] = True
            case ("day" | "week" | "month", "", "") if found.get("period", name) == name:
                found["period"] = name
            case ("label", ":", key) if key and "\0" not in key and found.get("by_label", key) == key:
                found["by_label"] = key
            case _:
                raise invalid_field("by", f"{name[:80]!r} is not understood, or is a second of its kind", _BY_CURE)
    return found


class _PageBefore(NamedTuple):
    """What a cursor tells: the range that was asked for first, and the key of the last row so far."""

    since: datetime
    until: datetime
    last: tuple[datetime, str, str, str]


def _range(since: datetime | None, until: datetime | None, now: datetime) -> tuple[datetime, datetime]:
    end = until or now
    try:
        begin = since or end - SHOWN
    except OverflowError:
        raise invalid_field("until", "is too early", "write a time of this era") from None
    if begin > end:
        raise invalid_field("since", "is after until", "ask for a range that begins before it ends")
    return begin, end


def _after(cursor: str) -> _PageBefore:
    try:
        *times, tenant, site, label = cursors.decode_key(cursor)
        since, until, start = msgspec.convert(times, tuple[Moment, Moment, Moment])
    except (ValueError, msgspec.ValidationError):
        raise invalid_field("cursor", "is none of ours", "use `next` of the page before, unchanged") from None
    no_nul(cursor=tenant + site + label)
    return _PageBefore(since, until, (start, tenant, site, label))


@router.get("/v1/budgets", responses=answers(200, BudgetList, 401, 403, 422, 429))
async def list_budgets(
    parts: PartsDep,
    principal: Viewer,
    tenant: Annotated[str | None, Query(max_length=253, description="For administrators")] = None,
) -> Response:
    """Each budget with what was used, what is planned and what is left."""
    no_nul(tenant=tenant)
    now = parts.clock.now()
    shown = tenant_seen(principal, tenant, "budgets")
    return json(BudgetList(now=now, budgets=await parts.usage.budgets(shown, now)))


@router.put(
    "/v1/budgets/{tenant}",
    responses=answers(200, TenantBudgets, 401, 403, 404, 422, 429),
    openapi_extra=body(NewBudgets),
)
async def set_budgets(request: Request, parts: PartsDep, _principal: Admin, tenant: str) -> Response:
    """Set all budgets of a tenant; they hold from the CMO's next decision on. An empty list takes them away."""
    new = read(await request.body(), NewBudgets)
    if len(new.budgets) > MAX_BUDGETS:
        raise invalid_field("budgets", f"are more than {MAX_BUDGETS}", "keep those that bind")
    budgets = [_budget(f"budgets[{index}]", one) for index, one in enumerate(new.budgets)]
    stored = await parts.usage.set_budgets(tenant, budgets, parts.clock.now()) if _TENANT.fullmatch(tenant) else None
    if stored is None:
        raise ApiProblem("not-found", "there is no such tenant")
    return json(stored)


def _budget(field: str, new: NewBudget) -> Budget:
    if new.limit > MAX_AMOUNT:
        raise invalid_field(f"{field}.limit", f"is above {MAX_AMOUNT:g}", "leave the budget out to have no limit")
    named = {"quantity": new.quantity, "limit": new.limit, "enforcement": new.enforcement}
    if new.window in CALENDAR:
        return Budget(window=new.window, **named)  # pyright: ignore[reportArgumentType] - checked above
    cure = f"write day, week or month, or the length of a rolling window from 1h to 366d; {DURATION_CURE}"
    try:
        rolling_s = duration_s(new.window)
    except QuantityError as error:
        raise invalid_field(f"{field}.window", str(error), cure) from None
    if not _HOUR_S <= rolling_s <= LONGEST_S:
        raise invalid_field(f"{field}.window", "is shorter than an hour or longer than 366 days", cure)
    return Budget(window="rolling", rolling_s=rolling_s, **named)  # pyright: ignore[reportArgumentType]
