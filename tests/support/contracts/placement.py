"""Claims in Placement, before and after each of which a server has what it should, and its migration too.

A module that takes these tests gives the fixture *placement*: kvm1 with 64 places, kvm2 with 8.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import pytest

from hostler.drivers.claims.allocations import Allocation, ConcurrentUpdate, NoRoom, PlacementService
from hostler.drivers.claims.placement import PlacementClaims
from hostler.drivers.claims.records import RecordsClaims
from hostler.errors import (
    AllocationNotMovable,
    CloudServiceFailed,
    CloudServiceRefused,
    ComputeResourcesUnavailable,
    Fenced,
    ForeignObject,
    ServerUnreachable,
)
from hostler.records import fence, hosts, instances, moves
from hostler.records.database import Database
from hostler.records.fence import FencedRecords
from hostler.records.hosts import GIB, Amounts
from tests.records_made import make_host, make_instance, make_leg, make_migration

PLACE = Amounts(vcpus=1, memory_mb=1024, disk_bytes=10 * GIB - 1)
SIZE = {"VCPU": 1, "MEMORY_MB": 1024, "DISK_GB": 10}
TOTALS = {
    "kvm1": {"VCPU": 64, "MEMORY_MB": 64 << 10, "DISK_GB": 640},
    "kvm2": {"VCPU": 8, "MEMORY_MB": 8 << 10, "DISK_GB": 80},
}


class Stand(Protocol):
    """A Placement with kvm1 and kvm2 in it."""

    service: PlacementService

    def provider(self, host: str) -> str:
        """Return the uuid of a host's provider."""

    def lose_next_answer(self) -> None:
        """Let the next change of allocations be made, and its answer never come."""

    def fail_next(self, call: str, times: int) -> None:
        """Let Placement answer that many calls (``allocation``, ``allocate``) with what may pass."""

    def expect_crowd(self, size: int) -> None:
        """Know that so many requests come at once, if that can be arranged."""


@dataclass
class World:
    """One server on kvm1 that is about to move to kvm2."""

    stand: Stand
    database: Database
    instance: str
    records: FencedRecords

    @property
    def claims(self) -> PlacementClaims:
        return PlacementClaims(self.stand.service, RecordsClaims(), patience_s=20, pause_s=0.02)

    def has(self, consumer: str) -> dict[str, dict[str, int]]:
        """What a consumer has, by host."""
        names = {self.stand.provider(host): host for host in ("kvm1", "kvm2")}
        resources = self.stand.service.allocation(consumer).resources
        return {names[provider]: dict(amounts) for provider, amounts in resources.items()}

    @property
    def everything(self) -> dict[str, Any]:
        """What server and migration have, what the hosts have given away, what the records count."""
        service = self.stand.service
        used = {
            host: {kind: room.used for kind, room in service.room(self.stand.provider(host)).items()}
            for host in ("kvm1", "kvm2")
        }
        with self.database.reading() as session:
            counted = {host: hosts.used(session, host) for host in ("kvm1", "kvm2")}
        facts = {"server": self.has(self.instance), "migration": self.has(self.records.migration)}
        return {**facts, "used": used, "counted": counted}

    def give(self, resources: dict[str, dict[str, int]], consumer: str | None = None) -> None:
        """Let somebody else allocate that to the server, by host."""
        named = {self.stand.provider(host): amounts for host, amounts in resources.items()}
        consumer = consumer or self.instance
        there = self.stand.service.allocation(consumer)
        self.stand.service.allocate({consumer: there.having(named)})

    def confirm(self) -> None:
        with self.database.transaction() as session:
            instances.save(session, self.instance, host="kvm2")


