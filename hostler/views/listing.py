"""The list of migrations: filtered, the latest first, a page at a time."""

from __future__ import annotations

import dataclasses
import datetime
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, and_, or_, select
from sqlalchemy.orm import Session

from hostler.errors import InstanceNotFound, MigrationNotFound, MigrationStateNotKnown
from hostler.records import hosts, instances, states
from hostler.records.models import Migration

PHASES = ("posting", "open", "parked", "closed")
OUTCOMES = ("success", "refused", "reverted", "parked")
#: Words that a list may be asked for: a migration's status, its outcome or its phase.
STATES = tuple(dict.fromkeys((*PHASES, *OUTCOMES, *filter(None, states.STATUS.states))))
#: Rows of a page unless another number is asked for.
PAGE = 50


@dataclass(frozen=True)
class Wanted:
    """Which migrations are listed; whatever is None (or empty) leaves out none."""

    state: str | None = None  #: one of :data:`STATES`
    server: str | None = None  #: name or UUID; also of one that is gone
    host: str | None = None  #: it comes from there, or goes there
    since: datetime.datetime | None = None  #: asked for then or later; UTC without a zone
    until: datetime.datetime | None = None  #: asked for before that
    dry_runs: bool = False  #: those too


@dataclass(frozen=True)
class Line:
    """One migration of a list. Times are UTC without a zone."""

    uuid: str
    instance_uuid: str
    instance_name: str
    migration_type: str
    status: str
    phase: str
    outcome: str | None
    error: str | None
    hint: str | None
    source_compute: str
    dest_compute: str
    flow_name: str
    flow_uuid: str
    request_id: str
    requested_by: str
    attempt: int
    created_at: datetime.datetime
    finished_at: datetime.datetime | None

    @property
    def state(self) -> str:
        """One word: the outcome, or the phase while there is none."""
        return self.outcome or self.phase


@dataclass(frozen=True)
class Page:
    """A part of the list. *following*: where the next one begins (see :func:`page`); None: this is the last."""

    lines: list[Line]
    following: str | None


_COLUMNS = tuple(getattr(Migration, one.name) for one in dataclasses.fields(Line))


def page(session: Session, wanted: Wanted, *, limit: int = PAGE, after: str | None = None) -> Page:
    """Return up to *limit* migrations (0: all), the latest first, from the one behind *after*.

    *after*: the UUID of the last one of the page before. Pages neither skip nor repeat one while new ones come.
    """
    statement = _filtered(session, wanted)
    if after is not None:
        statement = statement.where(_behind(session, after))
    if limit > 0:
        statement = statement.limit(limit + 1)  # one more tells whether there is another page
    lines = [Line(*row) for row in session.execute(statement)]
    if limit > 0 and len(lines) > limit:
        return Page(lines[:limit], lines[limit - 1].uuid)
    return Page(lines, None)


def under_way(session: Session) -> list[str]:
    """Return the UUIDs of the migrations under way or parked, the oldest first; dry runs are none."""
    found = (
        select(Migration.uuid)
        .where(Migration.phase.in_(instances.UNDER_WAY), Migration.migration_type != "dry-run")
        .order_by(Migration.created_at, Migration.uuid)
    )
    return list(session.scalars(found))


def _filtered(session: Session, wanted: Wanted) -> Select[Any]:
    statement = select(*_COLUMNS).order_by(Migration.created_at.desc(), Migration.uuid)
    if not wanted.dry_runs:
        statement = statement.where(Migration.migration_type != "dry-run")
    if (state := wanted.state) is not None:
        if state not in STATES:
            raise MigrationStateNotKnown(state=state, known=", ".join(STATES))
        statement = statement.where(
            or_(Migration.status == state, Migration.outcome == state, Migration.phase == state)
        )
    if wanted.server is not None:
        statement = statement.where(_of_server(session, wanted.server))
    if wanted.host is not None:
        name = hosts.get(session, wanted.host).name
        statement = statement.where(or_(Migration.source_compute == name, Migration.dest_compute == name))
    if wanted.since is not None:
        statement = statement.where(Migration.created_at >= wanted.since)
    if wanted.until is not None:
        statement = statement.where(Migration.created_at < wanted.until)
    return statement


def _of_server(session: Session, name: str) -> Any:
    try:
        return Migration.instance_uuid == instances.find(session, name).uuid
    except InstanceNotFound:
        if not instances.storable(name):
            raise
        gone = or_(Migration.instance_uuid == name.lower(), Migration.instance_name == name)
        if session.scalar(select(Migration.uuid).where(gone).limit(1)) is None:
            raise
        return gone


def _behind(session: Session, uuid: str) -> Any:
    last = session.scalar(select(Migration.created_at).where(Migration.uuid == uuid))
    if last is None:
        raise MigrationNotFound(name=uuid)
    return or_(Migration.created_at < last, and_(Migration.created_at == last, Migration.uuid > uuid))
