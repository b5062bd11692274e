"""Block devices: logical volumes, and devices that the destination's operator has given over."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hostler.drivers import devices
from hostler.drivers.files.marked import MarkKind
from hostler.errors import (
    DestinationDiskExists,
    DestinationUnusable,
    DiskNotFound,
    ForeignObject,
    MigrationError,
    ResizeError,
)
from hostler.objects import Disk, DiskChange, DiskRole, Domain, Unit
from tests.support.stand_ins import stand_ins

UUID = "11111111-1111-4111-8111-111111111111"
MIGRATION = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
OTHER = "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb"
TAG = f"hostler.{MIGRATION}"
LV = "/dev/vg-0/web1"
BY_ID = "/dev/disk/by-id/web1"
MIB = 1 << 20
EXTENT = 4 * MIB

ASIDE, PART = f"vg-0/web1.{MIGRATION}_resize", f"vg-0/web1.{MIGRATION}.part"


@pytest.fixture(autouse=True)
def files_stand_in() -> Iterator[None]:
    with stand_ins():
        yield


def block(path: str, **more: Any) -> Disk:
    return Disk("vdb", path, "raw", block=True, **more)


def add_device(host: Any, path: str = BY_ID, size: int = 3 * MIB, contents: bytes = b"") -> None:
    host.at(path).parent.mkdir(parents=True, exist_ok=True)
    with host.at(path).open("wb") as file:
        file.write(contents)
        file.truncate(size)


def add_volume(host: Any, extents: int = 2) -> None:
    host.lvm.create("vg-0", "web1", extents * EXTENT, "nova")
    host.at(LV).write_bytes(b"the server's data".ljust(extents * EXTENT, b"\0"))


@pytest.fixture
def pair(source: Any, dest: Any, domain: Callable[..., Domain]) -> tuple[Any, Any, list[Unit]]:
    """Two hosts, and on the first a server with both kinds of device."""
    return furnish(source, dest, domain)


def furnish(source: Any, dest: Any, domain: Callable[..., Domain]) -> tuple[Any, Any, list[Unit]]:
    for host in (source, dest):
        host.lvm.add_group("vg-0", 10)
    add_volume(source)
    add_device(source, contents=b"more of its data")
    add_device(dest, contents=b"\xa5" * 3 * MIB)
    return source, dest, source.units(domain(block(LV), block(BY_ID)))


def receive(source: Any, dest: Any, units: list[Unit]) -> None:
    """Write the first bytes over, as many as there are on the source."""
    for unit in units:
        home = source.at(source.files.aside(unit, MIGRATION))
        with dest.part(unit).open("r+b") as part:
            part.write(home.read_bytes())


def names(host: Any) -> dict[str, tuple[str, ...]]:
    return {one.full_name: one.tags for one in host.lvm.volumes()}


def notes(host: Any) -> list[str]:
    return [mark.migration for mark in host.files.marked([]) if mark.kind is MarkKind.MADE]


# -- what moves --------------------------------------------------------------------------------------------


def test_a_device_is_a_unit_of_its_whole_size(pair: tuple[Any, Any, list[Unit]]) -> None:
    volume, device = pair[2]
    assert [unit.files[0].size_bytes for unit in pair[2]] == [2 * EXTENT, 3 * MIB]
    assert volume.block is not None
    assert volume.block.volume is not None
    assert (volume.block.volume.group, volume.block.volume.name) == ("vg-0", "web1")
    assert device.block is not None
    assert device.block.volume is None


@pytest.mark.parametrize(
    ("disk", "sentence"),
    [
        (block(BY_ID, readonly=True), f"{BY_ID} is a block device attached as read-only: detach it"),
        (block(BY_ID, shareable=True), f"{BY_ID} is a block device attached as shareable"),
        (block(BY_ID, device="lun"), f"{BY_ID} is a block device attached as a lun"),
        (block("/dev/sdx"), "/dev/sdx does not exist, or is no block device"),
        (block("/dev/../x"), "the path /dev/../x is not absolute and plain"),
        (
            Disk("vdb", BY_ID, "qcow2", block=True),
            f"{BY_ID} is a block device that holds an image of format qcow2",
        ),
    ],
)
def test_a_device_that_cannot_move_is_named(
    pair: tuple[Any, Any, list[Unit]], domain: Callable[..., Domain], disk: Disk, sentence: str
) -> None:
    _, problems = pair[0].survey(domain(disk))
    assert [problem for problem in problems if sentence in problem], problems


def test_a_device_that_another_server_has_under_another_name_does_not_move(
    pair: tuple[Any, Any, list[Unit]], domain: Callable[..., Domain]
) -> None:
    source = pair[0]
    source.at("/dev/alias").symlink_to(source.at(BY_ID))
    other = domain(block("/dev/alias"), name="db1", uuid=OTHER)
    _, problems = source.survey(domain(block(BY_ID)), other)
    assert problems == [f"{BY_ID} is used by db1, too"]


def test_a_volume_with_a_snapshot_or_a_mark_or_too_long_a_name_does_not_move(
    pair: tuple[Any, Any, list[Unit]], domain: Callable[..., Domain]
) -> None:
    source = pair[0]
    state = source.lvm._state()
    state["vg-0"]["volumes"]["web1"] |= {"role": "public,origin,thickorigin", "tags": [f"hostler.{OTHER}"]}
    state["vg-0"]["volumes"]["w" * 80] = dict(
        state["vg-0"]["volumes"]["web1"], uuid="2", tags=[], role="public"
    )
    source.lvm._keep(state)
    long = f"/dev/vg-0/{'w' * 80}"
    source.at(long).write_bytes(b"")
    _, problems = source.survey(domain(block(LV), block(long)))
    assert problems == [
        f"{LV} has a snapshot of LVM's, or is one: it would not move with it",
        f"{LV} bears the mark of migration {OTHER}: it has not ended well",
        f"the name of {long} is too long to be set aside",
    ]


# -- there and back ----------------------------------------------------------------------------------------


def test_both_kinds_move_and_the_source_is_left_as_promised(pair: tuple[Any, Any, list[Unit]]) -> None:
    source, dest, units = pair
    assert dest.problems(units) == []
    dest.files.make_parts(units, UUID, MIGRATION)
    assert names(dest) == {PART: (TAG,)}
    assert notes(dest) == [MIGRATION] * 1
    for unit in units:
        source.files.set_aside(unit, MIGRATION)
    assert names(source) == {ASIDE: (TAG, "nova")}
    receive(source, dest, units)
    for unit in units:
        dest.files.place(unit, UUID, MIGRATION)
    assert names(dest) == {"vg-0/web1": (TAG,)}
    assert dest.files.strangers(units, UUID, MIGRATION) == []
    assert dest.files.absent(units) == []
    assert dest.files.written(units, UUID, MIGRATION) == [LV, BY_ID]
    for unit in units:
        source.files.remove_aside(unit, MIGRATION)
    dest.files.settle(units, UUID, MIGRATION)
    assert (names(source), names(dest), notes(dest)) == ({}, {"vg-0/web1": ()}, [])
    assert dest.at(LV).read_bytes().startswith(b"the server's data")
    assert source.at(BY_ID).read_bytes().startswith(b"more of its data")


def test_all_is_undone_and_the_destinations_device_is_given_back(pair: tuple[Any, Any, list[Unit]]) -> None:
    source, dest, units = pair
    before = names(source)
    arrive(source, dest, units)
    for unit in units:
        dest.files.unplace(unit, UUID, MIGRATION)
    dest.files.remove_parts(units, UUID, MIGRATION)
    for unit in units:
        source.files.put_back(unit, MIGRATION)
    assert (names(source), names(dest), notes(dest)) == (before, {}, [])
    assert source.at(LV).read_bytes().startswith(b"the server's data")


def arrive(source: Any, dest: Any, units: list[Unit]) -> None:
    dest.files.make_parts(units, UUID, MIGRATION)
    for unit in units:
        source.files.set_aside(unit, MIGRATION)
    receive(source, dest, units)
    for unit in units:
        dest.files.place(unit, UUID, MIGRATION)


def each(call: Callable[..., None], units: list[Unit], *facts: str) -> Callable[[], None]:
    def run() -> None:
        for unit in units:
            call(unit, *facts)

    return run


def test_killed_anywhere_each_call_may_be_repeated_or_undone(
    new_host: Callable[[], Any], domain: Callable[..., Domain], knife: Any
) -> None:
    """*then* leads from a half-done call to where it leads from a whole one."""
    facts = (UUID, MIGRATION)
    cases: dict[str, Callable[[Any, Any, list[Unit]], tuple[Callable[[], None], Callable[[], None]]]] = {
        "set aside, again": lambda s, d, u: (each(s.files.set_aside, u, MIGRATION),) * 2,
        "set aside, undone": lambda s, d, u: (
            each(s.files.set_aside, u, MIGRATION),
            each(s.files.put_back, u, MIGRATION),
        ),
        "make, again": lambda s, d, u: (lambda: d.files.make_parts(u, *facts),) * 2,
        "make, undone": lambda s, d, u: (
            lambda: d.files.make_parts(u, *facts),
            lambda: d.files.remove_parts(u, *facts),
        ),
        "arrive, undone": lambda s, d, u: (
            lambda: arrive(s, d, u),
            lambda: (
                each(d.files.unplace, u, *facts)(),
                d.files.remove_parts(u, *facts),
                each(s.files.put_back, u, MIGRATION)(),
            ),
        ),
        "settle, again": lambda s, d, u: (
            lambda: (
                arrive(s, d, u),
                each(s.files.remove_aside, u, MIGRATION)(),
                d.files.settle(u, *facts),
            ),
            lambda: (each(s.files.remove_aside, u, MIGRATION)(), d.files.settle(u, *facts)),
        ),
    }
    for name, case in cases.items():
        first = None
        for number in range(1, 100):
            source, dest, units = furnish(new_host(), new_host(), domain)
            operation, then = case(source, dest, units)
            killed = knife.each(operation, number)
            if name == "settle, again" and killed and names(dest).keys() != {"vg-0/web1"}:
                continue  # killed on its way there, which the others look at
            then()
            end = [names(source), names(dest), notes(dest), left(source), left(dest)]
            first = first or end
            assert end == first, (name, number)
            if not killed:
                break
        else:
            raise AssertionError(f"{name} never came to its end")


def left(host: Any) -> list[str]:
    """Devices, notes and drafts of notes."""
    found = [*host.at("/dev/vg-0").glob("*"), *host.at("/var/lib/hostler/devices").glob("*")]
    return sorted(path.name for path in found)


# -- what is refused ---------------------------------------------------------------------------------------


def test_a_destination_without_the_group_or_without_its_room_is_refused(
    source: Any, dest: Any, domain: Callable[..., Domain]
) -> None:
    source.lvm.add_group("vg-0", 10)
    add_volume(source, extents=5)
    units = source.units(domain(block(LV)))
    assert dest.problems(units) == ["there is no volume group vg-0 for /dev/vg-0/web1: vgcreate vg-0 DEVICE"]
    dest.lvm.add_group("vg-0", 4)
    assert dest.problems(units) == ["not enough space in volume group vg-0: 0.02 GiB needed, 0.02 GiB free"]
    dest.lvm.add_group("vg-0", 10)
    dest.lvm.create("vg-0", "web1", EXTENT, "somebody")
    assert dest.problems(units) == [f"there is a {LV} already: rename it if somebody needs it"]


def test_a_group_that_both_hosts_share_is_refused(pair: tuple[Any, Any, list[Unit]]) -> None:
    source, dest, units = pair
    dest.lvm._keep(source.lvm._state())
    (problem,) = dest.problems(units[:1])
    assert problem == "volume group vg-0 is the source's own: shared volume groups are not supported"


def test_a_device_that_nobody_has_given_over_is_never_overwritten(
    pair: tuple[Any, Any, list[Unit]], domain: Callable[..., Domain]
) -> None:
    source, dest, _ = pair
    for host in (source, dest):
        add_device(host, "/dev/sdb")
    units = source.units(domain(block("/dev/sdb")))
    (problem,) = dest.problems(units)
    assert problem.startswith("/dev/sdb is not given over to arriving servers")
    assert "block_devices in [files]" in problem
    with pytest.raises(DestinationUnusable, match="is not given over"):
        dest.files.make_parts(units, UUID, MIGRATION)
    assert notes(dest) == []


def test_a_device_that_is_missing_or_too_small_or_in_use_is_refused(
    pair: tuple[Any, Any, list[Unit]],
) -> None:
    _, dest, units = pair
    device = units[1:]
    dest.used.add(BY_ID)
    assert dest.problems(device) == [
        f"{BY_ID} is used by a server of this host, or needed by one that may come back"
    ]
    dest.used.clear()
    os.truncate(dest.at(BY_ID), MIB)
    assert dest.problems(device) == [f"{BY_ID} has {MIB} bytes, {3 * MIB} are needed"]
    dest.at(BY_ID).unlink()
    (problem,) = dest.problems(device)
    assert (
        problem
        == f"there is no block device {BY_ID}: make one of at least {3 * MIB} bytes known by that name"
    )
    assert dest.files.absent(device) == [f"{BY_ID} is not there, or is smaller than it was"]


def test_two_migrations_do_not_take_one_device_whatever_they_call_it(
    pair: tuple[Any, Any, list[Unit]], domain: Callable[..., Domain]
) -> None:
    source, dest, units = pair
    dest.files.make_parts(units[1:], UUID, OTHER)
    alias = "/dev/disk/by-id/other"
    add_device(source, alias)
    dest.at(alias).symlink_to(dest.at(BY_ID))
    taken = source.units(domain(block(alias)))
    (problem,) = dest.problems(taken)
    assert problem == f"{alias} is taken by migration {OTHER}: hostler migration show {OTHER}"
    assert dest.files.strangers(taken, UUID, MIGRATION) == [
        f"{alias} is not noted as that of migration {MIGRATION}"
    ]
    with pytest.raises(ForeignObject):
        dest.files.place(taken[0], UUID, MIGRATION)


def test_a_device_is_not_two_disks_on_one_host(pair: tuple[Any, Any, list[Unit]]) -> None:
    source, _, units = pair
    here = [unit.path for unit in units]
    problems = source.files.destination_problems(units, UUID, MIGRATION, source.digest, here=here)
    assert problems == [
        f"{BY_ID} is a block device that it cannot have twice on one host: choose another (--to HOST)"
    ]


def test_a_volume_is_two_for_a_while_where_it_is_resized_on_its_host(
    pair: tuple[Any, Any, list[Unit]],
) -> None:
    host, _, units = pair
    volume = units[:1]
    host.files.make_parts(volume, UUID, MIGRATION)
    host.files.set_aside(volume[0], MIGRATION)
    host.files.place(volume[0], UUID, MIGRATION)
    assert names(host) == {"vg-0/web1": (TAG,), ASIDE: (TAG, "nova")}
    assert host.files.way_back_problems(volume, MIGRATION, host.digest, here=[volume[0].path]) == []
    host.files.unplace(volume[0], UUID, MIGRATION)
    host.files.put_back(volume[0], MIGRATION)
    host.files.remove_parts(volume, UUID, MIGRATION)
    assert names(host) == {"vg-0/web1": ("nova",)}


# -- what is not ours --------------------------------------------------------------------------------------


def test_a_volume_without_our_tag_is_left_alone(pair: tuple[Any, Any, list[Unit]]) -> None:
    source, dest, units = pair
    volume = units[0]
    arrive(source, dest, units)
    (aside,) = source.lvm.volumes()
    source.lvm.untag(aside, TAG)
    (placed,) = dest.lvm.volumes()
    dest.lvm.untag(placed, TAG)
    for call in (source.files.remove_aside, source.files.put_back, source.files.set_aside):
        with pytest.raises(ForeignObject, match="logical volume"):
            call(volume, MIGRATION)
    assert len(source.files.way_back_problems([volume], MIGRATION, source.digest)) == 1
    dest.files.unplace(volume, UUID, MIGRATION)
    dest.files.remove_parts([volume], UUID, MIGRATION)
    assert len(dest.files.strangers([volume], UUID, MIGRATION)) == 1
    assert (list(names(source)), list(names(dest))) == ([ASIDE], ["vg-0/web1"])


def test_a_name_that_was_taken_meanwhile_is_not_replaced(pair: tuple[Any, Any, list[Unit]]) -> None:
    source, dest, (volume, _) = pair
    dest.files.make_parts([volume], UUID, MIGRATION)
    source.files.set_aside(volume, MIGRATION)
    for host in (source, dest):
        host.lvm.create("vg-0", "web1", EXTENT, "somebody")
    with pytest.raises(DestinationDiskExists):
        dest.files.place(volume, UUID, MIGRATION)
    with pytest.raises(DestinationDiskExists):
        source.files.put_back(volume, MIGRATION)


def test_a_group_that_is_away_is_not_taken_for_a_removal(pair: tuple[Any, Any, list[Unit]]) -> None:
    source, _, (volume, device) = pair
    source.files.set_aside(volume, MIGRATION)
    source.lvm._keep({})
    with pytest.raises(MigrationError, match="volume group vg-0 is not there"):
        source.files.remove_aside(volume, MIGRATION)
    with pytest.raises(DiskNotFound):
        source.files.put_back(volume, MIGRATION)
    source.at(BY_ID).unlink()
    with pytest.raises(DiskNotFound):
        source.files.put_back(device, MIGRATION)
    assert source.files.way_back_problems([device], MIGRATION, source.digest) == [
        f"{BY_ID} is not there, or is no block device any more"
    ]


# -- sizes and marks ---------------------------------------------------------------------------------------


def test_a_volume_grows_and_a_device_must_be_large_enough(pair: tuple[Any, Any, list[Unit]]) -> None:
    source, dest, units = pair
    arrive(source, dest, units)

    def grow(path: str, size: int) -> None:
        change = DiskChange(path, "raw", DiskRole.ROOT, EXTENT, size, block=True)
        dest.files.resize(change, lambda: None, None)

    grow(LV, 3 * EXTENT)
    grow(LV, 3 * EXTENT)
    assert [one.size_bytes for one in dest.lvm.volumes()] == [3 * EXTENT]
    assert dest.at(LV).read_bytes().startswith(b"the server's data")
    grow(BY_ID, 3 * MIB)
    with pytest.raises(ResizeError, match=f"the device is of {3 * MIB} bytes, {4 * MIB} are wanted"):
        grow(BY_ID, 4 * MIB)


def test_what_is_left_over_is_found_and_removed_by_its_mark_alone(pair: tuple[Any, Any, list[Unit]]) -> None:
    source, dest, units = pair
    dest.files.make_parts(units, UUID, MIGRATION)
    for unit in units:
        source.files.set_aside(unit, MIGRATION)
    (aside,) = source.files.marked([])
    assert (aside.kind, aside.path, aside.home, aside.home_taken) == (
        MarkKind.ASIDE,
        f"/dev/{ASIDE}",
        LV,
        False,
    )
    part, note = dest.files.marked([])
    assert (part.kind, part.volume, note.kind) == (MarkKind.PART, PART, MarkKind.MADE)
    for mark in (part, note):
        dest.files.remove_marked(mark, [])
        dest.files.remove_marked(mark, [])
    assert (names(dest), dest.files.marked([])) == ({}, [])


def test_a_placed_volume_loses_its_tag_and_nothing_else(pair: tuple[Any, Any, list[Unit]]) -> None:
    source, dest, units = pair
    arrive(source, dest, units[:1])
    (mark,) = dest.files.marked([])
    assert mark.kind is MarkKind.MARK
    dest.files.remove_marked(mark, [])
    assert names(dest) == {"vg-0/web1": ()}


def test_a_name_that_leads_to_a_file_is_no_device(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(devices, "is_block", lambda status: False)
        (tmp_path / "file").write_bytes(b"")
        assert devices.look(tmp_path / "file") is None
