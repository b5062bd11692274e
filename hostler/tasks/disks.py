"""The server's disks on the destination."""

from __future__ import annotations

from typing import Any

from hostler.objects import Inventory
from hostler.tasks.base import DEST, HostTask, Leg
from hostler.tasks.domain import refuse_active


class ResizeDisks(HostTask):
    """Grow the disks that arrived, and make swap anew under its old UUID and label.

    Reverts by: nothing; what was grown are copies, which go with those of VerifyImages and OpenReceiver.
    """

    where = DEST

    def execute(self, leg: Leg, inventory: dict[str, Any]) -> None:
        """Give each disk its new size; one that has it is left."""
        refuse_active(leg)
        for change in Inventory.from_dict(inventory).changes:
            leg.drivers.files.resize(change, leg.checkpoint, leg.lock)
