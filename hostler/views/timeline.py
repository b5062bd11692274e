"""What happened to a migration, in the order in which it did: its history and the steps of all its flows."""

from __future__ import annotations

import datetime
import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, select
from sqlalchemy.orm import Session

from hostler.flows.graph import DONE, FAILED, RUNNING, UNDO_FAILED, UNDOING, UNDONE
from hostler.records import moves
from hostler.records.models import Event, FlowRow, Migration
from hostler.views import steps
from hostler.views.text import shortened

#: Events that an operator has caused; their text says who, and why.
VERBS = ("cancel", "paused", "posted", "rate", "recover", "resumed", "retry", "revert", "skip")

#: A step that was turned back while it ran, or whose worker died: it never ended.
INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class Entry:
    """One line of the timeline. *at* is UTC without a zone."""

    at: datetime.datetime
    host: str  #: where; empty for what was typed somewhere
    #: ``step`` (forward) or ``undo``, ``baton``, or the event's own: ``claimed``, ``parked``, a verb, ...
    kind: str
    text: str
    flow: str = ""  #: of a step: the name of the flow whose it is
    step: str | None = None
    state: str | None = None  #: of a step: one of :data:`hostler.flows.graph.STATES`, or :data:`INTERRUPTED`
    seconds: float | None = None  #: of a step: what it took
    error: str | None = None  #: of a step that failed: its cause first
    trace: str | None = None  #: where in the code that was
    by_operator: bool = False


def of(session: Session, migration: Migration) -> list[Entry]:
    """Return all that is known of what happened to it; what happened at one moment stays as it was written."""
    entries = [*_events(moves.events(session, migration.uuid)), *_steps(session, migration)]
    return sorted(entries, key=lambda entry: entry.at)


def _events(events: Iterable[Event]) -> Iterator[Entry]:
    holder = ""
    for event in events:
        if event.kind == "claimed":
            if holder and event.host != holder:
                yield Entry(event.at, event.host, "baton", f"the baton passed from {holder} to {event.host}")
            holder = event.host
        yield Entry(event.at, event.host, event.kind, shortened(event.text), by_operator=event.kind in VERBS)


def _steps(session: Session, migration: Migration) -> Iterator[Entry]:
    flows = select(FlowRow.uuid, FlowRow.name, FlowRow.meta).where(FlowRow.migration_uuid == migration.uuid)
    for flow in session.execute(flows.order_by(FlowRow.created_at)):
        atoms = steps.atoms(session, flow.uuid)
        for step in steps.shape_of(flow.meta):
            if (atom := atoms.get(step.name)) is not None:
                line = functools.partial(
                    Entry, host=steps.host_of(migration, step), flow=flow.name, step=step.name
                )
                yield from _done(line, step.name, atom)
                yield from _undone(line, step.name, atom)


def _done(line: Callable[..., Entry], name: str, atom: Row[Any]) -> Iterator[Entry]:
    """Give the end of a step's doing, or its beginning where it is under way or was turned back on its way."""
    begun, ended = atom.started_at, atom.finished_at
    if begun is None:
        return
    if ended is not None and ended >= begun:
        state = FAILED if atom.failure else DONE
        facts = {"seconds": (ended - begun).total_seconds(), "error": steps.sentence(atom.failure)}
        facts["trace"] = steps.trace(atom.failure)
        yield line(at=ended, kind="step", text=f"{name} {state}", state=state, **facts)
    else:
        state = RUNNING if steps.STATES.get(atom.state) == RUNNING else INTERRUPTED
        yield line(at=begun, kind="step", text=f"{name} {state}", state=state)


def _undone(line: Callable[..., Entry], name: str, atom: Row[Any]) -> Iterator[Entry]:
    """Give the same of its undoing."""
    begun, ended, state = atom.revert_started_at, atom.revert_finished_at, steps.STATES.get(atom.state)
    if begun is None or state not in (UNDOING, UNDONE, UNDO_FAILED):
        return
    facts: dict[str, Any] = {}
    if state != UNDOING and ended is not None and ended >= begun:
        facts["seconds"] = (ended - begun).total_seconds()
    if state == UNDO_FAILED:
        facts |= {"error": steps.sentence(atom.revert_failure), "trace": steps.trace(atom.revert_failure)}
    at = begun if state == UNDOING else ended or begun
    yield line(at=at, kind="undo", text=f"{name} {state}", state=state, **facts)
