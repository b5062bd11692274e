"""``hostler server lock|unlock`` and ``host disable|enable``, as an operator types them."""

from __future__ import annotations

import getpass
import json

import pytest

from hostler.records.models import Host, Instance
from tests.unit.cli.cli_world import SERVER, Hostler, World

ME = getpass.getuser()


def shown(hostler: Hostler, *words: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(hostler(*words, "-f", "json").out)
    return found


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
