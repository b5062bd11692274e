"""Claims in OpenStack's Placement, where a cloud counts what its hosts have left.

As Nova has it: while a server moves, what it has on the source belongs to the migration's uuid as consumer, and
what it is to have on the destination to the server's own. One request changes both, so that there is no half.
Where a server is resized where it is, its own allocation grows, and gets its final size when that is confirmed.

The records count as well: a server must fit into both, and CPUs and NUMA nodes are held there alone.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from hostler.drivers.claims import Claims, Places
from hostler.drivers.claims.allocations import (
    KNOWN,
    Allocation,
    ByProvider,
    ConcurrentUpdate,
    NoRoom,
    PlacementService,
    Room,
    added,
    of_amounts,
)
from hostler.drivers.cloud_failures import failing
from hostler.errors import (
    AllocationNotMovable,
    ComputeResourcesUnavailable,
    ForeignObject,
    HostlerError,
    ServerUnreachable,
)
from hostler.objects import Placement
from hostler.records import instances, moves
from hostler.records.fence import FencedRecords
from hostler.records.hosts import Amounts
from hostler.records.models import JournalEntry

#: Under which name the journal keeps what a server had and has in Placement, by host.
JOURNAL = "placement"
#: As a migration's uuid is called among consumers.
MIGRATION = "MIGRATION"
#: What is to become of a server's allocation and of its migration's; empty: they are as they should be.
Plan = Callable[[Allocation, Allocation], Mapping[str, Allocation]]


class PlacementClaims:
    """The :class:`~hostler.drivers.claims.Claims` of Placement.

    *counted*: holds in the records what is held here. *providers*: how resource providers are called whose name is
    not the host's. *patience_s*: how long rivals are waited for, and how long a request is tried that others
    overtake.
    """

    def __init__(
        self,
        service: PlacementService,
        counted: Claims,
        providers: Mapping[str, str] | None = None,
        patience_s: float = 60.0,
        pause_s: float = 0.2,
    ) -> None:
        self._service = service
        self._counted = counted
        self._providers = dict(providers or {})
        self._patience_s = patience_s
        self._pause_s = pause_s

    def claim(self, records: FencedRecords, host: str, need: Amounts, places: Places | None = None) -> None:
        """Hold *need* on *host* in the records and in Placement, or in neither."""
        self._counted.claim(records, host, need, places)
        try:
            with failing("Placement"):
                self._claim(records, host, need)
        except HostlerError:
            self._counted.drop(records, host)
            raise

    def placement(self, records: FencedRecords, host: str) -> Placement | None:
        """Return the CPUs and NUMA nodes that the migration holds on *host*: the records know."""
        return self._counted.placement(records, host)

    def drop(self, records: FencedRecords, host: str) -> None:
        """Give the server back what it had before it was claimed on *host*; the migration has nothing then."""
        if entry := records.journal(JOURNAL).get(host):
            move = _Move.of(records)
            self._arrange(records, move, lambda mine, its: _back(move, entry, mine, its))
            records.journal(JOURNAL).undone(host)
        self._counted.drop(records, host)

    def settle(self, records: FencedRecords, host: str) -> None:
        """Let go of what *host* kept for the way back; a server that was resized there gets its final size."""
        move = _Move.of(records)
        if entry := records.journal(JOURNAL).get(move.dest):
            self._arrange(records, move, lambda mine, its: _settled(move, entry, mine, its))
        self._counted.settle(records, host)

    def consumers(self, host: str) -> list[str]:
        """Return who has anything of the host's provider; many may be others', of whom the records know nothing."""
        return self._service.consumers(self._service.provider(self._provider_of(host)))

    def swap(self, session: Session, migration: str, from_host: str, to_host: str, need: Amounts) -> None:
        """Swap it in the records. In Placement both hosts have theirs already, and keep it until one is dropped."""
        self._counted.swap(session, migration, from_host, to_host, need)

    # -- claiming -----------------------------------------------------------------------------------------

    def _claim(self, records: FencedRecords, host: str, need: Amounts) -> None:
        """Claim, and read back: Placement lets several have the same place if they ask at once.

        Who finds the host full gives up his own part. He is refused only if nobody who came before him is undecided
        still, else one place too many could be given up; so of all who want a place as many get one as there are.
        """
        move = _Move.of(records)
        provider = self._service.provider(self._provider_of(host))
        entry = self._intend(records, move, host, {provider: of_amounts(need)})
        deadline = time.monotonic() + self._patience_s
        while True:
            is_first = not _undecided_before(records, host)
            refusal = self._try(records, move, entry, host, provider)
            if refusal is None:
                records.journal(JOURNAL).done(host)
                return
            if is_first or time.monotonic() > deadline:
                records.journal(JOURNAL).undone(host)
                raise refusal
            time.sleep(self._pause_s * random.uniform(0.5, 1.5))  # noqa: S311 - spreads, hides nothing

    def _intend(self, records: FencedRecords, move: _Move, host: str, need: ByProvider) -> JournalEntry:
        """Write down what the server has and what it is to have; what an earlier attempt wrote stands."""
        journal = records.journal(JOURNAL)
        if journal.get(host) is None:
            before = self._service.allocation(move.instance).resources
            claimed = added(before, need) if move.same_host else need
            source = self._service.provider(self._provider_of(move.source))
            _refuse_unmovable(move, before, source, need)
            journal.intend(host, before=dict(before), claimed=dict(claimed))
        entry = journal.get(host)
        assert entry is not None
        return entry

    def _try(
        self, records: FencedRecords, move: _Move, entry: JournalEntry, host: str, provider: str
    ) -> ComputeResourcesUnavailable | None:
        """Claim once; return what is short, and hold nothing then."""
        try:
            self._arrange(records, move, lambda mine, its: _claimed(move, entry, mine, its))
        except NoRoom as error:
            return self._shortage(host, provider, entry, str(error))
        if all(room.used <= room.capacity for room in self._rooms(provider, entry).values()):
            return None
        self._arrange(records, move, lambda mine, its: _back(move, entry, mine, its, bump=False))
        return self._shortage(host, provider, entry, "others claimed it at the same moment")

    def _rooms(self, provider: str, entry: JournalEntry) -> dict[str, Room]:
        found = self._service.room(provider)
        return {kind: found.get(kind, Room(0, 0)) for kind in entry.data["claimed"][provider]}

    def _shortage(
        self, host: str, provider: str, entry: JournalEntry, reason: str
    ) -> ComputeResourcesUnavailable:
        """Say what the host has not enough of, if it can still be seen."""
        held = entry.data["before"].get(provider, {})
        for kind, room in self._rooms(provider, entry).items():
            need, free = entry.data["claimed"][provider][kind] - held.get(kind, 0), room.capacity - room.used
            if need > free:
                name, unit = KNOWN[kind]
                facts = {"resource": f"{name} left in Placement", "need": need, "free": free, "unit": unit}
                return ComputeResourcesUnavailable(host=host, **facts)
        return ComputeResourcesUnavailable(f"Placement gives nothing of {host}: {reason}", host=host)

    # -- changing both allocations ------------------------------------------------------------------------

    def _arrange(self, records: FencedRecords, move: _Move, plan: Plan) -> None:
        """Make the allocations as *plan* says, from what they are now, until nobody comes in between.

        The generations are read before the fence is: a leg that was passed over by then sends nothing, and one
        that is passed over later is refused for the generations, once its successor has changed anything.
        """
        deadline = time.monotonic() + self._patience_s
        while True:
            mine = self._service.allocation(move.instance)
            its = self._service.allocation(records.migration)
            changes = plan(mine, its)
            if not changes:
                return
            records.see_valid()
            try:
                self._service.allocate(changes)
                return
            except ConcurrentUpdate as error:
                if time.monotonic() > deadline:
                    where = "placement.concurrent_update"
                    raise ServerUnreachable(what="Placement", where=where, reason=str(error)) from error
            time.sleep(self._pause_s * random.uniform(0.1, 1))  # noqa: S311 - spreads, hides nothing

    def _provider_of(self, host: str) -> str:
        return self._providers.get(host, host)


@dataclass(frozen=True)
class _Move:
    """What of a migration matters here."""

    migration: str
    instance: str
    name: str
    source: str
    dest: str
    size: Amounts  #: what the records say that the server has now

    @property
    def same_host(self) -> bool:
        return self.source == self.dest

    @classmethod
    def of(cls, records: FencedRecords) -> _Move:
        with records.reading() as session:
            row = moves.get(session, records.migration)
            server = instances.get(session, row.instance_uuid)
            size = Amounts(server.vcpus, server.memory_mb, server.disk_bytes)
            return cls(row.uuid, server.uuid, server.name, row.source_compute, row.dest_compute, size)

    def kept(self, before: ByProvider) -> ByProvider:
        """Return what the migration's own consumer has while the server moves."""
        return {} if self.same_host else before


