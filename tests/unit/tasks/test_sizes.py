"""Which disk is which, and what a flavor makes of each."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from hostler.drivers.hypervisor.fake import FakeHypervisor
from hostler.objects import (
    Block,
    Disk,
    DiskChange,
    DiskRole,
    Domain,
    FileEntry,
    Flavor,
    Inventory,
    PowerState,
    SwapArea,
    Unit,
    UnitKind,
)
from hostler.tasks.checks import disk_need
from hostler.tasks.sizes import Disks, as_resized

GIB, MIB = 1 << 30, 1 << 20
HOME = "/srv/web1"
AREA = SwapArea("12345678-1234-4234-8234-123456789abc", "", 4096)
XML = "<domain><memory unit='MiB'>64</memory><vcpu>1</vcpu></domain>"


def server(*disks: tuple[Disk, int], root: str | None = "vda") -> tuple[Domain, list[Unit]]:
    """A server with these disks, each with its size, in a directory of its own."""
    domain = Domain(
        uuid="u",
        name="web1",
        xml=XML,
        power_state=PowerState.RUNNING,
        persistent=True,
        autostart=False,
        vcpus=1,
        memory_mb=64,
        machine="pc",
        arch="x86_64",
        virt_type="kvm",
        emulator=None,
        disks=[disk for disk, _ in disks],
        root_disk=root,
    )
    files = [
        FileEntry(disk.path.removeprefix(f"{HOME}/"), size, MIB, 0o600, 0, 0, virtual_bytes=size)
        for disk, size in disks
    ]
    return domain, [Unit(HOME, UnitKind.OWN, directory=True, files=files)]


def disk(target: str, name: str, image_format: str = "qcow2", **facts: Any) -> Disk:
    return Disk(target, f"{HOME}/{name}", image_format, **facts)


def changes(
    made: tuple[Domain, list[Unit]], swap: tuple[str, ...] = (), **sizes: int
) -> tuple[list[tuple[str, DiskRole, int]], str]:
    """What becomes of the disks (name, role, new size), and what speaks against it; *swap*: who holds an area."""
    known = {f"{HOME}/{name}": AREA for name in swap}
    disks = Disks(*made, Flavor(1, 64, **sizes), lambda one: known.get(one.path))
    found = [(one.path.removeprefix(f"{HOME}/"), one.role, one.new_bytes) for one in disks.changes()]
    return found, "; ".join(disks.problems)


ROOT, DATA = (disk("vda", "disk"), GIB), (disk("vdb", "data", "raw"), GIB)
SWAP = (disk("vdc", "disk.swap", "raw"), 8 * MIB)


BLOCK_SWAP = server(ROOT, (disk("vdc", "disk.swap", "raw", block=True), 8 * MIB))


def test_zeros_leave_every_disk_as_it_is() -> None:
    assert changes(server(ROOT, DATA, SWAP), ("disk.swap",)) == ([], "")


@pytest.mark.parametrize(("root", "grown"), [("vda", "disk"), ("vdb", "data")])
def test_the_disk_that_is_booted_from_is_the_root_disk(root: str, grown: str) -> None:
    found, problems = changes(server(ROOT, DATA, root=root), root_gb=2)
    assert (found, problems) == ([(grown, DiskRole.ROOT, 2 * GIB)], "")


@pytest.mark.parametrize("root", [None, "vdz"])
def test_a_server_that_boots_from_a_volume_keeps_that_as_it_is(root: str | None) -> None:
    assert changes(server(DATA, root=root), root_gb=40) == ([], "")


def test_a_size_that_it_has_is_no_change() -> None:
    assert changes(server(ROOT), root_gb=1) == ([], "")


@pytest.mark.parametrize(
    ("made", "sizes", "words"),
    [
        (server((disk("vda", "disk"), 3 * GIB)), {"root_gb": 2}, "has 3 GiB, more than the flavor's 2 GiB"),
        (server((disk("vda", "disk", "vmdk"), GIB)), {"root_gb": 2}, "of format vmdk, which is not grown"),
        (server(ROOT), {"ephemeral_gb": 1}, "it has no ephemeral disk"),
        (server(ROOT, DATA), {"swap_mb": 8}, "it has no swap disk, the flavor has 8 MiB"),
        (server(ROOT, SWAP), {"swap_mb": 16}, "disk.swap holds no swap area"),
        (BLOCK_SWAP, {"swap_mb": 16}, "disk.swap is a block device, and no swap area on one is resized"),
    ],
)
def test_what_cannot_be_had_is_said(
    made: tuple[Domain, list[Unit]], sizes: dict[str, int], words: str
) -> None:
    found, problems = changes(made, ("disk.swap",) if made is BLOCK_SWAP else (), **sizes)
    assert found == []
    assert words in problems


def test_of_several_ephemeral_disks_the_last_takes_what_is_new() -> None:
    ephemeral = [(disk(f"vd{'bc'[n]}", f"disk.eph{n}"), GIB) for n in range(2)]
    made = server(ROOT, *ephemeral)
    assert changes(made, ephemeral_gb=5) == ([("disk.eph1", DiskRole.EPHEMERAL, 4 * GIB)], "")
    assert "no disk shrinks" in changes(made, ephemeral_gb=1)[1]


def test_a_root_disk_is_never_taken_for_another() -> None:
    made = server((disk("vda", "disk.local"), GIB), (disk("vdb", "disk.swap", "raw"), MIB), root="vdb")
    assert changes(made, ("disk.swap",), swap_mb=4)[1] == "it has no swap disk, the flavor has 4 MiB of swap"


@pytest.mark.parametrize(
    ("disks", "areas", "taken"),
    [
        ((DATA, SWAP), ("data", "disk.swap"), "disk.swap"),
        ((DATA, (disk("vdd", "more", "raw"), GIB)), ("more",), "more"),
        (((disk("vdb", "q"), GIB), DATA), ("q", "data"), "data"),
        (((disk("vdb", "ro", "raw", readonly=True), GIB), DATA), ("ro", "data"), "data"),
    ],
)
def test_swap_is_known_by_its_name_or_by_what_is_on_a_raw_disk(
    disks: tuple[tuple[Disk, int], ...], areas: tuple[str, ...], taken: str
) -> None:
    assert changes(server(ROOT, *disks), areas, swap_mb=4) == ([(taken, DiskRole.SWAP, 4 * MIB)], "")


def test_the_server_as_it_is_to_be_takes_its_new_size_of_a_host() -> None:
    domain, units = server(ROOT, DATA)
    change = DiskChange(f"{HOME}/disk", "qcow2", DiskRole.ROOT, GIB, 3 * GIB)
    before = Inventory(domain, units, [change])
    hypervisor = FakeHypervisor()
    assert as_resized(hypervisor, before, None) is before
    after = as_resized(hypervisor, before, Flavor(4, 256))
    assert (after.domain.vcpus, after.domain.memory_mb) == (4, 256)
    assert disk_need(after) - disk_need(before) == 2 * GIB
    assert after.size_bytes - before.size_bytes == 2 * GIB
    assert Inventory.from_dict(before.to_dict()) == before


def test_a_block_device_is_no_disk_space_of_the_host_and_grows_as_one() -> None:
    made = server(ROOT, (disk("vdb", "lv", "raw", block=True), GIB), root="vdb")
    domain, (unit,) = made
    files, device = unit.files
    units = [
        dataclasses.replace(unit, files=[files]),
        Unit(f"{HOME}/lv", UnitKind.OWN, False, [dataclasses.replace(device, name="")], block=Block()),
    ]
    (change,) = Disks(domain, units, Flavor(1, 64, root_gb=2), lambda _: None).changes()
    assert (change.path, change.new_bytes, change.block) == (f"{HOME}/lv", 2 * GIB, True)
    assert disk_need(Inventory(domain, units)) == GIB
