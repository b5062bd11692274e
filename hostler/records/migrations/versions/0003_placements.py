"""CPUs and NUMA nodes that migrations hold."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "placements",
        sa.Column("migration_uuid", sa.String(36), nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("placement", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("migration_uuid", "host", name="pk_placements"),
    )
