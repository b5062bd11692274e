"""A host dies while a server goes back: exactly one guest runs in the end, and no data is lost unasked."""

from __future__ import annotations

from pathlib import Path

import pytest

from hostler.errors import SessionLost
from hostler.flows import shape_of
from hostler.jobboard import reboot
from hostler.objects import DEST, PowerState
from hostler.tasks.base import HostTask
from tests.support.world import World, failing, step

SHAPE = shape_of("revert_resize")
NAMES = [one.name for one in SHAPE]
HAND_BACK = NAMES.index("HandBack")
ON_DEST = [one.name for one in SHAPE[:HAND_BACK] if one.where == DEST]


def going_back(world: World) -> tuple[str, str]:
    """Move web1 and ask for it back; return its uuid and the migration's."""
    server = world.add_server()
    number = world.migrate("web1").uuid
    world.client.revert_resize("web1", requested_by="tester", reason="slow", drop_writes=True)
    return server, number


def die_in(world: World, task: HostTask, host: str, when: str = "after") -> None:
    """Carry the way back on until *host* dies in *task*."""
    with (
        failing(task, SessionLost("power cut"), when=when, also=lambda: world.cut_power(host)),
        pytest.raises(SessionLost),
    ):
        world.run()


@pytest.mark.parametrize("name", ON_DEST)
def test_a_destination_that_dies_is_waited_for_and_the_source_starts_nothing(world: World, name: str) -> None:
    server, number = going_back(world)
    die_in(world, step("revert_resize", name), "kvm2")
    world.run()
    assert world.migration(number).phase == "open"
    assert world.board.jobs("kvm1") == []
    assert not world.hosts["kvm1"].hypervisor.exists(server)
    world.power_on("kvm2")
    world.run()
    assert world.migration(number).status == "reverted"
    assert world.hosts["kvm1"].hypervisor.power_state(server) is PowerState.RUNNING
    assert not world.hosts["kvm2"].hypervisor.exists(server)


@pytest.mark.parametrize("name", ["CheckGuest", "StopGuest", "SetGuestAside"])
def test_a_destination_that_stays_dead_is_given_up_with_its_writes(world: World, name: str) -> None:
    server = world.add_server()
    before = world.look()
    number = world.migrate("web1").uuid
    world.client.revert_resize("web1", requested_by="tester", reason="slow", drop_writes=True)
    die_in(world, step("revert_resize", name), "kvm2")
    world.board.client.delete(world.board.path("workers", "kvm2"))
    world.client.recover(number, "kvm2", requested_by="alice", reason="its disk burnt", drop_writes=True)
    world.run()
    assert world.look_at("kvm1") == before["kvm1"]
    world.power_on("kvm2")
    assert world.hosts["kvm2"].hypervisor.booted.get(server, 0) == 1
    assert world.look() == before


def test_a_destination_that_is_dead_from_the_beginning_leaves_all_as_it_is(world: World) -> None:
    _, number = going_back(world)
    world.cut_power("kvm2")
    world.run()
    migration = world.migration(number)
    assert (migration.outcome, migration.status) == ("reverted", "finished")
    assert "kvm2 has had no worker for too long" in str(migration.error)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("name", ["ProveWayBack", "HandBack"])
def test_a_source_that_dies_before_the_hand_back_loses_the_server_to_the_destination(
    world: World, name: str, when: str
) -> None:
    server, number = going_back(world)
    handed_back = (name, when) == ("HandBack", "after")
    die_in(world, step("revert_resize", name), "kvm1", when)
    world.run()
    guest = world.hosts["kvm2"].hypervisor
    if handed_back:
        assert world.migration(number).phase == "open"
        assert not guest.exists(server)
    else:
        assert (world.migration(number).outcome, world.migration(number).status) == ("reverted", "finished")
        assert guest.power_state(server) is PowerState.RUNNING
    world.power_on("kvm1")
    world.run()
    runs = [host for host in world.hosts.values() if host.hypervisor.power_state(server).active]
    assert [host.name for host in runs] == (["kvm1"] if handed_back else ["kvm2"])


@pytest.mark.parametrize("told", [False, True])
def test_a_destination_that_reboots_starts_the_guest_unless_it_was_told_to_go(
    world: World, tmp_path: Path, told: bool
) -> None:
    server, number = going_back(world)
    if told:
        die_in(world, step("revert_resize", "StopGuest"), "kvm2")
    else:
        world.cut_power("kvm2")
    world.power_on("kvm2")
    hypervisor = world.hosts["kvm2"].hypervisor
    started = reboot.restart_unconfirmed(world.database, hypervisor, "kvm2", str(tmp_path / "run"))
    assert started == ([] if told else [server])
    world.run()
    assert world.migration(number).status == "reverted"
    assert not hypervisor.exists(server)
