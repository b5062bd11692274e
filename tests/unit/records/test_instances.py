"""Servers: found by what operators type, saved by compare-and-swap."""

from __future__ import annotations

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from hostler.errors import AmbiguousName, InstanceNotFound, UnexpectedTaskStateError
from hostler.objects import PowerState
from hostler.records import instances
from hostler.records.database import Database
from tests.records_made import make_host, make_instance, make_migration

HOSTILE = [
    "web 1",
    "we'b\"1",
    "wéb1",
    "web\u202e1",
    "..",
    "-web1",
    "%",
    "_",
    "web1'; DROP TABLE instances; --",
    " ",
]


@pytest.fixture
def database(any_database: Database) -> Database:
    with any_database.transaction() as session:
        make_host(session, "kvm1")
        make_host(session, "kvm2")
    return any_database


def make(database: Database, host: str = "kvm1", name: str = "web1", **changes: str | None) -> str:
    with database.transaction() as session:
        return make_instance(session, host, name, **changes)


def find(database: Database, name: str) -> str:
    with database.reading() as session:
        return instances.find(session, name).uuid


def test_a_server_is_found_by_name_and_by_uuid_in_any_case(database: Database) -> None:
    web1 = make(database)
    make(database, name="web2")
    assert find(database, "web1") == web1
    assert find(database, web1) == web1
    assert find(database, web1.upper()) == web1


def test_a_name_of_two_servers_is_refused_with_the_candidates(database: Database) -> None:
    second, first = make(database, "kvm2"), make(database, "kvm1")
    with pytest.raises(AmbiguousName) as refused:
        find(database, "web1")
    assert str(refused.value) == f"'web1' names 2 servers: {first} on kvm1, {second} on kvm2"
    assert find(database, first) == first


def test_a_uuid_goes_before_a_name_that_looks_like_it(database: Database) -> None:
    web1 = make(database)
    make(database, name=web1)
    assert find(database, web1) == web1


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_names_that_server_and_no_other(database: Database, name: str) -> None:
    make(database)
    with pytest.raises(InstanceNotFound):
        find(database, name)
    hostile = make(database, name=name)
    assert find(database, name) == hostile


@pytest.mark.parametrize("name", ["", "WEB1", "web1\0", "web1\udcff", "x" * 300])
def test_what_no_server_can_be_called_is_not_found(database: Database, name: str) -> None:
    make(database)
    with pytest.raises(InstanceNotFound):
        find(database, name)


def test_a_save_needs_the_state_that_it_expects(database: Database) -> None:
    web1 = make(database, task_state="resize_prep")
    with database.transaction() as session:
        instances.save(
            session, web1, expected_task_state=["resize_prep", None], task_state="resize_migrating"
        )
    with pytest.raises(UnexpectedTaskStateError, match="in task state resize_migrating, not in resize_prep"):
        save(database, web1, ["resize_prep"], "resize_finish")
    with database.reading() as session:
        assert instances.get(session, web1).task_state == "resize_migrating"


def save(
    database: Database, instance: str, expected: list[str | None] | None, task_state: str | None
) -> None:
    with database.transaction() as session:
        instances.save(session, instance, expected_task_state=expected, task_state=task_state)


def test_nobody_at_work_is_a_state_to_expect(database: Database) -> None:
    web1 = make(database)
    save(database, web1, [None], "resize_prep")
    with pytest.raises(UnexpectedTaskStateError):
        save(database, web1, [None], "resize_prep")


def test_a_save_without_expectation_always_writes(database: Database) -> None:
    web1 = make(database, task_state="resize_prep")
    save(database, web1, None, None)
    save(database, web1, [None], "resize_prep")


def test_a_save_that_expects_no_state_at_all_is_refused(database: Database) -> None:
    with pytest.raises(UnexpectedTaskStateError):
        save(database, make(database), [], "resize_prep")


def test_a_server_that_is_gone_cannot_be_saved(database: Database) -> None:
    with pytest.raises(InstanceNotFound):
        save(database, str(uuid.uuid4()), None, None)


def test_of_two_that_save_at_once_one_wins(database: Database) -> None:
    for _ in range(5):
        web1, barrier = make(database), threading.Barrier(4)

        def run(_number: int, web1: str = web1, barrier: threading.Barrier = barrier) -> bool:
            barrier.wait(30)
            try:
                save(database, web1, [None], "resize_prep")
            except UnexpectedTaskStateError:
                return False
            return True

        with ThreadPoolExecutor(4) as threads:
            assert sorted(threads.map(run, range(4))) == [False, False, False, True]


def test_a_save_that_fails_takes_its_transaction_with_it(database: Database) -> None:
    web1, web2 = make(database), make(database, name="web2", task_state="resize_prep")
    with pytest.raises(UnexpectedTaskStateError), database.transaction() as session:
        instances.save(session, web1, task_state="resize_prep")
        instances.save(session, web2, expected_task_state=[None], task_state="resize_prep")
    with database.reading() as session:
        assert instances.get(session, web1).task_state is None


@pytest.mark.parametrize(
    ("phase", "status", "under_way", "unconfirmed"),
    [
        ("posting", "pre-migrating", True, False),
        ("open", "migrating", True, False),
        ("parked", "error", True, False),
        ("open", "confirming", True, False),
        ("closed", "finished", False, True),
        ("closed", "confirming", False, True),
        ("closed", "confirmed", False, False),
        ("closed", "reverted", False, False),
    ],
)
def test_whose_a_server_is(
    database: Database, phase: str, status: str, under_way: bool, unconfirmed: bool
) -> None:
    web1 = make(database)
    with database.transaction() as session:
        migration = make_migration(session, web1, phase=phase, status=status)
    with database.reading() as session:
        found = instances.migration_under_way(session, web1)
        assert (found is not None and found.uuid == migration) is under_way
        waiting = instances.unconfirmed_migration(session, web1)
        assert (waiting is not None and waiting.uuid == migration) is unconfirmed


def test_a_guest_that_holds_its_images_is_active() -> None:
    assert {state for state in PowerState if instances.vm_state_of(state) == "active"} == {
        PowerState.RUNNING,
        PowerState.PAUSED,
        PowerState.SUSPENDED,
    }
