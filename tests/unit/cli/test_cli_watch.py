"""Following a migration: lines, JSON and the picture."""

from __future__ import annotations

import io
import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import pytest
from rich.console import Console
from sqlalchemy import select

from hostler.cli import watch
from hostler.cli.live import Picture
from hostler.errors import ServerUnreachable
from hostler.records.models import AtomRow, FlowRow
from hostler.views import follow
from hostler.views.snapshot import Reader, Snapshot
from hostler.views.turns import Waiting
from tests.unit.cli.cli_world import FLOW, MIGRATION, SERVER, START, Hostler, World
from tests.unit.cli.sample_flows import cold_migration, confirm_resize, revert_resize

COPY, HAND_OVER = 13, 20


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "TICK_S", 0.0)


def snapshot(world: World) -> Snapshot:
    with world.database.reading() as session:
        return Reader(MIGRATION).read(session)


def walk_forward(world: World) -> None:
    """Let the next snapshots show a migration that succeeds."""
    count = len(cold_migration())

    def copying(done: int) -> None:
        world.done(*range(1, COPY))
        world.step(COPY, "RUNNING")
        world.copied(done)

    def arrived() -> None:
        world.done(*range(COPY, count + 1))
        world.copied(4 << 30)
        world.change_server(host="kvm2", vm_state="resized")
        world.finish("success", status="finished")

    world.client.on_wait = [lambda: copying(1 << 30), lambda: copying(3 << 30), arrived]


def walk_back(world: World) -> None:
    """Let the next snapshots show a migration whose copy fails."""

    def failing() -> None:
        world.done(*range(1, COPY))
        world.step(COPY, "FAILURE", "copying web1.qcow2 failed: no space \x1b[31mleft")

    def undone() -> None:
        for position in range(COPY, 0, -1):
            world.step(position, "REVERTED")
        world.finish("reverted", error="copying web1.qcow2 failed: no space left", status="error")

    world.client.on_wait = [failing, lambda: world.step(COPY, "REVERTING"), undone]


def test_each_change_is_a_line_and_the_last_says_what_to_type(world: World, hostler: Hostler) -> None:
    world.add_server()
    world.add_migration()
    walk_forward(world)
    ran = hostler("server", "migrate", "web1", "--to", "kvm2", "--wait")
    lines = ran.out.splitlines()
    assert ran.code == 0
    assert lines[0] == f"12:00:00 web1: kvm1 -> kvm2 (cold_migration {MIGRATION})"
    assert "12:00:11 kvm1 PowerOff done 2.1 s" in lines
    assert "12:00:13 kvm1 CopyImages running" in lines
    assert any("copying web1.qcow2: 1.0 of 4.0 GiB, 512 MiB/s, 6.0 s left" in line for line in lines)
    assert lines[-2:] == [
        "12:00:38 done: web1 is on kvm2, running; kvm1 keeps its files until it is confirmed (38 s)",
        "  next: hostler server confirm web1",
    ]
    assert len([line for line in lines if "CopyImages done" in line]) == 1


def test_a_failure_shows_its_cause_and_the_way_back(world: World, hostler: Hostler) -> None:
    world.add_server()
    world.add_migration()
    walk_back(world)
    ran = hostler("server", "migrate", "web1", "--to", "kvm2", "--wait")
    told = [line.split(" ", 1)[1] for line in ran.out.splitlines()]
    assert ran.code == 4
    failed = told.index("kvm1 CopyImages failed 2.1 s: copying web1.qcow2 failed: no space \\x1b[31mleft")
    undone = [line for line in told[failed:] if "undone" in line]
    assert undone[0] == "kvm1 CopyImages undone 0.5 s"
    assert undone[-1] == "kvm1 InspectInstance undone 0.5 s"
    assert told[-2] == "reverted, web1 is back on kvm1: copying web1.qcow2 failed: no space left"
    assert told[-1].endswith(f"hostler migration show {MIGRATION}")


@pytest.mark.parametrize(
    ("outcome", "code", "words"),
    [
        ("success", 0, "done: web1 is on kvm2"),
        ("refused", 3, "refused, nothing was changed: no bridge br7"),
        ("reverted", 4, "reverted, web1 is back on kvm1: no bridge br7"),
        ("parked", 5, "web1 needs an operator: no bridge br7"),
    ],
)
def test_the_exit_code_is_the_outcome(
    world: World, hostler: Hostler, outcome: str, code: int, words: str
) -> None:
    world.add_server()
    world.add_migration()
    world.finish(outcome, error=None if code == 0 else "no bridge br7", hint="hostler host show kvm2")
    ran = hostler("migration", "watch", "web1")
    assert ran.code == code
    assert words in ran.out


