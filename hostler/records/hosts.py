"""Hosts and what is left of them."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from hostler.errors import ComputeHostNotFound, ComputeResourcesUnavailable, HostDisabled
from hostler.objects import HostResources
from hostler.records.models import Claim, Host, Instance, now

GIB = 1 << 30


@dataclass(frozen=True)
class Amounts:
    """Resources of a host, or of a server."""

    vcpus: int
    memory_mb: int
    disk_bytes: int

    def __add__(self, other: Amounts) -> Amounts:
        return Amounts(
            self.vcpus + other.vcpus, self.memory_mb + other.memory_mb, self.disk_bytes + other.disk_bytes
        )

    def __sub__(self, other: Amounts) -> Amounts:
        return Amounts(
            self.vcpus - other.vcpus, self.memory_mb - other.memory_mb, self.disk_bytes - other.disk_bytes
        )


def get(session: Session, name: str) -> Host:
    """Return the host of that name."""
    found = session.get(Host, name, populate_existing=True)
    if found is None:
        raise ComputeHostNotFound(name=name)
    return found


def all_hosts(session: Session) -> list[Host]:
    """Return every host by name."""
    return list(session.scalars(select(Host).order_by(Host.name)))


def report(
    session: Session,
    name: str,
    *,
    address: str,
    resources: HostResources,
    worker_version: str,
    cpu_allocation_ratio: float,
    ram_allocation_ratio: float,
    disk_allocation_ratio: float,
    reserved_host_memory_mb: int,
) -> None:
    """Make or renew the record of a host, as its worker sees it."""
    facts = {
        "address": address,
        "vcpus": resources.vcpus,
        "memory_mb": resources.memory_mb,
        "local_disk_bytes": resources.local_disk_bytes,
        "hypervisor_version": resources.hypervisor_version,
        "worker_version": worker_version,
        "cpu_allocation_ratio": cpu_allocation_ratio,
        "ram_allocation_ratio": ram_allocation_ratio,
        "disk_allocation_ratio": disk_allocation_ratio,
        "reserved_host_memory_mb": reserved_host_memory_mb,
        "updated_at": now(),
    }
    if session.get(Host, name) is None:
        session.add(Host(name=name, claims_generation=0, **facts))
    else:
        session.execute(update(Host).where(Host.name == name).values(**facts))


def disable(session: Session, name: str, *, who: str, reason: str) -> None:
    """Let the host take no new servers; what has claimed its place there goes on."""
    _switch(session, name, who, reason)


def enable(session: Session, name: str, *, who: str) -> None:
    """Let the host take servers again."""
    _switch(session, name, who, None)


def _switch(session: Session, name: str, who: str, reason: str | None) -> None:
    switched = update(Host).where(Host.name == get(session, name).name)
    session.execute(switched.values(disabled_reason=reason, switched_by=who, switched_at=now()))


def capacity(host: Host) -> Amounts:
    """Return what servers may use of the host in all."""
    return Amounts(
        int(host.vcpus * host.cpu_allocation_ratio),
        int((host.memory_mb - host.reserved_host_memory_mb) * host.ram_allocation_ratio),
        int(host.local_disk_bytes * host.disk_allocation_ratio),
    )


def used(session: Session, name: str, *, except_migration: str | None = None) -> Amounts:
    """Return what the host's servers use and its migrations hold."""
    by_servers = session.execute(
        select(
            func.coalesce(func.sum(Instance.vcpus), 0),
            func.coalesce(func.sum(Instance.memory_mb), 0),
            func.coalesce(func.sum(Instance.disk_bytes), 0),
        ).where(Instance.host == name)
    ).one()
    by_claims = session.execute(
        select(
            func.coalesce(func.sum(Claim.vcpus), 0),
            func.coalesce(func.sum(Claim.memory_mb), 0),
            func.coalesce(func.sum(Claim.disk_bytes), 0),
        ).where(Claim.host == name, Claim.migration_uuid != (except_migration or ""))
    ).one()
    return Amounts(*map(int, by_servers)) + Amounts(*map(int, by_claims))


def check_room(session: Session, host: Host, need: Amounts, *, except_migration: str | None = None) -> None:
    """Refuse what the host has not left; nobody is refused for what he does not need."""
    if host.disabled_reason is not None:
        raise HostDisabled(host=host.name, reason=host.disabled_reason)
    free = capacity(host) - used(session, host.name, except_migration=except_migration)
    shortages = [
        ("virtual CPUs", need.vcpus, free.vcpus, 1, "vCPUs"),
        ("memory", need.memory_mb, free.memory_mb, 1, "MiB"),
        ("disk", need.disk_bytes, free.disk_bytes, GIB, "GiB"),
    ]
    for resource, wanted, left, size, unit in shortages:
        left = max(left, 0)
        if wanted > left:
            raise ComputeResourcesUnavailable(
                host=host.name, resource=resource, need=-(-wanted // size), free=left // size, unit=unit
            )
