"""The tables.

Times are in UTC without a zone, as SQLite keeps no other. Sizes are in bytes unless the name says otherwise.
States are Nova's words.
"""

from __future__ import annotations

import datetime
import uuid
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    false,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


def now() -> datetime.datetime:
    """The current time, as the tables keep it."""
    return datetime.datetime.now(datetime.UTC).replace(tzinfo=None)


def new_uuid() -> str:
    """A random UUID as text."""
    return str(uuid.uuid4())


#: Of servers whose definition names no project.
DEFAULT_PROJECT = "default"


class Base(DeclarativeBase):
    """The declarative base; Alembic compares its metadata with the database."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it from the class
        str: String(255),
        int: BigInteger,
        float: Double,
        # MySQL drops the fractions of a second otherwise, and with them the order of two requests.
        datetime.datetime: DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb"),
        dict[str, Any]: JSON,
        list[Any]: JSON,
    }


class Host(Base):
    """A machine with a worker, as the worker itself reports it."""

    __tablename__ = "hosts"

    name: Mapped[str] = mapped_column(primary_key=True)
    address: Mapped[str]  #: where it takes images
    vcpus: Mapped[int]
    memory_mb: Mapped[int]
    local_disk_bytes: Mapped[int]
    cpu_allocation_ratio: Mapped[float]
    ram_allocation_ratio: Mapped[float]
    disk_allocation_ratio: Mapped[float]
    reserved_host_memory_mb: Mapped[int]
    hypervisor_version: Mapped[str]
    worker_version: Mapped[str]
    disabled_reason: Mapped[str | None] = mapped_column(Text)  #: not None: takes no new servers
    switched_by: Mapped[str | None]  #: who disabled or enabled it last
    switched_at: Mapped[datetime.datetime | None]
    capabilities: Mapped[dict[str, Any] | None]  #: :class:`hostler.objects.HostCapabilities`
    #: what it may send, and what it may take, in all; None: as much as it can
    rate_bytes_per_s: Mapped[int | None]
    #: raised by each claim and each drop: the compare-and-swap that lets one of two racing claims win
    claims_generation: Mapped[int] = mapped_column(default=0)
    updated_at: Mapped[datetime.datetime] = mapped_column(default=now)


class Flavor(Base):
    """A named size of server; it is never changed. 0 of a disk says nothing of it."""

    __tablename__ = "flavors"

    id: Mapped[str] = mapped_column(primary_key=True, default=new_uuid)
    name: Mapped[str] = mapped_column(unique=True)
    vcpus: Mapped[int]
    memory_mb: Mapped[int]
    root_gb: Mapped[int] = mapped_column(default=0)
    ephemeral_gb: Mapped[int] = mapped_column(default=0)
    swap_mb: Mapped[int] = mapped_column(default=0)


class Instance(Base):
    """A server: a libvirt domain that some host has, or that is on its way."""

    __tablename__ = "instances"

    uuid: Mapped[str] = mapped_column(String(36), primary_key=True)  #: the domain's UUID
    name: Mapped[str] = mapped_column(index=True)
    host: Mapped[str] = mapped_column(ForeignKey("hosts.name"), index=True)
    vm_state: Mapped[str]  #: ``active``, ``stopped``, ``resized``, ``error``
    task_state: Mapped[str | None]
    power_state: Mapped[str]
    vcpus: Mapped[int]
    memory_mb: Mapped[int]
    #: what its images may take in all; 0 where never inspected
    disk_bytes: Mapped[int] = mapped_column(default=0)
    flavor_id: Mapped[str | None] = mapped_column(ForeignKey("flavors.id"))
    #: whose quota it counts against
    project_id: Mapped[str] = mapped_column(default=DEFAULT_PROJECT, index=True)
    locked_reason: Mapped[str | None] = mapped_column(Text)  #: not None: nothing that changes it is begun
    locked_by: Mapped[str | None]
    locked_at: Mapped[datetime.datetime | None]
    #: :class:`hostler.objects.Requirements`; empty where never looked at
    requirements: Mapped[dict[str, Any]] = mapped_column(default=dict)
    created_at: Mapped[datetime.datetime] = mapped_column(default=now)
    updated_at: Mapped[datetime.datetime] = mapped_column(default=now, onupdate=now)
    launched_at: Mapped[datetime.datetime | None]


class Migration(Base):
    """One move of one server, from the request until it is confirmed or undone."""

    __tablename__ = "migrations"

    uuid: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_uuid)
    instance_uuid: Mapped[str] = mapped_column(String(36), index=True)
    instance_name: Mapped[str]
    migration_type: Mapped[str]  #: ``migration``, ``resize``; ``dry-run`` for a check that changes nothing
    status: Mapped[str]  #: Nova's migration.status
    #: ``posting``, ``open`` (there is a job), ``parked``, ``closed`` (no flow of it is under way)
    phase: Mapped[str] = mapped_column(index=True)
    source_compute: Mapped[str]
    dest_compute: Mapped[str]
    old_vm_state: Mapped[str | None]
    #: of a resize: :class:`hostler.objects.Flavor`, as the server had it, and as it is to have it
    old_flavor: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    new_flavor: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    #: what networks and bridges are called on the destination, as the request says: :mod:`hostler.networks`
    network_map: Mapped[dict[str, str] | None] = mapped_column(JSON(none_as_null=True))
    flow_name: Mapped[str]  #: the flow that is, or was last, under way
    flow_uuid: Mapped[str] = mapped_column(String(36))
    #: how that flow ended: ``success``, ``refused``, ``reverted``, ``parked``; None while it is under way
    outcome: Mapped[str | None]
    error: Mapped[str | None] = mapped_column(Text)  #: the first cause, one sentence
    hint: Mapped[str | None] = mapped_column(Text)  #: what to type next
    request_id: Mapped[str]
    requested_by: Mapped[str]
    cancel_reason: Mapped[str | None] = mapped_column(Text)  #: the operator's wish to undo it
    #: the host that an operator has given up: its steps are its debts
    down_host: Mapped[str | None]
    report: Mapped[dict[str, Any] | None]  #: what a dry run found
    #: hosts that were tried before, and why not again; None: the operator named the host, and it alone is tried
    excluded: Mapped[dict[str, Any] | None]
    attempt: Mapped[int] = mapped_column(default=1)  #: of how many hosts this is
    rate_bytes_per_s: Mapped[int | None]  #: what its copy may send
    weight: Mapped[int] = mapped_column(default=1, server_default="1")  #: its part of a budget that it shares
    paused_by: Mapped[str | None]  #: not None: its copy sends nothing
    retry_of: Mapped[str | None] = mapped_column(String(36), index=True)  #: the attempt before
    created_at: Mapped[datetime.datetime] = mapped_column(default=now, index=True)
    updated_at: Mapped[datetime.datetime] = mapped_column(default=now, onupdate=now)
    finished_at: Mapped[datetime.datetime | None]


class ServerGroup(Base):
    """Servers that belong together, or apart."""

    __tablename__ = "server_groups"

    name: Mapped[str] = mapped_column(primary_key=True)
    policy: Mapped[str]  #: one of :data:`hostler.records.groups.POLICIES`
    created_at: Mapped[datetime.datetime] = mapped_column(default=now)


class GroupMember(Base):
    """A server of a group; it is in no other."""

    __tablename__ = "server_group_members"

    instance_uuid: Mapped[str] = mapped_column(
        String(36), ForeignKey("instances.uuid", ondelete="CASCADE"), primary_key=True
    )
    group_name: Mapped[str] = mapped_column(ForeignKey("server_groups.name", ondelete="CASCADE"), index=True)


class Fence(Base):
    """The epoch of the claim that may write for a migration; every write of a leg begins by touching it."""

    __tablename__ = "fences"

    migration_uuid: Mapped[str] = mapped_column(String(36), primary_key=True)
    epoch: Mapped[int]


class Claim(Base):
    """Resources of a host that a migration holds beside what the host's servers use."""

    __tablename__ = "claims"

    migration_uuid: Mapped[str] = mapped_column(String(36), primary_key=True)
    host: Mapped[str] = mapped_column(primary_key=True)
    vcpus: Mapped[int]
    memory_mb: Mapped[int]
    disk_bytes: Mapped[int]


