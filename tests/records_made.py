"""Rows that tests need before they begin."""

from __future__ import annotations

import uuid
from typing import Any

from sqlalchemy.orm import Session

from hostler.objects import HostResources
from hostler.records import fence, hosts
from hostler.records.database import Database
from hostler.records.fence import FencedRecords
from hostler.records.models import Instance, Migration


def make_host(session: Session, name: str = "kvm1", **changes: Any) -> str:
    """Make the record of a host with 8 places of 1 vCPU, 1 GiB of memory and 10 GiB of disk."""
    resources = HostResources(
        vcpus=8, memory_mb=8 << 10, local_disk_bytes=80 << 30, hypervisor_version="QEMU 7.2"
    )
    ratios = {"cpu_allocation_ratio": 1.0, "ram_allocation_ratio": 1.0, "disk_allocation_ratio": 1.0}
    facts: dict[str, Any] = ratios | {"reserved_host_memory_mb": 0} | changes
    hosts.report(session, name, address="127.0.0.1", resources=resources, worker_version="0", **facts)
    return name


def make_instance(session: Session, host: str = "kvm1", name: str = "web1", **changes: Any) -> str:
    """Make the record of a stopped server; return its UUID."""
    facts: dict[str, Any] = {
        "uuid": str(uuid.uuid4()),
        "name": name,
        "host": host,
        "vm_state": "stopped",
        "power_state": "shutdown",
        "vcpus": 1,
        "memory_mb": 1024,
    }
    instance = Instance(**facts | changes)
    session.add(instance)
    session.flush()
    return instance.uuid


def make_migration(session: Session, instance: str, **changes: Any) -> str:
    """Make the record of a migration under way from kvm1 to kvm2, with its fence; return its uuid."""
    facts: dict[str, Any] = {
        "uuid": str(uuid.uuid4()),
        "instance_uuid": instance,
        "instance_name": "web1",
        "migration_type": "migration",
        "status": "migrating",
        "phase": "open",
        "source_compute": "kvm1",
        "dest_compute": "kvm2",
        "flow_name": "cold_migration",
        "flow_uuid": str(uuid.uuid4()),
        "request_id": "req-1",
        "requested_by": "root",
    }
    migration = Migration(**facts | changes)
    session.add(migration)
    session.flush()
    fence.open_fence(session, migration.uuid)
    return migration.uuid


def make_leg(database: Database, instance: str | None = None, host: str = "kvm2") -> FencedRecords:
    """Make a migration of *instance*, and its first claim; return the records as that leg writes them."""
    with database.transaction() as session:
        migration = make_migration(session, instance or str(uuid.uuid4()))
        fence.raise_fence(session, migration, 1)
    return FencedRecords(database, migration, 1, host)
