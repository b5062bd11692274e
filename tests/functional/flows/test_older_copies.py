"""An attempt that was undone, a server that went back, a copy made beforehand: only what differs is sent."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from hostler.drivers.files.kept import Kept
from hostler.drivers.images.outgoing import Outgoing
from hostler.errors import MigrationError
from hostler.jobboard.kept_copies import drop_kept
from hostler.records import moves
from hostler.records.models import Instance
from tests.support.world import INSTANCES, POOL, World, failing, step


@pytest.fixture(autouse=True)
def keeping(world: World) -> None:
    world.hosts["kvm2"].drivers.files._kept.lasts_s = 3600  # type: ignore[attr-defined]


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How many bytes have left, by the name of the file."""
    left: dict[str, int] = {}
    real = Outgoing.sent

    def count(self: Outgoing, slot: int, found: bytes | None, data_bytes: int, sent_bytes: int = 0) -> None:
        name = self.path.rpartition("/")[2]
        left[name] = left.get(name, 0) + sent_bytes
        real(self, slot, found, data_bytes, sent_bytes)

    monkeypatch.setattr(Outgoing, "sent", count)
    return left


def kept(world: World) -> list[Kept]:
    return world.hosts["kvm2"].drivers.files.kept()


def images(sent: dict[str, int]) -> int:
    return sum(count for name, count in sent.items() if name.startswith(("disk", "web1.qcow2")))


def failed(world: World) -> str:
    with failing(step("cold_migration", "HandOver"), MigrationError("on purpose"), when="before"):
        row = world.migrate("web1")
    assert row.outcome == "reverted"
    return row.uuid


@pytest.mark.parametrize("layout", ["dir", "flat"])
def test_the_attempt_after_a_failed_one_sends_only_what_differs(
    world: World, sent: dict[str, int], layout: str
) -> None:
    world.add_server(layout=layout)
    number = failed(world)
    assert images(sent) > 0
    assert [one.migration for one in kept(world)] == [number]
    sent.clear()
    row = world.migrate("web1")
    assert (row.outcome, images(sent), kept(world)) == ("success", 0, [])
    with world.database.reading() as session:
        said = [event.text for event in moves.events(session, row.uuid) if event.kind == "kept"]
    assert len(said) == 1
    assert f".{number}.kept" in said[0]


def test_a_server_that_went_back_is_sent_what_differs(world: World, sent: dict[str, int]) -> None:
    world.add_server()
    world.migrate("web1")
    world.client.revert_resize("web1", requested_by="tester", reason="slow", drop_writes=True)
    world.run()
    assert len(kept(world)) == 1
    sent.clear()
    assert world.migrate("web1").outcome == "success"
    assert images(sent) == 0


def test_a_copy_made_beforehand_is_used(world: World, sent: dict[str, int]) -> None:
    server = world.add_server()
    kvm1, kvm2 = world.hosts["kvm1"], world.hosts["kvm2"]
    shutil.copytree(kvm1.at(f"{INSTANCES}/{server}"), kvm2.at(f"{INSTANCES}/{server}.copy/{server}"))
    assert world.migrate("web1").outcome == "success"
    assert images(sent) == 0


def test_a_damaged_copy_is_mended_by_the_next_attempt(world: World, sent: dict[str, int]) -> None:
    """What lies there is read: nothing that was known of it counts."""
    world.add_server(layout="flat")
    failed(world)
    (directory,) = [path for path in kept(world)[0].directories if path.startswith(POOL)]
    for file in world.hosts["kvm2"].at(directory).glob("web1*"):
        file.write_bytes(b"garbage" * 1000)
    sent.clear()
    assert world.migrate("web1").outcome == "success"
    assert images(sent) > 0


@pytest.mark.parametrize("gone", ["from the records", "to that host"])
def test_what_nobody_can_want_is_removed(world: World, gone: str) -> None:
    server = world.add_server()
    failed(world)
    files = world.hosts["kvm2"].drivers.files
    drop_kept(world.database, "kvm2", files)
    assert len(kept(world)) == 1
    with world.database.transaction() as session:
        row: Any = session.get(Instance, server)
        if gone == "to that host":
            row.host = "kvm2"
        else:
            session.delete(row)
    drop_kept(world.database, "kvm2", files)
    assert kept(world) == []
