"""For administrators: tenants, their keys, and the records that nobody could read."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from services.gateway.api.documents import answers, body
from services.gateway.api.parts import Admin, PartsDep, json, read
from services.gateway.api.problem import ApiProblem, invalid_field
from services.gateway.model import (
    DeadLetterList,
    IssuedKey,
    KeyList,
    NewKey,
    NewTenant,
    ParkedRecord,
    Tenant,
    TenantList,
)
from solyx.bus.worker import parse_dead_letter
from solyx.clock import monotonic_s
from solyx.topics import DEADLETTERS

if TYPE_CHECKING:
    from solyx.bus.port import Bus, Received

router = APIRouter(tags=["administration"])

_TENANT = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
READ_WITHIN_S = 5.0
MAX_VALUE = 10_000


@router.get("/v1/tenants", responses=answers(200, TenantList, 401, 403, 422, 429))
async def list_tenants(parts: PartsDep, _principal: Admin) -> Response:
    """By name."""
    return json(TenantList(tenants=await parts.tenants.all()))


@router.post(
    "/v1/tenants",
    status_code=201,
    responses=answers(201, Tenant, 401, 403, 409, 422, 429),
    openapi_extra=body(NewTenant),
)
async def create_tenant(request: Request, parts: PartsDep, _principal: Admin) -> Response:
    """A tenant without keys yet."""
    new = read(await request.body(), NewTenant)
    if not _TENANT.fullmatch(new.name):
        raise invalid_field("name", "is no DNS label", "use up to 63 of a-z, 0-9 and '-', not at the ends")
    _short("home_site", new.home_site)
    tenant = await parts.tenants.create(new.name, new.home_site)
    if tenant is None:
        raise ApiProblem("conflict", f"there is a tenant {new.name!r} already")
    parts.directory.forget()
    return json(tenant, 201)


@router.get("/v1/tenants/{tenant}/keys", responses=answers(200, KeyList, 401, 403, 422, 429))
async def list_keys(parts: PartsDep, _principal: Admin, tenant: str) -> Response:
    """Oldest first; revoked ones too. The keys themselves are not kept."""
    return json(KeyList(keys=await parts.tenants.keys(tenant) if _TENANT.fullmatch(tenant) else []))


@router.post(
    "/v1/tenants/{tenant}/keys",
    status_code=201,
    responses=answers(201, IssuedKey, 401, 403, 404, 422, 429),
    openapi_extra=body(NewKey),
)
async def issue_key(request: Request, parts: PartsDep, _principal: Admin, tenant: str) -> Response:
    """A new key; it is shown this once."""
    new = read(await request.body(), NewKey)
    _short("label", new.label)
    issued = await parts.tenants.issue_key(tenant, new.role, new.label) if _TENANT.fullmatch(tenant) else None
    if issued is None:
        raise ApiProblem("not-found", "there is no such tenant")
    parts.keys.forget()
    return json(issued, 201, {"Cache-Control": "no-store"})


@router.delete(
    "/v1/tenants/{tenant}/keys/{key_id}", status_code=204, responses=answers(204, None, 401, 403, 404, 422, 429)
)
async def revoke_key(parts: PartsDep, _principal: Admin, tenant: str, key_id: str) -> Response:
    """The key stops working: here at once, on other replicas within seconds. Revoking again changes nothing."""
    known = _TENANT.fullmatch(tenant) and re.fullmatch(r"[0-9a-z]{1,64}", key_id)
    if not known or not await parts.tenants.revoke(tenant, key_id):
        raise ApiProblem("not-found", "that tenant has no such key")
    parts.keys.forget()
    return Response(status_code=204)


@router.get("/v1/deadletters", responses=answers(200, DeadLetterList, 401, 403, 422, 429))
async def list_deadletters(
    parts: PartsDep, _principal: Admin, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> Response:
    """The latest records that no service could read, newest last."""
    received = await asyncio.to_thread(_latest_dead_letters, parts.bus, limit)
    return json(DeadLetterList(deadletters=[_parked(one) for one in received]))


def _latest_dead_letters(bus: Bus, limit: int) -> list[Received]:
    latest: deque[Received] = deque(maxlen=limit)
    tail = bus.tail([DEADLETTERS.name])
    until = monotonic_s() + READ_WITHIN_S
    try:
        while monotonic_s() < until:
            latest.extend(tail.read(max_records=1000, timeout_s=0.1))
            if tail.caught_up():
                break
    finally:
        tail.close()
    return sorted(latest, key=lambda one: one.timestamp_ms)


def _parked(received: Received) -> ParkedRecord:
    letter = parse_dead_letter(received)
    return ParkedRecord(
        topic=letter.topic,
        partition=letter.partition,
        offset=letter.offset,
        key=letter.key,
        error=letter.error,
        service=letter.service,
        time=letter.time,
        value=(letter.value or b"")[:MAX_VALUE].decode(errors="replace"),
        headers={name: value.decode(errors="replace") for name, value in letter.headers},
    )


def _short(field: str, value: Any) -> None:
    if value is not None and (len(value) > 253 or "\0" in value):
        raise invalid_field(field, "is longer than 253 characters or holds NUL", "shorten it")
