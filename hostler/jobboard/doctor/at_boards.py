"""ZooKeeper, compared with the records."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import dataclass, field

from hostler.jobboard.board import Board
from hostler.jobboard.doctor import findings
from hostler.jobboard.doctor.findings import Facts, Finding, Severity, fixable
from hostler.jobboard.doctor.recorded import Fate, Recorded, Standing
from hostler.jobboard.jobs import Place, Posting
from hostler.records.models import now

#: How to take a node away that is none of ours to understand.
_DELETE = "zkCli.sh -server {servers} deleteall {path}"


@dataclass(frozen=True)
class Job:
    """One job of one board."""

    host: str
    migration: str  #: the node's name
    posting: Posting | None  #: None: it cannot be read
    locked: bool


@dataclass
class Boards:
    """One look at ZooKeeper."""

    servers: str = ""
    root: str = ""
    hosts: list[str] = field(default_factory=list)
    alive: list[str] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    places: dict[str, Place] = field(default_factory=dict)
    parked: list[str] = field(default_factory=list)
    wishes: list[str] = field(default_factory=list)

    def delete(self, *names: str) -> str:
        """Return how a node is deleted by hand."""
        return _DELETE.format(servers=self.servers, path="/".join((self.root, *names)))


def read(board: Board) -> Boards:
    """Look at ZooKeeper. The servers' nodes come first: a job that moves meanwhile is then seen on some board."""
    places = {instance: board.place(instance) for instance in board.held_instances()}
    hosts = board.hosts()
    return Boards(
        servers=",".join(f"{name}:{port}" for name, port in board.client.hosts),
        root=board.root,
        hosts=hosts,
        alive=board.alive(),
        jobs=[
            Job(host, migration, board.posting(host, migration), board.locked(host, migration))
            for host in hosts
            for migration in board.jobs(host)
        ],
        places={instance: place for instance, place in places.items() if place is not None},
        parked=board.all_parked(),
        wishes=board.wishes(),
    )


def has_job(board: Board, fate: Fate) -> bool:
    """Tell whether the migration's job is on a board; the server's node says on which, and moves with it."""
    while True:
        place = board.place(fate.instance)
        if place is None or place.migration != fate.uuid:
            return False
        posting = board.posting(place.board, fate.uuid)
        if posting is not None and posting.flow_uuid == fate.flow_uuid:
            return True
        if board.place(fate.instance) == place:
            return False


def examine(boards: Boards, recorded: Recorded, posting_timeout_s: float) -> Iterator[Finding]:
    """Give everything in ZooKeeper that is not as the records say."""
    at = AtBoards(boards, recorded)
    yield from at.jobs()
    yield from at.jobless(datetime.timedelta(seconds=posting_timeout_s))
    yield from at.places()
    yield from at.signs()
    yield from at.strange_boards()


