"""What projects use, may use, and have reserved.

What is used is counted from the servers' records each time, and so can never drift; on top of it come the
reservations of migrations that are under way. Whoever changes how much a project uses raises the project's generation
first: that locks its row until the commit, so that of two that want what is left one gets it, and nobody counts while
a server's record and its reservation change places.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import case, delete, func, select, union, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from hostler.errors import (
    InstanceInvalidState,
    MigrationInProgress,
    OverQuota,
    ProjectNotFound,
    QuotaBelowUse,
)
from hostler.objects import Record
from hostler.records import instances
from hostler.records.models import Instance, Project, Quota, Reservation, now

#: Each resource with the unit that operators count it in, and how many of the records' units that is.
RESOURCES = {"instances": ("servers", 1), "cores": ("vCPUs", 1), "ram": ("MiB", 1), "disk": ("GiB", 1 << 30)}


@dataclass(frozen=True)
class Usage(Record):
    """An amount of each resource; as a difference it may be negative."""

    instances: int = 0
    cores: int = 0
    ram: int = 0  #: MiB
    disk: int = 0  #: bytes

    def __add__(self, other: Usage) -> Usage:
        return Usage(*(mine + yours for mine, yours in zip(self.amounts, other.amounts, strict=True)))

    def __neg__(self) -> Usage:
        return Usage(*(-amount for amount in self.amounts))

    @property
    def amounts(self) -> tuple[int, ...]:
        """The amounts in the order of :data:`RESOURCES`."""
        return dataclasses.astuple(self)

    @property
    def growth(self) -> Usage:
        """What of it is more than nothing."""
        return Usage(*(max(amount, 0) for amount in self.amounts))


def of_server(server: Instance) -> Usage:
    """Return what one server uses."""
    return Usage(1, server.vcpus, server.memory_mb, server.disk_bytes)


# -- what a migration does --------------------------------------------------------------------------------


def check(
    session: Session, project: str, delta: Usage, *, except_migration: str | None = None, hold: bool = False
) -> None:
    """Refuse what would exceed a quota; nobody is refused for what he does not ask for.

    *hold*: raise the generation first, so that it stays true until the commit.
    """
    if hold:
        raise_generation(session, project)
    limits = limits_of(session, project)
    if not limits or delta == Usage():
        return
    taken = used(session, project) + reserved(session, project, except_migration=except_migration)
    for resource, limit in limits.items():
        more, there = getattr(delta, resource), getattr(taken, resource)
        if more > 0 and there + more > limit:
            unit, size = RESOURCES[resource]
            amounts = {"need": -(-more // size), "used": -(-there // size), "limit": limit // size}
            raise OverQuota(project=project, resource=resource, unit=unit, **amounts)


def reserve(session: Session, migration: str, project: str, delta: Usage) -> None:
    """Hold *delta* for a migration; :class:`~hostler.errors.OverQuota` if the project has not that much left.

    Asked again, it is held once. A difference of nothing writes nothing.
    """
    held = session.get(Reservation, migration, populate_existing=True)
    before = (held.project_id, _delta(held)) if held else (project, Usage())
    if before == (project, delta):
        return
    check(session, project, delta, except_migration=migration, hold=True)
    _drop(session, migration)
    _hold(session, migration, project, delta)


def commit(session: Session, migration: str) -> None:
    """Let go of a reservation, in the transaction in which the server's record takes its place.

    What the server uses less from here on stays held until the migration is confirmed: the way back needs it. A
    revert that gives the server its old size commits, too: then nothing stays.
    """
    held = session.get(Reservation, migration, populate_existing=True)
    if held is None:
        return
    project, way_back = held.project_id, (-_delta(held)).growth
    raise_generation(session, project)
    _drop(session, migration)
    _hold(session, migration, project, way_back)


def roll_back(session: Session, migration: str) -> None:
    """Let go of whatever a migration has reserved; nothing if that is nothing."""
    _drop(session, migration)


# -- what an operator does --------------------------------------------------------------------------------


def set_limits(session: Session, project: str, limits: Mapping[str, int | None], *, force: bool) -> None:
    """Set the limits of some resources, in operators' units; None is no limit.

    One below what is used and reserved is :class:`~hostler.errors.QuotaBelowUse`, unless *force* is given.
    """
    raise_generation(session, project)
    taken = used(session, project) + reserved(session, project)
    over = []
    for resource, limit in limits.items():
        unit, size = RESOURCES[resource]
        there = getattr(taken, resource)
        if limit is not None and there > limit * size:
            over.append(f"{-(-there // size)} {unit} of {resource} are used, and the limit would be {limit}")
    if over and not force:
        raise QuotaBelowUse(project=project, over="; ".join(over))
    for resource, limit in limits.items():
        session.execute(delete(Quota).where(Quota.project_id == project, Quota.resource == resource))
        if limit is not None:
            hard_limit = limit * RESOURCES[resource][1]
            session.add(Quota(project_id=project, resource=resource, hard_limit=hard_limit))
    session.flush()


def move_server(session: Session, server: str, project: str) -> Instance:
    """Let a server count against another project's quota; not while a migration needs it as it is."""
    found = instances.find(session, server)
    if found.project_id == project:
        return found
    if other := instances.migration_under_way(session, found.uuid):
        raise MigrationInProgress(server=found.name, migration=other.uuid)
    if found.task_state is not None or instances.unconfirmed_migration(session, found.uuid):
        raise InstanceInvalidState(
            server=found.name,
            state=found.task_state or found.vm_state,
            method="move to another project",
            allowed="confirmed first",
        )
    # The server's row is taken before the project's, as a hand-over does: neither waits for the other.
    instances.save(session, found.uuid, expected_task_state=[None])
    check(session, project, of_server(instances.get(session, found.uuid)), hold=True)
    instances.save(session, found.uuid, project_id=project)
    return instances.get(session, found.uuid)


