"""Another size, on another host or where the server is: whole, or not at all."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from unittest import mock

import pytest

from hostler.errors import (
    CannotResizeDisk,
    CannotResizeToSameFlavor,
    CannotResizeToSameHost,
    ComputeResourcesUnavailable,
    FlavorInUse,
    FlavorNotFound,
    InstanceInvalidState,
    MigrationError,
    Stopping,
)
from hostler.flows import shape_of
from hostler.jobboard.client import Client
from hostler.jobboard.reconciler import Reconciler
from hostler.objects import Disk
from hostler.records import flavors, hosts
from hostler.records.models import Host, Instance
from tests.support.world import SWAP_UUID, World, failing, step

NAMES = [one.name for one in shape_of("resize")]
BEFORE_HAND_OVER = NAMES[: NAMES.index("HandOver")]
#: Another host with a directory of the server's own; the same host with all files in one pool.
PLACES = [("kvm2", "dir"), ("kvm1", "flat")]
GIB = 1 << 30


def virtual_size(image: Path, image_format: str) -> int:
    command = ["qemu-img", "info", "-U", "--output=json", "-f", image_format, str(image)]
    return int(json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["virtual-size"])


def sizes(world: World, host: str, server: str) -> list[int]:
    """What the guest sees: each disk's size, in MiB."""
    one = world.hosts[host]
    disks = one.hypervisor.describe(server).disks
    return [virtual_size(one.at(disk.path), disk.format) >> 20 for disk in disks]


def room(world: World, host: str) -> tuple[int, int]:
    with world.database.reading() as session:
        used = hosts.used(session, host)
    return used.vcpus, used.memory_mb


def add_flavor(world: World, name: str, **facts: int) -> None:
    with world.database.transaction() as session:
        flavors.create(session, name, **({"vcpus": 1, "memory_mb": 64} | facts))


@pytest.mark.parametrize("running", [True, False])
@pytest.mark.parametrize(("dest", "layout"), [*PLACES, ("kvm1", "dir")])
def test_a_server_is_resized_and_confirmed(world: World, dest: str, layout: str, running: bool) -> None:
    server = world.add_server(layout=layout, running=running, sized=True)
    there = world.hosts[dest]
    before = world.hosts["kvm1"].hypervisor.describe(server)
    data = next(disk.path for disk in before.disks if disk.path.endswith("-data.raw"))
    contents = world.hosts["kvm1"].at(data).read_bytes()
    assert sizes(world, "kvm1", server) == [8, 12, 4, 1]

    migration = world.resize("web1", "large", dest)

    assert (migration.status, migration.outcome, migration.error) == ("finished", "success", None)
    assert migration.old_flavor == {
        "vcpus": 1,
        "memory_mb": 64,
        "root_gb": 0,
        "ephemeral_gb": 0,
        "swap_mb": 0,
        "id": None,
        "name": None,
    }
    after = there.hypervisor.describe(server)
    assert (after.vcpus, after.memory_mb) == (4, 256)
    assert "kept" in after.xml
    assert sizes(world, there.name, server) == [1024, 12, 1024, 2]
    swap = next(disk for disk in after.disks if disk.path.endswith("disk.swap"))
    area = there.drivers.files.swap_area(swap)
    assert area is not None
    assert (area.uuid, area.label) == (SWAP_UUID, "swap")
    assert there.at(data).read_bytes() == contents
    assert there.hypervisor.power_state(server).active is running
    row = world.instance(server)
    assert (row.host, row.vm_state, row.vcpus, row.memory_mb) == (there.name, "resized", 4, 256)
    assert row.flavor_id == (migration.new_flavor or {})["id"]
    # the way back is kept: on another host the old size, on the same the old files
    assert room(world, there.name) == (4, 256)
    assert room(world, "kvm1") == ((4, 256) if dest == "kvm1" else (1, 64))
    assert any("_resize" in path for path in world.hosts["kvm1"].tree())

    world.client.confirm("web1", requested_by="tester")
    world.run()

    migration = world.migration(migration.uuid)
    assert (migration.status, migration.outcome, migration.error) == ("confirmed", "success", None)
    settled = there.hypervisor.describe(server)
    assert settled.autostart
    assert settled.migration is None
    assert settled.power_state.active is running
    assert world.look()["journal"] == world.look()["claims"] == []
    left = [
        path for host in world.hosts.values() for path in host.tree() if "_resize" in path or ".part" in path
    ]
    assert left == []
    assert (world.instance(server).vcpus, world.instance(server).vm_state) == (4, after_confirm(running))
    assert there.at(data).read_bytes() == contents


