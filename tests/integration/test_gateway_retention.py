"""Ended jobs leave the read model and the topic of jobs, and nothing else does."""

import asyncio

import asyncpg
import pytest

from services.gateway.service import retention
from solyx.bus.memory import MemoryBus
from solyx.bus.port import Received, Transient
from solyx.database import dsn
from solyx.events import RouteDecided, RouteReason
from solyx.security import Role
from tests.gateway_app import Running, running, until
from tests.gateway_events import at, finished, life, placed, ran, submitted

DAY_S = 24 * 3600.0


@pytest.fixture(autouse=True)
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "LOOK_EVERY_S", 0.05)
    monkeypatch.setattr(retention, "NEXT_BATCH_S", 0.0)


async def fetch(url: str, query: str) -> list[tuple[object, ...]]:
    connection = await asyncpg.connect(dsn(url))
    try:
        return [tuple(row) for row in await connection.fetch(query)]
    finally:
        await connection.close()


async def until_rows(url: str, query: str, expected: list[tuple[object, ...]]) -> None:
    async def equal() -> bool:
        return await fetch(url, query) == expected

    await until(equal)


def records_of_jobs(gateway: Running) -> list[Received]:
    tail = gateway.bus.tail(["jobs"])
    records = list(tail.read(max_records=10_000, timeout_s=0.0))
    tail.close()
    return records


def tombstones(gateway: Running) -> list[str]:
    return [record.key for record in records_of_jobs(gateway) if record.value is None]


JOBS = "SELECT id FROM jobs ORDER BY id"
SUBJECTS = "SELECT DISTINCT subject FROM history ORDER BY subject"


async def test_a_job_leaves_after_its_retention_and_one_that_goes_on_does_not(postgres_url: str) -> None:
    async with running(postgres_url, retention_days=30) as gateway, gateway.client("admin", Role.ADMIN) as admin:
        gateway.publish(*life("j1"))
        await until_rows(postgres_url, "SELECT count(*) FROM history", [(len(life()),)])
        gateway.publish(submitted("j2"), placed("j2"))
        await until_rows(postgres_url, SUBJECTS, [("j1",), ("j2",)])
        gateway.clock.advance(29 * DAY_S)
        await asyncio.sleep(0.3)
        assert tombstones(gateway) == []
        gateway.clock.advance(2 * DAY_S)
        await until_rows(postgres_url, JOBS, [("j2",)])
        await until_rows(postgres_url, SUBJECTS, [("j2",)])
        assert tombstones(gateway) == ["j1"]
        assert (await admin.get("/v1/jobs/j1")).status_code == 404
        assert (await admin.get("/v1/jobs/j2")).json()["state"] == "placed"
        assert [entry["id"] for entry in (await admin.get("/v1/jobs")).json()["jobs"]] == ["j2"]


async def test_what_a_job_took_stays_when_the_job_leaves(postgres_url: str) -> None:
    async with running(postgres_url, retention_days=1) as gateway:
        gateway.publish(submitted("j1"), placed("j1"), finished(job="j1", runs=(ran(),)), submitted("j2"))
        await until_rows(postgres_url, "SELECT count(*) FROM history", [(4,)])
        gateway.clock.advance(3 * DAY_S)
        await until_rows(postgres_url, JOBS, [("j2",)])
        assert await fetch(postgres_url, "SELECT job_id, gpu_h FROM runs") == [("j1", 2.0)]


async def test_a_plan_that_was_read_after_the_outcome_leaves_with_its_job(postgres_url: str) -> None:
    async with running(postgres_url, retention_days=1) as gateway:
        gateway.publish(submitted("j1"), finished(job="j1", runs=()))
        await until_rows(postgres_url, "SELECT state FROM jobs", [("succeeded",)])
        gateway.publish(placed("j1"))
        await until_rows(postgres_url, "SELECT job_id FROM runs", [("j1",)])
        gateway.clock.advance(3 * DAY_S)
        await until_rows(postgres_url, JOBS, [])
        assert await fetch(postgres_url, "SELECT job_id FROM runs") == []


