"""What runs took: per job, added up over time, and against budgets."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from sqlalchemy import Text, cast, func, literal, select, text, tuple_
from sqlalchemy.dialects.postgresql import JSONB, insert

from services.gateway.model import BudgetState, BudgetStatus, TenantBudgets, Totals, UsageFilter, UsageRow
from services.gateway.store.jobs import notify_outbox, outbox_row
from services.gateway.store.tables import ENTITIES, JOBS, OUTBOX, RUNS, TENANTS
from solyx.budget import window_end, window_start, window_words
from solyx.events import Budget, BudgetSet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement, Row, Select
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

FIGURES = ("cpu_h", "gpu_h", "energy_kwh", "cost_eur", "carbon_kg")
LABEL_LETTERS = 253
"""A label's value is grouped by so many: it is part of cursors, and may be 4,096 letters long."""
TAKEN = (*FIGURES, "measured_kwh")
"""What usage adds up; budgets limit no more than ``FIGURES``."""
_SUMS = tuple(func.coalesce(func.sum(RUNS.c[name]), 0.0) for name in TAKEN)
_encode = msgspec.json.Encoder().encode
_decode_set = msgspec.json.Decoder(BudgetSet).decode

# For each of (tenant, window start): the sums of what ended from there on.
_USED = text("""
SELECT coalesce(s.cpu_h, 0), coalesce(s.gpu_h, 0), coalesce(s.energy_kwh, 0), coalesce(s.cost_eur, 0), coalesce(s.carbon_kg, 0)
FROM unnest(CAST(:tenants AS text[]), CAST(:starts AS timestamptz[])) WITH ORDINALITY AS w (tenant, start, position)
LEFT JOIN LATERAL (
  SELECT sum(cpu_h) AS cpu_h, sum(gpu_h) AS gpu_h, sum(energy_kwh) AS energy_kwh, sum(cost_eur) AS cost_eur,
    sum(carbon_kg) AS carbon_kg
  FROM runs r WHERE r.tenant = w.tenant AND r.ended_at >= w.start) AS s ON true
ORDER BY w.position""")
# A placement is live while its job is placed, allocated or running under its revision (services/gateway/core.py). A run that
# outlasts its estimate takes that much more.
_PLANNED = text("""
SELECT r.tenant, sum(r.cpu_h * s.stretch), sum(r.gpu_h * s.stretch), sum(r.energy_kwh * s.stretch), sum(r.cost_eur * s.stretch),
  sum(r.carbon_kg * s.stretch)
FROM runs r JOIN jobs j ON j.id = r.job_id AND j.progress BETWEEN r.revision * 8 + 1 AND r.revision * 8 + 3
CROSS JOIN LATERAL (SELECT CASE WHEN j.progress = r.revision * 8 + 3 AND r.expected_s > 0
  THEN greatest(1.0, extract(epoch FROM CAST(:now AS timestamptz) - j.started_at)::float8 / r.expected_s) ELSE 1.0 END AS stretch) AS s
WHERE r.ended_at IS NULL AND r.tenant = ANY(CAST(:tenants AS text[]))
GROUP BY r.tenant""")


class Asked(NamedTuple):
    """One budget of one tenant, and where its window begins."""

    tenant: str
    budget: Budget
    start: datetime


class UsageStore:
    """Reads what runs took, and keeps the tenants' budgets."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def usage(self, chosen: UsageFilter) -> tuple[list[UsageRow], Totals]:
        """At most ``limit`` groups after ``after``, in their order, and the total over all groups."""
        async with self._engine.connect() as connection:
            rows = [_usage_row(row) for row in await connection.execute(_grouped(chosen))]
            total = (await connection.execute(_narrowed(select(_JOBS, *_SUMS), chosen))).one()
        return rows, Totals(jobs=total[0], **_taken(total[1:]))

    async def set_budgets(self, tenant: str, budgets: Sequence[Budget], now: datetime) -> TenantBudgets | None:
        """Keep a tenant's budgets and tell the log, in one transaction; None: no such tenant."""
        async with self._engine.begin() as connection:
            known = select(TENANTS.c.name).where(TENANTS.c.name == tenant).with_for_update()
            if (await connection.execute(known)).one_or_none() is None:
                return None
            last = select(ENTITIES.c.version).where(ENTITIES.c.kind == "budget", ENTITIES.c.key == tenant)
            version: int = (await connection.execute(last)).scalar_one_or_none() or 0
            event = BudgetSet(tenant=tenant, revision=version + 1, budgets=tuple(budgets), set_at=now)
            values = {"version": event.revision, "body": msgspec.to_builtins(event)}
            upsert = insert(ENTITIES).values(kind="budget", key=tenant, **values)
            await connection.execute(upsert.on_conflict_do_update(index_elements=["kind", "key"], set_=values))
            await connection.execute(insert(OUTBOX).values(outbox_row(event, None, now)))
            await notify_outbox(connection)
        return _shown(event)

    async def budgets(self, tenant: str | None, now: datetime) -> list[BudgetStatus]:
        """Every budget (of that tenant) with what is left of it."""
        async with self._engine.connect() as connection:
            asked = [
                Asked(event.tenant, budget, window_start(budget, now))
                for event in await _budgets(connection, tenant)
                for budget in event.budgets
            ]
            tenants = sorted({one.tenant for one in asked})
            windows = {"tenants": [one.tenant for one in asked], "starts": [one.start for one in asked]}
            used = [_figures(row) for row in await connection.execute(_USED, windows)]
            found = await connection.execute(_PLANNED, {"now": now, "tenants": tenants})
            planned = {row[0]: _figures(row[1:]) for row in found}
        return [_status(one, taken, planned.get(one.tenant, {}), now) for one, taken in zip(asked, used, strict=True)]


