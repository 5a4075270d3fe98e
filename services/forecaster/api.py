"""HTTP: what the forecaster knows, read-only. Errors are RFC 9457 ``application/problem+json``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from services.forecaster.service.board import Board


def make_api(board: Board, ready: Callable[[], tuple[bool, Mapping[str, object]]]) -> web.Application:
    """The routes over what ``board`` knows; ``ready`` answers ``/readyz``."""

    async def forecasts(request: web.Request) -> web.Response:
        subject, kind = request.query.get("subject"), request.query.get("kind")
        found = [
            event
            for event in board.forecasts()
            if (subject is None or event.subject_id == subject) and (kind is None or event.kind == kind)
        ]
        return _json(found)

    async def forecast(request: web.Request) -> web.Response:
        subject, kind = request.match_info["subject"], request.match_info["kind"]
        event = board.forecast(subject, kind)
        if event is None:
            return _problem(404, "No such forecast", f"no forecast of {kind} for {subject} has been issued")
        return _json(event)

    async def features(request: web.Request) -> web.Response:
        source = request.match_info["source"]
        windows = board.windows(source)
        if not windows:
            return _problem(404, "No such source", f"no window of {source} was published since this replica started")
        return _json(windows)

    async def healthz(_: web.Request) -> web.Response:
        return _json({"status": "ok"})

    async def readyz(_: web.Request) -> web.Response:
        is_ready, details = ready()
        return _json({"ready": is_ready, **details}, status=200 if is_ready else 503)

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application(middlewares=[_problems])
    app.add_routes(
        [
            web.get("/v1/forecasts", forecasts),
            web.get("/v1/forecasts/{subject}/{kind:.+}", forecast),
            web.get("/v1/features/{source:.+}", features),
            web.get("/healthz", healthz),
            web.get("/readyz", readyz),
            web.get("/metrics", metrics),
        ]
    )
    return app


@web.middleware
async def _problems(request: web.Request, handler: Callable[[web.Request], object]) -> web.StreamResponse:
    """A wrong path or method is answered in the same form as the rest."""
    try:
        response = await handler(request)  # type: ignore[misc]
    except web.HTTPException as error:
        return _problem(error.status, error.reason, f"{request.method} {request.path}")
    assert isinstance(response, web.StreamResponse)
    return response


def _json(value: object, *, status: int = 200) -> web.Response:
    body = msgspec.json.encode(value, enc_hook=str)
    return web.Response(body=body, status=status, content_type="application/json")


def _problem(status: int, title: str, detail: str) -> web.Response:
    body = msgspec.json.encode({"type": "about:blank", "title": title, "status": status, "detail": detail})
    return web.Response(body=body, status=status, content_type="application/problem+json")
