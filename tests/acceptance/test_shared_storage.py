"""Servers whose disks lie in a directory that both hosts have: they move without a byte, and nothing is removed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import Guest, Host, Lab
from lab.disks import LAYERED, Disk
from tests.support.operator import (
    Asked,
    confirm,
    found_by_the_doctor,
    hostler,
    left_of,
    move,
    server,
    told,
    wait_known,
    wait_ready,
)

pytestmark = pytest.mark.lab

POOL = "/var/lib/libvirt/images"


@pytest.fixture
def storage(lab: Lab, kvm1: Host, kvm2: Host) -> Iterator[Path]:
    """A folder that both hosts have as their pool."""
    folder = lab.directory / "shared" / "pool"
    folder.mkdir()
    for host in (kvm1, kvm2):
        host.share(folder, POOL)
    yield folder
    for host in (kvm1, kvm2):
        host.remove_guests()
        host.unshare(POOL)
    folder.rmdir()


def inodes(storage: Path) -> dict[str, int]:
    return {path.name: path.stat().st_ino for path in storage.rglob("*")}


@pytest.mark.parametrize("wish", ["confirm", "revert"])
def test_a_server_on_shared_storage_moves_without_its_disks(
    kvm1: Host, kvm2: Host, storage: Path, wish: str
) -> None:
    of_others = found_by_the_doctor(kvm1)
    guest = Guest(f"shared-{wish}", layout="flat", disks=(LAYERED, Disk()), autostart=True).create(kvm1)
    guest.start(kvm1)
    wait_known(kvm1, guest)
    before = inodes(storage)
    planned = hostler(kvm1, "server", "migrate", guest.name, "--to", "kvm2", "--dry-run")
    assert f"in place  {guest.disk_path()}" in planned.out
    assert "0 B to copy in 0 files" in planned.out
    assert inodes(storage) == before

    moved = move(kvm1, guest.name, "kvm2")

    assert moved.code == 0
    assert " BOOTS=2 DIRTY=no " in guest.wait_for_boot(kvm2)
    assert inodes(storage) == before
    assert guest.state(kvm1) is None
    assert told(kvm1, "migration", "show", guest.name)["files"] == []

    if wish == "confirm":
        assert confirm(kvm1, guest.name).code == 0
        assert server(kvm1, guest.name) == ("kvm2", "active", None, "running")
        on = kvm2
    else:
        # what it has written there is what it goes on with: nothing has to be given up
        asked = hostler(kvm1, "server", "revert", guest.name, "--reason", "slow", "--wait")
        assert asked.code == 0, asked
        assert " BOOTS=3 DIRTY=no " in guest.wait_for_boot(kvm1, 2)
        assert guest.state(kvm2) is None
        on = kvm1
    assert inodes(storage) == before
    assert guest.state(on) == "running"
    assert found_by_the_doctor(kvm1) <= of_others


def test_a_killed_worker_of_either_host_leaves_a_server_on_shared_storage_whole(
    kvm1: Host, kvm2: Host, storage: Path
) -> None:
    of_others = found_by_the_doctor(kvm1)
    guest = Guest("shared-killed", layout="flat", ignore_acpi=True).create(kvm1).start(kvm1)
    wait_known(kvm1, guest)
    before = inodes(storage)
    wish = ("server", "migrate", guest.name, "--to", "kvm2", "--wait", "--format", "plain")
    asked = Asked(kvm1, *wish)
    asked.says("PowerOff running")
    kvm1.kill_worker()
    kvm1.start_worker()
    asked.says("ForgetProof done")
    kvm2.kill_worker()
    kvm2.start_worker()
    assert asked.end().code == 0
    assert " BOOTS=2 " in guest.wait_for_boot(kvm2)
    assert inodes(storage) == before
    wait_ready(kvm1, kvm2)
    assert found_by_the_doctor(kvm1) <= of_others


def test_the_same_name_on_two_hosts_is_not_the_same_storage(kvm1: Host, kvm2: Host) -> None:
    guest = Guest("same-name", layout="flat").create(kvm1).start(kvm1)
    wait_known(kvm1, guest)
    kvm2.path(guest.disk_path()).write_text("another's")
    before = left_of(kvm1, guest), left_of(kvm2, guest)

    refused = move(kvm1, guest.name, "kvm2")

    assert refused.code == 3
    assert f"there is a {guest.disk_path()} already" in refused.out + refused.err
    assert (left_of(kvm1, guest), left_of(kvm2, guest)) == before
    assert kvm2.path(guest.disk_path()).read_text() == "another's"
    assert guest.state(kvm1) == "running"
    assert guest.boots(kvm1) == 1
    assert not list(kvm1.path(POOL).glob(".hostler*")) + list(kvm2.path(POOL).glob(".hostler*"))
