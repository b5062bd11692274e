"""A server that was moved goes back, whatever fails on the way; asked for wrongly, nothing is changed."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from hostler.errors import (
    HostUnavailable,
    InstanceInvalidState,
    MigrationError,
    MigrationInProgress,
    WritesWouldBeLost,
)
from hostler.flows import shape_of
from hostler.jobboard.client import Client
from hostler.jobboard.leg import End
from hostler.jobboard.reconciler import Reconciler
from hostler.objects import PowerState
from hostler.records import moves
from hostler.tasks.undo import Undo
from tests.support.world import INSTANCES, POOL, World, failing, step, wished

STEPS = [one.name for one in shape_of("revert_resize")]
HAND_BACK = STEPS.index("HandBack")


def ask(world: World, *, drop_writes: bool = True) -> str:
    """Ask for web1 back."""
    return world.client.revert_resize(
        "web1", requested_by="tester", reason="it is slow there", drop_writes=drop_writes
    )


def events(world: World, number: str, kind: str) -> list[str]:
    with world.database.reading() as session:
        return [event.text for event in moves.events(session, number) if event.kind == kind]


@pytest.mark.parametrize("running", [True, False])
@pytest.mark.parametrize("layout", ["dir", "flat"])
def test_a_server_goes_back_and_nothing_is_left_of_its_move(world: World, layout: str, running: bool) -> None:
    server = world.add_server(layout=layout, running=running)
    before = world.look()
    number = world.migrate("web1").uuid
    for path in (disk.path for disk in world.hosts["kvm2"].hypervisor.describe(server).disks):
        with world.hosts["kvm2"].at(path).open("r+b") as file:
            file.write(b"written since")
    if not running:
        before["kvm1"]["volumes"] = ["data"]  # the fake's: a server that is off has not connected it
    ask(world)
    assert world.instance(server).task_state == "resize_reverting"
    world.run()
    migration = world.migration(number)
    assert (migration.status, migration.outcome, migration.error) == ("reverted", "success", None)
    assert world.look() == before
    assert world.hosts["kvm1"].hypervisor.power_state(server).active is running
    assert events(world, number, "revert") == ["revert asked for by tester: it is slow there"]
    told = [sent[0] for host in world.hosts.values() for sent in host.notifications.sent]
    assert {f"compute.instance.resize.revert.{moment}" for moment in ("start", "end")} <= set(told)


@pytest.mark.parametrize(("when", "layout"), [("before", "dir"), ("after", "flat")])
@pytest.mark.parametrize("name", STEPS[:HAND_BACK])
def test_a_failing_step_leaves_the_server_running_where_it_was_moved_to(
    world: World, name: str, when: str, layout: str
) -> None:
    server = world.add_server(layout=layout)
    number = world.migrate("web1").uuid
    moved = world.look()
    ask(world)
    with failing(step("revert_resize", name), MigrationError("on purpose"), when=when):
        world.run()
    migration = world.migration(number)
    assert (migration.status, migration.phase, migration.outcome) == ("finished", "closed", "reverted")
    assert migration.error == "on purpose"
    assert world.look() == moved
    assert world.hosts["kvm2"].hypervisor.power_state(server) is PowerState.RUNNING
    assert world.hosts["kvm1"].hypervisor.booted.get(server, 0) == 1


@pytest.mark.parametrize("name", [name for name in STEPS if name.startswith("Undo")])
def test_behind_the_hand_back_a_failing_step_is_parked_and_tried_again(world: World, name: str) -> None:
    world.add_server()
    before = world.look()
    number = world.migrate("web1").uuid
    ask(world)
    task = step("revert_resize", name)
    assert isinstance(task, Undo)
    with failing(task.step, MigrationError("on purpose"), when="after", method="revert"):
        assert world.run()[-1][1] is End.PARKED
    assert world.instance(world.migration(number).instance_uuid).host == "kvm1"
    for refuses in (world.client.revert, world.client.cancel):
        with pytest.raises(InstanceInvalidState):
            refuses(number, requested_by="alice", reason="too late")
    world.client.retry(number, requested_by="tester")
    world.run()
    assert world.migration(number).status == "reverted"
    assert world.look() == before


def test_after_a_failed_revert_and_after_a_revert_all_is_as_on_the_first_day(world: World) -> None:
    server = world.add_server()
    before = world.look()
    number = world.migrate("web1").uuid
    for _ in range(2):
        ask(world)
        with failing(step("revert_resize", "HandBack"), MigrationError("the CAS lost"), when="before"):
            world.run()
    with failing(step("confirm_resize", "ProveGuest"), MigrationError("not now"), when="before"):
        world.client.confirm("web1", requested_by="tester")
        world.run()
    ask(world)
    world.run()
    assert world.migration(number).status == "reverted"
    assert world.look() == before

    assert world.migrate("web1").status == "finished"
    world.client.confirm("web1", requested_by="tester")
    world.run()
    assert world.instance(server).host == "kvm2"
    assert world.hosts["kvm2"].hypervisor.power_state(server).active


def test_a_server_that_was_parked_before_it_ran_there_goes_back(world: World) -> None:
    server = world.add_server()
    before = world.look()
    number = world.client.migrate("web1", "kvm2", requested_by="tester")
    world.hosts["kvm2"].hypervisor.fail_next("define", MigrationError("no such machine"), times=3)
    assert world.run()[-1] == ("kvm2", End.PARKED)
    assert world.hosts["kvm2"].hypervisor.power_state(server) is PowerState.PAUSED
    with pytest.raises(MigrationInProgress):
        world.client.confirm("web1", requested_by="tester")
    ask(world)
    world.run()
    assert world.migration(number).status == "reverted"
    assert world.look() == before
    assert world.hosts["kvm2"].hypervisor.booted.get(server, 0) == 0


# -- asked for wrongly --------------------------------------------------------------------------------------


def refused(world: World, kind: type[Exception], says: str, hint: str, ask_for: Any = ask) -> None:
    """What is asked for is refused with that hint, and nothing is changed."""
    before = world.look()
    with pytest.raises(kind, match=says) as raised:
        ask_for(world)
    assert raised.value.hint == hint  # type: ignore[attr-defined]
    assert world.look() == before


def confirmed(world: World) -> str:
    return world.client.confirm("web1", requested_by="tester")


def test_each_wrong_wish_is_refused_with_the_next_command(world: World) -> None:
    world.add_server()
    refused(world, InstanceInvalidState, "never moved", "hostler server migrate web1 --to HOST")
    number = world.migrate("web1").uuid
    hint = "hostler server revert web1 --reason ... --drop-writes"
    refused(world, WritesWouldBeLost, "drops everything", hint, lambda _: ask(world, drop_writes=False))
    ask(world)
    for other in (ask, confirmed):
        refused(world, MigrationInProgress, number, f"hostler migration watch {number}", other)
    world.run()
    refused(world, InstanceInvalidState, "brought back to kvm1 already", "hostler server show web1")
    world.migrate("web1")
    second = confirmed(world)
    for other in (ask, confirmed):
        refused(world, MigrationInProgress, second, f"hostler migration watch {second}", other)
    world.run()
    refused(world, InstanceInvalidState, "was confirmed on kvm2", "hostler server migrate web1 --to kvm1")


def test_of_several_that_confirm_and_revert_at_once_one_gets_it(
    tmp_path: Path, zookeeper_hosts: str, any_url: str
) -> None:
    world = World(tmp_path / "hosts", zookeeper_hosts, any_url)
    world.add_server()
    number = world.migrate("web1").uuid
    clients = [Client(world.conf) for _ in range(6)]
    together = threading.Barrier(len(clients))

    def wish(client: Client, back: bool) -> object:
        client.live_workers()
        together.wait(30)
        try:
            if back:
                return client.revert_resize("web1", requested_by="b", reason="slow", drop_writes=True)
            return client.confirm("web1", requested_by="a")
        except MigrationInProgress as error:
            return error
        finally:
            client.close()

    with ThreadPoolExecutor(len(clients)) as threads:
        ends = list(threads.map(wish, clients, [number % 2 == 0 for number in range(6)]))
    won = [end for end in ends if end == number]
    assert len(won) == 1, ends
    assert all(isinstance(end, MigrationInProgress) for end in ends if end != number)
    world.run()
    assert world.migration(number).status == ("reverted" if ends.index(number) % 2 == 0 else "confirmed")
    world.close()


def test_a_host_without_a_worker_is_named_before_anything_is_touched(world: World) -> None:
    world.add_server()
    world.migrate("web1")
    world.board.client.delete(world.board.path("workers", "kvm1"))
    refused(world, HostUnavailable, "kvm1", "on kvm1: systemctl start hostler-worker")


def test_what_a_stopped_server_wrote_there_is_not_dropped_unasked(world: World) -> None:
    server = world.add_server(running=False)
    world.hosts["kvm1"].volumes.connected.add("data")
    before = world.look()
    number = world.migrate("web1").uuid
    hypervisor = world.hosts["kvm2"].hypervisor
    disk = world.hosts["kvm2"].at(hypervisor.describe(server).disks[1].path)
    hypervisor.start(server)
    with disk.open("r+b") as file:
        file.write(b"precious")
    hypervisor.destroy(server)
    moved = world.look()
    ask(world, drop_writes=False)
    world.run()
    migration = world.migration(number)
    assert (migration.outcome, migration.status) == ("refused", "finished")
    assert "drops everything written" in str(migration.error)
    assert world.look() == moved
    ask(world)
    world.run()
    assert world.look() == before


@pytest.mark.parametrize("damage", ["gone", "name taken", "base changed", "defined"])
def test_a_way_back_that_is_not_whole_is_seen_before_the_guest_is_stopped(world: World, damage: str) -> None:
    server = world.add_server(layout="flat")
    kvm1, kvm2 = world.hosts["kvm1"], world.hosts["kvm2"]
    xml = kvm1.hypervisor.describe(server).xml
    number = world.migrate("web1").uuid
    match damage:
        case "gone":
            kvm1.at(f"{POOL}/web1.qcow2.{number}_resize").unlink()
        case "name taken":
            kvm1.at(f"{POOL}/web1.qcow2").touch()
        case "base changed":
            kvm1.at(f"{POOL}/base.raw").write_bytes(b"other" * 4000)
        case "defined":
            kvm1.hypervisor.define(xml)
    moved = world.look()
    kvm2.hypervisor.calls.clear()
    ask(world)
    world.run()
    assert world.migration(number).outcome == "refused"
    assert world.look() == moved
    assert ("shutdown", server) not in kvm2.hypervisor.calls


def test_what_is_not_the_migrations_stays_on_the_destination(world: World) -> None:
    server = world.add_server(layout="flat")
    number = world.migrate("web1").uuid
    disk = world.hosts["kvm2"].at(f"{POOL}/web1-data.raw")
    disk.rename(disk.with_name("kept"))
    disk.write_bytes(b"an operator's")
    moved = world.look()
    ask(world)
    world.run()
    migration = world.migration(number)
    assert migration.outcome == "refused"
    assert "web1-data.raw is not what migration" in str(migration.error)
    assert world.look() == moved
    assert world.hosts["kvm2"].hypervisor.power_state(server).active


# -- cancelled, lost, never posted --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["CheckGuest", "StopGuest", "SetGuestAside", "HandBack"])
def test_a_wish_before_the_hand_back_lets_the_guest_run_on(world: World, name: str) -> None:
    server = world.add_server()
    number = world.migrate("web1").uuid
    moved = world.look()
    ask(world)
    task = step("revert_resize", name)
    with wished(world, number, task):
        world.run()
    migration = world.migration(number)
    assert (migration.outcome, migration.status) == ("reverted", "finished")
    world.board.forget_wish(number)
    assert world.look() == moved
    assert world.hosts["kvm2"].hypervisor.power_state(server).active
    ask(world)
    world.run()
    assert world.migration(number).status == "reverted"


def test_a_revert_that_never_came_to_a_board_is_asked_for_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.add_server()
    before = world.look()
    number = world.migrate("web1").uuid
    moved = world.look()

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    for _ in range(2):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr("hostler.jobboard.resized.put_on_board", killed)
            ask(world)
        Reconciler(world.database, world.board, posting_timeout_s=0).run()
        assert (world.migration(number).phase, world.migration(number).status) == ("closed", "finished")
        assert world.look() == moved
    ask(world)
    world.run()
    assert world.look() == before


def test_a_base_image_stays_as_long_as_what_was_set_aside_needs_it(world: World) -> None:
    world.add_server("web1")
    other = world.add_server("web2", running=False)
    kvm2 = world.hosts["kvm2"]
    base = kvm2.at(f"{POOL}/base.raw")
    world.migrate("web1")  # brings the base image to kvm2
    world.migrate("web2")
    world.client.confirm("web2", requested_by="tester")
    world.run()
    world.migrate("web2", "kvm1")  # leaves its overlay behind, set aside
    assert not kvm2.hypervisor.exists(other)
    ask(world)
    world.run()
    assert world.instance(other).host == "kvm1"
    assert base.is_file()
    world.client.revert_resize("web2", requested_by="tester", reason="slow", drop_writes=True)
    world.run()
    assert (world.instance(other).host, world.instance(other).vm_state) == ("kvm2", "stopped")
    kvm2.hypervisor.start(other)


@pytest.mark.parametrize("layout", ["dir", "flat"])
def test_a_pool_may_be_a_link_to_a_directory(world: World, layout: str) -> None:
    for host in ("kvm1", "kvm2"):
        for path in (INSTANCES, POOL):
            place = world.hosts[host].at(path)
            place.rename(place.with_name(f"{place.name}-real"))
            place.symlink_to(f"{place.name}-real")
    world.add_server(layout=layout)
    before = world.look()
    assert world.migrate("web1").outcome == "success"
    ask(world)
    world.run()
    assert world.look() == before
    assert world.migrate("web1").outcome == "success"
    world.client.confirm("web1", requested_by="tester")
    world.run()
    assert not list(world.hosts["kvm1"].at(POOL).glob("web1*"))
    assert not list(world.hosts["kvm1"].at(INSTANCES).iterdir())
