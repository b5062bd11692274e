"""TaskFlow's persistence for one leg: its flow's details in our tables, each write under the fence.

TaskFlow's own backend describes its tables anew at every write, which is most of the CPU time of a flow. This one
holds the details that the leg loaded and writes only what changed, one fenced transaction a change of state. The
state of the flow itself is not kept: it is derived from the steps (:mod:`hostler.jobboard.baton`).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from sqlalchemy import Update, bindparam, insert, select, update
from sqlalchemy.orm import Session
from taskflow import states
from taskflow.engines.action_engine.compiler import PatternCompiler
from taskflow.engines.action_engine.engine import SerialActionEngine
from taskflow.patterns import linear_flow
from taskflow.persistence import models
from taskflow.storage import Storage

from hostler import flows
from hostler.errors import FlowUnreadable, StepNotFound
from hostler.flows.shape import Step
from hostler.records.database import Unreadable
from hostler.records.fence import FencedRecords
from hostler.records.models import AtomRow, FlowRow, now

#: Columns of an atom that TaskFlow changes.
_CHANGING = ("state", "intention", "results", "failure", "revert_results", "revert_failure")

_CLOCKS = {
    states.RUNNING: "started_at",
    states.SUCCESS: "finished_at",
    states.FAILURE: "finished_at",
    states.REVERTING: "revert_started_at",
    states.REVERTED: "revert_finished_at",
    states.REVERT_FAILURE: "revert_finished_at",
}

FORMAT = 1

#: What a step's state and intention can be; anything else would be taken for done.
_STATES = {None, states.PENDING, *_CLOCKS}
_INTENTIONS = {None, states.EXECUTE, states.REVERT, states.IGNORE}
#: What is known of how a flow ends when it is undone: see :class:`hostler.jobboard.posting.Ending`.
_ENDING = ("status", "expected_task_state")


class LegBackend:
    """What TaskFlow calls a backend and a connection at once: it opens nothing, so there is nothing to close."""

    def __init__(self, records: FencedRecords, detail: models.FlowDetail) -> None:
        self._records = records
        self._written = {atom.uuid: _columns(atom) for atom in detail}

    def get_connection(self) -> LegBackend:
        """Return the connection: the backend itself."""
        return self

    def close(self) -> None:
        """Nothing is open."""

    def update_flow_details(self, detail: models.FlowDetail) -> models.FlowDetail:
        """Accept a new state of the flow; its steps were all made when it was posted."""
        unknown = [atom.name for atom in detail if atom.uuid not in self._written]
        if unknown:
            raise FlowUnreadable(flow=detail.uuid, reason=f"it has no record of {', '.join(unknown)}")
        return detail

    def update_atom_details(self, atom: models.AtomDetail) -> models.AtomDetail:
        """Write what changed of one step; a change of TaskFlow's progress figure alone is not worth a write."""
        columns = _columns(atom)
        before = self._written[atom.uuid]
        changes = {name: value for name, value in columns.items() if value != before[name]}
        if changes:
            if clock := _CLOCKS.get(changes.get("state", "")):
                changes[clock] = now()
            self._records.execute(_update_of(frozenset(changes)), {"at_uuid": atom.uuid, **changes})
            self._written[atom.uuid] = columns
        return atom


class LegEngine(SerialActionEngine):
    """TaskFlow's serial engine, without what costs time and is of no use to a leg.

    A flow is compiled once in a process, and not for every leg anew; what one thread alone uses needs no locks.
    Both are TaskFlow's private matters: if it renames them, this is an ordinary engine again.
    """

    def __init__(
        self, flow: linear_flow.Flow, detail: models.FlowDetail, backend: LegBackend | None = None
    ) -> None:
        super().__init__(flow, detail, backend, {"gather_statistics": False})
        self._compiler = _compiler_of(flow)
        self.storage._lock = Unlocked()


class Unlocked:
    """A lock for readers and writers that are all the same thread."""

    def read_lock(self) -> AbstractContextManager[None]:
        """Let it read."""
        return nullcontext()

    write_lock = read_lock


@functools.cache
def _compiler_of(flow: linear_flow.Flow) -> PatternCompiler:
    """Return what compiles the flow when first asked, under a lock of its own, and keeps the frozen result."""
    return PatternCompiler(flow)


@functools.cache
def _update_of(columns: frozenset[str]) -> Update:
    """Return the statement that writes these columns of one step; few sets of them occur, so each is built once."""
    atoms = AtomRow.metadata.tables[AtomRow.__tablename__]
    return (
        update(atoms)
        .where(atoms.c.uuid == bindparam("at_uuid"))
        .values({name: bindparam(name) for name in columns})
    )


def _columns(atom: models.AtomDetail) -> dict[str, Any]:
    data = atom.to_dict()
    columns = {name: data[name] for name in _CHANGING}
    for name in ("failure", "revert_failure"):
        if columns[name]:
            columns[name] = _plain(columns[name])
    return columns


def _plain(failure: Mapping[str, Any]) -> dict[str, Any]:
    """Return what can be put on record: the arguments of foreign errors, causes too, may be anything at all."""
    return {
        **failure,
        "exc_args": [str(argument) for argument in failure["exc_args"]],
        "causes": [_plain(cause) for cause in failure["causes"]],
    }


