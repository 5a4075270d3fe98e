"""The outbox from the relay's side: rows below the snapshot's horizon in the order of their transactions.

A sequence's order is not the order of commits, so "rows after the last I saw" loses those that commit late. Transactions
below ``pg_snapshot_xmin`` have all ended: what is visible of them is complete, and sorting by (xid, seq) gives every relay
the same order. So publishing a prefix and then deleting exactly this prefix loses nothing.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import msgspec
from sqlalchemy import text

if TYPE_CHECKING:
    import asyncpg
    from sqlalchemy.ext.asyncio import AsyncConnection


class OutboxRow(msgspec.Struct, frozen=True):
    """One event to publish. Field names are the router's."""

    xid: int
    seq: int
    id: str
    aggregatetype: str  # topic
    aggregateid: str  # key
    type: str
    payload: bytes
    traceparent: str | None
    time: datetime


class Position(msgspec.Struct, frozen=True):
    """A place in the order of publication."""

    xid: int
    seq: int


BEGINNING = Position(0, 0)

# The lower bound keeps the scan away from index entries of rows deleted a moment ago, until vacuum has removed them.
_READ = """
SELECT xid::text::bigint, seq, id, aggregatetype, aggregateid, type, payload, traceparent, "time"
FROM outbox
WHERE xid < pg_snapshot_xmin(pg_current_snapshot()) AND (xid, seq) > ($1::text::xid8, $2)
ORDER BY xid, seq LIMIT $3"""
_DELETE = "DELETE FROM outbox WHERE (xid, seq) > ($1::text::xid8, $2) AND (xid, seq) <= ($3::text::xid8, $4)"
_WAITING = "SELECT EXISTS (SELECT FROM outbox WHERE (xid, seq) > ($1::text::xid8, $2))"
_OLDEST = text("SELECT extract(epoch FROM clock_timestamp() - min(inserted_at))::float8 FROM outbox")

LEAST_AGE_S = 0.001
"""What a row's age is at least, so that 0 means that there is none."""


async def read(connection: asyncpg.Connection, after: Position, limit: int) -> list[OutboxRow]:
    """The next rows to publish."""
    rows = await connection.fetch(_READ, str(after.xid), after.seq, limit)
    return [OutboxRow(*row) for row in rows]


async def is_waiting(connection: asyncpg.Connection, after: Position) -> bool:
    """Whether there are rows that an older transaction, still under way, holds back."""
    return bool(await connection.fetchval(_WAITING, str(after.xid), after.seq))


async def delete(connection: asyncpg.Connection, after: Position, through: Position) -> None:
    """Forget what was published: the rows that ``read`` returned after ``after``, up to ``through``."""
    await connection.execute(_DELETE, str(after.xid), after.seq, str(through.xid), through.seq)


async def oldest_age_s(connection: AsyncConnection) -> float:
    """Wall seconds since the oldest unpublished row was written; 0 when there is none, and only then."""
    age_s: float | None = await connection.scalar(_OLDEST)
    return 0.0 if age_s is None else max(age_s, LEAST_AGE_S)


async def forget_old_keys(connection: asyncpg.Connection, hours: float) -> None:
    """Drop idempotency keys whose time is over."""
    await connection.execute("DELETE FROM idempotency_keys WHERE created_at < now() - $1 * interval '1 hour'", hours)
