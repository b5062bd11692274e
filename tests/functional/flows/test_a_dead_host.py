"""A destination that dies before the hand-over loses the migration, without a human; it cleans up when it returns."""

from __future__ import annotations

import pytest

from hostler.errors import SessionLost
from hostler.flows import shape_of
from hostler.objects import DEST
from hostler.tasks.base import HostTask
from tests.support.world import World, failing, step

SHAPE = shape_of("cold_migration")
NAMES = [one.name for one in SHAPE]
BEFORE_HAND_OVER = SHAPE[: NAMES.index("HandOver")]
ON_DEST = [one.name for one in BEFORE_HAND_OVER if one.where == DEST]


def die_in(world: World, task: HostTask, when: str, method: str = "execute") -> None:
    """Carry the migration on until kvm2 dies in *task*."""
    with (
        failing(
            task, SessionLost("power cut"), when=when, method=method, also=lambda: world.cut_power("kvm2")
        ),
        pytest.raises(SessionLost),
    ):
        world.run()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("name", ON_DEST)
def test_the_server_runs_again_on_the_source_while_the_destination_is_dead(
    world: World, name: str, when: str
) -> None:
    server = world.add_server()
    before = world.look()
    number = world.client.migrate("web1", "kvm2", requested_by="tester")
    die_in(world, step("cold_migration", name), when)
    world.run()
    migration = world.migration(number)
    assert (migration.phase, migration.outcome, migration.status) == ("closed", "reverted", "error")
    assert migration.error == "kvm2 has had no worker for too long"
    assert world.hosts["kvm1"].hypervisor.power_state(server).active
    assert world.look_at("kvm1") == before["kvm1"]

    world.power_on("kvm2")
    assert world.look() == before
    assert world.hosts["kvm2"].hypervisor.booted.get(server, 0) == 0
    assert world.migrate("web1").outcome == "success"


@pytest.mark.parametrize("name", ["FinishMigration", "MigratePorts", "OpenReceiver"])
def test_a_destination_that_dies_while_it_walks_back_is_left_behind(world: World, name: str) -> None:
    world.add_server()
    before = world.look()
    number = world.client.migrate("web1", "kvm2", requested_by="tester")
    with failing(step("cold_migration", "HandOver"), ValueError("turns round"), when="before"):
        die_in(world, step("cold_migration", name), "before", method="revert")
    world.run()
    assert world.migration(number).outcome == "reverted"
    assert world.look_at("kvm1") == before["kvm1"]
    world.power_on("kvm2")
    assert world.look() == before


def test_behind_the_hand_over_the_source_waits_for_the_destination(world: World) -> None:
    server = world.add_server()
    number = world.client.migrate("web1", "kvm2", requested_by="tester")
    die_in(world, step("cold_migration", "HandOver"), "after")
    world.run()
    assert world.migration(number).phase == "open"
    assert not world.hosts["kvm1"].hypervisor.exists(server)
    world.power_on("kvm2")
    world.run()
    assert world.migration(number).outcome == "success"
    assert world.hosts["kvm2"].hypervisor.power_state(server).active
