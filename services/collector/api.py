"""The collector's HTTP port: Prometheus remote write, grid events, and what operators and Prometheus ask every service.

A request is answered with success only after its events are safe in Kafka. Errors are RFC 9457 problem details.
"""

from __future__ import annotations

import asyncio
import hmac
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from services.collector.core.grid import FieldProblem, read_posted
from services.collector.core.readings import Meters
from services.collector.core.remote_write import BadWrite, TooLarge, WriteDecoder, Written, decompress
from services.collector.service.meters import DROPPED, SAMPLES, WRITES, readings_too
from services.collector.service.outlet import BufferFull, safe_within
from solyx.telemetry import get_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

    from services.collector.model import RemoteWrite
    from services.collector.service.outlet import Outlet
    from services.collector.settings import CollectorSettings
    from solyx.clock import Clock
    from solyx.events import Event

log = get_logger()

RETRY_AFTER_S = "5"
MAX_GRID_EVENT_BYTES = 64 * 1024
OFF_LOOP_BYTES = 256 * 1024  # a larger write is decoded on a thread, so that probes are answered meanwhile
_TITLES = {
    400: "The request cannot be read",
    401: "Authentication is needed",
    404: "There is nothing here",
    405: "The method does not fit",
    413: "The request is too large",
    415: "The encoding is not known",
    422: "The request does not fit",
    503: "Not now",
}


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """RFC 9457 problem details."""

    type: str
    title: str
    status: int
    detail: str
    errors: tuple[FieldProblem, ...] = ()


class Api:
    """Handlers of the port."""

    def __init__(
        self,
        outlet: Outlet,
        clock: Clock,
        settings: CollectorSettings,
        *,
        remote_write: RemoteWrite,
        sites: Collection[str],
        ready: Callable[[], tuple[bool, Mapping[str, object]]],
    ) -> None:
        """``sites``: those that grid events may name; empty: any. ``ready`` is as of ``solyx.telemetry.OpsServer``."""
        self._outlet, self._clock, self._settings, self._sites, self._ready = outlet, clock, settings, sites, ready
        self._meters = Meters()
        self._decoder = WriteDecoder(
            source_labels=remote_write.source_labels, default_source=remote_write.default_source
        )

    def application(self) -> web.Application:
        """The routes."""
        app = web.Application(client_max_size=self._settings.max_write_bytes, middlewares=[_problems])
        app.router.add_post("/api/v1/write", self.write)
        app.router.add_post("/v1/grid-events", self.grid_event)
        app.router.add_get("/healthz", _healthz)
        app.router.add_get("/readyz", self.readyz)
        app.router.add_get("/metrics", _metrics)
        return app

    async def write(self, request: web.Request) -> web.Response:
        """Prometheus remote write 1.0. Prometheus retries 5xx, and drops what gets 4xx."""
        response = await self._write(request)
        WRITES.labels(str(response.status)).inc()
        return response

    async def _write(self, request: web.Request) -> web.Response:
        if refusal := self._refusal(request) or _wrong_encoding(request):
            return refusal
        try:
            body = await request.read()
            written = await (asyncio.to_thread(self._read, body) if len(body) > OFF_LOOP_BYTES else self._at_once(body))
        except (TooLarge, web.HTTPRequestEntityTooLarge) as error:
            return problem(413, f"{error}; send less at a time (queue_config.max_samples_per_send)")
        except BadWrite as error:
            log.warning("remote_write_refused", error=str(error), sender=request.remote)
            return problem(400, str(error))
        DROPPED.labels("not_finite").inc(written.stale + written.infinite)
        DROPPED.labels("native_histogram").inc(written.histograms)
        events = readings_too(self._meters, written.by_source)
        if refusal := await self._refused_or_safe(events):
            return refusal
        SAMPLES.labels("remote_write").inc(written.samples)
        return web.Response(status=204)

    def _read(self, body: bytes) -> Written:
        return self._decoder.decode(decompress(body, max_bytes=self._settings.max_decoded_bytes))

    async def _at_once(self, body: bytes) -> Written:
        return self._read(body)

    async def grid_event(self, request: web.Request) -> web.Response:
        """One demand-response event; 202 with the event as it was published."""
        if refusal := self._refusal(request):
            return refusal
        if (request.content_length or 0) > MAX_GRID_EVENT_BYTES:
            return problem(413, f"a grid event has at most {MAX_GRID_EVENT_BYTES} bytes")
        event = read_posted(await request.read(), now=self._clock.now(), sites=self._sites)
        if isinstance(event, tuple):
            status = 400 if event[0].field == "" and "JSON" in event[0].message else 422
            return problem(status, f"{event[0].field or 'body'}: {event[0].message}", errors=event)
        if refusal := await self._refused_or_safe([event]):
            return refusal
        return web.Response(status=202, body=msgspec.json.encode(event), content_type="application/json")

    async def readyz(self, request: web.Request) -> web.Response:
        """200 when the service does its work."""
        del request
        is_ready, details = self._ready()
        body = msgspec.json.encode({"ready": is_ready, **details})
        return web.Response(status=200 if is_ready else 503, body=body, content_type="application/json")

    def _refusal(self, request: web.Request) -> web.Response | None:
        """Before the body is read: who asks, and is there room?"""
        token = self._settings.token
        shown = request.headers.get("Authorization", "")
        if token and not hmac.compare_digest(shown.encode(errors="surrogateescape"), f"Bearer {token}".encode()):
            response = problem(401, "send `Authorization: Bearer` with SOLYX_COLLECTOR_TOKEN")
            response.headers["WWW-Authenticate"] = "Bearer"
            return response
        if self._outlet.is_full():
            return _not_now(f"Kafka does not keep up: {self._outlet.last_error or 'the buffer is full'}")
        return None

    async def _refused_or_safe(self, events: Sequence[Event]) -> web.Response | None:
        """None once the events are safe."""
        try:
            safe = self._outlet.offer(events)
        except BufferFull as error:
            return _not_now(str(error))
        if await safe_within(safe, self._settings.publish_timeout_s):
            return None
        waited_s = self._settings.publish_timeout_s
        return _not_now(f"not safe in Kafka after {waited_s:g} s: {self._outlet.last_error}; a repeat is harmless")


