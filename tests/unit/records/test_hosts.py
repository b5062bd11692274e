"""Hosts: what they have, what is left, and what is said when it is not enough."""

from __future__ import annotations

from typing import Any

import pytest

from hostler.errors import ComputeHostNotFound, ComputeResourcesUnavailable, HostDisabled
from hostler.records import hosts
from hostler.records.database import Database
from hostler.records.hosts import Amounts
from hostler.records.models import Claim
from tests.records_made import make_host, make_instance

GIB = 1 << 30


def check(database: Database, need: Amounts, **options: Any) -> None:
    with database.reading() as session:
        hosts.check_room(session, hosts.get(session, "kvm1"), need, **options)


@pytest.fixture
def kvm1(database: Database) -> Database:
    """A host with 8 CPUs, 8 GiB of memory and 80 GiB of disk; half the CPUs and 20 GiB are taken."""
    with database.transaction() as session:
        make_host(session)
        make_instance(session, vcpus=3, memory_mb=0, disk_bytes=20 * GIB)
        session.add(Claim(migration_uuid="m", host="kvm1", vcpus=1, memory_mb=0, disk_bytes=0))
    return database


@pytest.mark.parametrize("need", [Amounts(4, 8192, 60 * GIB), Amounts(0, 0, 0), Amounts(0, 0, 60 * GIB - 1)])
def test_what_is_left_can_be_had_to_the_last_bit(kvm1: Database, need: Amounts) -> None:
    check(kvm1, need)


@pytest.mark.parametrize(
    ("need", "sentence"),
    [
        (Amounts(5, 0, 0), "kvm1 has not enough virtual CPUs: 5 vCPUs needed, 4 vCPUs free"),
        (Amounts(1, 8193, 0), "kvm1 has not enough memory: 8193 MiB needed, 8192 MiB free"),
        (Amounts(1, 1, 60 * GIB + 1), "kvm1 has not enough disk: 61 GiB needed, 60 GiB free"),
    ],
)
def test_what_is_short_is_said(kvm1: Database, need: Amounts, sentence: str) -> None:
    with pytest.raises(ComputeResourcesUnavailable) as refused:
        check(kvm1, need)
    assert str(refused.value) == sentence
    assert refused.value.hint == "hostler host show kvm1"


def test_a_migration_does_not_stand_in_its_own_way(kvm1: Database) -> None:
    check(kvm1, Amounts(5, 0, 0), except_migration="m")


def test_an_overfull_host_takes_what_needs_nothing_of_that(kvm1: Database) -> None:
    with kvm1.transaction() as session:
        make_instance(session, vcpus=100)
    check(kvm1, Amounts(0, 1024, 0))
    with pytest.raises(ComputeResourcesUnavailable, match="1 vCPUs needed, 0 vCPUs free"):
        check(kvm1, Amounts(1, 0, 0))


def test_ratios_and_reserves_count(database: Database) -> None:
    with database.transaction() as session:
        make_host(
            session,
            cpu_allocation_ratio=4.0,
            ram_allocation_ratio=1.5,
            disk_allocation_ratio=0.5,
            reserved_host_memory_mb=512,
        )
        assert hosts.capacity(hosts.get(session, "kvm1")) == Amounts(32, 11520, 40 * GIB)


def test_a_disabled_host_says_why(kvm1: Database) -> None:
    with kvm1.transaction() as session:
        hosts.get(session, "kvm1").disabled_reason = "new memory"
    with pytest.raises(HostDisabled, match="kvm1 takes no new servers: new memory"):
        check(kvm1, Amounts(0, 0, 0))


def test_a_worker_that_comes_back_renews_its_record_and_keeps_the_rest(kvm1: Database) -> None:
    with kvm1.transaction() as session:
        host = hosts.get(session, "kvm1")
        host.disabled_reason, host.claims_generation = "new memory", 7
    with kvm1.transaction() as session:
        make_host(session, "kvm1", cpu_allocation_ratio=2.0)
    with kvm1.reading() as session:
        host = hosts.get(session, "kvm1")
        assert (host.cpu_allocation_ratio, host.disabled_reason, host.claims_generation) == (
            2.0,
            "new memory",
            7,
        )


def test_hosts_come_by_name_and_an_unknown_one_is_refused(kvm1: Database) -> None:
    with kvm1.transaction() as session:
        make_host(session, "a")
    with kvm1.reading() as session:
        assert [host.name for host in hosts.all_hosts(session)] == ["a", "kvm1"]
        with pytest.raises(ComputeHostNotFound):
            hosts.get(session, "kvm9")