class HeldPlacement(Base):
    """CPUs and NUMA nodes of a host that a migration's server has there, or may come to have again."""

    __tablename__ = "placements"

    migration_uuid: Mapped[str] = mapped_column(String(36), primary_key=True)
    host: Mapped[str] = mapped_column(primary_key=True)
    placement: Mapped[dict[str, Any]]  #: :class:`hostler.objects.Placement`


class Project(Base):
    """Whoever servers belong to, once a quota or a reservation was made for it."""

    __tablename__ = "projects"

    id: Mapped[str] = mapped_column(primary_key=True)
    #: raised by whatever changes how much the project uses: what was just counted stays so until the commit
    quota_generation: Mapped[int] = mapped_column(default=0)


class Quota(Base):
    """What a project may use in all; without a row there is no limit."""

    __tablename__ = "quotas"

    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), primary_key=True)
    resource: Mapped[str] = mapped_column(primary_key=True)  #: ``instances``, ``cores``, ``ram``, ``disk``
    hard_limit: Mapped[int]  #: in MiB for ``ram``, in bytes for ``disk``


class Reservation(Base):
    """How much more (or less) a project will use once a migration is handed over.

    Only what is more counts as used. Behind the hand-over: what the way back needs.
    """

    __tablename__ = "reservations"

    migration_uuid: Mapped[str] = mapped_column(String(36), primary_key=True)
    project_id: Mapped[str] = mapped_column(index=True)
    instances: Mapped[int]
    cores: Mapped[int]
    ram: Mapped[int]  #: MiB
    disk: Mapped[int]  #: bytes
    created_at: Mapped[datetime.datetime] = mapped_column(default=now)


