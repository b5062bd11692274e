"""What a request for a resize writes down, and what the records alone refuse of it."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from hostler.objects import Flavor
from hostler.records import flavors, hosts, quotas
from hostler.records.hosts import Amounts
from hostler.records.models import Instance, Migration
from hostler.records.quotas import Usage


def write_flavors(session: Session, migration: Migration, instance: Instance, name: str) -> None:
    """Write down what the server has and what it is to have; a flavor that it cannot have is refused."""
    old, new = flavors.of_server(session, instance), flavors.facts(flavors.find(session, name))
    flavors.refuse_unfit(instance.name, old, new)
    migration.old_flavor, migration.new_flavor = old.to_dict(), new.to_dict()


def check_room(session: Session, migration: Migration, instance: Instance) -> None:
    """Refuse what the destination has not left, as far as the records know; its own checks know the disks."""
    new = Flavor.from_dict(migration.new_flavor or {})
    held = Amounts(instance.vcpus, instance.memory_mb, instance.disk_bytes)
    need = Amounts(new.vcpus, new.memory_mb, instance.disk_bytes)
    if migration.source_compute == migration.dest_compute:
        need = need.beyond(held)
    hosts.check_room(session, hosts.get(session, migration.dest_compute), need)


def arguments(session: Session, migration: Migration, instance: Instance) -> dict[str, Any]:
    """Return what the flow is given: what the server's project will use more, if it may.

    Of the disks only what the flavors say; what the images come to is counted when the server's record has it.
    """
    old, new = Flavor.from_dict(migration.old_flavor or {}), Flavor.from_dict(migration.new_flavor or {})
    disk_gb = sum(
        after - before
        for before, after in ((old.root_gb, new.root_gb), (old.ephemeral_gb, new.ephemeral_gb))
        if before and after
    )
    cores, ram = new.vcpus - instance.vcpus, new.memory_mb - instance.memory_mb
    delta = Usage(cores=cores, ram=ram, disk=disk_gb << 30)
    quotas.check(session, instance.project_id, delta)
    return {"quota_delta": delta.to_dict()}
