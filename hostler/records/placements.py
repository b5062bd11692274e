"""CPUs and NUMA nodes that migrations hold.

A server that is on its way is in no host's definitions for a while, and may end on either host: from the claim until it
is confirmed or undone it has its place on both.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from hostler.objects import Placement
from hostler.records.models import HeldPlacement, Migration


def of_migration(session: Session, migration: str, host: str) -> Placement | None:
    """Return what *migration* holds on *host*."""
    found = session.get(HeldPlacement, (migration, host))
    return Placement.from_dict(found.placement) if found is not None else None


def of_others(session: Session, host: str, migration: str) -> dict[str, Placement]:
    """Return what the servers of all other migrations hold on *host*, by their UUIDs."""
    others = (
        select(Migration.instance_uuid, HeldPlacement.placement)
        .join(Migration, Migration.uuid == HeldPlacement.migration_uuid)
        .where(HeldPlacement.host == host, HeldPlacement.migration_uuid != migration)
    )
    return {row[0]: Placement.from_dict(row[1]) for row in session.execute(others)}


def hosts_of(session: Session, migration: str) -> list[str]:
    """Return the hosts on which *migration* holds anything."""
    mine = select(HeldPlacement.host).where(HeldPlacement.migration_uuid == migration)
    return list(session.scalars(mine))


def hold(session: Session, migration: str, places: Mapping[str, Placement]) -> None:
    """Hold these places, by host, and no others."""
    let_go(session, migration)
    for host, placement in places.items():
        facts = placement.to_dict()
        session.add(HeldPlacement(migration_uuid=migration, host=host, placement=facts))
    session.flush()


def let_go(session: Session, migration: str) -> None:
    """Let go of all of them."""
    session.execute(
        delete(HeldPlacement)
        .where(HeldPlacement.migration_uuid == migration)
        .execution_options(synchronize_session="fetch")
    )
