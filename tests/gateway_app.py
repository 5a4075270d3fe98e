"""A gateway in the test's own process on a real database: without a socket where requests are enough."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import asyncpg
import httpx

from services.gateway.app import Gateway
from services.gateway.settings import GatewaySettings
from solyx.bus.memory import MemoryBus
from solyx.bus.port import Bus
from solyx.clock import ManualClock
from solyx.database import dsn
from solyx.events import Event
from solyx.security import Role
from solyx.telemetry import get_logger
from tests.gateway_events import START, record

log = get_logger()

JOB = {"name": "train", "image": "busybox", "resources": {"cpu": 1}, "duration_estimate": "10m"}


@dataclass
class Running:
    """A gateway with keys: ``gateway.client("acme")`` asks as a tenant."""

    gateway: Gateway
    bus: Bus
    clock: ManualClock
    keys: dict[tuple[str, Role], str] = field(default_factory=dict)

    async def key(self, tenant: str, role: Role = Role.SUBMITTER) -> str:
        if (tenant, role) not in self.keys:
            await self.gateway.tenants.create(tenant, "oslo")
            issued = await self.gateway.tenants.issue_key(tenant, role, "test")
            assert issued is not None
            self.keys[tenant, role] = issued.key
            self.gateway.parts.directory.forget()
        return self.keys[tenant, role]

    @asynccontextmanager
    async def client(self, tenant: str = "acme", role: Role = Role.SUBMITTER) -> AsyncIterator[httpx.AsyncClient]:
        headers = {"Authorization": f"Bearer {await self.key(tenant, role)}"}
        transport = httpx.ASGITransport(app=self.gateway.application)
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway", headers=headers) as client:
            yield client

    def publish(self, *events: Event) -> None:
        publisher = self.bus.publisher(name="test")
        publisher.publish([record(event) for event in events])
        publisher.close()


@asynccontextmanager
async def running(
    url: str, *, bus: Bus | None = None, workers: bool = True, **fields: object
) -> AsyncIterator[Running]:
    """Prepared, and with ``workers`` also relaying and projecting."""
    given = {"database_url": url, "poll_s": 0.05, "projector_pause_s": 0.0} | fields
    clock = ManualClock(START)
    bus = bus if bus is not None else MemoryBus()
    gateway = Gateway(GatewaySettings(**given), bus, clock)
    try:
        await gateway.prepare()
        if workers:
            gateway.start_workers()
            await until(lambda: is_ready(gateway))
        yield Running(gateway, bus, clock)
    finally:
        gateway.wakeups.close()
        await gateway.close()


async def is_ready(gateway: Gateway) -> bool:
    return (await gateway.watch.readiness()).ready


async def until(condition: Callable[[], object], within_s: float = 60.0) -> None:
    """Wait for a condition; an awaitable one is awaited."""
    deadline = time.monotonic() + within_s
    while True:
        result = condition()
        if asyncio.iscoroutine(result):
            result = await result
        if result:
            return
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.02)


async def count(url: str, table: str) -> int:
    """The rows of a table."""
    connection = await asyncpg.connect(dsn(url))
    try:
        return await connection.fetchval(f"SELECT count(*) FROM {table}")
    finally:
        await connection.close()


async def submit(client: httpx.AsyncClient, **fields: object) -> str:
    """The id of a job that was accepted."""
    response = await client.post("/v1/jobs", json={**JOB, **fields})
    assert response.status_code == 202, response.text
    return response.json()["id"]
