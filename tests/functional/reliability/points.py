"""Where a process can die: counted in one run, and struck one by one in others."""

from __future__ import annotations

import functools
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

from hostler import flows
from hostler.drivers.files import disk
from hostler.drivers.images import checker
from hostler.drivers.images.mending import Mender
from hostler.jobboard.board import Board
from hostler.jobboard.leg import MigrationLeg
from hostler.records.database import Database
from hostler.tasks import images

#: Who acts when no host does: whoever typed the command.
OPERATOR = "operator"
#: Between two looks of one thread whether another has got on.
LOOK_S = 0.002


class Died(BaseException):
    """The process is gone: nothing catches this, as nothing catches a SIGKILL."""


class Points:
    """Every place at which a process could end, in the order in which a run passes them.

    After the strike each further point raises, too: what the dead process would still do on its way out
    (handlers, ``finally``) has no effect.
    """

    def __init__(self) -> None:
        self.acting = OPERATOR
        self.seen: list[tuple[str, str]] = []  #: who would die, and where
        self.look: Callable[[], object] | None = None  #: called at each point, to tell worlds apart
        self.worlds: list[object] = []  #: what it returned
        self._counting = False
        self._thread = threading.get_ident()  #: the one that plays
        self._deadly: int | None = None
        self._dead = False

    def reach(self, where: str) -> None:
        """Pass a point, or die there."""
        if threading.get_ident() != self._thread:
            return  # it reads beside what is played: whatever it does leaves no trace
        if self._dead:
            raise Died(where)
        if not self._counting:
            return
        self.seen.append((self.acting, where))
        if self.look is not None:
            self.worlds.append(self.look())
        if len(self.seen) - 1 == self._deadly:
            self._dead = True
            raise Died(where)

    @contextmanager
    def counted(self, deadly: int | None = None) -> Iterator[None]:
        """Count what is passed inside; die at the point of number *deadly*."""
        self.seen, self.worlds = [], []
        self._deadly, self._dead, self._counting = deadly, False, True
        try:
            yield
        finally:
            self._counting = self._dead = False

    @contextmanager
    def uncounted(self) -> Iterator[None]:
        """Do something that belongs to the scenario, and is not what dies."""
        before, self._counting = self._counting, False
        try:
            yield
        finally:
            self._counting = before

    def around(self, function: Callable[..., Any], what: str) -> Callable[..., Any]:
        """Return *function* with a point before and a point after it."""

        @functools.wraps(function)
        def pointed(*arguments: Any, **named: Any) -> Any:
            self.reach(f"before {what}")
            result = function(*arguments, **named)
            self.reach(f"after {what}")
            return result

        return pointed

    @contextmanager
    def everywhere(self) -> Iterator[None]:
        """Put points around all that has an effect: transactions, steps, what is brought to disk.

        The drivers' calls are not here: a world has its own drivers (:class:`Watched`).
        """
        with ExitStack() as stack:
            real = Database.transaction

            @contextmanager
            def transaction(database: Database) -> Iterator[Any]:
                self.reach("before a transaction")
                with real(database) as session:
                    yield session
                self.reach("after a commit")

            stack.enter_context(mock.patch.object(Database, "transaction", transaction))
            for name in ("_commit", "wish", "forget_wish", "unpark"):
                pointed = self.around(getattr(Board, name), f"ZooKeeper's {name}")
                stack.enter_context(mock.patch.object(Board, name, pointed))
            for name in ("checkpoint", "pause"):
                pointed = self.around(getattr(MigrationLeg, name), name)
                stack.enter_context(mock.patch.object(MigrationLeg, name, pointed))
            # Written by the clock: a run on a busy machine would pass other points than the one that was counted.
            stack.enter_context(mock.patch.object(images, "PROGRESS_INTERVAL_S", float("inf")))
            # An answer comes from another thread: how often it is looked for hangs on the clock, too.
            stack.enter_context(mock.patch.object(Mender, "_wait", lambda *_: time.sleep(LOOK_S)))
            stack.enter_context(mock.patch.object(checker, "LOOK_S", LOOK_S))
            stack.enter_context(mock.patch("os.fsync", self.around(os.fsync, "fsync")))
            stack.enter_context(
                mock.patch.object(disk, "step", lambda action: self.reach(f"before {action.split()[0]}"))
            )
            for flow in flows.FLOWS:
                for task in flows.make(flow):
                    for method in ("execute", "revert"):
                        pointed = self.around(getattr(task, method), f"{method} of {task.name}")
                        stack.enter_context(mock.patch.object(task, method, pointed))
            yield


class Watched:
    """A driver with points around its calls."""

    def __init__(self, driver: Any, points: Points, name: str) -> None:
        self._driver = driver
        self._points = points
        self._name = name

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._driver, name)
        return self._points.around(found, f"{self._name}.{name}") if callable(found) else found
