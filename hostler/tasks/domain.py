"""The domain's definition on the source."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from hostler.errors import DomainChanged, InstanceIsActive
from hostler.objects import Domain, Inventory, Snapshot
from hostler.tasks.base import HostTask, Leg


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
            _save_durably(_copy_path(leg), saved)
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
    path = _copy_path(leg)
    path.unlink(missing_ok=True)
    if path.parent.is_dir() and not any(path.parent.iterdir()):
        path.parent.rmdir()


def _refuse_changed(inspected: Domain, found: Domain) -> None:
    if found.xml != inspected.xml:
        raise DomainChanged(instance=found.uuid, what="its definition is another one")
    if [snapshot.name for snapshot in found.snapshots] != [snapshot.name for snapshot in inspected.snapshots]:
        raise DomainChanged(instance=found.uuid, what="it has other snapshots")
    if found.obstacles:
        raise DomainChanged(instance=found.uuid, what="; ".join(found.obstacles))


def _copy_path(leg: Leg) -> Path:
    """Return where the definition lies on the source's own disk, should the database be lost."""
    return Path(leg.state_path, "migrations", leg.migration.uuid, "domain.json")


def _save_durably(path: Path, data: dict[str, Any]) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as file:
        json.dump(data, file)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
