"""Jobs: stored with their outbox rows in one transaction, read in pages, cancelled once."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import Row, Text, cast, select, text, update
from sqlalchemy.dialects.postgresql import insert

from services.gateway.model import (
    TERMINAL,
    Accepted,
    HistoryEntry,
    JobDetail,
    JobFilter,
    JobRun,
    JobSummary,
    KeyMismatch,
    NewJob,
    StoredSpec,
)
from services.gateway.store.tables import HISTORY, IDEMPOTENCY_KEYS, JOBS, OUTBOX, RUNS
from solyx.database import raw
from solyx.events import JobCancellationRequested, JobSpec, JobSubmitted
from solyx.telemetry import trace_id_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Select
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from solyx.events import Event

OUTBOX_CHANNEL = "solyx_outbox"

_JOB_COLUMNS = ("id", "tenant", "name", "spec", "labels", "submitted_at", "state_at", "traceparent")
_OUTBOX_COLUMNS = ("id", "aggregatetype", "aggregateid", "type", "payload", "traceparent", "time")
_encode = msgspec.json.Encoder().encode
_decode_spec = msgspec.json.Decoder(JobSpec).decode
_decode_labels = msgspec.json.Decoder(dict[str, str]).decode

_SUMMARY = (
    JOBS.c.id,
    JOBS.c.tenant,
    JOBS.c.name,
    JOBS.c.state,
    JOBS.c.reason,
    JOBS.c.site,
    JOBS.c.revision,
    JOBS.c.submitted_at,
    JOBS.c.state_at,
    JOBS.c.started_at,
    JOBS.c.finished_at,
    JOBS.c.cancel_requested_at,
    cast(JOBS.c.labels, Text),
)
_RUN = tuple(column for column in RUNS.c if column.name not in ("job_id", "tenant", "expected_s", "labels"))
HISTORY_COLUMNS = (
    HISTORY.c.seq,
    HISTORY.c.type,
    HISTORY.c.subject,
    HISTORY.c.tenant,
    HISTORY.c.site,
    HISTORY.c.revision,
    HISTORY.c.reason,
    HISTORY.c.time,
    cast(HISTORY.c.figures, Text),
)


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """Jobs as rows, ready for COPY."""

    ids: list[str]
    jobs: list[tuple[Any, ...]]
    outbox: list[tuple[Any, ...]]


class IdempotencyKey(msgspec.Struct, frozen=True, kw_only=True):
    """What makes a retry of a POST the same POST."""

    tenant: str
    key: str
    body_digest: bytes


def prepare(jobs: Sequence[NewJob], now: datetime) -> Prepared:
    """Encode jobs once, outside the transaction (and, for many, outside the event loop)."""
    job_rows: list[tuple[Any, ...]] = []
    outbox_rows: list[tuple[Any, ...]] = []
    for job in jobs:
        spec = job.spec
        event = JobSubmitted(job_id=job.id, tenant=job.tenant, spec=spec, submitted_at=now)
        labels = _encode(spec.labels).decode() if spec.labels else "{}"
        job_rows.append((job.id, job.tenant, spec.name, _encode(spec).decode(), labels, now, now, job.traceparent))
        outbox_rows.append((event.id, event.TOPIC, job.id, event.TYPE, _encode(event), job.traceparent, now))
    return Prepared(ids=[job.id for job in jobs], jobs=job_rows, outbox=outbox_rows)


class JobStore:
    """Reads and writes of jobs."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def find_idempotent(self, key: IdempotencyKey) -> Accepted | None:
        """What the same POST was answered, if it was made before.

        Raises:
            KeyMismatch: it was another POST.
        """
        async with self._engine.connect() as connection:
            return await _stored_answer(connection, key)

    async def submit(self, prepared: Prepared, key: IdempotencyKey | None) -> Accepted:
        """Store jobs, their outbox rows and the idempotency key; all are safe when this returns.

        Raises:
            KeyMismatch: the key was used for another body.
        """
        async with self._engine.begin() as connection:
            if key is not None and not await _claim(connection, key, prepared.ids):
                stored = await _stored_answer(connection, key)
                assert stored is not None, "the conflicting row is committed and keys outlive a request"
                return stored
            # Also opens SQLAlchemy's transaction, which COPY below has to be part of.
            await connection.execute(_NOTIFY)
            driver = await raw(connection)
            await driver.copy_records_to_table("jobs", records=prepared.jobs, columns=_JOB_COLUMNS)
            await driver.copy_records_to_table("outbox", records=prepared.outbox, columns=_OUTBOX_COLUMNS)
        return Accepted(ids=prepared.ids)

    async def cancel(self, job_id: str, *, tenant: str | None, now: datetime) -> StoredSpec | None:
        """Ask for cancellation through the outbox, once; None: no such job (of that tenant).

        A job that is finished already is returned with its terminal state and nothing is written.
        """
        async with self._engine.begin() as connection:
            query = select(
                JOBS.c.id,
                JOBS.c.tenant,
                JOBS.c.state,
                JOBS.c.reason,
                cast(JOBS.c.spec, Text),
                JOBS.c.submitted_at,
                JOBS.c.cancel_requested_at,
                JOBS.c.traceparent,
            )
            query = query.where(JOBS.c.id == job_id).with_for_update()
            if tenant is not None:
                query = query.where(JOBS.c.tenant == tenant)
            row = (await connection.execute(query)).one_or_none()
            if row is None:
                return None
            job = StoredSpec(
                id=row[0],
                tenant=row[1],
                state=row[2],
                reason=row[3],
                spec=_decode_spec(row[4]) if row[4] is not None else None,
                submitted_at=row[5],
                cancel_requested_at=row[6],
                traceparent=row[7],
            )
            if job.state in TERMINAL or job.cancel_requested_at is not None or job.spec is None:
                return job
            await self._request_cancellation(connection, job, job.spec, now)
            return msgspec.structs.replace(job, cancel_requested_at=now)

    async def _request_cancellation(
        self, connection: AsyncConnection, job: StoredSpec, spec: JobSpec, now: datetime
    ) -> None:
        event = JobCancellationRequested(
            job_id=job.id, tenant=job.tenant, spec=spec, submitted_at=job.submitted_at, requested_at=now
        )
        await connection.execute(update(JOBS).where(JOBS.c.id == job.id).values(cancel_requested_at=now))
        await connection.execute(insert(OUTBOX).values(outbox_row(event, job.traceparent, now)))
        await notify_outbox(connection)

    async def get(self, job_id: str, *, tenant: str | None) -> JobDetail | None:
        """A job with its history, oldest first; None: no such job (of that tenant)."""
        async with self._engine.connect() as connection:
            query = select(*_SUMMARY, cast(JOBS.c.spec, Text), JOBS.c.traceparent).where(JOBS.c.id == job_id)
            if tenant is not None:
                query = query.where(JOBS.c.tenant == tenant)
            row = (await connection.execute(query)).one_or_none()
            if row is None:
                return None
            entries = select(*HISTORY_COLUMNS).where(HISTORY.c.subject == job_id).order_by(HISTORY.c.seq)
            history = [history_entry(entry) for entry in await connection.execute(entries)]
            over = select(*_RUN).where(RUNS.c.job_id == job_id, RUNS.c.ended_at.is_not(None)).order_by(RUNS.c.revision)
            runs = [JobRun(**row._mapping) for row in await connection.execute(over)]  # noqa: SLF001 - SQLAlchemy's name
        fields = msgspec.structs.asdict(_summary(row))
        spec = _decode_spec(row[-2]) if row[-2] is not None else None
        return JobDetail(**fields, spec=spec, trace_id=trace_id_of(row[-1]), runs=runs, history=history)

    async def list(self, chosen: JobFilter) -> list[JobSummary]:
        """A page, newest first."""
        async with self._engine.connect() as connection:
            return [_summary(row) for row in await connection.execute(_page(chosen))]


