"""PostgreSQL: one engine for what is comfortable (SQLAlchemy), raw asyncpg for what is hot (COPY, LISTEN, long-lived sessions).

Which error is transient is decided here once: a lost or refused connection, a server that starts or stops, a serialisation
failure. Everything else is a bug or a violated constraint and is not retried.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import asyncpg
from sqlalchemy.exc import DBAPIError, InterfaceError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

CONNECT_TIMEOUT_S = 5.0
COMMAND_TIMEOUT_S = 30.0
POOL_TIMEOUT_S = 5.0

_TRANSIENT: tuple[type[BaseException], ...] = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a connection that was cut between two messages of one statement
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.IdleSessionTimeoutError,
    asyncpg.TooManyConnectionsError,
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.DiskFullError,
    ConnectionError,
    TimeoutError,
    asyncio.TimeoutError,
    OSError,
    PoolTimeout,
)


def is_transient(error: BaseException) -> bool:
    """Whether the same statement may succeed in a while."""
    if isinstance(error, _TRANSIENT):
        return True
    if isinstance(error, DBAPIError):
        cause = error.orig.__cause__ if error.orig is not None else None
        return error.connection_invalidated or isinstance(error, InterfaceError) or isinstance(cause, _TRANSIENT)
    return False


def dsn(url: str) -> str:
    """The address as asyncpg wants it, from SQLAlchemy's."""
    return url.replace("postgresql+asyncpg://", "postgresql://", 1)


def make_engine(url: str, *, pool_size: int = 8) -> AsyncEngine:
    """A pool of checked connections; nothing is connected yet."""
    address = url.replace("postgresql://", "postgresql+asyncpg://", 1)
    return create_async_engine(
        address,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=POOL_TIMEOUT_S,
        pool_pre_ping=True,  # a restarted server costs no request
        connect_args={
            "timeout": CONNECT_TIMEOUT_S,
            "command_timeout": COMMAND_TIMEOUT_S,
            "server_settings": {"application_name": "solyx"},
        },
    )


async def connect(url: str, *, name: str, command_timeout_s: float = COMMAND_TIMEOUT_S) -> asyncpg.Connection:
    """One connection of its own, outside the pool.

    Raises:
        OSError, asyncpg.PostgresError: no connection; ``is_transient`` says whether to try again.
    """
    return await asyncpg.connect(
        dsn(url),
        timeout=CONNECT_TIMEOUT_S,  # pyright: ignore[reportArgumentType] - asyncpg documents a float
        command_timeout=command_timeout_s,
        server_settings={"application_name": name},
    )


async def raw(connection: AsyncConnection) -> asyncpg.Connection:
    """The asyncpg connection below, for COPY. Inside a transaction only after a first statement: SQLAlchemy begins late."""
    pooled = await connection.get_raw_connection()
    return cast("asyncpg.Connection", pooled.driver_connection)


async def with_lock(url: str, lock: int, work: Callable[[], Awaitable[None]]) -> None:
    """Do ``work`` while holding an advisory lock: one process at a time in the whole installation."""
    connection = await connect(url, name="solyx-lock", command_timeout_s=300.0)
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", lock)
        await work()
    finally:
        await connection.close()  # frees the lock
