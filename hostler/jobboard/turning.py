"""Making a flow walk back although none of its steps has failed."""

from __future__ import annotations

from sqlalchemy import update
from sqlalchemy.orm import Session
from taskflow import states

from hostler.jobboard.details import StoredFlow
from hostler.records import instances, moves
from hostler.records.models import AtomRow, Migration
from hostler.tasks.base import MigrationFacts

#: Statuses of a migration that only its hand-over leads to.
HANDED_OVER = ("finished", "confirming", "confirmed")


def keeper(migration: Migration) -> str:
    """Return the host that has the server until the point of no return: it may walk back without the other."""
    return migration.dest_compute if migration.flow_name == "revert_resize" else migration.source_compute


def is_past_return(session: Session, flow: StoredFlow, migration: MigrationFacts) -> bool:
    """Tell whether the flow's point of no return lies behind it.

    Its step may have been killed between its transaction and its success: then the server's record tells, and
    where its host stays the same, the migration's.
    """
    for step in flow.shape:
        if step.point_of_no_return and flow.states[step.name][0] != states.PENDING:
            instance = instances.get(session, migration.instance)
            if flow.row.name == "revert_resize":
                return instance.vm_state != "resized"
            if migration.same_host:
                return moves.get(session, migration.uuid).status in HANDED_OVER
            return instance.host == migration.dest
    return False


def turn_round(session: Session, flow: StoredFlow, migration: str, reason: str) -> None:
    """Let every step be undone that has succeeded, or was at work.

    Intention REVERT on all of them does that; a FAILURE would undo a step that never began.
    """
    session.execute(
        update(AtomRow)
        .where(AtomRow.flow_uuid == flow.row.uuid, AtomRow.position > 0)
        .values(intention=states.REVERT)
        .execution_options(synchronize_session=False)
    )
    moves.save(session, migration, error=reason)