@pytest.fixture
def world(placement: Stand, database: Database) -> World:
    """The server has its place on kvm1 in Placement, as Nova or its operator gave it."""
    with database.transaction() as session:
        for host in ("kvm1", "kvm2"):
            make_host(session, host)
        instance = make_instance(session, "kvm1", disk_bytes=PLACE.disk_bytes)
        migration = make_migration(session, instance)
        fence.raise_fence(session, migration, 1)
    made = World(placement, database, instance, FencedRecords(database, migration, 1, "kvm2"))
    made.give({"kvm1": SIZE})
    return made


def test_while_it_moves_the_server_has_the_destination_and_its_migration_the_source(world: World) -> None:
    for _ in range(2):
        world.claims.claim(world.records, "kvm2", PLACE)
    assert world.has(world.instance) == {"kvm2": SIZE}
    assert world.has(world.records.migration) == {"kvm1": SIZE}
    assert world.stand.service.allocation(world.records.migration).kind == "MIGRATION"


def test_an_undone_claim_leaves_everything_as_it_was(world: World) -> None:
    before = world.everything
    world.claims.claim(world.records, "kvm2", PLACE)
    assert world.everything != before
    for _ in range(2):
        world.claims.drop(world.records, "kvm2")
    assert world.everything == before


def test_a_confirmed_migration_keeps_nothing(world: World) -> None:
    world.claims.claim(world.records, "kvm2", PLACE)
    world.confirm()
    for _ in range(2):
        world.claims.settle(world.records, "kvm1")
    assert (world.has(world.instance), world.has(world.records.migration)) == ({"kvm2": SIZE}, {})


def test_a_server_that_placement_does_not_know_is_unknown_again_after_an_undo(world: World) -> None:
    world.give({})
    before = world.everything
    world.claims.claim(world.records, "kvm2", PLACE)
    assert (world.has(world.instance), world.has(world.records.migration)) == ({"kvm2": SIZE}, {})
    world.claims.drop(world.records, "kvm2")
    assert world.everything == before


def test_a_resize_where_the_server_is_grows_its_own_allocation_and_settles_it(world: World) -> None:
    with world.database.transaction() as session:
        moves.save(session, world.records.migration, dest_compute="kvm1")
    before = world.everything
    more = Amounts(1, 512, 20 * GIB)
    for _ in range(2):
        world.claims.claim(world.records, "kvm1", more)
    assert world.has(world.instance) == {"kvm1": {"VCPU": 2, "MEMORY_MB": 1536, "DISK_GB": 30}}
    world.claims.drop(world.records, "kvm1")
    assert world.everything == before
    world.claims.claim(world.records, "kvm1", more)
    with world.database.transaction() as session:
        instances.save(session, world.instance, vcpus=2, memory_mb=1536, disk_bytes=20 * GIB)
    for _ in range(2):
        world.claims.settle(world.records, "kvm1")
    assert world.has(world.instance) == {"kvm1": {"VCPU": 2, "MEMORY_MB": 1536, "DISK_GB": 20}}


def test_a_full_host_is_a_refusal_that_says_what_is_short_and_changes_nothing(world: World) -> None:
    world.give({"kvm2": {"MEMORY_MB": (8 << 10) - 1000}}, str(uuid.uuid4()))
    before = world.everything
    sentence = "kvm2 has not enough memory left in Placement: 1024 MiB needed, 1000 MiB free"
    with pytest.raises(ComputeResourcesUnavailable, match=sentence):
        world.claims.claim(world.records, "kvm2", PLACE)
    assert world.everything == before


@pytest.mark.parametrize(
    "odd", [{"kvm1": {"VCPU": 1}, "kvm2": {"VCPU": 1}}, {"kvm2": {"VCPU": 1}}], ids=["two hosts", "elsewhere"]
)
def test_an_allocation_that_is_not_the_sources_is_refused(world: World, odd: dict[str, Any]) -> None:
    world.give(odd)
    before = world.everything
    with pytest.raises(AllocationNotMovable, match="at another provider than kvm1's"):
        world.claims.claim(world.records, "kvm2", PLACE)
    assert world.everything == before


