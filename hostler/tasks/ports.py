"""The server's network interfaces."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hostler.objects import Inventory, Port
from hostler.records.fence import FencedRecords
from hostler.tasks.base import DEST, HostTask, Leg


class ReservePorts(HostTask):
    """Give every port a place on the destination, inactive still: a host that cannot bind one is a refusal.

    A server that is resized where it is keeps its ports as they are.

    Reverts by: taking back each place that was given.
    """

    guards_data = False
    undone_anywhere = True
    elsewhere = True
    where = DEST

    def execute(self, leg: Leg, inventory: dict[str, Any]) -> None:
        """Give them; each is written down before and after."""
        _each(self, leg, inventory, leg.drivers.ports.reserve)

    def revert(self, leg: Leg, inventory: dict[str, Any], **_: Any) -> None:
        """Take them back, the last one first."""
        _put_back(self, leg, inventory)


class MigratePorts(HostTask):
    """Bind every port to the destination; the bindings to the source stay, inactive.

    A server that is resized where it is keeps its ports as they are.

    Reverts by: putting each of those back that were moved.
    """

    guards_data = False
    undone_anywhere = True
    where = DEST

    def execute(self, leg: Leg, inventory: dict[str, Any]) -> None:
        """Bind them; each is written down before and after."""
        _each(self, leg, inventory, leg.drivers.ports.bind)

    def revert(self, leg: Leg, inventory: dict[str, Any], **_: Any) -> None:
        """Put back what was moved, the last one first."""
        _put_back(self, leg, inventory)


def _each(
    step: HostTask, leg: Leg, inventory: dict[str, Any], call: Callable[[FencedRecords, str, Port, str], None]
) -> None:
    if leg.migration.same_host:
        return
    journal = step.journal(leg)
    for port in Inventory.from_dict(inventory).domain.ports:
        journal.intend(port.mac)
        call(leg.records, leg.migration.instance, port, leg.migration.dest)
        journal.done(port.mac)


def _put_back(step: HostTask, leg: Leg, inventory: dict[str, Any]) -> None:
    journal = step.journal(leg)
    for port in reversed(Inventory.from_dict(inventory).domain.ports):
        if journal.get(port.mac):
            leg.drivers.ports.unbind(leg.records, leg.migration.instance, port, leg.migration.dest)
            journal.undone(port.mac)


def networks_of(leg: Leg, ports: Sequence[Port]) -> dict[str, str]:
    """Return what the networks of *ports* are called on this host, where that differs; its own keep their names."""
    return {} if leg.migration.same_host else leg.drivers.ports.mapping(leg.migration.instance, ports)
