"""Spans leave the process by OTLP or into a file, only for sampled traces; probes and metrics are served."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import pytest
from prometheus_client import Counter

from solyx.telemetry import OpsServer, trace_id_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Telemetry is configured once for a process, so each case is a process of its own.
PROGRAM = """
import sys

from solyx import telemetry
from solyx.settings import Settings
otlp, file, ratio = sys.argv[1:]
telemetry.configure("test", Settings(otlp_endpoint=otlp, trace_file=file, trace_sample_ratio=float(ratio)))
parent = telemetry.new_traceparent()
with telemetry.span("outer", parent, {"job_id": "j1"}) as inner:
    last = telemetry.step("inner", inner)
telemetry.flush()
print(parent, last)
"""


def run(*arguments: str) -> tuple[str, str]:
    """The first and the last traceparent of a process that recorded two spans."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, timeout=60, check=True
    )
    first, last = done.stdout.split()
    return first, last


@pytest.fixture
def receiver() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """An OTLP/HTTP endpoint on loopback that keeps what it is sent."""
    received: list[tuple[str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
            """Quiet."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1/traces", received
    server.shutdown()
    thread.join()
    server.server_close()


def test_sampled_spans_go_out_by_otlp(receiver: tuple[str, list[tuple[str, bytes]]]) -> None:
    endpoint, received = receiver
    first, last = run(endpoint, "", "1")
    assert trace_id_of(first) == trace_id_of(last)
    assert first != last, "the last carries the inner span"
    ((path, body),) = received
    assert path == "/v1/traces"
    assert bytes.fromhex(trace_id_of(first)) in body


def test_a_trace_file_holds_spans_with_their_parents(tmp_path: Path) -> None:
    first, last = run("", str(tmp_path / "spans.jsonl"), "1")
    spans = {s["name"]: s for s in map(json.loads, (tmp_path / "spans.jsonl").read_text().splitlines())}
    assert {span["trace_id"] for span in spans.values()} == {trace_id_of(first)}
    assert spans["inner"]["parent_id"] == spans["outer"]["span_id"]
    assert spans["inner"]["span_id"] == last.split("-")[2]
    assert spans["outer"]["attributes"] == {"job_id": "j1"}


def test_an_unsampled_trace_records_nothing_and_keeps_its_id(tmp_path: Path) -> None:
    first, last = run("", str(tmp_path / "spans.jsonl"), "0")
    assert first == last
    assert not (tmp_path / "spans.jsonl").exists() or not (tmp_path / "spans.jsonl").read_text()


def test_probes_and_metrics_are_served() -> None:
    Counter("solyx_probe_test", "Of this test").inc()
    ready = [False]
    server = OpsServer("127.0.0.1", 0, lambda: (ready[0], {"lag": 7}))
    server.start()

    def get(path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    try:
        assert get("/healthz")[0] == 200
        assert get("/readyz") == (503, '{"ready":false,"lag":7}')
        ready[0] = True
        assert get("/readyz")[0] == 200
        status, text = get("/metrics")
        assert status == 200
        assert "# TYPE solyx_probe_test_total counter" in text
        assert get("/nothing")[0] == 404
    finally:
        server.stop()
