"""The command line without a process: a scripted gateway behind the client, and the in-memory bus behind the topics."""

import importlib
import io
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx
import msgspec
import pytest

from solyx.bus.memory import MemoryBus
from solyx.cli import nodes, output, views
from solyx.client import Client
from solyx.topics import TOPICS

cli = importlib.import_module("solyx.cli.main")  # the package's own `main` is the function


@pytest.fixture(autouse=True)
def as_into_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """The width that a pipe gets, whatever the workers' environment says of a terminal."""
    for console in (output.console, output.errors):
        monkeypatch.setattr(console, "_width", output.PIPE_WIDTH)


class Gateway:
    """Answers by method and path; 404 for what was not told."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, str], list[httpx.Response]] = {}
        self.requests: list[httpx.Request] = []
        self.away = False
        self.drops: Counter[tuple[str, str]] = Counter()  # how many requests of a path are still cut off

    def on(self, method: str, path: str, *values: Any, status: int = 200) -> None:
        """What it answers; of several, one after the other, and the last for ever."""
        self.answers[method, path] = []
        self.then(method, path, *values, status=status)

    def then(self, method: str, path: str, *values: Any, status: int = 200) -> None:
        """What it answers after that."""
        self.answers[method, path] += [
            httpx.Response(status, content=value if isinstance(value, bytes) else msgspec.json.encode(value))
            for value in values
        ]

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if self.away:
            msg = "connection refused"
            raise httpx.ConnectError(msg, request=request)
        place = request.method, request.url.path
        if self.drops[place]:
            self.drops[place] -= 1
            msg = "connection reset"
            raise httpx.ReadError(msg, request=request)
        self.requests.append(request)
        script = self.answers.get(place)
        if not script:
            problem = {"title": "There is no such thing", "status": 404, "detail": "no job of that id"}
            return httpx.Response(404, content=msgspec.json.encode(problem))
        return script.pop(0) if len(script) > 1 else script[0]


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Gateway:
    scripted = Gateway()

    def connect(url: str | None, key: str | None) -> Client:
        return Client(url or "http://solyx.test", key=key or "sk_1", transport=httpx.MockTransport(scripted))

    for module in (cli, nodes):
        monkeypatch.setattr(module, "connect", connect)
    return scripted


@pytest.fixture
def bus(monkeypatch: pytest.MonkeyPatch) -> MemoryBus:
    memory = MemoryBus()
    memory.ensure_topics(TOPICS)
    monkeypatch.setattr(views, "open_bus", lambda _servers: memory)
    return memory


class Outcome(msgspec.Struct, frozen=True):
    """What a command left."""

    status: int
    out: str
    err: str

    @property
    def documents(self) -> list[Any]:
        return [msgspec.json.decode(line) for line in self.out.splitlines()]


@pytest.fixture
def solyx(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Runs a command line as its process would, to its exit status."""

    def run(*arguments: str, text: str = "") -> Outcome:
        monkeypatch.setattr(sys, "argv", ["solyx", *arguments])
        monkeypatch.setattr(sys, "stdin", io.StringIO(text))
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        status = ended.value.code
        return Outcome(status if isinstance(status, int) else 0 if status is None else 1, captured.out, captured.err)

    return run
