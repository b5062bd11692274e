"""Posting: a flow is made, written to the records whole, and only then put on a board.

The order is what makes a crash harmless. A row in phase ``posting`` without a job is given up by the reconciler; a job
whose row still says ``posting`` is taken as posted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, update
from sqlalchemy.orm import Session
from taskflow.persistence import models as taskflow_models

from hostler import flows
from hostler.errors import MigrationInProgress
from hostler.flows.shape import Step
from hostler.jobboard.board import Board
from hostler.jobboard.details import LegEngine, insert_flow
from hostler.jobboard.jobs import Posting
from hostler.records import fence, instances, moves
from hostler.records.database import Database
from hostler.records.models import AtomRow, Fence, FlowRow, Migration, new_uuid, now


@dataclass(frozen=True)
class Ending:
    """What the records say when a flow was undone whole. None leaves a state as it is."""

    status: str | None = None
    expected_task_state: str | None = None  #: that becomes None again
    rescheduled: bool = False  #: another destination is tried, if the operator named none


ENDINGS = {
    "cold_migration": Ending(status="error", expected_task_state="resize_prep", rescheduled=True),
    "confirm_resize": Ending(status="finished"),
    "dry_run": Ending(status="error"),
    "resize": Ending(status="error", expected_task_state="resize_prep", rescheduled=True),
    "revert_resize": Ending(status="finished", expected_task_state="resize_reverting"),
}

#: Flows of a server that was moved: what they need to know is with the flow that moved it.
RESIZED = ("confirm_resize", "revert_resize")


def compose(name: str, store: Mapping[str, Any]) -> tuple[taskflow_models.FlowDetail, Sequence[Step]]:
    """Return a flow with all its details, prepared and validated in memory.

    Nobody else ever prepares it: one left half prepared by a worker that died could never be loaded.
    """
    detail = taskflow_models.FlowDetail(name, new_uuid())
    engine = LegEngine(flows.make(name), detail)
    engine.compile()
    if store:
        engine.storage.inject(dict(store))
    engine.storage.inject({"leg": None}, transient=True)
    engine.prepare()
    engine.validate()
    return detail, flows.shape_of(name)


def write_flow(session: Session, migration: Migration, store: Mapping[str, Any]) -> None:
    """Compose ``migration.flow_name`` and write it; sets ``migration.flow_uuid``."""
    detail, shape = compose(migration.flow_name, store)
    migration.flow_uuid = detail.uuid
    session.flush()
    ending = ENDINGS[migration.flow_name]
    insert_flow(session, migration.uuid, detail, shape, vars(ending))


def first_host(migration: Migration) -> str:
    """Return whose turn a migration's flow is first."""
    return host_of(flows.shape_of(migration.flow_name)[0], migration)


def host_of(step: Step, migration: Migration) -> str:
    """Return the host that plays the role of *step*."""
    return migration.source_compute if step.where == "source" else migration.dest_compute


def put_on_board(database: Database, board: Board, migration: Migration) -> None:
    """Put the written flow on its first board; a server that another migration holds is a refusal."""
    with database.reading() as session:
        epoch = fence.current_epoch(session, migration.uuid)
    posting = Posting(
        migration.uuid, migration.instance_uuid, migration.flow_name, migration.flow_uuid, epoch=epoch
    )
    if board.post(first_host(migration), posting):
        with database.transaction() as session:
            mark_posted(session, migration.uuid)
        return
    holder = board.place(migration.instance_uuid)
    withdraw(database, migration)
    raise MigrationInProgress(
        server=migration.instance_name, migration=holder.migration if holder else "of another installation"
    )


def put_at(board: Board, migration: Migration, epoch: int, down: str, host: str) -> None:
    """Put the job of a migration on *host*'s board, from that of the host that is *down* if it is there."""
    posting = board.posting(down, migration.uuid)
    flow = {"flow": migration.flow_name, "flow_uuid": migration.flow_uuid}
    if posting is not None and board.take_over(posting, down, host, **flow):
        return
    board.post(
        host,
        Posting(
            migration.uuid, migration.instance_uuid, migration.flow_name, migration.flow_uuid, epoch=epoch
        ),
    )


def mark_posted(session: Session, uuid: str) -> None:
    """Say that the migration has a job, unless it went on already."""
    session.execute(
        update(Migration)
        .where(Migration.uuid == uuid, Migration.phase == "posting")
        .values(phase="open")
        .execution_options(synchronize_session=False)
    )


def withdraw(database: Database, migration: Migration, reason: str | None = None) -> None:
    """Undo the records of a flow that never came to a board; nothing if it did.

    With a *reason* a new migration stays in the history as refused; without one it is forgotten.
    """
    with database.transaction() as session:
        # Locked: a worker that takes the job at this moment either finds the row closed, or has opened it.
        current = session.get(Migration, migration.uuid, with_for_update=True, populate_existing=True)
        if current is None or current.phase != "posting":
            return
        session.execute(delete(AtomRow).where(AtomRow.flow_uuid == current.flow_uuid))
        session.execute(delete(FlowRow).where(FlowRow.uuid == current.flow_uuid))
        if current.flow_name in RESIZED:
            before = moves.last_flow(session, current.uuid)
            if instances.get(session, current.instance_uuid).task_state == "resize_reverting":
                instances.save(
                    session, current.instance_uuid, expected_task_state=["resize_reverting"], task_state=None
                )
            moves.save(
                session,
                current.uuid,
                phase="closed",
                status="finished",
                outcome="success",
                flow_name=before.name,
                flow_uuid=before.uuid,
            )
            return
        if instances.get(session, current.instance_uuid).task_state == "resize_prep":
            instances.save(
                session, current.instance_uuid, expected_task_state=["resize_prep"], task_state=None
            )
        if reason is None:
            session.execute(delete(Fence).where(Fence.migration_uuid == current.uuid))
            session.execute(delete(Migration).where(Migration.uuid == current.uuid))
        else:
            moves.save(
                session,
                current.uuid,
                phase="closed",
                status="error",
                outcome="refused",
                error=reason,
                finished_at=now(),
            )
