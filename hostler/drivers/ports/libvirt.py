"""Ports that libvirt's networks and the host's bridges connect.

libvirt plugs an interface in when the guest starts, so that nothing outside has to be moved. Which host is
the port's place is still on record, as for any other service: a binding per host, one of them active.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from oslo_config import cfg
from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from hostler import networks
from hostler.drivers.libvirt_facts import LibvirtFacts
from hostler.drivers.ports import Astray
from hostler.errors import BadConfiguration, PortBindingFailed
from hostler.objects import PLUGGED, Port
from hostler.records import instances
from hostler.records.fence import FencedRecords
from hostler.records.models import Binding, JournalEntry

NETWORK_DEVICES = Path("/sys/class/net")
#: Under which name the bindings as they were are kept in the journal.
JOURNAL = "bindings"


class LibvirtPorts:
    """The :class:`~hostler.drivers.ports.Ports` of libvirt.

    *networks*: returns the networks, and whether each is active. *bridge_exists*: tells whether the host has
    such a device. *network_map*: what a source is called here, ``bridge:br0`` -> ``bridge:br1``. *host*: its
    name in sentences. *devices*: returns the host's network devices, but for those of guests.
    """

    def __init__(
        self,
        networks: Callable[[], dict[str, bool]],
        bridge_exists: Callable[[str], bool],
        network_map: Mapping[str, str],
        host: str,
        devices: Callable[[], Collection[str]] = tuple,
    ) -> None:
        self._networks = networks
        self._bridge_exists = bridge_exists
        self._network_map = dict(network_map)
        self._host = host
        self._devices = devices
        self._asked: Mapping[str, str] = {}

    def sources(self) -> list[str]:
        """Return what can be plugged into here, by the names that arriving servers ask for."""
        here = {f"network:{name}" for name, active in self._networks().items() if active}
        here |= {f"{kind}:{name}" for name in self._devices() for kind in ("bridge", "direct")}
        there = {asked for asked, found in self._network_map.items() if found in here}
        return sorted(there | (here - self._network_map.keys()))

    def as_asked(self, network_map: Mapping[str, str]) -> Self:
        """Return this driver for a request that says what sources are called here."""
        asked = copy.copy(self)
        asked._asked = network_map
        return asked

    def destination_problems(self, instance: str, ports: Sequence[Port]) -> list[str]:
        """Return, as sentences, which sources this host lacks; each is named once."""
        sources = dict.fromkeys(self._source(port) for port in ports if port.kind in PLUGGED)
        return [problem for source in sources for problem in self._problems(source)]

    def mapping(self, instance: str, ports: Sequence[Port]) -> dict[str, str]:
        """Return what each source is called here; only what differs."""
        named = {_named(port): self._source(port) for port in ports if port.kind in PLUGGED}
        return {there: here for there, here in named.items() if there != here}

    def reserve(self, records: FencedRecords, instance: str, port: Port, host: str) -> None:
        """Do nothing: libvirt gives no place before the guest is there."""

    def bind(self, records: FencedRecords, instance: str, port: Port, host: str) -> None:
        """Make *host* the active place of the port, and keep what was before for :meth:`unbind`."""
        if problems := self.destination_problems(instance, [port]):
            raise PortBindingFailed(port=port.mac, host=host, reason="; ".join(problems))
        with records.transaction() as session:
            if session.get(JournalEntry, _key(records, port, host)) is not None:
                return
            before = _bindings(session, instance, port)
            taken = [row.migration_uuid for row in before if row.host == host and row.active]
            if taken and taken[0] not in (None, records.migration):
                reason = f"migration {taken[0]} has bound it there"
                raise PortBindingFailed(port=port.mac, host=host, reason=reason)
            _remember(session, records, port, host, before)
            self._rebind(session, records, instance, port, host)

    def unbind(self, records: FencedRecords, instance: str, port: Port, host: str) -> None:
        """Put the bindings back as :meth:`bind` found them; nothing if it changed none."""
        with records.transaction() as session:
            entry = session.get(JournalEntry, _key(records, port, host))
            if entry is None:
                return
            _forget(session, instance, port)
            session.add_all([Binding(**row) for row in entry.data["before"]])
            session.delete(entry)

    def announced(self, instance: str, ports: Sequence[Port]) -> dict[str, str]:
        """Return none: libvirt has plugged in what it says that it has."""
        return {}

    def settle(self, records: FencedRecords, instance: str, host: str) -> None:
        """Drop the bindings to every host but *host*, whose belong to no migration any more."""
        here = (Binding.instance_uuid == instance, Binding.host == host)
        with records.transaction() as session:
            session.execute(delete(Binding).where(Binding.instance_uuid == instance, Binding.host != host))
            session.execute(update(Binding).where(*here).values(active=True, migration_uuid=None))

    def astray(self, instance: str, ports: Sequence[Port], host: str) -> list[Astray]:
        """Return nothing: all bindings are in the records."""
        return []

    def _rebind(self, session: Session, records: FencedRecords, instance: str, port: Port, host: str) -> None:
        rows = {row.host: row for row in _bindings(session, instance, port)}
        source = instances.get(session, instance).host
        for place, network in {source: _named(port), host: self._source(port)}.items():
            if place not in rows:
                facts = {"instance_uuid": instance, "port": port.mac, "host": place, "network": network}
                rows[place] = Binding(**facts, active=False, migration_uuid=None)
                session.add(rows[place])
        for row in rows.values():
            row.active = row.host == host
        rows[host].migration_uuid = records.migration
        rows[host].network = self._source(port)

    def _source(self, port: Port) -> str:
        there = _named(port)
        return networks.renamed(there, self._asked) or self._network_map.get(there, there)

    def _problems(self, source: str) -> Iterator[str]:
        kind, _, name = source.partition(":")
        if kind == "network":
            active = self._networks().get(name)
            if active is None:
                yield f"{self._host} has no network {name!r}"
            elif not active:
                yield f"network {name!r} of {self._host} is not active"
        elif not self._bridge_exists(name):
            yield f"{self._host} has no {'bridge' if kind == 'bridge' else 'network device'} {name}"


def from_conf(conf: cfg.ConfigOpts) -> LibvirtPorts:
    """Make the driver of the settings."""
    facts = LibvirtFacts(conf.libvirt.uri)
    network_map = read_map(conf.libvirt.network_map)
    return LibvirtPorts(facts.networks, device_exists, network_map, conf.host, host_devices)


def device_exists(name: str) -> bool:
    """Tell whether this host has a network device of that name."""
    return name not in ("", ".", "..") and "/" not in name and (NETWORK_DEVICES / name).exists()


def host_devices() -> list[str]:
    """Return this host's network devices, but for the taps of its guests, which come and go with them."""
    return [one.name for one in NETWORK_DEVICES.iterdir() if not (one / "tun_flags").exists()]


