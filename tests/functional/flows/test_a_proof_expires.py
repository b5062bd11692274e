"""The last good copy goes only while it is fresh news that there is another one."""

from __future__ import annotations

from datetime import timedelta

import pytest

from hostler.tasks import files
from tests.support.world import World


def test_a_confirmation_that_comes_long_after_its_proof_removes_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.add_server()
    number = world.migrate("web1").uuid
    before = world.hosts["kvm1"].tree()

    with monkeypatch.context() as patch:
        patch.setattr(files, "PROOF_LIFETIME", timedelta(0))
        world.client.confirm("web1", requested_by="tester")
        world.run()
    migration = world.migration(number)
    assert (migration.outcome, migration.status) == ("refused", "finished")
    assert "confirm again" in str(migration.error)
    assert world.hosts["kvm1"].tree() == before

    world.client.confirm("web1", requested_by="tester")
    world.run()
    assert world.migration(number).status == "confirmed"
    assert not [path for path in world.hosts["kvm1"].tree() if "_resize" in path]
