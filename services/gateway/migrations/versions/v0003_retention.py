"""Finds ended jobs by when they ended, so that they can leave after the retention.

Revision ID: 0003
"""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("CREATE INDEX jobs_finished_at ON jobs (finished_at) WHERE finished_at IS NOT NULL")


def downgrade() -> None:
    op.execute("DROP INDEX jobs_finished_at")
