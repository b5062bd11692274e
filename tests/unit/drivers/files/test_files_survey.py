"""What of a server moves, and the sentences that say what keeps it from moving."""

from __future__ import annotations

import os
import socket
from typing import Any

import pytest

from hostler.objects import Disk, Unit, UnitKind

INSTANCES = "/srv/vm"
UUID = "11111111-1111-4111-8111-111111111111"
MIGRATION = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"


def paths(units: list[Unit]) -> list[tuple[str, str]]:
    return [(unit.path, unit.kind.value) for unit in units]


def test_a_directory_of_the_servers_own_moves_as_a_whole(source: Any, domain: Any) -> None:
    disk = source.image(f"{INSTANCES}/{UUID}/disk.qcow2", size="8M")
    source.write(f"{INSTANCES}/{UUID}/disk.info", mode=0o600)
    source.write(f"{INSTANCES}/{UUID}/disk.config")
    source.write(f"{INSTANCES}/{UUID}/logs/old/console.log")
    config = Disk("sda", f"{INSTANCES}/{UUID}/disk.config", "raw", device="cdrom", readonly=True)
    (unit,) = source.units(domain(disk, config))
    assert (unit.path, unit.kind, unit.directory) == (f"{INSTANCES}/{UUID}", UnitKind.OWN, True)
    assert [entry.name for entry in unit.files] == [
        "disk.config",
        "disk.info",
        "disk.qcow2",
        "logs/old/console.log",
    ]
    assert unit.subdirectories == ["logs", "logs/old"]
    image = unit.files[2]
    assert (image.may_grow, image.virtual_bytes) == (True, 8 << 20)
    assert (unit.files[1].may_grow, unit.files[1].mode) == (True, 0o600)
    assert unit.inode == source.at(unit.path).stat().st_ino


def test_a_directory_of_another_name_moves_as_a_whole_if_nobody_else_is_in_it(
    source: Any, domain: Any
) -> None:
    disk = source.image(f"{INSTANCES}/customer-7/root.qcow2")
    source.write(f"{INSTANCES}/customer-7/notes.txt")
    (unit,) = source.units(domain(disk))
    assert unit.directory


def test_in_a_flat_pool_each_file_moves_by_itself(source: Any, domain: Any) -> None:
    one, two = source.image(f"{INSTANCES}/web1.qcow2"), source.write("/pool/web1-data.raw")
    source.write(f"{INSTANCES}/web2.raw")
    units = source.units(domain(one, two), domain(f"{INSTANCES}/web2.raw", name="web2"))
    assert paths(units) == [(one, "own"), (two, "own")]
    assert [unit.directory for unit in units] == [False, False]
    assert [entry.name for unit in units for entry in unit.files] == ["", ""]


@pytest.mark.parametrize("stranger", ["web2-old.qcow2", f"web2.raw.{MIGRATION}_resize"])
def test_a_pool_under_the_instances_path_is_not_taken_for_a_servers_directory(
    source: Any, domain: Any, stranger: str
) -> None:
    disk = source.image(f"{INSTANCES}/pool/web1.qcow2")
    source.write(f"{INSTANCES}/pool/{stranger}")
    assert paths(source.units(domain(disk))) == [(disk, "own")]


def test_a_pool_with_two_servers_in_it_is_flat(source: Any, domain: Any) -> None:
    base = source.write(f"{INSTANCES}/pool/base.raw")
    one = source.overlay(f"{INSTANCES}/pool/web1.qcow2", "base.raw")
    two = source.overlay(f"{INSTANCES}/pool/web2.qcow2", "base.raw")
    units = source.units(domain(one), domain(two, name="web2"))
    assert paths(units) == [(one, "own"), (base, "shared")]


def test_a_directory_reached_through_a_link_is_flat(source: Any, domain: Any) -> None:
    source.image("/ssd/web1/root.qcow2")
    source.at(f"{INSTANCES}/web1").symlink_to(source.at("/ssd/web1"))
    disk = f"{INSTANCES}/web1/root.qcow2"
    assert paths(source.units(domain(disk))) == [(disk, "own")]


