"""What a migration costs: processor time, changes of the database and of ZooKeeper, and how long a hand-over takes."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, event

from hostler.jobboard.board import Board, Claim
from hostler.jobboard.leg import MigrationLeg

WRITES = ("INSERT", "UPDATE", "DELETE")


class SqlWrites:
    """Counts the statements that write, and the transactions that hold any."""

    def __init__(self, engine: Engine) -> None:
        self.statements = 0
        self.transactions = 0
        self._wrote = threading.local()
        event.listen(engine, "before_cursor_execute", self._executes)
        event.listen(engine, "commit", self._commits)
        event.listen(engine, "rollback", self._forget)

    def _executes(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.lstrip()[:6].upper() in WRITES:
            self.statements += 1
            self._wrote.yes = True

    def _commits(self, connection: Any) -> None:
        self.transactions += getattr(self._wrote, "yes", False)
        self._forget(connection)

    def _forget(self, _connection: Any) -> None:
        self._wrote.yes = False


def zookeeper_changes(hosts: str) -> int:
    """Return how many changes the server has made: the number of the latest one."""
    address, port = hosts.split(":")
    with socket.create_connection((address, int(port)), timeout=5) as connection:
        connection.sendall(b"srvr")
        answer = connection.makefile("rb").read().decode()
    (line,) = (line for line in answer.splitlines() if line.startswith("Zxid: "))
    return int(line.split()[1], 16)


class HandOvers:
    """Measures from the end of a hand-over to the first step on the other host, and waits for consumed jobs."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._handed: dict[str, float] = {}
        self._consumed: set[str] = set()
        self._changed = threading.Condition()

    def wait_for(self, migration: str, timeout_s: float = 60) -> None:
        """Return once the job of *migration* is off every board."""
        with self._changed:
            if not self._changed.wait_for(lambda: migration in self._consumed, timeout_s):
                raise TimeoutError(f"migration {migration} does not end")

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Look on while the block runs."""
        real = (Board.hand_over, Board.consume, MigrationLeg.checkpoint)
        hand_over, consume, checkpoint = real

        def handed_over(board: Board, claim: Claim, host: str) -> None:
            hand_over(board, claim, host)
            # The other host may have begun before this thread runs on: then there was nothing to wait for.
            self._handed.setdefault(claim.posting.migration, time.perf_counter())

        def consumed(board: Board, claim: Claim) -> None:
            consume(board, claim)
            with self._changed:
                self._consumed.add(claim.posting.migration)
                self._changed.notify_all()

        def step_begins(leg: MigrationLeg) -> None:
            if began := self._handed.pop(leg.claim.posting.migration, None):
                self.seconds.append(time.perf_counter() - began)
            checkpoint(leg)

        patched: Any = (handed_over, consumed, step_begins)
        self._patch(patched)
        try:
            yield
        finally:
            self._patch(real)

    @staticmethod
    def _patch(methods: Any) -> None:
        targets = ((Board, "hand_over"), (Board, "consume"), (MigrationLeg, "checkpoint"))
        for (owner, name), method in zip(targets, methods, strict=True):
            setattr(owner, name, method)
