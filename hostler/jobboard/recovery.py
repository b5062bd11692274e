"""``migration recover``: what only a human can know is that a host will not come back soon.

Two cases. A destination that died behind the hand-over has the newest writes of the server: giving it up for the files
that the source set aside drops them, and the operator must say so. A source that died before has the only files: the
destination is freed, and the server waits for its host.

Files on storage that both hosts have are neither set aside nor dropped. A host that is said to be down must be all the
more: only QEMU's lock on them keeps a guest that runs there after all from being joined by another.

Either way the migration walks back, the steps of the host that is down are its debts, and it pays them before it
takes any job when it is back: what it holds of the server is then not started, but removed or put back.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import delete, or_, select
from sqlalchemy.orm import Session

from hostler import flows
from hostler.errors import HostlerError, InstanceInvalidState, Refused, WritesWouldBeLost
from hostler.jobboard import turning
from hostler.jobboard.board import Board
from hostler.jobboard.details import load_flow
from hostler.jobboard.posting import put_at
from hostler.objects import Flavor
from hostler.records import fence, instances, moves
from hostler.records.database import Database
from hostler.records.models import Claim, FlowRow, Instance, JournalEntry, Migration
from hostler.tasks.base import MigrationFacts
from hostler.tasks.shared_storage import goes_back_whole


class HostIsAlive(Refused):
    """The host that is said to be down has a worker."""

    template = "{host} is not down: its worker is alive"
    hint_template = "hostler migration show {migration}"


def recover(
    database: Database, board: Board, name: str, down: str, *, who: str, reason: str, drop_writes: bool
) -> str:
    """Walk a migration back without the host *down*; return its uuid."""
    alive = board.alive()
    with database.transaction() as session:
        row = moves.find(session, name)
        if down not in (row.source_compute, row.dest_compute):
            raise Refused(f"migration {row.uuid} has nothing to do with {down}", hint="hostler host list")
        if down in alive:
            raise HostIsAlive(host=down, migration=row.uuid)
        if row.source_compute == row.dest_compute:  # there is no other host that could walk back
            raise _nothing_to_recover(row, down)
        if down == row.dest_compute and _is_handed_over(session, row):
            _take_back(session, row, drop_writes)
        elif row.phase not in ("open", "parked") or row.flow_name not in flows.MOVES:
            raise _nothing_to_recover(row, down)
        flow = load_flow(session, row.flow_uuid)
        if turning.is_past_return(session, flow, MigrationFacts.of(row)):
            raise _nothing_to_recover(row, down)
        turning.turn_round(session, flow, row.uuid, f"{down} is down: {reason}")
        moves.save(session, row.uuid, phase="open", outcome=None, hint=None, finished_at=None, down_host=down)
        fence.add_event(session, row.uuid, "", "recover", f"{who}: {down} is down: {reason}")
    other = row.dest_compute if down == row.source_compute else row.source_compute
    with database.reading() as session:
        put_at(board, moves.get(session, row.uuid), fence.current_epoch(session, row.uuid), down, other)
    board.unpark(row.uuid)
    return row.uuid


def _is_handed_over(session: Session, row: Migration) -> bool:
    instance = session.get(Instance, row.instance_uuid)
    return (
        instance is not None
        and instance.host == row.dest_compute
        and row.status in ("finished", "confirming", "reverting")
        and instance.vm_state == "resized"
    )


def _take_back(session: Session, row: Migration, drop_writes: bool) -> None:
    """Make the source the server's host again, as it was before the hand-over."""
    removal = session.scalar(
        select(JournalEntry.key).where(
            JournalEntry.migration_uuid == row.uuid, JournalEntry.task == "RemoveSetAside"
        )
    )
    if removal is not None:
        raise InstanceInvalidState(
            f"what {row.source_compute} had set aside is being removed: only {row.dest_compute} has the server",
            hint=f"hostler migration show {row.uuid}",
        )
    inventory = load_flow(session, moves.first_flow(session, row.uuid).uuid).symbols()["inventory"]
    if not drop_writes and not goes_back_whole(inventory, row.report):
        raise WritesWouldBeLost(
            server=row.instance_name,
            host=row.dest_compute,
            source=row.source_compute,
            hint=f"hostler migration recover {row.uuid} --host-is-down {row.dest_compute} --reason ... --drop-writes",
        )
    flow = session.scalars(
        select(FlowRow).where(FlowRow.migration_uuid == row.uuid, FlowRow.name.in_(flows.MOVES))
    ).one()
    taken = instances.change(
        session,
        Instance.uuid == row.instance_uuid,
        Instance.host == row.dest_compute,
        or_(Instance.task_state.is_(None), Instance.task_state == "resize_reverting"),
        mending=True,
        host=row.source_compute,
        vm_state=row.old_vm_state,
        task_state="resize_finish",
        **_old_size(session, row),
    )
    if not taken:
        raise InstanceInvalidState(
            f"server {row.instance_name!r} is not as the hand-over left it",
            hint=f"hostler server show {row.instance_uuid}",
        )
    session.execute(delete(Claim).where(Claim.migration_uuid == row.uuid, Claim.host == row.source_compute))
    moves.save(
        session,
        row.uuid,
        mending=True,
        flow_uuid=flow.uuid,
        flow_name=flow.name,
        status="post-migrating",
        phase="open",
    )
    session.refresh(row)


def _old_size(session: Session, row: Migration) -> dict[str, Any]:
    """Return the size that the server had before it was resized; nothing if it was only moved."""
    if row.old_flavor is None:
        return {}
    old = Flavor.from_dict(row.old_flavor)
    kept = session.get(Claim, (row.uuid, row.source_compute))
    size = {"flavor_id": old.id, "vcpus": old.vcpus, "memory_mb": old.memory_mb}
    return size | ({"disk_bytes": kept.disk_bytes} if kept else {})


def _nothing_to_recover(row: Migration, down: str) -> HostlerError:
    return InstanceInvalidState(
        f"migration {row.uuid} is {row.status}: there is nothing in it to recover from {down}",
        hint=f"hostler migration show {row.uuid}",
    )
