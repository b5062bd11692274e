"""Groups of servers that belong on one host, or on different ones (Nova's server groups).

A server's *places* are the host that has it and those that hold room for it: where it is on its way to, and where it
may return to until its migration is confirmed. A hard policy counts all of them, so that it still holds whichever way
the migrations under way end.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from hostler.errors import (
    GroupAffinityViolation,
    InstanceGroupExists,
    InstanceGroupNotFound,
    InstanceIsInGroup,
    InstanceIsNotInGroup,
    Refused,
)
from hostler.records import instances
from hostler.records.models import Claim, GroupMember, Instance, Migration, ServerGroup

#: A host that violates one of these is refused; the soft ones only make other hosts better.
HARD = ("affinity", "anti-affinity")
POLICIES = (*HARD, "soft-affinity", "soft-anti-affinity")
LONGEST_NAME = 255


@dataclass(frozen=True)
class Member:
    """Another server of the group, and its places."""

    name: str
    places: frozenset[str]


@dataclass(frozen=True)
class Membership:
    """A server's group as that server sees it."""

    group: str
    policy: str
    others: tuple[Member, ...] = ()

    def violated_by(self, host: str) -> str | None:
        """Return, as a sentence, why the policy forbids *host*; None if it does not."""
        for other in self.others:
            if self.policy == "anti-affinity" and host in other.places:
                return f"group {self.group!r} keeps it apart from {other.name!r}, which has a place there"
            if self.policy == "affinity" and other.places != {host}:
                where = " and ".join(sorted(other.places))
                return f"group {self.group!r} keeps it together with {other.name!r}, which has a place on {where}"
        return None

    def count(self, host: str) -> int:
        """Return how many of the others have a place on *host*."""
        return sum(host in other.places for other in self.others)


def get(session: Session, name: str) -> ServerGroup:
    """Return the group of that name."""
    found = session.get(ServerGroup, name) if instances.storable(name) else None
    if found is None:
        raise InstanceGroupNotFound(name=name)
    return found


def all_groups(session: Session) -> list[ServerGroup]:
    """Return every group by name."""
    return list(session.scalars(select(ServerGroup).order_by(ServerGroup.name)))


def members(session: Session, name: str) -> list[Instance]:
    """Return the servers of a group by name."""
    of_it = GroupMember.instance_uuid == Instance.uuid
    found = select(Instance).join(GroupMember, of_it).where(GroupMember.group_name == name)
    return list(session.scalars(found.order_by(Instance.name, Instance.uuid)))


def create(session: Session, name: str, policy: str) -> ServerGroup:
    """Make a group."""
    if not name.strip() or not name.isprintable() or len(name) > LONGEST_NAME:
        hint = f"hostler group create --help; a name is printable and has {LONGEST_NAME} characters at most"
        raise Refused(f"a group cannot be called {name!r}", hint=hint)
    if session.get(ServerGroup, name) is not None:
        raise InstanceGroupExists(name=name)
    group = ServerGroup(name=name, policy=policy)
    session.add(group)
    try:
        session.flush()
    except IntegrityError as error:  # somebody made it meanwhile
        raise InstanceGroupExists(name=name) from error
    return group


def remove(session: Session, name: str) -> None:
    """Remove a group; its servers are in none then."""
    group = get(session, name)
    session.execute(delete(GroupMember).where(GroupMember.group_name == group.name))
    session.delete(group)


def add_member(session: Session, name: str, server: str) -> str | None:
    """Put a server into a group; return, as a sentence, why its policy does not hold at present.

    Nothing is moved: the policy counts from the next move on.
    """
    group, instance = _lock(session, get(session, name).name), instances.find(session, server)
    found = session.get(GroupMember, instance.uuid)
    if found is not None and found.group_name != group.name:
        raise InstanceIsInGroup(server=instance.name, group=found.group_name)
    if found is None:
        session.add(GroupMember(instance_uuid=instance.uuid, group_name=group.name))
        session.flush()
    reason = _membership(session, group, instance.uuid).violated_by(instance.host)
    return f"server {instance.name!r} is on {instance.host}: {reason}" if reason else None


def remove_member(session: Session, name: str, server: str) -> None:
    """Take a server out of a group; a refusal if it is in another or none."""
    group, instance = get(session, name), instances.find(session, server)
    found = session.get(GroupMember, instance.uuid)
    if found is None or found.group_name != group.name:
        raise InstanceIsNotInGroup(server=instance.name, group=group.name)
    session.delete(found)


def membership(session: Session, instance: str, *, lock: bool = False) -> Membership | None:
    """Return the membership of the server of that UUID; None if it is in no group.

    *lock*: nobody of the group takes a place until the transaction ends, or is seen here.
    """
    name = session.scalar(select(GroupMember.group_name).where(GroupMember.instance_uuid == instance))
    if name is None:
        return None
    group = _lock(session, name) if lock else session.get(ServerGroup, name)
    return _membership(session, group, instance) if group is not None else None


def check(session: Session, instance: str, host: str, *, lock: bool = False) -> None:
    """Refuse a host that the policy of the server's group forbids."""
    found = membership(session, instance, lock=lock)
    reason = found.violated_by(host) if found is not None else None
    if found is not None and reason is not None:
        raise GroupAffinityViolation(host=host, reason=reason, group=found.group)


def _membership(session: Session, group: ServerGroup, instance: str) -> Membership:
    of_it = GroupMember.instance_uuid == Instance.uuid
    found = select(Instance.uuid, Instance.name, Instance.host).join(GroupMember, of_it)
    others = found.where(GroupMember.group_name == group.name, Instance.uuid != instance)
    servers = session.execute(others.order_by(Instance.name)).all()
    held = _held(session, [uuid for uuid, _, _ in servers])
    return Membership(
        group.name,
        group.policy,
        tuple(Member(name, frozenset({host, *held.get(uuid, ())})) for uuid, name, host in servers),
    )


def _held(session: Session, servers: Collection[str]) -> dict[str, set[str]]:
    """Return the hosts that hold room for the servers, by their UUIDs."""
    held: dict[str, set[str]] = {}
    claims = select(Migration.instance_uuid, Claim.host).join(Claim, Claim.migration_uuid == Migration.uuid)
    for uuid, host in session.execute(claims.where(Migration.instance_uuid.in_(servers))):
        held.setdefault(uuid, set()).add(host)
    return held


def _lock(session: Session, name: str) -> ServerGroup:
    """Return the group; whoever else wants it locked waits for this transaction. (On SQLite all of them do.)"""
    found = session.scalar(select(ServerGroup).where(ServerGroup.name == name).with_for_update())
    if found is None:
        raise InstanceGroupNotFound(name=name)
    return found