def test_both_layouts_mix_and_state_moves_too(source: Any, domain: Any) -> None:
    inside, outside = source.image(f"{INSTANCES}/web1/root.qcow2"), source.write("/pool/data.raw")
    nvram = source.write("/var/lib/libvirt/qemu/nvram/web1_VARS.fd", mode=0o600)
    source.write("/var/lib/libvirt/swtpm/x/tpm2/tpm2-00.permall")
    units = source.units(domain(inside, outside, nvram=nvram, tpm_state="/var/lib/libvirt/swtpm/x/tpm2"))
    assert paths(units) == [
        (f"{INSTANCES}/web1", "own"),
        (outside, "own"),
        (nvram, "own"),
        ("/var/lib/libvirt/swtpm/x/tpm2", "own"),
    ]
    assert [unit.directory for unit in units] == [True, False, False, True]


def test_state_inside_the_servers_directory_is_not_taken_twice(source: Any, domain: Any) -> None:
    disk, nvram = source.write(f"{INSTANCES}/web1/disk"), source.write(f"{INSTANCES}/web1/vars.fd")
    source.write(f"{INSTANCES}/web1/tpm/state")
    (unit,) = source.units(domain(disk, nvram=nvram, tpm_state=f"{INSTANCES}/web1/tpm"))
    assert unit.path == f"{INSTANCES}/web1"


def test_state_that_was_never_made_is_no_obstacle(source: Any, domain: Any) -> None:
    disk = source.write("/pool/web1.raw")
    units = source.units(domain(disk, nvram="/var/lib/libvirt/qemu/nvram/no", tpm_state="/var/lib/no"))
    assert paths(units) == [(disk, "own")]


def test_what_is_shared_by_nature_is_digested_and_stays(source: Any, domain: Any) -> None:
    iso, kernel = source.write("/isos/a.iso"), source.write("/boot/vmlinuz")
    base = source.write(f"{INSTANCES}/_base/abc")
    disk = source.overlay(f"{INSTANCES}/web1/disk.qcow2", "../_base/abc")
    cdrom = Disk("sda", iso, "raw", device="cdrom")
    other = domain(cdrom, source.overlay("/pool/web2.qcow2", base), name="web2")
    units = source.units(domain(disk, cdrom, boot_files=(kernel,)), other)
    assert paths(units) == [
        (f"{INSTANCES}/web1", "own"),
        (iso, "shared"),
        (kernel, "shared"),
        (base, "shared"),
    ]
    assert all(unit.digest for unit in units[1:])


def test_a_kernel_behind_a_link_is_refused(source: Any, domain: Any) -> None:
    source.write("/boot/vmlinuz-6.1")
    source.at("/boot/vmlinuz").symlink_to("vmlinuz-6.1")
    units, (obstacle,) = source.survey(domain(boot_files=("/boot/vmlinuz",)))
    assert units == []
    assert obstacle.startswith("/boot/vmlinuz is a symbolic link; name the file itself")


def test_what_has_another_size_by_the_time_the_guest_is_off(source: Any, domain: Any) -> None:
    raw, growing = source.write("/pool/a.raw"), source.image("/pool/b.qcow2")
    nvram = source.write("/var/lib/libvirt/qemu/nvram/web1_VARS.fd")
    cdrom = Disk("sda", source.write("/isos/a.iso"), "raw", device="cdrom")
    units = source.units(domain(raw, growing, cdrom, nvram=nvram))
    assert [unit.files[0].may_grow for unit in units] == [False, True, True, False]


def test_a_backing_file_inside_the_directory_moves_with_it(source: Any, domain: Any) -> None:
    source.write(f"{INSTANCES}/web1/base.raw")
    disk = source.overlay(f"{INSTANCES}/web1/disk.qcow2", "base.raw")
    (unit,) = source.units(domain(disk))
    assert [entry.name for entry in unit.files] == ["base.raw", "disk.qcow2"]


def test_a_backing_file_inside_the_directory_must_not_be_anothers_too(source: Any, domain: Any) -> None:
    base = source.write(f"{INSTANCES}/web1/base.raw")
    disk = source.overlay(f"{INSTANCES}/web1/disk.qcow2", "base.raw")
    other = source.overlay("/pool/web2.qcow2", base)
    _, obstacles = source.survey(domain(disk), domain(other, name="web2"))
    assert obstacles == [f"{base}, in the directory of web1, is used by web2, too"]