def after_confirm(running: bool) -> str:
    return "active" if running else "stopped"


@pytest.mark.parametrize(
    ("name", "dest", "layout"),
    # a move shows the same of the other steps on another host
    [(name, "kvm2", "dir") for name in ("ResizeDisks", "FinishMigration")]
    + [(name, "kvm1", ("dir", "flat")[number % 2]) for number, name in enumerate(BEFORE_HAND_OVER)],
)
def test_a_step_that_fails_leaves_the_server_as_it_was(
    world: World, name: str, dest: str, layout: str
) -> None:
    server = world.add_server(layout=layout, sized=True)
    before = world.look()
    with failing(step("resize", name), MigrationError("on purpose"), when="after"):
        migration = world.resize("web1", "large", dest)
    assert (migration.status, migration.outcome, migration.error) == ("error", "reverted", "on purpose")
    assert world.look() == before
    assert world.hosts["kvm1"].hypervisor.power_state(server).active


@pytest.mark.parametrize("when", ["before", "after"])
def test_on_one_host_too_the_hand_over_decides_which_way_it_goes(world: World, when: str) -> None:
    server = world.add_server(sized=True)
    before = world.look()
    with failing(step("resize", "HandOver"), MigrationError("the CAS lost"), when=when):
        migration = world.resize("web1", "large", "kvm1")
    if when == "before":
        assert (migration.phase, migration.outcome) == ("closed", "reverted")
        assert world.look() == before
        return
    assert (migration.phase, migration.outcome) == ("parked", "parked")
    assert world.instance(server).flavor_id is not None
    with pytest.raises(InstanceInvalidState):
        world.client.revert(migration.uuid, requested_by="alice", reason="back")


@pytest.mark.parametrize(("dest", "layout"), PLACES)
@pytest.mark.parametrize("name", ["CopyImages", "VerifyImages", "ResizeDisks", "HandOver", "StartGuest"])
def test_a_worker_that_dies_in_the_middle_goes_on(world: World, name: str, dest: str, layout: str) -> None:
    server = world.add_server(layout=layout, sized=True)
    number = world.client.resize("web1", "large", dest, requested_by="tester")
    with failing(step("resize", name), Stopping("killed"), when="after"), pytest.raises(Stopping):
        world.run()
    world.run()
    assert (world.migration(number).status, world.migration(number).error) == ("finished", None)
    assert sizes(world, dest, server) == [1024, 12, 1024, 2]


def test_a_wish_while_the_disks_grow_undoes_everything(world: World) -> None:
    world.add_server(sized=True)
    before = world.look()
    number = world.client.resize("web1", "large", "kvm1", requested_by="tester")
    task = step("resize", "ResizeDisks")

    def wish() -> None:
        world.client.cancel(number, requested_by="alice", reason="changed my mind")
        world.tether.cancel()

    with failing(task, MigrationError("late"), when="before", also=wish):
        world.run()
    assert (world.migration(number).outcome, world.migration(number).status) == ("reverted", "cancelled")
    assert world.look() == before


def test_a_destination_lost_behind_the_hand_over_gives_the_old_size_back(world: World) -> None:
    server = world.add_server(sized=True)
    before = world.look()
    number = world.resize("web1", "large", "kvm2").uuid
    world.cut_power("kvm2")
    world.board.client.delete(world.board.path("workers", "kvm2"))
    world.client.recover(number, "kvm2", requested_by="alice", reason="burnt", drop_writes=True)
    world.run()
    assert world.migration(number).outcome == "reverted"
    row = world.instance(server)
    assert (row.host, row.vcpus, row.memory_mb, row.flavor_id) == ("kvm1", 1, 64, None)
    assert row.disk_bytes < GIB
    world.power_on("kvm2")
    assert world.look() == before


