"""Quotas: what a project may use is counted from its servers, and given away once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from hostler.errors import (
    InstanceInvalidState,
    MigrationInProgress,
    OverQuota,
    ProjectNotFound,
    QuotaBelowUse,
    ServerUnreachable,
)
from hostler.records import fence, instances, quotas
from hostler.records.database import Database
from hostler.records.models import Instance, Project, Quota, Reservation
from hostler.records.quotas import Usage
from tests.records_made import make_host, make_instance, make_migration

GIB = 1 << 30
NOTHING = Usage()


@pytest.fixture
def database(any_database: Database) -> Database:
    with any_database.transaction() as session:
        make_host(session, "kvm1")
        make_host(session, "kvm2")
    return any_database


def server(database: Database, name: str = "web1", project: str = "red", **facts: object) -> str:
    with database.transaction() as session:
        facts = {"project_id": project, "vcpus": 2, "memory_mb": 1024, "disk_bytes": 10 * GIB} | facts
        return make_instance(session, name=name, **facts)


def moving(database: Database, instance: str, **facts: object) -> str:
    with database.transaction() as session:
        return make_migration(session, instance, **facts)


def limit(database: Database, project: str = "red", *, force: bool = False, **limits: int | None) -> None:
    with database.transaction() as session:
        quotas.set_limits(session, project, limits, force=force)


def reserve(database: Database, migration: str, delta: Usage, project: str = "red") -> None:
    with database.transaction() as session:
        quotas.reserve(session, migration, project, delta)


def taken(database: Database, project: str = "red") -> tuple[Usage, Usage]:
    """Used and reserved."""
    with database.reading() as session:
        return quotas.used(session, project), quotas.reserved(session, project)


def test_what_servers_use_is_counted(database: Database) -> None:
    server(database)
    server(database, "web2", disk_bytes=0)
    server(database, "web3", project="blue")
    assert taken(database) == (Usage(2, 4, 2048, 10 * GIB), NOTHING)
    assert taken(database, "nobody") == (NOTHING, NOTHING)


def test_a_reservation_is_held_until_it_is_rolled_back(database: Database) -> None:
    migration, more = moving(database, server(database)), Usage(cores=2, ram=512)
    reserve(database, migration, more)
    reserve(database, migration, more)
    assert taken(database)[1] == more
    for _ in range(2):
        with database.transaction() as session:
            quotas.roll_back(session, migration)
    assert taken(database)[1] == NOTHING


def test_what_is_over_the_quota_is_refused_with_need_limit_and_used(database: Database) -> None:
    first = moving(database, server(database))
    limit(database, cores=4, disk=11)
    reserve(database, first, Usage(cores=2))
    other = moving(database, server(database, "web2", vcpus=0, disk_bytes=0))
    with pytest.raises(OverQuota) as refused:
        reserve(database, other, Usage(cores=1))
    assert str(refused.value) == (
        "project 'red' would exceed its quota of cores: 1 vCPUs more needed, 4 of 4 used"
    )
    assert refused.value.hint == "hostler quota show red"
    with pytest.raises(OverQuota, match="2 GiB more needed, 10 of 11 used"):
        reserve(database, other, Usage(disk=GIB + 1))
    assert taken(database)[1] == Usage(cores=2)


def test_nobody_is_refused_for_what_he_does_not_ask_for(database: Database) -> None:
    migration = moving(database, server(database))
    limit(database, cores=1, force=True)
    reserve(database, migration, Usage(cores=-1, ram=1 << 20))
    assert taken(database)[1] == Usage(ram=1 << 20)


def test_a_reservation_grows_without_counting_itself_twice(database: Database) -> None:
    migration = moving(database, server(database))
    limit(database, cores=6)
    reserve(database, migration, Usage(cores=3))
    reserve(database, migration, Usage(cores=4))
    assert taken(database)[1] == Usage(cores=4)


def test_a_migration_that_changes_nothing_writes_nothing(database: Database) -> None:
    migration = moving(database, server(database))
    reserve(database, migration, NOTHING)
    with database.transaction() as session:
        quotas.commit(session, migration)
        assert list(session.scalars(select(Project))) == []
        assert list(session.scalars(select(Reservation))) == []


def test_a_commit_puts_the_servers_record_in_the_reservations_place(database: Database) -> None:
    web1 = server(database)
    migration = moving(database, web1)
    reserve(database, migration, Usage(cores=2, ram=-512))
    before = Usage(1, 4, 1024, 10 * GIB)
    assert sum(taken(database), NOTHING) == before
    with database.transaction() as session:
        instances.save(session, web1, vcpus=4, memory_mb=512)
        quotas.commit(session, migration)
    assert taken(database) == (Usage(1, 4, 512, 10 * GIB), Usage(ram=512))
    assert sum(taken(database), NOTHING) == before, "the way back to 1024 MiB is kept"
    with database.transaction() as session:
        fence.forget(session, migration)
    assert taken(database) == (Usage(1, 4, 512, 10 * GIB), NOTHING)


def test_a_commit_that_fails_leaves_both_as_they_were(database: Database) -> None:
    web1 = server(database)
    migration = moving(database, web1)
    reserve(database, migration, Usage(cores=2))
    with pytest.raises(ZeroDivisionError), database.transaction() as session:
        instances.save(session, web1, vcpus=4)
        quotas.commit(session, migration)
        raise ZeroDivisionError
    assert taken(database) == (Usage(1, 2, 1024, 10 * GIB), Usage(cores=2))


def test_a_limit_below_what_is_used_is_refused_unless_forced(database: Database) -> None:
    migration = moving(database, server(database))
    reserve(database, migration, Usage(cores=1))
    with pytest.raises(QuotaBelowUse) as refused:
        limit(database, cores=2, ram=1023, instances=1)
    assert "3 vCPUs of cores are used, and the limit would be 2" in str(refused.value)
    assert "1024 MiB of ram are used, and the limit would be 1023" in str(refused.value)
    assert "--force" in refused.value.hint
    with database.reading() as session:
        assert quotas.limits_of(session, "red") == {}
    limit(database, cores=2, disk=20, force=True)
    with database.reading() as session:
        assert quotas.limits_of(session, "red") == {"cores": 2, "disk": 20 * GIB}


def test_a_limit_is_replaced_and_lifted_by_itself(database: Database) -> None:
    limit(database, cores=5, ram=10)
    limit(database, cores=6)
    limit(database, ram=None)
    with database.reading() as session:
        assert quotas.limits_of(session, "red") == {"cores": 6}
        assert len(list(session.scalars(select(Quota)))) == 1


def test_a_server_changes_its_project_if_that_has_room(database: Database) -> None:
    web1 = server(database)
    limit(database, "blue", instances=1, cores=1)
    with (
        pytest.raises(OverQuota, match="2 vCPUs more needed, 0 of 1 used"),
        database.transaction() as session,
    ):
        quotas.move_server(session, "web1", "blue")
    assert taken(database)[0].instances == 1
    limit(database, "blue", cores=2)
    with database.transaction() as session:
        assert quotas.move_server(session, web1, "blue").project_id == "blue"
        assert quotas.move_server(session, web1, "blue").project_id == "blue"
    assert [taken(database, project)[0].cores for project in ("red", "blue")] == [0, 2]


@pytest.mark.parametrize(
    ("facts", "refusal"),
    [
        ({"phase": "parked"}, MigrationInProgress),
        ({"phase": "closed", "status": "finished"}, InstanceInvalidState),
    ],
)
def test_a_server_keeps_its_project_while_a_migration_needs_it(
    database: Database, facts: dict[str, object], refusal: type[Exception]
) -> None:
    web1 = server(database)
    moving(database, web1, **facts)
    with pytest.raises(refusal), database.transaction() as session:
        quotas.move_server(session, web1, "blue")
    with database.reading() as session:
        assert session.get_one(Instance, web1).project_id == "red"


def test_a_project_is_whatever_has_something(database: Database) -> None:
    server(database)
    limit(database, "blue", cores=1)
    reserve(database, moving(database, server(database, "web2", "green")), Usage(cores=1), "green")
    with database.reading() as session:
        assert quotas.projects(session) == ["blue", "green", "red"]
        assert quotas.find_project(session, "blue") == "blue"
        for name in ("pink", "red\udcff", ""):
            with pytest.raises(ProjectNotFound):
                quotas.find_project(session, name)


@pytest.mark.parametrize("act", ["reserve", "commit", "set_limits", "move_server"])
def test_nobody_changes_what_a_project_uses_while_somebody_counts(
    postgres_database: Database, act: str
) -> None:
    """SQLite lets one write at a time anyway."""
    database = postgres_database
    with database.transaction() as session:
        make_host(session, "kvm1")
    migration = moving(database, server(database))
    server(database, "web2", project="blue")
    reserve(database, migration, Usage(cores=1))
    acts: dict[str, Callable[[Session], object]] = {
        "reserve": lambda session: quotas.reserve(session, migration, "red", Usage(cores=2)),
        "commit": lambda session: quotas.commit(session, migration),
        "set_limits": lambda session: quotas.set_limits(session, "red", {"cores": 9}, force=False),
        "move_server": lambda session: quotas.move_server(session, "web2", "red"),
    }
    with database.transaction() as counting:
        quotas.raise_generation(counting, "red")
        with pytest.raises(ServerUnreachable, match="lock timeout"), database.transaction() as session:
            session.execute(text("SET LOCAL lock_timeout = '20ms'"))
            acts[act](session)
    with database.transaction() as session:
        acts[act](session)


def test_of_two_that_ask_first_for_a_project_both_get_it(postgres_database: Database) -> None:
    """The row of the project is made by whoever comes first; the other one waits for it."""
    database, barrier = postgres_database, threading.Barrier(4)

    def ask(_number: int) -> None:
        barrier.wait(30)
        with database.transaction() as session:
            quotas.raise_generation(session, "red")

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(ask, range(4)))
    with database.reading() as session:
        assert session.get_one(Project, "red").quota_generation == 4
