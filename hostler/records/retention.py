"""How long what is over stays on record."""

from __future__ import annotations

import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, delete, exists, func, or_, select
from sqlalchemy.orm import Session

from hostler.records.models import (
    AtomRow,
    Binding,
    Claim,
    Debt,
    Event,
    Fence,
    FlowRow,
    HeldPlacement,
    JournalEntry,
    Migration,
    OutboxEntry,
    Progress,
    Receiver,
    Reservation,
)

#: Statuses behind which nothing of a migration is left to decide, and nothing set aside.
OVER = ("cancelled", "confirmed", "error", "reverted")
#: Whatever has a row here of a migration is not done with it: a debt, a message, what it holds or has written ahead.
_HOLDS = (Binding, Claim, Debt, HeldPlacement, JournalEntry, OutboxEntry, Receiver, Reservation)
#: Migrations that are removed in one transaction.
_BATCH = 200


def purgeable(before: datetime.datetime) -> ColumnElement[bool]:
    """Return the condition under which a migration may be forgotten: over since before *before*, and owed nothing.

    One that is unfinished, parked, not confirmed, has debts, or has set something aside is never meant.
    """
    ended = func.coalesce(Migration.finished_at, Migration.updated_at)
    held = [exists().where(table.migration_uuid == Migration.uuid) for table in _HOLDS]
    settled = or_(Migration.status.in_(OVER), Migration.migration_type == "dry-run")
    return and_(Migration.phase == "closed", settled, ended < before, ~or_(*held))


def count(session: Session, before: datetime.datetime) -> int:
    """Return how many may be forgotten."""
    return session.scalar(select(func.count()).select_from(Migration).where(purgeable(before))) or 0


def purge(session: Session, before: datetime.datetime) -> int:
    """Forget a batch of those, with their flows, steps and history; return how many: 0 when all are gone."""
    uuids = list(session.scalars(_batch(before)))
    flows = select(FlowRow.uuid).where(FlowRow.migration_uuid.in_(uuids))
    session.execute(
        delete(AtomRow).where(AtomRow.flow_uuid.in_(flows)).execution_options(synchronize_session=False)
    )
    for table in (FlowRow, Event, Progress, Fence):
        session.execute(delete(table).where(table.migration_uuid.in_(uuids)))
    session.execute(delete(Migration).where(Migration.uuid.in_(uuids)))
    return len(uuids)


def _batch(before: datetime.datetime) -> Select[Any]:
    """Select a batch and hold it: what an operator takes up meanwhile is not forgotten."""
    found = select(Migration.uuid).where(purgeable(before)).order_by(Migration.created_at)
    return found.limit(_BATCH).with_for_update()
