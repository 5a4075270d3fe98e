"""The tables for queries by SQLAlchemy Core; the migrations make them, and a test holds the two together."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSON, JSONB, TIMESTAMP
from sqlalchemy.types import UserDefinedType

METADATA = MetaData()
_TIME = TIMESTAMP(timezone=True)
_NOW = text("now()")


def _id() -> Text:
    return Text(collation="C")


class Xid8(UserDefinedType[int]):
    """A transaction id that never wraps around."""

    cache_ok = True

    def get_col_spec(self, **_kw: Any) -> str:
        return "xid8"


TENANTS = Table(
    "tenants",
    METADATA,
    Column("name", _id(), primary_key=True),
    Column("home_site", Text),
    Column("created_at", _TIME, nullable=False, server_default=_NOW),
)
API_KEYS = Table(
    "api_keys",
    METADATA,
    Column("id", _id(), primary_key=True),
    Column("tenant", _id(), ForeignKey("tenants.name"), nullable=False),
    Column("role", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("label", Text, nullable=False, server_default=""),
    Column("created_at", _TIME, nullable=False, server_default=_NOW),
    Column("revoked_at", _TIME),
    UniqueConstraint("digest", name="api_keys_digest_key"),
)
JOBS = Table(
    "jobs",
    METADATA,
    Column("id", _id(), primary_key=True),
    Column("tenant", _id(), nullable=False),
    Column("name", Text, nullable=False),
    Column("spec", JSON),
    Column("labels", JSONB, nullable=False, server_default="{}"),
    Column("submitted_at", _TIME, nullable=False),
    Column("traceparent", Text),
    Column("state", Text, nullable=False, server_default="submitted"),
    Column("reason", Text, nullable=False, server_default=""),
    Column("site", Text),
    Column("revision", Integer, nullable=False, server_default="0"),
    Column("progress", BigInteger, nullable=False, server_default="0"),
    Column("state_at", _TIME),
    Column("started_at", _TIME),
    Column("finished_at", _TIME),
    Column("cancel_requested_at", _TIME),
    Index("jobs_tenant_id", "tenant", "id"),
    Index("jobs_state_id", "state", "id"),
    Index("jobs_finished_at", "finished_at", postgresql_where=text("finished_at IS NOT NULL")),
)
IDEMPOTENCY_KEYS = Table(
    "idempotency_keys",
    METADATA,
    Column("tenant", _id(), primary_key=True),
    Column("key", Text, primary_key=True),
    Column("body_digest", LargeBinary, nullable=False),
    Column("job_ids", ARRAY(Text), nullable=False),
    Column("created_at", _TIME, nullable=False, server_default=_NOW),
    Index("idempotency_keys_created_at", "created_at"),
)
OUTBOX = Table(
    "outbox",
    METADATA,
    Column("xid", Xid8, primary_key=True, server_default=text("pg_current_xact_id()")),
    Column("seq", BigInteger, Identity(always=True), primary_key=True),
    Column("id", Text, nullable=False),
    Column("aggregatetype", Text, nullable=False),
    Column("aggregateid", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("traceparent", Text),
    Column("time", _TIME, nullable=False),
    Column("inserted_at", _TIME, nullable=False, server_default=_NOW),
)
HISTORY = Table(
    "history",
    METADATA,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("event_id", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("subject", _id(), nullable=False),
    Column("tenant", _id()),
    Column("site", Text),
    Column("revision", Integer),
    Column("reason", Text, nullable=False),
    Column("time", _TIME, nullable=False),
    Column("figures", JSONB, nullable=False),
    UniqueConstraint("subject", "event_id", name="history_subject_event_id_key"),
)
ENTITIES = Table(
    "entities",
    METADATA,
    Column("kind", _id(), primary_key=True),
    Column("key", _id(), primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("body", JSON, nullable=False),
    Column("valid_until", _TIME),
)
PROJECTION_OFFSETS = Table(
    "projection_offsets",
    METADATA,
    Column("topic", Text, primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("next_offset", BigInteger, nullable=False),
)
RUNS = Table(
    "runs",
    METADATA,
    Column("job_id", _id(), primary_key=True),
    Column("revision", Integer, primary_key=True, autoincrement=False),
    Column("tenant", _id(), nullable=False),
    Column("site", _id(), nullable=False),
    Column("started_at", _TIME),
    Column("ended_at", _TIME),
    *(
        Column(name, Double, nullable=False)
        for name in ("expected_s", "cpu_h", "gpu_h", "energy_kwh", "cost_eur", "carbon_kg")
    ),
    Column("labels", JSONB),
    Column("measured_kwh", Double, nullable=False, server_default="0"),
    Index(
        "runs_tenant_ended_at",
        "tenant",
        "ended_at",
        postgresql_include=["job_id", "site", "cpu_h", "gpu_h", "energy_kwh", "cost_eur", "carbon_kg"],
    ),
    Index("runs_ended_at", "ended_at"),
    Index("runs_planned", "tenant", postgresql_where=text("ended_at IS NULL")),
)