# -- looking ----------------------------------------------------------------------------------------------


def used(session: Session, project: str) -> Usage:
    """Return what the servers of a project use."""
    columns = (Instance.vcpus, Instance.memory_mb, Instance.disk_bytes)
    totals = [func.count(), *(func.coalesce(func.sum(column), 0) for column in columns)]
    row = session.execute(select(*totals).where(Instance.project_id == project)).one()
    return Usage(*map(int, row))


def reserved(session: Session, project: str, *, except_migration: str | None = None) -> Usage:
    """Return what migrations under way will use more, and what those that wait to be confirmed may need again."""
    columns = [getattr(Reservation, resource) for resource in RESOURCES]
    totals = [func.coalesce(func.sum(case((column > 0, column), else_=0)), 0) for column in columns]
    of_project = Reservation.project_id == project
    others = Reservation.migration_uuid != (except_migration or "")
    return Usage(*map(int, session.execute(select(*totals).where(of_project, others)).one()))


def limits_of(session: Session, project: str) -> dict[str, int]:
    """Return the project's limits, in the records' units; a resource without one is not among them."""
    rows = session.scalars(select(Quota).where(Quota.project_id == project))
    found = {row.resource: row.hard_limit for row in rows}
    return {resource: found[resource] for resource in RESOURCES if resource in found}


def projects(session: Session) -> list[str]:
    """Return every project that has a server, a quota or a reservation."""
    named = union(select(Instance.project_id), select(Quota.project_id), select(Reservation.project_id))
    return sorted(session.scalars(named))


def find_project(session: Session, project: str) -> str:
    """Return *project* if it has anything; :class:`~hostler.errors.ProjectNotFound` otherwise."""
    if not instances.storable(project) or project not in projects(session):
        raise ProjectNotFound(project=project)
    return project


# -- underneath -------------------------------------------------------------------------------------------


def raise_generation(session: Session, project: str) -> None:
    """Hold the project until the commit; its row is made when it is first asked for."""
    raised = (
        update(Project).where(Project.id == project).values(quota_generation=Project.quota_generation + 1)
    )
    if session.execute(raised).rowcount:  # type: ignore[attr-defined]
        return
    try:
        with session.begin_nested():
            session.add(Project(id=project, quota_generation=1))
    except IntegrityError:  # somebody else made it meanwhile
        session.execute(raised)


def _delta(held: Reservation) -> Usage:
    return Usage(held.instances, held.cores, held.ram, held.disk)


def _hold(session: Session, migration: str, project: str, delta: Usage) -> None:
    if delta == Usage():
        return
    facts = {"migration_uuid": migration, "project_id": project, "created_at": now()}
    session.add(Reservation(**facts, **delta.to_dict()))
    session.flush()


def _drop(session: Session, migration: str) -> None:
    session.execute(
        delete(Reservation)
        .where(Reservation.migration_uuid == migration)
        .execution_options(synchronize_session="fetch")
    )
