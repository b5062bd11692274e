"""Locks and disabled hosts: refused before anything is touched."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from hostler.errors import HostDisabled, InstanceIsLocked
from hostler.records import hosts, instances
from hostler.records.models import Migration
from tests.support.world import World

# -- locks ------------------------------------------------------------------------------------------------


def lock(world: World) -> None:
    with world.database.transaction() as session:
        instances.lock(session, "web1", who="alice", reason="under investigation")


@pytest.mark.parametrize("verb", ["migrate", "dry_run"])
def test_a_locked_server_is_not_moved(world: World, verb: str) -> None:
    world.add_server()
    lock(world)
    before = world.look()
    with pytest.raises(InstanceIsLocked) as refused:
        getattr(world.client, verb)("web1", "kvm2", requested_by="tester")
    assert str(refused.value) == "server 'web1' was locked by alice: under investigation"
    assert refused.value.hint == "hostler server unlock web1"
    assert world.look() == before
    with world.database.transaction() as session:
        instances.unlock(session, "web1")
    assert world.migrate("web1").outcome == "success"


def test_a_locked_server_is_not_confirmed(world: World) -> None:
    world.add_server()
    world.migrate("web1")
    lock(world)
    before = world.look()
    with pytest.raises(InstanceIsLocked):
        world.client.confirm("web1", requested_by="tester")
    assert world.look() == before


def test_a_lock_does_not_stop_what_is_under_way(world: World) -> None:
    world.add_server()
    world.client.migrate("web1", "kvm2", requested_by="tester")
    lock(world)
    world.client.cancel("web1", requested_by="tester", reason="it is locked now")
    world.run()
    with world.database.reading() as session:
        (migration,) = session.scalars(select(Migration))
    assert migration.status == "cancelled"


# -- disabled hosts ---------------------------------------------------------------------------------------


def disable(world: World) -> None:
    with world.database.transaction() as session:
        hosts.disable(session, "kvm2", who="alice", reason="new memory")


def test_a_disabled_host_takes_no_server(world: World) -> None:
    world.add_server()
    disable(world)
    before = world.look()
    with pytest.raises(HostDisabled, match="kvm2 takes no new servers: new memory"):
        world.client.migrate("web1", "kvm2", requested_by="tester")
    assert world.look() == before


def test_a_host_that_is_disabled_meanwhile_refuses_when_its_place_is_claimed(world: World) -> None:
    world.add_server()
    before = world.look()
    world.client.migrate("web1", "kvm2", requested_by="tester")
    disable(world)
    world.run()
    with world.database.reading() as session:
        (migration,) = session.scalars(select(Migration))
    assert (migration.outcome, migration.error) == (
        "refused",
        "host kvm2 takes no new servers: new memory",
    )
    assert world.look() == before