@pytest.mark.parametrize(
    "name",
    [
        "a b",
        "it's",
        'quo"te',
        "ünï",
        ".hidden",
        "com,ma,",
        "co:lon",
        "new\nline",
        "-dash",
        "nbd:x",
        "json:{}",
    ],
)
@pytest.mark.parametrize("directory", [f"{INSTANCES}/{{}}/disk.qcow2", "/pool/{}"])
def test_hostile_names_are_just_names(source: Any, dest: Any, domain: Any, name: str, directory: str) -> None:
    path = directory.format(name)
    source.write("/pool/base.raw")
    source.at(path).parent.mkdir(exist_ok=True)
    source.overlay("/pool/tmp.qcow2", "/pool/base.raw")
    source.at("/pool/tmp.qcow2").rename(source.at(path))
    units = source.units(domain(Disk("vda", path, "qcow2")))
    assert units[0].files[0].virtual_bytes == 1 << 20
    dest.at("/pool").mkdir()
    for unit in units:
        source.files.set_aside(unit, MIGRATION)
    dest.files.make_parts(units, UUID, MIGRATION)
    dest.receive(units, source)
    for unit in units:
        dest.files.place(unit, UUID, MIGRATION)
    dest.files.settle(units, UUID, MIGRATION)
    assert dest.at(path).is_file()
    for unit in units:
        source.files.remove_aside(unit, MIGRATION)
    assert [name for name, entry in source.tree().items() if entry[2]] == ["pool/base.raw"]


def obstacles_of(source: Any, domain: Any, *disks: Any, **more: Any) -> list[str]:
    obstacles: list[str] = source.survey(domain(*disks, **more))[1]
    return obstacles


@pytest.mark.parametrize("path", ["/pool/../etc/shadow", "pool/a.raw", "/pool//a.raw", "/pool/./a.raw"])
def test_a_path_that_is_not_plain_is_refused(source: Any, domain: Any, path: str) -> None:
    (obstacle,) = obstacles_of(source, domain, path)
    assert obstacle.startswith(f"the path {path} is not absolute and plain")


def test_a_missing_disk_is_named(source: Any, domain: Any) -> None:
    source.write(f"{INSTANCES}/web1/disk.info")
    for path in ("/pool/a.raw", f"{INSTANCES}/web1/disk"):
        assert obstacles_of(source, domain, path) == [f"{path} does not exist"]


def test_a_missing_iso_is_named(source: Any, domain: Any) -> None:
    (obstacle,) = obstacles_of(source, domain, Disk("sda", "/isos/a.iso", "raw", device="cdrom"))
    assert obstacle == "/isos/a.iso does not exist"


@pytest.mark.parametrize("path", ["/pool/web1.raw", f"{INSTANCES}/web1/disk"])
def test_a_disk_that_is_a_link_is_refused(source: Any, domain: Any, path: str) -> None:
    source.write("/etc/shadow")
    source.at(path).parent.mkdir(exist_ok=True)
    source.at(path).symlink_to(source.at("/etc/shadow"))
    obstacles = obstacles_of(source, domain, path)
    assert f"{path} is a symbolic link; name the file itself in the definition (virsh edit)" in obstacles


def test_a_link_or_a_pipe_in_the_directory_is_refused_and_a_socket_left_behind(
    source: Any, domain: Any
) -> None:
    disk = source.write(f"{INSTANCES}/web1/disk")
    source.at(f"{INSTANCES}/web1/evil").symlink_to("/etc/shadow")
    os.mkfifo(source.at(f"{INSTANCES}/web1/pipe"))
    with socket.socket(socket.AF_UNIX) as monitor:
        here = os.open(source.at(f"{INSTANCES}/web1"), os.O_RDONLY)
        monitor.bind(f"/proc/self/fd/{here}/monitor")
        os.close(here)
    units, obstacles = source.survey(domain(disk))
    assert obstacles == [
        f"{INSTANCES}/web1/evil is a symbolic link",
        f"{INSTANCES}/web1/pipe is a pipe or a device",
    ]
    assert [entry.name for entry in units[0].files] == ["disk"]


@pytest.mark.parametrize("path", ["/pool/web1.raw", f"{INSTANCES}/web1/disk"])
def test_a_disk_with_two_names_is_refused(source: Any, domain: Any, path: str) -> None:
    source.write(path)
    source.at("/other").hardlink_to(source.at(path))
    (obstacle,) = obstacles_of(source, domain, path)
    assert obstacle == f"{path} has 2 names (hard links): only one of them would move"


