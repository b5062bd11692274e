"""What may be asked of a server that was moved and waits: to confirm it, or to bring it back.

Both go on under the migration's uuid, with its fence and what its steps have written down. One compare-and-swap of its
record lets one of several that ask at once win.
"""

from __future__ import annotations

import shlex
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from hostler.errors import HostlerError, HostUnavailable, InstanceInvalidState, MigrationInProgress
from hostler.flows import shape_of
from hostler.jobboard import refusals
from hostler.jobboard.board import Board
from hostler.jobboard.details import load_flow
from hostler.jobboard.posting import put_on_board, write_flow
from hostler.objects import PowerState
from hostler.records import fence, instances, moves
from hostler.records.database import Database
from hostler.records.models import Instance, Migration
from hostler.tasks.base import MigrationFacts
from hostler.tasks.checks import writes_would_be_lost
from hostler.tasks.shared_storage import goes_back_whole


def confirm(database: Database, board: Board, server: str, *, requested_by: str) -> str:
    """Ask to give up the way back; return the migration's uuid."""
    alive = board.alive()
    with database.transaction() as session:
        instance = instances.find(session, server)
        migration = _waiting(session, instance, "confirm")
        _refuse_silent(migration, alive)
        _take_up(session, migration, "confirm_resize", "confirming", {})
        said = f"confirm asked for by {requested_by}"
        fence.add_event(session, migration.uuid, instance.host, "posted", said)
    put_on_board(database, board, migration)
    return migration.uuid


def revert(
    database: Database, board: Board, server: str, *, requested_by: str, reason: str, drop_writes: bool
) -> str:
    """Ask to bring the server back to what the source has set aside; return the migration's uuid.

    What it has written since is dropped: without *drop_writes* that is
    :class:`~hostler.errors.WritesWouldBeLost`. Where all its files have stayed in place, nothing is.
    """
    alive = board.alive()
    with database.transaction() as session:
        instance = instances.find(session, server)
        migration = _waiting(session, instance, "revert")
        _refuse_silent(migration, alive)
        was_parked = migration.phase == "parked"
        known = {"drop_writes": drop_writes}
        facts = _take_up(session, migration, "revert_resize", "reverting", known)
        ran = facts["was_running"] or instance.power_state != PowerState.SHUTDOWN
        if ran and not drop_writes and not goes_back_whole(facts["inventory"], migration.report):
            raise writes_would_be_lost(MigrationFacts.of(migration))
        with refusals.if_lost(instance, "revert", "resized"):
            instances.save(session, instance.uuid, expected_task_state=[None], task_state="resize_reverting")
        said = f"revert asked for by {requested_by}: {reason}"
        fence.add_event(session, migration.uuid, instance.host, "revert", said)
    put_on_board(database, board, migration)
    if was_parked:
        board.unpark(migration.uuid)
    return migration.uuid


def _waiting(session: Session, instance: Instance, method: str) -> Migration:
    """Return the migration of the server that waits to be confirmed; refused if none does, or it is locked."""
    instances.refuse_locked(instance)
    busy = instances.migration_under_way(session, instance.uuid)
    if busy is not None and not (method == "revert" and _is_stranded(busy)):
        raise MigrationInProgress(server=instance.name, migration=busy.uuid)
    waits = busy or instances.unconfirmed_migration(session, instance.uuid)
    if waits is None or instance.vm_state != "resized":
        raise _not_waiting(session, instance, method)
    return waits


def _not_waiting(session: Session, instance: Instance, method: str) -> HostlerError:
    last = session.scalars(
        select(Migration)
        .where(Migration.instance_uuid == instance.uuid, Migration.migration_type != "dry-run")
        .order_by(Migration.created_at.desc())
        .limit(1)
    ).first()
    name = shlex.quote(instance.name)
    what, hint = "was never moved", f"hostler server migrate {name} --to HOST"
    if last is not None and last.status == "confirmed":
        what = f"was confirmed on {last.dest_compute}: nothing of it is left on {last.source_compute}"
        hint = f"hostler server migrate {name} --to {last.source_compute}"
    elif last is not None:
        what, hint = f"is {instance.vm_state} on {instance.host}", f"hostler server show {name}"
        if last.status == "reverted":
            what = f"was brought back to {last.source_compute} already"
    return InstanceInvalidState(
        f"server {instance.name!r} {what}: cannot {method} it; it must be resized",
        server=instance.name,
        state=instance.vm_state,
        method=method,
        allowed="resized",
        hint=hint,
    )


def _refuse_silent(migration: Migration, alive: list[str]) -> None:
    for host in (migration.source_compute, migration.dest_compute):
        if host not in alive:
            raise HostUnavailable(host=host)


def _is_stranded(migration: Migration) -> bool:
    """Tell whether the server was handed over, and its guest did not start there: it can only go back."""
    return (migration.phase, migration.status) == ("parked", "finished")


def _take_up(
    session: Session, migration: Migration, flow: str, status: str, more: dict[str, Any]
) -> dict[str, Any]:
    """Give the migration its next flow; return all that is known of it. One of several gets through."""
    facts = load_flow(session, moves.first_flow(session, migration.uuid).uuid).symbols() | more
    row = moves.get(session, migration.uuid, hold=True)
    waits = row.phase == "closed" and row.status in ("finished", "confirming")
    fresh: dict[str, Any] = dict.fromkeys(("outcome", "error", "hint", "finished_at", "cancel_reason"))
    if not (waits or _is_stranded(row)) or not moves.save(
        session,
        row.uuid,
        expected_status=[row.status],
        status=status,
        phase="posting",
        flow_name=flow,
        **fresh,
    ):
        raise MigrationInProgress(server=migration.instance_name, migration=migration.uuid)
    session.refresh(migration)
    fence.forget(session, migration.uuid, ["claims"])
    wanted = {name for step in shape_of(flow) for name in step.requires}
    write_flow(session, migration, {name: facts[name] for name in wanted & facts.keys()})
    return facts
