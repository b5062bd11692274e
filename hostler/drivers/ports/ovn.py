"""Ports of OVN where no Neutron stands before it: which chassis a logical port asks for.

A chassis takes a port when an interface of its name is plugged in there, so that a port follows its guest by itself.
Where it asks for a chassis (``options:requested-chassis``) only that one may take it. Such a port asks for the
destination, too, before the guest is touched; for the destination first before the guest starts there; and for the
source no more once the migration is confirmed. A port that asks for none is left as it is.

An OVN that lets a port ask for one chassis only is asked for the destination at the second of these.

Whatever else an interface needs of its host is for the driver of libvirt's ports, which this one stands before.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Self

from hostler.drivers.cloud_failures import failing
from hostler.drivers.ports import Astray, Ports
from hostler.drivers.ports.northbound import LogicalPort, Moved, Northbound
from hostler.errors import ForeignObject, HostlerError, PortBindingFailed, PortNotMovable, Problem
from hostler.objects import PLUGGED, Port
from hostler.records.fence import FencedRecords
from hostler.records.models import JournalEntry

LOG = logging.getLogger(__name__)

#: Under which name the journal keeps what a port asked for.
JOURNAL = "ovn"
SERVICE = "OVN"


class OvnPorts:
    """The :class:`~hostler.drivers.ports.Ports` of OVN.

    *local*: plugs interfaces in on this host, which is *host*. *names*: how hosts are called in OVN, by the name or
    hostname of their chassis, where that is another.
    """

    def __init__(
        self, northbound: Northbound, local: Ports, host: str, names: Mapping[str, str] | None = None
    ) -> None:
        self._northbound = northbound
        self._local = local
        self._host = host
        self._names = dict(names or {})

    def sources(self) -> list[str]:
        """Return what can be plugged into here."""
        return self._local.sources()

    def destination_problems(self, instance: str, ports: Sequence[Port]) -> list[str]:
        """Return, as sentences, which ports this host could not connect, and which no host could take over."""
        return [*self._local.destination_problems(instance, ports), *self._problems(ports)]

    def as_asked(self, network_map: Mapping[str, str]) -> Self:
        """Return this driver for a request that says what sources are called here."""
        asked = copy.copy(self)
        asked._local = self._local.as_asked(network_map)
        return asked

    def mapping(self, instance: str, ports: Sequence[Port]) -> dict[str, str]:
        """Return what each source is called here; only what differs."""
        return self._local.mapping(instance, ports)

    def reserve(self, records: FencedRecords, instance: str, port: Port, host: str) -> None:
        """Let the port ask for *host* as well."""
        self._local.reserve(records, instance, port, host)
        if _is_logical(port):
            with failing(SERVICE):
                self._reserve(records, port, host)

    def bind(self, records: FencedRecords, instance: str, port: Port, host: str) -> None:
        """Let the port ask for *host* before all others."""
        self._local.bind(records, instance, port, host)
        if not _is_logical(port):
            return
        with failing(SERVICE):
            entry = self._reserve(records, port, host)
            self._let_ask(records, entry, _bound(entry), port)
        records.journal(JOURNAL).done(_key(port, host))

    def unbind(self, records: FencedRecords, instance: str, port: Port, host: str) -> None:
        """Let the port ask for what it asked for before."""
        entry = records.journal(JOURNAL).get(_key(port, host))
        if entry is not None:
            self._put_back(records, entry, host)
            records.journal(JOURNAL).undone(_key(port, host))
        self._local.unbind(records, instance, port, host)

    def announced(self, instance: str, ports: Sequence[Port]) -> dict[str, str]:
        """Return none: OVN says nothing to anybody."""
        return {}

    def settle(self, records: FencedRecords, instance: str, host: str) -> None:
        """Let each port ask for *host* alone."""
        self._local.settle(records, instance, host)
        for entry in records.journal(JOURNAL).all().values():
            there = entry.data["there"]
            if entry.state != "done" or not entry.data["before"] or there != self._name(host):
                continue
            found = self._northbound.port(entry.data["port"])
            if found is None or found.asks_for == there:
                continue
            if found.asks_for != _bound(entry):
                raise _not_ours(entry, host)
            self._ask_for(records, found, there, entry)

    def astray(self, instance: str, ports: Sequence[Port], host: str) -> list[Astray]:
        """Return which ports of a server on *host* ask for another."""
        here = self._name(host)
        logical = [port for port in ports if _is_logical(port)]
        found = [(port, self._northbound.port(_name_of(port))) for port in logical]
        return [
            Astray(
                one.name,
                f"port {port.mac} asks OVN for {one.asks_for}",
                f"ovn-nbctl lsp-get-options {one.name}",
            )
            for port, one in found
            if one is not None and one.asks_for not in ("", here)
        ] + self._local.astray(instance, ports, host)

    # -- the way there ------------------------------------------------------------------------------------

    def _reserve(self, records: FencedRecords, port: Port, host: str) -> JournalEntry:
        entry = self._intend(records, port, host)
        self._let_ask(records, entry, _reserved(entry), port)
        return entry

    def _let_ask(self, records: FencedRecords, entry: JournalEntry, wanted: str, port: Port) -> None:
        """Let the port ask for *wanted*, unless it is further; one that asks for no chassis is left alone."""
        if not entry.data["before"]:
            return
        found = self._northbound.port(entry.data["port"])
        if found is None:
            raise PortBindingFailed(port=port.mac, host=entry.data["there"], reason="it is gone from OVN")
        if found.asks_for not in (wanted, _bound(entry)):
            if found.asks_for not in (entry.data["before"], _reserved(entry)):
                raise _moved(entry, found.asks_for)
            self._ask_for(records, found, wanted, entry)

    def _intend(self, records: FencedRecords, port: Port, host: str) -> JournalEntry:
        """Write down what the port asks for; what an earlier attempt wrote stands."""
        journal, key = records.journal(JOURNAL), _key(port, host)
        if journal.get(key) is None:
            there, home = self._name(host), self._name(records.ends()[0])
            found = self._movable(port, host)
            if found.asks_for not in ("", home):
                reason = f"it asks OVN for {found.asks_for}, and the server is on {home}"
                hint = f"ovn-nbctl set Logical_Switch_Port {found.name} options:requested-chassis={home}"
                raise _unmovable(port, host, reason, hint)
            if not self._northbound.knows(there):
                raise _unmovable(port, host, f"OVN has no chassis {there}", "ovn-sbctl show")
            several = self._northbound.several()
            journal.intend(
                key, port=found.name, home=home, there=there, before=found.asks_for, several=several
            )
        entry = journal.get(key)
        assert entry is not None
        return entry

    def _movable(self, port: Port, host: str) -> LogicalPort:
        """Return the port; :class:`PortNotMovable` if no host could take it over."""
        name = _name_of(port)
        found = self._northbound.port(name)
        if found is None:
            raise _unmovable(port, host, f"OVN has no logical port {name}", "ovn-nbctl show")
        if found.kind:
            reason = f"logical port {name} is no guest's: its type is {found.kind}"
            raise _unmovable(port, host, reason, "ovn-nbctl show")
        if not found.takes(port.mac):
            reason = f"logical port {name} is for {', '.join(found.addresses) or 'no address'}"
            raise _unmovable(port, host, reason, f"ovn-nbctl lsp-get-addresses {name}")
        return found

    def _problems(self, ports: Sequence[Port]) -> Iterator[str]:
        for port in ports:
            if not _is_logical(port):
                continue
            try:
                with failing(SERVICE):
                    self._movable(port, self._host)
                    if not self._northbound.knows(self._name(self._host)):
                        yield Problem(f"OVN has no chassis {self._name(self._host)}", "ovn-sbctl show")
            except PortNotMovable as error:
                yield Problem.of(error)

    # -- the way back -------------------------------------------------------------------------------------

    def _put_back(self, records: FencedRecords, entry: JournalEntry, host: str) -> None:
        before, found = entry.data["before"], self._northbound.port(entry.data["port"])
        if found is None:
            LOG.warning("port %s is gone from OVN: there is nothing of it to put back", entry.data["port"])
        elif before and found.asks_for != before:
            if found.asks_for not in (_reserved(entry), _bound(entry), entry.data["there"]):
                raise _not_ours(entry, host)
            self._ask_for(records, found, before, entry)

    def _ask_for(self, records: FencedRecords, found: LogicalPort, wanted: str, entry: JournalEntry) -> None:
        """Change what the port asks for, unless somebody else does so just now, or the leg was passed over."""
        records.see_valid()
        try:
            self._northbound.ask_for(found.name, wanted, found.asks_for)
        except Moved as error:
            raise _moved(entry, str(error)) from error

    def _name(self, host: str) -> str:
        return self._names.get(host, host)


def _reserved(entry: JournalEntry) -> str:
    facts = entry.data
    return f"{facts['before']},{facts['there']}" if facts["several"] else str(facts["before"])


def _bound(entry: JournalEntry) -> str:
    facts = entry.data
    return f"{facts['there']},{facts['before']}" if facts["several"] else str(facts["there"])


def _is_logical(port: Port) -> bool:
    """Tell whether it is one of OVN's: Open vSwitch knows it by a name."""
    return port.kind in PLUGGED and bool(port.interface)


def _name_of(port: Port) -> str:
    return port.interface or ""


def _key(port: Port, host: str) -> str:
    return f"{port.mac} {host}"


def _unmovable(port: Port, host: str, reason: str, hint: str) -> HostlerError:
    return PortNotMovable(port=port.mac, host=host, reason=reason, hint=hint)


def _moved(entry: JournalEntry, asks_for: str) -> PortBindingFailed:
    reason = f"it asks OVN for {asks_for or 'no chassis'} now, which this migration has not made"
    return PortBindingFailed(port=entry.data["port"], host=entry.data["there"], reason=reason)


def _not_ours(entry: JournalEntry, host: str) -> ForeignObject:
    return ForeignObject(what=f"what logical port {entry.data['port']} asks OVN for", host=host)