def test_two_disks_that_are_one_file_are_refused(source: Any, domain: Any) -> None:
    path = source.write("/pool/a.raw")
    assert obstacles_of(source, domain, path, path) == ["two disks of web1 are the same file, /pool/a.raw"]


def test_a_disk_of_another_server_is_refused_whatever_that_one_calls_it(source: Any, domain: Any) -> None:
    path = source.write("/pool/a.raw")
    source.at("/alias").symlink_to(source.at("/pool"))
    for name in (path, "/alias/a.raw"):
        _, obstacles = source.survey(domain(path), domain(name, name="web2"))
        assert obstacles == ["/pool/a.raw is used by web2, too"]


def test_a_disk_that_backs_another_servers_is_refused(source: Any, domain: Any) -> None:
    path = source.write("/pool/a.raw")
    other = source.overlay("/pool/b.qcow2", path)
    _, obstacles = source.survey(domain(path), domain(other, name="web2"))
    assert obstacles == ["/pool/a.raw is used by web2, too"]


def test_a_backing_file_that_another_server_writes_is_refused(source: Any, domain: Any) -> None:
    base = source.write("/pool/base.raw")
    disk = source.overlay("/pool/a.qcow2", base)
    _, obstacles = source.survey(domain(disk), domain(base, name="web2"))
    assert obstacles == ["/pool/base.raw is written to by web2"]


def test_a_shareable_disk_that_is_in_use_elsewhere_is_refused(source: Any, domain: Any) -> None:
    both = Disk("vdb", source.write("/pool/cluster.raw"), "raw", shareable=True)
    assert obstacles_of(source, domain, both) == []
    _, obstacles = source.survey(domain(both), domain(both, name="web2"))
    assert obstacles == ["/pool/cluster.raw is written to by web2"]


def test_what_an_earlier_migration_left_is_named(source: Any, domain: Any) -> None:
    disk, pooled = source.write(f"{INSTANCES}/web1/disk"), source.write("/pool/b.raw")
    (unit, _) = source.units(domain(disk, pooled))
    source.files.set_aside(unit, MIGRATION)
    source.write(disk)
    source.write(f"{pooled}.{MIGRATION}_resize")
    assert obstacles_of(source, domain, disk, pooled) == [
        f"{INSTANCES}/web1_resize is there already, from migration {MIGRATION}",
        f"{pooled}.{MIGRATION}_resize is there already, from migration {MIGRATION}",
    ]


def test_a_mark_in_the_directory_is_named(source: Any, domain: Any) -> None:
    disk = source.write(f"{INSTANCES}/web1/disk")
    source.write(f"{INSTANCES}/web1/.hostler-migration", f'{{"migration": "{MIGRATION}", "what": ""}}')
    (obstacle,) = obstacles_of(source, domain, disk)
    assert obstacle == f"{INSTANCES}/web1 bears the mark of migration {MIGRATION}: it has not ended well"


def test_a_name_that_cannot_grow_or_be_written_down_is_refused(source: Any, domain: Any) -> None:
    long = source.write("/pool/" + "x" * 230)
    assert obstacles_of(source, domain, long) == [f"the name of {long} is too long to be set aside"]
    marker = source.write("/pool/.hostler-migration")
    assert obstacles_of(source, domain, marker) == [f"{marker} is named like a marker of hostler"]
    latin = os.fsdecode(b"/pool/\xe4.raw")
    assert obstacles_of(source, domain, latin) == [r"'/pool/\udce4.raw' is not UTF-8"]


def test_what_the_definition_says_of_a_chain_must_be_true(source: Any, domain: Any) -> None:
    base = source.write("/pool/base.raw")
    path = source.overlay("/pool/a.qcow2", base)
    assert obstacles_of(source, domain, Disk("vda", path, "qcow2", backing=[base])) == []
    (obstacle,) = obstacles_of(source, domain, Disk("vda", path, "qcow2", backing=["/pool/x.raw"]))
    assert (
        obstacle
        == "the definition says that /pool/a.qcow2 is backed by /pool/x.raw, the image says /pool/base.raw"
    )


def test_a_survey_changes_nothing(source: Any, furnished: Any) -> None:
    units = furnished(source)
    known = source.inodes()
    before = source.tree(known)
    assert len(units) == 5
    furnished_again = source.tree(known)
    assert furnished_again == before
