"""The labels of a run's job: the job leaves the read model before what it took does.

Revision ID: 0004
"""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE runs ADD COLUMN labels jsonb")


def downgrade() -> None:
    op.execute("ALTER TABLE runs DROP COLUMN labels")
