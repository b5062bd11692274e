"""Room on the destination's file systems, promised before the guest is stopped.

What a migration was promised stands in its journal from the opening of its receiver until that is closed: by then
all has arrived, or nothing will.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select

from hostler.errors import MigrationPreCheckError
from hostler.objects import Unit
from hostler.records.models import JournalEntry, Migration
from hostler.tasks.base import Leg

#: Whose journal has the promise, and under which key.
_TASK, _KEY = "OpenReceiver", "space"


def reserve_space(leg: Leg, arriving: Sequence[Unit]) -> None:
    """Promise the room that *arriving* needs; refused if it is not there, or promised to others already.

    What has been kept of others is given up for it.
    """
    journal, files = leg.records.journal(_TASK), leg.drivers.files
    if not arriving or journal.get(_KEY):
        return
    need = files.space_needed(arriving, leg.migration.instance, leg.migration.uuid)
    with files.promising():
        if problems := files.space_problems(arriving, _promised(leg), list(need)):
            raise MigrationPreCheckError(problems, host=leg.host)
        journal.done(_KEY, bytes=need)


def release_space(leg: Leg) -> None:
    """Give back what was promised; nothing if nothing was."""
    journal = leg.records.journal(_TASK)
    if journal.get(_KEY):
        journal.undone(_KEY)


def _promised(leg: Leg) -> dict[str, int]:
    """Return the bytes by part directory that this host's other migrations have been promised."""
    with leg.records.reading() as session:
        rows = session.scalars(
            select(JournalEntry)
            .join(Migration, Migration.uuid == JournalEntry.migration_uuid)
            .where(
                JournalEntry.task == _TASK,
                JournalEntry.key == _KEY,
                JournalEntry.state == "done",
                Migration.dest_compute == leg.host,
                Migration.phase != "closed",
                Migration.uuid != leg.migration.uuid,
            )
        )
        return {path: int(size) for row in rows for path, size in row.data["bytes"].items()}
