"""Brings the database to this version, one process at a time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config

from solyx.database import make_engine, with_lock

if TYPE_CHECKING:
    from sqlalchemy import Connection

# Advisory locks of this installation; any numbers that no other program in the database uses ("sol" and a count).
MIGRATION_LOCK = 0x736F6C01
RELAY_LOCK = 0x736F6C02
PROJECTOR_LOCK = 0x736F6C03
BOOTSTRAP_LOCK = 0x736F6C04

_SCRIPTS = Path(__file__).parent.parent / "migrations"


def alembic_config() -> Config:
    """Alembic's settings; it needs no file."""
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS))
    config.set_main_option("path_separator", "os")
    return config


async def migrate(url: str) -> None:
    """Run what has not run yet. A second process waits for the first and then finds nothing to do.

    Raises:
        Exception: whatever the database says; ``solyx.database.is_transient`` tells a server that is not there yet.
    """

    def upgrade(connection: Connection) -> None:
        config = alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")

    async def work() -> None:
        engine = make_engine(url, pool_size=1)
        try:
            async with engine.begin() as connection:
                await connection.run_sync(upgrade)
        finally:
            await engine.dispose()

    await with_lock(url, MIGRATION_LOCK, work)