def _claimed(move: _Move, entry: JournalEntry, mine: Allocation, its: Allocation) -> Mapping[str, Allocation]:
    before, claimed = entry.data["before"], entry.data["claimed"]
    if (mine.resources, its.resources) == (claimed, move.kept(before)):
        return {}
    if (mine.resources, its.resources) != (before, {}):
        raise _not_ours(move)
    changes = {move.instance: mine.having(claimed)}
    if kept := move.kept(before):
        changes[move.migration] = Allocation(kept, its.generation, mine.project, mine.user, MIGRATION)
    return changes


def _back(
    move: _Move, entry: JournalEntry, mine: Allocation, its: Allocation, *, bump: bool = True
) -> Mapping[str, Allocation]:
    before, claimed = entry.data["before"], entry.data["claimed"]
    if (mine.resources, its.resources) == (before, {}):
        # The claim of a worker that died may still be on its way: with another generation it is refused.
        late = bump and entry.state == "intent" and before
        return {move.instance: mine} if late else {}
    if (mine.resources, its.resources) != (claimed, move.kept(before)):
        raise _not_ours(move)
    changes = {move.instance: mine.having(before)}
    if its.resources:
        changes[move.migration] = its.having({})
    return changes


def _settled(move: _Move, entry: JournalEntry, mine: Allocation, its: Allocation) -> Mapping[str, Allocation]:
    before, claimed = entry.data["before"], entry.data["claimed"]
    if not move.same_host:
        if its.resources not in ({}, before):
            raise _not_ours(move)
        return {move.migration: its.having({})} if its.resources else {}
    final = {provider: of_amounts(move.size) for provider in claimed}
    if mine.resources not in (claimed, final):
        raise _not_ours(move)
    return {} if mine.resources == final else {move.instance: mine.having(final)}