def test_a_refusal_says_what_to_type_once_its_cause_is_mended(world: World, hostler: Hostler) -> None:
    world.add_server()
    world.add_migration()
    world.finish("refused", error="no bridge br7")
    ran = hostler("migration", "watch", "web1")
    assert ran.out.endswith("next: mend that, then: hostler server migrate --to kvm2 web1\n")


def test_a_migration_that_never_was_posted_is_an_error(world: World, hostler: Hostler) -> None:
    world.add_migration()
    world.change(phase="closed", error="ZooKeeper was away")
    ran = hostler("migration", "watch", MIGRATION)
    assert ran.code == 1
    assert "ended without an outcome: ZooKeeper was away" in ran.out


def test_a_confirmation_is_followed_too(world: World, hostler: Hostler) -> None:
    world.add_server(host="kvm2")
    world.add_migration(flow_name="confirm_resize", shape=confirm_resize())
    world.client.on_wait = [lambda: (world.done(1, 2), world.finish("success", status="confirmed"))[0]]
    ran = hostler("server", "confirm", "web1", "--wait")
    assert ran.code == 0
    assert ran.out.endswith("confirmed: web1 stays on kvm2; nothing of it is left on kvm1\n")


def test_a_way_back_is_followed_from_where_the_server_was(world: World, hostler: Hostler) -> None:
    world.add_server(host="kvm1")
    world.add_migration(flow_name="revert_resize", shape=revert_resize())
    world.client.on_wait = [lambda: (world.done(1, 2), world.finish("success", status="reverted"))[0]]
    ran = hostler("server", "revert", "web1", "--reason", "slow", "--drop-writes", "--wait")
    assert ran.code == 0
    assert world.client.asked == [("revert_resize", "web1", "slow", "True")]
    assert "web1: kvm2 -> kvm1 (revert_resize" in ran.out
    assert "brought back: web1 is on kvm1 again, running; kvm2 has let go of it" in ran.out


@pytest.mark.parametrize(("flow", "undone"), [("revert", "not brought back"), ("confirm", "not confirmed")])
def test_what_was_not_done_leaves_the_server_where_it_was_moved_to(
    world: World, hostler: Hostler, flow: str, undone: str
) -> None:
    world.add_server(host="kvm2")
    world.add_migration(flow_name=f"{flow}_resize", shape=revert_resize())
    world.finish("reverted", status="finished", error="the CAS lost")
    ran = hostler("migration", "watch", "abcd")
    assert ran.code == 4
    assert f"{undone}, web1 is still on kvm2: the CAS lost" in ran.out


def test_a_program_reads_one_object_for_each_change(world: World, hostler: Hostler) -> None:
    world.add_server()
    world.add_migration()
    walk_back(world)
    ran = hostler("server", "migrate", "web1", "--to", "kvm2", "--wait", "--format", "ndjson")
    changes = [json.loads(line) for line in ran.out.splitlines()]
    assert changes[0]["kind"] == "begin"
    assert changes[-1]["kind"] == "end"
    assert (changes[-1]["outcome"], changes[-1]["exit_code"]) == ("reverted", 4)
    failed = next(change for change in changes if change.get("state") == "failed")
    assert failed["error"] == "copying web1.qcow2 failed: no space \x1b[31mleft"
    assert (failed["step"], failed["host"], failed["number"]) == ("CopyImages", "kvm1", COPY)


NEXT = MIGRATION.replace("abcd", "beef")


def go_on(world: World) -> None:
    """Let the next snapshots show that kvm2 refuses, and that kvm3 takes the server."""

    def refused() -> None:
        world.finish("refused", status="error", error="kvm2: it has no bridge \x1b[31mbr7", excluded={})
        world.add_migration(
            NEXT,
            flow_uuid="f2000000-2222-4333-8444-555555555555",
            dest_compute="kvm3",
            retry_of=MIGRATION,
            attempt=2,
            excluded={"kvm2": "it has no bridge br7"},
        )

    def arrived() -> None:
        world.add_host("kvm3")
        world.change_server(host="kvm3", vm_state="resized")
        world.change(NEXT, phase="closed", outcome="success", status="finished")

    world.client.on_wait = [refused, arrived]


