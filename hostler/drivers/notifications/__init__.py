"""What hostler tells the outside: each event of a migration, under Nova's legacy name.

A driver either tells at once and here (:class:`Notifier`), or carries the message over a network
(:class:`Courier`). What a step tells a courier waits in the records' outbox, so that no step ever waits for a
server that is away: :mod:`hostler.jobboard.postman` delivers it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from hostler.objects import Record


@dataclass(frozen=True)
class Message(Record):
    """One event as listeners get it: the fields are those of oslo.messaging's notifications."""

    message_id: str  #: a UUID; the same whenever this event is told again
    publisher_id: str  #: ``hostler-worker:<host>``
    event_type: str  #: ``compute.instance.resize.prep.start``
    priority: str  #: ``INFO`` or ``ERROR``
    timestamp: str  #: UTC, ``2026-01-02 03:04:05.678901``
    payload: dict[str, Any]  #: plain JSON values, without secrets


class Notifier(Protocol):
    """Tells at once, on this host."""

    def notify(self, message: Message) -> None:
        """Tell it; it waits for nobody."""


@runtime_checkable
class Courier(Protocol):
    """Carries messages to a server."""

    def deliver(self, message: Message) -> None:
        """Return when the server has taken the message; wait no longer than some seconds.

        :class:`~hostler.errors.ServerUnreachable` if it may take it later;
        :class:`~hostler.errors.NotificationRefused` if it never will.
        """

    def close(self) -> None:
        """Let go of the connection."""
