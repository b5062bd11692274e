"""Servers on one backing file that move at the same time have it sent once, however the first one ends."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from hostler.errors import MigrationError, SessionLost, Unreachable
from hostler.jobboard import legs
from hostler.records import moves
from hostler.records.models import Migration
from lab.process import wait_until
from tests.support.at_work import workers
from tests.support.world import POOL, World, failing, step

BASE = f"{POOL}/base.raw"


@pytest.fixture
def sent(world: World, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that have left kvm1, each as often as it was sent to its end."""
    left: list[str] = []
    sender = world.hosts["kvm1"].sender
    real = sender.send

    def send(*arguments: Any) -> Any:
        digests = real(*arguments)
        left.extend(digest.path for digest in digests)
        return digests

    monkeypatch.setattr(sender, "send", send)
    return left


def ask(world: World, *servers: str) -> list[str]:
    return [world.client.migrate(name, "kvm2", requested_by="tester") for name in servers]


def turn(world: World, number: str) -> bool:
    """Let the host whose turn a migration is take it; False if it is nobody's."""
    for host in world.hosts:
        if number in world.board.jobs(host):
            world.leg(host, number)
            return True
    return False


def to_its_end(world: World, number: str) -> Migration:
    while turn(world, number):
        pass
    return world.migration(number)


def begun(world: World) -> tuple[str, str]:
    """Let web1's receiver be open, and web2 wait for the base that it receives; return their migrations."""
    world.add_server("web1")
    world.add_server("web2")
    first, second = ask(world, "web1", "web2")
    for number in (first, first, second):
        assert turn(world, number)
    postponed(world, first, second)
    return first, second


def postponed(world: World, first: str, second: str) -> None:
    with pytest.raises(Unreachable, match=f"base.raw is being received on kvm2 for migration {first}"):
        turn(world, second)


def base_of(world: World) -> tuple[bytes, int]:
    base = world.hosts["kvm2"].at(BASE)
    return base.read_bytes(), base.stat().st_ino


def test_servers_that_start_at_the_same_moment_have_their_base_sent_once(
    world: World, sent: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(legs, "BACK_OFF_S", (0.1,))
    names = [f"web{number}" for number in range(1, 6)]
    servers = [world.add_server(name, layout="flat") for name in names]

    def over() -> bool:
        with world.database.reading() as session:
            open_ones = select(func.count()).where(Migration.phase != "closed")
            return session.scalar(open_ones) == 0

    with workers(world, tmp_path):
        numbers = ask(world, *names)
        wait_until(over, "all have arrived", timeout_s=60)
    assert [world.migration(number).outcome for number in numbers] == ["success"] * 5
    assert sent.count(BASE) == 1
    assert len(sent) == 1 + 2 * 5
    assert base_of(world)[0] == world.hosts["kvm1"].at(BASE).read_bytes()
    assert all(world.hosts["kvm2"].hypervisor.power_state(server).active for server in servers)


def test_one_that_waits_says_so_once_and_goes_on_with_the_base_that_has_come(
    world: World, sent: list[str]
) -> None:
    first, second = begun(world)
    assert world.hosts["kvm1"].hypervisor.power_state(world.migration(second).instance_uuid).active
    postponed(world, first, second)
    with world.database.reading() as session:
        said = [one.text for one in moves.events(session, second) if one.kind == "waits"]
    assert said == [f"{BASE} is being received on kvm2 for migration {first}"]
    assert to_its_end(world, first).outcome == "success"
    placed = base_of(world)
    assert to_its_end(world, second).outcome == "success"
    assert sent.count(BASE) == 1
    assert base_of(world) == placed


def test_one_that_waits_is_cancelled_and_leaves_nothing(world: World, sent: list[str]) -> None:
    first, second = begun(world)
    world.client.cancel(second, requested_by="alice", reason="it takes too long")
    cancelled_one = to_its_end(world, second)
    assert cancelled_one.outcome == "reverted"
    assert world.instance(cancelled_one.instance_uuid).host == "kvm1"
    assert not [path for path in world.hosts["kvm2"].tree() if second in path]
    assert to_its_end(world, first).outcome == "success"
    assert sent.count(BASE) == 1


def test_one_whose_copy_is_killed_in_the_middle_still_sends_it(world: World, sent: list[str]) -> None:
    first, second = begun(world)
    with failing(step("cold_migration", "CopyImages"), SessionLost("killed"), when="before"):
        with pytest.raises(SessionLost):
            to_its_end(world, first)
        postponed(world, first, second)
        assert to_its_end(world, first).outcome == "success"
    assert to_its_end(world, second).outcome == "success"
    assert sent.count(BASE) == 1


def test_one_that_opens_its_door_twice_does_not_wait_for_itself(world: World, sent: list[str]) -> None:
    world.add_server("web1")
    (number,) = ask(world, "web1")
    with failing(step("cold_migration", "OpenReceiver"), SessionLost("killed"), when="after"):
        assert turn(world, number)
        with pytest.raises(SessionLost):
            turn(world, number)
        assert to_its_end(world, number).outcome == "success"
    assert sent.count(BASE) == 1


def cancelled(world: World, first: str) -> None:
    world.client.cancel(first, requested_by="alice", reason="changed my mind")
    assert to_its_end(world, first).outcome == "reverted"


def parked(world: World, first: str) -> None:
    with ExitStack() as stack:
        for name, method in (("CopyImages", "execute"), ("RenameInstanceDir", "revert")):
            task = step("cold_migration", name)
            stack.enter_context(failing(task, MigrationError("on purpose"), when="before", method=method))
        assert to_its_end(world, first).outcome == "parked"


@pytest.mark.parametrize("end", [cancelled, parked])
def test_after_one_that_does_not_bring_it_the_next_one_does(
    world: World, sent: list[str], end: Callable[[World, str], None]
) -> None:
    first, second = begun(world)
    end(world, first)
    assert to_its_end(world, second).outcome == "success"
    assert sent.count(BASE) == 1
    placed = base_of(world)
    if end is parked:
        world.client.retry(first, requested_by="alice")
        assert to_its_end(world, first).outcome == "reverted"
    assert base_of(world) == placed
    assert ask(world, "web1")
    world.run()
    assert sent.count(BASE) == 1


def test_one_that_brought_it_and_is_undone_leaves_it_to_those_that_have_begun_to_rely_on_it(
    world: World, sent: list[str]
) -> None:
    first, second = begun(world)
    with failing(
        step("cold_migration", "HandOver"),
        MigrationError("the CAS lost"),
        when="before",
        also=lambda: turn(world, second),
    ):
        assert to_its_end(world, first).outcome == "reverted"
    placed = base_of(world)
    assert to_its_end(world, second).outcome == "success"
    assert sent.count(BASE) == 1
    assert base_of(world) == placed


def test_what_came_meanwhile_with_other_contents_is_refused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.add_server("web1")
    before = world.hosts["kvm1"].tree()
    claim, base = step("cold_migration", "ClaimResources"), world.hosts["kvm2"].at(BASE)
    real = claim.execute

    def execute(**arguments: Any) -> Any:
        base.write_bytes(b"another distribution")
        return real(**arguments)

    monkeypatch.setattr(claim, "execute", execute)
    migration = world.migrate("web1")
    assert migration.outcome == "refused"
    assert "base.raw is here with other contents than on the source" in (migration.error or "")
    assert base.read_bytes() == b"another distribution"
    assert world.hosts["kvm1"].tree() == before
