"""The read model: exactly once, whatever is cut, and whole again from the log alone."""

import asyncio
import json

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection
from sqlalchemy.dialects.postgresql.base import ischema_names

from services.gateway.store.tables import METADATA, Xid8
from solyx.bus.memory import MemoryBus
from solyx.database import dsn, make_engine
from solyx.events import RouteDecided, RouteReason
from solyx.security import Role
from tests.gateway_app import Running, running, until
from tests.gateway_events import at, finished, life, placed, record, submitted

KILL = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE application_name = 'solyx-gateway-projector' AND datname = current_database()"
)


async def fetch(url: str, query: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(dsn(url))
    try:
        return await connection.fetch(query)
    finally:
        await connection.close()


async def test_a_projector_killed_in_the_middle_counts_every_event_once(postgres_url: str) -> None:
    bus = MemoryBus()
    async with running(postgres_url, bus=bus, projector_batch=50) as gateway:
        killer = await asyncpg.connect(dsn(postgres_url))
        jobs = [f"j{number}" for number in range(120)]
        for number, job in enumerate(jobs):
            gateway.publish(*life(job))
            if number % 25 == 12:
                await killer.execute(KILL)
            await asyncio.sleep(0.005)

        async def all_there() -> bool:
            return await killer.fetchval("SELECT count(*) FROM history") >= len(jobs) * len(life())

        await until(all_there)
        states = await killer.fetch("SELECT state, count(*) FROM jobs GROUP BY state")
        assert [tuple(row) for row in states] == [("succeeded", len(jobs))]
        assert await killer.fetchval("SELECT count(*) FROM history") == len(jobs) * len(life())
        await killer.close()


async def test_an_event_published_twice_is_in_the_history_once(postgres_url: str) -> None:
    async with running(postgres_url) as gateway:
        gateway.publish(*life(), *life())
        gateway.publish(*life("j2"))

        async def arrived() -> bool:
            return bool(await fetch(postgres_url, "SELECT 1 FROM jobs WHERE id = 'j2' AND state = 'succeeded'"))

        await until(arrived)
    rows = await fetch(postgres_url, "SELECT count(*) FROM history WHERE subject = 'j1'")
    assert rows[0][0] == len(life())


async def test_after_a_restart_it_goes_on_from_its_own_offsets(postgres_url: str) -> None:
    bus = MemoryBus()
    async with running(postgres_url, bus=bus) as gateway:
        gateway.publish(*life("j1"))
        await until_history(postgres_url, len(life()))
    publisher = bus.publisher(name="test")
    publisher.publish([record(event) for event in life("j2")])
    async with running(postgres_url, bus=bus):
        await until_history(postgres_url, 2 * len(life()))
    seqs = [row[0] for row in await fetch(postgres_url, "SELECT seq FROM history ORDER BY seq")]
    assert seqs == list(range(1, 2 * len(life()) + 1))


async def until_history(url: str, count: int) -> None:
    async def reached() -> bool:
        return (await fetch(url, "SELECT count(*) FROM history"))[0][0] >= count

    await until(reached)


async def test_the_read_model_is_rebuilt_from_the_log_alone(postgres_url: str) -> None:
    bus = MemoryBus()
    async with running(postgres_url, bus=bus, workers=False) as gateway:
        gateway.publish(*life("j1"), placed("j2"))
        gateway.gateway.start_workers()
        async with gateway.client("admin", Role.ADMIN) as admin:

            async def rebuilt() -> bool:
                return (await admin.get("/v1/jobs/j2")).status_code == 200

            await until(rebuilt)
            j1, j2 = [(await admin.get(f"/v1/jobs/{job}")).json() for job in ("j1", "j2")]
    assert (j1["state"], j1["tenant"], j1["spec"]["image"]) == ("succeeded", "acme", "busybox")
    assert (j2["state"], j2["tenant"], j2["spec"]["image"]) == ("placed", "acme", "busybox")


async def test_an_outcome_read_before_the_submission_waits_for_it(postgres_url: str) -> None:
    async with running(postgres_url) as gateway, gateway.client("admin", Role.ADMIN) as admin:
        gateway.publish(finished())

        async def state() -> str:
            response = await admin.get("/v1/jobs/j1")
            return f"{response.json()['state']}/{response.json()['tenant']}" if response.status_code == 200 else ""

        await until(lambda: is_equal(state(), "succeeded/"))
        gateway.publish(submitted(labels={"a": "b"}))
        await until(lambda: is_equal(state(), "succeeded/acme"))
        assert (await admin.get("/v1/jobs/j1")).json()["labels"] == {"a": "b"}


async def is_equal(waiting: object, expected: str) -> bool:
    return await waiting == expected  # type: ignore[misc]


async def test_unreadable_records_do_not_stop_it(postgres_url: str) -> None:
    bus = MemoryBus()
    async with running(postgres_url, bus=bus) as gateway:
        good = record(placed("j1"))
        bus.append([type(good)("placements", "oslo/j0", "oslo", b"\x00{", good.headers)])
        bus.append([type(good)("placements", "oslo/j0", "oslo", None, [])])
        gateway.publish(placed("j1"))
        await until_history(postgres_url, 1)
        assert gateway.gateway.projector_worker.state == "leading"


async def test_a_replica_that_writes_the_read_model_no_more_keeps_no_lag(postgres_url: str) -> None:
    slow = {"projector_batch": 1, "projector_pause_s": 0.1, "ready_max_lag": 5}
    bus = MemoryBus()
    async with running(postgres_url, bus=bus, **slow) as first, running(postgres_url, bus=bus, **slow) as second:

        async def shown(replica: Running) -> tuple[int, int | None]:
            async with replica.client() as client:
                answer = await client.get("/readyz")
            return answer.status_code, answer.json()["lag_records"]

        assert await shown(second) == (200, None), "it stands by"
        first.publish(*(event for number in range(100) for event in life(f"j{number}")))

        async def is_behind() -> bool:
            status, lag = await shown(first)
            return status == 503 and lag is not None and lag > 5

        await until(is_behind)
        first.gateway.projector_worker.ask_to_stop()
        await asyncio.to_thread(first.gateway.projector_worker.join)
        assert (await shown(first))[1] is None


# --- events ----------------------------------------------------------------------------------------------------------


def frames(body: str) -> list[tuple[int, str, dict[str, object]]]:
    found = []
    for frame in body.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in frame.splitlines() if ": " in line and not line.startswith(":"))
        if "id" in lines:
            found.append((int(lines["id"]), lines["event"], json.loads(lines["data"])))
    return found


