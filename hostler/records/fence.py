"""The fence: only the latest claim of a migration writes.

Each transaction of a leg begins by touching the fence's row at its own epoch. That locks the row (on SQLite:
the database) until the commit, so that no later claim slips in between; a leg whose epoch was passed matches
no row and stops. A ``SELECT ... FOR SHARE`` would not do: SQLite compiles it to a plain one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Update, bindparam, delete, insert, select, update
from sqlalchemy.orm import Session

from hostler.errors import Fenced, ServerUnreachable, Unreachable
from hostler.records import moves
from hostler.records.database import Database
from hostler.records.models import Event, Fence, JournalEntry, Reservation, now


@contextmanager
def away_ends_the_leg() -> Iterator[None]:
    """Turn a database that is away into what ends a leg without undoing anything."""
    try:
        yield
    except ServerUnreachable as error:
        raise Unreachable(str(error)) from error


_fences = Fence.metadata.tables[Fence.__tablename__]
#: Built once, and below the ORM: this begins every write of a leg.
_TOUCH = (
    update(_fences)
    .where(_fences.c.migration_uuid == bindparam("at_migration"), _fences.c.epoch == bindparam("at_epoch"))
    .values(epoch=_fences.c.epoch)
)
_RAISE = (
    update(_fences)
    .where(_fences.c.migration_uuid == bindparam("of_migration"), _fences.c.epoch < bindparam("to_epoch"))
    .values(epoch=bindparam("to_epoch"))
)
_ADD_EVENT = insert(Event.metadata.tables[Event.__tablename__])


class FencedRecords:
    """The records as one leg may write them: under its migration's epoch."""

    def __init__(self, database: Database, migration: str, epoch: int, host: str) -> None:
        self.database = database
        self.migration = migration
        self.epoch = epoch
        self.host = host

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Give a fenced session.

        :class:`~hostler.errors.Fenced` if a later claim was made; :class:`~hostler.errors.Unreachable` if the
        database is away. Both end the leg and undo nothing.
        """
        with away_ends_the_leg(), self.database.transaction() as session:
            self._touch(session.connection())
            yield session

    def execute(self, statement: Update, parameters: Mapping[str, Any]) -> None:
        """Carry out one statement in a fenced transaction of its own."""
        with away_ends_the_leg(), self.database.connection() as connection:
            self._touch(connection)
            connection.execute(statement, parameters)

    def _touch(self, connection: Connection) -> None:
        touched = connection.execute(_TOUCH, {"at_migration": self.migration, "at_epoch": self.epoch})
        if touched.rowcount != 1:
            raise Fenced(f"epoch {self.epoch} of migration {self.migration} has passed")

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Give a session that only reads; :class:`~hostler.errors.Unreachable` if the database is away."""
        with away_ends_the_leg(), self.database.reading() as session:
            yield session

    def see_valid(self) -> None:
        """Raise :class:`~hostler.errors.Fenced` if a later claim was made: asked before anything else is changed."""
        with self.transaction():
            pass

    def ends(self) -> tuple[str, str]:
        """Return the migration's source and destination."""
        with self.reading() as session:
            row = moves.get(session, self.migration)
            return row.source_compute, row.dest_compute

    def note(self, session: Session, kind: str, text: str) -> None:
        """Add a line to the migration's history."""
        add_event(session, self.migration, self.host, kind, text)

    def journal(self, task: str) -> Journal:
        """Return the write-ahead rows of one task."""
        return Journal(self, task)


class Journal:
    """What one task of one migration is about to do, has done and has undone."""

    def __init__(self, records: FencedRecords, task: str) -> None:
        self._records = records
        self._task = task

    def intend(self, key: str, **data: Any) -> None:
        """Write down that *key* is about to be done; facts of an earlier attempt are kept."""
        with self._records.transaction() as session:
            entry = session.get(JournalEntry, (self._records.migration, self._task, key))
            if entry is None:
                session.add(self._entry(key, "intent", data))
            elif entry.state == "undone":
                entry.state, entry.data = "intent", data

    def know(self, key: str, **data: Any) -> None:
        """Write down more of what is about to be done with *key*, once it is known."""
        self._put(key, "intent", data)

    def done(self, key: str, **data: Any) -> None:
        """Write down that *key* was done; *data* is added to what is known."""
        self._put(key, "done", data)

    def undone(self, key: str) -> None:
        """Write down that *key* was undone."""
        self._put(key, "undone", {})

    def get(self, key: str) -> JournalEntry | None:
        """Return the entry, unless it was undone."""
        entry = self.all().get(key)
        return entry if entry and entry.state != "undone" else None

    def all(self) -> dict[str, JournalEntry]:
        """Return all entries by key."""
        with self._records.reading() as session:
            rows = session.scalars(
                select(JournalEntry).where(
                    JournalEntry.migration_uuid == self._records.migration, JournalEntry.task == self._task
                )
            )
            return {row.key: row for row in rows}

    def _put(self, key: str, state: str, data: dict[str, Any]) -> None:
        with self._records.transaction() as session:
            entry = session.get(JournalEntry, (self._records.migration, self._task, key))
            if entry is None:
                session.add(self._entry(key, state, data))
            else:
                entry.state, entry.data = state, entry.data | data

    def _entry(self, key: str, state: str, data: dict[str, Any]) -> JournalEntry:
        migration = self._records.migration
        return JournalEntry(migration_uuid=migration, task=self._task, key=key, state=state, data=data)


def raise_fence(session: Session, migration: str, epoch: int) -> bool:
    """Let the claim of *epoch* write from now on, and no earlier one; tell whether it is the latest."""
    risen = session.connection().execute(_RAISE, {"of_migration": migration, "to_epoch": epoch})
    return bool(risen.rowcount)


def open_fence(session: Session, migration: str) -> None:
    """Make the fence of a new migration."""
    session.execute(insert(Fence).values(migration_uuid=migration, epoch=0))


def current_epoch(session: Session, migration: str) -> int:
    """Return the epoch of the latest claim known to the database."""
    return session.scalar(select(Fence.epoch).where(Fence.migration_uuid == migration)) or 0


def add_event(session: Session, migration: str, host: str, kind: str, text: str) -> None:
    """Add a line to a migration's history."""
    event = {"migration_uuid": migration, "at": now(), "host": host, "kind": kind, "text": text}
    session.connection().execute(_ADD_EVENT, event)


def forget(session: Session, migration: str, tasks: Collection[str] | None = None) -> None:
    """Remove what only a migration under way, or its way back, needs: all, or what these *tasks* have written."""
    rows = delete(JournalEntry).where(JournalEntry.migration_uuid == migration)
    session.execute(rows if tasks is None else rows.where(JournalEntry.task.in_(tasks)))
    if tasks is None:
        session.execute(delete(Reservation).where(Reservation.migration_uuid == migration))
