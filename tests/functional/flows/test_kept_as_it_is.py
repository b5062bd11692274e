"""Quotas, locks and disabled hosts: refused before anything is touched, and nothing stays reserved."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import select

from hostler.errors import HostDisabled, InstanceIsLocked, MigrationError
from hostler.jobboard import client
from hostler.jobboard.posting import withdraw, write_flow
from hostler.records import hosts, instances, quotas
from hostler.records.models import Migration, Reservation
from hostler.records.quotas import Usage
from tests.support.world import World, failing, step

#: Of the steps behind the reservation: the next one, the longest, and the last that is undone.
FAILING = ("ReserveQuota", "ClaimResources", "CopyImages", "FinishMigration")
#: More CPUs, and less memory: the way back needs that memory.
DELTA = Usage(cores=2, ram=-16)


@pytest.fixture
def growing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every migration that is asked for changes what its project uses, as a resize does."""

    def written(session: object, migration: Migration, store: dict[str, object]) -> None:
        write_flow(session, migration, store | {"quota_delta": DELTA.to_dict()})  # type: ignore[arg-type]

    monkeypatch.setattr(client, "write_flow", written)


def reserved(world: World) -> list[Usage]:
    with world.database.reading() as session:
        rows = session.scalars(select(Reservation))
        return [Usage(row.instances, row.cores, row.ram, row.disk) for row in rows]


def limit(world: World, **limits: int) -> None:
    with world.database.transaction() as session:
        quotas.set_limits(session, "default", limits, force=True)


@pytest.mark.usefixtures("growing")
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("name", FAILING)
def test_a_migration_that_is_undone_has_nothing_reserved(world: World, name: str, when: str) -> None:
    world.add_server()
    before = world.look()
    with failing(step("cold_migration", name), MigrationError("on purpose"), when=when):
        assert world.migrate("web1").outcome == "reverted"
    assert world.look() == before
    assert reserved(world) == []


@pytest.mark.usefixtures("growing")
def test_what_the_way_back_needs_is_held_until_it_is_given_up(world: World) -> None:
    world.add_server()
    assert world.migrate("web1").outcome == "success"
    assert reserved(world) == [Usage(ram=16)]
    world.client.confirm("web1", requested_by="tester")
    world.run()
    assert reserved(world) == []


@pytest.mark.usefixtures("growing")
def test_what_is_over_the_quota_is_refused_before_anything_is_touched(world: World) -> None:
    server = world.add_server()
    limit(world, cores=2)
    before = world.look()
    migration = world.migrate("web1")
    assert migration.outcome == "refused"
    assert migration.error == (
        "project 'default' would exceed its quota of cores: 2 vCPUs more needed, 1 of 2 used"
    )
    assert world.look() == before
    assert world.hosts["kvm1"].hypervisor.booted == {server: 1}, "it was never off"


def test_a_plain_migration_needs_no_quota(world: World) -> None:
    world.add_server()
    limit(world, instances=0, cores=0, ram=0, disk=0)
    assert world.migrate("web1").outcome == "success"
    assert reserved(world) == []


@pytest.mark.usefixtures("growing")
def test_a_cancelled_migration_has_nothing_reserved(world: World) -> None:
    world.add_server()
    before = world.look()
    cancelled: Callable[[], object] = lambda: world.client.cancel(  # noqa: E731
        "web1", requested_by="tester", reason="wrong host"
    )
    with failing(step("cold_migration", "CopyImages"), MigrationError("cut"), when="before", also=cancelled):
        assert world.migrate("web1").status == "cancelled"
    assert world.look() == before


@pytest.mark.usefixtures("growing")
def test_a_destination_that_dies_leaves_nothing_reserved(world: World) -> None:
    world.add_server()

    def dies() -> None:
        world.dead.add("kvm2")

    with failing(step("cold_migration", "CopyImages"), MigrationError("cut"), when="before", also=dies):
        assert world.migrate("web1").outcome == "reverted"
    assert reserved(world) == []


@pytest.mark.usefixtures("growing")
def test_a_posting_that_is_withdrawn_has_reserved_nothing(world: World) -> None:
    world.add_server()
    before = world.look()
    put_on_board = client.put_on_board
    try:
        client.put_on_board = lambda *_: None  # type: ignore[assignment]
        number = world.client.migrate("web1", "kvm2", requested_by="tester")
    finally:
        client.put_on_board = put_on_board
    withdraw(world.database, world.migration(number))
    assert world.look() == before


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