def test_a_host_that_placement_does_not_know_is_refused(world: World) -> None:
    world.stand.service.provider("kvm1")
    with world.database.transaction() as session:
        make_host(session, "kvm3")
    before = world.everything
    with pytest.raises(CloudServiceRefused, match="no resource provider is called 'kvm3'"):
        world.claims.claim(world.records, "kvm3", PLACE)
    assert world.everything == before


def test_what_somebody_else_has_made_of_the_allocation_meanwhile_is_left_alone(world: World) -> None:
    world.claims.claim(world.records, "kvm2", PLACE)
    world.give({"kvm2": {"VCPU": 3}})
    found = world.everything
    with pytest.raises(ForeignObject, match="the allocation of server 'web1' in Placement"):
        world.claims.drop(world.records, "kvm2")
    assert world.everything == found


def test_a_claim_whose_answer_was_lost_is_one_claim(world: World) -> None:
    before = world.everything
    world.stand.lose_next_answer()
    with suppress(CloudServiceFailed):
        world.claims.claim(world.records, "kvm2", PLACE)
    assert world.has(world.instance) == {"kvm2": SIZE}
    world.claims.claim(world.records, "kvm2", PLACE)
    assert world.has(world.records.migration) == {"kvm1": SIZE}
    world.claims.drop(world.records, "kvm2")
    assert world.everything == before


def test_an_undo_whose_answer_was_lost_is_undone_once(world: World) -> None:
    before = world.everything
    world.claims.claim(world.records, "kvm2", PLACE)
    world.stand.lose_next_answer()
    with suppress(ServerUnreachable):
        world.claims.drop(world.records, "kvm2")
    world.claims.drop(world.records, "kvm2")
    assert world.everything == before


@pytest.mark.parametrize("call", ["allocation", "allocate"])
def test_a_placement_that_stays_away_fails_a_claim_and_postpones_an_undo(world: World, call: str) -> None:
    before = world.everything
    world.stand.fail_next(call, times=1)
    with pytest.raises(CloudServiceFailed, match="Placement failed"):
        world.claims.claim(world.records, "kvm2", PLACE)
    world.claims.drop(world.records, "kvm2")
    assert world.everything == before
    world.claims.claim(world.records, "kvm2", PLACE)
    world.stand.fail_next(call, times=1)
    with pytest.raises(ServerUnreachable):
        world.claims.drop(world.records, "kvm2")
    world.claims.drop(world.records, "kvm2")
    assert world.everything == before


def test_a_claim_that_is_still_under_way_when_it_is_undone_comes_to_nothing(world: World) -> None:
    class Slow:
        """A worker that dies with its request in the wire."""

        late: dict[str, Allocation] | None = None

        def __getattr__(self, name: str) -> Any:
            return getattr(world.stand.service, name)

        def allocate(self, wanted: dict[str, Allocation]) -> None:
            self.late = dict(wanted)
            raise ServerUnreachable(what="Placement", where="here", reason="it is in the wire")

    before, slow = world.everything, Slow()
    with pytest.raises(CloudServiceFailed):
        PlacementClaims(slow, RecordsClaims()).claim(world.records, "kvm2", PLACE)
    world.claims.drop(world.records, "kvm2")
    assert slow.late is not None
    with pytest.raises(ConcurrentUpdate):
        world.stand.service.allocate(slow.late)
    assert world.everything == before


def test_a_leg_that_was_passed_over_changes_nothing(world: World) -> None:
    before = world.everything
    with world.database.transaction() as session:
        fence.raise_fence(session, world.records.migration, 2)
    with pytest.raises(Fenced):
        world.claims.claim(world.records, "kvm2", PLACE)
    assert world.everything == before


