"""``hostler server``, as an operator types it."""

from __future__ import annotations

import json

import pytest

from hostler.errors import (
    AmbiguousName,
    BadConfiguration,
    ComputeHostNotFound,
    ComputeResourcesUnavailable,
    Fenced,
    HostDisabled,
    HostUnavailable,
    InstanceInvalidState,
    InstanceIsLocked,
    InstanceNotFound,
    MigrationInProgress,
    MigrationPreCheckError,
    OverQuota,
    Refused,
    ServerUnreachable,
    UnableToMigrateToSelf,
)
from tests.unit.cli.cli_world import MIGRATION, SERVER, Hostler, World

REFUSALS = [
    InstanceNotFound(name="web1"),
    AmbiguousName(name="web1", count=2, candidates="a on kvm1, b on kvm2"),
    ComputeHostNotFound(name="kvm9"),
    UnableToMigrateToSelf(server="web1", host="kvm1"),
    HostUnavailable(host="kvm2"),
    HostDisabled(host="kvm2", reason="repair"),
    InstanceIsLocked(server="web1", who="root", reason="under investigation"),
    OverQuota(project="red", resource="cores", need=2, used=3, limit=4, unit="vCPUs"),
    MigrationInProgress(server="web1", migration=MIGRATION),
    InstanceInvalidState(server="web1", state="resized", method="migrate", allowed="active or stopped"),
    ComputeResourcesUnavailable(host="kvm2", resource="memory", need=4096, free=10, unit="MiB"),
    MigrationPreCheckError(["no bridge br7", "no machine type pc-i440fx-9.9"], host="kvm2"),
    BadConfiguration(
        where="/etc/hostler/hostler.conf", problem="[database] connection is not set", hint="add it"
    ),
]


def test_a_list_has_name_host_status_task_and_power(world: World, hostler: Hostler) -> None:
    world.add_server(task_state="resize_migrating")
    ran = hostler("server", "list", "-f", "json")
    assert ran.code == 0
    assert json.loads(ran.out) == [
        {
            "UUID": SERVER,
            "Name": "web1",
            "Host": "kvm1",
            "Status": "active",
            "Task": "resize_migrating",
            "Power": "running",
            "Locked": None,
        }
    ]


@pytest.mark.parametrize("fmt", ["table", "value", "csv"])
def test_a_name_cannot_steer_the_terminal(world: World, hostler: Hostler, fmt: str) -> None:
    world.add_server(name="web\x1b[2J\n1\u202e\x9b")
    ran = hostler("server", "list", "-f", fmt)
    assert r"web\x1b[2J\n1\u202e\x9b" in ran.out.replace("\\\\", "\\")  # csv doubles them
    assert all(char.isprintable() or char in "\r\n" for char in ran.out)


@pytest.mark.parametrize("fmt", ["json", "yaml"])
def test_a_name_reaches_a_program_as_it_is(world: World, hostler: Hostler, fmt: str) -> None:
    import yaml

    world.add_server(name="web\x1b[2J\n1")
    ran = hostler("server", "list", "-f", fmt, "-c", "Name")
    assert "\x1b" not in ran.out
    assert yaml.safe_load(ran.out) == [{"Name": "web\x1b[2J\n1"}]


def test_a_column_that_does_not_exist_is_a_usage_error(world: World, hostler: Hostler) -> None:
    ran = hostler("server", "list", "-c", "Colour")
    assert ran.code == 2
    assert "Colour" in ran.err


def test_a_list_of_an_unknown_host_is_refused(world: World, hostler: Hostler) -> None:
    ran = hostler("server", "list", "--host", "kvm9")
    assert (ran.code, ran.out) == (3, "")
    assert "no host is called 'kvm9'" in ran.err


def test_a_server_is_shown_with_the_migration_that_waits_for_it(world: World, hostler: Hostler) -> None:
    world.add_server(vm_state="resized", host="kvm2")
    world.add_migration(phase="closed", outcome="success", status="finished")
    shown = json.loads(hostler("server", "show", "web1", "-f", "json").out)
    assert shown["migration_unconfirmed"] == MIGRATION
    assert shown["migration_under_way"] is None
    assert (shown["vm_state"], shown["host"]) == ("resized", "kvm2")


@pytest.mark.parametrize("name", ["-web1", "--help", "a b", "we'b\"1", "ünïcode", ".."])
def test_a_name_may_be_odd(world: World, hostler: Hostler, name: str) -> None:
    world.add_server(name=name)
    ran = hostler("server", "show", "-f", "value", "-c", "name", "--", name)
    assert (ran.code, ran.out) == (0, f"{name}\n")


def test_an_ambiguous_name_is_refused_with_the_candidates(world: World, hostler: Hostler) -> None:
    other = SERVER.replace("1111", "9999")
    world.add_server()
    world.add_server(uuid=other, host="kvm2")
    ran = hostler("server", "show", "web1")
    assert ran.code == 3
    assert SERVER in ran.err
    assert other in ran.err
    assert "  try: hostler server list; the UUID" in ran.err


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: type(refusal).__name__)
@pytest.mark.parametrize("verb", ["migrate", "confirm", "revert"])
def test_a_refusal_is_a_sentence_a_hint_and_exit_code_3(
    world: World, hostler: Hostler, refusal: Refused, verb: str
) -> None:
    world.client.answer = refusal
    more = {"migrate": ["--to", "kvm2"], "revert": ["--reason", "slow"]}.get(verb, [])
    ran = hostler("server", verb, "web1", *more, "--wait")
    assert (ran.code, ran.out) == (3, "")
    lines = ran.err.splitlines()
    assert lines[0] == f"hostler: {refusal}"
    assert lines[1:] == ([f"  try: {refusal.hint}"] if refusal.hint else [])


