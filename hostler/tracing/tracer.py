"""What the jobboard says while it works, and a tracer that keeps it to itself."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

from hostler.tasks.base import MigrationFacts


@dataclass(frozen=True)
class TurnFacts:
    """One host's turn at a migration."""

    migration: str  #: UUID; the trace's id is the same 128 bits
    flow: str  #: name
    flow_uuid: str
    instance: str  #: UUID of the server
    host: str
    epoch: int  #: of the claim: every turn has another, whichever host's it is
    attempt: int  #: claims of this host since the baton came to it


class Turn(Protocol):
    """A turn under way. Nothing of it waits or raises."""

    def passed(self, state: str, details: Mapping[str, Any]) -> None:
        """Take that a step entered a state, with what TaskFlow tells of it."""

    def undoing(self, step: str) -> AbstractContextManager[None]:
        """Take that a step is undone without TaskFlow while the block runs."""

    def baton(self, host: str) -> None:
        """Take that the turn is *host*'s now."""

    def ended(self, end: str) -> None:
        """Take how the turn ended; unless it is told, whatever is raised says so."""

    def flow_ended(self, migration: MigrationFacts, outcome: str, began: datetime.datetime) -> None:
        """Take that the whole flow is over. *began*: when it was posted, UTC without a zone."""


class Tracer(Protocol):
    """Where turns are told to."""

    def turn(self, facts: TurnFacts) -> AbstractContextManager[Turn]:
        """Take a turn that lasts as long as the block."""

    def owed(self, facts: TurnFacts, step: str) -> AbstractContextManager[None]:
        """Take that the host undoes *step* late, outside of any turn: it was away."""


class _NoTurn:
    """A turn of which nobody wants to know."""

    def passed(self, state: str, details: Mapping[str, Any]) -> None:
        """Nothing."""

    def undoing(self, _step: str) -> AbstractContextManager[None]:
        """Nothing."""
        return nullcontext()

    def baton(self, host: str) -> None:
        """Nothing."""

    def ended(self, end: str) -> None:
        """Nothing."""

    def flow_ended(self, migration: MigrationFacts, outcome: str, began: datetime.datetime) -> None:
        """Nothing."""


class Untraced:
    """The tracer where none is configured."""

    @contextmanager
    def turn(self, _facts: TurnFacts) -> Iterator[Turn]:
        """Give a turn of which nobody wants to know."""
        yield _NoTurn()

    def owed(self, _facts: TurnFacts, _step: str) -> AbstractContextManager[None]:
        """Nothing."""
        return nullcontext()
