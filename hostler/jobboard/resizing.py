"""What a request for a resize writes down, and what the records alone refuse of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from hostler.objects import Flavor
from hostler.records import flavors, quotas
from hostler.records.hosts import Amounts
from hostler.records.models import Instance, Migration
from hostler.records.quotas import Usage
from hostler.scheduling import Request


@dataclass(frozen=True)
class Wanted:
    """What a server has, and what it is to have."""

    old: Flavor
    new: Flavor

    def put_down(self, migration: Migration) -> None:
        """Write both into a new migration's record."""
        migration.old_flavor, migration.new_flavor = self.old.to_dict(), self.new.to_dict()


def wanted(session: Session, instance: Instance, name: str) -> Wanted:
    """Return what the server has and what it is to have; a flavor that it cannot have is refused."""
    old, new = flavors.of_server(session, instance), flavors.facts(flavors.find(session, name))
    flavors.refuse_unfit(instance.name, old, new)
    return Wanted(old, new)


def request(
    session: Session,
    instance: Instance,
    new: Flavor,
    *,
    same_host: bool,
    excluded: Mapping[str, str] | None = None,
    network_map: Mapping[str, str] | None = None,
) -> Request:
    """Return what a host is wanted for, as far as the records know; its own checks know the disks."""
    need = Amounts(new.vcpus, new.memory_mb, instance.disk_bytes)
    return Request.of(
        session,
        instance,
        need,
        same_host=same_host,
        flavor=new.name or new.id,
        excluded=excluded,
        network_map=network_map,
    )


def arguments(session: Session, wanted: Wanted, instance: Instance) -> dict[str, Any]:
    """Return what the flow is given: what the server's project will use more, if it may.

    Of the disks only what the flavors say; what the images come to is counted when the server's record has it.
    """
    old, new = wanted.old, wanted.new
    disk_gb = sum(
        after - before
        for before, after in ((old.root_gb, new.root_gb), (old.ephemeral_gb, new.ephemeral_gb))
        if before and after
    )
    cores, ram = new.vcpus - instance.vcpus, new.memory_mb - instance.memory_mb
    delta = Usage(cores=cores, ram=ram, disk=disk_gb << 30)
    quotas.check(session, instance.project_id, delta)
    return {"quota_delta": delta.to_dict()}
