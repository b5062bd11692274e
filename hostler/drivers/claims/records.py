"""Claims as rows beside the hosts and servers they are counted against."""

from __future__ import annotations

from oslo_config import cfg
from sqlalchemy import delete, update
from sqlalchemy.orm import Session

from hostler.records import groups, hosts, moves
from hostler.records.fence import FencedRecords
from hostler.records.hosts import Amounts
from hostler.records.models import Claim, Host


class RecordsClaims:
    """The :class:`~hostler.drivers.claims.Claims` that the records keep.

    Whoever changes what a host has left raises the host's generation first. That locks the host's row until
    the commit, so that nobody takes the room that was just counted; counting first and comparing the
    generation afterwards would lose a race for each rival and have to try again.
    """

    def claim(self, records: FencedRecords, host: str, need: Amounts) -> None:
        """Hold *need* on *host* if it has that much left, and if the server's group allows it there."""
        with records.transaction() as session:
            held = session.get(Claim, (records.migration, host))
            if held is not None and _amounts(held) == need:
                return
            # The group is locked before the host, everywhere: of two members that race, the second sees the first.
            groups.check(session, moves.get(session, records.migration).instance_uuid, host, lock=True)
            _raise_generation(session, host)
            hosts.check_room(session, hosts.get(session, host), need, except_migration=records.migration)
            _hold(session, records.migration, host, need)

    def drop(self, records: FencedRecords, host: str) -> None:
        """Let go of what the migration holds on *host*."""
        with records.transaction() as session:
            _raise_generation(session, host)
            _let_go(session, records.migration, host)

    def swap(self, session: Session, migration: str, from_host: str, to_host: str, need: Amounts) -> None:
        """Hold *need* on *to_host* instead of *from_host*."""
        for host in sorted(
            {from_host, to_host}
        ):  # in one order everywhere: two swaps never wait for each other
            _raise_generation(session, host)
        _let_go(session, migration, from_host)
        _hold(session, migration, to_host, need)


def from_conf(_conf: cfg.ConfigOpts) -> RecordsClaims:
    """Make the driver of the settings."""
    return RecordsClaims()


def _raise_generation(session: Session, host: str) -> None:
    session.execute(
        update(Host).where(Host.name == host).values(claims_generation=Host.claims_generation + 1)
    )


def _hold(session: Session, migration: str, host: str, need: Amounts) -> None:
    _let_go(session, migration, host)
    session.add(
        Claim(
            migration_uuid=migration,
            host=host,
            vcpus=need.vcpus,
            memory_mb=need.memory_mb,
            disk_bytes=need.disk_bytes,
        )
    )
    session.flush()


def _let_go(session: Session, migration: str, host: str) -> None:
    session.execute(
        delete(Claim)
        .where(Claim.migration_uuid == migration, Claim.host == host)
        .execution_options(synchronize_session="fetch")
    )


def _amounts(claim: Claim) -> Amounts:
    return Amounts(claim.vcpus, claim.memory_mb, claim.disk_bytes)