def test_one_that_goes_on_with_another_host_is_followed_to_its_end(world: World, hostler: Hostler) -> None:
    world.add_server()
    world.add_migration()
    go_on(world)
    ran = hostler("server", "migrate", "web1", "--wait")
    assert ran.code == 0
    assert "kvm2 refused: kvm2: it has no bridge \\x1b[31mbr7; goes on with kvm3\n" in ran.out
    assert f"web1: kvm1 -> kvm3 (cold_migration {NEXT})" in ran.out
    assert ran.out.count("next:") == 1
    assert "done: web1 is on kvm3" in ran.out.splitlines()[-2]


def test_a_program_reads_of_another_host_before_the_end(world: World, hostler: Hostler) -> None:
    world.add_server()
    world.add_migration()
    go_on(world)
    ran = hostler("migration", "watch", MIGRATION, "-f", "json")
    changes = [json.loads(line) for line in ran.out.splitlines()]
    kinds = [change["kind"] for change in changes if change["kind"] in ("begin", "retry", "end")]
    assert kinds == ["begin", "retry", "begin", "end"]
    retry = next(change for change in changes if change["kind"] == "retry")
    assert (retry["successor"], retry["dest"], retry["attempt"], retry["outcome"]) == (
        NEXT,
        "kvm3",
        2,
        "refused",
    )


def test_the_live_view_keeps_a_line_of_what_was_tried_in_vain(world: World) -> None:
    world.add_server()
    world.add_migration()
    go_on(world)
    out = io.StringIO()
    assert watch.follow(world.client, MIGRATION, out, fmt="live") == 0  # type: ignore[arg-type]
    assert "goes on with kvm3" in " ".join(out.getvalue().split())


def test_every_attempt_is_shown_with_each(world: World, hostler: Hostler) -> None:
    world.add_server()
    world.add_migration()
    go_on(world)
    assert hostler("migration", "watch", MIGRATION).code == 0
    for number, uuid in enumerate((MIGRATION, NEXT), 1):
        shown = json.loads(hostler("migration", "show", uuid, "-f", "json").out)
        assert shown["attempt"] == number
        assert [(one["number"], one["uuid"], one["dest"], one["state"]) for one in shown["attempts"]] == [
            (1, MIGRATION, "kvm2", "refused"),
            (2, NEXT, "kvm3", "success"),
        ]


def test_who_named_no_host_is_not_told_to_name_one(world: World, hostler: Hostler) -> None:
    world.add_server()
    world.add_migration(excluded={})
    world.finish("refused", error="kvm1: it has a host device")
    assert hostler("migration", "watch", "web1").out.endswith(
        "next: mend that, then: hostler server migrate web1\n"
    )


def test_the_history_is_told_except_for_what_the_steps_say(world: World, hostler: Hostler) -> None:
    world.add_migration()
    world.event("claimed", "claimed at epoch 3")
    world.event("parked", "parked: the undo of PowerOff failed", host="kvm1\x07", at_s=20)
    world.finish("parked", error="the undo of PowerOff failed", hint="hostler migration retry abcd")
    ran = hostler("migration", "watch", MIGRATION)
    assert "12:00:20 kvm1\\x07 parked: the undo of PowerOff failed" in ran.out
    assert "epoch" not in ran.out
    assert ran.out.endswith("  next: hostler migration retry abcd\n")


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("extra", [(), ("--dry-run",)])
def test_an_interrupt_ends_the_watching_only(world: World, hostler: Hostler, extra: tuple[str, ...]) -> None:
    world.add_migration()
    world.client.on_wait = [interrupt]
    ran = hostler("server", "migrate", "web1", "--to", "kvm2", *(extra or ("--wait",)))
    assert ran.code == 130
    assert "the migration goes on" in ran.err
    assert f"hostler migration watch {MIGRATION}" in ran.err


def test_the_time_to_wait_ends_the_watching_only(world: World, hostler: Hostler) -> None:
    world.add_migration()
    world.client.on_wait = [lambda: time.sleep(0.2)]
    ran = hostler("migration", "watch", MIGRATION, "--timeout", "0.1")
    assert ran.code == 1
    assert "still under way after 0.1 s; it goes on" in ran.err


