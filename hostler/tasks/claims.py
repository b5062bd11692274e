"""The destination's resources."""

from __future__ import annotations

from typing import Any

from hostler.objects import Inventory
from hostler.tasks.base import DEST, HostTask, Leg
from hostler.tasks.checks import need_there


class ClaimResources(HostTask):
    """Hold CPUs, memory and disk of the destination for the server.

    Reverts by: letting go of them there and then.
    """

    guards_data = False
    undone_anywhere = True
    elsewhere = True
    where = DEST

    def execute(self, leg: Leg, inventory: dict[str, Any]) -> None:
        """Hold them; a host that has not enough left is a refusal."""
        need = need_there(leg, Inventory.from_dict(inventory))
        leg.drivers.claims.claim(leg.records, leg.migration.dest, need)

    def revert(self, leg: Leg, **_: Any) -> None:
        """Let go; nothing if nothing is held."""
        leg.drivers.claims.drop(leg.records, leg.migration.dest)


class DropSourceClaim(HostTask):
    """Let go of the room that the source kept for the way back.

    Reverts by: nothing; the way back is gone once the set-aside files are.
    """

    guards_data = False
    undone_anywhere = True
    forward_only = True

    def execute(self, leg: Leg) -> None:
        """Let go; nothing if nothing is held."""
        leg.drivers.claims.drop(leg.records, leg.migration.source)
