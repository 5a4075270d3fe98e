"""Logs as facts, Prometheus metrics, and traces that follow one job through every topic.

Trace context travels as a W3C ``traceparent`` in the records' headers, whatever is sampled; spans are recorded only for a
sampled trace and a configured exporter, so an unsampled job costs no more than its header. The propagation layer is our own because the
Kafka instrumentations make orphan spans (docs/decisions/0003-tracing.md).
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import structlog
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from solyx.clock import new_span_id, new_trace_id

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, MutableMapping, Sequence

    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.trace import Tracer

    from solyx.settings import Settings

_SAMPLED = "01"
_PARTS = 4  # version, trace id, span id, flags
_tracers: dict[str, Tracer] = {}
_providers: list[TracerProvider] = []
_sample_ratio = [0.0]


def configure(service: str, settings: Settings) -> None:
    """Set up logs and, where a destination is set, span export. Called once at the start of a process."""
    level = logging.getLevelNamesMapping().get(settings.log_level.upper(), logging.INFO)
    renderer = (
        structlog.processors.JSONRenderer(
            serializer=lambda fields, **_: msgspec.json.encode(fields, enc_hook=str).decode()
        )
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service, replica=settings.replica)
    logging.basicConfig(level=max(level, logging.WARNING), stream=sys.stderr)
    _sample_ratio[0] = settings.trace_sample_ratio
    if settings.otlp_endpoint or settings.trace_file:
        _tracers["tracer"] = _make_tracer(service, settings)


def flush(timeout_s: float = 5.0) -> None:
    """Send what spans are still waiting; called before a process ends."""
    for provider in _providers:
        provider.force_flush(int(timeout_s * 1000))


def get_logger() -> structlog.stdlib.BoundLogger:
    """The process's logger: ``log.info("job_placed", job_id=…, trace_id=…)``."""
    return structlog.get_logger()


def _make_tracer(service: str, settings: Settings) -> Tracer:
    # Imported here: a process that exports nothing does not pay for the SDK.
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    name = f"solyx-{service}"
    provider = TracerProvider(resource=Resource.create({"service.name": name, "service.instance.id": settings.replica}))
    if settings.otlp_endpoint:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415

        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=settings.otlp_endpoint)))
    if settings.trace_file:
        provider.add_span_processor(
            BatchSpanProcessor(_file_exporter(Path(settings.trace_file), name), schedule_delay_millis=200)
        )
    _providers.append(provider)
    return provider.get_tracer("solyx")


def _file_exporter(path: Path, service: str) -> Any:
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult  # noqa: PLC0415

    class FileExporter(SpanExporter):
        """Appends each span as one JSON line; processes may share the file."""

        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            lines = b"".join(_span_line(span, service) for span in spans)
            with path.open("ab") as file:
                file.write(lines)
            return SpanExportResult.SUCCESS

    return FileExporter()


def _span_line(span: ReadableSpan, service: str) -> bytes:
    context, parent = span.get_span_context(), span.parent
    fields = {
        "service": service,
        "name": span.name,
        "trace_id": f"{context.trace_id:032x}" if context else "",
        "span_id": f"{context.span_id:016x}" if context else "",
        "parent_id": f"{parent.span_id:016x}" if parent else "",
        "start_ns": span.start_time,
        "end_ns": span.end_time,
        "attributes": dict(span.attributes or {}),
    }
    return msgspec.json.encode(fields, enc_hook=str) + b"\n"


def new_traceparent() -> str:
    """The start of a trace (W3C trace context, version 00)."""
    trace_id = new_trace_id()
    sampled = bool(_tracers) and int(trace_id[:8], 16) < _sample_ratio[0] * 0x1_0000_0000
    return f"00-{trace_id}-{new_span_id()}-{_SAMPLED if sampled else '00'}"


def trace_id_of(traceparent: str | None) -> str:
    """The trace id in a traceparent, or an empty string."""
    parts = (traceparent or "").split("-")
    return parts[1] if len(parts) == _PARTS else ""


def step(name: str, traceparent: str | None, attributes: Mapping[str, str | int | float] | None = None) -> str | None:
    """Record that one step of a trace was taken now, and return the traceparent that its effects carry.

    An unsampled trace, or a process without an exporter, hands the parent on unchanged.
    """
    tracer = _tracers.get("tracer")
    if traceparent is None or tracer is None or not traceparent.endswith(_SAMPLED):
        return traceparent
    span = tracer.start_span(name, context=_context_of(traceparent), attributes=dict(attributes or {}))
    span.end()
    context = span.get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{_SAMPLED}"


@contextlib.contextmanager
def span(
    name: str, traceparent: str | None, attributes: Mapping[str, str | int | float] | None = None
) -> Generator[str | None]:
    """A step with a duration; yields the traceparent for what happens inside."""
    tracer = _tracers.get("tracer")
    if traceparent is None or tracer is None or not traceparent.endswith(_SAMPLED):
        yield traceparent
        return
    with tracer.start_as_current_span(
        name, context=_context_of(traceparent), attributes=dict(attributes or {})
    ) as current:
        context = current.get_span_context()
        yield f"00-{context.trace_id:032x}-{context.span_id:016x}-{_SAMPLED}"


def _context_of(traceparent: str) -> Any:
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

    return TraceContextTextMapPropagator().extract({"traceparent": traceparent})


class OpsServer:
    """``/healthz``, ``/readyz`` and ``/metrics`` of a service without an API of its own, on a thread."""

    def __init__(self, host: str, port: int, ready: Callable[[], tuple[bool, Mapping[str, object]]]) -> None:
        """``ready`` says whether the service can do its work, with the details that ``/readyz`` shows. Port 0: a free one."""

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, kind, body = _answer(self.path, ready)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
                """Probes are not worth a line each."""

        self._server = ThreadingHTTPServer((host, port), Handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="ops", daemon=True)

    def start(self) -> None:
        """Serve until ``stop``."""
        self._thread.start()

    def stop(self) -> None:
        """Stop serving and free the port."""
        self._server.shutdown()
        self._server.server_close()


def _answer(path: str, ready: Callable[[], tuple[bool, Mapping[str, object]]]) -> tuple[int, str, bytes]:
    match path.split("?", maxsplit=1)[0]:
        case "/healthz":
            return 200, "application/json", b'{"status":"ok"}'
        case "/readyz":
            is_ready, details = ready()
            body: MutableMapping[str, object] = {"ready": is_ready, **details}
            return (200 if is_ready else 503), "application/json", msgspec.json.encode(body, enc_hook=str)
        case "/metrics":
            return 200, CONTENT_TYPE_LATEST, generate_latest()
        case _:
            return 404, "application/json", b'{"error":"try /healthz, /readyz or /metrics"}'
