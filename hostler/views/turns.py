"""What a migration waits for: whose turn it is, since when, and why nothing happens."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from time import monotonic
from typing import Any

from hostler.errors import ServerUnreachable
from hostler.views.follow import Source
from hostler.views.snapshot import Snapshot
from hostler.views.text import clock, printable

IDLE_S = 3.0  #: a turn that nobody takes for longer is told
LOOK_S = 5.0  #: between two looks for a worker


@dataclass(frozen=True)
class Waiting:
    """A turn that nobody takes. *since* is UTC without a zone."""

    host: str
    step: str
    undo: bool  #: it is to be undone
    since: datetime.datetime
    why: str

    @property
    def text(self) -> str:
        """The sentence for an operator."""
        doing = "undo" if self.undo else "do"
        turn = f"it is {printable(self.host)}'s turn to {doing} {printable(self.step)}"
        return f"{turn} since {clock(self.since)}: {self.why}"

    def to_dict(self) -> dict[str, Any]:
        """Return it as a program reads it, but for the time."""
        return {"host": self.host, "step": self.step, "undo": self.undo, "why": self.why, "text": self.text}


class Turns:
    """Tells what migrations wait for, and looks for a worker now and then while they do."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._found: dict[tuple[str, str], tuple[float, str]] = {}

    def of(self, seen: Snapshot) -> Waiting | None:
        """Return what it waits for; None while a worker is at it, and just after."""
        turn = seen.turn
        if turn is None or seen.is_at_work or (seen.at - seen.turn_since).total_seconds() < IDLE_S:
            return None
        why = self._why(seen.uuid, turn.host)
        return Waiting(turn.host, turn.name, seen.reverting, seen.turn_since, why)

    def _why(self, uuid: str, host: str) -> str:
        looked, why = self._found.get((uuid, host), (float("-inf"), ""))
        if monotonic() - looked >= LOOK_S:
            looked, why = monotonic(), self._look(uuid, host)
            self._found[uuid, host] = looked, why
        return why

    def _look(self, uuid: str, host: str) -> str:
        try:
            if host not in self._source.live_workers():
                return "no worker is alive there"
            others = len(set(self._source.waiting(host)) - {uuid})
        except ServerUnreachable:
            return "ZooKeeper does not answer"
        if not others:
            return "its worker has not taken it yet"
        return f"waiting for a free place there, beside {others} other{'s' * (others != 1)}"