def test_a_host_that_is_both_ends_cannot_be_given_up(world: World) -> None:
    world.add_server(sized=True)
    number = world.client.resize("web1", "large", "kvm1", requested_by="tester")
    world.cut_power("kvm1")
    world.board.client.delete(world.board.path("workers", "kvm1"))
    with pytest.raises(InstanceInvalidState, match="nothing in it to recover"):
        world.client.recover(number, "kvm1", requested_by="alice", reason="burnt")
    world.power_on("kvm1")
    world.run()
    assert world.migration(number).outcome == "success"


def test_what_the_records_know_is_refused_at_once(world: World) -> None:
    world.add_server(sized=True)
    add_flavor(world, "two-gib", root_gb=2)
    add_flavor(world, "huge", memory_mb=1 << 30)
    with pytest.raises(FlavorNotFound):
        world.client.resize("web1", "gigantic", requested_by="tester")
    with pytest.raises(ComputeResourcesUnavailable):
        world.client.resize("web1", "huge", "kvm1", requested_by="tester")
    world.resize("web1", "two-gib", "kvm2")
    with pytest.raises(InstanceInvalidState) as unconfirmed:
        world.client.resize("web1", "large", "kvm1", requested_by="tester")
    assert unconfirmed.value.hint == "hostler server confirm web1"
    world.client.confirm("web1", requested_by="tester")
    world.run()
    before = world.look()
    with pytest.raises(CannotResizeToSameFlavor):
        world.client.resize("web1", "two-gib", "kvm1", requested_by="tester")
    with pytest.raises(CannotResizeDisk):
        world.client.resize("web1", "large", "kvm1", requested_by="tester")
    with world.database.transaction() as session, pytest.raises(FlavorInUse, match="1 server"):
        flavors.remove(session, "two-gib")
    world.conf.set_override("allow_resize_to_same_host", False)
    with pytest.raises(CannotResizeToSameHost):
        Client(world.conf).resize("web1", "small", "kvm2", requested_by="tester")
    assert world.look() == before


@pytest.mark.parametrize(
    ("flavor", "words"),
    [
        ({"root_gb": 1}, "has 2 GiB, more than the flavor's 1 GiB: no disk shrinks"),
        ({"ephemeral_gb": 1}, "has 3 GiB, more than the flavor's 1 GiB: no disk shrinks"),
    ],
)
def test_a_disk_that_would_shrink_is_refused_before_the_guest_notices(
    world: World, flavor: dict[str, int], words: str
) -> None:
    server = world.add_server(sized=True)
    kvm1 = world.hosts["kvm1"]
    root, _, ephemeral, _ = kvm1.hypervisor.describe(server).disks
    for disk, size in ((root, "2G"), (ephemeral, "3G")):
        command = ["qemu-img", "create", "-q", "-f", "qcow2", str(kvm1.at(disk.path)), size]
        subprocess.run(command, check=True)
    add_flavor(world, "asked", **flavor)
    assert_refused(world, words)


@pytest.mark.parametrize(
    ("flavor", "words"),
    [
        ({"ephemeral_gb": 1}, "it has no ephemeral disk"),
        ({"swap_mb": 1}, "it has no swap disk"),
    ],
)
def test_a_disk_that_is_not_there_is_not_made_up(world: World, flavor: dict[str, int], words: str) -> None:
    world.add_server()
    add_flavor(world, "asked", **flavor)
    assert_refused(world, words)


def assert_refused(world: World, words: str) -> None:
    before = world.look()
    for dest in ("kvm1", "kvm2"):
        migration = world.resize("web1", "asked", dest)
        assert migration.outcome == "refused"
        assert words in (migration.error or "")
        number = world.client.dry_run("web1", dest, flavor="asked", requested_by="tester")
        world.run()
        assert any(words in problem for problem in (world.migration(number).report or {})["source"])
    assert world.look() == before


def test_swap_is_known_by_what_is_on_a_raw_disk(world: World) -> None:
    server = world.add_server()
    kvm1 = world.hosts["kvm1"]
    data = kvm1.hypervisor.describe(server).disks[1]
    subprocess.run(["mkswap", "-q", "-U", SWAP_UUID, str(kvm1.at(data.path))], check=True)
    add_flavor(world, "swaps", swap_mb=3)
    assert world.resize("web1", "swaps", "kvm1").outcome == "success"
    assert sizes(world, "kvm1", server) == [8, 3]
    area = kvm1.drivers.files.swap_area(Disk("vdb", data.path, "raw"))
    assert area is not None
    assert area.uuid == SWAP_UUID


