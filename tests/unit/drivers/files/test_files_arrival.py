"""The destination's side: checked before, received beside, renamed into place, taken out again."""

from __future__ import annotations

import dataclasses
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hostler.errors import DestinationDiskExists, DestinationUnusable, DiskNotFound, ForeignObject
from hostler.objects import Unit

INSTANCES = "/srv/vm"
UUID = "11111111-1111-4111-8111-111111111111"
MIGRATION = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
OTHER = "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb"
PART = f"{UUID}.{MIGRATION}.part"


@pytest.fixture
def units(source: Any, dest: Any, furnished: Callable[[Any], list[Unit]]) -> list[Unit]:
    for directory in ("/pool", "/isos"):
        dest.at(directory).mkdir()
    return furnished(source)


@pytest.fixture
def arrive(source: Any, dest: Any, units: list[Unit]) -> Callable[[], None]:
    def call() -> None:
        for unit in units:
            source.files.set_aside(unit, MIGRATION)
        dest.files.make_parts(units, UUID, MIGRATION)
        dest.receive(units, source)

    return call


# -- before -------------------------------------------------------------------------------------------------


def test_a_host_with_room_has_no_problems_and_is_only_read(dest: Any, units: list[Unit]) -> None:
    known = dest.inodes()
    before = dest.tree(known)
    assert dest.problems(units) == []
    assert dest.tree(known) == before


def test_a_missing_directory_is_named_unless_libvirt_would_make_it(dest: Any, units: list[Unit]) -> None:
    dest.at("/pool").rmdir()
    assert dest.problems(units) == ["there is no directory /pool: make it or mount it"]
    dest.at("/pool").write_text("")
    assert dest.problems(units) == ["/pool is not a directory"]


def test_libvirts_directories_are_not_made_where_there_is_no_libvirt(dest: Any, units: list[Unit]) -> None:
    dest.at("/var/lib/libvirt/qemu").rmdir()
    (problem,) = dest.problems(units)
    assert problem == "there is no directory /var/lib/libvirt/qemu/nvram: make it or mount it"


def test_a_final_path_that_is_taken_is_named(dest: Any, units: list[Unit]) -> None:
    dest.at(f"{INSTANCES}/web1").symlink_to("nowhere")
    dest.write("/pool/web1-data.raw")
    assert dest.problems(units) == [
        "there is a /srv/vm/web1 already: move it away if nobody needs it",
        "there is a /pool/web1-data.raw already: move it away if nobody needs it",
    ]


def test_a_shared_file_may_be_here_already_if_it_is_the_same(dest: Any, units: list[Unit]) -> None:
    iso = dest.write("/isos/debian.iso")
    assert dest.problems(units) == []
    assert [unit.path for unit in dest.files.missing(units)] == [unit.path for unit in units[:-1]]
    dest.write(iso, "an older one")
    assert dest.problems(units) == ["/isos/debian.iso is here with other contents than on the source"]
    dest.at(iso).unlink()
    dest.at(iso).mkdir()
    assert dest.problems(units) == ["/isos/debian.iso is here, but is not a regular file"]


def test_a_part_directory_of_an_earlier_migration_is_named(dest: Any, units: list[Unit]) -> None:
    for name in (f"{UUID}.{OTHER}.part", PART, f"{OTHER}.{OTHER}.part"):
        dest.at(f"/pool/{name}").mkdir()
    (problem,) = dest.problems(units)
    assert problem == (
        f"/pool/{UUID}.{OTHER}.part was left by migration {OTHER}: hostler migration show {OTHER}"
    )


