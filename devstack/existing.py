"""A Kafka and a PostgreSQL that were there before: a replay begins only where no other one has left its records.

Jobs, prices and decisions of another replay lie in another scenario time; cores that fold both decide nonsense. What is not
ours is never emptied, so that --fresh cannot forget it: it is refused instead.
"""

import asyncio
import contextlib

import asyncpg

from devstack.errors import DevstackError
from solyx.bus.kafka import KafkaBus
from solyx.bus.port import Transient
from solyx.database import CONNECT_TIMEOUT_S, dsn
from solyx.topics import TOPICS

__all__ = ["require_unused", "unusable_kafka"]

_GO_ON = "go on with the state directory that belongs to it (--state DIR)"


def require_unused(*, kafka: str, database: str) -> None:
    """For a replay that begins; an empty address is not looked at.

    Raises:
        DevstackError: there is something already, or no answer; it says what to do.
    """
    if kafka and not _kafka_is_unused(kafka):
        raise DevstackError(
            f"Kafka at {kafka} holds the records of another installation, and ./run empties only what it started itself",
            f"{_GO_ON}, delete Solyx's topics there, or name another cluster in SOLYX_KAFKA_BOOTSTRAP_SERVERS",
        )
    if database and not asyncio.run(_database_is_unused(database)):
        raise DevstackError(
            "the database in SOLYX_DATABASE_URL holds the jobs of another installation, and ./run empties only what it"
            " started itself",
            f"{_GO_ON}, or name an empty database",
        )


def _kafka_is_unused(servers: str) -> bool:
    try:
        with KafkaBus(servers, client_name="devstack") as bus:
            bus.ensure_topics(TOPICS)
            with contextlib.closing(bus.tail([topic.name for topic in TOPICS])) as tail:
                return tail.caught_up()  # before anything was read: there is nothing
    except (Transient, ValueError) as error:
        raise unusable_kafka(servers, error) from error


def unusable_kafka(servers: str, error: Exception) -> DevstackError:
    """In words."""
    return DevstackError(
        f"Kafka at {servers} is not usable ({error})", "check SOLYX_KAFKA_BOOTSTRAP_SERVERS, or unset it"
    )


async def _database_is_unused(url: str) -> bool:
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            connection = await asyncpg.connect(dsn(url))
    except (OSError, TimeoutError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        why = str(error) or f"no answer in {CONNECT_TIMEOUT_S:g} s"
        raise DevstackError(
            f"the database in SOLYX_DATABASE_URL is not usable ({why})", "check SOLYX_DATABASE_URL, or unset it"
        ) from error
    try:
        if await connection.fetchval("SELECT to_regclass('history')") is None:
            return True
        return not await connection.fetchval("SELECT EXISTS (SELECT FROM jobs) OR EXISTS (SELECT FROM history)")
    finally:
        await connection.close()