class Binding(Base):
    """Where a port is bound while its server moves."""

    __tablename__ = "bindings"

    instance_uuid: Mapped[str] = mapped_column(String(36), primary_key=True)
    port: Mapped[str] = mapped_column(primary_key=True)  #: MAC address
    host: Mapped[str] = mapped_column(primary_key=True)
    active: Mapped[bool]
    network: Mapped[str]  #: ``bridge:br0`` or ``network:default`` on that host
    migration_uuid: Mapped[str | None] = mapped_column(String(36))


class JournalEntry(Base):
    """Written ahead of an effect: what a step is about to do, and whether it has.

    A task's result is stored only when it returns; after a kill its undo finds this.
    """

    __tablename__ = "journal"

    migration_uuid: Mapped[str] = mapped_column(String(36), primary_key=True)
    task: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    state: Mapped[str]  #: ``intent``, ``done``, ``undone``
    data: Mapped[dict[str, Any]] = mapped_column(default=dict)
    updated_at: Mapped[datetime.datetime] = mapped_column(default=now, onupdate=now)


class Debt(Base):
    """The undo of a step that its host owes: it was away when the migration walked back."""

    __tablename__ = "debts"

    host: Mapped[str] = mapped_column(primary_key=True)
    migration_uuid: Mapped[str] = mapped_column(String(36), primary_key=True)
    task: Mapped[str] = mapped_column(primary_key=True)
    flow_uuid: Mapped[str] = mapped_column(String(36))
    position: Mapped[int]  #: the order in which a migration's debts are paid
    created_at: Mapped[datetime.datetime] = mapped_column(default=now)


