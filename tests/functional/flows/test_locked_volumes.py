"""A server whose disk is an image of Ceph's that somebody still has locked when the source has let go of it."""

from __future__ import annotations

import dataclasses

import pytest

from hostler.drivers.volumes.network import NetworkVolumes
from hostler.drivers.volumes.rbd import Lock
from hostler.drivers.volumes.rbd_fake import FakeLocks
from hostler.errors import MigrationError
from tests.support.world import World, failing, step

NBD = "<source protocol='nbd' name='data'><host name='10.0.0.9' port='10809'/></source>"
RBD = "<source protocol='rbd' name='vms/web1_disk'/>"
LOCK = Lock("auto 1", "client.4123", "10.0.0.1:0/7", watched=False)


@pytest.fixture
def locks(world: World) -> FakeLocks:
    """What Ceph tells both hosts of the only server's image."""
    server, kvm1, made = world.add_server(running=False), world.hosts["kvm1"], FakeLocks()
    kvm1.hypervisor.define(kvm1.hypervisor.describe(server).xml.replace(NBD, RBD), autostart=True)
    kvm1.hypervisor.start(server)
    for host in world.hosts.values():
        volumes = NetworkVolumes(lambda _: "", lambda _: [], made, host.name, patience_s=0.05)
        host.drivers = dataclasses.replace(host.drivers, volumes=volumes)
    return made


def active(world: World) -> list[str]:
    return [
        name
        for name, host in world.hosts.items()
        for one in host.hypervisor.list_domains()
        if one.power_state.active
    ]


def test_locks_that_cannot_be_seen_refuse_the_migration_while_the_guest_runs(
    world: World, locks: FakeLocks
) -> None:
    before = world.look()
    locks.fail_next("of", MigrationError("Ceph refuses: permission denied"))
    migration = world.migrate("web1")
    assert migration.outcome == "refused"
    assert "vms/web1_disk) cannot be reached from kvm2: Ceph refuses" in str(migration.error)
    assert world.look() == before


def test_a_lock_that_outlives_its_client_is_left_and_parks_until_an_operator_breaks_it(
    world: World, locks: FakeLocks
) -> None:
    locks.held["vms/web1_disk"] = [LOCK]
    parked = world.migrate("web1")
    assert parked.phase == "parked"
    assert (
        parked.hint
        == f"on kvm2: rbd lock rm vms/web1_disk client.4123; then: hostler migration retry {parked.uuid}"
    )
    assert active(world) == []
    assert locks.held, "nobody but the operator breaks it"
    locks.held.clear()
    world.client.retry(parked.uuid, requested_by="bob")
    world.run()
    assert world.migration(parked.uuid).outcome == "success"
    assert active(world) == ["kvm2"]


def test_a_stranger_that_has_it_open_keeps_the_guest_off_on_both_hosts(
    world: World, locks: FakeLocks
) -> None:
    locks.held["vms/web1_disk"] = [dataclasses.replace(LOCK, watched=True)]
    parked = world.migrate("web1")
    assert parked.phase == "parked"
    assert "locked by client.4123 at 10.0.0.1:0/7" in str(parked.error)
    assert active(world) == []
    locks.held.clear()
    world.client.retry(parked.uuid, requested_by="bob")
    world.run()
    assert world.migration(parked.uuid).outcome == "reverted"
    assert active(world) == ["kvm1"]


def test_an_undo_that_meets_a_lock_is_parked_and_carried_on(world: World, locks: FakeLocks) -> None:
    before = world.look()

    with failing(step("cold_migration", "CopyImages"), MigrationError("on purpose"), when="before"):
        locks.held["vms/web1_disk"] = [LOCK]
        parked = world.migrate("web1")
    assert parked.phase == "parked"
    assert "on kvm1: rbd lock rm" in parked.hint
    assert active(world) == []
    locks.held.clear()
    world.client.retry(parked.uuid, requested_by="bob")
    world.run()
    assert world.migration(parked.uuid).outcome == "reverted"
    assert world.look() == before
