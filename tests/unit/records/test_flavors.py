"""Flavors: what may be one, who is using one, and what a server may have."""

from __future__ import annotations

import pytest

from hostler import objects
from hostler.errors import (
    CannotResizeDisk,
    CannotResizeToSameFlavor,
    FlavorExists,
    FlavorInUse,
    FlavorNotFound,
    InvalidFlavor,
)
from hostler.records import flavors
from hostler.records.database import Database
from tests.records_made import make_host, make_instance, make_migration

SIZES = {"vcpus": 2, "memory_mb": 2048, "root_gb": 20, "ephemeral_gb": 0, "swap_mb": 512}


def create(database: Database, name: str = "large", **sizes: int) -> str:
    with database.transaction() as session:
        return flavors.create(session, name, **(SIZES | sizes)).id


@pytest.mark.parametrize(
    ("name", "sizes", "words"),
    [
        ("large", {"vcpus": 0}, "vcpus must be from 1"),
        ("large", {"memory_mb": 0}, "ram must be from 1"),
        ("large", {"root_gb": -1}, "disk must be from 0"),
        ("large", {"swap_mb": 1 << 31}, "to 2147483647, not 2147483648"),
        ("", {}, "1 to 255 printable letters"),
        ("x" * 256, {}, "1 to 255 printable letters"),
        ("-rf", {}, "no dash"),
        ("a\x1b[2J", {}, "printable"),
        ("a\0b", {}, "printable"),
    ],
)
def test_a_size_that_no_server_can_have_is_refused(
    database: Database, name: str, sizes: dict[str, int], words: str
) -> None:
    with pytest.raises(InvalidFlavor, match=words) as refused:
        create(database, name, **sizes)
    assert refused.value.hint == "hostler flavor create --help"


def test_a_name_is_given_once(database: Database) -> None:
    create(database)
    with pytest.raises(FlavorExists):
        create(database, vcpus=3)
    with database.reading() as session:
        assert [one.vcpus for one in flavors.all_flavors(session)] == [2]


def test_a_flavor_is_found_by_name_and_by_id(database: Database) -> None:
    number = create(database)
    with database.reading() as session:
        assert flavors.find(session, "large").id == flavors.find(session, number).id == number
        for unknown in ("Large", "larg", "a\0b", "\udcff"):
            with pytest.raises(FlavorNotFound):
                flavors.find(session, unknown)


def test_what_is_used_is_not_removed(database: Database) -> None:
    number = create(database)
    with database.transaction() as session:
        make_host(session)
        server = make_instance(session, flavor_id=number)
        other = make_instance(session, name="web2")
        remembered = {"new_flavor": {"id": "another"}, "old_flavor": {"id": number}}
        waiting = make_migration(session, other, phase="closed", status="finished", **remembered)
        make_migration(session, other, phase="closed", status="confirmed", **remembered)
    with database.transaction() as session, pytest.raises(FlavorInUse) as refused:
        flavors.remove(session, "large")
    assert str(refused.value) == f"flavor 'large' is used by 1 server and migration {waiting}"
    with database.transaction() as session:
        session.get_one(flavors.Instance, server).flavor_id = None
        session.get_one(flavors.Migration, waiting).status = "confirmed"
    with database.transaction() as session:
        flavors.remove(session, "large")
    with database.reading() as session:
        assert flavors.all_flavors(session) == []


def test_a_server_without_a_flavor_has_a_size_all_the_same(database: Database) -> None:
    number = create(database)
    with database.transaction() as session:
        make_host(session)
        plain, named = make_instance(session), make_instance(session, name="web2", flavor_id=number, vcpus=7)
    with database.reading() as session:
        assert flavors.of_server(session, session.get_one(flavors.Instance, plain)) == objects.Flavor(1, 1024)
        # what somebody changed with virsh is what it has
        found = flavors.of_server(session, session.get_one(flavors.Instance, named))
        assert (found.name, found.vcpus, found.root_gb) == ("large", 7, 20)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({}, CannotResizeToSameFlavor),
        ({"root_gb": 19}, CannotResizeDisk),
        ({"ephemeral_gb": 4}, CannotResizeDisk),
        ({"root_gb": 0, "swap_mb": 1}, None),
        ({"vcpus": 1, "memory_mb": 1}, None),
    ],
)
def test_no_disk_shrinks(changes: dict[str, int], error: type[Exception] | None) -> None:
    old = objects.Flavor(**(SIZES | {"ephemeral_gb": 5}), id="1", name="old")
    new = objects.Flavor(**(SIZES | {"ephemeral_gb": 5} | changes), id="1", name="old")
    if error is None:
        flavors.refuse_unfit("web1", old, new)
        return
    with pytest.raises(error):
        flavors.refuse_unfit("web1", old, new)