async def read_events(
    gateway: Running, query: str, tenant: str = "acme", **headers: str
) -> list[tuple[int, str, dict]]:
    async with gateway.client(tenant) as client:
        response = await client.get(f"/v1/events?{query}", headers={k.replace("_", "-"): v for k, v in headers.items()})
        assert response.status_code == 200, response.text
        assert response.headers["content-type"].startswith("text/event-stream")
        return frames(response.text)


async def test_a_stream_resumes_after_the_last_event_it_saw(postgres_url: str) -> None:
    async with running(postgres_url) as gateway:
        gateway.publish(*life("j1"), *life("j2"))
        await until_history(postgres_url, 2 * len(life()))
        whole = await read_events(gateway, f"after=0&limit={2 * len(life())}")
        assert [seq for seq, _, _ in whole] == sorted(seq for seq, _, _ in whole)
        head = await read_events(gateway, "after=0&limit=9")
        rest = await read_events(gateway, "limit=15", Last_Event_ID=str(head[-1][0]))
        assert head + rest == whole
        assert whole[0][2]["figures"] is not None


async def test_a_stream_too_many_is_refused_and_one_that_has_ended_makes_room(postgres_url: str) -> None:
    async with running(postgres_url, streams_per_key=1) as gateway, gateway.client() as client:
        first = asyncio.create_task(client.get("/v1/events?after=0&limit=1"))
        async with asyncio.timeout(30):
            while not len(gateway.gateway.parts.streams):  # noqa: ASYNC110 - the request above fills it
                await asyncio.sleep(0.05)
        refused = await client.get("/v1/events?after=0&limit=1")
        assert (refused.status_code, refused.json()["type"]) == (429, "/problems/too-many-requests")
        gateway.publish(*life("j1"))
        assert (await first).status_code == 200
        assert (await client.get("/v1/events?after=0&limit=1")).status_code == 200
        assert len(gateway.gateway.parts.streams) == 0


