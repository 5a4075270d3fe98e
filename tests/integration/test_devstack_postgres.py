import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from devstack.postgres import DevstackError, PostgresServer
from tests.processes import ends, has_ended


async def run(url: str, *statements: str) -> list[tuple[object, ...]]:
    engine = create_async_engine(url)
    try:
        async with engine.begin() as connection:
            for statement in statements:
                result = await connection.execute(text(statement))
            return [tuple(row) for row in result.all()] if result.returns_rows else []
    finally:
        await engine.dispose()


async def test_each_test_gets_an_empty_database(postgres_url: str) -> None:
    await run(postgres_url, "CREATE TABLE mine (a int)")
    assert await run(postgres_url, "SELECT count(*) FROM pg_tables WHERE tablename = 'mine'") == [(1,)]


async def test_the_next_test_does_not_see_its_tables(postgres_url: str) -> None:
    assert await run(postgres_url, "SELECT count(*) FROM pg_tables WHERE tablename = 'mine'") == [(0,)]


async def test_a_commit_is_durable_by_setting(postgres_url: str) -> None:
    assert await run(postgres_url, "SELECT current_setting('fsync'), current_setting('synchronous_commit')") == [
        ("on", "on")
    ]


async def test_data_and_port_survive_a_kill(tmp_path: Path) -> None:
    with PostgresServer(tmp_path / "pg") as server:
        url = server.url
        await run(url, "CREATE TABLE kept AS SELECT 1 AS a")
        server.kill()
        assert server.pid is None
        server.start()
        assert server.url == url
        assert await run(url, "SELECT a FROM kept") == [(1,)]
    with PostgresServer(tmp_path / "pg") as server:
        assert await run(server.url, "SELECT a FROM kept") == [(1,)]


def test_a_taken_port_is_named_with_a_cure(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(DevstackError, match=f"port {port} is taken") as error:
            PostgresServer(tmp_path / "pg", port=port).start()
    assert "choose another port" in error.value.cure


def test_a_second_server_on_the_same_data_is_refused(tmp_path: Path) -> None:
    with PostgresServer(tmp_path / "pg") as server:
        with pytest.raises(DevstackError, match="another PostgreSQL uses"):
            PostgresServer(tmp_path / "pg").start()
        assert server.is_running


@pytest.mark.filterwarnings("ignore:.*:ResourceWarning")  # the engine of a refused connection
async def test_another_local_user_needs_the_password(postgres_url: str) -> None:
    user, rest = postgres_url.removeprefix("postgresql+asyncpg://").split(":", 1)
    address = rest.split("@", 1)[1]
    with pytest.raises(Exception, match="password authentication failed"):
        await run(f"postgresql+asyncpg://{user}:wrong@{address}", "SELECT 1")


def test_no_server_is_left_when_its_parent_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys, time; from devstack.postgres import PostgresServer\n"
        "print(PostgresServer(sys.argv[1]).start().pid, flush=True); time.sleep(100)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "pg")], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert not has_ended(pid)
        os.kill(parent.pid, signal.SIGKILL)
    with PostgresServer(tmp_path / "pg") as server:  # at once: the old one may still be ending
        assert asyncio.run(run(server.url, "SELECT 1")) == [(1,)]
    assert ends(pid)
