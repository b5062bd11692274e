"""Migrations: their records, by whatever an operator calls them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from hostler.errors import InstanceNotFound, InvalidStateTransition, MigrationNotFound
from hostler.records import instances, states
from hostler.records.models import AtomRow, Event, FlowRow, Migration, Progress, now

#: Letters of a UUID that are enough to name a migration, if only one begins so.
PREFIX_LENGTH = 4


def get(session: Session, uuid: str, *, hold: bool = False) -> Migration:
    """Return the migration of that uuid as the database has it now; *hold* it until the transaction ends."""
    found = session.get(Migration, uuid, populate_existing=True, with_for_update=hold)
    if found is None:
        raise MigrationNotFound(name=uuid)
    return found


def find(session: Session, name: str) -> Migration:
    """Return the migration whose uuid is, or alone begins with, *name*, or the latest of that server."""
    if not instances.storable(name):
        raise MigrationNotFound(name=name)
    if found := session.get(Migration, name.lower()):
        return found
    if len(name) >= PREFIX_LENGTH and set(name.lower()) <= set("0123456789abcdef-"):
        begins = Migration.uuid.startswith(name.lower())
        begun = list(session.scalars(select(Migration).where(begins).limit(2)))
        if len(begun) == 1:
            return begun[0]
    try:
        server = instances.find(session, name)
    except InstanceNotFound:
        raise MigrationNotFound(name=name) from None
    latest = session.scalars(
        select(Migration)
        .where(Migration.instance_uuid == server.uuid, Migration.migration_type != "dry-run")
        .order_by(Migration.created_at.desc())
        .limit(1)
    ).first()
    if latest is None:
        raise MigrationNotFound(f"server {name!r} was never migrated", name=name)
    return latest


def successor(session: Session, uuid: str) -> Migration | None:
    """Return the attempt that followed the migration of that uuid, with another destination."""
    return session.scalar(select(Migration).where(Migration.retry_of == uuid))


def attempts(session: Session, migration: Migration) -> list[Migration]:
    """Return all attempts at what *migration* is one of, the first first."""
    found = [migration]
    while (before := session.get(Migration, found[0].retry_of or "")) is not None:
        found.insert(0, before)
    while (following := successor(session, found[-1].uuid)) is not None:
        found.append(following)
    return found


def in_phase(session: Session, *phases: str) -> list[Migration]:
    """Return the migrations in these phases, oldest first."""
    found = select(Migration).where(Migration.phase.in_(phases)).order_by(Migration.created_at)
    return list(session.scalars(found))


def save(
    session: Session,
    uuid: str,
    *,
    expected_status: Sequence[str] = (),
    mending: bool = False,
    **changes: Any,
) -> bool:
    """Write *changes*, if the status is one of the expected ones; tell whether it was.

    A transition that is not in :mod:`hostler.records.states` is :class:`~hostler.errors.InvalidStateTransition`,
    whatever was expected.
    """
    statement = update(Migration).where(
        Migration.uuid == uuid, *states.may_become(Migration, changes, mending=mending)
    )
    if expected_status:
        statement = statement.where(Migration.status.in_(expected_status))
    saved = session.execute(
        statement.values(updated_at=now(), **changes).execution_options(synchronize_session=False)
    )
    if saved.rowcount:  # type: ignore[attr-defined]
        return True
    row = session.get(Migration, uuid, populate_existing=True)
    awaited = row is not None and (not expected_status or row.status in expected_status)
    if awaited and (broken := states.refused(row, changes, mending=mending)):
        field, before, after = broken
        raise InvalidStateTransition(what=f"migration {uuid}", field=field, before=before, after=after)
    return False


def steps(session: Session, flow_uuid: str) -> list[AtomRow]:
    """Return the steps of a flow in order, without the row in which TaskFlow keeps the arguments."""
    found = select(AtomRow).where(AtomRow.flow_uuid == flow_uuid, AtomRow.position > 0)
    return list(session.scalars(found.order_by(AtomRow.position)))


def first_flow(session: Session, uuid: str) -> FlowRow:
    """Return the flow that moves the server, or has."""
    found = select(FlowRow).where(FlowRow.migration_uuid == uuid).order_by(FlowRow.created_at).limit(1)
    return session.scalars(found).one()


def last_flow(session: Session, uuid: str) -> FlowRow:
    """Return the flow that a migration was given last."""
    found = select(FlowRow).where(FlowRow.migration_uuid == uuid).order_by(FlowRow.created_at.desc()).limit(1)
    return session.scalars(found).one()


def arguments(session: Session, flow_uuid: str) -> dict[str, Any]:
    """Return what a flow was given when it was posted."""
    row = session.scalar(select(AtomRow).where(AtomRow.flow_uuid == flow_uuid, AtomRow.position == 0))
    return dict(row.results or {}) if row else {}


def events(session: Session, uuid: str) -> list[Event]:
    """Return the history, oldest first."""
    return list(session.scalars(select(Event).where(Event.migration_uuid == uuid).order_by(Event.id)))


def progress(session: Session, uuid: str) -> list[Progress]:
    """Return how far each file's copy is, in the order of the exports."""
    rows = session.scalars(select(Progress).where(Progress.migration_uuid == uuid))
    return sorted(rows, key=lambda row: (len(row.name), row.name))


def copied_bytes(session: Session, uuid: str) -> int:
    """Return how many bytes the copy has carried over that is, or was last, under way."""
    found = session.scalar(select(func.sum(Progress.done_bytes)).where(Progress.migration_uuid == uuid))
    return int(found or 0)  # PostgreSQL's sum of bigints is a Decimal, which no journal takes


def forget_progress(session: Session, uuid: str) -> None:
    """Remove the progress rows of a copy that starts over."""
    session.execute(delete(Progress).where(Progress.migration_uuid == uuid))