def read_map(lines: Sequence[str]) -> dict[str, str]:
    """Read ``bridge:br0=bridge:br1``; both sides must be of one kind, as a definition says it in one word."""
    try:
        found = dict(networks.read_pair(line) for line in lines)
    except ValueError as error:
        raise BadConfiguration(where="[libvirt] network_map", problem=str(error)) from error
    for there, here in found.items():
        if there.startswith(":"):
            problem = f"{there[1:]}={here[1:]} does not say whether these are bridges or networks"
            raise BadConfiguration(where="[libvirt] network_map", problem=problem)
    return found


def _named(port: Port) -> str:
    return f"{port.kind}:{port.source or ''}"


def _bindings(session: Session, instance: str, port: Port) -> list[Binding]:
    of_port = (Binding.instance_uuid == instance, Binding.port == port.mac)
    return list(session.scalars(select(Binding).where(*of_port).order_by(Binding.host)))


def _forget(session: Session, instance: str, port: Port) -> None:
    for row in _bindings(session, instance, port):
        session.delete(row)
    session.flush()


def _key(records: FencedRecords, port: Port, host: str) -> tuple[str, str, str]:
    return records.migration, JOURNAL, f"{port.mac} {host}"


def _remember(session: Session, records: FencedRecords, port: Port, host: str, before: list[Binding]) -> None:
    migration, task, key = _key(records, port, host)
    columns = Binding.__table__.columns.keys()
    rows: list[dict[str, Any]] = [{name: getattr(row, name) for name in columns} for row in before]
    session.add(
        JournalEntry(migration_uuid=migration, task=task, key=key, state="done", data={"before": rows})
    )
