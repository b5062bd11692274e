"""Hosts and what is left of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from hostler.errors import ComputeHostNotFound, ComputeResourcesUnavailable, HostDisabled
from hostler.objects import HostCapabilities, HostResources
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

    def beyond(self, held: Amounts) -> Amounts:
        """Return what is needed of a host where *held* is held already, and two copies of the disks lie meanwhile."""
        return Amounts(
            max(self.vcpus - held.vcpus, 0), max(self.memory_mb - held.memory_mb, 0), self.disk_bytes
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
    capabilities: HostCapabilities | None = None,
    cpu_allocation_ratio: float,
    ram_allocation_ratio: float,
    disk_allocation_ratio: float,
    reserved_host_memory_mb: int,
) -> None:
    """Make or renew the record of a host, as its worker sees it.

    *capabilities*: None leaves what is on record.
    """
    facts: dict[str, Any] = {
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
    if capabilities is not None:
        facts["capabilities"] = capabilities.to_dict()
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


def used_everywhere(session: Session) -> dict[str, Amounts]:
    """Return :func:`used` of every host that has a server or a claim, in two queries."""
    found: dict[str, Amounts] = {}
    for kind in (Instance, Claim):
        sums = (func.sum(kind.vcpus), func.sum(kind.memory_mb), func.sum(kind.disk_bytes))
        for host, *amounts in session.execute(select(kind.host, *sums).group_by(kind.host)):
            found[host] = found.get(host, Amounts(0, 0, 0)) + Amounts(*map(int, amounts))
    return found


def check_room(session: Session, host: Host, need: Amounts, *, except_migration: str | None = None) -> None:
    """Refuse what the host has not left; nobody is refused for what he does not need."""
    if host.disabled_reason is not None:
        raise HostDisabled(host=host.name, reason=host.disabled_reason)
    free = capacity(host) - used(session, host.name, except_migration=except_migration)
    for short in shortages(need, free):
        raise ComputeResourcesUnavailable(host=host.name, **vars(short))


@dataclass(frozen=True)
class Shortage:
    """What a host has not enough of. Amounts are in *unit*."""

    resource: str
    need: int
    free: int
    unit: str


def shortages(need: Amounts, free: Amounts) -> list[Shortage]:
    """Return what is missing; nothing is where nothing is needed."""
    compared = [
        ("virtual CPUs", need.vcpus, free.vcpus, 1, "vCPUs"),
        ("memory", need.memory_mb, free.memory_mb, 1, "MiB"),
        ("disk", need.disk_bytes, free.disk_bytes, GIB, "GiB"),
    ]
    return [
        Shortage(resource, -(-wanted // size), max(left, 0) // size, unit)
        for resource, wanted, left, size, unit in compared
        if wanted > max(left, 0)
    ]
