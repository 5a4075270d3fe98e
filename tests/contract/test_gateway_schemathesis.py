"""The gateway keeps its OpenAPI document under generated requests, good and bad."""

import asyncio
import threading
import time
from collections.abc import Iterator

import msgspec
import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from devstack.child import free_port, release_port
from devstack.postgres import PostgresServer
from services.gateway.api.application import openapi
from solyx.security import Role
from tests.gateway_app import running

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@schemathesis.serializer("application/x-ndjson")
def ndjson(_context: object, value: object) -> bytes:
    return value.encode() if isinstance(value, str) else msgspec.json.encode(value)


schema = schemathesis.openapi.from_dict(openapi())


@pytest.fixture(scope="module")
def served(postgres_server: PostgresServer) -> Iterator[tuple[str, str]]:
    """The address of a gateway and an administrator's key."""
    port, found = free_port(), {}
    stop = threading.Event()

    async def serve() -> None:
        async with running(postgres_server.url, requests_per_s=100_000.0) as gateway:
            found["key"] = await gateway.key("admin", Role.ADMIN)
            config = uvicorn.Config(gateway.gateway.application, port=port, lifespan="off", log_config=None, ws="none")
            server = uvicorn.Server(config)
            server.install_signal_handlers = lambda: None
            serving = asyncio.create_task(server.serve())
            await asyncio.to_thread(stop.wait)
            gateway.gateway.wakeups.close()
            server.should_exit = True
            await serving

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    deadline = time.monotonic() + 30
    while "key" not in found:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    yield f"http://127.0.0.1:{port}", found["key"]
    stop.set()
    thread.join()
    release_port(port)


@schema.exclude(path="/v1/events").parametrize()
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_requests_of_any_kind_are_answered_as_documented(case: schemathesis.Case, served: tuple[str, str]) -> None:
    url, key = served
    response = case.call(base_url=url, headers={"Authorization": f"Bearer {key}"})
    case.validate_response(response, checks=CHECKS)
