"""Whatever step fails, before or after its effect: the server runs where it ran, and nothing else is left."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import update

from hostler.errors import MigrationError
from hostler.flows import shape_of
from hostler.records.models import Instance, Migration
from tests.support.world import World, failing, step

STEPS = [one.name for one in shape_of("cold_migration")]
HAND_OVER = STEPS.index("HandOver")


@pytest.mark.parametrize("layout", ["dir", "flat"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("name", STEPS[:HAND_OVER])
def test_a_failing_step_leaves_the_server_running_on_the_source(
    world: World, name: str, when: str, layout: str
) -> None:
    server = world.add_server(layout=layout)
    before = world.look()
    with failing(step("cold_migration", name), MigrationError("on purpose"), when=when):
        migration = world.migrate("web1")
    assert (migration.status, migration.phase, migration.outcome) == ("error", "closed", "reverted")
    assert migration.error == "on purpose"
    assert world.look() == before
    assert world.hosts["kvm1"].hypervisor.power_state(server).active
    assert world.hosts["kvm2"].hypervisor.booted.get(server, 0) == 0


def test_a_refused_hand_over_leaves_the_server_on_the_source(world: World) -> None:
    server = world.add_server()
    before = world.look()
    with failing(step("cold_migration", "HandOver"), MigrationError("the CAS lost"), when="before"):
        migration = world.migrate("web1")
    assert migration.outcome == "reverted"
    assert world.look() == before
    assert world.hosts["kvm2"].hypervisor.booted.get(server, 0) == 0


def test_firmware_state_that_was_made_on_the_destination_goes_again(world: World) -> None:
    """A server that never ran has none yet: what libvirt makes of it there is no copy of anything."""
    world.add_server(running=False, firmware=True)
    world.hosts["kvm1"].volumes.connected.add("data")
    before = world.look()
    with failing(step("cold_migration", "HandOver"), MigrationError("the CAS lost"), when="before"):
        assert world.migrate("web1").outcome == "reverted"
    assert world.look() == before
    world.migrate("web1")
    assert [path for path in world.hosts["kvm2"].tree() if "VARS.fd" in path or "permall" in path]
    world.client.revert_resize("web1", requested_by="tester", reason="it is slow", drop_writes=False)
    world.run()
    assert [path for path in world.hosts["kvm2"].tree() if "VARS.fd" in path or "permall" in path] == []


def test_firmware_state_that_was_on_the_destination_stays(world: World) -> None:
    world.add_server(running=False, firmware=True)
    kept = world.hosts["kvm2"].at("/var/lib/libvirt/qemu/nvram/web1_VARS.fd")
    kept.write_bytes(b"of an older server of that name")
    with failing(step("cold_migration", "HandOver"), MigrationError("the CAS lost"), when="before"):
        assert world.migrate("web1").outcome == "reverted"
    assert kept.read_bytes() == b"of an older server of that name"


@pytest.mark.parametrize("change", [{"task_state": "deleting"}, {"status": "error"}], ids=str)
def test_what_others_write_meanwhile_stays_and_the_rest_is_undone(
    world: World, monkeypatch: pytest.MonkeyPatch, change: dict[str, str]
) -> None:
    server = world.add_server()
    before = world.look()
    hand_over = step("cold_migration", "HandOver")
    real, model = hand_over.execute, Instance if "task_state" in change else Migration

    def meddled(**arguments: Any) -> Any:
        with world.database.transaction() as session:
            session.execute(update(model).values(**change))
        return real(**arguments)

    monkeypatch.setattr(hand_over, "execute", meddled)
    migration = world.migrate("web1")
    assert (migration.phase, migration.outcome, migration.status) == ("closed", "reverted", "error")
    assert "was not handed over" in (migration.error or "")
    assert world.instance(server).task_state == change.get("task_state")
    with world.database.transaction() as session:
        session.execute(update(Instance).values(task_state=None))
    assert world.look() == before


def test_an_error_after_the_hand_over_is_parked_and_never_undone(world: World) -> None:
    server = world.add_server()
    with failing(step("cold_migration", "HandOver"), MigrationError("too late"), when="after"):
        migration = world.migrate("web1")
    assert (migration.phase, migration.outcome) == ("parked", "parked")
    assert world.instance(server).host == "kvm2"
    assert not world.hosts["kvm1"].hypervisor.exists(server)


@pytest.mark.parametrize("running", [True, False])
@pytest.mark.parametrize("layout", ["dir", "flat"])
def test_a_server_moves_and_is_confirmed(world: World, layout: str, running: bool) -> None:
    server = world.add_server(layout=layout, running=running)
    kvm1, kvm2 = world.hosts["kvm1"], world.hosts["kvm2"]
    before = kvm1.hypervisor.describe(server)
    contents = {disk.path: kvm1.at(disk.path).read_bytes() for disk in before.disks}
    migration = world.migrate("web1")
    assert (migration.status, migration.outcome, migration.error) == ("finished", "success", None)
    assert {path: kvm2.at(path).read_bytes() for path in contents} == contents
    assert kvm2.hypervisor.power_state(server).active is running
    assert kvm2.hypervisor.booted.get(server, 0) == int(running)
    assert not kvm1.hypervisor.exists(server)
    assert not kvm2.hypervisor.describe(server).autostart

    world.client.confirm("web1", requested_by="tester")
    world.run()
    migration = world.migration(migration.uuid)
    assert (migration.status, migration.outcome, migration.error) == ("confirmed", "success", None)
    after = kvm2.hypervisor.describe(server)
    assert after.autostart
    assert after.migration is None
    assert world.look()["journal"] == []
    left = [name for name in kvm1.tree() if "web1" in name or server in name or "resize" in name]
    assert left == []
    assert not [name for name in kvm2.tree() if name.endswith(".part")]
    instance = world.instance(server)
    assert (instance.host, instance.vm_state, instance.task_state) == (
        "kvm2",
        "active" if running else "stopped",
        None,
    )