def fake_statvfs(free_bytes: int, flags: int = 0) -> Callable[[Path], Any]:
    return lambda path: SimpleNamespace(f_bavail=free_bytes // 4096, f_frsize=4096, f_flag=flags)


def test_space_is_counted_over_all_units_with_slack(
    dest: Any, units: list[Unit], monkeypatch: pytest.MonkeyPatch
) -> None:
    size_bytes = sum(unit.size_bytes for unit in units)
    monkeypatch.setattr("os.statvfs", fake_statvfs(size_bytes))
    (problem,) = dest.problems(units)
    assert problem.startswith("not enough space in /srv/vm, /pool, /var/lib/libvirt/qemu/nvram, ")
    assert problem.endswith("/isos: 0.00 GiB needed, 0.00 GiB free")
    monkeypatch.setattr("os.statvfs", fake_statvfs(int(size_bytes * 1.05) + 4096))
    assert dest.problems(units) == []
    dest.write("/isos/debian.iso")
    monkeypatch.setattr("os.statvfs", fake_statvfs(int((size_bytes - units[-1].size_bytes) * 1.05) + 4096))
    assert dest.problems(units) == []


def test_a_read_only_file_system_is_named(
    dest: Any, units: list[Unit], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.statvfs", fake_statvfs(1 << 40, os.ST_RDONLY))
    assert "the file system of /pool is mounted read-only" in dest.problems(units)


def test_a_directory_that_cannot_be_written_is_named(
    dest: Any, units: list[Unit], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert "/pool is not writable for hostler" in dest.problems(units)


# -- received -----------------------------------------------------------------------------------------------


def test_part_directories_are_private_and_marked(dest: Any, units: list[Unit]) -> None:
    dest.files.make_parts(units, UUID, MIGRATION)
    directory = dest.at(f"/pool/{PART}")
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    marker = json.loads((directory / ".hostler-migration").read_text())
    assert (marker["migration"], marker["instance"]) == (MIGRATION, UUID)
    assert dest.files.part(units[1], UUID, MIGRATION) == f"/pool/{PART}/web1-data.raw"
    assert (dest.part(units[0]) / "log").is_dir()


def test_a_strange_directory_under_our_name_is_left_alone(dest: Any, units: list[Unit]) -> None:
    dest.write(f"/pool/{PART}/precious")
    for call in (dest.files.make_parts, dest.files.remove_parts):
        with pytest.raises(ForeignObject):
            call(units, UUID, MIGRATION)
    with pytest.raises(ForeignObject):
        dest.files.place(units[1], UUID, MIGRATION)
    dest.files.unplace(units[1], UUID, MIGRATION)
    assert dest.at(f"/pool/{PART}/precious").exists()


def test_a_link_under_our_name_is_not_followed(dest: Any, units: list[Unit]) -> None:
    dest.write(
        "/precious/.hostler-migration", json.dumps({"migration": MIGRATION, "what": "", "instance": UUID})
    )
    dest.at(f"/pool/{PART}").symlink_to(dest.at("/precious"))
    for call in (dest.files.make_parts, dest.files.remove_parts):
        with pytest.raises(ForeignObject):
            call(units, UUID, MIGRATION)
    assert dest.at("/precious/.hostler-migration").exists()


def test_parts_of_another_migration_are_not_removed(dest: Any, units: list[Unit]) -> None:
    dest.files.make_parts(units, UUID, OTHER)
    before = dest.tree()
    dest.files.remove_parts(units, UUID, MIGRATION)
    assert dest.tree() == before


def test_a_parent_that_is_missing_is_refused_and_undone(dest: Any, units: list[Unit]) -> None:
    dest.at("/pool").rmdir()
    before = dest.tree()
    with pytest.raises(DestinationUnusable, match="make it or mount it"):
        dest.files.make_parts(units, UUID, MIGRATION)
    dest.files.remove_parts(units, UUID, MIGRATION)
    assert dest.tree() == before


def test_a_directory_below_the_instances_path_is_made_and_unmade(dest: Any, units: list[Unit]) -> None:
    base = dataclasses.replace(units[-1], path=f"{INSTANCES}/_base/0a1b")
    assert dest.problems([*units, base]) == []
    before = dest.tree()
    dest.files.make_parts([*units, base], UUID, MIGRATION)
    assert dest.at(f"{INSTANCES}/_base").is_dir()
    dest.files.remove_parts([*units, base], UUID, MIGRATION)
    assert dest.tree() == before


def test_a_parent_that_somebody_uses_by_now_stays(dest: Any, units: list[Unit]) -> None:
    dest.files.make_parts(units, UUID, MIGRATION)
    dest.write("/var/lib/libvirt/qemu/nvram/web2_VARS.fd")
    dest.files.remove_parts(units, UUID, MIGRATION)
    assert dest.at("/var/lib/libvirt/qemu/nvram/web2_VARS.fd").exists()
    assert not dest.at("/var/lib/libvirt/swtpm").exists()
    assert not [name for name in dest.tree() if MIGRATION in name]


# -- placed -------------------------------------------------------------------------------------------------


def test_what_arrived_is_what_left(source: Any, dest: Any, units: list[Unit], arrive: Any) -> None:
    left = {name: entry for name, entry in source.tree().items() if entry[2]}
    arrive()
    for unit in units:
        dest.files.place(unit, UUID, MIGRATION)
        dest.files.place(unit, UUID, MIGRATION)
    dest.files.settle(units, UUID, MIGRATION)
    assert {name: entry for name, entry in dest.tree().items() if entry[2]} == left


def test_what_is_not_in_place_is_named(dest: Any, units: list[Unit], arrive: Any) -> None:
    arrive()
    for unit in units[1:]:
        dest.files.place(unit, UUID, MIGRATION)
    assert dest.files.absent(units) == [
        "/srv/vm/web1/disk is not there",
        "/srv/vm/web1/disk.info is not there",
        "/srv/vm/web1/log/console.log is not there",
    ]
    dest.files.place(units[0], UUID, MIGRATION)
    assert dest.files.absent(units) == []


def test_owners_are_given_by_number(dest: Any, units: list[Unit], arrive: Any) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    arrive()
    files = [dataclasses.replace(entry, uid=12345, gid=54321) for entry in units[1].files]
    dest.files.place(dataclasses.replace(units[1], files=files), UUID, MIGRATION)
    status = dest.at(units[1].path).stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (12345, 54321, 0o640)


def test_what_the_receiver_left_beside_the_files_is_dropped(
    dest: Any, units: list[Unit], arrive: Any
) -> None:
    arrive()
    part = dest.part(units[0])
    (part / "disk.manifest").write_text("")
    (part / "link").symlink_to("/etc")
    dest.files.place(units[0], UUID, MIGRATION)
    assert sorted(path.name for path in dest.at(units[0].path).iterdir()) == ["disk", "disk.info", "log"]


def test_a_file_that_did_not_arrive_is_named(dest: Any, units: list[Unit], arrive: Any) -> None:
    arrive()
    (dest.part(units[0]) / "disk").unlink()
    dest.part(units[1]).unlink()
    for unit in units[:2]:
        with pytest.raises(DiskNotFound):
            dest.files.place(unit, UUID, MIGRATION)
        assert not dest.at(unit.path).exists()


def test_a_link_among_what_arrived_is_refused(dest: Any, units: list[Unit], arrive: Any) -> None:
    arrive()
    part = dest.part(units[1])
    part.unlink()
    part.symlink_to(dest.write("/precious"))
    with pytest.raises(DiskNotFound):
        dest.files.place(units[1], UUID, MIGRATION)


def test_without_a_part_directory_nothing_is_placed(dest: Any, units: list[Unit]) -> None:
    with pytest.raises(DiskNotFound):
        dest.files.place(units[0], UUID, MIGRATION)
    dest.files.unplace(units[0], UUID, MIGRATION)


@pytest.mark.parametrize("obstacle", ["file", "directory", "link"])
def test_a_final_path_is_never_replaced(dest: Any, units: list[Unit], arrive: Any, obstacle: str) -> None:
    arrive()
    for unit in units[:2]:
        final = dest.at(unit.path)
        if obstacle == "file":
            final.write_text("precious")
        elif obstacle == "directory":
            final.mkdir()
        else:
            final.symlink_to("nowhere")
        before = final.lstat().st_ino
        with pytest.raises(DestinationDiskExists):
            dest.files.place(unit, UUID, MIGRATION)
        dest.files.unplace(unit, UUID, MIGRATION)
        assert final.lstat().st_ino == before
        assert dest.part(unit).exists()


def test_what_somebody_put_in_our_place_is_not_taken_out(
    dest: Any, units: list[Unit], arrive: Any, caplog: pytest.LogCaptureFixture
) -> None:
    arrive()
    dest.files.place(units[1], UUID, MIGRATION)
    dest.at(units[1].path).rename(dest.at("/kept"))
    dest.write(units[1].path, "precious")
    dest.files.unplace(units[1], UUID, MIGRATION)
    assert dest.at(units[1].path).read_text() == "precious"
    assert "it was left as it is" in caplog.text


def test_what_was_placed_survives_the_removal_of_the_part_directory(
    dest: Any, units: list[Unit], arrive: Any
) -> None:
    arrive()
    dest.files.place(units[0], UUID, MIGRATION)
    dest.files.remove_parts(units, UUID, MIGRATION)
    assert dest.at(f"{INSTANCES}/web1/disk").exists()
    dest.files.unplace(units[0], UUID, MIGRATION)
    assert dest.at(f"{INSTANCES}/web1/disk").exists()


def test_what_the_guest_made_in_its_directory_goes_with_it(dest: Any, units: list[Unit], arrive: Any) -> None:
    arrive()
    dest.files.place(units[0], UUID, MIGRATION)
    dest.write(f"{INSTANCES}/web1/swap")
    dest.files.unplace(units[0], UUID, MIGRATION)
    dest.files.make_parts(units, UUID, MIGRATION)
    assert not dest.at(f"{INSTANCES}/web1").exists()
    dest.files.remove_parts(units, UUID, MIGRATION)
    assert not [name for name, entry in dest.tree().items() if entry[2]]


def test_what_the_system_refuses_is_a_sentence(
    dest: Any, units: list[Unit], arrive: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrive()

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(DestinationUnusable, match="No space left"):
        dest.files.place(units[0], UUID, MIGRATION)
