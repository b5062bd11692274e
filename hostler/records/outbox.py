"""The outbox: what listeners are to be told, until it was delivered.

Each message of a migration is one row for each driver that carries it. A row's ``due_at`` is both its pause and
its lease: whoever delivers it moves it ahead by a compare-and-swap, and should they die, it comes due again. So
senders exclude each other on every database alike, and one that finds nothing to do has only read.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import ColumnElement, delete, exists, func, insert, select, update
from sqlalchemy.orm import Session, aliased

from hostler.records.models import OutboxEntry, now


def put(session: Session, migration: str, drivers: Collection[str], message: dict[str, Any]) -> None:
    """Add a message for each of *drivers*, behind those of its migration; one that is there already stays.

    The caller holds the migration's fence: so a migration's rows become visible in the order of their ids.
    """
    there = select(OutboxEntry.driver).where(OutboxEntry.message_id == message["message_id"])
    missing = sorted(set(drivers) - set(session.scalars(there)))
    if not missing:
        return
    at = now()
    facts = {"migration_uuid": migration, "message_id": message["message_id"], "message": message}
    rows = [facts | {"driver": driver, "attempts": 0, "created_at": at, "due_at": at} for driver in missing]
    session.execute(insert(OutboxEntry), rows)


def heads(session: Session, drivers: Collection[str], limit: int) -> list[OutboxEntry]:
    """Return what may be delivered now: of each migration and driver the oldest row, if it is due."""
    due = select(OutboxEntry).where(_is_head(drivers), OutboxEntry.due_at <= now())
    return list(session.scalars(due.order_by(OutboxEntry.due_at, OutboxEntry.id).limit(limit)))


def soonest(session: Session, drivers: Collection[str]) -> datetime.datetime | None:
    """Return when the next row comes due; None if there is none."""
    return session.scalar(select(func.min(OutboxEntry.due_at)).where(_is_head(drivers)))


def take(session: Session, entries: Sequence[OutboxEntry], until: datetime.datetime) -> list[OutboxEntry]:
    """Lease rows as they were read; return those that nobody else has taken since."""
    # By id: two senders that want the same rows wait for each other and do not lock each other up.
    return [entry for entry in sorted(entries, key=lambda entry: entry.id) if _move(session, entry, until)]


def _move(session: Session, entry: OutboxEntry, until: datetime.datetime) -> bool:
    moved = session.execute(
        update(OutboxEntry)
        .where(_is(entry), OutboxEntry.due_at == entry.due_at)
        .values(due_at=until)
        .execution_options(synchronize_session=False)
    )
    return bool(moved.rowcount)  # type: ignore[attr-defined]


def remove(session: Session, entry: OutboxEntry) -> None:
    """Forget a row that was delivered, or that nobody will take."""
    session.execute(delete(OutboxEntry).where(_is(entry)).execution_options(synchronize_session=False))


def defer(session: Session, entry: OutboxEntry, until: datetime.datetime, *, tried: bool) -> None:
    """Let a row wait; *tried*: it was offered and not taken."""
    session.execute(
        update(OutboxEntry)
        .where(_is(entry))
        .values(due_at=until, attempts=OutboxEntry.attempts + int(tried))
        .execution_options(synchronize_session=False)
    )


def _is(entry: OutboxEntry) -> ColumnElement[bool]:
    """The row, whoever reads it late: SQLite gives the id of a row that is gone to another."""
    return (OutboxEntry.message_id == entry.message_id) & (OutboxEntry.driver == entry.driver)


def older_than(session: Session, before: datetime.datetime, limit: int) -> list[OutboxEntry]:
    """Return rows that were put in before that time, whatever their driver."""
    old = select(OutboxEntry).where(OutboxEntry.created_at < before)
    return list(session.scalars(old.order_by(OutboxEntry.id).limit(limit)))


def _is_head(drivers: Collection[str]) -> ColumnElement[bool]:
    earlier = aliased(OutboxEntry)
    behind = exists().where(
        earlier.migration_uuid == OutboxEntry.migration_uuid,
        earlier.driver == OutboxEntry.driver,
        earlier.id < OutboxEntry.id,
    )
    return OutboxEntry.driver.in_(drivers) & ~behind
