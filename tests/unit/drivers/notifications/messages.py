"""A message to tell."""

from __future__ import annotations

import uuid
from typing import Any

from hostler.drivers.notifications import Message


def message(event_type: str, *, priority: str = "INFO", message_id: str = "", **payload: Any) -> Message:
    """Return a message of kvm1's worker."""
    return Message(
        message_id=message_id or str(uuid.uuid4()),
        publisher_id="hostler-worker:kvm1",
        event_type=event_type,
        priority=priority,
        timestamp="2026-01-02 03:04:05.678901",
        payload=payload,
    )
