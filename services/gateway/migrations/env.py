"""Alembic's entry: runs on the connection that the store hands over, or from the command line on SOLYX_DATABASE_URL."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from alembic import context

from services.gateway.settings import GatewaySettings
from services.gateway.store.tables import METADATA
from solyx.database import make_engine
from solyx.settings import load

if TYPE_CHECKING:
    from sqlalchemy import Connection


def run(connection: Connection) -> None:
    """All or nothing: PostgreSQL's DDL is transactional."""
    context.configure(connection=connection, target_metadata=METADATA, compare_type=True)
    with context.begin_transaction():
        context.run_migrations()


async def run_alone() -> None:
    """From the command line (``alembic revision --autogenerate``)."""
    engine = make_engine(load(GatewaySettings, "gateway").database_url)
    async with engine.begin() as connection:
        await connection.run_sync(run)
    await engine.dispose()


given: Connection | None = context.config.attributes.get("connection")
if given is None:
    asyncio.run(run_alone())
else:
    run(given)
