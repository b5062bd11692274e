"""``migration verify``: the destination reads what lies on its disk; what the guest has written is no damage."""

from __future__ import annotations

import os

import pytest

from hostler.errors import Park
from tests.functional.doctor.conftest import Typed, Ward
from tests.support.world import World, failing, step


def verify(hostler: Typed) -> tuple[int, str]:
    return hostler("migration", "verify", "web1", "-f", "json")


@pytest.mark.usefixtures("ward")
@pytest.mark.parametrize("layout", ["dir", "flat"])
def test_a_server_that_is_off_is_as_it_left_until_a_bit_flips(
    world: World, hostler: Typed, layout: str
) -> None:
    server = world.add_server(layout=layout, running=False)
    world.migrate("web1")
    code, said = verify(hostler)
    assert (code, '"as it left"' in said) == (0, True)
    disk = world.hosts["kvm2"].hypervisor.describe(server).disks[0].path
    path = world.hosts["kvm2"].at(disk)
    before = path.stat()
    with path.open("r+b") as file:
        byte = file.read(1)[0]
        file.seek(0)
        file.write(bytes([byte ^ 1]))
    code, said = verify(hostler)
    assert (code, "was written to at" in said) == (3, True)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # a disk that rots tells no time
    code, said = verify(hostler)
    assert code == 4
    assert disk in said
    assert '"Offset": 0' in said


@pytest.mark.usefixtures("ward")
def test_a_guest_that_has_run_makes_the_manifest_stale(world: World, hostler: Typed) -> None:
    world.add_server()
    world.migrate("web1")
    code, said = verify(hostler)
    assert code == 3
    assert "the guest has run since" in said


@pytest.mark.usefixtures("ward")
def test_a_parked_migration_is_verified_in_its_part_directory(world: World, hostler: Typed) -> None:
    world.add_server()
    with failing(step("cold_migration", "VerifyImages"), Park("stop", []), when="before"):
        assert world.migrate("web1").phase == "parked"
    assert verify(hostler)[0] == 0


@pytest.mark.usefixtures("ward")
def test_what_is_over_has_no_manifest_any_more(world: World, hostler: Typed) -> None:
    world.add_server(running=False)
    world.migrate("web1")
    world.client.confirm("web1", requested_by="tester")
    world.run()
    code, said = verify(hostler)
    assert code == 3
    assert "its manifests are gone" in said


def test_a_dead_destination_is_not_waited_for(world: World, ward: Ward, hostler: Typed) -> None:
    world.add_server(running=False)
    world.migrate("web1")
    ward.worker_dies("kvm2")
    code, said = verify(hostler)
    assert code == 1
    assert "no worker is alive" in said
