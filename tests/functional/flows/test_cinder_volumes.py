"""A server whose volume is Cinder's: attached to one host at a time, and after any failure as it was before."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from hostler.drivers.volumes.cinder import CinderVolumes
from hostler.drivers.volumes.cinder_fake import FakeVolumeService
from hostler.errors import MigrationError
from tests.functional.flows.test_a_dead_host import die_in
from tests.support.world import World, failing, step

#: Before the guest is touched; the source lets go; somewhere between; the destination has it; it is in use there.
CONCERNED = ["ReserveVolumes", "DisconnectVolumes", "CopyImages", "ConnectVolumes", "FinishMigration"]
NBD = "<source protocol='nbd' name='data'><host name='10.0.0.9' port='10809'/></source>"


def give_volume(world: World, protocol: str = "rbd") -> tuple[str, FakeVolumeService]:
    """Make a server with a volume of Cinder's; return its UUID, and Cinder."""
    server, service, kvm1 = world.add_server(running=False), FakeVolumeService(), world.hosts["kvm1"]
    uuid = service.add_volume(protocol)
    service.attach(uuid, server, "kvm1", "/dev/vdx")
    (connection,) = (one.connection for one in service.attachments_of(server))
    name = connection.get("name") or f"{connection['target_iqn']}/{connection['target_lun']}"
    source = f"<serial>{uuid}</serial><source protocol='{protocol}' name='{name}'/>"
    kvm1.hypervisor.define(kvm1.hypervisor.describe(server).xml.replace(NBD, source), autostart=True)
    kvm1.hypervisor.start(server)
    kvm1.volumes.connected.add(name)
    for host in world.hosts.values():
        volumes = CinderVolumes(service, host.volumes, host.name, host.address)
        host.drivers = dataclasses.replace(host.drivers, volumes=volumes)
    return server, service


def state(service: FakeVolumeService) -> list[Any]:
    """All that Cinder and its storage say, but for the attachments' uuids."""
    return [
        (
            one.volume.status,
            [dataclasses.replace(place, id="") for place in one.volume.attachments],
            one.open_to,
        )
        for one in service.volumes.values()
    ]


def places(service: FakeVolumeService) -> list[tuple[str, str | None]]:
    (stored,) = service.volumes.values()
    return [(one.status, one.host) for one in stored.volume.attachments]


@pytest.mark.parametrize("name", CONCERNED)
def test_whichever_step_fails_the_volume_is_attached_as_it_was(world: World, name: str) -> None:
    _, service = give_volume(world)
    before = world.look(), state(service)
    with failing(step("cold_migration", name), MigrationError("on purpose"), when="after"):
        assert world.migrate("web1").outcome == "reverted"
    assert (world.look(), state(service)) == before


def test_a_volume_that_cannot_move_is_refused_before_the_guest_is_touched(world: World) -> None:
    server, service = give_volume(world)
    (volume,) = service.volumes
    service.reserve(volume, server, None)
    before = world.look(), state(service)
    migration = world.migrate("web1")
    assert migration.outcome == "refused"
    assert "2 attachments are the server's" in str(migration.error)
    assert (world.look(), state(service)) == before
    assert world.hosts["kvm1"].hypervisor.booted[server] == 1


def test_a_server_that_moves_and_goes_back_opens_what_cinder_names_on_each_host(world: World) -> None:
    server, service = give_volume(world, "iscsi")
    before = state(service)
    (home,) = world.hosts["kvm1"].hypervisor.describe(server).volumes
    world.migrate("web1")
    assert places(service) == [("attached", "kvm2")]
    (there,) = world.hosts["kvm2"].hypervisor.describe(server).volumes
    assert (there.name, there.hosts) == (f"{home.name[:-1]}2", ["10.0.0.2:3260"])
    world.client.revert_resize("web1", requested_by="tester", reason="slow", drop_writes=True)
    world.run()
    assert state(service) == before
    (back,) = world.hosts["kvm1"].hypervisor.describe(server).volumes
    assert back.name == home.name


def test_a_server_runs_on_the_source_again_while_the_destination_that_has_its_volume_is_dead(
    world: World,
) -> None:
    server, service = give_volume(world)
    before = state(service)
    world.client.migrate("web1", "kvm2", requested_by="tester")
    die_in(world, step("cold_migration", "FinishMigration"), "after")
    world.run()
    assert world.hosts["kvm1"].hypervisor.power_state(server).active
    assert state(service) == before
    world.power_on("kvm2")
    assert state(service) == before
