"""A server whose volume is Cinder's: attached to one host at a time, and after any failure as it was before."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import pytest

from hostler.drivers.volumes.brick_fake import FakeConnector
from hostler.drivers.volumes.cinder import CinderVolumes
from hostler.drivers.volumes.cinder_fake import FakeVolumeService
from hostler.errors import MigrationError
from hostler.objects import Volume
from tests.functional.flows.test_a_dead_host import die_in
from tests.support.world import FakeHost, World, failing, step

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
        volumes = CinderVolumes(service, host.volumes, FakeConnector(host.name), host.name, host.address)
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


# -- what the host connects -------------------------------------------------------------------------------

CONNECTED = (
    "<disk type='block' device='disk'><driver name='qemu' type='raw'/><source dev='/dev/disk/kvm1/{uuid}'/>"
    "<target dev='vdy' bus='virtio'/><serial>{uuid}</serial></disk></devices>"
)


def give_connected(world: World) -> tuple[str, FakeVolumeService, dict[str, FakeConnector]]:
    """Make a server with a volume of Cinder's that its host has connected."""
    server, service, kvm1 = world.add_server(running=False), FakeVolumeService(), world.hosts["kvm1"]
    uuid = service.add_volume("local")
    service.attach(uuid, server, "kvm1", "/dev/vdy")
    connectors = {}
    for host in world.hosts.values():
        connectors[host.name] = made = FakeConnector(host.name, partial(appear, host))
        volumes = CinderVolumes(service, host.volumes, made, host.name, host.address)
        host.drivers = dataclasses.replace(host.drivers, volumes=volumes)
    connectors["kvm1"].connect(Volume("vdy", "host", "", serial=uuid), {})
    xml = kvm1.hypervisor.describe(server).xml.replace("</devices>", CONNECTED.format(uuid=uuid))
    kvm1.hypervisor.define(xml, autostart=True)
    kvm1.hypervisor.start(server)
    kvm1.volumes.connected.add("data")
    return server, service, connectors


def appear(host: FakeHost, path: str, there: bool) -> None:
    """Make a device that a guest may open, or take it away. Its bytes are no host's."""
    file = host.at(path)
    if there:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    else:
        file.unlink()
        file.parent.rmdir()
        file.parent.parent.rmdir()


def connected(connectors: dict[str, FakeConnector]) -> list[str]:
    return [host for host, one in connectors.items() if one.connected]


def device(world: World, host: str, server: str) -> str:
    (disk,) = [one for one in world.hosts[host].hypervisor.describe(server).disks if one.target == "vdy"]
    return disk.path


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("name", CONCERNED)
def test_whichever_step_fails_the_host_has_the_volume_connected_as_it_was(
    world: World, name: str, when: str
) -> None:
    _, service, connectors = give_connected(world)
    before = known(world), state(service)
    with failing(step("cold_migration", name), MigrationError("on purpose"), when=when):
        assert world.migrate("web1").outcome == "reverted"
    assert (known(world), state(service)) == before
    assert connected(connectors) == ["kvm1"]


def known(world: World) -> dict[str, Any]:
    """What a migration could change, but for what the guest has written to its volume."""
    found = world.look()
    for host in world.hosts:
        found[host]["files"] = {
            path: facts for path, facts in found[host]["files"].items() if "dev/disk" not in str(path)
        }
    return found


def test_a_volume_that_cannot_be_flushed_brings_the_guest_back_on_the_source(world: World) -> None:
    server, service, connectors = give_connected(world)
    before = state(service)
    connectors["kvm1"].fail_next("disconnect", MigrationError("blockdev: Input/output error"))
    migration = world.migrate("web1")
    assert (migration.outcome, migration.error) == ("reverted", "blockdev: Input/output error")
    assert world.hosts["kvm1"].hypervisor.power_state(server).active
    assert (state(service), connected(connectors)) == (before, ["kvm1"])


def test_a_server_that_moves_and_goes_back_finds_its_volume_where_each_host_has_it(world: World) -> None:
    server, service, connectors = give_connected(world)
    before, home = state(service), device(world, "kvm1", server)
    world.migrate("web1")
    assert (places(service), connected(connectors)) == ([("attached", "kvm2")], ["kvm2"])
    assert device(world, "kvm2", server) == home.replace("kvm1", "kvm2")
    assert world.hosts["kvm2"].hypervisor.power_state(server).active
    world.client.revert_resize("web1", requested_by="tester", reason="slow", drop_writes=True)
    world.run()
    assert (state(service), connected(connectors)) == (before, ["kvm1"])
    assert device(world, "kvm1", server) == home
    assert world.hosts["kvm1"].hypervisor.power_state(server).active


def test_a_dead_destination_lets_go_of_the_volume_when_it_is_back(world: World) -> None:
    server, service, connectors = give_connected(world)
    before = state(service)
    world.client.migrate("web1", "kvm2", requested_by="tester")
    die_in(world, step("cold_migration", "FinishMigration"), "after")
    world.run()
    assert world.hosts["kvm1"].hypervisor.power_state(server).active
    world.power_on("kvm2")
    assert (state(service), connected(connectors)) == (before, ["kvm1"])


def test_a_server_that_has_moved_is_confirmed_without_a_word_to_its_volume(world: World) -> None:
    server, service, connectors = give_connected(world)
    world.migrate("web1")
    before = state(service)
    world.client.confirm("web1", requested_by="tester")
    world.run()
    assert (state(service), connected(connectors)) == (before, ["kvm2"])
    assert world.hosts["kvm2"].hypervisor.power_state(server).active


def reboot(world: World, connectors: dict[str, FakeConnector], host: str) -> None:
    """Take from a host what it had connected."""
    for path in connectors[host].connected.values():
        appear(world.hosts[host], path, False)
    connectors[host].connected.clear()


def test_a_destination_that_rebooted_behind_the_hand_over_has_the_volume_again(world: World) -> None:
    server, _, connectors = give_connected(world)
    world.client.migrate("web1", "kvm2", requested_by="tester")
    die_in(world, step("cold_migration", "HandOver"), "after")
    reboot(world, connectors, "kvm2")
    world.power_on("kvm2")
    world.run()
    assert world.hosts["kvm2"].hypervisor.power_state(server).active
    assert connected(connectors) == ["kvm2"]


@pytest.mark.parametrize("name", ["PowerOff", "UndefineDomain", "DisconnectVolumes", "CopyImages"])
def test_a_source_that_rebooted_has_the_volume_again_when_its_guest_starts(world: World, name: str) -> None:
    server, service, connectors = give_connected(world)
    before = state(service)
    kvm1 = world.hosts["kvm1"].hypervisor

    def rebooted() -> None:
        kvm1.power_cut()
        kvm1.power_on()
        reboot(world, connectors, "kvm1")

    with failing(step("cold_migration", name), MigrationError("on purpose"), when="after", also=rebooted):
        assert world.migrate("web1").outcome == "reverted"
    assert kvm1.power_state(server).active
    assert (state(service), connected(connectors)) == (before, ["kvm1"])