def test_a_worker_that_is_gone_is_told_once(world: World, hostler: Hostler) -> None:
    world.add_server()
    world.add_migration()
    world.done(1)
    del world.client.workers["kvm2"]
    world.client.on_wait = [lambda: None, lambda: world.finish("parked", error="x")]
    ran = hostler("migration", "watch", MIGRATION)
    line = "it is kvm2's turn to do NotifyUsageExists since 12:00:03: no worker is alive there"
    assert ran.out.count(line) == 1


def test_zookeeper_away_does_not_end_the_watching(world: World, hostler: Hostler) -> None:
    def away() -> None:
        world.finish("reverted", error="x")
        raise ServerUnreachable(what="ZooKeeper", where="z:1", reason="refused")

    world.add_migration()
    world.client.on_wait = [away]
    assert hostler("migration", "watch", MIGRATION).code == 4


class Flickering:
    """A database that is away for the given reads."""

    def __init__(self, world: World, away: set[int]) -> None:
        self._database, self._away = world.database, away
        self.looks: list[float] = []

    @contextmanager
    def reading(self) -> Iterator[Any]:
        self.looks.append(time.monotonic())
        if len(self.looks) in self._away:
            raise ServerUnreachable(what="the database", where="d", reason="refused")
        with self._database.reading() as session:
            yield session


def test_news_in_a_row_are_looked_at_together(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "TICK_S", 0.02)
    world.add_migration()
    world.client.on_wait = [lambda: None, lambda: None, lambda: world.finish("reverted", error="x")]
    records = world.client.database = Flickering(world, set())  # type: ignore[assignment]
    assert watch.follow(world.client, MIGRATION, io.StringIO()) == 4  # type: ignore[arg-type]
    assert len(records.looks) == 4
    assert all(later - sooner >= follow.TICK_S for sooner, later in pairwise(records.looks))


def test_a_database_that_is_away_for_a_moment_is_waited_for(world: World) -> None:
    world.add_migration()
    world.client.on_wait = [lambda: world.finish("reverted", error="x")]
    world.client.database = Flickering(world, {2, 3})  # type: ignore[assignment]
    out = io.StringIO()
    assert watch.follow(world.client, MIGRATION, out) == 4  # type: ignore[arg-type]


def test_a_database_that_is_away_from_the_start_is_told_at_once(world: World) -> None:
    world.client.database = Flickering(world, {1})  # type: ignore[assignment]
    with pytest.raises(ServerUnreachable):
        watch.follow(world.client, MIGRATION, io.StringIO())  # type: ignore[arg-type]


def drawn(
    seen: Snapshot,
    *,
    width: int = 80,
    height: int = 60,
    encoding: str = "utf-8",
    waiting: Waiting | None = None,
) -> str:
    raw = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=raw, width=width, height=height, force_terminal=True, color_system=None)
    console.print(Picture(console).draw(seen, waiting, whole=seen.ended))
    raw.flush()
    return raw.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined,no-any-return]


@pytest.fixture
def copying(world: World) -> Snapshot:
    world.add_server()
    world.add_migration()
    world.done(*range(1, COPY))
    world.step(COPY, "RUNNING")
    world.copied(1 << 30)
    return snapshot(world)


def test_the_picture_shows_steps_hosts_states_and_bytes(copying: Snapshot) -> None:
    lines = drawn(copying).splitlines()
    assert lines[0].startswith("web1: kvm1 → kvm2")
    assert any(line.startswith("✓  9 kvm1 PowerOff") and line.rstrip().endswith("2.1 s") for line in lines)
    assert any(line.startswith("▶ 13 kvm1 CopyImages") and "running" in line for line in lines)
    assert any("web1.qcow2 █████░" in line and "25%  1.0 of 4.0 GiB" in line for line in lines)


@pytest.mark.parametrize("width", [40, 72, 200])
def test_no_line_is_wider_than_the_terminal(copying: Snapshot, width: int) -> None:
    waiting = Waiting("kvm2", "CopyImages", False, START, "n" * 300)
    for line in drawn(copying, width=width, waiting=waiting).splitlines():
        assert len(line) <= width
    assert "left" in drawn(copying, width=width)


