"""What the routes work with, handed over by the composition root, and the checks before each request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import msgspec
from fastapi import Depends, Request, Response
from fastapi.routing import APIRoute

from services.gateway.api.problem import ApiProblem, invalid_field
from solyx.security import Principal, bearer

if TYPE_CHECKING:
    from services.gateway.api.access import Directory, KeyRing, RateLimit, StreamLimit
    from services.gateway.api.stream import Wakeups
    from services.gateway.service.health import Watch
    from services.gateway.settings import GatewaySettings
    from services.gateway.store.jobs import JobStore
    from services.gateway.store.nodes import NodeStore
    from services.gateway.store.readmodel import ReadModel
    from services.gateway.store.tenants import TenantStore
    from services.gateway.store.usage import UsageStore
    from solyx.bus.port import Bus
    from solyx.clock import Clock

T = TypeVar("T")
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Everything a route may need."""

    settings: GatewaySettings
    clock: Clock
    bus: Bus
    jobs: JobStore
    tenants: TenantStore
    readmodel: ReadModel
    usage: UsageStore
    nodes: NodeStore
    keys: KeyRing
    directory: Directory
    limit: RateLimit
    streams: StreamLimit
    wakeups: Wakeups
    watch: Watch


def parts_of(request: Request) -> Parts:
    """The parts of the application that serves this request."""
    return request.app.state.parts


async def viewer(request: Request) -> Principal:
    """Who asks: any valid key. Takes one request from the key's allowance."""
    parts = parts_of(request)
    if not parts.watch.migrated:
        raise ApiProblem("unavailable", "the gateway is starting", headers={"Retry-After": "1"})
    key = bearer(request.headers.get("authorization"))
    principal = await parts.keys.principal(key) if key is not None else None
    if principal is None:
        detail = "send 'Authorization: Bearer sk_…' with a key that was issued and not revoked"
        raise ApiProblem("unauthenticated", detail, headers={"WWW-Authenticate": 'Bearer realm="solyx"'})
    parts.limit.take_request(principal.key_id)
    _known_parameters(request)
    return principal


def _known_parameters(request: Request) -> None:
    """A misspelt filter that is ignored shows too much: refuse it."""
    route: APIRoute = request.scope["route"]
    known = [field.alias for field in route.dependant.query_params]
    for name in request.query_params:
        if name not in known:
            cure = f"use some of: {', '.join(known)}" if known else "remove it"
            raise invalid_field(name[:80], "is no parameter of this path", cure)


async def submitter(principal: Annotated[Principal, Depends(viewer)]) -> Principal:
    """Who may change jobs."""
    if not principal.role.may_submit:
        raise ApiProblem("forbidden", "this key's role is viewer; ask for one with the role submitter")
    return principal


async def admin(principal: Annotated[Principal, Depends(viewer)]) -> Principal:
    """Who may do everything."""
    if not principal.is_admin:
        raise ApiProblem("forbidden", f"this key's role is {principal.role.value}; this needs the role admin")
    return principal


PartsDep = Annotated[Parts, Depends(parts_of)]
Viewer = Annotated[Principal, Depends(viewer)]
Submitter = Annotated[Principal, Depends(submitter)]
Admin = Annotated[Principal, Depends(admin)]


def json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A msgspec value as the response."""
    return Response(_encode(value), status_code=status, media_type="application/json", headers=headers)


def read(raw: bytes, kind: type[T]) -> T:
    """Parse a small JSON body; the error names the field."""
    try:
        return msgspec.json.decode(raw or b"{}", type=kind)
    except msgspec.ValidationError as error:
        message, _, place = str(error).partition(" - at `$")
        field = place.strip("`.") or "body"
        raise invalid_field(field, message, f"see {kind.__name__} in /openapi.json") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise invalid_field("body", f"is no JSON: {error}", "send one JSON object in UTF-8") from None
