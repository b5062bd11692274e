"""What packing was good for is told in the end."""

from __future__ import annotations

import pytest

from hostler.drivers.images.outgoing import Outgoing
from tests.functional.flows.test_damaged_on_the_way import told
from tests.support.world import World


@pytest.mark.parametrize("packed", [True, False])
def test_a_migration_tells_what_packing_saved(
    world: World, monkeypatch: pytest.MonkeyPatch, packed: bool
) -> None:
    real = Outgoing.sent

    def sent(self: Outgoing, slot: int, found: bytes | None, data_bytes: int, sent_bytes: int = 0) -> None:
        real(self, slot, found, data_bytes, sent_bytes, 3 * sent_bytes if packed else 0)

    monkeypatch.setattr(Outgoing, "sent", sent)
    world.add_server()
    migration = world.migrate("web1")
    assert migration.outcome == "success"
    texts = [text for text in told(world, migration.uuid) if "crossed the link as" in text]
    assert len(texts) == packed
