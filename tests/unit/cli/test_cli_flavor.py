"""``hostler flavor`` and ``hostler server resize``, as an operator types them."""

from __future__ import annotations

import json

import pytest

from hostler.errors import (
    CannotResizeDisk,
    CannotResizeToSameFlavor,
    CannotResizeToSameHost,
    FlavorNotFound,
    OverQuota,
    Refused,
)
from hostler.scheduling.scheduler import Candidate
from tests.unit.cli.cli_world import MIGRATION, Hostler, World

LARGE = {
    "vcpus": 4,
    "memory_mb": 8192,
    "root_gb": 40,
    "ephemeral_gb": 0,
    "swap_mb": 0,
    "id": "1",
    "name": "large",
}


def test_a_flavor_is_made_listed_shown_and_removed(world: World, hostler: Hostler) -> None:
    sizes = ("--vcpus", "4", "--ram", "8192", "--disk", "40", "--swap", "512")
    assert hostler("flavor", "create", "large", *sizes).code == 0
    assert hostler("flavor", "create", "small", "--vcpus", "1", "--ram", "64").code == 0
    listed = json.loads(hostler("flavor", "list", "-f", "json").out)
    assert [row["Name"] for row in listed] == ["small", "large"]
    shown = json.loads(hostler("flavor", "show", "large", "-f", "json").out)
    assert {**shown, "id": ""} == {
        "id": "",
        "name": "large",
        "vcpus": 4,
        "ram_mb": 8192,
        "disk_gb": 40,
        "ephemeral_gb": 0,
        "swap_mb": 512,
    }
    assert hostler("flavor", "delete", "large").code == 0
    gone = hostler("flavor", "show", "large")
    assert (gone.code, gone.err) == (
        3,
        "hostler: no flavor is called 'large'\n  try: hostler flavor list\n",
    )


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--vcpus", "0", "--ram", "1"), 3, "vcpus must be from 1"),
        (("--vcpus", "1", "--ram", "0"), 3, "ram must be from 1"),
        (("--vcpus", "1", "--ram", "1", "--disk", "-1"), 3, "disk must be from 0"),
        (("--vcpus", "1"), 2, "--ram"),
        (("--vcpus", "many", "--ram", "1"), 2, "invalid int value"),
    ],
)
def test_a_size_that_is_none_makes_no_flavor(
    world: World, hostler: Hostler, words: tuple[str, ...], code: int, said: str
) -> None:
    ran = hostler("flavor", "create", "odd", *words)
    assert (ran.code, ran.out) == (code, "")
    assert said in ran.err
    assert hostler("flavor", "list", "-f", "json").out.strip() == "[]"


@pytest.mark.parametrize(("to", "asked"), [((), "None"), (("--to", "kvm2"), "kvm2")])
def test_a_resize_is_asked_for(world: World, hostler: Hostler, to: tuple[str, ...], asked: str) -> None:
    ran = hostler("server", "resize", "web1", "--flavor", "large", *to)
    assert (ran.code, ran.out) == (0, f"{MIGRATION}\n  watch it: hostler migration watch {MIGRATION}\n")
    assert world.client.asked == [("resize", "web1", "large", asked)]


def test_a_dry_run_of_a_resize_that_no_host_can_have_says_why(world: World, hostler: Hostler) -> None:
    world.client.found = [Candidate("kvm1", reason="it takes no new servers: repair")]
    ran = hostler("server", "resize", "web1", "--flavor", "large", "--dry-run")
    assert (ran.code, world.client.asked) == (3, [("candidates", "web1", "large")])
    assert "kvm1  no: it takes no new servers: repair" in ran.out


def test_a_dry_run_shows_the_steps_of_a_resize(world: World, hostler: Hostler) -> None:
    world.add_server()
    world.add_migration(migration_type="dry-run", flow_name="dry_run", dest_compute="kvm1", new_flavor=LARGE)
    world.finish("success", report={"source": [], "dest": [], "bytes": 0, "files": []})
    world.client.found = [Candidate("kvm1", weight=3.0), Candidate("kvm2", reason="no worker is alive on it")]
    ran = hostler("server", "resize", "web1", "--flavor", "large", "--dry-run")
    assert world.client.asked == [("candidates", "web1", "large"), ("dry_run", "web1", "kvm1", "large")]
    assert ran.code == 0
    assert "  kvm1  weight 3.00\n  kvm2  no: no worker is alive on it\n" in ran.out
    assert " kvm1  ResizeDisks: Grow the disks that arrived" in ran.out
    assert "nothing stands in the way of giving web1 flavor large on kvm1" in ran.out


@pytest.mark.parametrize(
    "refusal",
    [
        FlavorNotFound(name="large"),
        CannotResizeToSameFlavor(server="web1", flavor="large"),
        CannotResizeDisk(flavor="large", new_gb=1, role="root", server="web1", old_gb=2),
        CannotResizeToSameHost(server="web1", host="kvm1", flavor="large"),
        OverQuota(project="shop", resource="cores", need=3, unit="vCPUs", used=1, limit=3),
    ],
    ids=lambda refusal: type(refusal).__name__,
)
def test_a_refusal_names_the_next_command(world: World, hostler: Hostler, refusal: Refused) -> None:
    world.client.answer = refusal
    ran = hostler("server", "resize", "web1", "--flavor", "large", "--wait")
    assert (ran.code, ran.err) == (3, f"hostler: {refusal}\n  try: {refusal.hint}\n")
    assert refusal.hint.startswith("hostler ")


@pytest.mark.parametrize(
    ("dest", "sentence"),
    [
        (
            "kvm2",
            "done: web1 is on kvm2 with flavor large, running; kvm1 keeps its files until it is confirmed",
        ),
        (
            "kvm1",
            "done: web1 is on kvm1 with flavor large, running; kvm1 keeps its files as they were until it is confirmed",
        ),
    ],
)
def test_the_end_says_what_the_server_has_now(
    world: World, hostler: Hostler, dest: str, sentence: str
) -> None:
    world.add_server(host=dest)
    world.add_migration(dest_compute=dest, migration_type="resize", flow_name="resize", new_flavor=LARGE)
    world.finish("success")
    ran = hostler("migration", "watch", MIGRATION, "--format", "plain")
    assert sentence in ran.out


@pytest.mark.parametrize(("dest", "to"), [("kvm2", "--to kvm2 "), ("kvm1", "--to kvm1 ")])
def test_a_refused_resize_says_how_to_ask_again(world: World, hostler: Hostler, dest: str, to: str) -> None:
    world.add_server()
    world.add_migration(dest_compute=dest, migration_type="resize", flow_name="resize", new_flavor=LARGE)
    world.finish("refused", error="kvm1: no disk shrinks")
    ran = hostler("migration", "watch", MIGRATION, "--format", "plain")
    assert f"mend that, then: hostler server resize --flavor large {to}web1\n" in ran.out


def test_a_server_is_shown_with_its_flavor(world: World, hostler: Hostler) -> None:
    hostler("flavor", "create", "large", "--vcpus", "4", "--ram", "8192")
    number = json.loads(hostler("flavor", "show", "large", "-f", "json").out)["id"]
    world.add_server(flavor_id=number)
    assert json.loads(hostler("server", "show", "web1", "-f", "json").out)["flavor"] == "large"
