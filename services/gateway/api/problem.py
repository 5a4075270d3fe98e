"""Errors as RFC 9457 problem details; each says what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import asyncpg
import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException

from services.gateway.model import FieldProblem, Problem
from solyx.database import is_transient
from solyx.telemetry import get_logger

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from solyx.jobfile import FieldError

log = get_logger()

PROBLEM_JSON = "application/problem+json"
RETRY_AFTER_S = 2

_encode = msgspec.json.Encoder().encode

# Slug → status and title. docs/api.md explains each under the same slug.
KINDS: Mapping[str, tuple[int, str]] = {
    "bad-request": (400, "The request cannot be read"),
    "unauthenticated": (401, "A valid API key is needed"),
    "forbidden": (403, "This key may not do that"),
    "not-found": (404, "There is no such thing"),
    "method-not-allowed": (405, "This path does not take that method"),
    "conflict": (409, "That contradicts the present state"),
    "too-large": (413, "The request is too large"),
    "unsupported-media-type": (415, "This content type is not taken"),
    "invalid": (422, "Some fields are wrong"),
    "too-many-requests": (429, "Too many requests"),
    "internal": (500, "Something is broken here"),
    "unavailable": (503, "Not available at the moment"),
}


class ApiProblem(Exception):  # noqa: N818 - named as the document it becomes
    """Ends a request with a problem document."""

    def __init__(
        self,
        kind: str,
        detail: str,
        *,
        errors: Sequence[FieldProblem] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.kind, self.detail, self.errors, self.headers = kind, detail, tuple(errors), dict(headers or {})


def answer(
    kind: str, detail: str, path: str, errors: Sequence[FieldProblem] = (), headers: Mapping[str, str] | None = None
) -> Response:
    """The response for a problem."""
    status, title = KINDS[kind]
    problem = Problem(
        type=f"/problems/{kind}", title=title, status=status, detail=detail, instance=path, errors=tuple(errors)
    )
    return Response(_encode(problem), status_code=status, media_type=PROBLEM_JSON, headers=dict(headers or {}))


def invalid(errors: Sequence[FieldError]) -> ApiProblem:
    """422 from a job's errors."""
    fields = [FieldProblem(field=e.field, message=e.message, cure=e.cure, line=e.line) for e in errors]
    count = f"{len(fields)} fields are" if len(fields) != 1 else "1 field is"
    return ApiProblem("invalid", f"{count} wrong; nothing was accepted", errors=fields)


def invalid_field(field: str, message: str, cure: str) -> ApiProblem:
    """422 about one field or parameter."""
    return ApiProblem("invalid", f"{field} {message}", errors=[FieldProblem(field=field, message=message, cure=cure)])


def install(app: FastAPI) -> None:
    """Every error of the application becomes a problem document."""

    async def on_problem(request: Request, problem: Any) -> Response:
        return answer(problem.kind, problem.detail, request.url.path, problem.errors, problem.headers)

    async def on_parameters(request: Request, error: Any) -> Response:
        found: list[FieldProblem] = []
        for one in error.errors():
            place = ".".join(str(part) for part in one["loc"][1:]) or str(one["loc"][0])
            expected = ", ".join(f"{key}: {value}" for key, value in (one.get("ctx") or {}).items())
            cure = f"correct the {one['loc'][0]} parameter" + (f" ({expected})" if expected else "")
            found.append(FieldProblem(field=place, message=str(one["msg"]), cure=cure))
        return answer("invalid", "some parameters are wrong", request.url.path, found)

    async def on_http(request: Request, error: Any) -> Response:
        kind = next((kind for kind, (status, _) in KINDS.items() if status == error.status_code), "bad-request")
        detail = {
            "not-found": f"there is no {request.url.path}; see /openapi.json",
            "method-not-allowed": f"{request.method} is not for {request.url.path}; see /openapi.json",
        }.get(kind, str(error.detail))
        return answer(kind, detail, request.url.path, headers=error.headers)

    async def on_trouble(request: Request, error: Any) -> Response:
        if not is_transient(error):
            raise error
        log.warning("request_transient", path=request.url.path, error=str(error))
        return unavailable(
            request.url.path, "the database is not reachable; the request changed nothing that was confirmed"
        )

    async def on_bug(request: Request, _error: Exception) -> Response:
        return answer("internal", "the error is in the gateway's log", request.url.path)

    app.add_exception_handler(ApiProblem, on_problem)
    app.add_exception_handler(RequestValidationError, on_parameters)
    app.add_exception_handler(HTTPException, on_http)
    for kind in (DBAPIError, PoolTimeout, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        app.add_exception_handler(kind, on_trouble)
    app.add_exception_handler(Exception, on_bug)


def unavailable(path: str, detail: str) -> Response:
    """503: the same request may succeed in a moment; with an Idempotency-Key it is safe to repeat."""
    return answer("unavailable", detail, path, headers={"Retry-After": str(RETRY_AFTER_S)})
