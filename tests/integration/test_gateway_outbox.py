"""The outbox: the order of commits, nothing lost, whatever is cut."""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from devstack.postgres import PostgresServer
from services.gateway.store import outbox
from solyx.bus.memory import MemoryBus
from solyx.bus.port import Publisher, Received, Transient
from solyx.database import dsn
from solyx.events import JobCancellationRequested, JobSubmitted, Record, decode
from tests.gateway_app import JOB, Running, running, submit, until
from tests.gateway_events import START

INSERT = """INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, "time")
VALUES ($1, 'jobs', $1, 'io.solyx.job.submitted.v1', '{}', $2)"""


async def open_connections(url: str, count: int) -> list[asyncpg.Connection]:
    return [await asyncpg.connect(dsn(url)) for _ in range(count)]


async def ids(connection: asyncpg.Connection) -> list[str]:
    return [row.id for row in await outbox.read(connection, outbox.BEGINNING, 100)]


async def test_a_late_commit_of_an_early_transaction_is_not_overtaken(postgres_url: str) -> None:
    async with running(postgres_url, workers=False):
        early, late, reader = await open_connections(postgres_url, 3)
        slow = early.transaction()
        await slow.start()
        await early.execute(INSERT, "early", START)
        await late.execute(INSERT, "late", START)
        assert await ids(reader) == [], "a row behind an open transaction would be lost if the reader went past it"
        assert await outbox.is_waiting(reader, outbox.BEGINNING)
        await slow.commit()
        assert await ids(reader) == ["early", "late"]
        for connection in (early, late, reader):
            await connection.close()


async def test_a_rolled_back_transaction_leaves_no_gap_that_blocks(postgres_url: str) -> None:
    async with running(postgres_url, workers=False):
        early, late, reader = await open_connections(postgres_url, 3)
        slow = early.transaction()
        await slow.start()
        await early.execute(INSERT, "early", START)
        await late.execute(INSERT, "late", START)
        await slow.rollback()
        assert await ids(reader) == ["late"]
        for connection in (early, late, reader):
            await connection.close()


async def test_exactly_the_published_prefix_is_deleted(postgres_url: str) -> None:
    async with running(postgres_url, workers=False):
        (connection,) = await open_connections(postgres_url, 1)
        for number in range(5):
            await connection.execute(INSERT, f"n{number}", START)
        rows = await outbox.read(connection, outbox.BEGINNING, 3)
        through = outbox.Position(rows[-1].xid, rows[-1].seq)
        await connection.execute(INSERT, "n5", START)
        await outbox.delete(connection, outbox.BEGINNING, through)
        assert await ids(connection) == ["n3", "n4", "n5"]
        assert [row.id for row in await outbox.read(connection, through, 2)] == ["n3", "n4"]
        await connection.close()


async def test_many_transactions_at_once_are_each_published_once(postgres_url: str) -> None:
    bus = MemoryBus()
    async with running(postgres_url, bus=bus) as gateway, gateway.client() as client:

        async def submit_and_cancel() -> str:
            job_id = (await client.post("/v1/jobs", json=JOB)).json()["id"]
            await client.delete(f"/v1/jobs/{job_id}")
            return job_id

        jobs = await asyncio.gather(*(submit_and_cancel() for _ in range(60)))
        await until(lambda: len(bus.records("jobs")) >= 120)
        await asyncio.sleep(0.2)
    events = [decode(record.value or b"", record.headers).event for record in bus.records("jobs")]
    assert len(events) == 120
    for job_id in jobs:
        own = [type(event) for event in events if event.key == job_id]
        assert own == [JobSubmitted, JobCancellationRequested], "in the order of their commits"


