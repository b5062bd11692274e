"""The steps of a migration's flows, as the records have them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, select
from sqlalchemy.orm import Session

from hostler.flows.graph import DONE, FAILED, PENDING, RUNNING, UNDO_FAILED, UNDOING, UNDONE, Mark
from hostler.flows.shape import SOURCE, Step
from hostler.records.models import AtomRow, Migration
from hostler.views.text import shortened

#: TaskFlow's word for the state of a step, and ours.
STATES = {
    "PENDING": PENDING,
    "RUNNING": RUNNING,
    "SUCCESS": DONE,
    "FAILURE": FAILED,
    "REVERTING": UNDOING,
    "REVERTED": UNDONE,
    "REVERT_FAILURE": UNDO_FAILED,
}


@dataclass(frozen=True)
class StepView:
    """One step and how far it is."""

    number: int
    step: Step
    host: str
    mark: Mark
    called_back: bool = False  #: the flow walks back, and this step will be undone

    @property
    def name(self) -> str:
        """The task's name."""
        return self.step.name

    @property
    def state(self) -> str:
        """One of the states of :mod:`hostler.flows.graph`."""
        return self.mark.state


def of_flow(session: Session, migration: Migration, flow_uuid: str, shape: Sequence[Step]) -> list[StepView]:
    """Return the steps of one of *migration*'s flows, which has this *shape*, in order."""
    rows = atoms(session, flow_uuid)
    views = []
    for number, step in enumerate(shape, 1):
        atom = rows.get(step.name)
        called_back = atom is not None and atom.intention == "REVERT"
        mark = mark_of(atom) if atom is not None else Mark()
        views.append(StepView(number, step, host_of(migration, step), mark, called_back))
    return views


def host_of(migration: Migration, step: Step) -> str:
    """Return the host whose step it is."""
    return migration.source_compute if step.where == SOURCE else migration.dest_compute


def atoms(session: Session, flow_uuid: str) -> dict[str, Row[Any]]:
    """Return what is on record of a flow's steps, by name: all but the results, which may be long."""
    columns = (AtomRow.name, AtomRow.state, AtomRow.intention, AtomRow.failure, AtomRow.revert_failure)
    times = (AtomRow.started_at, AtomRow.finished_at, AtomRow.revert_started_at, AtomRow.revert_finished_at)
    found = select(*columns, *times).where(AtomRow.flow_uuid == flow_uuid, AtomRow.position > 0)
    return {row.name: row for row in session.execute(found)}


def shape_of(meta: Any) -> list[Step]:
    """Return the steps of a flow; none where its record is damaged: what else is known of it is shown."""
    try:
        return [_step(entry) for entry in meta["shape"]]
    except (KeyError, TypeError, AttributeError):
        return []


def _step(entry: dict[str, Any]) -> Step:
    # a newer hostler may have stored more of a step than this one knows
    known = {one.name for one in dataclasses.fields(Step)}
    return Step.from_dict({key: value for key, value in entry.items() if key in known})


def mark_of(atom: Row[Any]) -> Mark:
    """Return how far one step is."""
    state = STATES.get(atom.state or "PENDING", PENDING)
    backward = state in (UNDOING, UNDONE, UNDO_FAILED)
    started, finished = (
        (atom.revert_started_at, atom.revert_finished_at) if backward else (atom.started_at, atom.finished_at)
    )
    if state in (RUNNING, UNDOING) or (finished and started and finished < started):
        finished = None
    return Mark(
        state=state,
        started_at=started,
        finished_at=finished,
        error=sentence(atom.failure),
        undo_error=sentence(atom.revert_failure) if state == UNDO_FAILED else None,
    )


def sentence(failure: Any) -> str | None:
    """Return why a step failed: TaskFlow's record of it, as far as an operator is concerned."""
    if not failure:
        return None
    if not isinstance(failure, dict):
        return "what is on record of its failure is damaged"
    text = str(failure.get("exception_str") or "").strip()
    kinds = failure.get("exc_type_names")
    return shortened(text) or (
        str(kinds[0]) if isinstance(kinds, list) and kinds else "an error without words"
    )


def trace(failure: Any) -> str | None:
    """Return where in the code it failed, if that is on record."""
    text = failure.get("traceback_str") if isinstance(failure, dict) else None
    return str(text) if text else None
