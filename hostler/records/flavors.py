"""Flavors: named sizes of servers, and whether a server may have one."""

from __future__ import annotations

from sqlalchemy import delete, func, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from hostler import objects
from hostler.errors import (
    CannotResizeDisk,
    CannotResizeToSameFlavor,
    FlavorExists,
    FlavorInUse,
    FlavorNotFound,
    InvalidFlavor,
)
from hostler.records import instances
from hostler.records.models import Flavor, Instance, Migration

#: Nova's highest number (``nova.db.constants.MAX_INT``).
MAX_INT = 0x7FFFFFFF
#: The least that each size may be: a server without CPUs or memory is none; a disk of 0 is left as it is.
_LEAST = {"vcpus": 1, "memory_mb": 1, "root_gb": 0, "ephemeral_gb": 0, "swap_mb": 0}
_LONGEST = 255
_WORDS = {"memory_mb": "ram", "root_gb": "disk", "ephemeral_gb": "ephemeral", "swap_mb": "swap"}


def create(session: Session, name: str, **sizes: int) -> Flavor:
    """Make a flavor; *sizes* are its fields. A size that no server can have is ``InvalidFlavor``."""
    if not 0 < len(name) <= _LONGEST or not name.isprintable() or name.startswith("-"):
        problem = f"a name has 1 to {_LONGEST} printable letters, the first no dash"
        raise InvalidFlavor(name=name, problem=problem)
    for field, size in sizes.items():
        if not _LEAST[field] <= size <= MAX_INT:
            problem = f"{_WORDS.get(field, field)} must be from {_LEAST[field]} to {MAX_INT}, not {size}"
            raise InvalidFlavor(name=name, problem=problem)
    flavor = Flavor(name=name, **sizes)
    session.add(flavor)
    try:
        session.flush()
    except IntegrityError as error:
        raise FlavorExists(name=name) from error
    return flavor


def find(session: Session, name: str) -> Flavor:
    """Return the flavor of that id or name."""
    if instances.storable(name):
        rows = session.scalars(select(Flavor).where(or_(Flavor.name == name, Flavor.id == name)))
        named = [row for row in rows if name in (row.name, row.id)]  # MariaDB takes BIG for big
        if named:
            return named[0]
    raise FlavorNotFound(name=name)


def all_flavors(session: Session) -> list[Flavor]:
    """Return every flavor, the smallest first."""
    return list(session.scalars(select(Flavor).order_by(Flavor.memory_mb, Flavor.vcpus, Flavor.name)))


def remove(session: Session, name: str) -> None:
    """Remove a flavor that no server has and no migration may still give, or give back."""
    flavor = find(session, name)
    users = _users(session, flavor)
    if users:
        raise FlavorInUse(name=flavor.name, users=" and ".join(users))
    session.execute(delete(Flavor).where(Flavor.id == flavor.id))


def _users(session: Session, flavor: Flavor) -> list[str]:
    servers = session.scalar(
        select(func.count()).select_from(Instance).where(Instance.flavor_id == flavor.id)
    )
    may_change = or_(Migration.phase.in_(instances.UNDER_WAY), instances.UNCONFIRMED)
    resizes = session.scalars(select(Migration).where(may_change, Migration.new_flavor.is_not(None)))
    migrations = [
        row.uuid
        for row in resizes
        if flavor.id in ((row.old_flavor or {}).get("id"), (row.new_flavor or {}).get("id"))
    ]
    said = [f"{servers} server{'' if servers == 1 else 's'}"] if servers else []
    return said + [f"migration {uuid}" for uuid in migrations]


def facts(flavor: Flavor) -> objects.Flavor:
    """Return what a migration remembers of a flavor."""
    return objects.Flavor(
        vcpus=flavor.vcpus,
        memory_mb=flavor.memory_mb,
        root_gb=flavor.root_gb,
        ephemeral_gb=flavor.ephemeral_gb,
        swap_mb=flavor.swap_mb,
        id=flavor.id,
        name=flavor.name,
    )


def of_server(session: Session, instance: Instance) -> objects.Flavor:
    """Return the size of a server: its flavor's disks, if it has one, and what its record says of the rest."""
    flavor = session.get(Flavor, instance.flavor_id) if instance.flavor_id else None
    if flavor is None:
        return objects.Flavor(instance.vcpus, instance.memory_mb)
    known = facts(flavor)
    sizes = {"root_gb": known.root_gb, "ephemeral_gb": known.ephemeral_gb, "swap_mb": known.swap_mb}
    return objects.Flavor(instance.vcpus, instance.memory_mb, **sizes, id=known.id, name=known.name)


def refuse_unfit(server: str, old: objects.Flavor, new: objects.Flavor) -> None:
    """Refuse a resize of which the records alone tell that it cannot be; the host knows the disks themselves."""
    if new == old:
        raise CannotResizeToSameFlavor(server=server, flavor=new.name)
    for role, before, after in (
        ("root", old.root_gb, new.root_gb),
        ("ephemeral", old.ephemeral_gb, new.ephemeral_gb),
    ):
        if 0 < after < before:
            raise CannotResizeDisk(flavor=new.name, new_gb=after, role=role, server=server, old_gb=before)
