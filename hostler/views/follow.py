"""Following migrations until they end: woken by ZooKeeper, and by cheap looks at the records in between.

ZooKeeper tells when a job changes hands, but not how far a step is: that stands in the records alone. So while a
worker is at it they are asked whether anything has changed: one statement, four times a second and seldomer while
nothing has. While it waits for a worker nothing can change unless ZooKeeper says so. News that follow each other
closely are looked at together: each look is work for the servers that the workers need too.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

from sqlalchemy.orm import Session

from hostler.errors import HostlerError, ServerUnreachable
from hostler.records.models import now
from hostler.views import listing
from hostler.views.pulse import pulses
from hostler.views.snapshot import Reader, Snapshot
from hostler.views.text import command, duration

Answer = TypeVar("Answer")

#: Between two pictures, however much happens.
TICK_S = 0.25
#: Between two looks at the records of a migration at which nothing has changed for a while.
STILL_S = 1.0
#: The same where no worker is at it: the net under the watches.
IDLE_S = 5.0
PATIENCE_S = 4.0  #: a database that is away for longer ends the watching; with its own timeout: within 10 s
BLIND_S = 30.0  #: without ZooKeeper's news after it did not answer


class WaitTimeoutError(HostlerError):
    """The time to wait is over; the migration is not."""

    template = "the migration is still under way after {waited}; it goes on"


class Records(Protocol):
    """Gives what only reads."""

    def reading(self) -> AbstractContextManager[Session]:
        """Give a session."""


class Bell(Protocol):
    """Rings when something has happened."""

    def wait(self, timeout_s: float) -> bool:
        """Wait for news, but no longer than *timeout_s*; tell whether there is any."""


class Source(Protocol):
    """Where what is followed is found: :class:`hostler.jobboard.client.Client`."""

    @property
    def database(self) -> Records:
        """The records."""

    def news(self, migration: str, hosts: Iterable[str]) -> Bell:
        """Return what rings when the migration's job changes hands."""

    def news_of_all(self) -> Bell:
        """Return what rings when any job comes to a board or leaves it."""

    def is_worked_on(self, migration: str, hosts: Iterable[str]) -> bool:
        """Tell whether a worker has the job."""

    def live_workers(self) -> dict[str, dict[str, Any]]:
        """Return the workers that are alive, by host."""

    def waiting(self, host: str) -> list[str]:
        """Return the migrations on one host's board."""


def snapshots(source: Source, uuid: str, *, timeout_s: float | None = None) -> Iterator[Snapshot]:
    """Give snapshots until the migration has ended; one that goes on with another host is followed.

    The last one is given again, but for the time, where nothing has changed. A database that is away for a moment is
    waited for; :class:`WaitTimeoutError` after *timeout_s*.
    """
    began = time.monotonic()
    one = _One(source, uuid)
    while True:
        seen = one.look()
        yield seen
        if seen.successor is not None:
            one = _One(source, seen.successor.uuid)
            continue
        if seen.ended:
            return
        _refuse_late(began, timeout_s, command("migration", "watch", seen.uuid))
        one.wait(seen)


def everything(source: Source, *, timeout_s: float | None = None) -> Iterator[list[Snapshot]]:
    """Give snapshots of all migrations under way, those too that come meanwhile, until there is none.

    Each is in every list from then on until it has ended, and once more. Those that are parked at the beginning
    have ended: only an operator can move them.
    """
    began = time.monotonic()
    every = _Every(source)
    while True:
        seen = every.look()
        yield seen
        if all(one.ended and one.successor is None for one in seen):
            return
        _refuse_late(began, timeout_s, command("migration", "watch", "--all"))
        every.wait()


def _refuse_late(began: float, timeout_s: float | None, hint: str) -> None:
    if timeout_s is not None and time.monotonic() - began >= timeout_s:
        raise WaitTimeoutError(waited=duration(timeout_s), hint=hint)


