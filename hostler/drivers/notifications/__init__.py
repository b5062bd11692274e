"""What hostler tells the outside."""

from __future__ import annotations

from typing import Any, Protocol


class Notifications(Protocol):
    """The events of a migration, under Nova's legacy names (``compute.instance.resize.prep.start``)."""

    def notify(self, event_type: str, payload: dict[str, Any], *, error: bool = False) -> None:
        """Send one event. It never raises and never waits for a broker: a migration does not fail by its news."""
