"""Disks that are not files of a host: let go on the one, taken on the other, never copied."""

from __future__ import annotations

from typing import Any

from hostler.objects import Inventory
from hostler.tasks.base import DEST, SOURCE, HostTask, Leg
from hostler.tasks.domain import refuse_active


class DisconnectVolumes(HostTask):
    """Let go of every volume on the source, one by one.

    Reverts by: connecting exactly those again, the last one first.
    """

    guards_data = False
    where = SOURCE

    def execute(self, leg: Leg, inventory: dict[str, Any]) -> None:
        """Let go of them; each is written down before and after."""
        refuse_active(leg)
        journal = self.journal(leg)
        for volume in Inventory.from_dict(inventory).domain.volumes:
            journal.intend(volume.target)
            leg.drivers.volumes.disconnect(volume)
            journal.done(volume.target)

    def revert(self, leg: Leg, inventory: dict[str, Any], **_: Any) -> None:
        """Connect what was let go of."""
        journal = self.journal(leg)
        for volume in reversed(Inventory.from_dict(inventory).domain.volumes):
            if journal.get(volume.target):
                leg.drivers.volumes.connect(volume)
                journal.undone(volume.target)


class ReleaseVolumes(DisconnectVolumes):
    """Let go of every volume on the destination, before the server goes back.

    Reverts by: connecting exactly those again, the last one first.
    """

    where = DEST


class ConnectVolumes(HostTask):
    """Make every volume usable on the destination.

    Reverts by: letting go of those that were connected, the last one first.
    """

    guards_data = False
    where = DEST

    def execute(self, leg: Leg, inventory: dict[str, Any]) -> None:
        """Connect them; each is written down before and after."""
        journal = self.journal(leg)
        for volume in Inventory.from_dict(inventory).domain.volumes:
            journal.intend(volume.target)
            leg.drivers.volumes.connect(volume)
            journal.done(volume.target)

    def revert(self, leg: Leg, inventory: dict[str, Any], **_: Any) -> None:
        """Let go of what was connected."""
        journal = self.journal(leg)
        for volume in reversed(Inventory.from_dict(inventory).domain.volumes):
            if journal.get(volume.target):
                leg.drivers.volumes.disconnect(volume)
                journal.undone(volume.target)