class CutBus(MemoryBus):
    """Loses the connection to the broker after it has taken the records, a few times: nobody hears that it has them."""

    def __init__(self, cuts: int) -> None:
        super().__init__()
        self.cuts = cuts

    def publisher(self, *, name: str) -> Publisher:
        publisher, bus = super().publisher(name=name), self

        class Cut:
            def publish(self, records: Sequence[Record], *, timeout_s: float = 30.0) -> None:
                publisher.publish(records, timeout_s=timeout_s)
                if bus.cuts > 0:
                    bus.cuts -= 1
                    raise Transient("cut after the broker took it")

            def close(self) -> None:
                publisher.close()

        return Cut()


def job_ids(records: Sequence[Received]) -> list[str]:
    return [record.key for record in records]


async def test_a_relay_cut_between_publishing_and_deleting_repeats_and_loses_nothing(postgres_url: str) -> None:
    bus = CutBus(cuts=2)
    async with running(postgres_url, bus=bus) as gateway, gateway.client() as client:
        accepted = {(await client.post("/v1/jobs", json=JOB)).json()["id"] for _ in range(10)}
        await until(lambda: set(job_ids(bus.records("jobs"))) == accepted and bus.cuts == 0)

        async def shown_once() -> bool:
            histories = [(await client.get(f"/v1/jobs/{job}")).json()["history"] for job in accepted]
            return all(len(history) == 1 for history in histories)

        await until(shown_once)
        (connection,) = await open_connections(postgres_url, 1)
        await until(lambda: connection.fetchval("SELECT count(*) = 0 FROM outbox"))
        await connection.close()
    assert len(bus.records("jobs")) > len(accepted), "the cut made repeats, by the same event ids"


async def test_a_relay_that_loses_its_database_goes_on_where_it_was(postgres_url: str) -> None:
    bus = MemoryBus()
    async with running(postgres_url, bus=bus, relay_batch=7) as gateway, gateway.client() as client:
        (killer,) = await open_connections(postgres_url, 1)
        accepted: set[str] = set()
        for turn in range(60):
            accepted.add((await client.post("/v1/jobs", json=JOB)).json()["id"])
            if turn % 20 == 10:
                await killer.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'solyx-gateway-relay'"
                    " AND datname = current_database()"
                )
        await until(lambda: set(job_ids(bus.records("jobs"))) == accepted)
        await killer.close()


async def test_a_second_gateway_stands_by_and_takes_over(postgres_url: str) -> None:
    bus = MemoryBus()
    async with (
        running(postgres_url, bus=bus) as leader,
        running(postgres_url, bus=bus) as standby,
        standby.client() as client,
    ):
        assert leader.gateway.relay_worker.state == "leading"
        assert standby.gateway.relay_worker.state == "standby"
        await leader.gateway.close()
        await until(lambda: standby.gateway.relay_worker.state == "leading")
        await until(lambda: standby.gateway.projector_worker.state == "leading")
        job_id = (await client.post("/v1/jobs", json=JOB)).json()["id"]
        await until(lambda: job_id in job_ids(bus.records("jobs")))


async def shown(gateway: Running) -> dict[str, Any]:
    """What /readyz says, and /metrics of the same."""
    async with gateway.client() as client:
        ready = await client.get("/readyz")
        metrics = (await client.get("/metrics")).text
    (age,) = re.findall(r"^solyx_outbox_oldest_seconds (.*)$", metrics, re.MULTILINE)
    return {**ready.json(), "status": ready.status_code, "metric": float(age)}


@asynccontextmanager
async def horizon_held(server: PostgresServer) -> AsyncIterator[None]:
    """A transaction that writes in another database of the server, as CREATE DATABASE does, holds every outbox back."""
    connection = await asyncpg.connect(dsn(server.url))
    await connection.execute("BEGIN")
    await connection.execute("SELECT pg_current_xact_id()")
    try:
        yield
    finally:
        await connection.close()


async def test_a_gateway_that_does_not_publish_yet_shows_what_waits(still: Running) -> None:
    nothing = await shown(still)
    async with still.client() as client:
        await submit(client)
    waiting = await shown(still)
    assert (nothing["relay"], nothing["oldest_unpublished_s"], nothing["metric"]) == ("starting", 0, 0)
    assert (waiting["relay"], waiting["oldest_unpublished_s"] > 0, waiting["metric"] > 0) == ("starting", True, True)


