"""A destination that dies before the hand-over loses the migration, without a human; it cleans up when it returns."""

from __future__ import annotations

from typing import Any

import pytest

from hostler.drivers.hypervisor.fake import FakeHypervisor
from hostler.errors import Fenced, SessionLost
from hostler.flows import shape_of
from hostler.jobboard.recovery import HostIsAlive, WritesWouldBeLost
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


@pytest.mark.parametrize("confirmable", [True, False])
def test_a_destination_lost_behind_the_hand_over_is_given_up_for_the_source(
    world: World, confirmable: bool
) -> None:
    server = world.add_server()
    before = world.look()
    number = world.client.migrate("web1", "kvm2", requested_by="tester")
    if confirmable:
        world.run()
        world.cut_power("kvm2")
    else:
        die_in(world, step("cold_migration", "StartGuest"), "after")
    world.board.client.delete(world.board.path("workers", "kvm2"))
    with pytest.raises(WritesWouldBeLost):
        world.client.recover(number, "kvm2", requested_by="alice", reason="its disk burnt")
    world.client.recover(number, "kvm2", requested_by="alice", reason="its disk burnt", drop_writes=True)
    world.run()
    migration = world.migration(number)
    assert (migration.phase, migration.outcome) == ("closed", "reverted")
    assert world.look_at("kvm1") == before["kvm1"]
    assert world.instance(server).host == "kvm1"

    world.power_on("kvm2")
    assert not world.hosts["kvm2"].hypervisor.exists(server)
    assert world.look() == before


@pytest.mark.parametrize("confirmation", ["waits for the dead host", "was refused"])
def test_a_confirmation_that_failed_leaves_the_way_back(world: World, confirmation: str) -> None:
    server = world.add_server()
    before = world.look()
    number = world.migrate("web1").uuid
    if confirmation == "was refused":
        world.hosts["kvm2"].hypervisor.destroy(server)
        world.client.confirm("web1", requested_by="tester")
        world.run()
        world.cut_power("kvm2")
    else:
        world.client.confirm("web1", requested_by="tester")
        world.cut_power("kvm2")
        world.run()
    assert (world.migration(number).phase, world.migration(number).status) == ("closed", "finished")
    world.board.client.delete(world.board.path("workers", "kvm2"))
    world.client.recover(number, "kvm2", requested_by="alice", reason="its disk burnt", drop_writes=True)
    world.run()
    assert world.look_at("kvm1") == before["kvm1"]
    assert world.hosts["kvm1"].hypervisor.power_state(server).active

    world.power_on("kvm2")
    assert world.look() == before


@pytest.mark.parametrize("name", ["PowerOff", "UndefineDomain", "RenameInstanceDir", "CopyImages"])
def test_a_source_lost_before_the_copy_frees_the_destination_and_the_server_waits(
    world: World, name: str
) -> None:
    server = world.add_server()
    before = world.look()
    number = world.client.migrate("web1", "kvm2", requested_by="tester")
    task = step("cold_migration", name)
    with (
        failing(task, SessionLost("power cut"), when="after", also=lambda: world.cut_power("kvm1")),
        pytest.raises(SessionLost),
    ):
        world.run()
    with pytest.raises(HostIsAlive):
        world.client.recover(number, "kvm1", requested_by="alice", reason="too early")
    world.board.client.delete(world.board.path("workers", "kvm1"))
    world.client.recover(number, "kvm1", requested_by="alice", reason="waiting for a part")
    world.run()
    assert world.migration(number).outcome == "reverted"
    assert world.look_at("kvm2") == before["kvm2"]

    world.power_on("kvm1")
    assert world.look() == before
    assert world.hosts["kvm1"].hypervisor.power_state(server).active


def test_a_destination_that_wakes_after_it_was_given_up_starts_no_second_guest(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = world.add_server()
    number = world.client.migrate("web1", "kvm2", requested_by="tester")
    there, define = world.hosts["kvm2"].hypervisor, FakeHypervisor.define

    def asleep(hypervisor: FakeHypervisor, *arguments: Any, **named: Any) -> None:
        """Stand still behind the hand-over until the source has the server again."""
        define(hypervisor, *arguments, **named)
        if hypervisor is there and world.instance(server).vm_state == "resized":
            board = world.board
            board.client.delete(board.path("workers", "kvm2"))
            job = board.path("boards", "kvm2", number)
            for sign in board.client.get_children(job):
                board.client.delete(f"{job}/{sign}")
            world.client.recover(
                number, "kvm2", requested_by="tester", reason="it is silent", drop_writes=True
            )
            world.dead.add("kvm2")
            world.run()
            assert world.hosts["kvm1"].hypervisor.power_state(server).active

    monkeypatch.setattr(FakeHypervisor, "define", asleep)
    with pytest.raises(Fenced):
        world.run()
    assert there.booted.get(server, 0) == 0
    assert world.hosts["kvm1"].hypervisor.power_state(server).active
