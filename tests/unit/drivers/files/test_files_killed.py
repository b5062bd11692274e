"""hostler dies between any two actions on the disk: repeating the call, or undoing it, works from there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

UUID = "11111111-1111-4111-8111-111111111111"
MIGRATION = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"

Step = Callable[[Any, list[Any]], None]


def set_aside(host: Any, units: list[Any]) -> None:
    for unit in units:
        host.files.set_aside(unit, MIGRATION)


def put_back(host: Any, units: list[Any]) -> None:
    for unit in reversed(units):
        host.files.put_back(unit, MIGRATION)


def remove_aside(host: Any, units: list[Any]) -> None:
    for unit in units:
        host.files.remove_aside(unit, MIGRATION)


def make_parts(host: Any, units: list[Any]) -> None:
    host.files.make_parts(units, UUID, MIGRATION)


def remove_parts(host: Any, units: list[Any]) -> None:
    host.files.remove_parts(units, UUID, MIGRATION)


def settle(host: Any, units: list[Any]) -> None:
    host.files.settle(units, UUID, MIGRATION)


def place(host: Any, units: list[Any]) -> None:
    for unit in units:
        host.files.place(unit, UUID, MIGRATION)


def unplace(host: Any, units: list[Any]) -> None:
    for unit in reversed(units):
        host.files.unplace(unit, UUID, MIGRATION)


def undo_arrival(host: Any, units: list[Any]) -> None:
    unplace(host, units)
    remove_parts(host, units)


def compare_everywhere(
    knife: Any, prepare: Callable[[], tuple[Any, list[Any]]], operation: Step, then: Step
) -> int:
    """Kill *operation* before each of its actions; *then* must lead to where it leads without a kill."""
    host, units = prepare()
    known = host.inodes()
    operation(host, units)
    then(host, units)
    expected = host.tree(known)
    number = 0
    while True:
        number += 1
        host, units = prepare()
        known = host.inodes()
        if not knife.each(lambda host=host, units=units: operation(host, units), number):
            return number - 1
        then(host, units)
        got = host.tree(known)
        assert {name: entry for name, entry in got.items() if "hostler-migration" not in name} == {
            name: entry for name, entry in expected.items() if "hostler-migration" not in name
        }, f"killed before action {number}"
        assert got.keys() == expected.keys(), f"killed before action {number}"


@pytest.fixture
def at_home(new_host: Any, furnished: Any) -> Callable[[], tuple[Any, list[Any]]]:
    def prepare() -> tuple[Any, list[Any]]:
        host = new_host()
        return host, furnished(host)

    return prepare


@pytest.fixture
def apart(at_home: Any) -> Callable[[], tuple[Any, list[Any]]]:
    def prepare() -> tuple[Any, list[Any]]:
        host, units = at_home()
        set_aside(host, units)
        return host, units

    return prepare


@pytest.fixture
def empty(new_host: Any, furnished: Any) -> Callable[[], tuple[Any, list[Any]]]:
    units = furnished(new_host())

    def prepare() -> tuple[Any, list[Any]]:
        host = new_host()
        for directory in ("/pool", "/isos"):
            host.at(directory).mkdir()
        return host, units

    return prepare


@pytest.fixture
def arrived(new_host: Any, furnished: Any) -> Callable[[], tuple[Any, list[Any]]]:
    source = new_host()
    units = furnished(source)
    set_aside(source, units)

    def prepare() -> tuple[Any, list[Any]]:
        host = new_host()
        for directory in ("/pool", "/isos"):
            host.at(directory).mkdir()
        make_parts(host, units)
        host.receive(units, source)
        return host, units

    return prepare


@pytest.fixture
def placed(arrived: Any) -> Callable[[], tuple[Any, list[Any]]]:
    def prepare() -> tuple[Any, list[Any]]:
        host, units = arrived()
        place(host, units)
        return host, units

    return prepare


@pytest.fixture(params=["renameat2", "link and unlink"])
def either_rename(request: Any) -> None:
    if request.param != "renameat2":
        request.getfixturevalue("without_noreplace")


@pytest.fixture(autouse=True)
def fast_disks(monkeypatch: Any) -> None:
    """A killed process loses nothing by it: only a power cut does."""
    monkeypatch.setattr("os.fsync", lambda fd: None)


pytestmark = pytest.mark.usefixtures("either_rename")


@pytest.mark.parametrize("then", [set_aside, put_back])
def test_set_aside_is_repeated_or_undone_from_anywhere(knife: Any, at_home: Any, then: Step) -> None:
    assert compare_everywhere(knife, at_home, set_aside, then) > 12


@pytest.mark.parametrize("then", [put_back, set_aside])
def test_put_back_is_repeated_or_undone_from_anywhere(knife: Any, apart: Any, then: Step) -> None:
    assert compare_everywhere(knife, apart, put_back, then) > 10


def test_put_back_leaves_the_tree_as_it_was_found(knife: Any, at_home: Any) -> None:
    host, units = at_home()
    known = host.inodes()
    before = host.tree(known)
    set_aside(host, units)
    put_back(host, units)
    assert host.tree(known) == before


def test_remove_aside_is_repeated_from_anywhere(knife: Any, apart: Any) -> None:
    assert compare_everywhere(knife, apart, remove_aside, remove_aside) > 12
    host, units = apart()
    remove_aside(host, units)
    left = [name for name, entry in host.tree().items() if entry[2]]
    assert left == ["isos/debian.iso"]


@pytest.mark.parametrize("then", [make_parts, remove_parts])
def test_make_parts_is_repeated_or_undone_from_anywhere(knife: Any, empty: Any, then: Step) -> None:
    assert compare_everywhere(knife, empty, make_parts, then) > 20
    host, units = empty()
    before = host.tree()
    make_parts(host, units)
    remove_parts(host, units)
    assert host.tree() == before


@pytest.mark.parametrize("then", [place, undo_arrival])
def test_place_is_repeated_or_undone_from_anywhere(knife: Any, arrived: Any, then: Step) -> None:
    assert compare_everywhere(knife, arrived, place, then) > 40


def test_undoing_an_arrival_leaves_nothing_of_it(empty: Any, arrived: Any) -> None:
    before = empty()[0].tree()
    host, units = arrived()
    place(host, units)
    undo_arrival(host, units)
    assert host.tree() == before


def test_an_undo_that_is_killed_too_is_undone_from_anywhere(knife: Any, at_home: Any) -> None:
    host, units = at_home()
    known = host.inodes()
    before = host.tree(known)
    first = 0
    going = True
    while going:
        first += 1
        going = knife.each(lambda: set_aside(host, units), first)
        second = 0
        while knife.each(lambda: put_back(host, units), second + 1):
            second += 1
            knife.each(lambda: set_aside(host, units), first)
        put_back(host, units)
        assert host.tree(known) == before, f"killed before {first} and {second}"


@pytest.mark.parametrize("then", [unplace, undo_arrival, place])
def test_unplace_is_repeated_or_undone_from_anywhere(knife: Any, placed: Any, then: Step) -> None:
    assert compare_everywhere(knife, placed, unplace, then) > 10


@pytest.mark.parametrize("then", [remove_parts])
def test_remove_parts_is_repeated_from_anywhere(knife: Any, arrived: Any, then: Step) -> None:
    assert compare_everywhere(knife, arrived, remove_parts, then) > 20


def test_settling_is_repeated_from_anywhere_and_leaves_the_server(knife: Any, placed: Any) -> None:
    assert compare_everywhere(knife, placed, settle, settle) > 20
    host, units = placed()
    settle(host, units)
    names = list(host.tree())
    assert not [name for name in names if ".part" in name or ".made" in name or "hostler-migration" in name]
    assert "srv/vm/web1/log/console.log" in names
