"""Around every request, below the framework: its size, its time, its count."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter, Histogram

from services.gateway.api.problem import ApiProblem, answer
from solyx.clock import monotonic_s

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

REQUESTS = Counter("solyx_http_requests_total", "Requests answered", ["method", "route", "status"])
SECONDS = Histogram(
    "solyx_http_request_seconds",
    "Time to the end of the response",
    ["method", "route"],
    buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10),
)


class Guard:
    """Refuses bodies over the limit before they are read to the end, announced or not."""

    def __init__(self, app: ASGIApp, *, max_body_bytes: int) -> None:
        self._app, self._max = app, max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status, seen = monotonic_s(), 500, 0

        detail = f"a body may have {self._max} bytes; send the jobs in several requests"
        headers = {"Connection": "close"}

        async def measured_receive() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._max:
                raise ApiProblem("too-large", detail, headers=headers)
            return message

        async def measured_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            if _announced(scope) > self._max:
                await answer("too-large", detail, scope["path"], headers=headers)(scope, receive, measured_send)
            else:
                await self._app(scope, measured_receive, measured_send)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            REQUESTS.labels(scope["method"], route, str(status)).inc()
            if route != "/v1/events":  # lasts as long as somebody listens
                SECONDS.labels(scope["method"], route).observe(monotonic_s() - began)


def _announced(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0
