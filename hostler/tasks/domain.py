"""The domain's definition on the source."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from hostler.drivers.images.state import private_directory, sync_directory, write_private
from hostler.errors import DomainChanged, InstanceIsActive
from hostler.objects import Domain, Inventory, Snapshot
from hostler.tasks.base import HostTask, Leg

#: Below ``state_path``: a directory for each migration that took a definition away.
MIGRATIONS = "migrations"


def refuse_active(leg: Leg) -> None:
    """Refuse to touch the files of a guest that runs: the host may have rebooted since it was shut down."""
    hypervisor, uuid = leg.drivers.hypervisor, leg.migration.instance
    if hypervisor.power_state(uuid).active or hypervisor.qemu_pids(uuid):
        raise InstanceIsActive(instance=uuid, host=leg.host)


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
            saved = {"xml": domain.xml, "snapshots": [snapshot.to_dict() for snapshot in domain.snapshots]}
            copy = _copy_path(leg)
            private_directory(copy.parent)
            write_private(copy, json.dumps(saved))
            journal.intend("domain", **saved)
            hypervisor.undefine(uuid)
        elif journal.get("domain") is None:
            raise DomainChanged(instance=uuid, what="somebody undefined it")
        refuse_active(leg)
        journal.done("domain")

    def revert(self, leg: Leg, **_: Any) -> None:
        """Define it again; nothing if it was never undefined."""
        journal = self.journal(leg)
        if entry := journal.get("domain"):
            snapshots = [Snapshot.from_dict(data) for data in entry.data["snapshots"]]
            leg.drivers.hypervisor.define(entry.data["xml"], snapshots)
            journal.undone("domain")
        remove_state(leg)


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