class _Records:
    """The records; once they were there, they are waited for while they are away for a moment."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._good: float | None = None

    def ask(self, question: Callable[[Session], Answer]) -> Answer:
        while True:
            try:
                with self._records.reading() as session:
                    answer = question(session)
            except ServerUnreachable:
                if self._good is None or time.monotonic() - self._good > PATIENCE_S:
                    raise
                time.sleep(TICK_S)
                continue
            self._good = time.monotonic()
            return answer


class _Ear:
    """Waits for ZooKeeper's news, and does without for a while after it did not answer."""

    def __init__(self, make: Callable[[], Bell]) -> None:
        self._make = make
        self._bell: Bell | None = None
        self._deaf_until = 0.0

    def wait(self) -> bool:
        """Wait for a tick at most; tell whether there is news."""
        return self.ask(self._listen) is True

    def ask(self, question: Callable[[], bool]) -> bool | None:
        """Return the answer; None, after a tick, where there is none: what is shown comes from the records."""
        if time.monotonic() >= self._deaf_until:
            try:
                return question()
            except ServerUnreachable:
                self._deaf_until = time.monotonic() + BLIND_S
        time.sleep(TICK_S)
        return None

    def _listen(self) -> bool:
        self._bell = self._bell or self._make()
        return self._bell.wait(TICK_S)


class _Rhythm:
    """When the records are to be looked at: often after something has changed, seldomer while nothing does."""

    def __init__(self) -> None:
        self._pause_s = TICK_S
        self._looked = self._due = 0.0

    @property
    def due(self) -> bool:
        return time.monotonic() >= self._due

    def hurry(self) -> None:
        """Make the next look due, and let a tick pass since the last one."""
        time.sleep(max(0.0, self._looked + TICK_S - time.monotonic()))
        self._due = 0.0

    def looked(self, *, changed: bool) -> None:
        self._pause_s = TICK_S if changed else min(self._pause_s * 2, STILL_S)
        self._looked = time.monotonic()
        self._due = self._looked + self._pause_s

    def rest(self) -> None:
        self._due = time.monotonic() + IDLE_S


class _One:
    """One migration."""

    def __init__(self, source: Source, uuid: str) -> None:
        self._source = source
        self._uuid = uuid
        self._records = _Records(source.database)
        self._reader = Reader(uuid)
        self._rhythm = _Rhythm()
        self._pulse: object = None
        self._seen: Snapshot | None = None
        self._ear = _Ear(self._bell)

    def look(self) -> Snapshot:
        """Return it as it is now."""
        if self._seen is None or self._rhythm.due:
            self._seen = self._records.ask(self._read)
        return dataclasses.replace(self._seen, at=now())

    def _read(self, session: Session) -> Snapshot:
        pulse = pulses(session, [self._uuid]).get(self._uuid)
        changed = self._seen is None or pulse != self._pulse
        self._pulse = pulse
        self._rhythm.looked(changed=changed)
        return self._reader.read(session) if changed or self._seen is None else self._seen

    def wait(self, seen: Snapshot) -> None:
        """Wait for a tick, or for news."""
        if self._ear.wait():
            self._rhythm.hurry()
        elif self._rhythm.due and not seen.is_at_work and self._ear.ask(self._is_worked_on) is False:
            self._rhythm.rest()

    def _bell(self) -> Bell:
        return self._source.news(self._uuid, self._hosts())

    def _is_worked_on(self) -> bool:
        return self._source.is_worked_on(self._uuid, self._hosts())

    def _hosts(self) -> tuple[str, ...]:
        return () if self._seen is None else (self._seen.source, self._seen.dest)


class _Every:
    """All migrations under way."""

    def __init__(self, source: Source) -> None:
        self._records = _Records(source.database)
        self._readers: dict[str, Reader] = {}
        self._pulses: dict[str, object] = {}
        self._seen: dict[str, Snapshot] = {}
        self._ear = _Ear(source.news_of_all)
        self._rhythm = _Rhythm()

    def look(self) -> list[Snapshot]:
        """Return each as it is now, the oldest first."""
        self._forget_ended()
        if self._rhythm.due:
            self._records.ask(self._read)
        at = now()
        return [dataclasses.replace(seen, at=at) for seen in self._seen.values()]

    def _forget_ended(self) -> None:
        for uuid in [uuid for uuid, seen in self._seen.items() if seen.ended]:
            del self._seen[uuid]

    def _read(self, session: Session) -> None:
        told = {uuid for uuid in self._readers if uuid not in self._seen}
        uuids = list(dict.fromkeys([*self._seen, *listing.under_way(session)]))
        found = pulses(session, uuids)
        news = [uuid for uuid in uuids if uuid in found and found[uuid] != self._pulses.get(uuid)]
        for uuid in news:
            seen = self._readers.setdefault(uuid, Reader(uuid)).read(session)
            if not (seen.ended and uuid in told):  # an operator may have taken a parked one up again
                self._seen[uuid] = seen
        self._pulses |= found
        self._rhythm.looked(changed=bool(news))

    def wait(self) -> None:
        """Wait for a tick, or for news."""
        if self._ear.wait():
            self._rhythm.hurry()
