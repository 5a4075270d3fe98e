"""What is over long enough to leave: ended jobs with their history, and the history of what is no job."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    import asyncpg

_ENDED = "SELECT id FROM jobs WHERE finished_at < $1 ORDER BY finished_at LIMIT $2"
# The newest row stays whatever its age: the projector and followers count on from its position.
_FORGET_HISTORY = "DELETE FROM history WHERE subject = ANY($1::text[]) AND seq < (SELECT max(seq) FROM history)"
_KEEP_LABELS = """
UPDATE runs r SET labels = j.labels FROM jobs j WHERE j.id = ANY($1::text[]) AND r.job_id = j.id AND r.labels IS NULL"""
# A placement that was read after its job's outcome (projection.py) took nothing, and nobody would remove it any more.
_FORGET_PLANS = "DELETE FROM runs WHERE job_id = ANY($1::text[]) AND ended_at IS NULL"
_FORGET_JOBS = "DELETE FROM jobs WHERE id = ANY($1::text[])"
# Rows are in the order of their arrival, so the old ones come first. Those of a job that is still there stay, however old.
_SWEEP = """
WITH slice AS (SELECT seq, subject, "time" FROM history WHERE seq > $1 ORDER BY seq LIMIT $2), gone AS (
  DELETE FROM history h USING slice s
  WHERE h.seq = s.seq AND s."time" < $3 AND h.seq < (SELECT max(seq) FROM history)
    AND NOT EXISTS (SELECT FROM jobs j WHERE j.id = s.subject))
SELECT max(seq) FROM slice WHERE "time" < $3"""


async def ended_before(connection: asyncpg.Connection, before: datetime, limit: int) -> list[str]:
    """Ids of jobs that have ended before, those that ended first coming first."""
    return [row[0] for row in await connection.fetch(_ENDED, before, limit)]


async def forget_jobs(connection: asyncpg.Connection, ids: Sequence[str]) -> None:
    """Delete jobs with their history. What their runs took stays: it is usage, not history."""
    async with connection.transaction():
        await connection.execute(_FORGET_HISTORY, ids)
        await connection.execute(_FORGET_PLANS, ids)
        await connection.execute(_KEEP_LABELS, ids)
        await connection.execute(_FORGET_JOBS, ids)


async def sweep_history(connection: asyncpg.Connection, before: datetime, after_seq: int, limit: int) -> int:
    """Delete old rows about routes and jobs no longer there among the next ``limit``; where to go on, 0 at the end."""
    reached: int | None = await connection.fetchval(_SWEEP, after_seq, limit, before)
    return reached or 0
