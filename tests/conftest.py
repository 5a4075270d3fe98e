"""For every test: a real broker and a real database on demand, one of each per session (and per xdist worker).

They start when the first test asks for them, live in a temporary directory, and leave nothing behind.
"""

import uuid
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest
from hypothesis import settings

from devstack.broker import KafkaBroker
from devstack.postgres import PostgresServer

settings.register_profile("solyx", deadline=None)  # how fast this machine is, is a benchmark's work
settings.load_profile("solyx")


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    """A running broker. Tests choose topic names and group ids of their own: it is shared by the session."""
    with KafkaBroker(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A running server; most tests want `postgres_url`."""
    with PostgresServer(tmp_path_factory.mktemp("postgres")) as server:
        yield server


@pytest.fixture
async def postgres_url(postgres_server: PostgresServer) -> AsyncIterator[str]:
    """The SQLAlchemy URL of an empty database, dropped after the test, with its connections."""
    name = f"test_{uuid.uuid4().hex}"
    await _execute(postgres_server, f"CREATE DATABASE {name}")
    yield postgres_server.url_of(name)
    await _execute(postgres_server, f"DROP DATABASE {name} WITH (FORCE)")


async def _execute(server: PostgresServer, statement: str) -> None:
    connection = await asyncpg.connect(server.url.replace("+asyncpg", ""))
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