def insert_flow(
    session: Session,
    migration: str,
    detail: models.FlowDetail,
    shape: Sequence[Step],
    ending: Mapping[str, Any],
) -> None:
    """Write a flow that was prepared in memory: its shape, how it ends when undone, and all its steps."""
    meta = {"format": FORMAT, "shape": [step.to_dict() for step in shape], "reverted": dict(ending)}
    session.execute(
        insert(FlowRow).values(
            uuid=detail.uuid,
            migration_uuid=migration,
            name=detail.name,
            state=None,
            meta=meta,
            created_at=now(),
        )
    )
    positions = {step.name: number for number, step in enumerate(shape, 1)}
    rows = [
        {
            "uuid": atom.uuid,
            "flow_uuid": detail.uuid,
            "position": positions.get(atom.name, 0),
            "name": atom.name,
            "version": _version(atom),
            "meta": {},
            **_columns(atom),
        }
        for atom in detail
    ]
    session.execute(insert(AtomRow), rows)


def _version(atom: models.AtomDetail) -> str | None:
    version = atom.version
    return ".".join(map(str, version)) if isinstance(version, tuple) else version


class StoredFlow:
    """A flow as the records hold it."""

    def __init__(self, row: FlowRow, atoms: list[AtomRow]) -> None:
        self.row = row
        self.atoms = {atom.name: atom for atom in atoms}
        try:
            if row.meta["format"] != FORMAT:
                raise ValueError(f"format {row.meta['format']} is not known")
            self.shape = [Step.from_dict(step) for step in row.meta["shape"]]
            self.reverted: dict[str, Any] = {name: row.meta["reverted"][name] for name in _ENDING}
            self.reverted["rescheduled"] = (
                row.meta["reverted"].get("rescheduled") is True
            )  # not known at first
            missing = [step.name for step in self.shape if step.name not in self.atoms]
            if missing or not self.shape:
                raise ValueError(f"no record of {', '.join(missing) or 'any step'}")
            for atom in atoms:
                _check(atom)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FlowUnreadable(flow=row.uuid, reason=str(error)) from error

    @property
    def states(self) -> dict[str, tuple[str, str]]:
        """State and intention of each step by name."""
        return {
            step.name: (
                self.atoms[step.name].state or states.PENDING,
                self.atoms[step.name].intention or states.EXECUTE,
            )
            for step in self.shape
        }

    def result(self, step: str) -> Any:
        """Return what a step returned."""
        return self.atoms[step].results

    def symbols(self) -> dict[str, Any]:
        """Return what the steps gave and what the flow was given, by the name under which steps ask for it."""
        given = self.atoms.get(Storage.injector_name)
        symbols: dict[str, Any] = dict(given.results or {}) if given else {}
        for step in self.shape:
            symbols |= dict.fromkeys(step.provides, self.atoms[step.name].results)
        return symbols

    def failure(self) -> Mapping[str, Any]:
        """Return why the flow turned round: TaskFlow's record of the first failure; empty if no step failed."""
        found = (self.atoms[step.name].failure for step in self.shape)
        return next((failure for failure in found if failure), {})

    def made(self) -> linear_flow.Flow:
        """Return the flow as it was posted, made of this version's steps."""
        steps = tuple((step.name, step.where, self.atoms[step.name].version or "") for step in self.shape)
        try:
            return flows.as_posted(self.row.name, steps)
        except StepNotFound as error:
            raise FlowUnreadable(flow=self.row.uuid, reason=str(error)) from error

    def detail(self) -> models.FlowDetail:
        """Return TaskFlow's view of it, never finished: whether it is was decided from the steps."""
        detail = models.FlowDetail(self.row.name, self.row.uuid)
        detail.state = states.SUSPENDED
        for row in self.atoms.values():
            try:
                detail.add(models.TaskDetail.from_dict(_atom_dict(row)))
            except Exception as error:  # whatever TaskFlow stumbles over, it is a damaged record
                raise FlowUnreadable(flow=self.row.uuid, reason=f"{row.name}: {error}") from error
        return detail


def load_flow(session: Session, uuid: str) -> StoredFlow:
    """Read a flow; one that cannot be read is :class:`~hostler.errors.FlowUnreadable`."""
    row = session.get(FlowRow, uuid, populate_existing=True)
    if row is None:
        raise FlowUnreadable(flow=uuid, reason="it has no record")
    atoms = session.scalars(
        select(AtomRow)
        .where(AtomRow.flow_uuid == uuid)
        .order_by(AtomRow.position)
        .execution_options(populate_existing=True)
    )
    return StoredFlow(row, list(atoms))


def _check(atom: AtomRow) -> None:
    """Refuse what no step writes: it would be taken for a step that is done, or hide why one failed."""
    if atom.state not in _STATES or atom.intention not in _INTENTIONS:
        raise ValueError(f"{atom.name} is in no known state: {atom.state}, {atom.intention}")
    for failure in (atom.failure, atom.revert_failure):
        if failure is not None and not isinstance(failure, dict):
            raise ValueError(f"the failure of {atom.name} is none")
    if isinstance(atom.results, Unreadable):
        raise ValueError(f"the result of {atom.name} is no JSON")


def _atom_dict(row: AtomRow) -> dict[str, Any]:
    data = {name: getattr(row, name) for name in _CHANGING}
    data["revert_results"] = row.revert_results
    return data | {
        "uuid": row.uuid,
        "name": row.name,
        "meta": dict(row.meta or {}),
        "version": tuple(int(part) for part in row.version.split(".")) if row.version else None,
    }
