"""``hostler host set`` and ``hostler migration set|pause|resume``, as an operator types them."""

from __future__ import annotations

import getpass
import json

import pytest

from tests.unit.cli.cli_world import MIGRATION, Hostler, World

ME = getpass.getuser()
MIB = 1 << 20


@pytest.fixture
def moving(world: World) -> World:
    world.add_server()
    world.add_migration()
    return world


def shown(hostler: Hostler, *words: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(hostler(*words, "-f", "json").out)
    return found


def test_a_host_is_limited_as_a_whole_and_towards_one_other(world: World, hostler: Hostler) -> None:
    assert hostler("host", "set", "kvm1", "--rate", "100M").out == "host kvm1 sends at most 100 MiB/s\n"
    ran = hostler("host", "set", "kvm1", "--to", "kvm2", "--rate", "1.5G")
    assert ran.out == "host kvm1 sends to kvm2 at most 1.5 GiB/s\n"
    facts = shown(hostler, "host", "show", "kvm1")
    assert (facts["rate_bytes_per_s"], facts["links"]) == (100 * MIB, f"kvm2={1536 * MIB}")
    assert "as fast as it can" in hostler("host", "set", "kvm1", "--rate", "none").out
    hostler("host", "set", "kvm1", "--to", "kvm2", "--rate", "none")
    facts = shown(hostler, "host", "show", "kvm1")
    assert (facts["rate_bytes_per_s"], facts["links"]) == (None, "")


def test_a_migration_is_limited_and_keeps_what_is_not_named(moving: World, hostler: Hostler) -> None:
    assert "at most 10.0 MiB/s, with weight 1" in hostler("migration", "set", "web1", "--rate", "10MiB/s").out
    assert "at most 10.0 MiB/s, with weight 5" in hostler("migration", "set", "web1", "--weight", "5").out
    facts = shown(hostler, "migration", "show", "web1")
    assert (facts["rate_bytes_per_s"], facts["weight"]) == (10 * MIB, 5)


def test_a_pause_names_who_and_the_command_that_ends_it(moving: World, hostler: Hostler) -> None:
    ran = hostler("migration", "pause", "web1", "--reason", "office hours")
    assert ran.out == (
        f"migration {MIGRATION} copies nothing\n  until: hostler migration resume {MIGRATION}\n"
    )
    facts = shown(hostler, "migration", "show", MIGRATION)
    assert facts["paused_by"] == ME
    assert f"{ME}: office hours" in json.dumps(facts["history"])
    assert hostler("migration", "resume", MIGRATION).code == 0
    assert shown(hostler, "migration", "show", MIGRATION)["paused_by"] is None


@pytest.mark.parametrize("text", ["0", "-1", "1e9", "fast", "10T", "", "0.0000001", "٣M", "1" * 30])
def test_what_is_no_rate_is_refused(moving: World, hostler: Hostler, text: str) -> None:
    ran = hostler("migration", "set", "web1", f"--rate={text}")
    assert (ran.code, ran.out) == (2, "")
    assert "is no rate" in ran.err
    assert shown(hostler, "migration", "show", "web1")["rate_bytes_per_s"] is None


@pytest.mark.parametrize("text", ["0", "101", "-1", "1.5", "many"])
def test_what_is_no_weight_is_refused(moving: World, hostler: Hostler, text: str) -> None:
    assert hostler("migration", "set", "web1", f"--weight={text}").code == 2


def test_a_migration_that_is_over_cannot_be_paused(moving: World, hostler: Hostler) -> None:
    moving.finish("success", status="finished")
    ran = hostler("migration", "pause", "web1", "--reason", "late")
    assert (ran.code, ran.out) == (3, "")
    assert f"try: hostler migration show {MIGRATION}" in ran.err
