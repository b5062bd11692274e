"""``hostler group``, as an operator types it."""

from __future__ import annotations

import json

from tests.unit.cli.cli_world import SERVER, Hostler, World


def test_a_group_is_made_filled_shown_listed_and_removed(world: World, hostler: Hostler) -> None:
    world.add_server()
    made = hostler("group", "create", "web", "--policy", "anti-affinity", "-f", "json")
    assert made.code == 0
    assert json.loads(made.out)["policy"] == "anti-affinity"
    added = hostler("group", "add", "web", "web1")
    assert (added.code, added.out, added.err) == (0, "", "")
    shown = json.loads(hostler("group", "show", "web", "-f", "json").out)
    assert shown["servers"] == [{"name": "web1", "uuid": SERVER, "host": "kvm1"}]
    assert json.loads(hostler("group", "list", "-f", "json").out) == [
        {"Name": "web", "Policy": "anti-affinity", "Servers": 1}
    ]
    assert hostler("server", "show", "web1", "-f", "value", "-c", "group").out == "web\n"
    assert hostler("group", "remove", "web", "web1").code == 0
    assert json.loads(hostler("group", "show", "web", "-f", "json").out)["servers"] == []
    assert hostler("group", "delete", "web").code == 0
    ran = hostler("group", "show", "web")
    assert ran.code == 3
    assert ran.err == "hostler: no group is called 'web'\n  try: hostler group list\n"


def test_a_policy_that_does_not_hold_is_told_with_what_to_type(world: World, hostler: Hostler) -> None:
    world.add_server()
    world.add_server("web2", SERVER.replace("1111", "9999"))
    hostler("group", "create", "web", "--policy", "anti-affinity")
    hostler("group", "add", "web", "web1")
    ran = hostler("group", "add", "web", "web2")
    assert ran.code == 0
    assert ran.err.splitlines() == [
        "hostler: server 'web2' is on kvm1: group 'web' keeps it apart from 'web1', which has a place there",
        "  try: hostler server migrate web2",
    ]


def test_what_is_wrong_changes_nothing(world: World, hostler: Hostler) -> None:
    world.add_server()
    hostler("group", "create", "web", "--policy", "affinity")
    assert hostler("group", "create", "web", "--policy", "anti-affinity").code == 3
    assert hostler("group", "create", "db", "--policy", "together").code == 2
    assert hostler("group", "create", "db").code == 2
    assert hostler("group", "create", "a\x1b[2J", "--policy", "affinity").code == 3
    assert hostler("group", "add", "web", "nobody").code == 3
    assert hostler("group", "add", "nothing", "web1").code == 3
    assert hostler("group", "remove", "web", "web1").code == 3
    assert json.loads(hostler("group", "list", "-f", "json").out) == [
        {"Name": "web", "Policy": "affinity", "Servers": 0}
    ]
