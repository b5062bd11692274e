"""Interrupted: the leg stops, and the step stays RUNNING."""

from __future__ import annotations

from collections.abc import Iterable


class Interrupted(BaseException):
    """The leg stops here and now, and nothing is undone by it.

    TaskFlow's engine answers an :class:`Exception` by reverting; this passes through it.
    """


class Fenced(Interrupted):
    """A later claim holds this migration: whatever this leg still wants to write is refused."""


class SessionLost(Interrupted):
    """ZooKeeper has ended our session: somebody else may hold the claim by now."""


class Unreachable(Interrupted):
    """The database (or libvirt) is away. The job stays, and is tried again with a growing pause."""


class Stopping(Interrupted):
    """The worker ends and could not wait for the step."""


class Park(Interrupted):
    """What is done cannot be undone by itself, and going on failed: a human decides.

    *reason* is a sentence; *commands* are what resolves it, best first.
    """

    def __init__(self, reason: str, commands: Iterable[str] = ()) -> None:
        super().__init__(reason)
        self.reason = reason
        self.commands = list(commands)
