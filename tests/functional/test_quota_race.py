"""Many migrations want what is left of one quota; they fail and their workers are killed, and the count stays right."""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
from collections import Counter

import pytest
from sqlalchemy import select

from hostler.errors import OverQuota
from hostler.records import quotas
from hostler.records.database import Database
from hostler.records.models import Instance, Migration, Reservation
from hostler.records.quotas import Usage
from tests.records_made import make_host, make_instance, make_migration

MIGRATIONS = 200
SERVER = Usage(instances=1, cores=4, ram=4096)
#: Two thirds of the migrations grow by 2 on the average: not all of them get it.
LIMITS = {"cores": 4 * MIGRATIONS + 120, "ram": 4096 * MIGRATIONS + (100 << 10)}


@pytest.fixture
def deltas(any_database: Database) -> dict[str, Usage]:
    """200 migrations of as many servers of project red, and what each of them would change."""
    chance = random.Random(1)
    wanted: dict[str, Usage] = {}
    with any_database.transaction() as session:
        make_host(session, "kvm1")
        make_host(session, "kvm2")
        for number in range(MIGRATIONS):
            facts = {"project_id": "red", "vcpus": SERVER.cores, "memory_mb": SERVER.ram}
            server = make_instance(session, "kvm1", f"web{number}", **facts)
            cores = chance.choice((1, 2, 3, -2, 0, 2))
            delta = Usage(cores=cores, ram=chance.choice((2048, 1024, -1024)))
            wanted[make_migration(session, server, report=delta.to_dict())] = delta
        quotas.set_limits(session, "red", LIMITS, force=False)
    return wanted


def taken(database: Database) -> Usage:
    """What is used and reserved, while nobody changes it."""
    with database.transaction() as session:
        quotas.raise_generation(session, "red")
        return quotas.used(session, "red") + quotas.reserved(session, "red")


def watched(url: str) -> int:
    """Let the workers carry everything through, and look at the count meanwhile; return how many were killed."""
    command = [sys.executable, "-m", "tests.functional.quota_workers", url]
    database = Database(url, connect_timeout_s=60)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as workers:
        while workers.poll() is None:
            now = taken(database)
            assert now.cores <= LIMITS["cores"]
            assert now.ram <= LIMITS["ram"]
            with contextlib.suppress(subprocess.TimeoutExpired):
                workers.wait(0.05)
        said, _ = workers.communicate()
    database.close()
    assert workers.returncode == 0
    return int(said)


def test_the_quota_never_over_or_under_counts(
    any_url: str, any_database: Database, deltas: dict[str, Usage]
) -> None:
    killed = watched(any_url)
    assert killed > 0, "nobody was killed: this proves nothing"
    with any_database.reading() as session:
        ended = {row.uuid: row for row in session.scalars(select(Migration))}
        held = {
            row.migration_uuid: Usage(ram=row.ram, cores=row.cores)
            for row in session.scalars(select(Reservation))
        }
        servers = {row.uuid: Usage(1, row.vcpus, row.memory_mb) for row in session.scalars(select(Instance))}
        used, reserved = quotas.used(session, "red"), quotas.reserved(session, "red")
    outcomes = Counter(row.outcome for row in ended.values())
    assert set(outcomes) == {"success", "reverted", "refused"}, outcomes
    assert {row.phase for row in ended.values()} == {"closed"}

    expected_held = {}
    for number, row in ended.items():
        done = row.outcome == "success"
        assert servers[row.instance_uuid] == SERVER + (deltas[number] if done else Usage())
        way_back = (-deltas[number]).growth
        if done and int(number[-1], 16) % 2 == 0 and way_back != Usage():
            expected_held[number] = way_back
    assert held == expected_held
    assert used == sum(servers.values(), Usage())
    assert reserved == sum(expected_held.values(), Usage())


def test_what_is_left_can_be_had_to_the_last_core(any_database: Database, deltas: dict[str, Usage]) -> None:
    first, second = list(deltas)[:2]
    with any_database.transaction() as session:
        quotas.reserve(session, first, "red", Usage(cores=120))
    with (
        pytest.raises(OverQuota, match="1 vCPUs more needed, 920 of 920 used"),
        any_database.transaction() as session,
    ):
        quotas.reserve(session, second, "red", Usage(cores=1))
