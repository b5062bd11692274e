"""A server whose files lie on storage that both hosts have is moved without them; without proof, nothing is touched."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hostler.drivers.hypervisor.fake import Journal
from hostler.errors import MigrationError, SessionLost, WritesWouldBeLost
from hostler.jobboard.leg import End
from hostler.objects import PowerState
from hostler.records import moves
from tests.support.world import INSTANCES, POOL, World, failing, step, tree


@pytest.fixture
def world(tmp_path: Path, zookeeper_hosts: str) -> Iterator[World]:
    """Two hosts with one storage; a guest writes down where it runs."""
    made = World(tmp_path, zookeeper_hosts, f"sqlite:///{tmp_path}/hostler.db", shared=True)
    for host in made.hosts.values():
        host.hypervisor.on_boot = Journal(host.name, host.root)
    yield made
    made.close()


def ran_on(world: World, server: str, host: str) -> list[str]:
    """Where the guest says that it has begun, as *host* reads its raw disk."""
    kvm = world.hosts[host]
    disk = next(one.path for one in kvm.hypervisor.describe(server).disks if one.format == "raw")
    written = kvm.at(disk).read_bytes()[12 << 20 :].decode().splitlines()
    return [line.rpartition(" ")[2] for line in written]


def storage(world: World) -> dict[str, tuple[object, ...]]:
    return tree(world.directory / "storage")


def inodes(world: World) -> dict[str, int]:
    top = world.directory / "storage"
    return {str(path.relative_to(top)): path.lstat().st_ino for path in top.rglob("*")}


@pytest.mark.parametrize("layout", ["dir", "flat"])
def test_a_server_moves_without_its_files_and_is_confirmed(world: World, layout: str) -> None:
    server = world.add_server(layout=layout)
    before = inodes(world)
    migration = world.migrate("web1")
    assert (migration.status, migration.outcome, migration.error) == ("finished", "success", None)
    assert inodes(world) == before
    assert ran_on(world, server, "kvm2") == ["kvm1", "kvm2"]
    assert not world.hosts["kvm1"].hypervisor.exists(server)
    with world.database.reading() as session:
        assert list(moves.progress(session, migration.uuid)) == []
        (said,) = [one.text for one in moves.events(session, migration.uuid) if one.kind == "in-place"]
    assert "stays in place, kvm2 has the same storage" in said
    world.client.confirm("web1", requested_by="tester")
    world.run()
    assert world.migration(migration.uuid).status == "confirmed"
    assert inodes(world) == before
    assert world.hosts["kvm2"].hypervisor.power_state(server) is PowerState.RUNNING


def test_a_server_that_goes_back_keeps_what_it_has_written_and_nobody_has_to_drop_it(world: World) -> None:
    server = world.add_server()
    before = inodes(world)
    number = world.migrate("web1").uuid
    world.client.revert_resize("web1", requested_by="tester", reason="it is slow", drop_writes=False)
    world.run()
    assert world.migration(number).status == "reverted"
    assert ran_on(world, server, "kvm1") == ["kvm1", "kvm2", "kvm1"]
    assert inodes(world) == before
    assert not world.hosts["kvm2"].hypervisor.exists(server)


@pytest.mark.parametrize(
    ("name", "when"),
    [
        *(
            (name, "before")
            for name in ("OfferProof", "AnswerProof", "ProveShared", "ForgetProof", "HandOver")
        ),
        *(
            (name, "after")
            for name in ("OfferProof", "AnswerProof", "ProveShared", "OpenReceiver", "UndefineDomain")
        ),
        *(
            (name, "after")
            for name in ("RenameInstanceDir", "ForgetProof", "VerifyImages", "FinishMigration")
        ),
    ],
)
def test_a_failing_step_leaves_the_storage_as_it_was(world: World, name: str, when: str) -> None:
    world.hosts["kvm1"].hypervisor.on_boot = world.hosts["kvm2"].hypervisor.on_boot = None
    server = world.add_server()
    before, known = world.look(), inodes(world)
    with failing(step("cold_migration", name), MigrationError("on purpose"), when=when):
        migration = world.migrate("web1")
    assert migration.outcome == "reverted"
    assert world.look() == before
    assert inodes(world) == known
    assert world.hosts["kvm1"].hypervisor.power_state(server) is PowerState.RUNNING


@pytest.mark.parametrize("name", ["ProveWayBack", "CheckGuest", "UndefineGuest", "SetGuestAside"])
def test_a_failing_step_of_the_way_back_leaves_the_storage_as_it_was(world: World, name: str) -> None:
    world.hosts["kvm1"].hypervisor.on_boot = world.hosts["kvm2"].hypervisor.on_boot = None
    server = world.add_server()
    world.migrate("web1")
    moved = world.look()
    world.client.revert_resize("web1", requested_by="tester", reason="slow", drop_writes=False)
    with failing(step("revert_resize", name), MigrationError("on purpose"), when="after"):
        world.run()
    assert world.look() == moved
    assert world.hosts["kvm2"].hypervisor.power_state(server) is PowerState.RUNNING


# -- resized ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["dir", "flat"])
@pytest.mark.parametrize("wish", ["confirm", "revert"])
def test_what_gets_another_size_is_copied_and_the_way_back_is_whole(
    world: World, layout: str, wish: str
) -> None:
    for host in world.hosts.values():
        host.hypervisor.on_boot = None
    world.add_server(layout=layout, sized=True)
    before, known = world.look(), inodes(world)
    migration = world.resize("web1", "large", "kvm2")
    assert (migration.status, migration.error) == ("finished", None)
    data = "images/web1-data.raw"  # the one disk that keeps its size; in a directory it goes with the others
    if layout == "flat":
        assert inodes(world)[data] == known[data]
    aside = [path for path in inodes(world) if path.endswith("_resize")]
    assert len(aside) == (3 if layout == "flat" else 1)
    if wish == "confirm":
        world.client.confirm("web1", requested_by="tester")
        world.run()
        assert not [
            path for path in inodes(world) if "_resize" in path or ".part" in path or "hostler" in path
        ]
        assert world.migration(migration.uuid).status == "confirmed"
        return
    with pytest.raises(WritesWouldBeLost):
        world.client.revert_resize("web1", requested_by="tester", reason="slow", drop_writes=False)
    world.client.revert_resize("web1", requested_by="tester", reason="slow", drop_writes=True)
    world.run()
    assert world.migration(migration.uuid).status == "reverted"
    assert world.look() == before
    assert inodes(world) == known


# -- not proven ---------------------------------------------------------------------------------------------


def one_way(world: World, reader: str) -> Callable[[], None]:
    """Let *reader* never see what the other host has written."""
    files = world.hosts[reader].drivers.files
    setattr(files, "token", lambda *_: None)  # noqa: B010 - mypy minds the other way
    return lambda: delattr(files, "token")


@pytest.mark.parametrize("blind", ["kvm1", "kvm2"])
def test_storage_that_only_one_host_sees_whole_is_refused_before_anything_is_touched(
    world: World, blind: str
) -> None:
    server = world.add_server()
    before = world.look()
    one_way(world, blind)
    migration = world.migrate("web1")
    assert migration.outcome == "refused"
    if blind == "kvm1":
        assert f"{INSTANCES}, {POOL}: only one of kvm1 and kvm2 sees what the other writes" in str(
            migration.error
        )
        assert f"findmnt --target {INSTANCES}" in str(migration.error)
    else:  # it takes the source's files for strangers, and says so first
        assert f"{INSTANCES}/{server} is here, and may be the source's own" in str(migration.error)
    assert world.look() == before
    assert ("shutdown", server) not in world.hosts["kvm1"].hypervisor.calls


def test_directories_that_only_have_the_same_name_are_not_shared(
    tmp_path: Path, zookeeper_hosts: str
) -> None:
    apart = World(tmp_path, zookeeper_hosts, f"sqlite:///{tmp_path}/hostler.db")
    server = apart.add_server(layout="flat")
    there = apart.hosts["kvm2"].at(f"{POOL}/web1-data.raw")
    there.write_bytes(b"another's")
    before = apart.look()
    migration = apart.migrate("web1")
    assert migration.outcome == "refused"
    assert f"there is a {POOL}/web1-data.raw already" in str(migration.error)
    assert apart.look() == before
    there.unlink()
    assert apart.migrate("web1").status == "finished"
    assert apart.migration(apart.client.confirm("web1", requested_by="tester"))
    apart.run()
    assert apart.instance(server).host == "kvm2"
    apart.close()


def test_a_mirror_of_the_storage_is_not_the_storage(world: World) -> None:
    """A tool that carries each new file to the other host and back shows the tokens, and not the same disk."""
    server = world.add_server()
    kvm2 = world.hosts["kvm2"]
    home = kvm2.at("/var/lib/libvirt")
    home.unlink()
    mirror(world.directory / "storage", home)
    task = step("cold_migration", "AnswerProof")
    before = world.look()
    real = task.execute

    def answered(**arguments: object) -> object:
        mirror(world.directory / "storage", home)
        found = real(**arguments)
        mirror(home, world.directory / "storage")
        return found

    setattr(task, "execute", answered)  # noqa: B010 - mypy minds the other way
    try:
        migration = world.migrate("web1")
    finally:
        delattr(task, "execute")
    assert migration.outcome == "refused"
    assert f"{INSTANCES}/{server} is not the source's here, although its directory is" in str(migration.error)
    for place in (home, world.directory / "storage"):
        for left in list(place.rglob(".hostler-migration.*")):
            left.unlink()  # what the tool has carried over; the doctor finds it
    assert world.look() == before


def mirror(source: Path, target: Path) -> None:
    """Copy what is new."""
    for path in sorted([source, *source.rglob("*")]):
        there = target / path.relative_to(source)
        if path.is_dir():
            there.mkdir(exist_ok=True)
        elif not there.exists():
            there.write_bytes(path.read_bytes())
        there.chmod(path.stat().st_mode & 0o7777)


# -- the dead, and others -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["AnswerProof", "OpenReceiver", "VerifyImages", "FinishMigration"])
def test_a_destination_that_dies_takes_nothing_with_it(world: World, name: str) -> None:
    for host in world.hosts.values():
        host.hypervisor.on_boot = None
    server = world.add_server()
    before, known = world.look(), inodes(world)
    task, dies = step("cold_migration", name), lambda: world.cut_power("kvm2")
    with pytest.raises(SessionLost), failing(task, SessionLost("power cut"), when="after", also=dies):
        world.migrate("web1")
    world.run()
    assert world.hosts["kvm1"].hypervisor.power_state(server) is PowerState.RUNNING
    assert {path: inode for path, inode in inodes(world).items() if path in known} == known
    world.power_on("kvm2")
    assert world.look() == before
    assert inodes(world) == known


def test_a_dry_run_says_what_stays_in_place_and_leaves_nothing(world: World) -> None:
    server = world.add_server()
    before = world.look()
    number = world.client.dry_run("web1", "kvm2", requested_by="tester")
    world.run()
    report = world.migration(number).report
    assert report is not None
    assert (report["bytes"], report["files"], report["dest"]) == (0, [], [])
    assert report["in_place"] == [f"{INSTANCES}/{server}"]
    assert world.look() == before


def test_a_disk_that_the_server_has_left_for_another_does_not_go_back(world: World) -> None:
    server = world.add_server(layout="flat")
    number = world.migrate("web1").uuid
    kvm2 = world.hosts["kvm2"]
    guest = kvm2.hypervisor.guests[server]
    kvm2.at(f"{POOL}/web1.snap").write_bytes(b"an overlay")
    guest.xml = guest.xml.replace(f"{POOL}/web1-data.raw", f"{POOL}/web1.snap")
    moved = world.look()
    world.client.revert_resize("web1", requested_by="tester", reason="slow", drop_writes=False)
    assert world.run()[-1][1] is not End.PARKED
    migration = world.migration(number)
    assert migration.outcome == "refused"
    assert f"writes to another file than {POOL}/web1-data.raw" in str(migration.error)
    assert world.look() == moved