async def test_a_stream_is_narrowed_to_types_and_a_job(postgres_url: str) -> None:
    async with running(postgres_url) as gateway:
        gateway.publish(*life("j1"), *life("j2"))
        await until_history(postgres_url, 2 * len(life()))
        placed_only = await read_events(gateway, "after=0&limit=4&type=job.placed.v1")
        assert {kind for _, kind, _ in placed_only} == {"io.solyx.job.placed.v1"}
        own = await read_events(gateway, f"after=0&limit={len(life())}&job=j2")
        assert {data["subject"] for _, _, data in own} == {"j2"}
        async with gateway.client() as client:
            response = await client.get("/v1/events?type=job.unheard.of")
            assert response.json()["errors"][0]["field"] == "type"
            assert (await client.get("/v1/events", headers={"Last-Event-ID": "x"})).status_code == 422


async def test_a_stream_shows_a_tenant_its_own_and_what_is_nobodys(postgres_url: str) -> None:
    route = RouteDecided(
        source="a", target="b", revision=1, path=("a", "b"), reason=RouteReason.FIRST, decided_at=at(0)
    )
    async with running(postgres_url) as gateway:
        gateway.publish(*life("j1", "acme"), *life("j2", "other"), route)
        await until_history(postgres_url, 2 * len(life()) + 1)
        seen = await read_events(gateway, f"after=0&limit={len(life()) + 1}", tenant="other")
        assert {data["subject"] for _, _, data in seen} == {"j2", "a>b"}


async def test_a_listener_hears_of_new_events_without_asking_again(postgres_url: str) -> None:
    async with running(postgres_url, poll_s=30.0) as gateway:
        listening = asyncio.create_task(gateway.gateway.wakeups.listen())
        reading = asyncio.create_task(read_events(gateway, "limit=3"))
        await until(lambda: len(gateway.gateway.parts.streams))  # from now on: what was there before is not its own
        gateway.publish(*life("j1")[:3])
        events = await asyncio.wait_for(reading, 20)
        assert [data["subject"] for _, _, data in events] == ["j1"] * 3
        listening.cancel()


async def test_what_was_said_before_somebody_listened_is_heard_of_when_somebody_does(postgres_url: str) -> None:
    async with running(postgres_url, poll_s=30.0) as gateway:
        reading = asyncio.create_task(read_events(gateway, "limit=3"))
        await until(lambda: len(gateway.gateway.parts.streams))
        gateway.publish(*life("j1")[:3])
        await until_history(postgres_url, 3)
        listening = asyncio.create_task(gateway.gateway.wakeups.listen())
        assert len(await asyncio.wait_for(reading, 20)) == 3
        listening.cancel()


# --- schema ----------------------------------------------------------------------------------------------------------


async def test_the_migrations_make_the_tables_that_the_queries_use(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ischema_names, "xid8", Xid8)

    def differences(connection: Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection), METADATA))

    async with running(postgres_url, workers=False):
        engine = make_engine(postgres_url, pool_size=1)
        async with engine.connect() as connection:
            found = await connection.run_sync(differences)
        await engine.dispose()
    assert [one for one in found if "alembic_version" not in str(one)] == []


async def test_gateways_that_start_together_migrate_once(postgres_url: str) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(start_and_stop(postgres_url))
    assert len(await fetch(postgres_url, "SELECT * FROM alembic_version")) == 1


async def start_and_stop(url: str) -> None:
    async with running(url, workers=False):
        pass


@pytest.mark.parametrize("batch", [1, 7, 1000])
async def test_the_cut_into_batches_changes_nothing(postgres_url: str, batch: int) -> None:
    async with running(postgres_url, projector_batch=batch) as gateway:
        gateway.publish(*life("j1"), *life("j2"))
        await until_history(postgres_url, 2 * len(life()))
    rows = await fetch(postgres_url, "SELECT id, state, site, revision, started_at, finished_at FROM jobs ORDER BY id")
    assert [tuple(row) for row in rows] == [(job, "succeeded", "bergen", 2, at(2.2), at(2.7)) for job in ("j1", "j2")]
