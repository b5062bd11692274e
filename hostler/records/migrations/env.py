"""What Alembic runs for every command, on a connection of :class:`hostler.records.database.Database`."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection, text

from hostler.records.models import Base

#: PostgreSQL's advisory lock of an upgrade: the letters "hostler".
UPGRADE_LOCK = 0x686F73746C6572


def run(connection: Connection) -> None:
    """Run the revisions that are asked for in the caller's transaction."""
    if connection.dialect.name == "postgresql":
        # Two upgrades at once would both make the tables; SQLite's BEGIN IMMEDIATE keeps them apart.
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": UPGRADE_LOCK})
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=connection.dialect.name == "sqlite",
    )
    with context.begin_transaction():
        context.run_migrations()


run(context.config.attributes["connection"])
