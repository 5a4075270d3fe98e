"""Tenants, keys, jobs, outbox, history and the latest state of sites, routes and energy.

Revision ID: 0001
"""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Ids are compared byte by byte (COLLATE "C"): they sort by time whatever the database's locale, and faster.
_TENANTS = """
CREATE TABLE tenants (
  name text COLLATE "C" PRIMARY KEY,
  home_site text,
  created_at timestamptz NOT NULL DEFAULT now()
)"""
_KEYS = """
CREATE TABLE api_keys (
  id text COLLATE "C" PRIMARY KEY,
  tenant text COLLATE "C" NOT NULL REFERENCES tenants (name),
  role text NOT NULL,
  digest bytea NOT NULL CONSTRAINT api_keys_digest_key UNIQUE,
  label text NOT NULL DEFAULT '',
  created_at timestamptz NOT NULL DEFAULT now(),
  revoked_at timestamptz
)"""
# Rows change state a few times in their first minutes: the free space keeps the new versions on the same page.
_JOBS = """
CREATE TABLE jobs (
  id text COLLATE "C" PRIMARY KEY,
  tenant text COLLATE "C" NOT NULL,
  name text NOT NULL,
  spec json,
  labels jsonb NOT NULL DEFAULT '{}',
  submitted_at timestamptz NOT NULL,
  traceparent text,
  state text NOT NULL DEFAULT 'submitted',
  reason text NOT NULL DEFAULT '',
  site text,
  revision integer NOT NULL DEFAULT 0,
  progress bigint NOT NULL DEFAULT 0,
  state_at timestamptz,
  started_at timestamptz,
  finished_at timestamptz,
  cancel_requested_at timestamptz
) WITH (fillfactor = 70)"""
_IDEMPOTENCY = """
CREATE TABLE idempotency_keys (
  tenant text COLLATE "C" NOT NULL,
  key text NOT NULL,
  body_digest bytea NOT NULL,
  job_ids text[] NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant, key)
)"""
# Column names as Debezium's outbox event router expects them (aggregatetype, aggregateid, type, payload), so that it can
# take the relay's place. The primary key is the order of publication: see services/gateway/service/relay.py.
_OUTBOX = """
CREATE TABLE outbox (
  xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
  seq bigint GENERATED ALWAYS AS IDENTITY,
  id text NOT NULL,
  aggregatetype text NOT NULL,
  aggregateid text NOT NULL,
  type text NOT NULL,
  payload bytea NOT NULL,
  traceparent text,
  "time" timestamptz NOT NULL,
  inserted_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (xid, seq)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000)"""
# Written by one projector at a time, so seq becomes visible in its order and a reader may resume after the last it saw.
_HISTORY = """
CREATE TABLE history (
  seq bigint PRIMARY KEY,
  event_id text NOT NULL,
  type text NOT NULL,
  subject text COLLATE "C" NOT NULL,
  tenant text COLLATE "C",
  site text,
  revision integer,
  reason text NOT NULL,
  "time" timestamptz NOT NULL,
  figures jsonb NOT NULL,
  CONSTRAINT history_subject_event_id_key UNIQUE (subject, event_id)
)"""
_ENTITIES = """
CREATE TABLE entities (
  kind text COLLATE "C" NOT NULL,
  key text COLLATE "C" NOT NULL,
  version bigint NOT NULL,
  body json NOT NULL,
  valid_until timestamptz,
  PRIMARY KEY (kind, key)
)"""
_OFFSETS = """
CREATE TABLE projection_offsets (
  topic text NOT NULL,
  partition integer NOT NULL,
  next_offset bigint NOT NULL,
  PRIMARY KEY (topic, partition)
)"""
_INDEXES = (
    "CREATE INDEX jobs_tenant_id ON jobs (tenant, id)",
    "CREATE INDEX jobs_state_id ON jobs (state, id)",
    "CREATE INDEX idempotency_keys_created_at ON idempotency_keys (created_at)",
)
_TABLES = ("projection_offsets", "entities", "history", "outbox", "idempotency_keys", "jobs", "api_keys", "tenants")


def upgrade() -> None:
    for statement in (_TENANTS, _KEYS, _JOBS, _IDEMPOTENCY, _OUTBOX, _HISTORY, _ENTITIES, _OFFSETS, *_INDEXES):
        op.execute(statement)


def downgrade() -> None:
    for table in _TABLES:
        op.execute(f"DROP TABLE {table}")
