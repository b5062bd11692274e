"""Notifications that stay here, for tests."""

from __future__ import annotations

from typing import Any, NamedTuple

from oslo_config import cfg

from hostler.drivers.notifications import Message


class Sent(NamedTuple):
    """One event."""

    event_type: str
    payload: dict[str, Any]
    error: bool


class FakeNotifications:
    """Keeps what was sent, oldest first."""

    def __init__(self) -> None:
        self.sent: list[Sent] = []

    @property
    def event_types(self) -> list[str]:
        """The names alone."""
        return [event.event_type for event in self.sent]

    def notify(self, message: Message) -> None:
        """Keep one event."""
        self.sent.append(Sent(message.event_type, message.payload, message.priority == "ERROR"))


class FakeCourier:
    """A server that takes messages, or fails as the test says."""

    def __init__(self) -> None:
        self.delivered: list[Message] = []
        self.failing: list[Exception] = []  #: raised one by one instead
        self.away: Exception | None = None  #: raised as long as it is set

    def deliver(self, message: Message) -> None:
        """Keep one message, or fail."""
        if self.failing:
            raise self.failing.pop(0)
        if self.away is not None:
            raise self.away
        self.delivered.append(message)

    def close(self) -> None:
        """Nothing is open."""


def from_conf(_conf: cfg.ConfigOpts) -> FakeNotifications:
    """Make the driver of the settings."""
    return FakeNotifications()