@pytest.mark.parametrize("width", range(30, 90))
def test_no_line_is_broken_between_a_number_and_its_unit(world: World, copying: Snapshot, width: int) -> None:
    waiting = Waiting("kvm2", "CopyImages", False, START, "40 GiB wait for 45 s, and 16 vCPUs for 2.1 s " * 2)
    picture = drawn(copying, width=width, waiting=waiting)
    assert re.search(r"40 GiB\s+wait\s+for\s+45 s", picture)
    assert re.search(r"[\d.]+ MiB/s,\s+\d+\.\d s\s+left", picture)
    world.step(COPY, "FAILURE", "kvm2 has not enough disk: 40 GiB needed, 3 GiB free")
    world.finish("reverted", error="kvm2 has not enough disk: 40 GiB needed, 3 GiB free, after 45 s")
    picture += drawn(snapshot(world), width=width)
    assert not re.search(r"\d *\n *(?:[KMGTP]iB|B|s|vCPUs)\b", picture)
    assert picture.count("3 GiB") == 2


def test_a_terminal_of_ascii_gets_ascii(copying: Snapshot) -> None:
    picture = drawn(copying, encoding="ascii")
    assert picture.isascii()
    assert "> 13 kvm1 CopyImages" in picture
    assert "#####---" in picture


@pytest.mark.parametrize("height", [8, 12, 24])
def test_a_low_terminal_shows_the_steps_around_the_one_under_way(copying: Snapshot, height: int) -> None:
    lines = drawn(copying, height=height).splitlines()
    assert len(lines) <= height
    assert any("CopyImages" in line for line in lines)
    assert any("steps before" in line for line in lines)
    assert any("25%" in line for line in lines)


def test_the_last_picture_is_whole_with_error_outcome_and_hint(world: World) -> None:
    world.add_server()
    world.add_migration()
    world.done(*range(1, 9))
    world.step(9, "REVERT_FAILURE", "cannot start \x1b[31mthe guest: " + "no " * 200)
    for position in range(10, COPY + 1):
        world.step(position, "REVERTED", "disk full" if position == COPY else None)
    world.finish("parked", error="the undo of PowerOff failed", hint="hostler migration retry abcd")
    picture = drawn(snapshot(world), height=10, width=60)
    assert "‼  9 kvm1 PowerOff" in picture
    assert "undo failed" in picture
    assert "disk full" in picture
    assert "\\x1b[31mthe" in picture
    assert "web1 needs an operator: the undo of PowerOff failed" in picture
    assert "next: hostler migration retry abcd" in picture
    assert len(picture.splitlines()) < 40


def test_the_live_view_draws_to_a_terminal(world: World) -> None:
    world.add_server()
    world.add_migration()
    walk_forward(world)
    out = io.StringIO()
    assert watch.follow(world.client, MIGRATION, out, fmt="live") == 0  # type: ignore[arg-type]
    assert "next: hostler server confirm web1" in out.getvalue()


def test_whose_turn_it_is_on_the_way_there_and_back(world: World) -> None:
    world.add_server()
    world.add_migration()
    world.done(1)
    turn = snapshot(world).turn
    assert turn is not None
    assert (turn.host, turn.number) == ("kvm2", 2)
    world.done(2, 3, 4, 5, 6, 7)
    world.step(8, "REVERTED", "state changed")
    turn = snapshot(world).turn
    assert turn is not None
    assert (turn.host, turn.number) == ("kvm2", 7)


def test_a_cancelled_migration_walks_back_although_nothing_failed(world: World) -> None:
    world.add_migration()
    world.done(1, 2)
    with world.database.transaction() as session:
        for atom in session.scalars(select(AtomRow)):
            atom.intention = "REVERT"
    seen = snapshot(world)
    assert seen.turn is not None
    assert (seen.reverting, seen.turn.number) == (True, 2)


def test_steps_of_a_newer_version_are_shown_as_far_as_they_are_known(world: World) -> None:
    world.add_migration()
    with world.database.transaction() as session:
        row = session.get_one(FlowRow, FLOW)
        row.meta = {"format": 2, "shape": [entry | {"colour": "red"} for entry in row.meta["shape"]]}
    assert snapshot(world).steps[0].name == "InspectInstance"


def test_a_server_without_a_record_is_still_shown(world: World) -> None:
    world.add_migration()
    assert snapshot(world).vm_state is None
    assert snapshot(world).server_uuid == SERVER
