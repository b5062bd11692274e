"""The server's network interfaces."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hostler import networks
from hostler.drivers.ports import Ports
from hostler.objects import PLUGGED, Inventory, Port
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
        _each(self, leg, inventory, ports_of(leg).reserve)

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
        _each(self, leg, inventory, ports_of(leg).bind)

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
    return {} if leg.migration.same_host else ports_of(leg).mapping(leg.migration.instance, ports)


def ports_of(leg: Leg) -> Ports:
    """Return the driver of this host's ports, heeding what the request says of their networks."""
    asked = leg.migration.network_map
    return leg.drivers.ports.as_asked(asked) if asked else leg.drivers.ports


def networks_problems(leg: Leg, ports: Sequence[Port]) -> list[str]:
    """Return, as sentences, why the server's interfaces cannot be plugged in on this host."""
    sources = [f"{port.kind}:{port.source or ''}" for port in ports if port.kind in PLUGGED]
    found = [
        f"--map-network names {one}, which no interface of the server is plugged into"
        f" ({', '.join(dict.fromkeys(sources)) or 'none is plugged into anything'})"
        for one in networks.unused(leg.migration.network_map, sources)
    ]
    return found + ports_of(leg).destination_problems(leg.migration.instance, ports)
