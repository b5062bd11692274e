"""Migrations: found by whatever an operator calls them."""

from __future__ import annotations

import datetime

import pytest

from hostler.errors import AmbiguousName, InvalidStateTransition, MigrationNotFound
from hostler.records import moves
from hostler.records.database import Database
from hostler.records.fence import add_event
from hostler.records.models import AtomRow, FlowRow, Progress
from tests.records_made import make_host, make_instance, make_migration

FIRST = "aaaa1111-0000-4000-8000-000000000001"
SECOND = "aaaa2222-0000-4000-8000-000000000002"
DAY = datetime.datetime(2026, 1, 1)  # noqa: DTZ001 - as the tables keep it


@pytest.fixture
def server(database: Database) -> str:
    """web1, migrated twice and looked at once more."""
    with database.transaction() as session:
        make_host(session)
        web1 = make_instance(session)
        make_migration(session, web1, uuid=SECOND, created_at=DAY + datetime.timedelta(days=1), phase="open")
        make_migration(session, web1, uuid=FIRST, created_at=DAY, phase="closed", status="reverted")
        make_migration(session, web1, migration_type="dry-run", created_at=DAY + datetime.timedelta(days=2))
        return web1


def find(database: Database, name: str) -> str:
    with database.reading() as session:
        return moves.find(session, name).uuid


@pytest.mark.parametrize("name", [FIRST, FIRST.upper(), "aaaa1", "AAAA1", FIRST[:-1]])
def test_a_migration_is_found_by_the_letters_that_only_it_begins_with(
    database: Database, server: str, name: str
) -> None:
    assert server
    assert find(database, name) == FIRST


def test_a_server_stands_for_its_latest_migration(database: Database, server: str) -> None:
    assert find(database, "web1") == SECOND
    assert find(database, server) == SECOND


@pytest.mark.parametrize(
    "name", ["aaaa", "aaa", "", "%", "____", "aaaa%", "bbbb", "web\0", "web\udcff", "-a b"]
)
def test_what_names_no_single_migration_is_not_found(database: Database, server: str, name: str) -> None:
    assert server
    with pytest.raises(MigrationNotFound):
        find(database, name)


def test_a_server_that_never_moved_says_so(database: Database, server: str) -> None:
    with database.transaction() as session:
        make_instance(session, name="web2")
    with pytest.raises(MigrationNotFound, match="server 'web2' was never migrated"):
        find(database, "web2")


def test_a_name_of_two_servers_is_refused(database: Database, server: str) -> None:
    with database.transaction() as session:
        make_instance(session)
    with pytest.raises(AmbiguousName):
        find(database, "web1")


def test_a_save_tells_whether_the_status_was_the_expected_one(database: Database, server: str) -> None:
    with database.transaction() as session:
        assert not moves.save(session, SECOND, expected_status=["pre-migrating"], status="post-migrating")
        assert moves.save(session, SECOND, expected_status=["migrating", "error"], status="post-migrating")
        assert moves.save(session, SECOND, error="no")
        assert moves.get(session, SECOND).status == "post-migrating"
        assert not moves.save(session, server, status="error")


def test_a_status_is_never_entered_from_one_that_does_not_lead_there(database: Database, server: str) -> None:
    for expected in ([], ["reverted"]):
        with pytest.raises(InvalidStateTransition, match="is reverted, from which it cannot become finished"):
            save(database, FIRST, expected, "finished")
    with database.reading() as session:
        assert moves.get(session, FIRST).status == "reverted"


def save(database: Database, migration: str, expected: list[str], status: str) -> None:
    with database.transaction() as session:
        moves.save(session, migration, expected_status=expected, status=status)


def test_migrations_of_a_phase_come_oldest_first(database: Database, server: str) -> None:
    with database.reading() as session:
        assert [move.uuid for move in moves.in_phase(session, "open", "closed")][:2] == [FIRST, SECOND]


def test_steps_events_and_progress_come_in_order(database: Database, server: str) -> None:
    with database.transaction() as session:
        session.add(FlowRow(uuid="f", migration_uuid=FIRST, name="cold_migration", meta={}))
        session.flush()
        session.add(AtomRow(uuid="0", flow_uuid="f", position=0, name="arguments", results={"a": 1}))
        for position in (2, 1):
            session.add(
                AtomRow(uuid=str(position), flow_uuid="f", position=position, name=f"step {position}")
            )
        for name in ("10", "2"):
            session.add(
                Progress(
                    migration_uuid=FIRST,
                    name=name,
                    path="/x",
                    done_bytes=0,
                    total_bytes=0,
                    rate_bytes_per_s=0,
                )
            )
        for text in ("one", "two"):
            add_event(session, FIRST, "kvm1", "claimed", text)
    with database.transaction() as session:
        assert [step.name for step in moves.steps(session, "f")] == ["step 1", "step 2"]
        assert [row.name for row in moves.progress(session, FIRST)] == ["2", "10"]
        assert [event.text for event in moves.events(session, FIRST)] == ["one", "two"]
        moves.forget_progress(session, FIRST)
        assert moves.progress(session, FIRST) == []


def test_the_bytes_of_a_copy_are_a_number_that_a_journal_takes(any_database: Database) -> None:
    with any_database.transaction() as session:
        assert type(moves.copied_bytes(session, FIRST)) is int
        for name in ("1", "2"):
            sizes = {"done_bytes": 5, "total_bytes": 9, "rate_bytes_per_s": 0}
            session.add(Progress(migration_uuid=FIRST, name=name, path="/x", **sizes))
        session.flush()
        assert type(found := moves.copied_bytes(session, FIRST)) is int
        assert found == 10
