"""The source's side: nothing that is not the inspected unit is touched, and nothing is ever replaced."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hostler.errors import DestinationDiskExists, DiskNotFound, ForeignObject, MigrationError
from hostler.objects import Unit

INSTANCES = "/srv/vm"
MIGRATION = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
OTHER = "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb"

UNTOUCHED = (DestinationDiskExists, DiskNotFound, ForeignObject)


@pytest.fixture
def directory(source: Any, domain: Any) -> Unit:
    (unit,) = source.units(domain(source.write(f"{INSTANCES}/web1/disk")))
    return unit  # type: ignore[no-any-return]


@pytest.fixture
def file(source: Any, domain: Any) -> Unit:
    (unit,) = source.units(domain(source.write("/pool/web1.raw")))
    return unit  # type: ignore[no-any-return]


@pytest.fixture(params=["directory", "file"])
def unit(request: Any) -> Unit:
    return request.getfixturevalue(request.param)  # type: ignore[no-any-return]


def refuses(source: Any, call: Any, unit: Unit, *errors: type[Exception]) -> str:
    known = source.inodes()
    before = source.tree(known)
    with pytest.raises(errors) as caught:
        call(unit, MIGRATION)
    assert source.tree(known) == before
    return str(caught.value)


def test_the_names_that_operators_know(source: Any, directory: Unit, file: Unit) -> None:
    source.files.set_aside(directory, MIGRATION)
    source.files.set_aside(file, MIGRATION)
    assert source.files.aside(directory, MIGRATION) == f"{INSTANCES}/web1_resize"
    assert source.files.aside(file, MIGRATION) == f"/pool/web1.raw.{MIGRATION}_resize"
    marker = json.loads(source.at(f"{INSTANCES}/web1_resize/.hostler-migration").read_text())
    assert marker["migration"] == MIGRATION
    assert marker["what"] == "/srv/vm/web1, set aside"
    assert not source.at(directory.path).exists()
    assert not source.at(file.path).exists()


def test_asking_twice_is_asking_once(source: Any, unit: Unit) -> None:
    known = source.inodes()
    before = source.tree(known)
    for call in (source.files.put_back, source.files.set_aside, source.files.put_back):
        call(unit, MIGRATION)
        after = source.tree(known)
        call(unit, MIGRATION)
        assert source.tree(known) == after
    assert source.tree(known) == before
    source.files.set_aside(unit, MIGRATION)
    source.files.remove_aside(unit, MIGRATION)
    source.files.remove_aside(unit, MIGRATION)
    assert not [name for name, entry in source.tree().items() if entry[2]]


def test_another_file_under_the_inspected_name_is_left_alone(source: Any, unit: Unit) -> None:
    source.at(unit.path).rename(source.at("/elsewhere"))
    source.at(unit.path).mkdir() if unit.directory else source.write(unit.path)
    refuses(source, source.files.set_aside, unit, ForeignObject)


def test_what_was_not_inspected_is_not_carried_off_and_lost(source: Any, directory: Unit) -> None:
    new = source.write(f"{directory.path}/snapshot.qcow2")
    message = refuses(source, source.files.set_aside, directory, MigrationError)
    assert message.endswith("/srv/vm/web1 has changed since it was inspected: snapshot.qcow2 is new")
    source.at(new).unlink()
    source.at(f"{directory.path}/disk").unlink()
    assert refuses(source, source.files.set_aside, directory, MigrationError).endswith("disk is gone")
    source.files.put_back(directory, MIGRATION)


def test_a_link_under_the_inspected_name_is_left_alone(source: Any, unit: Unit) -> None:
    source.at(unit.path).rename(source.at("/elsewhere"))
    source.at(unit.path).symlink_to(source.at("/elsewhere"))
    refuses(source, source.files.set_aside, unit, ForeignObject)


def test_what_is_gone_is_said_to_be_gone(source: Any, unit: Unit) -> None:
    source.at(unit.path).rename(source.at("/elsewhere"))
    for call in (source.files.set_aside, source.files.put_back):
        assert unit.path in refuses(source, call, unit, DiskNotFound)


@pytest.mark.parametrize("obstacle", ["file", "directory", "link"])
def test_a_name_that_is_taken_is_never_replaced(source: Any, unit: Unit, obstacle: str) -> None:
    taken = source.at(source.files.aside(unit, MIGRATION))
    if obstacle == "file":
        taken.write_text("precious")
    elif obstacle == "directory":
        taken.mkdir()
    else:
        taken.symlink_to("/nowhere")
    refuses(source, source.files.set_aside, unit, DestinationDiskExists)
    known = source.inodes()
    before = source.tree(known)
    source.files.put_back(unit, MIGRATION)  # the undo of what was refused: nothing was done
    assert source.tree(known) == before


def test_both_names_taken_is_left_to_a_human(source: Any, unit: Unit) -> None:
    source.files.set_aside(unit, MIGRATION)
    source.at(unit.path).mkdir() if unit.directory else source.write(unit.path)
    refuses(source, source.files.set_aside, unit, ForeignObject)
    refuses(source, source.files.put_back, unit, DestinationDiskExists)


def test_what_another_migration_set_aside_is_left_alone(source: Any, directory: Unit) -> None:
    source.files.set_aside(directory, OTHER)
    refuses(source, source.files.set_aside, directory, ForeignObject)
    refuses(source, source.files.put_back, directory, DiskNotFound)
    refuses(source, source.files.remove_aside, directory, ForeignObject)


def test_the_mark_of_another_migration_is_respected(source: Any, directory: Unit) -> None:
    source.write(f"{directory.path}/.hostler-migration", json.dumps({"migration": OTHER, "what": "x"}))
    refuses(source, source.files.set_aside, directory, ForeignObject)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "null", '{"migration": 1}', "\0", '{"what": "x", "new": 1}']
)
def test_a_marker_that_cannot_be_read_is_not_ours(source: Any, directory: Unit, text: str) -> None:
    source.files.set_aside(directory, MIGRATION)
    source.at(f"{INSTANCES}/web1_resize/.hostler-migration").write_text(text)
    refuses(source, source.files.remove_aside, directory, ForeignObject)


def test_a_marker_that_is_a_link_is_not_read_nor_written_through(source: Any, directory: Unit) -> None:
    source.write("/precious", json.dumps({"migration": MIGRATION, "what": "x"}))
    source.at(f"{directory.path}/.hostler-migration").symlink_to(source.at("/precious"))
    refuses(source, source.files.set_aside, directory, ForeignObject)
    source.at(f"{directory.path}/.hostler-migration").unlink()
    source.at(f"{directory.path}/.hostler-migration.{MIGRATION}").symlink_to(source.at("/precious"))
    before = source.at("/precious").read_text()
    source.files.set_aside(directory, MIGRATION)
    assert source.at("/precious").read_text() == before


def test_removal_does_not_follow_links(source: Any, directory: Unit) -> None:
    source.write("/precious/file")
    source.files.set_aside(directory, MIGRATION)
    source.at(f"{INSTANCES}/web1_resize/link").symlink_to(source.at("/precious"))
    source.files.remove_aside(directory, MIGRATION)
    assert source.at("/precious/file").exists()
    assert not source.at(f"{INSTANCES}/web1_resize").exists()


def test_a_copy_of_what_was_set_aside_is_not_removed(source: Any, unit: Unit) -> None:
    source.files.set_aside(unit, MIGRATION)
    aside = source.files.aside(unit, MIGRATION)
    source.at(aside).rename(source.at("/kept"))
    if unit.directory:
        source.write(f"{aside}/.hostler-migration", json.dumps({"migration": MIGRATION, "what": "x"}))
    else:
        source.write(aside)
    refuses(source, source.files.remove_aside, unit, ForeignObject)


def test_shared_files_are_never_touched(source: Any, furnished: Any) -> None:
    shared = furnished(source)[-1]
    known = source.inodes()
    before = source.tree(known)
    for call in (source.files.set_aside, source.files.put_back, source.files.remove_aside):
        call(shared, MIGRATION)
    assert source.tree(known) == before
    assert source.files.aside(shared, MIGRATION) == "/isos/debian.iso"


def test_what_the_system_refuses_is_a_sentence(
    source: Any, unit: Unit, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(fd: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("os.fsync", broken)
    with pytest.raises(MigrationError, match="Input/output error"):
        source.files.set_aside(unit, MIGRATION)
