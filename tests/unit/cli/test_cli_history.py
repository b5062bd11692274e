"""What happened, afterwards: the timeline, the pages of the list, and what the filters leave."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import pytest

from hostler.records.models import AtomRow
from hostler.views import listing, timeline
from tests.unit.cli.cli_world import FLOW, MIGRATION, START, Hostler, World, atom_uuid

HOSTILE = "<script>alert(1)</script>\n\x1b[2J\u202e"


def uuid_of(number: int) -> str:
    return f"{number:08d}-2222-4333-8444-555555555555"


@pytest.fixture
def walked_back(world: World) -> World:
    """A migration that was posted, handed to the destination, failed there and was walked back."""
    world.add_server()
    world.add_migration()
    world.event("posted", "asked for by alice", host="")
    world.event("claimed", "kvm1 works on it", at_s=0.5)
    world.done(1)
    world.event("claimed", "kvm2 works on it", host="kvm2", at_s=3.5)
    world.step(2, "FAILURE", "no bridge br7")
    world.step(2, "REVERTED")
    world.event("finished", "cold_migration: reverted", host="kvm2", at_s=99)
    with world.database.transaction() as session:
        atom = session.get_one(AtomRow, atom_uuid(FLOW, 2))
        atom.failure = {**(atom.failure or {}), "traceback_str": "in line 7"}
    world.finish("reverted", error="no bridge br7")
    return world


def entries(world: World) -> list[timeline.Entry]:
    from hostler.records import moves

    with world.database.reading() as session:
        return timeline.of(session, moves.get(session, MIGRATION))


def test_the_timeline_tells_in_order_who_asked_and_what_was_done_failed_and_undone(
    walked_back: World,
) -> None:
    told = [(entry.kind, entry.host, entry.text) for entry in entries(walked_back)]
    assert told == [
        ("posted", "", "asked for by alice"),
        ("claimed", "kvm1", "kvm1 works on it"),
        ("step", "kvm1", "InspectInstance done"),
        ("baton", "kvm2", "the baton passed from kvm1 to kvm2"),
        ("claimed", "kvm2", "kvm2 works on it"),
        ("step", "kvm2", "NotifyUsageExists failed"),
        ("undo", "kvm2", "NotifyUsageExists undone"),
        ("finished", "kvm2", "cold_migration: reverted"),
    ]
    assert [entry.error for entry in entries(walked_back) if entry.error] == ["no bridge br7"]


def test_a_stack_trace_is_shown_with_debug_only(walked_back: World, hostler: Hostler) -> None:
    quiet = hostler("migration", "show", "web1").out
    assert "no bridge br7" in quiet
    assert "in line 7" not in quiet
    assert "in line 7" in hostler("--debug", "migration", "show", "web1").out


def test_a_step_whose_worker_died_is_not_told_as_done(world: World) -> None:
    world.add_migration()
    world.step(1, "RUNNING")
    world.step(2, "RUNNING")
    world.step(2, "REVERTED")
    assert [entry.text for entry in entries(world)] == [
        "InspectInstance running",
        "NotifyUsageExists interrupted",
        "NotifyUsageExists undone",
    ]


def test_a_megabyte_of_error_with_escapes_and_markup_stays_short_and_is_text(
    walked_back: World, hostler: Hostler
) -> None:
    walked_back.step(2, "FAILURE", HOSTILE + "x" * (1 << 20))
    walked_back.change(error=HOSTILE + "x" * (1 << 20))
    shown = hostler("migration", "show", "web1")
    assert shown.code == 0
    assert max(map(len, shown.out.splitlines())) < 5000
    assert "\x1b" not in shown.out
    assert "\u202e" not in shown.out
    assert "characters in all)" in shown.out
    told = json.loads(hostler("migration", "show", "web1", "-f", "json").out)
    assert told["error"].startswith("<script>")


@pytest.fixture
def many(world: World) -> World:
    """Twelve migrations of one server, two of each moment, every third parked."""
    for number in range(12):
        world.add_migration(
            uuid_of(number),
            flow_uuid=f"f{number:07d}-2222-4333-8444-555555555555",
            shape=[],
            created_at=START + datetime.timedelta(hours=number // 2),
            name="old" if number < 2 else "web1",
            phase="parked" if number % 3 == 0 else "closed",
            outcome="parked" if number % 3 == 0 else "success",
        )
    return world


def test_pages_neither_skip_nor_repeat_while_new_ones_come(many: World) -> None:
    seen: list[str] = []
    after: str | None = None
    while True:
        with many.database.reading() as session:
            page = listing.page(session, listing.Wanted(), limit=5, after=after)
        seen += [line.uuid for line in page.lines]
        if (after := page.following) is None:
            break
        newest = START + datetime.timedelta(days=len(seen))
        flow = f"e{len(seen):07d}-2222-4333-8444-555555555555"
        many.add_migration(uuid_of(100 + len(seen)), flow_uuid=flow, shape=[], created_at=newest)
    assert sorted(seen) == [uuid_of(number) for number in range(12)]
    assert seen[:2] == [uuid_of(10), uuid_of(11)]


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        (("--state", "parked"), [9, 6, 3, 0]),
        (("--since", "2026-03-01T16:00"), [10, 11, 8, 9]),
        (("--since", "2026-03-01T16:00Z", "--until", "2026-03-01T17:00+00:00"), [8, 9]),
        (("--since", "1h"), []),
        (("--server", "old"), [0, 1]),
    ],
)
def test_the_list_is_filtered(
    many: World, hostler: Hostler, filters: tuple[str, ...], found: list[int]
) -> None:
    ran = hostler("migration", "list", "-f", "value", "-c", "UUID", *filters)
    assert (ran.code, ran.out.split()) == (0, [uuid_of(number) for number in found])


@pytest.mark.parametrize(
    ("filters", "code", "why"),
    [
        (("--state", "lost"), 3, "no migration is ever 'lost'; there are: posting, open, parked,"),
        (("--after", "x\x00y"), 3, "no migration is called"),
        (("--since", "yesterday"), 2, "is no time: write 2026-03-01"),
        (("--since", "999999w"), 2, "is no time: write 2026-03-01"),
        (("--server", "nobody"), 3, "no server is called 'nobody'"),
    ],
)
def test_a_filter_that_makes_no_sense_is_refused(
    many: World, hostler: Hostler, filters: tuple[str, ...], code: int, why: str
) -> None:
    ran = hostler("migration", "list", *filters)
    assert ran.code == code
    assert why in ran.err


def test_a_table_of_hostile_names_is_text(many: World, hostler: Hostler, tmp_path: Path) -> None:
    many.change(uuid_of(11), instance_name=HOSTILE, requested_by=HOSTILE)
    out = hostler("migration", "list").out
    assert "<script>alert(1)</script>\\n\\x1b[2J\\u202e" in out
    assert out.count("\n") == 12 + 4
