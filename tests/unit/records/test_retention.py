"""What is forgotten of migrations that are over, and what never is."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from sqlalchemy import func, select

from hostler.records import retention
from hostler.records.models import (
    AtomRow,
    Base,
    Debt,
    Event,
    FlowRow,
    JournalEntry,
    Migration,
    OutboxEntry,
    Reservation,
    now,
)
from tests.unit.cli.cli_world import FLOW, MIGRATION, START, World
from tests.unit.cli.conftest import world  # noqa: F401

BEFORE = START + datetime.timedelta(days=1)


@pytest.fixture
def over(world: World) -> World:  # noqa: F811
    """A migration that was confirmed, and one that still waits for that."""
    world.add_migration()
    world.finish("success", status="confirmed")
    world.event("finished", "cold_migration: success")
    return world


def purge(made: World, before: datetime.datetime = BEFORE) -> int:
    with made.database.transaction() as session:
        return retention.purge(session, before)


def test_what_is_over_goes_with_all_its_rows(over: World) -> None:
    with over.database.reading() as session:
        assert retention.count(session, BEFORE) == 1
    assert (purge(over), purge(over)) == (1, 0)
    with over.database.reading() as session:
        for table in (Migration, FlowRow, AtomRow, Event):
            assert session.scalar(select(func.count()).select_from(table)) == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"phase": "open"},
        {"phase": "posting"},
        {"phase": "parked"},
        {"status": "finished"},
        {"status": "confirming"},
        {"status": "reverting"},
        {"finished_at": BEFORE},
    ],
)
def test_what_is_unfinished_not_confirmed_or_later_stays(over: World, changes: dict[str, Any]) -> None:
    over.change(**changes)
    assert purge(over) == 0


@pytest.mark.parametrize(
    "row",
    [
        Debt(host="kvm2", migration_uuid=MIGRATION, task="OpenReceiver", flow_uuid=FLOW, position=1),
        JournalEntry(migration_uuid=MIGRATION, task="RenameInstanceDir", key="0", state="done"),
        Reservation(migration_uuid=MIGRATION, project_id="p", instances=0, cores=1, ram=0, disk=0),
        OutboxEntry(
            migration_uuid=MIGRATION, driver="webhook", message_id="m", message={}, attempts=1,
            created_at=START, due_at=START,
        ),
    ],
    ids=lambda row: type(row).__name__,
)  # fmt: skip
def test_what_is_owed_held_or_not_yet_told_stays(over: World, row: Base) -> None:
    with over.database.transaction() as session:
        session.merge(row)
    assert purge(over, now()) == 0
