"""A scripted server behind the client."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import msgspec

from services.gateway import model as server
from solyx.client import AsyncClient, Client

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
JOB = {"image": "sum:1", "resources": {"cpu": 1}, "duration_estimate": 60}

Handler = Callable[[httpx.Request], httpx.Response]


def says(value: Any, status: int = 200) -> httpx.Response:
    return httpx.Response(status, content=msgspec.json.encode(value))


def client(handler: Handler) -> Client:
    return Client("http://solyx.test", key="sk_1", transport=httpx.MockTransport(handler))


def async_client(handler: Handler) -> AsyncClient:
    return AsyncClient("http://solyx.test", key="sk_1", transport=httpx.MockTransport(handler))


class Recorder:
    """Answers every request alike and remembers them."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer, self.requests = answer, list[httpx.Request]()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return self.answer

    @property
    def only(self) -> httpx.Request:
        (request,) = self.requests
        return request


def refusal(_: httpx.Request) -> httpx.Response:
    problem = server.Problem(
        type="/problems/invalid",
        title="Some fields are wrong",
        status=422,
        detail="1 field is wrong",
        errors=(server.FieldProblem(field="resources.cpu", message="is no number", cure="write 2", line=3),),
    )
    return says(problem, 422)
