"""How fast images may be sent."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

NUMBER = sa.BigInteger()
WORD = sa.String(255)


def upgrade() -> None:
    op.add_column("hosts", sa.Column("rate_bytes_per_s", NUMBER, nullable=True))
    op.add_column("migrations", sa.Column("rate_bytes_per_s", NUMBER, nullable=True))
    op.add_column("migrations", sa.Column("weight", NUMBER, nullable=False, server_default="1"))
    op.add_column("migrations", sa.Column("paused_by", WORD, nullable=True))
    op.add_column("receivers", sa.Column("sending", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.create_table(
        "link_rates",
        sa.Column("source", WORD, nullable=False),
        sa.Column("dest", WORD, nullable=False),
        sa.Column("rate_bytes_per_s", NUMBER, nullable=False),
        sa.PrimaryKeyConstraint("source", "dest", name="pk_link_rates"),
        sa.ForeignKeyConstraint(["source"], ["hosts.name"], name="fk_link_rates_source"),
        sa.ForeignKeyConstraint(["dest"], ["hosts.name"], name="fk_link_rates_dest"),
    )
