"""Claims as rows beside the hosts and servers they are counted against."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from oslo_config import cfg
from sqlalchemy import delete, update
from sqlalchemy.orm import Session

from hostler.drivers.claims import Places
from hostler.objects import Placement
from hostler.records import groups, hosts, moves, placements
from hostler.records.fence import FencedRecords
from hostler.records.hosts import Amounts
from hostler.records.models import Claim, Host


class _Overtaken(Exception):
    """Somebody else's claim came between looking at a host and locking it: look again."""


class RecordsClaims:
    """The :class:`~hostler.drivers.claims.Claims` that the records keep.

    Whoever changes what a host has left raises the host's generation first. That locks the host's row until
    the commit, so that nobody takes the room that was just counted; counting first and comparing the
    generation afterwards would lose a race for each rival and have to try again.
    """

    def claim(self, records: FencedRecords, host: str, need: Amounts, places: Places | None = None) -> None:
        """Hold *need* on *host* if it has that much left, and if the server's group allows it there."""
        while True:
            with contextlib.suppress(_Overtaken):
                return self._claim(records, host, need, places)

    def placement(self, records: FencedRecords, host: str) -> Placement | None:
        """Return the CPUs and NUMA nodes that the migration holds on *host*."""
        with records.reading() as session:
            return placements.of_migration(session, records.migration, host)

    def drop(self, records: FencedRecords, host: str) -> None:
        """Let go of what the migration holds on *host*, and of CPUs and NUMA nodes wherever it holds any."""
        with records.transaction() as session:
            for each in sorted({host, *placements.hosts_of(session, records.migration)}):
                _raise_generation(session, each)
            _let_go(session, records.migration, host)
            placements.let_go(session, records.migration)

    def settle(self, records: FencedRecords, host: str) -> None:
        """Let go of what the source kept: no other row counts it."""
        self.drop(records, host)

    def consumers(self, host: str) -> list[str]:
        """Return nothing: all claims are in the records."""
        return []

    @staticmethod
    def _claim(records: FencedRecords, host: str, need: Amounts, places: Places | None) -> None:
        """Try once. CPUs are chosen before anything is locked, since that asks the host.

        What was seen of the host then is good as long as its generation is. A definition that leaves the host with
        its server has its place in the records before it goes, and one that comes has it until after: both
        raise the generation.
        """
        chosen, seen = _choose(records, host, places)
        with records.transaction() as session:
            held = session.get(Claim, (records.migration, host))
            if held is not None and _amounts(held) == need:
                return
            # The group is locked before the host, everywhere: of two members that race, the second sees the first.
            groups.check(session, moves.get(session, records.migration).instance_uuid, host, lock=True)
            for each in sorted({host, *(places.left if places is not None else ())}):
                _raise_generation(session, each)
            if chosen is not None and hosts.get(session, host).claims_generation != seen + 1:
                raise _Overtaken
            hosts.check_room(session, hosts.get(session, host), need, except_migration=records.migration)
            _hold(session, records.migration, host, need)
            if places is not None and chosen is not None:
                placements.hold(session, records.migration, _everywhere(host, chosen, places.left))

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


def _choose(records: FencedRecords, host: str, places: Places | None) -> tuple[Placement | None, int]:
    """Return what is to be had on *host*, and the host's generation when it was looked at."""
    if places is None:
        return None, 0
    with records.reading() as session:
        generation = hosts.get(session, host).claims_generation
        others = placements.of_others(session, host, records.migration)
    return places.choose(others), generation


def _everywhere(host: str, chosen: Placement, left: Mapping[str, Placement]) -> dict[str, Placement]:
    """Return what is held by host; on one host what the server has and what it is to have are one place."""
    if host in left:
        return {**left, host: chosen.beside(left[host])}
    return {**left, host: chosen}


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