def test_a_smaller_flavor_without_disks_leaves_them(world: World) -> None:
    server = world.add_server(sized=True)
    assert world.resize("web1", "small", "kvm1").outcome == "success"
    assert sizes(world, "kvm1", server) == [8, 12, 4, 1]
    assert world.instance(server).memory_mb == 32
    # until it is confirmed, the old size can be had again
    assert room(world, "kvm1") == (1, 64)


def test_a_flavor_that_a_migration_may_give_back_is_not_removed(world: World) -> None:
    world.add_server(sized=True)
    world.resize("web1", "large", "kvm1")
    world.client.confirm("web1", requested_by="tester")
    world.run()
    add_flavor(world, "larger", memory_mb=512, root_gb=1)
    number = world.resize("web1", "larger", "kvm1").uuid
    with world.database.transaction() as session, pytest.raises(FlavorInUse, match=f"migration {number}"):
        flavors.remove(session, "large")


def test_a_dry_run_changes_nothing_and_counts_the_new_size(world: World) -> None:
    world.add_server(sized=True)
    before = world.look()
    number = world.client.dry_run("web1", "kvm2", flavor="large", requested_by="tester")
    world.run()
    assert (world.migration(number).report or {})["dest"] == []
    with world.database.transaction() as session:
        session.get_one(Host, "kvm2").local_disk_bytes = GIB
    number = world.client.dry_run("web1", "kvm2", flavor="large", requested_by="tester")
    world.run()
    (problem,) = (world.migration(number).report or {})["dest"]
    assert "kvm2 has not enough disk" in problem
    assert world.look() == before


def test_a_request_that_never_came_to_a_board_lets_the_server_go(world: World) -> None:
    server = world.add_server(sized=True)
    with (
        mock.patch("hostler.jobboard.client.put_on_board", side_effect=KeyboardInterrupt),
        pytest.raises(KeyboardInterrupt),
    ):
        world.client.resize("web1", "large", "kvm1", requested_by="tester")
    Reconciler(world.database, world.board, posting_timeout_s=0).run()
    assert world.instance(server).task_state is None
    assert world.resize("web1", "large", "kvm1").outcome == "success"


def test_a_definition_that_cannot_have_that_size_is_refused(world: World) -> None:
    server = world.add_server(sized=True)
    hypervisor = world.hosts["kvm1"].hypervisor
    xml = hypervisor.describe(server).xml.replace(
        "<vcpu>1</vcpu>",
        "<vcpu>2</vcpu><cputune><vcpupin vcpu='0' cpuset='0-1'/><vcpupin vcpu='1' cpuset='1-2'/></cputune>",
    )
    hypervisor.guests[server].xml = xml
    with world.database.transaction() as session:
        session.get_one(Instance, server).vcpus = 2
    add_flavor(world, "asked", vcpus=4)
    assert_refused(world, "pinned each to other CPUs")


@pytest.mark.parametrize(("dest", "layout"), [*PLACES, ("kvm1", "dir"), ("kvm2", "flat")])
def test_a_server_that_was_resized_goes_back_to_its_old_size(world: World, dest: str, layout: str) -> None:
    server = world.add_server(layout=layout, sized=True)
    before, was = world.look(), sizes(world, "kvm1", server)
    was_room = room(world, "kvm1")
    number = world.resize("web1", "large", dest).uuid
    assert world.instance(server).vcpus == 4

    world.client.revert_resize("web1", requested_by="tester", reason="too large", drop_writes=True)
    world.run()

    migration, row = world.migration(number), world.instance(server)
    assert (migration.status, migration.outcome, migration.error) == ("reverted", "success", None)
    assert (row.host, row.vm_state, row.vcpus, row.memory_mb, row.flavor_id) == (
        "kvm1",
        "active",
        1,
        64,
        None,
    )
    assert sizes(world, "kvm1", server) == was
    assert room(world, "kvm1") == was_room
    assert room(world, "kvm2") == (0, 0)
    after = world.look()
    for name in before:
        assert after[name] == before[name], name
