"""What an operator can be told of one migration at one moment, read in one transaction."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from hostler.flows.graph import DONE, FAILED, PENDING, RUNNING, UNDOING, Mark
from hostler.flows.shape import Step
from hostler.records import moves
from hostler.records.models import Event, FlowRow, Instance, Migration, Progress, now
from hostler.views import steps
from hostler.views.steps import StepView
from hostler.views.text import shortened

#: Fields that a snapshot and the record call by the same name.
_COPIED = (
    *("uuid", "flow_uuid", "migration_type", "status", "phase", "outcome", "hint", "report", "request_id"),
    *("requested_by", "cancel_reason", "created_at", "finished_at", "attempt", "new_flavor", "network_map"),
    *("rate_bytes_per_s", "weight", "paused_by"),
)

#: Events that give the turn to a host.
_TURNING = ("posted", "recover", "retry", "revert", "skip", "turned-round")

#: Exit code for each outcome of a flow.
EXIT_CODES = {"success": 0, "refused": 3, "reverted": 4, "parked": 5}


@dataclass(frozen=True)
class FileView:
    """How far the copy of one file is."""

    name: str
    path: str
    done_bytes: int
    total_bytes: int
    rate_bytes_per_s: int

    @property
    def left_s(self) -> float | None:
        """Seconds to go at this rate; None where nobody can tell."""
        missing = self.total_bytes - self.done_bytes
        if missing <= 0:
            return 0.0
        return missing / self.rate_bytes_per_s if self.rate_bytes_per_s > 0 else None


@dataclass(frozen=True)
class EventView:
    """One line of the history."""

    number: int
    at: datetime.datetime
    host: str
    kind: str
    text: str


@dataclass(frozen=True)
class Attempt:
    """One of the hosts that were tried, and what became of it."""

    number: int
    uuid: str
    dest: str
    state: str
    error: str | None


@dataclass(frozen=True)
class Obstacle:
    """What a dry run found in the way."""

    host: str  #: who found it
    problem: str
    next: str  #: what to type about it; empty where a version up to 0.1 has found it


@dataclass(frozen=True)
class Snapshot:
    """One migration at one moment. Times are UTC without a zone, as in the records."""

    uuid: str
    server: str
    server_uuid: str
    migration_type: str
    flow: str
    flow_uuid: str
    source: str
    dest: str
    status: str
    phase: str
    outcome: str | None
    error: str | None
    hint: str | None
    request_id: str
    requested_by: str
    cancel_reason: str | None
    created_at: datetime.datetime
    begun_at: datetime.datetime  #: when its flow was asked for; a confirmation's is not the migration's
    finished_at: datetime.datetime | None
    at: datetime.datetime
    chosen: bool = False  #: the operator named no destination
    attempt: int = 1  #: of how many hosts this is
    successor: Attempt | None = None  #: the next attempt, where this one's destination failed
    report: dict[str, Any] | None = None
    new_flavor: dict[str, Any] | None = None  #: of a resize
    network_map: dict[str, str] | None = None  #: as the request has it: :mod:`hostler.networks`
    rate_bytes_per_s: int | None = None  #: what its copy may send
    weight: int = 1  #: its part of a budget that it shares
    paused_by: str | None = None  #: its copy sends nothing
    vm_state: str | None = None
    power_state: str | None = None
    steps: list[StepView] = field(default_factory=list)
    files: list[FileView] = field(default_factory=list)
    events: list[EventView] = field(default_factory=list)

    @property
    def ended(self) -> bool:
        """Whether nothing more happens by itself."""
        return self.phase in ("closed", "parked")

    @property
    def state(self) -> str:
        """One word: the outcome, or the phase while there is none."""
        return self.outcome or ("running" if self.phase == "open" else self.phase)

    @property
    def exit_code(self) -> int:
        """What a command that waited for it exits with."""
        if self.outcome == "success" and self.obstacles:
            return EXIT_CODES["refused"]
        return EXIT_CODES.get(self.outcome or ("parked" if self.phase == "parked" else ""), 1)

    @property
    def reverting(self) -> bool:
        """Whether the flow walks back."""
        return any(view.called_back or view.mark.backward or view.state == FAILED for view in self.steps)

    @property
    def turn(self) -> StepView | None:
        """The step that is under way or comes next; its host is whose turn it is."""
        if self.ended:
            return None
        if self.reverting:
            left = [view for view in self.steps if view.state in (DONE, FAILED, UNDOING, RUNNING)]
            return left[-1] if left else None
        return next((view for view in self.steps if view.state in (PENDING, RUNNING)), None)

    @property
    def cause(self) -> StepView | None:
        """The step whose failure turned the flow."""
        return next(
            (view for view in reversed(self.steps) if view.mark.error and not view.mark.undo_error), None
        )

    @property
    def host(self) -> str:
        """Where the server is, as far as the flow knows."""
        passed = any(view.step.point_of_no_return and view.state == DONE for view in self.steps)
        if self.flow == "revert_resize":
            return self.source if passed else self.dest
        return self.dest if passed or self.flow == "confirm_resize" else self.source

    @property
    def elapsed_s(self) -> float:
        """Seconds since the flow was asked for, or that it took."""
        return max(((self.finished_at or self.at) - self.begun_at).total_seconds(), 0.0)

    @property
    def flavor(self) -> str | None:
        """Name of the flavor that a resize gives; None for a move."""
        return str(self.new_flavor["name"]) if self.new_flavor else None

    @property
    def in_place(self) -> list[str]:
        """What is used where it is: both hosts have it."""
        return list((self.report or {}).get("in_place") or [])

    @property
    def obstacles(self) -> list[Obstacle]:
        """What a dry run has reported that stands in the way."""
        report = self.report or {}
        hints = report.get("hints") or {}
        return [
            Obstacle(host, str(problem), str(hint))
            for key, host in (("source", self.source), ("dest", self.dest))
            for problem, hint in zip_longest(report.get(key) or [], hints.get(key) or [], fillvalue="")
        ]

    @property
    def same_host(self) -> bool:
        """Whether the server stays where it is."""
        return self.source == self.dest

    @property
    def is_at_work(self) -> bool:
        """Whether a step is being done or undone, as far as the records know: its worker may have died."""
        return any(view.state in (RUNNING, UNDOING) for view in self.steps)

    @property
    def turn_since(self) -> datetime.datetime:
        """Since when it is that step's turn: the end of the last one, or what the operator typed last."""
        ends = [view.mark.finished_at for view in self.steps if view.mark.finished_at is not None]
        turned = [event.at for event in self.events if event.kind in _TURNING]
        return max([self.begun_at, *ends, *turned])

    def marks(self) -> list[Mark]:
        """Return the marks for a drawing."""
        return [view.mark for view in self.steps]


