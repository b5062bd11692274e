"""What holds a leg back: ZooKeeper's silence, the loss of its session, the end of the worker."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from hostler.errors import Cancelled, SessionLost, Stopping


class Tether:
    """One a leg; set by the worker's threads, asked by the leg's.

    ZooKeeper SUSPENDED only pauses: an election of a leader must not undo a migration. LOST ends the leg: somebody
    else may hold the claim by now.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._suspended = False
        self._lost = False
        self._ending = False
        self._now = False
        self._wished = False
        self._cancellable = False

    @property
    def interrupted(self) -> bool:
        """Whether the flow is to stand still at the next boundary, to look again whose turn it is."""
        return self._ending or self._wished

    @property
    def ending(self) -> bool:
        """Whether the worker wants the leg to end at the next boundary."""
        return self._ending

    def suspend(self) -> None:
        """ZooKeeper does not answer: stand still."""
        self._set(suspended=True)

    def resume(self) -> None:
        """ZooKeeper answers again, and the session has lived on."""
        self._set(suspended=False)

    def lose(self) -> None:
        """The session is over."""
        self._set(lost=True)

    def end(self, *, now: bool = False) -> None:
        """Ask the leg to end: at the next boundary, or with *now* in the middle of its step."""
        self._set(ending=True, now=now)

    def cancel(self) -> None:
        """An operator wishes the migration undone: end the step, if it can be undone, and look at the records."""
        self._set(wished=True)

    @contextmanager
    def cancellable(self) -> Iterator[None]:
        """Let a wish end what is done inside."""
        self._cancellable = True
        try:
            yield
        finally:
            self._cancellable = False

    def checkpoint(self) -> None:
        """Return if the leg may go on; wait while ZooKeeper is silent; else raise what ends the leg."""
        with self._changed:
            while True:
                if self._lost:
                    raise SessionLost("ZooKeeper has ended this worker's session")
                if self._now:
                    raise Stopping("the worker ends")
                if self._wished and self._cancellable:
                    raise Cancelled("it was cancelled")
                if not self._suspended:
                    return
                self._changed.wait()

    def pause(self, seconds: float) -> None:
        """Wait; an end of the leg cuts it short."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while (left := deadline - time.monotonic()) > 0 and not (self._lost or self._now or self._wished):
                self._changed.wait(left)
        self.checkpoint()

    def _set(
        self,
        *,
        suspended: bool | None = None,
        lost: bool | None = None,
        ending: bool | None = None,
        now: bool | None = None,
        wished: bool | None = None,
    ) -> None:
        with self._changed:
            self._suspended = self._suspended if suspended is None else suspended
            self._lost = self._lost or bool(lost)
            self._ending = self._ending or bool(ending)
            self._now = self._now or bool(now)
            self._wished = self._wished or bool(wished)
            self._changed.notify_all()
