"""Claims: what a host has is given away once."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from hostler.drivers.claims import Claims, Places
from hostler.drivers.claims.fake import FakeClaims
from hostler.drivers.claims.records import RecordsClaims
from hostler.errors import ComputeResourcesUnavailable, CPUPinningInvalid, Fenced, HostDisabled
from hostler.objects import Placement
from hostler.records import fence, hosts
from hostler.records.database import Database
from hostler.records.hosts import Amounts
from hostler.records.models import Host
from tests.records_made import make_host, make_instance, make_leg

PLACE = Amounts(vcpus=1, memory_mb=1024, disk_bytes=10 << 30)
NOTHING = Amounts(0, 0, 0)


@pytest.fixture
def claims(database: Database) -> Claims:
    with database.transaction() as session:
        make_host(session, "kvm1")
        make_host(session, "kvm2")
    return RecordsClaims()


def used(database: Database, host: str = "kvm2") -> Amounts:
    with database.reading() as session:
        return hosts.used(session, host)


def test_a_claim_is_held_until_it_is_dropped(database: Database, claims: Claims) -> None:
    leg = make_leg(database)
    claims.claim(leg, "kvm2", PLACE)
    assert used(database) == PLACE
    claims.drop(leg, "kvm2")
    claims.drop(leg, "kvm2")
    assert used(database) == NOTHING


def test_a_repeated_claim_is_one_claim(database: Database, claims: Claims) -> None:
    leg = make_leg(database)
    claims.claim(leg, "kvm2", PLACE)
    claims.claim(leg, "kvm2", PLACE)
    assert used(database) == PLACE


def test_a_claim_repeated_after_the_host_was_disabled_is_still_held(
    database: Database, claims: Claims
) -> None:
    leg = make_leg(database)
    claims.claim(leg, "kvm2", PLACE)
    with database.transaction() as session:
        hosts.get(session, "kvm2").disabled_reason = "new memory"
    claims.claim(leg, "kvm2", PLACE)
    with pytest.raises(HostDisabled, match="new memory"):
        claims.claim(make_leg(database), "kvm2", PLACE)


def test_a_claim_grows_without_counting_itself_twice(database: Database, claims: Claims) -> None:
    leg = make_leg(database)
    claims.claim(leg, "kvm2", Amounts(5, 1024, 0))
    claims.claim(leg, "kvm2", Amounts(8, 1024, 0))
    assert used(database) == Amounts(8, 1024, 0)


def test_a_full_host_says_what_is_short_and_changes_nothing(database: Database, claims: Claims) -> None:
    with database.transaction() as session:
        make_instance(session, "kvm2", vcpus=2, memory_mb=7 << 10)
        generation = hosts.get(session, "kvm2").claims_generation
    leg = make_leg(database)
    with pytest.raises(
        ComputeResourcesUnavailable, match="kvm2 has not enough memory: 2048 MiB needed, 1024 MiB free"
    ):
        claims.claim(leg, "kvm2", Amounts(1, 2048, 0))
    with database.reading() as session:
        assert hosts.get(session, "kvm2").claims_generation == generation


def test_the_hand_over_moves_the_claim_to_the_source(database: Database, claims: Claims) -> None:
    leg = make_leg(database)
    claims.claim(leg, "kvm2", PLACE)
    for _ in range(2):
        with leg.transaction() as session:
            claims.swap(session, leg.migration, "kvm2", "kvm1", PLACE)
    assert used(database, "kvm2") == NOTHING
    assert used(database, "kvm1") == PLACE


def test_a_claim_that_was_passed_over_writes_nothing(database: Database, claims: Claims) -> None:
    leg = make_leg(database)
    with database.transaction() as session:
        fence.raise_fence(session, leg.migration, 2)
    with pytest.raises(Fenced):
        claims.claim(leg, "kvm2", PLACE)
    assert used(database) == NOTHING


def test_every_change_of_what_is_left_raises_the_generation(database: Database, claims: Claims) -> None:
    leg = make_leg(database)

    def generations() -> list[int]:
        with database.reading() as session:
            return [row.claims_generation for row in session.query(Host).order_by(Host.name)]

    claims.claim(leg, "kvm2", PLACE)
    assert generations() == [0, 1]
    with leg.transaction() as session:
        claims.swap(session, leg.migration, "kvm2", "kvm1", PLACE)
    assert generations() == [1, 2]
    claims.drop(leg, "kvm1")
    assert generations() == [2, 2]


def test_the_fake_fails_on_demand(database: Database, claims: Claims) -> None:
    assert claims
    fake, leg = FakeClaims(), make_leg(database)
    fake.fail_next("claim", ComputeResourcesUnavailable("full"), times=2)
    for _ in range(2):
        with pytest.raises(ComputeResourcesUnavailable):
            fake.claim(leg, "kvm2", PLACE)
    fake.claim(leg, "kvm2", PLACE)
    with leg.transaction() as session:
        fake.swap(session, leg.migration, "kvm2", "kvm1", PLACE)
    assert fake.held == {(leg.migration, "kvm1"): PLACE}
    fake.drop(leg, "kvm1")
    fake.drop(leg, "kvm1")
    assert fake.held == {}


# -- CPUs and NUMA nodes ----------------------------------------------------------------------------------


def next_free(others: Mapping[str, Placement]) -> Placement:
    """Choose the first CPU that nobody has."""
    taken = {cpu for other in others.values() for cpu in other.cpus}
    return Placement([next(cpu for cpu in range(8) if cpu not in taken)])


def test_a_cpu_that_is_held_is_given_to_nobody_else(database: Database, claims: Claims) -> None:
    first, second = make_leg(database), make_leg(database)
    claims.claim(first, "kvm2", PLACE, Places(next_free, {"kvm1": Placement([5])}))
    claims.claim(first, "kvm2", PLACE, Places(next_free))
    claims.claim(second, "kvm2", PLACE, Places(next_free))
    assert [claims.placement(leg, "kvm2") for leg in (first, second)] == [Placement([0]), Placement([1])]
    # it may have to come back, so what it left stays its own
    assert claims.placement(first, "kvm1") == Placement([5])
    claims.drop(first, "kvm2")
    assert (claims.placement(first, "kvm2"), claims.placement(first, "kvm1")) == (None, None)


def test_on_one_host_what_it_has_and_what_it_is_to_have_are_held_together(
    database: Database, claims: Claims
) -> None:
    leg = make_leg(database)
    claims.claim(leg, "kvm1", PLACE, Places(next_free, {"kvm1": Placement([5], {"0": 64})}))
    assert claims.placement(leg, "kvm1") == Placement([0, 5], {"0": 64})


def test_a_place_that_is_not_to_be_had_holds_nothing(database: Database, claims: Claims) -> None:
    def refuse(_others: Mapping[str, Placement]) -> Placement:
        raise CPUPinningInvalid(host="kvm2", server="web1", reason="none is left")

    leg = make_leg(database)
    with pytest.raises(CPUPinningInvalid):
        claims.claim(leg, "kvm2", PLACE, Places(refuse))
    assert (used(database), claims.placement(leg, "kvm2")) == (NOTHING, None)


def test_a_host_that_changed_while_it_was_looked_at_is_looked_at_again(
    database: Database, claims: Claims
) -> None:
    rival, leg, looks = make_leg(database), make_leg(database), []

    def choose(others: Mapping[str, Placement]) -> Placement:
        if not looks:
            claims.claim(rival, "kvm2", PLACE, Places(next_free))
        looks.append(list(others.values()))
        return next_free(others)

    claims.claim(leg, "kvm2", PLACE, Places(choose))
    assert [claims.placement(one, "kvm2") for one in (rival, leg)] == [Placement([0]), Placement([1])]
    assert looks == [[], [Placement([0])]]


def test_a_server_that_leaves_while_a_host_is_looked_at_is_not_overlooked(
    database: Database, claims: Claims
) -> None:
    # its definition is gone, its place in the records was not there yet
    leaving, leg, looks = make_leg(database), make_leg(database), []

    def choose(others: Mapping[str, Placement]) -> Placement:
        if not looks:
            claims.claim(leaving, "kvm1", PLACE, Places(lambda _: Placement([7]), {"kvm2": Placement([0])}))
        looks.append(list(others.values()))
        return next_free(others)

    claims.claim(leg, "kvm2", PLACE, Places(choose))
    assert claims.placement(leg, "kvm2") == Placement([1])
