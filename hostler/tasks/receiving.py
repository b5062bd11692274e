"""What begins to arrive on the destination: a file that belongs to the host once, whoever needs it."""

from __future__ import annotations

from collections.abc import Sequence

from hostler.errors import MigrationPreCheckError, SharedFileArriving
from hostler.objects import Unit
from hostler.records import moves
from hostler.records.models import Migration
from hostler.tasks.base import Leg


def begin_receiving(leg: Leg, units: Sequence[Unit]) -> list[Unit]:
    """Make the part directories; return the units that must be received.

    A SHARED one that another migration under way receives is waited for: :class:`~hostler.errors.SharedFileArriving`
    gives the job back until then. One that came since the destination was checked must be the source's.
    """
    arriving = _make_parts(leg, units)
    present = [unit for unit in units if unit not in arriving]
    problems = leg.drivers.files.other_contents(
        present, lambda path: leg.drivers.verifier.digest(path, leg.checkpoint).digest
    )
    if problems:
        raise MigrationPreCheckError(problems, host=leg.host)
    return arriving


def take_up(leg: Leg, arriving: Sequence[Unit]) -> None:
    """Let an older copy of the server be where it arrives, if there is one: only what differs is sent then."""
    facts = (leg.migration.instance, leg.migration.uuid)
    if used := leg.drivers.files.take_up(arriving, *facts):
        with leg.records.transaction() as session:
            leg.records.note(session, "kept", f"only what differs is sent from what lay in {', '.join(used)}")


def _make_parts(leg: Leg, units: Sequence[Unit]) -> list[Unit]:
    """Return the units that must be received; those of migrations that are over are nobody's."""
    over: set[str] = set()
    while True:
        try:
            return leg.drivers.files.make_parts(units, leg.migration.instance, leg.migration.uuid, over=over)
        except SharedFileArriving as arriving:
            other = str(arriving.migration)
            if _is_under_way(leg, other):
                _say(leg, str(arriving))
                raise
            over.add(other)


def _is_under_way(leg: Leg, migration: str) -> bool:
    """Whether *migration* goes on by itself; one that is parked may never do."""
    with leg.records.reading() as session:
        row = session.get(Migration, migration)
        return row is not None and row.phase in ("posting", "open")


def _say(leg: Leg, text: str) -> None:
    """Write into the migration's history what it waits for, once."""
    with leg.records.transaction() as session:
        said = [one.text for one in moves.events(session, leg.migration.uuid) if one.kind == "waits"]
        if text not in said:
            leg.records.note(session, "waits", text)
