"""``hostler quota``, ``server lock|unlock|set`` and ``host disable|enable``, as an operator types them."""

from __future__ import annotations

import getpass
import json

import pytest

from hostler.records.models import Host, Instance, Reservation
from tests.unit.cli.cli_world import MIGRATION, SERVER, Hostler, World

GIB = 1 << 30
ME = getpass.getuser()


def shown(hostler: Hostler, *words: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(hostler(*words, "-f", "json").out)
    return found


def quota(hostler: Hostler, *project: str) -> dict[str, tuple[object, ...]]:
    """Used, reserved and limit of each resource."""
    rows = json.loads(hostler("quota", "show", *project, "-f", "json").out)
    return {row["Resource"]: (row["Used"], row["Reserved"], row["Limit"]) for row in rows}


# -- quotas -----------------------------------------------------------------------------------------------


def test_a_quota_is_shown_with_what_is_used_and_reserved(world: World, hostler: Hostler) -> None:
    world.add_server(project_id="red", vcpus=2, disk_bytes=GIB + 1)
    with world.database.transaction() as session:
        facts = {"instances": 0, "cores": 3, "ram": -64, "disk": 0}
        session.add(Reservation(migration_uuid=MIGRATION, project_id="red", **facts))
    assert hostler("quota", "set", "red", "--cores", "8", "--disk", "5").code == 0
    assert quota(hostler, "red") == {
        "instances": (1, 0, None),
        "cores": (2, 3, 8),
        "ram": (512, 0, None),
        "disk": (2, 0, 5),
    }
    assert "unlimited" in hostler("quota", "show", "red").out


def test_the_default_project_has_a_quota_even_without_a_server(world: World, hostler: Hostler) -> None:
    assert quota(hostler)["instances"] == (0, 0, None)


def test_a_project_that_has_nothing_is_refused(world: World, hostler: Hostler) -> None:
    ran = hostler("quota", "show", "rde")
    assert (ran.code, ran.out) == (3, "")
    assert ran.err == (
        "hostler: no server and no quota belongs to a project 'rde'\n  try: hostler quota list\n"
    )


def test_the_list_has_every_project(world: World, hostler: Hostler) -> None:
    world.add_server(project_id="red\x1b[2J")
    hostler("quota", "set", "blue", "--instances", "0")
    rows = json.loads(hostler("quota", "list", "-f", "json").out)
    assert [(row["Project"], row["Limit"]) for row in rows if row["Resource"] == "instances"] == [
        ("blue", 0),
        ("red\x1b[2J", None),
    ]
    assert "\x1b" not in hostler("quota", "list").out


def test_a_limit_below_what_is_used_is_refused_unless_forced(world: World, hostler: Hostler) -> None:
    world.add_server(project_id="red", vcpus=2)
    ran = hostler("quota", "set", "red", "--cores", "1", "--ram", "4096")
    assert (ran.code, ran.out) == (3, "")
    assert "2 vCPUs of cores are used, and the limit would be 1" in ran.err
    assert "--force" in ran.err
    assert quota(hostler, "red")["ram"][2] is None
    assert hostler("quota", "set", "red", "--cores", "1", "--force").code == 0
    assert quota(hostler, "red")["cores"] == (2, 0, 1)
    assert hostler("quota", "set", "red", "--cores", "unlimited").code == 0
    assert quota(hostler, "red")["cores"] == (2, 0, None)


@pytest.mark.parametrize(
    "words",
    [
        ("red",),
        ("red", "--force"),
        ("red", "--cores", "-1"),
        ("red", "--cores", "1.5"),
        ("red", "--disk", "99999999999999"),
        ("red", "--ram", "many"),
        ("", "--ram", "1"),
        ("x" * 256, "--ram", "1"),
        ("red\udcff", "--ram", "1"),
        ("--cores", "1"),
    ],
)
def test_a_quota_that_makes_no_sense_is_a_usage_error(
    world: World, hostler: Hostler, words: tuple[str, ...]
) -> None:
    assert hostler("quota", "set", *words).code == 2
    assert json.loads(hostler("quota", "list", "-f", "json").out) == []


# -- projects ---------------------------------------------------------------------------------------------


def test_a_server_moves_to_another_project_if_that_has_room(world: World, hostler: Hostler) -> None:
    world.add_server()
    hostler("quota", "set", "blue", "--ram", "256")
    ran = hostler("server", "set", "web1", "--project", "blue")
    assert (ran.code, ran.out) == (3, "")
    assert "512 MiB more needed, 0 of 256 used" in ran.err
    assert "  try: hostler quota show blue" in ran.err
    assert shown(hostler, "server", "show", "web1")["project"] == "default"
    assert hostler("server", "set", "web1", "--project", "red").out == "server web1 belongs to project red\n"
    assert shown(hostler, "server", "show", "web1")["project"] == "red"


def test_a_server_that_moves_keeps_its_project(world: World, hostler: Hostler) -> None:
    world.add_server()
    world.add_migration()
    ran = hostler("server", "set", "web1", "--project", "red")
    assert ran.code == 3
    assert f"hostler migration watch {MIGRATION}" in ran.err


# -- locks ------------------------------------------------------------------------------------------------


def test_a_lock_tells_who_why_and_when_until_it_is_lifted(world: World, hostler: Hostler) -> None:
    world.add_server()
    ran = hostler("server", "lock", "web1", "--reason", "under investigation")
    assert (ran.code, ran.out) == (0, "server web1 is locked\n  until: hostler server unlock web1\n")
    facts = shown(hostler, "server", "show", "web1")
    assert (facts["locked_reason"], facts["locked_by"]) == ("under investigation", ME)
    assert str(facts["locked_at"]).startswith("20")
    (row,) = json.loads(hostler("server", "list", "-f", "json").out)
    assert row["Locked"] == "under investigation"
    for _ in range(2):
        assert hostler("server", "unlock", "web1").code == 0
    facts = shown(hostler, "server", "show", "web1")
    assert {facts[name] for name in ("locked_reason", "locked_by", "locked_at")} == {None}


def test_a_lock_needs_a_reason_and_a_server(world: World, hostler: Hostler) -> None:
    world.add_server()
    for words in (("web1",), ("web1", "--reason", " "), ("web1", "--reason", "x" * 256)):
        assert hostler("server", "lock", *words).code == 2
    assert hostler("server", "lock", "web9", "--reason", "x").code == 3
    assert hostler("server", "unlock", "web9").code == 3
    with world.database.reading() as session:
        assert session.get_one(Instance, SERVER).locked_reason is None


# -- hosts ------------------------------------------------------------------------------------------------


def test_a_disabled_host_tells_who_why_and_when(world: World, hostler: Hostler) -> None:
    ran = hostler("host", "disable", "kvm2", "--reason", "new memory")
    assert (ran.code, ran.out) == (0, "host kvm2 takes no new servers\n  until: hostler host enable kvm2\n")
    facts = shown(hostler, "host", "show", "kvm2")
    assert (facts["worker"], facts["disabled_reason"], facts["switched_by"]) == (
        "up, disabled",
        "new memory",
        ME,
    )
    rows = json.loads(hostler("host", "list", "-f", "json").out)
    assert {row["Name"]: row["Worker"] for row in rows} == {"kvm1": "up", "kvm2": "up, disabled"}
    assert hostler("host", "enable", "kvm2").code == 0
    facts = shown(hostler, "host", "show", "kvm2")
    assert (facts["worker"], facts["disabled_reason"], facts["switched_by"]) == ("up", None, ME)
    assert str(facts["switched_at"]).startswith("20")


@pytest.mark.parametrize("words", [("disable", "kvm9", "--reason", "x"), ("enable", "kvm9")])
def test_an_unknown_host_is_refused(world: World, hostler: Hostler, words: tuple[str, ...]) -> None:
    ran = hostler("host", *words)
    assert (ran.code, ran.out) == (3, "")
    assert "no host is called 'kvm9'" in ran.err


def test_a_host_is_not_disabled_without_a_reason(world: World, hostler: Hostler) -> None:
    assert hostler("host", "disable", "kvm2").code == 2
    with world.database.reading() as session:
        assert session.get_one(Host, "kvm2").disabled_reason is None
