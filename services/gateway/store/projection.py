"""Applies what the core's fold says, with the offsets it came from, in one transaction: exactly once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from solyx.bus.port import Partition

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import asyncpg

    from services.gateway.core import Changes, Entity, HistoryRow, JobChange, RunRow
    from solyx.events import Usage

HISTORY_CHANNEL = "solyx_history"

_encode = msgspec.json.Encoder().encode

_UPDATE_JOBS = """
UPDATE jobs j SET progress = u.progress, state = u.state, reason = u.reason, site = u.site, revision = u.revision,
  state_at = u.state_at, started_at = greatest(j.started_at, u.started_at), finished_at = u.finished_at
FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::integer[], $7::timestamptz[],
  $8::timestamptz[], $9::timestamptz[])
  AS u (id, progress, state, reason, site, revision, state_at, started_at, finished_at)
WHERE j.id = u.id AND j.progress < u.progress
RETURNING j.id, j.spec IS NULL"""
_KNOWN_JOBS = "SELECT id, spec IS NULL FROM jobs WHERE id = ANY($1::text[])"
_INSERT_JOBS = """
INSERT INTO jobs (id, progress, state, reason, site, revision, state_at, started_at, finished_at,
  tenant, name, spec, labels, submitted_at, traceparent)
SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::integer[], $7::timestamptz[],
  $8::timestamptz[], $9::timestamptz[], $10::text[], $11::text[], $12::json[], $13::jsonb[], $14::timestamptz[], $15::text[])
ON CONFLICT (id) DO NOTHING"""
_DESCRIBE_JOBS = """
UPDATE jobs j SET tenant = u.tenant, name = u.name, spec = u.spec, labels = u.labels, submitted_at = u.submitted_at,
  traceparent = u.traceparent
FROM unnest($1::text[], $2::text[], $3::text[], $4::json[], $5::jsonb[], $6::timestamptz[], $7::text[])
  AS u (id, tenant, name, spec, labels, submitted_at, traceparent)
WHERE j.id = u.id AND j.spec IS NULL"""
_STARTED = """
UPDATE jobs j SET started_at = u.at FROM unnest($1::text[], $2::timestamptz[]) AS u (id, at)
WHERE j.id = u.id AND (j.started_at IS NULL OR j.started_at < u.at)"""
_CANCELLING = """
UPDATE jobs j SET cancel_requested_at = u.at FROM unnest($1::text[], $2::timestamptz[]) AS u (id, at)
WHERE j.id = u.id AND j.cancel_requested_at IS NULL"""
# A record that was published twice has one event id: the second finds the first.
_HISTORY = """
INSERT INTO history (seq, event_id, type, subject, tenant, site, revision, reason, "time", figures)
SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::integer[], $8::text[],
  $9::timestamptz[], $10::jsonb[])
ON CONFLICT (subject, event_id) DO NOTHING"""
_ENTITIES = """
INSERT INTO entities AS e (kind, key, version, body, valid_until)
SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::json[], $5::timestamptz[])
ON CONFLICT (kind, key) DO UPDATE SET version = excluded.version, body = excluded.body, valid_until = excluded.valid_until
WHERE e.version <= excluded.version"""
# What a run took replaces what was expected of it, and nothing replaces that: repeats and reorders change nothing.
_RUNS = """
INSERT INTO runs AS r (job_id, revision, tenant, site, started_at, ended_at, expected_s, cpu_h, gpu_h, energy_kwh, cost_eur,
  carbon_kg, measured_kwh, labels)
SELECT * FROM unnest($1::text[], $2::integer[], $3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[], $7::float8[],
  $8::float8[], $9::float8[], $10::float8[], $11::float8[], $12::float8[], $13::float8[], $14::jsonb[])
ON CONFLICT (job_id, revision) DO UPDATE SET site = excluded.site, started_at = excluded.started_at, ended_at = excluded.ended_at,
  cpu_h = excluded.cpu_h, gpu_h = excluded.gpu_h, energy_kwh = excluded.energy_kwh, cost_eur = excluded.cost_eur,
  carbon_kg = excluded.carbon_kg, measured_kwh = excluded.measured_kwh, labels = coalesce(excluded.labels, r.labels)
