"""Ports of OpenStack's Neutron: the destination's binding waits beside the source's until it is its turn.

It is made before the guest is touched, so that a host that cannot bind is a refusal; it becomes the active one when
the server's images are there; the source's is dropped when the migration is confirmed, and not before. Whatever is
undone is read from Neutron and from the journal: which port, where it was, and how.

A Neutron without the extension ``binding-extended`` has one place for a port. It is changed at the second of these.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Self

from hostler import networks
from hostler.drivers.cloud_failures import failing
from hostler.drivers.ports import Astray
from hostler.drivers.ports.bindings import (
    BINDING_FAILED,
    PLUGGABLE,
    CannotBind,
    HostBinding,
    NetworkPort,
    NetworkService,
)
from hostler.errors import ForeignObject, HostlerError, PortBindingFailed, PortNotMovable, Problem
from hostler.objects import PLUGGED, Port
from hostler.records.fence import FencedRecords
from hostler.records.models import JournalEntry

LOG = logging.getLogger(__name__)

#: Under which name the journal keeps where a port was; each port has an entry for each host that it is bound to.
JOURNAL = "neutron"
#: What owners of ports are called that may be bound to two hosts: servers.
COMPUTE = "compute:"
#: After so many changes a port that is not as it was will not become it.
MAX_STEPS = 4


class NeutronPorts:
    """The :class:`~hostler.drivers.ports.Ports` of Neutron.

    *host*: this one. *sources*: returns what can be plugged into on it. *bridge_exists*: tells whether it has such a
    bridge. *names*: how hosts are called in Neutron whose name is another there.
    """

    def __init__(
        self,
        service: NetworkService,
        host: str,
        sources: Callable[[], list[str]],
        bridge_exists: Callable[[str], bool],
        names: Mapping[str, str] | None = None,
    ) -> None:
        self._service = service
        self._host = host
        self._sources = sources
        self._bridge_exists = bridge_exists
        self._names = dict(names or {})
        self._asked: Mapping[str, str] = {}

    def sources(self) -> list[str]:
        """Return what can be plugged into here: bridges and networks of the host, whoever made them."""
        return self._sources()

    def as_asked(self, network_map: Mapping[str, str]) -> Self:
        """Return this driver for a request that says what sources are called here, which it will refuse."""
        asked = copy.copy(self)
        asked._asked = network_map
        return asked

    def destination_problems(self, instance: str, ports: Sequence[Port]) -> list[str]:
        """Return, as sentences, which ports no host could take over, and why."""
        asked = " ".join(networks.words(self._asked))
        told = [f"Neutron says itself what ports are plugged into: {asked} cannot be heeded"] if asked else []
        return [*told, *self._problems(instance, ports)]

    def mapping(self, instance: str, ports: Sequence[Port]) -> dict[str, str]:
        """Return what each bridge is called here, where Neutron has bound the ports to this host already."""
        found = {}
        for port in _plugged(ports):
            there = _first(self._owned(instance, port)).at(self._name(self._host))
            if there is not None and there.bridge:
                found[f"{port.kind}:{port.source or ''}"] = f"bridge:{there.bridge}"
        return {asked: here for asked, here in found.items() if asked != here}

    def reserve(self, records: FencedRecords, instance: str, port: Port, host: str) -> None:
        """Let the port have an inactive binding to *host*, and see that libvirt can plug it in there."""
        if port.kind in PLUGGED:
            with failing("Neutron"):
                self._reserve(records, instance, port, host)

    def bind(self, records: FencedRecords, instance: str, port: Port, host: str) -> None:
        """Make *host* the active place of the port; the binding that it had stays, inactive."""
        if port.kind not in PLUGGED:
            return
        with failing("Neutron"), _refused(port, host):
            entry = self._reserve(records, instance, port, host)
            found = self._still_there(entry, port, host)
            there = self._name(host)
            if not found.active or found.active.host != there:
                self._refuse_elsewhere(found, entry, port, host)
                records.see_valid()
                if entry.data["two_sided"]:
                    self._service.activate(found.id, there)
                else:
                    self._service.move(found.id, there, entry.data["profile"])
            self._see_bound(entry, port, host)
        records.journal(JOURNAL).done(_key(port, host))

    def unbind(self, records: FencedRecords, instance: str, port: Port, host: str) -> None:
        """Make the old binding the active one again, and drop what this migration made on *host*."""
        entry = records.journal(JOURNAL).get(_key(port, host))
        if entry is None:
            return
        with _refused(port, entry.data["home"]):
            self._bring_home(records, entry, port, host)
        if entry.data["two_sided"]:
            self._drop(records, entry, entry.data["there"], host)
        records.journal(JOURNAL).undone(_key(port, host))

    def announced(self, instance: str, ports: Sequence[Port]) -> dict[str, str]:
        """Return the ports of which Neutron will say that they are plugged in on this host."""
        with failing("Neutron"):
            found = {port.mac: _first(self._owned(instance, port)) for port in _plugged(ports)}
        return {one.id: mac for mac, one in found.items() if one.will_be_announced(self._name(self._host))}

    def settle(self, records: FencedRecords, instance: str, host: str) -> None:
        """Drop the binding that each port has kept to where it was."""
        there = self._name(host)
        for entry in records.journal(JOURNAL).all().values():
            kept = entry.state == "done" and entry.data["two_sided"] and entry.data["there"] == there
            found = self._service.port(entry.data["port"]) if kept else None
            if found is None:
                continue
            if found.active is None or found.active.host != there:
                raise _not_ours(found, host)
            self._drop(records, entry, entry.data["home"], host)

    def astray(self, instance: str, ports: Sequence[Port], host: str) -> list[Astray]:
        """Return which bindings of a server on *host* lead elsewhere."""
        here = self._name(host)
        return [
            Astray(
                found.id,
                f"port {port.mac} has {'its active' if one.active else 'a'} binding to {one.host or 'no host'}",
                f"openstack port show {found.id}",
            )
            for port in _plugged(ports)
            for found in self._owned(instance, port)
            for one in found.bindings
            if one.host != here
        ]

    # -- the way there ------------------------------------------------------------------------------------

    def _reserve(self, records: FencedRecords, instance: str, port: Port, host: str) -> JournalEntry:
        entry = self._intend(records, instance, port, host)
        if not entry.data["two_sided"]:
            return entry
        there = self._name(host)
        found = self._still_there(entry, port, host)
        if found.at(there) is None:
            records.see_valid()
            try:
                self._service.add_binding(found.id, there, "normal", entry.data["profile"])
            except CannotBind as error:
                raise _unmovable(
                    port,
                    host,
                    f"Neutron cannot bind it there: {error}",
                    f"openstack network agent list --host {there}",
                ) from error
            found = self._still_there(entry, port, host)
        self._refuse_unpluggable(found, entry, port, host)
        return entry

    def _intend(self, records: FencedRecords, instance: str, port: Port, host: str) -> JournalEntry:
        """Write down where the port is; what an earlier attempt wrote stands."""
        journal, key = records.journal(JOURNAL), _key(port, host)
        if journal.get(key) is None:
            there, home = self._name(host), self._name(records.ends()[0])
            found, active = self._movable(instance, port, host)
            if active.host != home:
                reason = f"it is bound to {active.host or 'no host'}, and the server is on {home}"
                raise _unmovable(port, host, reason, f"openstack port set --host {home} {found.id}")
            if found.at(there) is not None:
                reason = f"it has a binding to {there} already, which this migration has not made"
                raise _unmovable(port, host, reason, "hostler doctor")
            facts = {"port": found.id, "home": home, "there": there, "two_sided": self._service.two_sided()}
            journal.intend(key, **facts, profile=dict(active.profile), vif_type=active.vif_type)
        entry = journal.get(key)
        assert entry is not None
        return entry

    def _movable(self, instance: str, port: Port, host: str) -> tuple[NetworkPort, HostBinding]:
        """Return the port and where it is; :class:`PortNotMovable` if no host could take it over."""
        owned = self._owned(instance, port)
        if len(owned) != 1:
            others = sorted({one.device for one in self._service.ports_of(port.mac)} - {"", instance})
            reason = f"{len(owned)} ports of Neutron are the server's and have this address"
            reason += f"; one belongs to {', '.join(others)}" if others else ""
            raise _unmovable(port, host, reason, f"openstack port list --mac-address {port.mac}")
        found, active = owned[0], owned[0].active
        show = f"openstack port show {found.id}"
        if active is None:
            raise _unmovable(port, host, "it has no active binding", show)
        reasons = {
            f"its VNIC type is {active.vnic_type}: it is a device of the host": active.vnic_type != "normal",
            "its binding profile names a PCI device": "pci_slot" in active.profile,
            "its bandwidth is allocated in Placement": "allocation" in active.profile,
            f"its owner is {found.owner!r}, and not {COMPUTE}...": not found.owner.startswith(COMPUTE),
        }
        if speak := [reason for reason, holds in reasons.items() if holds]:
            raise _unmovable(port, host, "; ".join(speak), show)
        return found, active

    def _problems(self, instance: str, ports: Sequence[Port]) -> Iterator[str]:
        for port in _plugged(ports):
            try:
                with failing("Neutron"):
                    self._movable(instance, port, self._host)
            except PortNotMovable as error:
                yield Problem.of(error)

    def _refuse_unpluggable(self, found: NetworkPort, entry: JournalEntry, port: Port, host: str) -> None:
        there = found.at(self._name(host))
        if there is None:
            reason = f"Neutron takes the binding, and does not have it (openstack port show {found.id})"
            raise PortBindingFailed(port=port.mac, host=host, reason=reason)
        reasons = {
            f"it would be plugged in as {there.vif_type} there, which libvirt cannot do by itself": (
                there.vif_type not in PLUGGABLE and not there.active
            ),
            f"it is plugged in as {entry.data['vif_type']} now, and as {there.vif_type} there": (
                there.vif_type != entry.data["vif_type"]
            ),
            "it would hang on a bridge of its own there (ovs_hybrid_plug)": bool(
                there.details.get("ovs_hybrid_plug")
            ),
            f"{host} has no bridge {there.bridge}": bool(
                there.bridge and not self._bridge_exists(there.bridge)
            ),
        }
        if speak := [reason for reason, holds in reasons.items() if holds]:
            raise _unmovable(port, host, "; ".join(speak), f"openstack port show {found.id}")

    def _refuse_elsewhere(self, found: NetworkPort, entry: JournalEntry, port: Port, host: str) -> None:
        if found.active is None or found.active.host != entry.data["home"]:
            where = found.active.host if found.active else "no host"
            raise PortBindingFailed(port=port.mac, host=host, reason=f"it was bound to {where} meanwhile")

    def _see_bound(self, entry: JournalEntry, port: Port, host: str) -> None:
        """See that it is bound: where a port has one place, Neutron changes that and says that it failed."""
        there = self._still_there(entry, port, host).active
        if there is None or there.host != self._name(host) or there.vif_type == BINDING_FAILED:
            told = f"{there.host}: {there.vif_type}" if there else "no host"
            raise PortBindingFailed(port=port.mac, host=host, reason=f"Neutron has bound it to {told}")

    def _still_there(self, entry: JournalEntry, port: Port, host: str) -> NetworkPort:
        found = self._service.port(entry.data["port"])
        if found is None:
            raise PortBindingFailed(port=port.mac, host=host, reason="it is gone from Neutron")
        return found

    # -- the way back -------------------------------------------------------------------------------------

    def _bring_home(self, records: FencedRecords, entry: JournalEntry, port: Port, host: str) -> None:
        """Make the source's binding what it was; each step is chosen by what Neutron says of the port then."""
        for _ in range(MAX_STEPS):
            found = self._service.port(entry.data["port"])
            if found is None:
                LOG.warning("port %s is gone from Neutron: there is nothing of it to put back", port.mac)
                return
            step = self._step_home(found, entry, host)
            if step is None:
                return
            records.see_valid()
            step()
        reason = "Neutron does not bind it there any more"
        raise PortBindingFailed(port=port.mac, host=entry.data["home"], reason=reason)

    def _step_home(self, found: NetworkPort, entry: JournalEntry, host: str) -> Callable[[], None] | None:
        """Return what comes next; None if the port is where it was, and as it was."""
        home, profile, active = entry.data["home"], entry.data["profile"], found.active
        if active and active.host not in (home, entry.data["there"]):
            raise _not_ours(found, host)
        if active and (active.host, active.vif_type) == (home, entry.data["vif_type"]):
            return None
        if not entry.data["two_sided"] or (active and active.host == home):
            # Neutron leaves a binding that was inactive unbound when it is activated, until its port is changed.
            return partial(self._service.move, found.id, home, profile)
        if found.at(home) is None:
            return partial(self._service.add_binding, found.id, home, "normal", profile)
        return partial(self._service.activate, found.id, home)

    def _drop(self, records: FencedRecords, entry: JournalEntry, place: str, host: str) -> None:
        """Drop the binding to *place*, unless it is the active one: a port without any is lost to Neutron."""
        found = self._service.port(entry.data["port"])
        binding = found.at(place) if found else None
        if found is None or binding is None:
            return
        if binding.active or found.active is None:
            raise _not_ours(found, host)
        records.see_valid()
        self._service.drop_binding(found.id, place)

    def _owned(self, instance: str, port: Port) -> list[NetworkPort]:
        return [one for one in self._service.ports_of(port.mac.lower()) if one.device == instance]

    def _name(self, host: str) -> str:
        return self._names.get(host, host)


@contextmanager
def _refused(port: Port, host: str) -> Iterator[None]:
    """Let a verdict of Neutron's fail the step: the guest is off by now, and the migration walks back."""
    try:
        yield
    except CannotBind as error:
        raise PortBindingFailed(port=port.mac, host=host, reason=str(error)) from error


def _plugged(ports: Sequence[Port]) -> list[Port]:
    return [port for port in ports if port.kind in PLUGGED]


def _first(found: list[NetworkPort]) -> NetworkPort:
    return found[0] if found else NetworkPort("", "", "", "")


def _key(port: Port, host: str) -> str:
    return f"{port.mac} {host}"


def _unmovable(port: Port, host: str, reason: str, hint: str) -> HostlerError:
    return PortNotMovable(port=port.mac, host=host, reason=reason, hint=hint)


def _not_ours(port: NetworkPort, host: str) -> ForeignObject:
    return ForeignObject(what=f"what port {port.id} of Neutron is bound to", host=host)
