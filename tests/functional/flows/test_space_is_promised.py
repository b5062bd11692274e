"""Of two migrations that want the last of a file system, one gets it, and gives it back however it ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from hostler.drivers.files import space
from hostler.errors import SessionLost
from hostler.records.models import Migration
from tests.support.world import World, failing, step


@pytest.fixture
def two(world: World, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Migrations of two servers to a host that has room for one and a half; the first has its receiver open."""
    servers = [world.add_server(name) for name in ("web1", "web2")]
    world.hosts["kvm2"].at("/var/lib/libvirt/images/base.raw").write_bytes(b"base" * 5000)
    home = world.hosts["kvm1"].at(f"/var/lib/libvirt/instances/{servers[0]}")
    one = sum(file.stat().st_blocks * 512 for file in home.iterdir())
    monkeypatch.setattr(space, "free", lambda directory: one * 3 // 2)
    first, second = (world.client.migrate(name, "kvm2", requested_by="tester") for name in ("web1", "web2"))
    for host in ("kvm1", "kvm2"):
        world.leg(host, first)
    return first, second


def to_its_end(world: World, number: str) -> Migration:
    while hosts := [host for host in world.hosts if number in world.board.jobs(host)]:
        world.leg(hosts[0], number)
    return world.migration(number)


def test_the_second_is_refused_before_its_guest_is_stopped(world: World, two: tuple[str, str]) -> None:
    before = world.look_at("kvm1")
    refused = to_its_end(world, two[1])
    assert (refused.outcome, refused.status) == ("refused", "error")
    assert "not enough space in /var/lib/libvirt/instances" in (refused.error or "")
    assert "are promised to other migrations" in (refused.error or "")
    assert world.look_at("kvm1") == before
    assert to_its_end(world, two[0]).outcome == "success"


def test_what_has_arrived_is_not_counted_twice(world: World, two: tuple[str, str]) -> None:
    with failing(step("cold_migration", "CopyImages"), SessionLost("killed"), when="after"):
        with pytest.raises(SessionLost):
            to_its_end(world, two[0])
        assert to_its_end(world, two[1]).outcome == "success"
    assert to_its_end(world, two[0]).outcome == "success"


@pytest.mark.parametrize("cancel", [False, True])
def test_one_that_is_over_has_given_it_back(world: World, two: tuple[str, str], cancel: bool) -> None:
    if cancel:
        world.client.cancel(two[0], requested_by="alice", reason="changed my mind")
    assert to_its_end(world, two[0]).outcome == ("reverted" if cancel else "success")
    assert to_its_end(world, two[1]).outcome == "success"


def test_one_that_dies_behind_its_promise_keeps_it_and_asks_for_no_second_one(
    world: World, two: tuple[str, str]
) -> None:
    world.client.cancel(two[0], requested_by="alice", reason="changed my mind")
    to_its_end(world, two[0])
    with failing(step("cold_migration", "OpenReceiver"), SessionLost("killed"), when="after"):
        with pytest.raises(SessionLost):
            to_its_end(world, two[1])
        third = world.client.migrate("web1", "kvm2", requested_by="tester")
        assert to_its_end(world, third).outcome == "refused"
        assert to_its_end(world, two[1]).outcome == "success"


def test_promises_are_made_one_at_a_time(world: World, two: tuple[str, str]) -> None:
    """Who holds the lock keeps others out: what they count includes what he is promised."""
    files = world.hosts["kvm2"].drivers.files
    lock = Path(world.hosts["kvm2"].root, "run/hostler/space.lock")
    seen = []
    real = space.problems
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(space, "problems", lambda *given: seen.append(_is_locked(lock)) or real(*given))
        files.destination_problems([], "", "", str)
        to_its_end(world, two[1])
    assert seen == [False, False, True]


def _is_locked(lock: Path) -> bool:
    if not lock.exists():
        return False
    inode = str(lock.stat().st_ino)
    return any(line.split()[5].endswith(f":{inode}") for line in Path("/proc/locks").read_text().splitlines())
