"""Ports that a step waits for to be plugged in, and what their service has said of them meanwhile.

Each is an entry of the migration's journal. It is there before the guest is, so that nothing is said too early; and
whoever takes the step over from a worker that died finds what was said. What nobody waits for is not kept.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Delete, delete, select
from sqlalchemy.orm import Session

from hostler.records.fence import FencedRecords
from hostler.records.models import Instance, JournalEntry, Migration

#: Nova's and Neutron's name for it, and that of the entries.
EVENT = "network-vif-plugged"
COMPLETED, FAILED = "completed", "failed"
#: What may be said of an event.
STATUSES = (COMPLETED, FAILED, "in-progress")


@dataclass(frozen=True)
class ServerEvent:
    """One thing that happened to a server, as Nova's external events have it."""

    name: str  #: ``network-vif-plugged``, ``network-changed``, ...
    server: str  #: UUID
    tag: str | None  #: to which of its parts; of a port its UUID
    status: str  #: one of :data:`STATUSES`

    @property
    def of_plugging(self) -> bool:
        """Whether it says of a port that it was plugged in, or could not be."""
        return self.name == EVENT and self.tag is not None and self.status in (COMPLETED, FAILED)


@dataclass(frozen=True)
class Awaited:
    """A port that is waited for."""

    port: str  #: as its service calls it
    mac: str
    status: str | None  #: what was said: :data:`COMPLETED` or :data:`FAILED`; None: nothing yet


def expect(records: FencedRecords, ports: Mapping[str, str]) -> None:
    """Wait for *ports*, MAC addresses by what their service calls them, and for nothing else any more."""
    with records.transaction() as session:
        session.execute(_forget(records))
        session.add_all(
            JournalEntry(
                migration_uuid=records.migration, task=EVENT, key=port, state="intent", data={"mac": mac}
            )
            for port, mac in ports.items()
        )


def awaited(records: FencedRecords) -> list[Awaited]:
    """Return what is waited for, by the ports' addresses."""
    with records.reading() as session:
        rows = session.scalars(select(JournalEntry).where(*_of(records)))
        found = [Awaited(row.key, row.data["mac"], row.data.get("status")) for row in rows]
    return sorted(found, key=lambda one: one.mac)


def clear(records: FencedRecords) -> None:
    """Wait for nothing any more: what is said from now on is not kept."""
    with records.transaction() as session:
        session.execute(_forget(records))


def known(session: Session, servers: Collection[str]) -> set[str]:
    """Return those of *servers*, by UUID, that hostler knows."""
    return set(session.scalars(select(Instance.uuid).where(Instance.uuid.in_(servers))))


def tell(session: Session, event: ServerEvent) -> None:
    """Keep what was said of a port, if it is waited for; the first word stands."""
    under_way = (Migration.instance_uuid == event.server, Migration.phase != "closed")
    migrations = session.scalars(select(Migration.uuid).where(*under_way)).all()
    waiting = (JournalEntry.task == EVENT, JournalEntry.key == event.tag, JournalEntry.state == "intent")
    rows = select(JournalEntry).where(JournalEntry.migration_uuid.in_(migrations), *waiting)
    for row in session.scalars(rows.with_for_update()):
        row.state, row.data = "done", row.data | {"status": event.status}


def _of(records: FencedRecords) -> tuple[ColumnElement[bool], ...]:
    return JournalEntry.migration_uuid == records.migration, JournalEntry.task == EVENT


def _forget(records: FencedRecords) -> Delete:
    return delete(JournalEntry).where(*_of(records))