def test_an_error_cannot_steer_the_terminal(world: World, hostler: Hostler) -> None:
    world.client.answer = Refused("file \x1b]0;gotcha\x07 of\nweb1", hint="mv \x1b[31m")
    ran = hostler("server", "migrate", "web1", "--to", "kvm2")
    assert ran.err == "hostler: file \\x1b]0;gotcha\\x07 of\\nweb1\n  try: mv \\x1b[31m\n"


def test_an_unreachable_server_is_exit_code_1(world: World, hostler: Hostler) -> None:
    world.client.answer = ServerUnreachable(
        what="ZooKeeper", where="10.0.0.1:2181", reason="connection refused"
    )
    ran = hostler("server", "migrate", "web1", "--to", "kvm2")
    assert ran.code == 1
    assert "ZooKeeper does not answer at 10.0.0.1:2181: connection refused" in ran.err


@pytest.mark.parametrize("error", [ZeroDivisionError("by zero"), Fenced("epoch 3 has passed")])
def test_no_error_shows_a_traceback_unless_asked_for(
    world: World, hostler: Hostler, error: BaseException
) -> None:
    world.client.answer = error
    ran = hostler("server", "confirm", "web1")
    assert ran.code == 1
    assert str(error) in ran.err
    assert "Traceback" not in ran.err
    assert "Traceback" in hostler("--debug", "server", "confirm", "web1").err


def test_without_waiting_the_uuid_and_the_next_command_are_printed(world: World, hostler: Hostler) -> None:
    ran = hostler("server", "migrate", "web1", "--to", "kvm2")
    assert ran.code == 0
    assert ran.out == f"{MIGRATION}\n  watch it: hostler migration watch {MIGRATION}\n"
    assert world.client.asked == [("migrate", "web1", "kvm2")]


@pytest.mark.parametrize(
    "argv",
    [
        ("server", "migrate"),
        ("server", "migrate", "--to", "kvm2"),
        ("server", "migrate", "web1", "--to", "kvm2", "--timeout", "5"),
        ("server", "migrate", "web1", "--to", "kvm2", "--wait", "--timeout", "-1"),
        ("server", "migrate", "web1", "--to", "kvm2", "--wait", "--timeout", "nan"),
        ("server", "show"),
        ("server", "migrate", "web1", "--to", "kvm2", "--colour"),
        ("server",),
        ("srever", "list"),
        (),
    ],
)
def test_a_wrong_command_line_is_exit_code_2_and_asks_for_nothing(
    world: World, hostler: Hostler, argv: tuple[str, ...]
) -> None:
    ran = hostler(*argv)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err
    assert world.client.asked == []


@pytest.mark.parametrize("dry", [True, False])
def test_names_of_networks_are_asked_for(world: World, hostler: Hostler, dry: bool) -> None:
    world.client.answer = Refused("enough")
    asked = ["--map-network", "br0=br1", "--map-network", "network:a b=network:$c"]
    hostler("server", "migrate", "web1", "--to", "kvm2", *asked, *(["--dry-run"] if dry else []))
    assert world.client.asked == [
        ("dry_run" if dry else "migrate", "web1", "kvm2", ":br0=:br1", "network:a b=network:$c")
    ]


@pytest.mark.parametrize(
    "asked", [("br0",), ("br0=",), ("bridge:br0=network:lab",), ("br0=br1", "br0=br2"), ("a\x1b=b",)]
)
def test_names_that_say_nothing_are_a_wrong_command_line(
    world: World, hostler: Hostler, asked: tuple[str, ...]
) -> None:
    words = [word for pair in asked for word in ("--map-network", pair)]
    ran = hostler("server", "resize", "web1", "--flavor", "large", *words)
    assert (ran.code, ran.out, world.client.asked) == (2, "", [])
    assert all(char.isprintable() or char == "\n" for char in ran.err)


def test_what_to_type_after_a_refusal_asks_for_the_same_networks(world: World, hostler: Hostler) -> None:
    world.add_server()
    world.add_migration(network_map={":br0": ":br 1", "network:a": "network:b"})
    world.finish("refused", error="kvm2 has no bridge 'br 1'", hint="hostler host show kvm2")
    ran = hostler("migration", "watch", MIGRATION, "--format", "plain")
    assert ran.out.splitlines()[-1] == (
        "  next: hostler host show kvm2; then: hostler server migrate --to kvm2"
        " '--map-network=br0=br 1' --map-network=network:a=network:b web1"
    )
    shown = json.loads(hostler("migration", "show", MIGRATION, "-f", "json").out)
    assert shown["network_map"] == "br0=br 1 network:a=network:b"


def test_the_next_command_can_be_pasted_whatever_the_name(world: World, hostler: Hostler) -> None:
    world.add_server(name="-o web'1")
    world.add_migration(name="-o web'1")
    world.finish("success")
    ran = hostler("migration", "watch", MIGRATION, "--format", "plain")
    assert ran.out.splitlines()[-1] == "  next: hostler server confirm -- '-o web'\"'\"'1'"


def test_a_name_that_cannot_be_typed_gives_way_to_the_uuid(world: World, hostler: Hostler) -> None:
    world.add_server(name="web\x1b")
    world.add_migration(name="web\x1b")
    world.finish("success")
    assert f"  next: hostler server confirm {SERVER}\n" in hostler("migration", "watch", "abcd").out
