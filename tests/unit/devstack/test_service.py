import os
import signal
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from devstack import child, service
from devstack.errors import DevstackError
from devstack.service import ServiceProcess

SERVER = """
import http.server, os, signal, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/readyz" else 404)
        self.end_headers()
    def log_message(self, *_): pass
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
http.server.HTTPServer(("127.0.0.1", int(os.environ["SOLYX_TOY_HTTP_PORT"])), Handler).serve_forever()
"""
DEAF = "import signal, subprocess, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nsubprocess.Popen(['sleep', '600'])\ntime.sleep(600)\n"


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ServiceProcess]]:
    """A service named toy with the given source."""
    made: list[ServiceProcess] = []
    monkeypatch.setattr(service, "ROOT", tmp_path)
    (tmp_path / "services").mkdir()
    (tmp_path / "services" / "__init__.py").touch()

    def make(source: str) -> ServiceProcess:
        (tmp_path / "services" / "toy.py").write_text(textwrap.dedent(source))
        process = ServiceProcess("toy", 0, port=child.free_port(), environment={}, logs=tmp_path)
        made.append(process)
        process.start()
        return process

    yield make
    for process in made:
        process.ask_to_stop()
        process.ensure_stopped(by=time.monotonic() + 1)


def tend_until(process: ServiceProcess, condition: Callable[[], object], within_s: float = 20.0) -> list[str]:
    deadline, news = time.monotonic() + within_s, []
    while not condition():
        assert time.monotonic() < deadline, child.last_words(process.log_file)
        told = process.tend()
        news += [told] if told else []
        time.sleep(0.02)
    return news


def test_a_service_is_ready_when_it_says_so(toy: Callable[[str], ServiceProcess]) -> None:
    process = toy(SERVER)
    assert not process.ready
    tend_until(process, lambda: process.ready)
    assert process.ready_s is not None
    assert process.measure() > 5
    assert process.restarts == 0


def test_a_service_that_dies_is_started_again_on_its_port(toy: Callable[[str], ServiceProcess]) -> None:
    process = toy(SERVER)
    tend_until(process, lambda: process.ready)
    first = process.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    news = tend_until(process, lambda: process.restarts and process.ready)
    assert process.pid != first
    assert process.restarts == 1
    assert any("SIGKILL" in told for told in news)
    assert any("ready again" in told for told in news)


def test_a_service_that_never_comes_up_is_given_up_with_its_last_words(toy: Callable[[str], ServiceProcess]) -> None:
    process = toy("raise SystemExit('the toy is broken')")
    with pytest.raises(DevstackError, match="before it was ready") as raised:
        tend_until(process, lambda: False)
    assert "the toy is broken" in raised.value.cure


def test_wrong_settings_are_told_at_once_and_not_tried_again(toy: Callable[[str], ServiceProcess]) -> None:
    process = toy("import sys\nsys.stderr.write('SOLYX_TOY_SPEED: is blue; write a number\\n')\nraise SystemExit(2)")
    with pytest.raises(DevstackError) as raised:
        tend_until(process, lambda: False)
    assert "SOLYX_TOY_SPEED" in raised.value.cure
    assert process.restarts == 0


def test_a_service_that_does_not_stop_is_killed_with_what_it_started(toy: Callable[[str], ServiceProcess]) -> None:
    process = toy(DEAF)
    assert process.pid is not None
    parent = psutil.Process(process.pid)
    deadline = time.monotonic() + 10
    while not parent.children():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    family = [parent, *parent.children()]
    process.ask_to_stop()
    assert not process.ensure_stopped(by=time.monotonic() + 0.3)
    gone, alive = psutil.wait_procs(family, timeout=5)
    assert not [member for member in alive if member.status() != psutil.STATUS_ZOMBIE], gone
