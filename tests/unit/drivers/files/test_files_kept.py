"""What an undo leaves on the destination, for whom, and until when."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import pytest

from hostler.drivers.files import space
from hostler.drivers.files.marked import MarkKind

from .conftest import INSTANCES, MIGRATION, UUID, FakeHost, Knife, make_domain

LATER = "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb"
KEPT = f"{INSTANCES}/{UUID}.{MIGRATION}.kept"


def keeping(host: FakeHost, seconds: float = 3600) -> FakeHost:
    host.files._kept.lasts_s = seconds
    return host


def disk_in(host: FakeHost) -> str:
    return host.image(f"{INSTANCES}/{UUID}/disk.qcow2")


def arrived(source: FakeHost, dest: FakeHost) -> list[Any]:
    """A server's directory, of which all has arrived."""
    path = disk_in(source)
    source.write(f"{INSTANCES}/{UUID}/console.log")
    units = source.units(make_domain(path))
    for unit in units:
        source.files.set_aside(unit, MIGRATION)
    dest.files.make_parts(units, UUID, MIGRATION)
    dest.receive(units, source)
    return units


def undo(host: FakeHost, units: list[Any], migration: str = MIGRATION) -> None:
    host.files.keep_parts(units, UUID, migration)
    host.files.remove_parts(units, UUID, migration)


def try_again(host: FakeHost, units: list[Any]) -> list[str]:
    host.files.make_parts(units, UUID, LATER)
    return host.files.take_up(units, UUID, LATER)


def test_an_undo_leaves_the_images_and_nothing_else(source: FakeHost, dest: FakeHost) -> None:
    units = arrived(source, keeping(dest))
    undo(dest, units)
    names = {path.name for path in dest.at(INSTANCES).rglob("*") if path.is_file()}
    assert names == {".hostler-migration", "disk.qcow2"}
    assert [one.directories for one in dest.files.kept()] == [[KEPT]]
    assert dest.files.marked([]) == []
    assert dest.problems(units, LATER) == []


def test_without_the_setting_nothing_is_left(source: FakeHost, dest: FakeHost) -> None:
    before = dest.tree()
    undo(dest, arrived(source, dest))
    assert dest.tree() == before


def test_the_next_attempt_begins_with_it(source: FakeHost, dest: FakeHost) -> None:
    units = arrived(source, keeping(dest))
    undo(dest, units)
    inode = (dest.at(KEPT) / UUID / "disk.qcow2").stat().st_ino
    assert try_again(dest, units) == [KEPT]
    assert (dest.part(units[0], LATER) / "disk.qcow2").stat().st_ino == inode
    assert dest.files.kept() == []
    assert not dest.at(KEPT).exists()


def test_a_copy_made_beforehand_is_taken_and_the_rest_of_it_left(source: FakeHost, dest: FakeHost) -> None:
    disk_in(source)
    units = source.units(make_domain(f"{INSTANCES}/{UUID}/disk.qcow2"))
    dest.image(f"{INSTANCES}/{UUID}.copy/{UUID}/disk.qcow2")
    dest.write(f"{INSTANCES}/{UUID}.copy/notes")
    assert try_again(dest, units) == [f"{INSTANCES}/{UUID}.copy"]
    assert (dest.part(units[0], LATER) / "disk.qcow2").exists()
    assert dest.at(f"{INSTANCES}/{UUID}.copy/notes").exists()


@pytest.mark.parametrize("how", ["symlink", "hard link", "linked directory"])
def test_a_link_is_no_copy(source: FakeHost, dest: FakeHost, how: str) -> None:
    """Somebody's file under another name would be written to."""
    disk_in(source)
    units = source.units(make_domain(f"{INSTANCES}/{UUID}/disk.qcow2"))
    other = dest.at(dest.image(f"{INSTANCES}/other/disk.qcow2"))
    home = dest.at(f"{INSTANCES}/{UUID}.copy")
    home.mkdir()
    if how == "linked directory":
        (home / UUID).symlink_to(other.parent)
    else:
        (home / UUID).mkdir()
        name = home / UUID / "disk.qcow2"
        name.symlink_to(other) if how == "symlink" else name.hardlink_to(other)
    assert try_again(dest, units) == []
    assert other.exists()


def test_it_goes_when_its_time_is_over(source: FakeHost, dest: FakeHost) -> None:
    before = dest.tree()
    undo(keeping(dest), arrived(source, dest))
    assert dest.files.drop_kept(lambda _: False) == []
    keeping(dest, 0)
    (mark,) = dest.files.marked([])
    assert (mark.kind, mark.path, mark.proven) == (MarkKind.KEPT, KEPT, True)
    assert [one.instance for one in dest.files.drop_kept(lambda _: False)] == [UUID]
    assert {name: entry for name, entry in dest.tree().items() if "hostler" not in name} == before


def test_the_doctor_can_remove_it(source: FakeHost, dest: FakeHost) -> None:
    undo(keeping(dest), arrived(source, dest))
    keeping(dest, 0)
    (mark,) = dest.files.marked([])
    dest.files.remove_marked(mark, [])
    assert dest.files.marked([]) == []
    assert len(dest.files.drop_kept(lambda _: False)) == 1
    assert dest.files.kept() == []


def test_it_is_given_up_where_its_room_is_wanted(
    source: FakeHost, dest: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    units = arrived(source, keeping(dest))
    undo(dest, units)
    missing = space.needed(units)[INSTANCES] - 1
    monkeypatch.setattr(space, "free", lambda _: missing if dest.at(KEPT).exists() else 1 << 30)
    assert dest.files.space_problems(units, {}) == []
    assert dest.files.kept() == []


def test_it_stays_where_giving_it_up_would_not_be_enough(
    source: FakeHost, dest: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    units = arrived(source, keeping(dest))
    undo(dest, units)
    monkeypatch.setattr(space, "free", lambda _: -(1 << 30))
    assert len(dest.files.space_problems(units, {})) == 1
    assert len(dest.files.kept()) == 1


def test_what_is_not_ours_is_left_whatever_its_name(source: FakeHost, dest: FakeHost) -> None:
    undo(keeping(dest, 3600), arrived(source, dest))
    (dest.at(KEPT) / ".hostler-migration").unlink()
    keeping(dest, 0)
    dest.files.drop_kept(lambda _: False)
    assert (dest.at(KEPT) / UUID / "disk.qcow2").exists()


Operation = Callable[[FakeHost, list[Any]], object]


@pytest.mark.parametrize("operation", [undo, try_again], ids=["keep", "take up"])
def test_killed_anywhere_and_repeated_it_ends_as_if_never_killed(
    new_host: Callable[[], FakeHost], knife: Knife, operation: Operation
) -> None:
    def prepared() -> tuple[FakeHost, list[Any]]:
        host = keeping(new_host())
        units = arrived(new_host(), host)
        if operation is try_again:
            undo(host, units)
        return host, units

    def end(host: FakeHost) -> set[str]:
        return set(host.tree())

    host, units = prepared()
    operation(host, units)
    expected, number = end(host), 1
    host, units = prepared()
    while knife.each(lambda: operation(host, units), number):  # noqa: B023 - it is called at once
        operation(host, units)
        assert end(host) == expected, f"killed before action {number}"
        shutil.rmtree(host.root)
        number += 1
        host, units = prepared()
    assert number > 5