WHERE r.ended_at IS NULL AND excluded.ended_at IS NOT NULL"""
# Placements that never ran. One that is read after its job's outcome stays, and counts for nothing.
_NEVER_RAN = "DELETE FROM runs WHERE job_id = ANY($1::text[]) AND ended_at IS NULL"
_OFFSETS = """
INSERT INTO projection_offsets (topic, partition, next_offset)
SELECT * FROM unnest($1::text[], $2::integer[], $3::bigint[])
ON CONFLICT (topic, partition) DO UPDATE SET next_offset = excluded.next_offset"""


async def load_offsets(connection: asyncpg.Connection) -> dict[Partition, int]:
    """Where the next batch begins."""
    rows = await connection.fetch("SELECT topic, partition, next_offset FROM projection_offsets")
    return {Partition(row[0], row[1]): row[2] for row in rows}


async def last_seq(connection: asyncpg.Connection) -> int:
    """The highest position of the history; 0 when it is empty."""
    seq: int | None = await connection.fetchval("SELECT max(seq) FROM history")
    return seq or 0


async def apply(
    connection: asyncpg.Connection, changes: Changes, offsets: Mapping[Partition, int], after_seq: int
) -> int:
    """Write a batch; returns the history's new last position. Before the commit nothing of it is visible, after it all is."""
    async with connection.transaction():
        if changes.jobs:
            await _apply_jobs(connection, changes.jobs)
        if changes.runs:
            await _apply_runs(connection, changes.runs)
        over = [job_id for job_id, change in changes.jobs.items() if change.finished_at is not None]
        if over:
            await connection.execute(_NEVER_RAN, over)
        if changes.entities:
            await _apply_entities(connection, changes.entities)
        last = after_seq + len(changes.history)
        if changes.history:
            await _append_history(connection, changes.history, after_seq)
            await connection.execute(f"NOTIFY {HISTORY_CHANNEL}")
        columns = zip(*((p.topic, p.number, offset) for p, offset in offsets.items()), strict=True)
        await connection.execute(_OFFSETS, *map(list, columns))
    return last


async def _apply_jobs(connection: asyncpg.Connection, jobs: dict[str, JobChange]) -> None:
    moved = {job_id: change for job_id, change in jobs.items() if change.progress}
    known: dict[str, bool] = {}  # id → whether its specification is still missing
    if moved:
        known = dict(await connection.fetch(_UPDATE_JOBS, *_columns([_state_row(*item) for item in moved.items()])))
    unsure = [job_id for job_id in jobs if job_id not in known]
    if unsure:
        known |= dict(await connection.fetch(_KNOWN_JOBS, unsure))
        late = [(job_id, at) for job_id in unsure if job_id in known and (at := jobs[job_id].started_at) is not None]
        if late:
            await connection.execute(_STARTED, *_columns(late))
    new = [job_id for job_id in unsure if job_id not in known]
    if new:  # submitted by somebody else than this gateway, or the database was lost and the log was not
        rows = [(*_state_row(job_id, jobs[job_id]), *_description(jobs[job_id])) for job_id in new]
        await connection.execute(_INSERT_JOBS, *_columns(rows))
    bare = [job_id for job_id, is_bare in known.items() if is_bare and jobs[job_id].submission is not None]
    if bare:
        await connection.execute(_DESCRIBE_JOBS, *_columns([(job_id, *_description(jobs[job_id])) for job_id in bare]))
    cancelling = [(job_id, at) for job_id, change in jobs.items() if (at := change.cancel_requested_at) is not None]
    if cancelling:
        await connection.execute(_CANCELLING, *_columns(cancelling))


def _state_row(job_id: str, change: JobChange) -> tuple[Any, ...]:
    return (
        job_id,
        change.progress,
        change.state,
        change.reason,
        change.site,
        change.revision,
        change.state_at,
        change.started_at,
        change.finished_at,
    )


def _description(change: JobChange) -> tuple[Any, ...]:
    """tenant, name, spec, labels, submitted_at, traceparent; nameless and of no tenant until its submission is read."""
    submission = change.submission
    if submission is None:
        return ("", "", None, "{}", change.state_at or change.cancel_requested_at, None)
    spec = submission.spec
    return (
        submission.tenant,
        spec.name,
        _encode(spec).decode(),
        _encode(spec.labels).decode(),
        submission.submitted_at,
        submission.traceparent,
    )


async def _append_history(connection: asyncpg.Connection, rows: Sequence[HistoryRow], after_seq: int) -> None:
    records = [
        (
            seq,
            row.event_id,
            row.type,
            row.subject,
            row.tenant,
            row.site,
            row.revision,
            row.reason,
            row.time,
            row.figures,
        )
        for seq, row in enumerate(rows, start=after_seq + 1)
    ]
    await connection.execute(_HISTORY, *_columns(records))


async def _apply_runs(connection: asyncpg.Connection, runs: dict[tuple[str, int], RunRow]) -> None:
    records = [
        (
            job_id,
            revision,
            row.tenant,
            row.site,
            row.started_at,
            row.ended_at,
            row.expected_s,
            *_figures(row.usage),
            None if row.labels is None else _encode(row.labels).decode(),
        )
        for (job_id, revision), row in runs.items()
    ]
    await connection.execute(_RUNS, *_columns(records))


def _figures(usage: Usage) -> tuple[float, ...]:
    return usage.cpu_h, usage.gpu_h, usage.energy_kwh, usage.cost_eur, usage.carbon_kg, usage.measured_kwh


async def _apply_entities(connection: asyncpg.Connection, entities: dict[tuple[str, str], Entity]) -> None:
    records = [
        (kind, key, entity.version, entity.body.decode(), entity.valid_until)
        for (kind, key), entity in entities.items()
    ]
    await connection.execute(_ENTITIES, *_columns(records))


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]