async def test_every_replica_shows_what_waits_now_and_only_the_one_that_publishes_is_unready_for_it(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    bus, patience = MemoryBus(), {"ready_max_outbox_age_s": 0.05}
    async with (
        running(postgres_url, bus=bus, **patience) as leader,
        running(postgres_url, bus=bus, **patience) as standby,
        standby.client() as client,
    ):
        async with horizon_held(postgres_server):
            await submit(client)
            at_once = [await shown(replica) for replica in (leader, standby)]
            await asyncio.sleep(0.1)
            later = [await shown(replica) for replica in (leader, standby)]
        assert [look["relay"] for look in at_once] == ["leading", "standby"]
        assert all(look["oldest_unpublished_s"] > 0 and look["metric"] > 0 for look in at_once + later)
        assert [look["status"] for look in later] == [503, 200]
        await until(lambda: len(bus.records("jobs")) == 1)

        async def nothing_waits() -> bool:
            looks = [await shown(replica) for replica in (leader, standby)]
            return all((look["oldest_unpublished_s"], look["status"]) == (0, 200) for look in looks)

        await until(nothing_waits)


async def test_a_gateway_that_stops_publishes_first_what_it_accepted(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    bus = MemoryBus()
    async with running(postgres_url, bus=bus) as gateway, gateway.client() as client:
        async with horizon_held(postgres_server):
            accepted = {await submit(client) for _ in range(3)}
            stopping = asyncio.create_task(gateway.gateway.close())
            await until(lambda: gateway.gateway.relay_worker.stopping)
            await asyncio.sleep(0.1)
            assert not bus.records("jobs")
        await stopping
        assert set(job_ids(bus.records("jobs"))) == accepted


async def test_a_gateway_that_stops_does_not_wait_for_ever_for_a_transaction_of_another(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    bus = MemoryBus()
    async with horizon_held(postgres_server):
        async with running(postgres_url, bus=bus) as gateway, gateway.client() as client:
            accepted = await submit(client)
        assert gateway.gateway.relay_worker.state == "stopped"
        assert not bus.records("jobs")
    async with running(postgres_url, bus=bus):
        await until(lambda: job_ids(bus.records("jobs")) == [accepted])


async def test_old_idempotency_keys_are_forgotten(postgres_url: str) -> None:
    async with running(postgres_url, workers=False) as gateway, gateway.client() as client:
        for key in ("old", "new"):
            await client.post("/v1/jobs", json=JOB, headers={"Idempotency-Key": key})
        (connection,) = await open_connections(postgres_url, 1)
        await connection.execute(
            "UPDATE idempotency_keys SET created_at = now() - interval '25 hours' WHERE key = 'old'"
        )
        await outbox.forget_old_keys(connection, 24)
        assert await connection.fetchval("SELECT array_agg(key) FROM idempotency_keys") == ["new"]
        await connection.close()


@pytest.mark.parametrize("table", ["jobs", "outbox"])
async def test_a_failure_inside_the_transaction_stores_nothing(postgres_url: str, table: str) -> None:
    async with running(postgres_url, workers=False) as gateway, gateway.client() as client:
        (connection,) = await open_connections(postgres_url, 1)
        await connection.execute(f"ALTER TABLE {table} ADD CONSTRAINT never CHECK (false) NOT VALID")
        with pytest.raises(asyncpg.CheckViolationError):
            await client.post("/v1/jobs", json=JOB, headers={"Idempotency-Key": "k"})
        await connection.execute(f"ALTER TABLE {table} DROP CONSTRAINT never")
        for empty in ("jobs", "outbox", "idempotency_keys"):
            assert await connection.fetchval(f"SELECT count(*) FROM {empty}") == 0
        assert (await client.post("/v1/jobs", json=JOB, headers={"Idempotency-Key": "k"})).status_code == 202
        await connection.close()