class Reader:
    """Reads snapshots of one migration; what never changes in a flow is read once."""

    def __init__(self, uuid: str) -> None:
        self.uuid = uuid
        self._flows: dict[str, tuple[datetime.datetime, list[Step]]] = {}
        self._events: list[EventView] = []

    def read(self, session: Session) -> Snapshot:
        """Return the migration as it is now; its history comes complete, but is fetched only as it grows."""
        migration = moves.get(session, self.uuid)
        server = session.execute(
            select(Instance.vm_state, Instance.power_state).where(Instance.uuid == migration.instance_uuid)
        ).first()
        begun_at, shape = self._flow(session, migration)
        self._read_events(session)
        return Snapshot(
            **{name: getattr(migration, name) for name in _COPIED},
            error=_short(migration.error),
            server=migration.instance_name,
            server_uuid=migration.instance_uuid,
            flow=migration.flow_name,
            source=migration.source_compute,
            dest=migration.dest_compute,
            begun_at=begun_at,
            at=now(),
            chosen=migration.excluded is not None,
            successor=_successor(session, migration),
            vm_state=server.vm_state if server else None,
            power_state=server.power_state if server else None,
            steps=steps.of_flow(session, migration, migration.flow_uuid, shape),
            files=[_file(row) for row in moves.progress(session, self.uuid) if row.updated_at >= begun_at],
            events=list(self._events),
        )

    def _read_events(self, session: Session) -> None:
        last = self._events[-1].number if self._events else 0
        rows = session.scalars(
            select(Event).where(Event.migration_uuid == self.uuid, Event.id > last).order_by(Event.id)
        )
        self._events += [EventView(row.id, row.at, row.host, row.kind, shortened(row.text)) for row in rows]

    def _flow(self, session: Session, migration: Migration) -> tuple[datetime.datetime, list[Step]]:
        uuid = migration.flow_uuid
        if uuid not in self._flows:
            row = session.execute(
                select(FlowRow.created_at, FlowRow.meta).where(FlowRow.uuid == uuid)
            ).first()
            if row is None:
                return migration.created_at, []
            self._flows[uuid] = row.created_at, steps.shape_of(row.meta)
        return self._flows[uuid]


def attempts(session: Session, uuid: str) -> list[Attempt]:
    """Return all attempts at what the migration of that uuid is one of, the first first."""
    return [_attempt(one) for one in moves.attempts(session, moves.get(session, uuid))]


def _successor(session: Session, migration: Migration) -> Attempt | None:
    if migration.phase != "closed" or migration.excluded is None:
        return None
    found = moves.successor(session, migration.uuid)
    return _attempt(found) if found is not None else None


def _attempt(row: Migration) -> Attempt:
    return Attempt(row.attempt, row.uuid, row.dest_compute, row.outcome or row.phase, _short(row.error))


def find(session: Session, name: str) -> Snapshot:
    """Return a snapshot of the migration that *name* names."""
    return Reader(moves.find(session, name).uuid).read(session)


def _short(text: str | None) -> str | None:
    return None if text is None else shortened(text)


def _file(row: Progress) -> FileView:
    return FileView(row.name, row.path, row.done_bytes, row.total_bytes, row.rate_bytes_per_s)
