"""What is said of ports that are waited for, and of no others, on every database."""

from __future__ import annotations

import pytest
from sqlalchemy import update

from hostler.errors import Fenced
from hostler.records import fence, plugging
from hostler.records.database import Database
from hostler.records.fence import FencedRecords
from hostler.records.models import Migration
from hostler.records.plugging import COMPLETED, EVENT, FAILED, Awaited, ServerEvent
from tests.records_made import make_host, make_instance, make_leg

PORTS = {"port-1": "52:54:00:00:00:01", "port-2": "52:54:00:00:00:02"}


@pytest.fixture
def instance(any_database: Database) -> str:
    with any_database.transaction() as session:
        for host in ("kvm1", "kvm2"):
            make_host(session, host)
        return make_instance(session, "kvm1")


@pytest.fixture
def leg(any_database: Database, instance: str) -> FencedRecords:
    made = make_leg(any_database, instance)
    plugging.expect(made, PORTS)
    return made


def say(
    leg: FencedRecords, server: str, port: str | None, status: str = COMPLETED, name: str = EVENT
) -> None:
    with leg.database.transaction() as session:
        plugging.tell(session, ServerEvent(name, server, port, status))


def statuses(leg: FencedRecords) -> list[str | None]:
    return [one.status for one in plugging.awaited(leg)]


def test_what_is_said_is_kept_port_by_port_and_the_first_word_stands(
    leg: FencedRecords, instance: str
) -> None:
    assert plugging.awaited(leg) == [Awaited(port, mac, None) for port, mac in PORTS.items()]
    say(leg, instance, "port-2", FAILED)
    say(leg, instance, "port-2", COMPLETED)
    assert statuses(leg) == [None, FAILED]
    say(leg, instance, "port-1")
    assert statuses(leg) == [COMPLETED, FAILED]


def test_other_servers_and_ports_are_not_concerned(leg: FencedRecords, instance: str) -> None:
    with leg.database.transaction() as session:
        other = make_instance(session, "kvm2", name="other")
        assert plugging.known(session, {instance, other, "nobody"}) == {instance, other}
        assert plugging.known(session, set()) == set()
    for server, port in ((other, "port-1"), (instance, "port-3"), ("nobody", "port-1")):
        say(leg, server, port)
    assert statuses(leg) == [None, None]


def test_a_migration_that_is_over_waits_for_nothing(leg: FencedRecords, instance: str) -> None:
    with leg.database.transaction() as session:
        session.execute(update(Migration).values(phase="closed"))
    say(leg, instance, "port-1")
    assert statuses(leg) == [None, None]


def test_who_waits_anew_forgets_what_was_said(leg: FencedRecords, instance: str) -> None:
    say(leg, instance, "port-1")
    plugging.expect(leg, {"port-1": PORTS["port-1"]})
    assert statuses(leg) == [None]
    plugging.clear(leg)
    plugging.clear(leg)
    say(leg, instance, "port-1")
    assert plugging.awaited(leg) == []


def test_a_leg_that_was_passed_over_changes_nothing(leg: FencedRecords, instance: str) -> None:
    with leg.database.transaction() as session:
        fence.raise_fence(session, leg.migration, 2)
    for change in (lambda: plugging.expect(leg, {}), lambda: plugging.clear(leg)):
        with pytest.raises(Fenced):
            change()
    say(leg, instance, "port-1")
    assert statuses(leg) == [COMPLETED, None]