def test_an_allocation_that_others_change_at_the_same_moment_is_read_again(world: World) -> None:
    class Busy:
        """Somebody changes the server's allocation between each look and each request, three times."""

        left = 3

        def __getattr__(self, name: str) -> Any:
            return getattr(world.stand.service, name)

        def allocate(self, wanted: dict[str, Allocation]) -> None:
            if self.left:
                self.left -= 1
                world.give({"kvm1": SIZE})
            world.stand.service.allocate(wanted)

    busy = Busy()
    PlacementClaims(busy, RecordsClaims(), pause_s=0.01).claim(world.records, "kvm2", PLACE)
    assert busy.left == 0
    assert world.has(world.instance) == {"kvm2": SIZE}


# -- the service itself -----------------------------------------------------------------------------------


def test_a_service_refuses_a_generation_that_has_passed_and_all_that_came_with_it(world: World) -> None:
    service, other = world.stand.service, str(uuid.uuid4())
    seen = service.allocation(world.instance)
    world.give({"kvm1": SIZE})
    mine = {world.stand.provider("kvm2"): SIZE}
    with pytest.raises(ConcurrentUpdate):
        service.allocate({world.instance: seen.having(mine), other: Allocation(seen.resources)})
    assert (world.has(world.instance), world.has(other)) == ({"kvm1": SIZE}, {})


def test_a_service_gives_no_more_than_there_is(world: World) -> None:
    too_much = {world.stand.provider("kvm2"): {"VCPU": 9}}
    with pytest.raises(NoRoom):
        world.stand.service.allocate({str(uuid.uuid4()): Allocation(too_much)})
    room = world.stand.service.room(world.stand.provider("kvm2"))
    assert {kind: (one.capacity, one.used) for kind, one in room.items()} == {
        kind: (total, 0) for kind, total in TOTALS["kvm2"].items()
    }


# -- many at once -----------------------------------------------------------------------------------------


def test_sixteen_want_eight_places_and_eight_get_one(
    placement: Stand, new_postgres_database: Callable[[], str]
) -> None:
    """The records have room for all of them: Placement alone decides."""
    ratios = dict.fromkeys(("cpu_allocation_ratio", "ram_allocation_ratio", "disk_allocation_ratio"), 8.0)
    database = Database(url := new_postgres_database())
    database.upgrade()
    with database.transaction() as session:
        for host in ("kvm1", "kvm2"):
            make_host(session, host, **ratios)
        servers = [make_instance(session, "kvm1", f"web{number}") for number in range(16)]
    source = {placement.provider("kvm1"): SIZE}
    for server in servers:
        placement.service.allocate({server: Allocation(source)})
    legs = [make_leg(database, server) for server in servers]
    placement.expect_crowd(len(legs))

    def claim(leg: FencedRecords) -> bool:
        connection = Database(url, connect_timeout_s=60)
        own = FencedRecords(connection, leg.migration, leg.epoch, leg.host)
        claims = PlacementClaims(placement.service, RecordsClaims(), patience_s=250, pause_s=0.1)
        try:
            claims.claim(own, "kvm2", PLACE)
        except ComputeResourcesUnavailable:
            return False
        finally:
            connection.close()
        return True

    with ThreadPoolExecutor(len(legs)) as threads:
        won = list(threads.map(claim, legs))
    room = placement.service.room(placement.provider("kvm2"))
    assert (sum(won), room["VCPU"].used) == (8, 8)
    for server, leg, has_place in zip(servers, legs, won, strict=True):
        mine, its = (placement.service.allocation(one).resources for one in (server, leg.migration))
        there = {placement.provider("kvm2"): SIZE}
        assert (mine, its) == ((there, source) if has_place else (source, {}))
    with database.reading() as session:
        assert hosts.used(session, "kvm2").vcpus == 8
    database.close()


def test_a_service_tells_who_has_anything_of_a_provider(world: World) -> None:
    world.claims.claim(world.records, "kvm2", PLACE)
    assert world.claims.consumers("kvm1") == [world.records.migration]
    assert world.claims.consumers("kvm2") == [world.instance]
    world.claims.drop(world.records, "kvm2")
    assert (world.claims.consumers("kvm1"), world.claims.consumers("kvm2")) == ([world.instance], [])
