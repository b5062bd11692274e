"""Many migrations want the same host at once, each from a worker of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from hostler.drivers.claims import Places
from hostler.drivers.claims.records import RecordsClaims
from hostler.errors import ComputeResourcesUnavailable, GroupAffinityViolation
from hostler.objects import Placement
from hostler.records import groups, hosts, instances
from hostler.records.database import Database
from hostler.records.fence import FencedRecords
from hostler.records.hosts import Amounts
from tests.records_made import make_host, make_instance, make_leg

PLACE = Amounts(vcpus=1, memory_mb=1024, disk_bytes=10 << 30)


def race(url: str, legs: list[FencedRecords], act: Callable[[FencedRecords], None]) -> list[bool]:
    """Let every leg act at the same moment through a connection of its own; tell who was not refused."""
    barrier = threading.Barrier(len(legs))

    def run(leg: FencedRecords) -> bool:
        database = Database(url, connect_timeout_s=60)
        own = FencedRecords(database, leg.migration, leg.epoch, leg.host)
        try:
            with own.reading():
                pass
            barrier.wait(60)
            act(own)
        except (ComputeResourcesUnavailable, GroupAffinityViolation):
            return False
        finally:
            database.close()
        return True

    with ThreadPoolExecutor(len(legs)) as threads:
        return list(threads.map(run, legs))


def claim(leg: FencedRecords) -> None:
    RecordsClaims().claim(leg, "kvm2", PLACE)


def used(database: Database) -> Amounts:
    with database.reading() as session:
        return hosts.used(session, "kvm2")


def test_sixteen_want_eight_places_and_eight_get_one(any_url: str, any_database: Database) -> None:
    with any_database.transaction() as session:
        make_host(session, "kvm2")
    legs = [make_leg(any_database) for _ in range(16)]
    assert sum(race(any_url, legs, claim)) == 8
    assert used(any_database) == Amounts(8, 8 << 10, 80 << 30)


def test_of_two_that_want_the_last_place_one_gets_it(any_url: str, any_database: Database) -> None:
    with any_database.transaction() as session:
        make_host(session, "kvm2")
        make_instance(session, "kvm2", vcpus=7)
    for _ in range(10):
        legs = [make_leg(any_database) for _ in range(2)]
        won = race(any_url, legs, claim)
        assert sorted(won) == [False, True]
        RecordsClaims().drop(legs[won.index(True)], "kvm2")


def test_a_dropped_claim_frees_its_place(any_url: str, any_database: Database) -> None:
    with any_database.transaction() as session:
        make_host(session, "kvm2")
    first, second = ([make_leg(any_database) for _ in range(8)] for _ in range(2))
    assert all(race(any_url, first, claim))
    assert not any(race(any_url, second, claim))
    assert all(race(any_url, first, lambda leg: RecordsClaims().drop(leg, "kvm2")))
    assert all(race(any_url, second, claim))


def test_hand_overs_meanwhile_are_never_lost_from_the_count(any_url: str, any_database: Database) -> None:
    # A server that lands leaves the claims and joins the servers: in between it must not be overlooked.
    with any_database.transaction() as session:
        make_host(session, "kvm1")
        make_host(session, "kvm2")
        arriving = [make_instance(session, "kvm1", disk_bytes=PLACE.disk_bytes) for _ in range(8)]
    landing = [make_leg(any_database, instance) for instance in arriving]
    for leg in landing:
        claim(leg)
    rivals = [make_leg(any_database) for _ in range(8)]
    instance_of = dict(zip((leg.migration for leg in landing), arriving, strict=True))

    def act(leg: FencedRecords) -> None:
        if leg.migration not in instance_of:
            claim(leg)
            return
        with leg.transaction() as session:
            RecordsClaims().swap(session, leg.migration, "kvm2", "kvm1", PLACE)
            instances.save(session, instance_of[leg.migration], host="kvm2")

    won = race(any_url, [*landing, *rivals], act)
    assert won == [True] * 8 + [False] * 8
    assert used(any_database) == Amounts(8, 8 << 10, 80 << 30)


def test_no_two_get_the_same_cpu(any_url: str, any_database: Database) -> None:
    with any_database.transaction() as session:
        make_host(session, "kvm1")
        make_host(session, "kvm2")
    legs = [make_leg(any_database) for _ in range(8)]

    def choose(others: Mapping[str, Placement]) -> Placement:
        taken = {cpu for other in others.values() for cpu in other.cpus}
        return Placement([min(set(range(8)) - taken)])

    def act(leg: FencedRecords) -> None:
        RecordsClaims().claim(leg, "kvm2", PLACE, Places(choose, {"kvm1": Placement([0])}))

    assert all(race(any_url, legs, act))
    found = [RecordsClaims().placement(leg, "kvm2") for leg in legs]
    assert sorted(cpu for one in found if one is not None for cpu in one.cpus) == list(range(8))


def in_group(database: Database, policy: str, *hosts_of: str) -> list[str]:
    """Make servers on these hosts, all of one group; return their UUIDs."""
    with database.transaction() as session:
        for host in {*hosts_of, "kvm2"}:
            make_host(session, host)
        groups.create(session, "web", policy)
        servers = [make_instance(session, host, name=f"web{n}") for n, host in enumerate(hosts_of)]
        for server in servers:
            groups.add_member(session, "web", server)
    return servers


def test_of_the_members_that_are_to_be_apart_one_gets_the_host(any_url: str, any_database: Database) -> None:
    servers = in_group(any_database, "anti-affinity", *(f"other{n}" for n in range(6)))
    for _ in range(5):
        legs = [make_leg(any_database, server) for server in servers]
        won = race(any_url, legs, claim)
        assert sum(won) == 1
        RecordsClaims().drop(legs[won.index(True)], "kvm2")


def test_two_that_are_to_be_together_do_not_change_places(any_url: str, any_database: Database) -> None:
    # kvm2's server wants to kvm1, and kvm1's to kvm2: each alone would be right, both would be wrong
    there, here = in_group(any_database, "affinity", "kvm1", "kvm2")
    for _ in range(5):
        legs = [make_leg(any_database, there), make_leg(any_database, here)]
        dest = dict(zip((leg.migration for leg in legs), ("kvm2", "kvm1"), strict=True))

        def cross(leg: FencedRecords, dest: dict[str, str] = dest) -> None:
            RecordsClaims().claim(leg, dest[leg.migration], PLACE)

        won = race(any_url, legs, cross)
        assert sorted(won) == [False, True]
        winner = legs[won.index(True)]
        RecordsClaims().drop(winner, dest[winner.migration])