_LABELS = func.coalesce(RUNS.c.labels, JOBS.c.labels, type_=JSONB)
_JOBS = func.count(RUNS.c.job_id.distinct())


def _narrowed(query: Select[Any], chosen: UsageFilter) -> Select[Any]:
    query = query.select_from(RUNS).where(RUNS.c.ended_at >= chosen.since, RUNS.c.ended_at < chosen.until)
    if chosen.tenant is not None:
        query = query.where(RUNS.c.tenant == chosen.tenant)
    if chosen.site is not None:
        query = query.where(RUNS.c.site == chosen.site)
    if chosen.labels or chosen.by_label is not None:
        # A run read from its job's outcome alone does not know its labels; its job does, while it is there.
        query = query.outerjoin(JOBS, JOBS.c.id == RUNS.c.job_id)
    if chosen.labels:
        query = query.where(_LABELS.contains(dict(chosen.labels)))
    return query


def _grouped(chosen: UsageFilter) -> Select[Any]:
    """Columns: begin of the period, tenant, site, label, jobs, figures; an empty text where it is not grouped by that."""
    nothing = cast("", Text)
    # One time for everything where no period is asked for: the begin of the range.
    period: ColumnElement[Any] = cast(chosen.since, RUNS.c.ended_at.type)
    if chosen.period is not None:
        period = func.date_trunc(chosen.period, RUNS.c.ended_at, "UTC")
    tenant: ColumnElement[Any] = RUNS.c.tenant if chosen.by_tenant else nothing
    site: ColumnElement[Any] = RUNS.c.site if chosen.by_site else nothing
    label: ColumnElement[Any] = nothing
    if chosen.by_label is not None:
        label = func.left(func.coalesce(_LABELS.op("->>")(chosen.by_label), ""), LABEL_LETTERS)
    named = (period.label("period"), tenant.label("t"), site.label("s"), label.label("l"))
    inner = _narrowed(select(*named, RUNS.c.job_id, *(RUNS.c[name] for name in TAKEN)), chosen).subquery()
    key = (inner.c.period, inner.c.t, inner.c.s, inner.c.l)
    sums = [func.sum(inner.c[name]) for name in TAKEN]
    query = select(*key, func.count(inner.c.job_id.distinct()), *sums).group_by(*key).order_by(*key).limit(chosen.limit)
    if chosen.after is not None:
        query = query.where(tuple_(*key) > tuple_(*(literal(part) for part in chosen.after)))
    return query


async def _budgets(connection: AsyncConnection, tenant: str | None) -> list[BudgetSet]:
    query = select(cast(ENTITIES.c.body, Text)).where(ENTITIES.c.kind == "budget").order_by(ENTITIES.c.key)
    if tenant is not None:
        query = query.where(ENTITIES.c.key == tenant)
    return [_decode_set(row[0]) for row in await connection.execute(query)]


def _usage_row(row: Row[Any]) -> UsageRow:
    return UsageRow(start=row[0], tenant=row[1], site=row[2], label=row[3], jobs=row[4], **_taken(row[5:]))


def _figures(row: Sequence[float]) -> dict[str, float]:
    return dict(zip(FIGURES, row, strict=True))


def _taken(row: Sequence[float]) -> dict[str, float]:
    return dict(zip(TAKEN, row, strict=True))


def _status(asked: Asked, used: dict[str, float], planned: dict[str, float], now: datetime) -> BudgetStatus:
    budget = asked.budget
    taken, coming = used[budget.quantity], planned.get(budget.quantity, 0.0)
    state: BudgetState = "open" if taken + coming < budget.limit else "full"
    return BudgetStatus(
        tenant=asked.tenant,
        quantity=budget.quantity,
        limit=budget.limit,
        window=window_words(budget),
        enforcement=budget.enforcement,
        used=taken,
        planned=coming,
        left=max(0.0, budget.limit - taken - coming),
        state="exceeded" if taken > budget.limit else state,
        window_start=asked.start,
        window_end=window_end(budget, now),
    )


def _shown(event: BudgetSet) -> TenantBudgets:
    return TenantBudgets(tenant=event.tenant, revision=event.revision, budgets=list(event.budgets), set_at=event.set_at)
