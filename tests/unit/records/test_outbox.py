"""The outbox: in order, once, and no row is two senders'."""

from __future__ import annotations

import datetime
import threading
import uuid
from typing import Any

from sqlalchemy import select

from hostler.records import outbox
from hostler.records.database import Database
from hostler.records.models import OutboxEntry, now

MINUTE = datetime.timedelta(minutes=1)


def put(database: Database, migration: str, name: str, *drivers: str) -> str:
    number = str(uuid.uuid5(uuid.NAMESPACE_URL, migration + name))
    with database.transaction() as session:
        outbox.put(session, migration, drivers or ("webhook",), {"message_id": number, "name": name})
    return number


def heads(database: Database, *drivers: str) -> list[OutboxEntry]:
    with database.reading() as session:
        return outbox.heads(session, drivers or ("webhook",), 10)


def names(entries: list[OutboxEntry]) -> list[str]:
    return [entry.message["name"] for entry in entries]


def take(database: Database, entries: list[OutboxEntry]) -> list[OutboxEntry]:
    with database.transaction() as session:
        return outbox.take(session, entries, now() + MINUTE)


def all_rows(database: Database) -> list[OutboxEntry]:
    with database.reading() as session:
        return list(session.scalars(select(OutboxEntry).order_by(OutboxEntry.id)))


def test_of_each_migration_the_oldest_comes_first(any_database: Database) -> None:
    for migration, name in (("m1", "a"), ("m1", "b"), ("m2", "c"), ("m2", "d")):
        put(any_database, migration, name)
    first = heads(any_database)
    assert names(first) == ["a", "c"]
    with any_database.transaction() as session:
        outbox.remove(session, first[0])
    assert sorted(names(heads(any_database))) == ["b", "c"]


def test_each_driver_has_a_queue_of_its_own(any_database: Database) -> None:
    put(any_database, "m1", "a", "webhook", "messagingv2")
    put(any_database, "m1", "b", "webhook", "messagingv2")
    (for_webhook,) = heads(any_database, "webhook")
    with any_database.transaction() as session:
        outbox.remove(session, for_webhook)
    assert names(heads(any_database, "webhook")) == ["b"]
    assert names(heads(any_database, "messagingv2")) == ["a"]
    assert heads(any_database, "another") == []


def test_what_is_put_in_twice_lies_there_once(any_database: Database) -> None:
    assert put(any_database, "m1", "a") == put(any_database, "m1", "a")
    put(any_database, "m1", "a", "webhook", "messagingv2")
    assert [row.driver for row in all_rows(any_database)] == ["webhook", "messagingv2"]


def test_what_is_taken_is_nobody_elses_until_the_lease_ends(any_database: Database) -> None:
    put(any_database, "m1", "a")
    put(any_database, "m1", "b")
    seen = heads(any_database)
    assert names(take(any_database, seen)) == ["a"]
    assert take(any_database, seen) == []
    assert heads(any_database) == [], "b waits for a"
    with any_database.reading() as session:
        due = outbox.soonest(session, ["webhook"])
    assert due is not None
    assert due > now() + MINUTE / 2
    with any_database.transaction() as session:
        outbox.defer(session, seen[0], now(), tried=True)
    assert [(entry.message["name"], entry.attempts) for entry in heads(any_database)] == [("a", 1)]


def test_of_two_senders_at_once_each_row_is_one_s(any_database: Database) -> None:
    for number in range(20):
        put(any_database, f"m{number}", "a")
    taken: list[int] = []
    both = threading.Barrier(2)

    def send() -> None:
        with any_database.reading() as session:
            seen = outbox.heads(session, ["webhook"], 20)
        both.wait(10)
        taken.extend(entry.id for entry in take(any_database, seen))

    threads = [threading.Thread(target=send) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(taken) == [row.id for row in all_rows(any_database)]


def test_a_sender_that_comes_late_removes_no_row_but_its_own(any_database: Database) -> None:
    put(any_database, "m1", "a")
    (late,) = heads(any_database)
    with any_database.transaction() as session:
        outbox.remove(session, late)
    put(any_database, "m2", "b")  # on SQLite under the same number
    with any_database.transaction() as session:
        outbox.remove(session, late)
        outbox.defer(session, late, now() + MINUTE, tried=True)
    assert names(heads(any_database)) == ["b"]


def test_what_is_old_is_found_whoever_should_have_carried_it(any_database: Database) -> None:
    put(any_database, "m1", "a", "removed-from-the-settings")
    with any_database.reading() as session:
        assert outbox.older_than(session, now() - MINUTE, 10) == []
        (old,) = outbox.older_than(session, now() + MINUTE, 10)
    assert old.message["name"] == "a"


def test_nothing_to_do_is_nothing_due(any_database: Database) -> None:
    assert heads(any_database) == []
    with any_database.reading() as session:
        nothing: Any = outbox.soonest(session, ["webhook"])
    assert nothing is None
