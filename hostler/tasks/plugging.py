"""Waiting until the service of a port says that it is plugged in: Nova's *network-vif-plugged*."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterator
from typing import Any

from hostler.errors import CloudServiceFailed, VirtualInterfaceCreateException
from hostler.objects import Inventory
from hostler.records import plugging
from hostler.records.plugging import Awaited
from hostler.tasks.base import Leg

LOG = logging.getLogger(__name__)

#: Between two looks at what was said.
PAUSE_S = 0.5


def expect(leg: Leg, inventory: dict[str, Any]) -> None:
    """Write down which ports are waited for, before the guest is there; of one that is, that was done."""
    if _wanted(leg) and not leg.drivers.hypervisor.exists(leg.migration.instance):
        plugging.expect(leg.records, _announced(leg, inventory))


def wait(leg: Leg, inventory: dict[str, Any]) -> None:
    """Wait for these ports, at most *vif_plugging_timeout* seconds.

    :class:`~hostler.errors.VirtualInterfaceCreateException` if one of them fails or nobody speaks of it, unless
    *vif_plugging_is_fatal* is off: then the history says so, and the migration goes on.
    """
    if not _wanted(leg):
        return
    end = time.monotonic() + leg.timeouts.vif_plugging_s
    while _goes_on(leg) and time.monotonic() < end:
        leg.pause(PAUSE_S)
    for port, reason in _problems(leg, inventory):
        _complain(leg, port, reason)
    plugging.clear(leg.records)


def clear(leg: Leg) -> None:
    """Wait for nothing any more."""
    plugging.clear(leg.records)


def _wanted(leg: Leg) -> bool:
    """Tell whether ports are waited for; a server that is resized where it is keeps them as they are."""
    return leg.timeouts.vif_plugging_s > 0 and not leg.migration.same_host


def _announced(leg: Leg, inventory: dict[str, Any]) -> dict[str, str]:
    ports = Inventory.from_dict(inventory).domain.ports
    return leg.drivers.ports.announced(leg.migration.instance, ports)


def _goes_on(leg: Leg) -> bool:
    """Tell whether there is anything to wait for: not if one has failed, and that is fatal."""
    found = [one.status for one in plugging.awaited(leg.records)]
    return None in found and not (leg.timeouts.vif_plugging_is_fatal and plugging.FAILED in found)


def _problems(leg: Leg, inventory: dict[str, Any]) -> Iterator[tuple[Awaited, str]]:
    """Give the ports that failed, then those of which nobody has spoken and which are not up, with the reason."""
    found = plugging.awaited(leg.records)
    yield from ((one, "it failed") for one in found if one.status == plugging.FAILED)
    if silent := [one for one in found if one.status is None]:
        down = _still_down(leg, inventory, [one.port for one in silent])
        reason = f"nobody has said so within {leg.timeouts.vif_plugging_s:g} s"
        yield from ((one, reason) for one in silent if one.port in down)


def _still_down(leg: Leg, inventory: dict[str, Any], ports: Collection[str]) -> Collection[str]:
    """Return which *ports* are not plugged in as their service has it now: what it said may have been lost."""
    try:
        return _announced(leg, inventory).keys() & set(ports)
    except CloudServiceFailed as error:
        LOG.warning("%s: whether its ports are plugged in is not known: %s", leg.migration.name, error)
        return ports


def _complain(leg: Leg, port: Awaited, reason: str) -> None:
    error = VirtualInterfaceCreateException(port=port.mac, id=port.port, host=leg.host, reason=reason)
    if leg.timeouts.vif_plugging_is_fatal:
        raise error
    LOG.warning("%s: %s", leg.migration.name, error)
    with leg.records.transaction() as session:
        leg.records.note(session, "not-plugged", f"{error}; vif_plugging_is_fatal is off")
