"""The lines of ``--format ndjson`` under their schema, and several migrations at once."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
from rich.console import Console

from hostler.cli import watch
from hostler.cli.live import Picture
from hostler.flows.graph import STATES
from hostler.flows.shape import SOURCE, Step
from hostler.records.models import new_uuid
from hostler.views import changes, follow, schema
from hostler.views.snapshot import Reader, Snapshot
from tests.unit.cli.cli_world import MIGRATION, START, Hostler, World

OTHER = "beef0000-2222-4333-8444-555555555555"
OTHER_FLOW = "f2000000-2222-4333-8444-555555555555"
HOSTILE = "<script>\x1b[2J\n\u202e"


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "TICK_S", 0.0)


def everything_happens(world: World) -> None:
    """Let a migration wait, be cancelled, copy, fail, go on with another host, and let that be done."""
    world.add_server(name=HOSTILE)
    world.add_migration(name=HOSTILE, excluded={})
    world.done(*range(1, 13))
    world.client.workers.clear()

    def copying() -> None:
        world.step(13, "RUNNING")
        world.copied(1 << 30)
        world.event("cancel", f"root: {HOSTILE}", host="", at_s=30)

    def walked_back() -> None:
        world.step(13, "REVERTED", HOSTILE)
        world.finish("reverted", error=HOSTILE)
        world.add_migration(OTHER, name=HOSTILE, flow_uuid=OTHER_FLOW, retry_of=MIGRATION, attempt=2)

    world.client.on_wait = [
        copying,
        walked_back,
        lambda: world.change(OTHER, phase="closed", outcome="success"),
    ]


def lines_of(world: World, hostler: Hostler, *argv: str) -> list[dict[str, Any]]:
    out = hostler("migration", "watch", *argv, "-f", "ndjson").out
    assert out.isascii()
    return [json.loads(line) for line in out.splitlines()]


@pytest.mark.parametrize("which", [(MIGRATION,), ("--all",)])
def test_every_line_is_as_its_schema_says_and_every_kind_is_met(
    world: World, hostler: Hostler, which: tuple[str, ...]
) -> None:
    described = schema.read()
    jsonschema.Draft202012Validator.check_schema(described)
    everything_happens(world)
    told = lines_of(world, hostler, *which)
    for line in told:
        jsonschema.validate(line, described)
    assert {line["kind"] for line in told} == set(changes.KINDS)
    assert {line["migration"] for line in told} == {MIGRATION, OTHER}


def test_the_schema_knows_the_words_of_the_code() -> None:
    described = schema.read()
    kinds = {one["title"]: one["properties"] for one in described["oneOf"]}
    assert tuple(described["properties"]["kind"]["enum"]) == changes.KINDS == tuple(kinds)
    assert tuple(kinds["step"]["state"]["enum"]) == STATES


@pytest.mark.parametrize(
    "spoilt", [{"kind": "other"}, {"migration": None}, {"more": 1}, {"exit_code": 7}, {"at": None}]
)
def test_another_line_is_not_as_the_schema_says(spoilt: dict[str, Any]) -> None:
    line = {"kind": "end", "at": "2026-03-01T12:00:00+00:00", "migration": MIGRATION, "server": "web1"}
    line |= {"outcome": "success", "exit_code": 0, "error": None, "next": None}
    jsonschema.validate(line, schema.read())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(line | spoilt, schema.read())


@pytest.fixture
def two(world: World) -> World:
    """A migration that waits for a worker, and another that copies."""
    world.add_server()
    world.add_migration(name="db1")
    world.done(*range(1, 13))
    world.step(13, "RUNNING")
    world.copied(1 << 30)
    world.add_migration(OTHER, flow_uuid=OTHER_FLOW)
    return world


def both_end(world: World, second: str) -> Callable[[], None]:
    def ends() -> None:
        world.finish("success", status="finished")
        world.change(
            OTHER, phase="parked" if second == "parked" else "closed", outcome=second, error="disk full"
        )

    return ends


@pytest.mark.parametrize(("second", "code"), [("success", 0), ("reverted", 4), ("parked", 5)])
def test_all_are_followed_until_none_is_under_way_and_the_worst_is_the_exit_code(
    two: World, hostler: Hostler, second: str, code: int
) -> None:
    two.client.on_wait = [lambda: None, both_end(two, second)]
    ran = hostler("migration", "watch", "--all")
    assert ran.code == code
    lines = ran.out.splitlines()
    assert len([line for line in lines if "db1: done: db1 is on kvm2" in line]) == 1
    assert any("db1: copying web1.qcow2: 1.0 of 4.0 GiB" in line for line in lines)
    assert any("web1: it is kvm1's turn to do InspectInstance since 12:00:00" in line for line in lines)


def test_one_that_comes_while_all_are_watched_is_among_them(two: World, hostler: Hostler) -> None:
    third = new_uuid()

    def another() -> None:
        both_end(two, "success")()
        two.add_migration(third, name="late", flow_uuid=new_uuid(), shape=[])

    two.client.on_wait = [another, lambda: two.change(third, phase="closed", outcome="success")]
    ran = hostler("migration", "watch", "--all")
    assert ran.code == 0
    assert "late: done: late is on kvm2" in ran.out


def test_nothing_under_way_is_over_at_once(world: World, hostler: Hostler) -> None:
    assert hostler("migration", "watch", "--all").code == 0


@pytest.mark.parametrize("argv", [(), ("web1", "--all")])
def test_either_one_or_all_is_watched(world: World, hostler: Hostler, argv: tuple[str, ...]) -> None:
    assert hostler("migration", "watch", *argv).code == 2


def overview(world: World, *, width: int, height: int, encoding: str = "utf-8") -> list[str]:
    raw = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=raw, width=width, height=height, force_terminal=True, color_system=None)
    seen = []
    with world.database.reading() as session:
        seen = [(Reader(uuid).read(session), None) for uuid in (MIGRATION, OTHER)]
    console.print(Picture(console).overview(seen))
    raw.flush()
    return raw.buffer.getvalue().decode(encoding).splitlines()  # type: ignore[attr-defined,no-any-return]


def test_the_picture_of_several_shows_step_and_bytes_of_each(two: World) -> None:
    lines = overview(two, width=80, height=24)
    assert lines[0].startswith("db1: kvm1 → kvm2")
    assert lines[1].rstrip() == "  ▶ 13/22 kvm1 CopyImages running"
    assert lines[2].startswith("  1 file █████░") and "512 MiB/s" in lines[2]
    assert lines[3].startswith("web1: kvm1 → kvm2")
    assert all(len(line) <= 40 for line in overview(two, width=40, height=24, encoding="ascii"))
    assert overview(two, width=80, height=5)[-1].rstrip() == "and 1 more"


def test_the_live_view_of_several_keeps_a_line_of_each_that_has_ended(two: World) -> None:
    two.client.on_wait = [both_end(two, "reverted")]
    out = io.StringIO()
    assert watch.follow_all(two.client, out, fmt="live") == 4  # type: ignore[arg-type]
    shown = " ".join(out.getvalue().split())
    assert "done: db1 is on kvm2" in shown
    assert "next: hostler server confirm db1" in shown


def test_a_flow_of_two_hundred_steps_is_shown_around_the_one_under_way(world: World) -> None:
    world.add_migration(shape=[Step(f"Step{number}", SOURCE, "Do.", "undoing.") for number in range(200)])
    world.done(*range(1, 100))
    world.step(100, "RUNNING")
    with world.database.reading() as session:
        seen: Snapshot = Reader(MIGRATION).read(session)
    raw = io.StringIO()
    console = Console(file=raw, width=40, height=24, force_terminal=True, color_system=None)
    console.print(Picture(console).draw(seen))
    lines = raw.getvalue().splitlines()
    assert len(lines) <= 24
    assert any("▶ 100 kvm1 Step99" in line for line in lines)
    assert seen.at > START
