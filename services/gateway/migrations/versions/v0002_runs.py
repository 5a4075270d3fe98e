"""Runs of jobs: what each took, for usage and budgets.

Revision ID: 0002
"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# A row without an end is a live placement with what it is expected to take; with an end it is a run with what it took.
_RUNS = """
CREATE TABLE runs (
  job_id text COLLATE "C" NOT NULL,
  revision integer NOT NULL,
  tenant text COLLATE "C" NOT NULL,
  site text COLLATE "C" NOT NULL,
  started_at timestamptz,
  ended_at timestamptz,
  expected_s double precision NOT NULL,
  cpu_h double precision NOT NULL,
  gpu_h double precision NOT NULL,
  energy_kwh double precision NOT NULL,
  cost_eur double precision NOT NULL,
  carbon_kg double precision NOT NULL,
  PRIMARY KEY (job_id, revision)
)"""
# Sums over a tenant's window, or over everybody's, read the index alone.
_FIGURES = "job_id, site, cpu_h, gpu_h, energy_kwh, cost_eur, carbon_kg"
_INDEXES = (
    f"CREATE INDEX runs_tenant_ended_at ON runs (tenant, ended_at) INCLUDE ({_FIGURES})",
    "CREATE INDEX runs_ended_at ON runs (ended_at)",
    "CREATE INDEX runs_planned ON runs (tenant) WHERE ended_at IS NULL",
)


def upgrade() -> None:
    for statement in (_RUNS, *_INDEXES):
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TABLE runs")
