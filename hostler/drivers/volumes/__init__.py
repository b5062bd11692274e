"""What hostler asks of whatever gives a server disks that are not files of its host."""

from __future__ import annotations

from typing import Protocol

from hostler.objects import Volume


class Volumes(Protocol):
    """The volumes as one host reaches them. Every call is idempotent."""

    def destination_problems(self, volume: Volume) -> list[str]:
        """Return, as sentences, why this host could not use *volume*. It only reads."""

    def connect(self, volume: Volume) -> None:
        """Make *volume* usable here; :class:`hostler.errors.VolumeUnreachable` if it cannot be."""

    def disconnect(self, volume: Volume) -> None:
        """Let go of *volume*: when it returns, no process of this host holds it."""
