"""What hostler tells the outside."""

from __future__ import annotations

from typing import Any, Protocol


class Notifications(Protocol):
    """The events of a migration, under Nova's legacy names (``compute.instance.resize.prep.start``)."""

    def notify(self, event_type: str, payload: dict[str, Any], *, error: bool = False) -> None:
        """Send one event; it never raises and never waits: a migration does not fail by its news."""
