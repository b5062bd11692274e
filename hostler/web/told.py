"""What the API tells, as records whose fields are its schema, and the page shows the same."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from hostler.flows import graph
from hostler.views.changes import ending
from hostler.views.listing import Line
from hostler.views.snapshot import Snapshot
from hostler.views.steps import StepView
from hostler.views.text import shortened, stamp
from hostler.views.timeline import Entry
from hostler.views.turns import Waiting

CANCEL, RETRY, REVERT, CONFIRM, BRING_BACK = VERBS = ("cancel", "retry", "revert", "confirm", "bring-back")


@dataclass(frozen=True)
class Listed:
    """A migration of the list. Times are ISO 8601 with their zone."""

    uuid: str
    server: str
    server_uuid: str
    type: str
    status: str
    state: str
    flow: str
    source: str
    dest: str
    attempt: int
    error: str | None
    hint: str | None
    requested_by: str
    request_id: str
    created_at: str
    finished_at: str | None


@dataclass(frozen=True)
class ListPage:
    """A page of the list; *following* is the next one's *after*, None behind the last."""

    migrations: list[Listed]
    following: str | None


@dataclass(frozen=True)
class Stage:
    """One step."""

    number: int
    name: str
    host: str
    state: str
    words: str
    seconds: float | None
    error: str | None
    undo: str


@dataclass(frozen=True)
class Copy:
    """How far a disk is."""

    path: str
    done_bytes: int
    total_bytes: int
    rate_bytes_per_s: int
    left_s: float | None


@dataclass(frozen=True)
class Happened:
    """One line of the history."""

    at: str
    host: str
    kind: str
    text: str
    by_operator: bool
    seconds: float | None
    error: str | None


@dataclass(frozen=True)
class Shown:
    """One migration. *verbs*: what an operator may ask of it now; *next*: what to type, where it needs that."""

    uuid: str
    server: str
    server_uuid: str
    type: str
    status: str
    state: str
    ended: bool
    reverting: bool
    flow: str
    source: str
    dest: str
    host: str
    attempt: int
    successor: str | None
    error: str | None
    sentence: str | None
    next: str | None
    waiting: str | None
    elapsed_s: float
    request_id: str
    requested_by: str
    created_at: str
    finished_at: str | None
    steps: list[Stage]
    files: list[Copy]
    verbs: list[str]


@dataclass(frozen=True)
class Timeline:
    """What happened to one migration, in order."""

    history: list[Happened]


@dataclass(frozen=True)
class HostShown:
    """One host. *worker*: ``up``, ``down``, or ``unknown`` while ZooKeeper does not answer."""

    name: str
    worker: str
    disabled_reason: str | None
    worker_version: str
    servers: int
    queue: int | None
    vcpus_free: int
    memory_free_mb: int
    disk_free_bytes: int


@dataclass(frozen=True)
class HostList:
    """All hosts."""

    hosts: list[HostShown]


@dataclass(frozen=True)
class Problem:
    """Why not. *kind*: the error's name in the manual; *hint*: what to do next."""

    kind: str
    error: str
    hint: str | None


@dataclass(frozen=True)
class Accepted:
    """A verb was heeded."""

    migration: str


def listed(line: Line) -> Listed:
    """Return a line of the list."""
    return Listed(
        uuid=line.uuid,
        server=line.instance_name,
        server_uuid=line.instance_uuid,
        type=line.migration_type,
        status=line.status,
        state=line.state,
        flow=line.flow_name,
        source=line.source_compute,
        dest=line.dest_compute,
        attempt=line.attempt,
        error=None if line.error is None else shortened(line.error),
        hint=line.hint,
        requested_by=line.requested_by,
        request_id=line.request_id,
        created_at=stamp(line.created_at) or "",
        finished_at=stamp(line.finished_at),
    )


def shown(seen: Snapshot, waiting: Waiting | None = None) -> Shown:
    """Return one migration."""
    sentence, following = ending(seen) if seen.ended else (None, "")
    drawing = graph.Drawing([view.step for view in seen.steps])
    return Shown(
        uuid=seen.uuid,
        server=seen.server,
        server_uuid=seen.server_uuid,
        type=seen.migration_type,
        status=seen.status,
        state=seen.state,
        ended=seen.ended,
        reverting=seen.reverting,
        flow=seen.flow,
        source=seen.source,
        dest=seen.dest,
        host=seen.host,
        attempt=seen.attempt,
        successor=seen.successor.uuid if seen.successor else None,
        error=seen.error,
        sentence=sentence,
        next=following or None,
        waiting=waiting.text if waiting else None,
        elapsed_s=round(seen.elapsed_s, 1),
        request_id=seen.request_id,
        requested_by=seen.requested_by,
        created_at=stamp(seen.created_at) or "",
        finished_at=stamp(seen.finished_at),
        steps=[_stage(view, seen, drawing) for view in seen.steps],
        files=[
            Copy(one.path, one.done_bytes, one.total_bytes, one.rate_bytes_per_s, one.left_s)
            for one in seen.files
        ],
        verbs=verbs(seen),
    )


def _stage(view: StepView, seen: Snapshot, drawing: graph.Drawing) -> Stage:
    mark, spent = view.mark, view.mark.duration_s(seen.at)
    return Stage(
        number=view.number,
        name=view.name,
        host=view.host,
        state=mark.state,
        words=mark.words,
        seconds=None if spent is None else round(spent, 1),
        error=mark.undo_error or mark.error,
        undo=drawing.undo(view.number - 1),
    )


def happened(entry: Entry) -> Happened:
    """Return a line of the history."""
    seconds = None if entry.seconds is None else round(entry.seconds, 1)
    return Happened(
        at=stamp(entry.at) or "",
        host=entry.host,
        kind=entry.kind,
        text=entry.text,
        by_operator=entry.by_operator,
        seconds=seconds,
        error=entry.error,
    )


def verbs(seen: Snapshot) -> list[str]:
    """Return what an operator may ask of it; whoever asks may still be refused: the records decide then."""
    if seen.phase == "parked":
        return [RETRY, REVERT]
    if not seen.ended:
        return [CANCEL]
    return [CONFIRM, BRING_BACK] if seen.status == "finished" else []


def plain(record: Any) -> Any:
    """Return a record as JSON has it."""
    return dataclasses.asdict(record)
