"""The domain's definition: taken away where the server leaves, and brought back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hostler.drivers.hypervisor.domain_xml import read_domain
from hostler.drivers.images.state import private_directory, sync_directory, write_private
from hostler.errors import DomainChanged, ForeignObject, InstanceIsActive
from hostler.objects import Domain, Inventory, Snapshot, UnitKind, Volume
from hostler.records.fence import Journal
from hostler.tasks.base import DEST, HostTask, Leg
from hostler.tasks.shared_storage import inventory_of

#: Below ``state_path``: a directory for each migration that took a definition away.
MIGRATIONS = "migrations"


def refuse_active(leg: Leg) -> None:
    """Refuse to touch the files of a guest that runs: the host may have rebooted since it was shut down."""
    hypervisor, uuid = leg.drivers.hypervisor, leg.migration.instance
    if hypervisor.power_state(uuid).active or hypervisor.qemu_pids(uuid):
        raise InstanceIsActive(instance=uuid, host=leg.host)


def refuse_old_guest(leg: Leg) -> None:
    """Refuse to touch what was set aside while a guest runs that may use it.

    On the same host that is any but the one that this migration made: its files are the new ones.
    """
    if not leg.migration.same_host or not _is_made_here(leg):
        refuse_active(leg)


def _is_made_here(leg: Leg) -> bool:
    hypervisor, uuid = leg.drivers.hypervisor, leg.migration.instance
    return hypervisor.exists(uuid) and hypervisor.describe(uuid).migration == leg.migration.uuid


class UndefineDomain(HostTask):
    """Take the domain's definition off the source, keeping UEFI variables, TPM state and images.

    Reverts by: defining it again, with its snapshots and metadata.
    """

    touches_domain = True

    def execute(self, leg: Leg, inventory: dict[str, Any]) -> None:
        """Undefine what was inspected; a definition that changed since then is refused."""
        hypervisor, uuid = leg.drivers.hypervisor, leg.migration.instance
        journal = self.journal(leg)
        refuse_active(leg)
        if hypervisor.exists(uuid):
            domain = hypervisor.describe(uuid)
            _refuse_changed(Inventory.from_dict(inventory).domain, domain)
            saved = definition_of(domain)
            copy = _copy_path(leg)
            private_directory(copy.parent)
            write_private(copy, json.dumps(saved | {"shared": _stays_here(leg, inventory)}))
            journal.intend("domain", **saved)
            hypervisor.undefine(uuid)
        elif journal.get("domain") is None:
            raise DomainChanged(instance=uuid, what="somebody undefined it")
        refuse_active(leg)
        journal.done("domain")

    def revert(self, leg: Leg, **_: Any) -> None:
        """Define it again; nothing if it was never undefined."""
        _define_again(leg, self.journal(leg))
        remove_state(leg)


class UndefineGuest(HostTask):
    """Take the guest's definition off the destination, keeping UEFI variables, TPM state and images.

    Reverts by: defining it again, with its snapshots.
    """

    touches_domain = True
    where = DEST

    def execute(self, leg: Leg) -> None:
        """Undefine what the migration defined; nothing if it is gone. Another's domain is left and refused."""
        hypervisor, uuid = leg.drivers.hypervisor, leg.migration.instance
        journal = self.journal(leg)
        refuse_active(leg)
        if hypervisor.exists(uuid):
            domain = hypervisor.describe(uuid)
            if domain.migration != leg.migration.uuid:
                raise ForeignObject(what=f"domain {domain.name!r}", host=leg.host)
            journal.intend("domain", **definition_of(domain))
            hypervisor.undefine(uuid)
        refuse_active(leg)

    def revert(self, leg: Leg, **_: Any) -> None:
        """Define it again; nothing if it was never undefined."""
        _define_again(leg, self.journal(leg))


def definition_of(domain: Domain) -> dict[str, Any]:
    """Return what is written down of a domain before it goes: ``xml`` and ``snapshots``."""
    return {"xml": domain.xml, "snapshots": [snapshot.to_dict() for snapshot in domain.snapshots]}


def _define_again(leg: Leg, journal: Journal) -> None:
    if entry := journal.get("domain"):
        define_as(leg, entry.data)
        journal.undone("domain")


def define_as(leg: Leg, definition: Mapping[str, Any]) -> None:
    """Define what :func:`definition_of` has said, with this host's volumes; nothing if it is defined so."""
    snapshots = [Snapshot.from_dict(data) for data in definition["snapshots"]]
    xml = definition["xml"]
    read = read_domain(xml)
    if volumes := leg.drivers.volumes.mapping(leg.records, [*read.volumes, *map(Volume.of, read.disks)]):
        xml = leg.drivers.hypervisor.relocate(xml, {}, volumes)
    leg.drivers.hypervisor.define(xml, snapshots)


def pinned(state_path: str) -> set[str]:
    """Return what servers that were moved from here and may come back have left in its place: files, devices.

    The copy of a server's definition lies there from before its files are set aside until they are back or gone.
    One that cannot be read is :class:`ValueError` or :class:`OSError`: then any file may be needed.
    """
    copies = Path(state_path, MIGRATIONS).glob("*/domain.json")
    return {path for copy in copies for path in json.loads(copy.read_bytes()).get("shared", [])}


def _stays_here(leg: Leg, inventory: dict[str, Any]) -> list[str]:
    """Return what stays under its name when the server is set aside."""
    units = inventory_of(leg, inventory).units
    return [unit.path for unit in units if unit.kind is not UnitKind.OWN or unit.given]


def remove_state(leg: Leg) -> None:
    """Remove what this migration wrote under ``state_path``; nothing if there is nothing."""
    directory = _copy_path(leg).parent
    if directory.is_dir():
        shutil.rmtree(directory)
        sync_directory(directory.parent)


def _refuse_changed(inspected: Domain, found: Domain) -> None:
    if found.xml != inspected.xml:
        raise DomainChanged(instance=found.uuid, what="its definition is another one")
    if [snapshot.name for snapshot in found.snapshots] != [snapshot.name for snapshot in inspected.snapshots]:
        raise DomainChanged(instance=found.uuid, what="it has other snapshots")
    if found.obstacles:
        raise DomainChanged(instance=found.uuid, what="; ".join(found.obstacles))


def _copy_path(leg: Leg) -> Path:
    """Return where the definition lies on the source's own disk, should the database be lost."""
    return Path(leg.state_path, MIGRATIONS, leg.migration.uuid, "domain.json")
