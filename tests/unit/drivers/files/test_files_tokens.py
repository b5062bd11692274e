"""Two hosts that have one directory find each other's tokens in it; nothing else is taken for that."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from typing import Any

import pytest

from hostler.drivers.files.marked import Marked, MarkKind
from hostler.errors import DestinationUnusable, MigrationError
from hostler.objects import Unit, UnitKind

UUID = "11111111-1111-4111-8111-111111111111"
MIGRATION = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
OTHER = "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb"
POOL = "/srv/vm"
NAME = f"{POOL}/.hostler-migration.{MIGRATION}"


@pytest.fixture
def shared(source: Any, dest: Any) -> None:
    """Both hosts have the same pool."""
    dest.at(POOL).rmdir()
    dest.at(POOL).symlink_to(source.at(POOL))


@pytest.mark.usefixtures("shared")
def test_each_host_reads_what_the_other_has_written(source: Any, dest: Any) -> None:
    offered = source.files.write_token(POOL, MIGRATION, "source")
    assert dest.files.token(POOL, MIGRATION, "source") == offered
    assert source.files.token(POOL, MIGRATION, "dest") is None
    answered = dest.files.write_token(POOL, MIGRATION, "dest")
    assert source.files.token(POOL, MIGRATION, "dest") == answered != offered
    assert len(bytes.fromhex(offered)) == len(bytes.fromhex(answered)) == 16
    assert {path.stat().st_mode & 0o777 for path in source.at(POOL).iterdir()} == {0o600}
    source.files.remove_token(POOL, MIGRATION, "source")
    dest.files.remove_token(POOL, MIGRATION, "dest")
    dest.files.remove_token(POOL, MIGRATION, "dest")
    assert list(source.at(POOL).iterdir()) == []


def test_a_directory_of_the_same_name_holds_no_token(source: Any, dest: Any) -> None:
    source.files.write_token(POOL, MIGRATION, "source")
    assert dest.files.token(POOL, MIGRATION, "source") is None
    dest.at(POOL).rmdir()
    assert dest.files.token(POOL, MIGRATION, "source") is None
    with pytest.raises(DestinationUnusable):
        dest.files.write_token(POOL, MIGRATION, "dest")


@pytest.mark.usefixtures("shared")
def test_another_migrations_token_and_an_earlier_one_prove_nothing(source: Any, dest: Any) -> None:
    source.files.write_token(POOL, OTHER, "source")
    assert dest.files.token(POOL, MIGRATION, "source") is None
    earlier = source.files.write_token(POOL, MIGRATION, "source")
    again = source.files.write_token(POOL, MIGRATION, "source")
    assert dest.files.token(POOL, MIGRATION, "source") == again != earlier


@pytest.mark.parametrize("forged", ["text", "long", "link", "directory", "pipe"])
def test_what_is_no_token_is_not_taken_for_one(source: Any, dest: Any, forged: str) -> None:
    """Nor is anything waited for, or read without end."""
    token = source.files.write_token(POOL, MIGRATION, "source")
    file = dest.at(f"{NAME}.source")
    match forged:
        case "text":
            file.write_text("\N{SNOWMAN}")
        case "long":
            file.write_text(token + "0" * 100_000)
        case "link":
            file.symlink_to(source.at(f"{NAME}.source"))
        case "directory":
            file.mkdir()
        case "pipe":
            os.mkfifo(file)
    try:
        assert dest.files.token(POOL, MIGRATION, "source") != token
    except DestinationUnusable as error:
        assert forged == "link", error  # said, not followed


def test_a_source_that_cannot_write_says_where(source: Any) -> None:
    with pytest.raises(MigrationError, match="/nowhere"):
        source.files.write_token("/nowhere", MIGRATION, "source")


def test_whoever_dies_leaves_nothing_but_what_is_found_by_its_name(knife: Any, new_host: Any) -> None:
    number = 0
    while True:
        number += 1
        host = new_host()
        before = host.tree()
        killed = knife.each(lambda host=host: host.files.write_token(POOL, MIGRATION, "source"), number)
        found = host.files.marked([])
        assert {one.path for one in found} == {f"{POOL}/{path.name}" for path in host.at(POOL).iterdir()}
        if not killed:
            break
        host.files.remove_token(POOL, MIGRATION, "source")
        assert host.tree() == before
    assert number > 4
    assert found == [Marked(f"{NAME}.source", MarkKind.PROOF, MIGRATION)]
    host.files.remove_marked(found[0], [])
    assert host.files.marked([]) == []


# -- what stays in place ------------------------------------------------------------------------------------


@pytest.fixture
def units(source: Any, furnished: Callable[[Any], list[Unit]]) -> list[Unit]:
    return [dataclasses.replace(unit, kind=UnitKind.IN_PLACE) for unit in furnished(source)]


def test_what_stays_in_place_is_left_alone_by_everything(source: Any, units: list[Unit]) -> None:
    known = source.inodes()
    before = source.tree(known)
    assert source.problems(units) == []
    assert source.files.missing(units) == []
    source.files.make_parts(units, UUID, MIGRATION)
    for unit in units:
        assert source.files.aside(unit, MIGRATION) == unit.path
        source.files.set_aside(unit, MIGRATION)
        source.files.unplace(unit, UUID, MIGRATION)
        source.files.put_back(unit, MIGRATION)
        source.files.remove_aside(unit, MIGRATION)
    source.files.settle(units, UUID, MIGRATION)
    source.files.remove_parts(units, UUID, MIGRATION)
    assert source.files.absent(units) == []
    assert source.files.way_back_problems(units, MIGRATION, source.digest) == []
    assert source.tree(known) == before


def test_what_should_stay_must_be_the_sources_very_file(source: Any, dest: Any, units: list[Unit]) -> None:
    for directory in ("/pool", f"{POOL}/web1"):
        dest.at(directory).mkdir()
    dest.write("/pool/web1-data.raw")
    problems = dest.problems([unit for unit in units if unit.path in ("/pool/web1-data.raw", f"{POOL}/web1")])
    assert [problem.partition(":")[0] for problem in problems] == [
        f"{POOL}/web1 is not the source's here, although its directory is",
        "/pool/web1-data.raw is not the source's here, although its directory is",
    ]
    nvram = next(unit for unit in units if unit.path.endswith(".fd"))
    (problem,) = dest.problems([nvram])
    assert problem == f"{nvram.path} is not here, although its directory is the source's"


def test_what_is_gone_does_not_go_back(source: Any, units: list[Unit]) -> None:
    source.at("/pool/web1-data.raw").unlink()
    problems = source.files.way_back_problems(units, MIGRATION, source.digest)
    assert problems == ["/pool/web1-data.raw is not there"]
