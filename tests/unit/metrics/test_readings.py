"""What the records say, and that asking often costs them nothing."""

from __future__ import annotations

import datetime
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import event

from hostler.errors import ServerUnreachable
from hostler.metrics.health import Health
from hostler.metrics.readings import Readings
from hostler.records.database import Database
from hostler.records.models import Debt, now
from tests.records_made import make_host, make_instance, make_migration


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


@contextmanager
def statements(database: Database) -> Iterator[list[str]]:
    """Collect what the database is asked."""
    said: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        said.append(statement)

    event.listen(database.engine, "before_cursor_execute", note)
    yield said
    event.remove(database.engine, "before_cursor_execute", note)


def served(readings: Readings) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(readings)
    return registry


def fill(database: Database) -> None:
    hour_ago = now() - datetime.timedelta(hours=1)
    with database.transaction() as session:
        make_host(session)
        server = make_instance(session)
        make_instance(session, name="web2", vm_state="resized")
        for status in ("migrating", "migrating", "pre-migrating"):
            make_migration(session, server, status=status)
        make_migration(session, server, phase="parked", created_at=hour_ago)
        make_migration(session, server, phase="closed", status="error", created_at=hour_ago)
        session.add(Debt(host="kvm1", migration_uuid="m", task="t", flow_uuid="f", position=1))


def test_what_is_not_over_is_told_by_phase_and_status_in_one_statement(any_database: Database) -> None:
    fill(any_database)
    registry = served(Readings(any_database, keep_s=10, patience_s=60))
    with statements(any_database) as asked:
        found = {
            (one.name, *one.labels.values()): one.value
            for family in registry.collect()
            for one in family.samples
        }
    assert len([one for one in asked if "SELECT" in one]) == 1
    age = found.pop(("hostler_migration_oldest_seconds", "parked"))
    assert 3600 <= age < 3600 + 300
    assert found.pop(("hostler_migration_oldest_seconds", "open")) < 300
    assert found == {
        ("hostler_records_up",): 1,
        ("hostler_migrations", "open", "migrating"): 2,
        ("hostler_migrations", "open", "pre-migrating"): 1,
        ("hostler_migrations", "parked", "migrating"): 1,
        ("hostler_migration_oldest_seconds", "posting"): 0,
        ("hostler_servers", "stopped"): 1,
        ("hostler_servers", "resized"): 1,
        ("hostler_debts", "kvm1"): 1,
        ("hostler_outbox_messages",): 0,
    }


def test_whoever_asks_again_soon_asks_no_database(database: Database) -> None:
    clock = Clock()
    readings = Readings(database, keep_s=10, patience_s=60, clock=clock)
    with statements(database) as asked:
        for clock.at in (0.0, 5.0, 9.9):
            assert readings.latest() is not None
        once = len(asked)
        clock.at = 10.0
        readings.latest()
        assert len(asked) == 2 * once


class Away:
    """A database that fails, or hangs until it is told otherwise."""

    def __init__(self) -> None:
        self.asked = 0
        self.answer = threading.Event()

    @contextmanager
    def reading(self) -> Iterator[Any]:
        self.asked += 1
        self.answer.wait()
        raise ServerUnreachable(what="the database", where="here", reason="it is away")
        yield


def test_a_database_that_hangs_is_asked_once_and_holds_nobody_up() -> None:
    away = Away()
    readings = Readings(away, keep_s=10, patience_s=0.01)  # type: ignore[arg-type]
    registry = served(readings)
    for _ in range(5):
        assert registry.get_sample_value("hostler_records_up") == 0
        assert registry.get_sample_value("hostler_outbox_messages") is None
    assert away.asked == 1
    away.answer.set()


def test_a_database_that_is_away_is_not_asked_at_every_scrape() -> None:
    away, clock = Away(), Clock()
    away.answer.set()
    readings = Readings(away, keep_s=10, patience_s=60, clock=clock)  # type: ignore[arg-type]
    assert [readings.latest() for _ in range(5)] == [None] * 5
    assert away.asked == 1
    clock.at = 10.0
    readings.latest()
    assert away.asked == 2


def test_a_loop_that_hangs_is_sick_and_one_that_pauses_is_not(database: Database) -> None:
    clock = Clock()
    health = Health(stalled_after_s=120, clock=clock)
    readings = Readings(database, keep_s=10, patience_s=60)
    assert health.unready(readings) == "ZooKeeper does not answer"
    health.connected = lambda: True
    assert health.unready(readings) == "the worker is not announced"
    health.announced.set()
    assert health.unready(readings) is None
    health.turned(pause_s=60.0)
    clock.at = 180.0
    assert health.sick() is None
    assert health.overdue_s() == 120
    clock.at = 181.0
    assert health.sick() == health.unready(readings) == "the main loop is 121 s late"


@pytest.fixture(autouse=True)
def _threads_end() -> Iterator[None]:
    """See each reading end: none outlives its test's database."""
    yield
    for thread in threading.enumerate():
        if thread.name == "metrics-read":
            thread.join(10)
            assert not thread.is_alive()