def problem(status: int, detail: str, *, errors: tuple[FieldProblem, ...] = ()) -> web.Response:
    """An error as ``application/problem+json``."""
    body = Problem(type="about:blank", title=_TITLES.get(status, "Error"), status=status, detail=detail, errors=errors)
    return web.Response(status=status, body=msgspec.json.encode(body), content_type="application/problem+json")


def _not_now(detail: str) -> web.Response:
    response = problem(503, detail)
    response.headers["Retry-After"] = RETRY_AFTER_S
    return response


def _wrong_encoding(request: web.Request) -> web.Response | None:
    """Remote write 1.0 is protobuf in snappy's block format; 2.0 names its message in the content type."""
    encoding = request.headers.get("Content-Encoding", "").strip().lower()
    if encoding != "snappy":
        return problem(415, f"Content-Encoding is {encoding or 'missing'}; remote write 1.0 uses snappy")
    kind, _, parameters = request.headers.get("Content-Type", "").partition(";")
    message = parameters.strip().lower().removeprefix("proto=") or "prometheus.writerequest"
    if kind.strip().lower() != "application/x-protobuf" or message != "prometheus.writerequest":
        return problem(415, f"Content-Type is {kind}{';' if parameters else ''}{parameters}; use remote write 1.0")
    return None


@web.middleware
async def _problems(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """What aiohttp itself refuses, in our form."""
    try:
        return await handler(request)
    except web.HTTPClientError as error:
        return problem(error.status, error.reason or str(error))


async def _healthz(request: web.Request) -> web.Response:
    del request
    return web.Response(body=b'{"status":"ok"}', content_type="application/json")


async def _metrics(request: web.Request) -> web.Response:
    del request
    return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})