_NOTIFY = text(f"SELECT pg_notify('{OUTBOX_CHANNEL}', '')")


async def notify_outbox(connection: AsyncConnection) -> None:
    """Wake the relay when the transaction commits."""
    await connection.execute(_NOTIFY)


def outbox_row(event: Event, traceparent: str | None, now: datetime) -> dict[str, Any]:
    """The values of an event's outbox row."""
    row = (event.id, event.TOPIC, event.key, event.TYPE, _encode(event), traceparent, now)
    return dict(zip(_OUTBOX_COLUMNS, row, strict=True))


async def _claim(connection: AsyncConnection, key: IdempotencyKey, ids: list[str]) -> bool:
    """Take the key; False: it is taken. An equal POST that is under way is waited for."""
    values = {"tenant": key.tenant, "key": key.key, "body_digest": key.body_digest, "job_ids": ids}
    statement = insert(IDEMPOTENCY_KEYS).values(values).on_conflict_do_nothing().returning(IDEMPOTENCY_KEYS.c.key)
    return (await connection.execute(statement)).one_or_none() is not None


async def _stored_answer(connection: AsyncConnection, key: IdempotencyKey) -> Accepted | None:
    query = select(IDEMPOTENCY_KEYS.c.body_digest, IDEMPOTENCY_KEYS.c.job_ids)
    query = query.where(IDEMPOTENCY_KEYS.c.tenant == key.tenant, IDEMPOTENCY_KEYS.c.key == key.key)
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        return None
    if bytes(row[0]) != key.body_digest:
        raise KeyMismatch(key.key)
    return Accepted(ids=list(row[1]), replayed=True)


def _page(chosen: JobFilter) -> Select[Any]:
    query = select(*_SUMMARY).order_by(JOBS.c.id.desc()).limit(chosen.limit)
    if chosen.tenant is not None:
        query = query.where(JOBS.c.tenant == chosen.tenant)
    if chosen.state:
        query = query.where(JOBS.c.state.in_(chosen.state))
    if chosen.site is not None:
        query = query.where(JOBS.c.site == chosen.site)
    if chosen.labels:
        query = query.where(JOBS.c.labels.contains(dict(chosen.labels)))
    if chosen.name_prefix is not None:
        query = query.where(JOBS.c.name.startswith(chosen.name_prefix, autoescape=True))
    if chosen.since is not None:
        query = query.where(JOBS.c.submitted_at >= chosen.since)
    if chosen.before_id is not None:
        query = query.where(JOBS.c.id < chosen.before_id)
    return query


def _summary(row: Row[Any]) -> JobSummary:
    return JobSummary(
        id=row[0],
        tenant=row[1],
        name=row[2],
        state=row[3],
        reason=row[4],
        site=row[5],
        revision=row[6],
        submitted_at=row[7],
        state_at=row[8] or row[7],
        started_at=row[9],
        finished_at=row[10],
        cancel_requested_at=row[11],
        labels=_decode_labels(row[12]),
    )


def history_entry(row: Row[Any]) -> HistoryEntry:
    """A row of ``HISTORY_COLUMNS`` as a value."""
    return HistoryEntry(
        seq=row[0],
        type=row[1],
        subject=row[2],
        tenant=row[3],
        site=row[4],
        revision=row[5],
        reason=row[6],
        time=row[7],
        figures=msgspec.Raw(row[8].encode()),
    )
