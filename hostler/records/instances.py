"""Servers: found by what operators type, saved by compare-and-swap."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import and_, select, update
from sqlalchemy.orm import Session
from sqlalchemy.sql import ColumnElement

from hostler.errors import (
    AmbiguousName,
    InstanceIsLocked,
    InstanceNotFound,
    InvalidStateTransition,
    UnexpectedTaskStateError,
)
from hostler.objects import PowerState
from hostler.records import states
from hostler.records.models import Instance, Migration, now

#: Phases of a migration in which the server's record belongs to it.
UNDER_WAY = ("posting", "open", "parked")
#: The migration is finished and waits to be confirmed.
UNCONFIRMED = and_(Migration.phase == "closed", Migration.status.in_(("finished", "confirming")))


def find(session: Session, name: str) -> Instance:
    """Return the server of that UUID or name."""
    if not storable(name):
        raise InstanceNotFound(name=name)
    if found := session.get(Instance, name.lower()):
        return found
    rows = session.scalars(select(Instance).where(Instance.name == name).order_by(Instance.host))
    named = [row for row in rows if row.name == name]  # MariaDB takes WEB1 for web1
    if not named:
        raise InstanceNotFound(name=name)
    if len(named) > 1:
        candidates = ", ".join(f"{instance.uuid} on {instance.host}" for instance in named)
        raise AmbiguousName(name=name, count=len(named), candidates=candidates)
    return named[0]


def storable(text: str) -> bool:
    """Tell whether a database could hold *text*: no NUL, and no bytes that are not UTF-8."""
    return "\0" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)


def get(session: Session, uuid: str) -> Instance:
    """Return the server of that UUID as the database has it now."""
    found = session.get(Instance, uuid, populate_existing=True)
    if found is None:
        raise InstanceNotFound(name=uuid)
    return found


def save(
    session: Session,
    uuid: str,
    *,
    expected_task_state: Collection[str | None] | None = None,
    mending: bool = False,
    **changes: Any,
) -> None:
    """Write *changes* if the server is in one of the expected task states (Nova's ``Instance.save``).

    :class:`~hostler.errors.UnexpectedTaskStateError` otherwise, and nothing is written. None as
    *expected_task_state* expects nothing; a collection may hold None, the state of a server that nobody works
    on. A transition that is not in :mod:`hostler.records.states` is
    :class:`~hostler.errors.InvalidStateTransition`, whatever was expected.
    """
    conditions = [Instance.uuid == uuid]
    if expected_task_state is not None:
        conditions.append(states.among(Instance.task_state, expected_task_state))
    if change(session, *conditions, mending=mending, **changes):
        return
    row = get(session, uuid)
    awaited = expected_task_state is None or row.task_state in expected_task_state
    if awaited and (broken := states.refused(row, changes, mending=mending)):
        field, before, after = broken
        raise InvalidStateTransition(what=f"server {uuid}", field=field, before=before, after=after)
    expected = " or ".join(str(state) for state in expected_task_state or ())
    raise UnexpectedTaskStateError(instance=uuid, actual=row.task_state, expected=expected)


def change(session: Session, *conditions: ColumnElement[bool], mending: bool = False, **changes: Any) -> bool:
    """Write *changes* where the conditions hold and the table of states allows them; tell whether that was so."""
    statement = update(Instance).where(*conditions, *states.may_become(Instance, changes, mending=mending))
    statement = statement.values(updated_at=now(), **changes)
    changed = session.execute(statement.execution_options(synchronize_session=False))
    return bool(changed.rowcount)  # type: ignore[attr-defined]


def refuse_locked(instance: Instance) -> None:
    """Refuse to begin anything that changes a locked server."""
    if instance.locked_reason is not None:
        server = instance.name if instance.name.isprintable() else instance.uuid
        raise InstanceIsLocked(server=server, who=instance.locked_by, reason=instance.locked_reason)


def lock(session: Session, name: str, *, who: str, reason: str) -> Instance:
    """Let nobody begin to change the server of that name (Nova's lock); return it."""
    return _set_lock(session, name, locked_reason=reason, locked_by=who, locked_at=now())


def unlock(session: Session, name: str) -> Instance:
    """Let the server of that name be changed again; return it."""
    return _set_lock(session, name, locked_reason=None, locked_by=None, locked_at=None)


def _set_lock(session: Session, name: str, **changes: Any) -> Instance:
    found = find(session, name)
    save(session, found.uuid, **changes)
    return get(session, found.uuid)


def migration_under_way(session: Session, uuid: str) -> Migration | None:
    """Return the migration that works on the server, or that waits for an operator."""
    return session.scalar(
        select(Migration).where(Migration.instance_uuid == uuid, Migration.phase.in_(UNDER_WAY)).limit(1)
    )


def unconfirmed_migration(session: Session, uuid: str) -> Migration | None:
    """Return the migration that is finished and waits to be confirmed."""
    return session.scalar(select(Migration).where(Migration.instance_uuid == uuid, UNCONFIRMED).limit(1))


def vm_state_of(power_state: PowerState) -> str:
    """Return Nova's vm_state for a guest that nobody migrates."""
    return "active" if power_state.active else "stopped"