class AtBoards:
    """ZooKeeper beside the records."""

    def __init__(self, boards: Boards, recorded: Recorded) -> None:
        self._boards = boards
        self._recorded = recorded

    def jobs(self) -> Iterator[Finding]:
        """Give jobs that are nobody's, are there twice, or are held by a session that is no worker's."""
        for job in self._boards.jobs:
            facts = self._facts(job)
            node = f"job {job.migration} on {job.host}'s board"
            works = job.host in self._boards.alive
            if job.posting is None or job.posting.migration != job.migration:
                command = self._boards.delete("boards", job.host, job.migration)
                text = f"{node} cannot be read: another version wrote it, or nobody of ours"
                yield Finding(kind="unreadable-job", text=text, command=command, **facts)
            elif (why := self._stale(job, job.posting)) is not None and not (job.locked and works):
                yield fixable(kind="stale-job", text=f"{node} {why}", **facts)
            elif job.locked and not works:
                text = f"{node} is locked by a session, and {job.host} has no worker"
                command = findings.start_worker(job.host)
                yield Finding(kind="lock", text=text, command=command, **facts)

    def _facts(self, job: Job) -> Facts:
        instance = self._recorded.fate(job.migration).instance
        return {"host": job.host, "object": job.migration, "migration": job.migration, "instance": instance}

    def _stale(self, job: Job, posting: Posting) -> str | None:
        """Return why nobody will ever do this job."""
        fate = self._recorded.fate(job.migration)
        if fate.standing is Standing.UNKNOWN:
            return "is of a migration that the records do not know"
        if fate.standing is not Standing.UNDER_WAY:
            return f"is of {fate.name}'s migration, whose flow is over"
        if fate.phase and posting.flow_uuid != fate.flow_uuid:
            return f"is of an earlier flow of {fate.name}'s migration"
        place = self._boards.places.get(posting.instance)
        on = [other.host for other in self._boards.jobs if other.migration == job.migration]
        if place is not None and place.board != job.host and place.board in on:
            return f"is on {place.board}'s board, too, where the server's node has it"
        return None

    def jobless(self, posting_timeout: datetime.timedelta) -> Iterator[Finding]:
        """Give migrations that wait for a job that nobody has."""
        on_board = {(job.migration, job.posting.flow_uuid) for job in self._boards.jobs if job.posting}
        for fate in self._recorded.migrations.values():
            if (fate.uuid, fate.flow_uuid) in on_board:
                continue
            if fate.phase == "open":
                kind, text = "no-job", "is open, and on no board"
            elif fate.phase == "posting" and fate.updated_at and now() - fate.updated_at > posting_timeout:
                kind, text = "never-posted", "was never posted: whoever asked for it died in between"
            else:
                continue
            facts: Facts = {"object": fate.uuid, "migration": fate.uuid, "instance": fate.instance}
            yield fixable(kind=kind, host="", text=f"{fate.name}'s migration {fate.uuid} {text}", **facts)

    def places(self) -> Iterator[Finding]:
        """Give servers that are held for a migration that is over."""
        on_board = {job.migration for job in self._boards.jobs}
        for instance, place in self._boards.places.items():
            fate = self._recorded.fate(place.migration)
            facts: Facts = {"host": "", "object": instance, "instance": instance}
            if not place.migration:
                command = self._boards.delete("instances", instance)
                text = f"the node that holds server {instance} cannot be read"
                yield Finding(kind="unreadable-place", text=text, command=command, **facts)
            elif fate.standing is not Standing.UNDER_WAY and place.migration not in on_board:
                text = f"server {instance} is held for migration {place.migration}, {fate.standing}"
                yield fixable(kind="held", text=text, migration=place.migration, **facts)

    def signs(self) -> Iterator[Finding]:
        """Give notices and wishes of migrations that are not parked, or over; parked ones without a notice."""
        on_board = {job.migration for job in self._boards.jobs}
        for migration in self._boards.parked:
            fate = self._recorded.fate(migration)
            if fate.standing is not Standing.UNDER_WAY or fate.phase == "open":
                yield self._sign("parked-notice", migration, "ZooKeeper has it as parked, and it is not")
        for migration in self._boards.wishes:
            if self._recorded.standing(migration) is not Standing.UNDER_WAY:
                yield self._sign("wish", migration, "a wish is left in ZooKeeper, and nobody will look at it")
        for fate in self._recorded.migrations.values():
            if fate.phase == "parked" and fate.uuid not in on_board | set(self._boards.parked):
                yield Finding(
                    kind="no-parked-notice",
                    host="",
                    object=fate.uuid,
                    text=f"{fate.name}'s migration {fate.uuid} is parked, and ZooKeeper does not know it",
                    command=findings.migration("retry", fate.uuid),
                    migration=fate.uuid,
                    instance=fate.instance,
                )

    def _sign(self, kind: str, migration: str, text: str) -> Finding:
        fate = self._recorded.fate(migration)
        text = f"migration {migration}, {fate.standing}: {text}"
        return fixable(
            kind=kind, host="", object=migration, text=text, migration=migration, instance=fate.instance
        )

    def strange_boards(self) -> Iterator[Finding]:
        """Give the boards of hosts without a record."""
        for host in self._boards.hosts:
            if host in self._recorded.hosts:
                continue
            waiting = sum(job.host == host for job in self._boards.jobs)
            text = f"there is a board of {host}, and no record of that host"
            if waiting:
                command = findings.start_worker(host)
                yield Finding(
                    kind="strange-board",
                    host=host,
                    object=host,
                    text=f"{text}; jobs on it: {waiting}",
                    command=command,
                    severity=Severity.ERROR,
                )
            else:
                yield fixable(kind="strange-board", host=host, object=host, text=text)
