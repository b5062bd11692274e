"""Whether anything of a migration has changed: much less to ask for than what."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from hostler.records.models import AtomRow, Event, Migration, Progress


def pulses(session: Session, uuids: Collection[str]) -> dict[str, tuple[Any, ...]]:
    """Return by UUID what is another value whenever anything of that migration has changed; one statement."""
    events = select(func.max(Event.id)).where(Event.migration_uuid == Migration.uuid)
    copied = select(func.max(Progress.updated_at)).where(Progress.migration_uuid == Migration.uuid)
    clocks = (AtomRow.started_at, AtomRow.finished_at, AtomRow.revert_started_at, AtomRow.revert_finished_at)
    steps = [select(func.max(clock)).where(AtomRow.flow_uuid == Migration.flow_uuid) for clock in clocks]
    parts = [one.correlate(Migration).scalar_subquery() for one in (events, copied, *steps)]
    record = (Migration.uuid, Migration.flow_uuid, Migration.phase, Migration.updated_at)
    found = select(*record, *parts).where(Migration.uuid.in_(uuids))
    return {row[0]: tuple(row[1:]) for row in session.execute(found)}