class Receiver(Base):
    """Where and with which key a migration's images are taken; gone when they are verified."""

    __tablename__ = "receivers"

    migration_uuid: Mapped[str] = mapped_column(String(36), primary_key=True)
    host: Mapped[str]
    address: Mapped[dict[str, Any]]  #: :class:`hostler.objects.ReceiverAddress`
    #: the copy has begun and is not over: it has a part of the budgets
    sending: Mapped[bool] = mapped_column(default=False, server_default=false())


class LinkRate(Base):
    """What one host may send to one other in all; without a row what their own budgets allow."""

    __tablename__ = "link_rates"

    source: Mapped[str] = mapped_column(ForeignKey("hosts.name"), primary_key=True)
    dest: Mapped[str] = mapped_column(ForeignKey("hosts.name"), primary_key=True)
    rate_bytes_per_s: Mapped[int]


class Progress(Base):
    """How far the copy of one file is."""

    __tablename__ = "progress"

    migration_uuid: Mapped[str] = mapped_column(String(36), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    path: Mapped[str] = mapped_column(Text)
    done_bytes: Mapped[int]
    total_bytes: Mapped[int]
    rate_bytes_per_s: Mapped[int]
    updated_at: Mapped[datetime.datetime] = mapped_column(default=now)


class Event(Base):
    """One line of a migration's history."""

    __tablename__ = "events"
    __table_args__ = (Index("ix_events_migration", "migration_uuid", "id"),)

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    migration_uuid: Mapped[str] = mapped_column(String(36))
    at: Mapped[datetime.datetime] = mapped_column(default=now)
    host: Mapped[str]
    kind: Mapped[str]  #: ``posted``, ``claimed``, ``handed-over``, ``parked``, ``finished``, ...
    text: Mapped[str] = mapped_column(Text)


class OutboxEntry(Base):
    """A message for a listener, until it was delivered: see :mod:`hostler.records.outbox`."""

    __tablename__ = "outbox"
    __table_args__ = (
        UniqueConstraint("message_id", "driver"),
        Index("ix_outbox_queue", "migration_uuid", "driver", "id"),
    )

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    migration_uuid: Mapped[str] = mapped_column(String(36))
    driver: Mapped[str]  #: that delivers it
    message_id: Mapped[str] = mapped_column(String(36))
    message: Mapped[dict[str, Any]]  #: :class:`hostler.drivers.notifications.Message`
    attempts: Mapped[int]
    created_at: Mapped[datetime.datetime]
    due_at: Mapped[datetime.datetime]  #: not before: it is being delivered, or waits after a failure


class FlowRow(Base):
    """TaskFlow's flow detail."""

    __tablename__ = "flows"

    uuid: Mapped[str] = mapped_column(String(36), primary_key=True)
    migration_uuid: Mapped[str] = mapped_column(String(36), index=True)
    name: Mapped[str]
    state: Mapped[str | None]
    meta: Mapped[dict[str, Any]]
    created_at: Mapped[datetime.datetime] = mapped_column(default=now)


class AtomRow(Base):
    """TaskFlow's atom detail, with its place in the flow and the times that its states changed."""

    __tablename__ = "atoms"

    uuid: Mapped[str] = mapped_column(String(36), primary_key=True)
    flow_uuid: Mapped[str] = mapped_column(ForeignKey("flows.uuid", ondelete="CASCADE"), index=True)
    position: Mapped[int]  #: from 1; 0 for the detail in which TaskFlow keeps the posted arguments
    name: Mapped[str]
    version: Mapped[str | None]
    state: Mapped[str | None]
    intention: Mapped[str | None]
    results: Mapped[Any] = mapped_column(JSON(none_as_null=True), nullable=True)
    failure: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    revert_results: Mapped[Any] = mapped_column(JSON(none_as_null=True), nullable=True)
    revert_failure: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    meta: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    started_at: Mapped[datetime.datetime | None]
    finished_at: Mapped[datetime.datetime | None]
    revert_started_at: Mapped[datetime.datetime | None]
    revert_finished_at: Mapped[datetime.datetime | None]
