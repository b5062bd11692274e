"""The server's network interfaces."""

from __future__ import annotations

from typing import Any

from hostler.objects import Inventory
from hostler.tasks.base import DEST, HostTask, Leg


class MigratePorts(HostTask):
    """Bind every port to the destination; the bindings to the source stay, inactive.

    Reverts by: putting each of those back that were moved.
    """

    guards_data = False
    undone_anywhere = True
    where = DEST

    def execute(self, leg: Leg, inventory: dict[str, Any]) -> None:
        """Bind them; each is written down before and after."""
        journal = self.journal(leg)
        for port in Inventory.from_dict(inventory).domain.ports:
            journal.intend(port.mac)
            leg.drivers.ports.bind(leg.records, leg.migration.instance, port, leg.migration.dest)
            journal.done(port.mac)

    def revert(self, leg: Leg, inventory: dict[str, Any], **_: Any) -> None:
        """Put back what was moved, the last one first."""
        journal = self.journal(leg)
        for port in reversed(Inventory.from_dict(inventory).domain.ports):
            if journal.get(port.mac):
                leg.drivers.ports.unbind(leg.records, leg.migration.instance, port, leg.migration.dest)
                journal.undone(port.mac)
