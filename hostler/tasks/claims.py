"""The destination's resources."""

from __future__ import annotations

from typing import Any

from hostler.drivers.claims import Places
from hostler.objects import Inventory
from hostler.tasks.base import DEST, HostTask, Leg
from hostler.tasks.checks import need_there
from hostler.tasks.shared_storage import inventory_of
from hostler.tasks.sizes import as_resized


class ClaimResources(HostTask):
    """Hold CPUs, memory and disk of the destination for the server, and choose the CPUs that it is pinned to.

    Reverts by: letting go of them there and then.
    """

    guards_data = False
    undone_anywhere = True
    elsewhere = True
    where = DEST

    def execute(self, leg: Leg, inventory: dict[str, Any]) -> None:
        """Hold them; a host that has not enough left is a refusal."""
        found = inventory_of(leg, inventory)
        leg.drivers.claims.claim(leg.records, leg.migration.dest, need_there(leg, found), _places(leg, found))

    def revert(self, leg: Leg, **_: Any) -> None:
        """Let go; nothing if nothing is held."""
        leg.drivers.claims.drop(leg.records, leg.migration.dest)


def _places(leg: Leg, inventory: Inventory) -> Places:
    """Return how CPUs and NUMA nodes are chosen, if the server names any."""
    hypervisor = leg.drivers.hypervisor
    domain = as_resized(hypervisor, inventory, leg.migration.new_flavor).domain
    left = hypervisor.held(inventory.domain.xml)
    there = {} if left is None else {leg.migration.source: left}
    return Places(lambda others: hypervisor.place(domain, others), there)


class DropSourceClaim(HostTask):
    """Let go of the room that the source kept for the way back.

    Reverts by: nothing; the way back is gone once the set-aside files are.
    """

    guards_data = False
    undone_anywhere = True
    forward_only = True

    def execute(self, leg: Leg) -> None:
        """Let go; nothing if nothing is held."""
        leg.drivers.claims.settle(leg.records, leg.migration.source)
