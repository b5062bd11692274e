"""A bit that flips between the two hosts: mended while the copy lasts, found behind it, and no guest started on it."""

from __future__ import annotations

import pytest

from hostler.drivers.images import mending
from hostler.drivers.images.fake import FakeVerifier
from hostler.objects import PowerState
from hostler.records import moves
from tests.support.world import World


def told(world: World, number: str) -> list[str]:
    with world.database.reading() as session:
        return [event.text for event in moves.events(session, number)]


def test_what_arrives_damaged_is_sent_again(world: World) -> None:
    server = world.add_server()
    world.hosts["kvm1"].drivers.sender.faults.flip_bit_at = ("0", (5 << 20) + 7)  # type: ignore[attr-defined]
    migration = world.migrate("web1")
    assert migration.outcome == "success"
    assert any("1 blocks had arrived damaged: sent again" in text for text in told(world, migration.uuid))
    assert world.hosts["kvm2"].hypervisor.power_state(server) is PowerState.RUNNING


@pytest.mark.parametrize("where", ["it does not take it", "behind the check"])
def test_no_guest_is_started_on_what_stays_damaged(
    world: World, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    server = world.add_server()
    if where == "behind the check":
        real = FakeVerifier.verify

        def verify(self: FakeVerifier, migration: str, export, expected, checkpoint):  # type: ignore[no-untyped-def]
            with self._local(export.part).open("r+b") as file:
                byte = file.read(1)[0]
                file.seek(0)
                file.write(bytes([byte ^ 1]))
            real(self, migration, export, expected, checkpoint)

        monkeypatch.setattr(FakeVerifier, "verify", verify)
    else:
        world.hosts["kvm1"].drivers.sender.faults.flip_bit_at = ("0", (5 << 20) + 7)  # type: ignore[attr-defined]
        monkeypatch.setattr(mending.Mender, "_send", lambda *_: None)
    migration = world.migrate("web1")
    assert migration.outcome == "reverted"
    assert "differs at offset" in str(migration.error)
    assert not world.hosts["kvm2"].hypervisor.exists(server)
    assert world.hosts["kvm1"].hypervisor.power_state(server) is PowerState.RUNNING
