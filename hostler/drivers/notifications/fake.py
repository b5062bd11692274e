"""Notifications that stay here, for tests."""

from __future__ import annotations

from typing import Any, NamedTuple

from oslo_config import cfg


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

    def notify(self, event_type: str, payload: dict[str, Any], *, error: bool = False) -> None:
        """Keep one event."""
        self.sent.append(Sent(event_type, payload, error))


def from_conf(_conf: cfg.ConfigOpts) -> FakeNotifications:
    """Make the driver of the settings."""
    return FakeNotifications()
