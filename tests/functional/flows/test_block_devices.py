"""A server that has block devices beside its files moves, comes back, and is not confused with another's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hostler.errors import MigrationError
from hostler.objects import Unit
from hostler.records import moves
from tests.support.stand_ins import stand_ins
from tests.support.world import DEVICE, VOLUME, FakeHost, World, failing, step


@pytest.fixture(autouse=True)
def files_stand_in() -> Iterator[None]:
    with stand_ins():
        yield


def devices_of(host: FakeHost) -> dict[str, bytes]:
    """The first bytes of each device, and whose it was: that is written behind the first MiB."""
    found = {}
    for path in sorted(host.at("/dev").rglob("*")):
        if path.is_file():
            found[str(path.relative_to(host.root))] = path.read_bytes()[: (1 << 20) + len(DEVICE)]
    return found


def device_unit(world: World, server: str) -> Unit:
    source = world.hosts["kvm1"]
    domain = source.hypervisor.describe(server)
    units, _ = source.drivers.files.survey(domain, [], lambda path: "")
    return next(unit for unit in units if unit.path == DEVICE)


def test_a_confirmed_server_has_its_devices_there_and_none_of_its_volumes_here(world: World) -> None:
    world.add_server(layout="block")
    before = devices_of(world.hosts["kvm1"])
    number = world.migrate("web1").uuid
    world.client.confirm("web1", requested_by="tester")
    world.run()
    assert devices_of(world.hosts["kvm2"]) == before
    # the volume is gone, the device is as it was
    assert devices_of(world.hosts["kvm1"]) == {DEVICE.lstrip("/"): before[DEVICE.lstrip("/")]}
    with world.database.reading() as session:
        freed = [event.text for event in moves.events(session, number) if event.kind == "freed"]
    assert freed == [f"{DEVICE} on kvm1 is free; what was on it still is"]


@pytest.mark.parametrize("name", ["CopyImages", "HandOver"])
def test_a_failing_step_leaves_both_hosts_volumes_as_they_were(world: World, name: str) -> None:
    world.add_server(layout="block")
    before = world.look(), devices_of(world.hosts["kvm1"]), list(devices_of(world.hosts["kvm2"]))
    with failing(step("cold_migration", name), MigrationError("on purpose"), when="before"):
        assert world.migrate("web1").outcome == "reverted"
    after = world.look(), devices_of(world.hosts["kvm1"]), list(devices_of(world.hosts["kvm2"]))
    assert after == before


def test_a_device_that_a_server_may_come_back_to_is_not_overwritten(world: World) -> None:
    server = world.add_server(layout="block")
    unit, source = device_unit(world, server), world.hosts["kvm1"]
    alias = source.at("/dev/disk/by-id/alias")
    alias.symlink_to(source.at(DEVICE))
    world.migrate("web1")
    for path in (DEVICE, "/dev/disk/by-id/alias"):
        named = Unit.from_dict(unit.to_dict() | {"path": path})
        problems = source.drivers.files.destination_problems([named], "other", "other", lambda path: "")
        assert f"{path} is used by a server of this host, or needed by one that may come back" in problems
    world.client.confirm("web1", requested_by="tester")
    world.run()
    assert source.drivers.files.destination_problems([unit], "other", "other", lambda path: "") == []


def test_a_device_cannot_say_that_it_was_not_written_to(world: World) -> None:
    world.add_server(layout="block", running=False)
    number = world.migrate("web1").uuid
    world.client.revert_resize("web1", requested_by="tester", reason="slow", drop_writes=False)
    world.run()
    row = world.migration(number)
    assert (row.status, row.outcome) == ("finished", "refused")
    assert "drops everything written since" in str(row.error)
    assert VOLUME.lstrip("/") in devices_of(world.hosts["kvm2"])
