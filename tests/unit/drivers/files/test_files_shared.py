"""A shared file belongs to the host: a migration takes out only what it brought and nobody uses."""

from __future__ import annotations

from typing import Any

import pytest

from hostler.drivers.files.local import LocalFiles
from hostler.errors import DestinationDiskExists, SharedFileArriving
from hostler.objects import Disk, Unit

UUID = "11111111-1111-4111-8111-111111111111"
MIGRATION = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
WEB2 = "22222222-2222-4222-8222-222222222222"
OTHER = "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb"
ISO = "/isos/debian.iso"


@pytest.fixture
def units(source: Any, dest: Any, domain: Any) -> list[Unit]:
    dest.at("/isos").mkdir()
    return source.units(domain(Disk("sda", source.write(ISO), "raw", device="cdrom")))  # type: ignore[no-any-return]


def bring(source: Any, dest: Any, units: list[Unit]) -> None:
    dest.files.make_parts(units, UUID, MIGRATION)
    dest.receive(units, source)
    dest.files.place(units[0], UUID, MIGRATION)


def test_the_one_that_brought_it_takes_it_out(source: Any, dest: Any, units: list[Unit]) -> None:
    before = dest.tree()
    bring(source, dest, units)
    assert dest.at(ISO).exists()
    dest.files.unplace(units[0], UUID, MIGRATION)
    dest.files.remove_parts(units, UUID, MIGRATION)
    assert dest.tree() == before


def test_one_that_a_server_uses_stays(source: Any, dest: Any, units: list[Unit]) -> None:
    bring(source, dest, units)
    dest.used.add(ISO)
    dest.files.unplace(units[0], UUID, MIGRATION)
    dest.files.remove_parts(units, UUID, MIGRATION)
    assert dest.at(ISO).exists()


def test_without_an_answer_it_is_taken_for_used(source: Any, dest: Any, units: list[Unit]) -> None:
    bring(source, dest, units)
    LocalFiles("/srv/vm", str(dest.root)).unplace(units[0], UUID, MIGRATION)
    assert dest.at(ISO).exists()


def test_one_that_another_migration_relies_on_stays(source: Any, dest: Any, units: list[Unit]) -> None:
    bring(source, dest, units)
    dest.files.make_parts(units, WEB2, OTHER)
    assert dest.files.missing(units) == []
    dest.files.place(units[0], WEB2, OTHER)
    dest.files.unplace(units[0], UUID, MIGRATION)
    dest.files.remove_parts(units, UUID, MIGRATION)
    assert dest.at(ISO).exists()
    dest.files.unplace(units[0], WEB2, OTHER)
    dest.files.remove_parts(units, WEB2, OTHER)
    assert dest.at(ISO).exists()


def test_one_that_was_there_is_not_taken_out(dest: Any, units: list[Unit]) -> None:
    dest.write(ISO)
    before = dest.tree()
    dest.files.make_parts(units, UUID, MIGRATION)
    dest.files.place(units[0], UUID, MIGRATION)
    dest.files.unplace(units[0], UUID, MIGRATION)
    dest.files.remove_parts(units, UUID, MIGRATION)
    assert dest.tree() == before


def test_two_that_bring_the_same_file_share_the_first(source: Any, dest: Any, units: list[Unit]) -> None:
    dest.files.make_parts(units, UUID, MIGRATION)
    dest.receive(units, source)
    dest.files.make_parts(units, WEB2, OTHER, over=[MIGRATION])
    part = dest.part(units[0], OTHER, WEB2)
    part.write_text(f"contents of {ISO}")
    dest.files.place(units[0], UUID, MIGRATION)
    inode = dest.at(ISO).stat().st_ino
    dest.files.place(units[0], WEB2, OTHER)
    dest.files.place(units[0], WEB2, OTHER)
    assert dest.at(ISO).stat().st_ino == inode
    assert not part.exists()
    dest.files.unplace(units[0], UUID, MIGRATION)
    assert dest.at(ISO).exists()
    dest.files.unplace(units[0], WEB2, OTHER)
    assert dest.at(ISO).exists()


def test_one_that_another_migration_receives_is_waited_for_until_it_is_there(
    source: Any, dest: Any, units: list[Unit]
) -> None:
    assert dest.files.make_parts(units, UUID, MIGRATION) == units
    dest.receive(units, source)
    with pytest.raises(SharedFileArriving, match=MIGRATION):
        dest.files.make_parts(units, WEB2, OTHER)
    dest.files.place(units[0], UUID, MIGRATION)
    assert dest.files.make_parts(units, WEB2, OTHER) == []


def test_one_that_was_taken_away_by_hand_is_received_anew(source: Any, dest: Any, units: list[Unit]) -> None:
    bring(source, dest, units)
    dest.at(ISO).unlink()
    assert dest.files.make_parts(units, WEB2, OTHER) == units


def test_two_that_need_two_in_two_orders_never_wait_for_each_other(
    source: Any, new_host: Any, domain: Any, knife: Any
) -> None:
    disks = [
        Disk(f"sd{letter}", source.write(f"/{letter}s/one.iso"), "raw", device="cdrom") for letter in "ab"
    ]
    forth, back = source.units(domain(*disks)), source.units(domain(*reversed(disks)))
    assert [unit.path for unit in forth] == [unit.path for unit in reversed(back)]

    def received(dest: Any, units: list[Unit], instance: str, migration: str) -> list[Unit] | None:
        try:
            return dest.files.make_parts(units, instance, migration)  # type: ignore[no-any-return]
        except SharedFileArriving:
            return None

    number, going = 0, True
    while going:
        number += 1
        dest = new_host()
        for directory in ("/as", "/bs"):
            dest.at(directory).mkdir()
        going = knife.each(lambda dest=dest: dest.files.make_parts(forth, UUID, MIGRATION), number)
        theirs = received(dest, back, WEB2, OTHER)
        ours = received(dest, forth, UUID, MIGRATION)
        assert (ours, theirs) in [(forth, None), (None, back)]
    assert number > 20


def test_two_that_bring_different_files_of_one_name_collide(
    source: Any, dest: Any, units: list[Unit]
) -> None:
    dest.files.make_parts(units, UUID, MIGRATION)
    dest.receive(units, source)
    dest.write(ISO, "something else")
    with pytest.raises(DestinationDiskExists):
        dest.files.place(units[0], UUID, MIGRATION)
    dest.files.unplace(units[0], UUID, MIGRATION)
    assert dest.at(ISO).read_text() == "something else"


def test_dropping_ours_for_theirs_is_repeated_from_anywhere(
    source: Any, new_host: Any, units: list[Unit], knife: Any
) -> None:
    number, going = 0, True
    while going:
        number += 1
        dest = new_host()
        dest.at("/isos").mkdir()
        dest.files.make_parts(units, UUID, MIGRATION)
        dest.receive(units, source)
        inode = dest.at(dest.write(ISO)).stat().st_ino
        going = knife.each(lambda dest=dest: dest.files.place(units[0], UUID, MIGRATION), number)
        dest.files.place(units[0], UUID, MIGRATION)
        assert dest.at(ISO).stat().st_ino == inode
        assert not dest.part(units[0]).exists()
    assert number > 5
