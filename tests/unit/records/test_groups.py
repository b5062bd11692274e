"""Groups of servers: who is in them, and which host their policy forbids."""

from __future__ import annotations

import pytest
from sqlalchemy import delete, select

from hostler.errors import (
    GroupAffinityViolation,
    InstanceGroupExists,
    InstanceGroupNotFound,
    InstanceIsInGroup,
    Refused,
)
from hostler.records import groups
from hostler.records.database import Database
from hostler.records.models import Claim, GroupMember, Instance
from tests.records_made import make_host, make_instance, make_migration


@pytest.fixture
def pair(database: Database) -> tuple[str, str]:
    """web1 and web2 on kvm1."""
    with database.transaction() as session:
        for name in ("kvm1", "kvm2", "kvm3"):
            make_host(session, name)
        return make_instance(session, name="web1"), make_instance(session, name="web2")


def group(database: Database, policy: str, *servers: str) -> list[str | None]:
    with database.transaction() as session:
        groups.create(session, "web", policy)
        return [groups.add_member(session, "web", server) for server in servers]


def check(database: Database, server: str, host: str) -> None:
    with database.transaction() as session:
        groups.check(session, server, host, lock=True)


def test_a_server_of_no_group_may_go_anywhere(database: Database, pair: tuple[str, str]) -> None:
    check(database, pair[0], "kvm2")


def test_a_group_that_does_not_hold_at_present_says_so(database: Database, pair: tuple[str, str]) -> None:
    assert group(database, "anti-affinity", *pair) == [
        None,
        "server 'web2' is on kvm1: group 'web' keeps it apart from 'web1', which has a place there",
    ]


def test_members_that_are_apart_do_not_come_together(database: Database, pair: tuple[str, str]) -> None:
    group(database, "anti-affinity", *pair)
    check(database, pair[0], "kvm2")
    with database.transaction() as session:
        session.get_one(Instance, pair[1]).host = "kvm2"
    with pytest.raises(GroupAffinityViolation, match="keeps it apart from 'web2'") as refused:
        check(database, pair[0], "kvm2")
    assert refused.value.hint == "hostler group show web"


def test_a_place_that_a_claim_holds_is_a_place(database: Database, pair: tuple[str, str]) -> None:
    group(database, "anti-affinity", *pair)
    with database.transaction() as session:
        migration = make_migration(session, pair[1])
        session.add(Claim(migration_uuid=migration, host="kvm2", vcpus=1, memory_mb=1, disk_bytes=1))
    with pytest.raises(GroupAffinityViolation):
        check(database, pair[0], "kvm2")
    check(database, pair[0], "kvm3")


def test_members_that_are_together_do_not_part(database: Database, pair: tuple[str, str]) -> None:
    group(database, "affinity", *pair)
    with pytest.raises(GroupAffinityViolation, match="together with 'web2', which has a place on kvm1"):
        check(database, pair[0], "kvm2")
    with database.transaction() as session:
        session.get_one(Instance, pair[1]).host = "kvm2"
    check(database, pair[0], "kvm2")


def test_two_servers_of_one_name_are_two(database: Database, pair: tuple[str, str]) -> None:
    with database.transaction() as session:
        namesake = make_instance(session, "kvm3", name="web2")
    group(database, "anti-affinity", *pair, namesake)
    with pytest.raises(GroupAffinityViolation):
        check(database, pair[0], "kvm3")
    with pytest.raises(GroupAffinityViolation):
        check(database, pair[0], "kvm1")


@pytest.mark.parametrize("policy", ["soft-affinity", "soft-anti-affinity"])
def test_a_soft_policy_forbids_nothing(database: Database, pair: tuple[str, str], policy: str) -> None:
    assert group(database, policy, *pair) == [None, None]
    for host in ("kvm1", "kvm2"):
        check(database, pair[0], host)


def test_a_server_is_in_one_group_at_most(database: Database, pair: tuple[str, str]) -> None:
    group(database, "affinity", pair[0])
    with database.transaction() as session:
        groups.create(session, "other", "affinity")
    with database.transaction() as session, pytest.raises(InstanceIsInGroup) as refused:
        groups.add_member(session, "other", "web1")
    assert refused.value.hint == "hostler group remove web web1"
    with database.transaction() as session:
        groups.add_member(session, "web", "web1")  # once more changes nothing
        assert [one.name for one in groups.members(session, "web")] == ["web1"]


def test_what_is_not_there_is_refused(database: Database, pair: tuple[str, str]) -> None:
    group(database, "affinity", pair[0])
    with database.transaction() as session:
        for wrong in ("nobody", "\0", "w\ud800"):
            with pytest.raises(InstanceGroupNotFound):
                groups.get(session, wrong)
        with pytest.raises(InstanceGroupExists):
            groups.create(session, "web", "affinity")
        with pytest.raises(Refused, match="'web2' is not in group 'web'"):
            groups.remove_member(session, "web", "web2")


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "a\x1b[2J", "x" * 256])
def test_a_group_has_a_name_that_can_be_shown(database: Database, name: str) -> None:
    with database.transaction() as session, pytest.raises(Refused):
        groups.create(session, name, "affinity")


def test_a_server_leaves_its_group_with_its_record(database: Database, pair: tuple[str, str]) -> None:
    group(database, "affinity", *pair)
    with database.transaction() as session:
        session.execute(delete(Instance).where(Instance.uuid == pair[0]))
        assert session.scalars(select(GroupMember.instance_uuid)).all() == [pair[1]]
        groups.remove(session, "web")
        assert session.scalars(select(GroupMember.instance_uuid)).all() == []
        assert session.get(Instance, pair[1]) is not None
