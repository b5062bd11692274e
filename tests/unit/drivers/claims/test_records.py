"""Claims: what a host has is given away once."""

from __future__ import annotations

import pytest

from hostler.drivers.claims import Claims
from hostler.drivers.claims.fake import FakeClaims
from hostler.drivers.claims.records import RecordsClaims
from hostler.errors import ComputeResourcesUnavailable, Fenced, HostDisabled
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