async def test_many_leave_in_batches_and_the_history_goes_on_counting(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BATCH_JOBS", 7)
    monkeypatch.setattr(retention, "BATCH_HISTORY", 5)
    bus = MemoryBus()
    jobs = [f"j{number:02}" for number in range(40)]
    count = len(jobs) * len(life())
    async with running(postgres_url, bus=bus, retention_days=1) as gateway:
        gateway.publish(*(event for job in jobs for event in life(job)))
        await until_rows(postgres_url, "SELECT max(seq) FROM history", [(count,)])
        gateway.clock.advance(3 * DAY_S)
        await until_rows(postgres_url, JOBS, [])
        await until_rows(postgres_url, "SELECT seq FROM history", [(count,)])  # the newest stays
        assert sorted(tombstones(gateway)) == jobs
    async with running(postgres_url, bus=bus, retention_days=1) as gateway:
        gateway.publish(submitted("later"))
        await until_rows(postgres_url, "SELECT subject FROM history WHERE seq > " + str(count), [("later",)])


async def test_old_history_of_routes_leaves_too(postgres_url: str) -> None:
    route = RouteDecided(
        source="oslo", target="bergen", revision=1, path=("oslo", "bergen"), reason=RouteReason.FIRST, decided_at=at(0)
    )
    async with running(postgres_url, retention_days=1) as gateway:
        gateway.publish(route)
        await until_rows(postgres_url, SUBJECTS, [("oslo>bergen",)])
        gateway.publish(submitted("j2"))
        await until_rows(postgres_url, "SELECT count(*) FROM history", [(2,)])
        gateway.clock.advance(3 * DAY_S)
        await until_rows(postgres_url, SUBJECTS, [("j2",)])


async def test_without_retention_everything_stays(postgres_url: str) -> None:
    async with running(postgres_url, retention_days=0) as gateway:
        gateway.publish(*life("j1"))
        await until_rows(postgres_url, "SELECT state FROM jobs", [("succeeded",)])
        gateway.clock.advance(10_000 * DAY_S)
        await asyncio.sleep(0.3)
        assert await fetch(postgres_url, JOBS) == [("j1",)]
        assert tombstones(gateway) == []


async def test_rows_stay_until_the_broker_has_the_tombstones(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker that is away when they are published: the relay begins anew, and the second time both happen."""
    failures = iter([True, True])
    forgotten: list[list[str]] = []
    forget = retention.retention.forget_jobs

    class Publisher:
        def __init__(self, inner: object) -> None:
            self.inner = inner

        def publish(self, records: list, **options: object) -> None:
            if any(record.value is None for record in records) and next(failures, False):
                assert forgotten == []
                raise Transient("broker away", after_s=0.01)
            self.inner.publish(records, **options)  # type: ignore[attr-defined]

        def close(self) -> None:
            self.inner.close()  # type: ignore[attr-defined]

    async def noted(connection: asyncpg.Connection, ids: list[str]) -> None:
        forgotten.append(list(ids))
        await forget(connection, ids)

    monkeypatch.setattr(retention.retention, "forget_jobs", noted)
    bus = MemoryBus()
    make = bus.publisher
    monkeypatch.setattr(bus, "publisher", lambda *, name: Publisher(make(name=name)))
    async with running(postgres_url, bus=bus, retention_days=1) as gateway:
        gateway.publish(*life("j1"), submitted("j2"))
        await until_rows(postgres_url, "SELECT state FROM jobs WHERE id = 'j1'", [("succeeded",)])
        gateway.clock.advance(3 * DAY_S)
        await until_rows(postgres_url, JOBS, [("j2",)])
        assert forgotten == [["j1"]]
        assert tombstones(gateway) == ["j1"]


async def test_a_read_model_rebuilt_behind_a_tombstone_loses_the_job_again(postgres_url: str) -> None:
    """Compaction has dropped its submission; its outcome is still in `placements`."""
    async with running(postgres_url, retention_days=1) as gateway:
        gateway.clock.advance(3 * DAY_S)
        gateway.bus.append([retention.tombstone("j1")])  # type: ignore[attr-defined]
        gateway.publish(finished(job="j1"), submitted("j2"))
        await until_rows(postgres_url, "SELECT max(seq) FROM history", [(2,)])
        await until_rows(postgres_url, JOBS, [("j2",)])