def _not_ours(move: _Move) -> ForeignObject:
    return ForeignObject(what=f"the allocation of server {move.name!r} in Placement", host=move.dest)


def _refuse_unmovable(move: _Move, before: ByProvider, source: str, need: ByProvider) -> None:
    """Refuse a server of which hostler cannot say what it would have to have elsewhere."""
    kinds = {kind for resources in before.values() for kind in resources}
    reasons = {
        f"it has {', '.join(sorted(kinds - KNOWN.keys()))}": kinds - KNOWN.keys(),
        f"it is at another provider than {move.source}'s": before.keys() - {source},
        f"{move.dest} gives it nothing": not all(need.values()),
    }
    if found := [reason for reason, holds in reasons.items() if holds]:
        raise AllocationNotMovable(server=move.name, reason="; ".join(found), instance=move.instance)


def _undecided_before(records: FencedRecords, host: str) -> bool:
    """Tell whether a migration whose uuid comes first has claimed *host* and has not looked what came of it."""
    entries = select(JournalEntry.migration_uuid).where(
        JournalEntry.task == JOURNAL,
        JournalEntry.key == host,
        JournalEntry.state == "intent",
        JournalEntry.migration_uuid < records.migration,
    )
    with records.reading() as session:
        return session.scalar(entries.limit(1)) is not None
