"""What migrations, operators and bad luck may leave behind, planted one at a time.

Each function plants one thing and returns the words that its finding must hold.
"""

from __future__ import annotations

import datetime
import json
import sqlite3
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from hostler.drivers.files import markers
from hostler.drivers.files.lvm_fake import FakeLvm
from hostler.drivers.files.markers import Marker
from hostler.errors import MigrationError
from hostler.jobboard.jobs import Posting
from hostler.objects import Export
from hostler.records.models import (
    Binding,
    Claim,
    Debt,
    Instance,
    JournalEntry,
    Migration,
    Receiver,
    Reservation,
    now,
)
from tests.support.world import INSTANCES, POOL, PORT_MAC, World, failing, step

Plant = Callable[[World], list[str]]
Row = TypeVar("Row")

SAFE: dict[str, Plant] = {}  #: that --fix mends, by kind and name
UNSAFE: dict[str, Plant] = {}  #: that it must leave
SOMEBODY = "5e44e400-0000-4000-8000-000000000001"


def safe(plant: Plant) -> Plant:
    SAFE[plant.__name__] = plant
    return plant


def unsafe(plant: Plant) -> Plant:
    UNSAFE[plant.__name__] = plant
    return plant


def recorded(world: World, status: str = "error", phase: str = "closed", **facts: str) -> str:
    """Put a migration from kvm1 to kvm2 on record; return its uuid."""
    row = {
        "instance_uuid": SOMEBODY,
        "instance_name": "gone1",
        "migration_type": "migration",
        "source_compute": "kvm1",
        "dest_compute": "kvm2",
        "flow_name": "cold_migration",
        "flow_uuid": str(uuid.uuid4()),
        "request_id": "req-1",
        "requested_by": "tester",
    }
    migration = Migration(uuid=str(uuid.uuid4()), status=status, phase=phase, **row | facts)
    return add(world, migration).uuid


def add(world: World, row: Row) -> Row:
    with world.database.transaction() as session:
        session.add(row)
    return row


def unknown() -> str:
    return str(uuid.uuid4())


def directory(world: World, host: str, path: str, migration: str | None = None, **facts: object) -> Path:
    """Make a directory with a file in it, marked if told so."""
    made = world.hosts[host].at(path)
    made.mkdir(parents=True)
    (made / "disk").write_bytes(b"bytes")
    if migration:
        markers.write(made, Marker(migration=migration, what="planted", **facts))
    return made


def file(world: World, host: str, path: str) -> Path:
    made = world.hosts[host].at(path)
    made.parent.mkdir(exist_ok=True)
    made.write_bytes(b"bytes")
    return made


# -- files ------------------------------------------------------------------------------------------------


@safe
def part(world: World) -> list[str]:
    number = recorded(world)
    path = f"{INSTANCES}/{SOMEBODY}.{number}.part"
    directory(world, "kvm2", path, number, instance=SOMEBODY)
    return ["kvm2", path, "undone"]


@safe
def kept(world: World) -> list[str]:
    number = recorded(world)
    path = f"{INSTANCES}/{SOMEBODY}.{number}.kept"
    directory(world, "kvm2", path, number, instance=SOMEBODY)
    return ["kvm2", "the kept copy " + path, "undone"]


@safe
def part_whose_removal_was_cut_short(world: World) -> list[str]:
    path = f"{INSTANCES}/{SOMEBODY}.{recorded(world, 'cancelled')}.part.old"
    directory(world, "kvm2", path)
    return ["kvm2", path]


@safe
def part_that_was_never_finished(world: World) -> list[str]:
    path = f"{INSTANCES}/{SOMEBODY}.{recorded(world)}.part.new"
    directory(world, "kvm2", path)
    return ["kvm2", path]


@unsafe
def part_of_an_unknown_migration(world: World) -> list[str]:
    number = unknown()
    path = f"{INSTANCES}/{SOMEBODY}.{number}.part"
    directory(world, "kvm2", path, number, instance=SOMEBODY)
    return ["kvm2", path, "do not know", "rm -rI -- "]


@unsafe
def part_without_a_marker(world: World) -> list[str]:
    path = f"{INSTANCES}/{SOMEBODY}.{recorded(world)}.part"
    directory(world, "kvm2", path)
    return ["kvm2", path, "marker"]


@unsafe
def part_that_has_placed_a_file(world: World) -> list[str]:
    number = recorded(world)
    placed = file(world, "kvm2", f"{INSTANCES}/gone.qcow2")
    path = f"{INSTANCES}/{SOMEBODY}.{number}.part"
    directory(world, "kvm2", path, number, instance=SOMEBODY, placed={"gone.qcow2": placed.stat().st_ino})
    return ["kvm2", f"{INSTANCES}/gone.qcow2"]


def volume(world: World, host: str, name: str, migration: str) -> str:
    """Make a logical volume with a migration's tag."""
    lvm = FakeLvm(world.hosts[host].root)
    if not lvm.groups():
        lvm.add_group("vg-0", 9)
    lvm.create("vg-0", name, 4 << 20, f"hostler.{migration}")
    return f"/dev/vg-0/{name}"


@safe
def part_that_is_a_volume(world: World) -> list[str]:
    number = recorded(world)
    return ["kvm2", "the logical volume " + volume(world, "kvm2", f"gone.{number}.part", number), "undone"]


@safe
def aside_volume_of_a_confirmed_migration(world: World) -> list[str]:
    number = recorded(world, "confirmed")
    return ["kvm1", volume(world, "kvm1", f"gone.{number}_resize", number), "confirmed"]


@unsafe
def aside_volume_of_an_undone_migration(world: World) -> list[str]:
    number = recorded(world)
    path = volume(world, "kvm1", f"gone.{number}_resize", number)
    return ["kvm1", path, "only copy", "lvs -o +lv_tags vg-0/gone."]


@safe
def mark_of_a_volume_that_stays(world: World) -> list[str]:
    return ["kvm2", volume(world, "kvm2", "here", recorded(world, "confirmed"))]


@safe
def made_of_a_device(world: World) -> list[str]:
    number = recorded(world)
    note = {"path": "/dev/sdx", "migration": number, "instance": SOMEBODY}
    file(world, "kvm2", "/var/lib/hostler/devices/0.json").write_text(json.dumps(note))
    return ["kvm2", "/var/lib/hostler/devices/0.json"]


@safe
def proof(world: World) -> list[str]:
    path = f"{INSTANCES}/{markers.token_name(recorded(world), 'dest')}"
    file(world, "kvm2", path)
    return ["kvm2", path, "undone"]


@unsafe
def proof_of_an_unknown_migration(world: World) -> list[str]:
    path = f"{INSTANCES}/{markers.token_name(unknown(), 'source')}"
    file(world, "kvm1", path)
    return ["kvm1", path, "do not know", "rm -rI -- "]


@safe
def aside_of_a_confirmed_migration(world: World) -> list[str]:
    world.add_server("web9", layout="pool")  # makes the pool one of the places that are looked at
    path = f"{POOL}/gone.qcow2.{recorded(world, 'confirmed')}_resize"
    file(world, "kvm1", path)
    return ["kvm1", path, "confirmed"]


@safe
def aside_directory_of_a_confirmed_migration(world: World) -> list[str]:
    path = f"{INSTANCES}/{SOMEBODY}_resize"
    directory(world, "kvm1", path, recorded(world, "confirmed"))
    return ["kvm1", path]


@safe
def removal_that_was_cut_short(world: World) -> list[str]:
    path = f"{INSTANCES}/{SOMEBODY}.{recorded(world, 'confirmed')}_removed"
    directory(world, "kvm1", path)
    return ["kvm1", path]


@unsafe
def aside_of_an_undone_migration(world: World) -> list[str]:
    path = f"{INSTANCES}/gone.qcow2.{recorded(world)}_resize"
    file(world, "kvm1", path)
    return ["kvm1", path, "only copy", f"mv --no-clobber -- {path} {INSTANCES}/gone.qcow2"]


@unsafe
def aside_directory_of_an_undone_migration_beside_its_home(world: World) -> list[str]:
    directory(world, "kvm1", f"{INSTANCES}/{SOMEBODY}")
    path = f"{INSTANCES}/{SOMEBODY}_resize"
    directory(world, "kvm1", path, recorded(world, "cancelled"))
    return ["kvm1", path, "only copy", "ls -ld"]


@unsafe
def aside_of_an_unknown_migration(world: World) -> list[str]:
    path = f"{INSTANCES}/gone.qcow2.{unknown()}_resize"
    file(world, "kvm1", path)
    return ["kvm1", path, "do not know"]


@unsafe
def aside_of_a_confirmed_migration_on_another_host(world: World) -> list[str]:
    path = f"{INSTANCES}/gone.qcow2.{recorded(world, 'confirmed')}_resize"
    file(world, "kvm2", path)
    return ["kvm2", path, "only copy"]


@unsafe
def aside_with_a_damaged_marker(world: World) -> list[str]:
    path = f"{INSTANCES}/{SOMEBODY}_resize"
    (directory(world, "kvm1", path) / markers.NAME).write_text("{")
    return ["kvm1", path, "cannot be read"]


@unsafe
def aside_that_is_a_link(world: World) -> list[str]:
    path = f"{INSTANCES}/gone.qcow2.{recorded(world, 'confirmed')}_resize"
    world.hosts["kvm1"].at(path).symlink_to("/etc/passwd")
    return ["kvm1", path]


@safe
def made(world: World) -> list[str]:
    path = f"{INSTANCES}/_base.{recorded(world)}.made"
    file(world, "kvm2", path)
    world.hosts["kvm2"].at(f"{INSTANCES}/_base").mkdir()
    return ["kvm2", path]


@safe
def mark(world: World) -> list[str]:
    directory(world, "kvm1", f"{INSTANCES}/{SOMEBODY}", recorded(world))
    return ["kvm1", f"{INSTANCES}/{SOMEBODY}"]


@safe
def state_migrations(world: World) -> list[str]:
    path = Path(world.hosts["kvm1"].state_path, "migrations", recorded(world, "confirmed"))
    path.mkdir(parents=True)
    (path / "domain.json").write_text("{}")
    return ["kvm1", str(path)]


@safe
def state_images(world: World) -> list[str]:
    path = Path(world.hosts["kvm2"].state_path, "images", recorded(world))
    path.mkdir(parents=True)
    (path / "0.manifest").write_text("")
    return ["kvm2", str(path)]


@unsafe
def state_migrations_where_nobody_defines_the_server(world: World) -> list[str]:
    path = Path(world.hosts["kvm1"].state_path, "migrations", recorded(world))
    path.mkdir(parents=True)
    return ["kvm1", str(path), "may need it"]


@unsafe
def state_migrations_of_an_unknown_one(world: World) -> list[str]:
    path = Path(world.hosts["kvm1"].state_path, "migrations", unknown())
    path.mkdir(parents=True)
    return ["kvm1", str(path), "do not know", "rm -rI"]


# -- domains ----------------------------------------------------------------------------------------------


def definition(world: World, server: str, mark: str | None = None, host: str = "kvm1") -> str:
    hypervisor = world.hosts[host].hypervisor
    return hypervisor.mark(hypervisor.describe(server).xml, mark)


def copy_files(world: World) -> None:
    """Let kvm2 have what kvm1's servers start from."""
    source, dest = (world.hosts[name].root / "var/lib/libvirt" for name in ("kvm1", "kvm2"))
    for path in (one for one in source.rglob("*") if one.is_file()):
        other = dest / path.relative_to(source)
        other.parent.mkdir(parents=True, exist_ok=True)
        other.write_bytes(path.read_bytes())


@safe
def left_mark(world: World) -> list[str]:
    server = world.add_server(running=False)
    number = recorded(world, "confirmed", instance_uuid=server, instance_name="web1")
    hypervisor = world.hosts["kvm1"].hypervisor
    hypervisor.guests[server].xml = definition(world, server, number)
    return ["kvm1", "web1", server, number]


@safe
def abandoned_guest(world: World) -> list[str]:
    server = world.add_server()
    number = recorded(world, instance_uuid=server, instance_name="web1")
    copy_files(world)
    world.hosts["kvm2"].hypervisor.create_paused(definition(world, server, number))
    return ["kvm2", "web1", server, "never ran"]


@unsafe
def unknown_mark(world: World) -> list[str]:
    server = world.add_server(running=False)
    hypervisor = world.hosts["kvm1"].hypervisor
    number = unknown()
    hypervisor.guests[server].xml = definition(world, server, number)
    return ["kvm1", "web1", number, f"virsh edit {server}"]


@unsafe
def defined_twice(world: World) -> list[str]:
    server = world.add_server()
    world.hosts["kvm2"].hypervisor.define(definition(world, server))
    return ["kvm2", "two hosts", "kvm1", "off", f"virsh undefine --keep-nvram {server}"]


@unsafe
def defined_twice_and_running(world: World) -> list[str]:
    server = world.add_server()
    copy_files(world)
    world.hosts["kvm2"].hypervisor.define(definition(world, server))
    world.hosts["kvm2"].hypervisor.start(server)
    return ["kvm2", "two hosts", "where it runs", f"virsh shutdown {server}"]


@unsafe
def elsewhere(world: World) -> list[str]:
    server = world.add_server(running=False)
    xml = definition(world, server)
    copy_files(world)
    world.hosts["kvm1"].hypervisor.undefine(server)
    world.hosts["kvm2"].hypervisor.define(xml)
    world.hosts["kvm2"].hypervisor.start(server)
    return ["kvm2", "web1", "runs on kvm2", "record has it on kvm1", f"hostler server show {server}"]


@unsafe
def no_domain(world: World) -> list[str]:
    server = world.add_server(running=False)
    world.hosts["kvm1"].hypervisor.undefine(server)
    return ["kvm1", "web1", "not defined", f"hostler server show {server}"]


@unsafe
def no_domain_although_its_files_are_set_aside(world: World) -> list[str]:
    server = world.add_server(running=False)
    migration = world.migrate("web1")
    world.hosts["kvm2"].hypervisor.undefine(server)
    return ["kvm2", "only other copy", "kvm1", f"hostler migration show {migration.uuid}"]


@unsafe
def no_record(world: World) -> list[str]:
    server = world.add_server()
    with world.database.transaction() as session:
        session.delete(session.get(Instance, server))
    return ["kvm1", "web1", "no record", "journalctl -u hostler-worker"]


@unsafe
def autostart(world: World) -> list[str]:
    server = world.add_server()
    world.migrate("web1")
    world.hosts["kvm2"].hypervisor.set_autostart(server, True)
    return ["kvm2", "web1", f"virsh autostart --disable {server}"]


@unsafe
def paused(world: World) -> list[str]:
    server = world.add_server()
    world.migrate("web1")
    world.hosts["kvm2"].hypervisor.guests[server].state = type(
        world.hosts["kvm2"].hypervisor.power_state(server)
    ).PAUSED
    return ["kvm2", "web1", f"virsh resume {server}"]


# -- receivers --------------------------------------------------------------------------------------------


def opened(world: World, number: str) -> None:
    part = f"{POOL}/arriving"
    world.hosts["kvm2"].receiver.open(number, [Export("0", "/x", part, 4096, True)], "10.0.0.1")
    world.hosts["kvm2"].at(part).unlink()


@safe
def receiver(world: World) -> list[str]:
    number = recorded(world)
    opened(world, number)
    return ["kvm2", "receiver", number]


@safe
def receiver_of_a_migration_that_waits_to_be_confirmed(world: World) -> list[str]:
    world.add_server()
    number = world.migrate("web1").uuid
    opened(world, number)
    return ["kvm2", "receiver", number]


@unsafe
def receiver_of_an_unknown_migration(world: World) -> list[str]:
    number = unknown()
    opened(world, number)
    return ["kvm2", "receiver", number, f"images/{number}"]


@safe
def receiver_record(world: World) -> list[str]:
    number = recorded(world)
    add(world, Receiver(migration_uuid=number, host="kvm2", address={}))
    return ["kvm2", number, "key"]


# -- records ----------------------------------------------------------------------------------------------


def claim_of(world: World, number: str, host: str) -> None:
    add(world, Claim(migration_uuid=number, host=host, vcpus=2, memory_mb=512, disk_bytes=0))


@safe
def claim(world: World) -> list[str]:
    number = recorded(world)
    claim_of(world, number, "kvm2")
    return ["kvm2", number, "2 vCPUs and 512 MiB"]


@safe
def claim_of_an_unknown_migration(world: World) -> list[str]:
    number = unknown()
    claim_of(world, number, "kvm2")
    return ["kvm2", number, "do not know"]


@safe
def claim_of_the_destination_behind_the_hand_over(world: World) -> list[str]:
    world.add_server()
    number = world.migrate("web1").uuid
    claim_of(world, number, "kvm2")
    return ["kvm2", number]


def reservation_of(world: World, number: str) -> None:
    facts = {"instances": 0, "cores": 2, "ram": 512, "disk": 0}
    add(world, Reservation(migration_uuid=number, project_id="red", **facts))


@safe
def reservation(world: World) -> list[str]:
    number = recorded(world, "cancelled")
    reservation_of(world, number)
    return [number, "project red", "undone"]


@safe
def reservation_of_a_forgotten_migration(world: World) -> list[str]:
    number = unknown()
    reservation_of(world, number)
    return [number, "project red", "do not know"]


@safe
def binding(world: World) -> list[str]:
    server = world.add_server()
    number = recorded(world, instance_uuid=server)
    facts = {"instance_uuid": server, "port": PORT_MAC, "network": "bridge:br0"}
    add(world, Binding(host="kvm1", active=False, migration_uuid=None, **facts))
    add(world, Binding(host="kvm2", active=True, migration_uuid=number, **facts))
    return [PORT_MAC, "web1"]


@safe
def task_state(world: World) -> list[str]:
    server = world.add_server()
    with world.database.transaction() as session:
        session.get(Instance, server).task_state = "resize_migrating"
    return ["kvm1", "web1", "resize_migrating"]


@unsafe
def debt_that_a_live_host_does_not_pay(world: World) -> list[str]:
    number = recorded(world)
    add(world, Debt(host="kvm2", migration_uuid=number, task="OpenReceiver", flow_uuid=unknown(), position=0))
    return ["kvm2", "OpenReceiver", number, "journalctl"]


@unsafe
def unknown_host(world: World) -> list[str]:
    server = world.add_server()
    path = world.database.engine.url.database
    with sqlite3.connect(str(path)) as connection:  # without its foreign keys
        connection.execute("UPDATE instances SET host = 'kvm9' WHERE uuid = ?", (server,))
    connection.close()
    return ["kvm9", "web1", "systemctl start hostler-worker"]


@unsafe
def parked(world: World) -> list[str]:
    world.add_server()
    number = world.client.migrate("web1", "kvm2", requested_by="tester")
    with (
        failing(step("cold_migration", "HandOver"), MigrationError("the CAS lost"), when="before"),
        failing(
            step("cold_migration", "MigratePorts"), MigrationError("broke"), when="before", method="revert"
        ),
    ):
        world.run()
    return ["web1", number, "broke", f"hostler migration retry {number}"]


# -- ZooKeeper --------------------------------------------------------------------------------------------


def post(world: World, host: str, posting: Posting) -> None:
    assert world.board.post(host, posting)


def posting(number: str, instance: str = SOMEBODY, flow_uuid: str = "") -> Posting:
    return Posting(number, instance, "cold_migration", flow_uuid or str(uuid.uuid4()))


@safe
def stale_job(world: World) -> list[str]:
    number = recorded(world)
    post(world, "kvm2", posting(number))
    return ["kvm2", number, "over"]


@safe
def stale_job_of_an_unknown_migration(world: World) -> list[str]:
    number = unknown()
    post(world, "kvm2", posting(number))
    return ["kvm2", number, "do not know"]


@safe
def stale_job_of_an_earlier_flow(world: World) -> list[str]:
    world.add_server()
    number = world.client.migrate("web1", "kvm2", requested_by="tester")
    job = posting(number, world.migration(number).instance_uuid)
    world.board.client.create(world.board.path("boards", "kvm2", number), job.encode())
    return ["kvm2", number, "earlier flow"]


@safe
def stale_job_that_is_there_twice(world: World) -> list[str]:
    world.add_server()
    number = world.client.migrate("web1", "kvm2", requested_by="tester")
    job = world.board.posting("kvm1", number)
    assert job is not None
    world.board.client.create(world.board.path("boards", "kvm2", number), job.encode())
    return ["kvm2", number, "kvm1's board, too"]


@unsafe
def unreadable_job(world: World) -> list[str]:
    number = recorded(world)
    world.board.client.create(world.board.path("boards", "kvm2", number), b"{}")
    return ["kvm2", number, "zkCli.sh", world.board.path("boards", "kvm2", number)]


@safe
def no_job(world: World) -> list[str]:
    server = world.add_server()
    number = world.client.migrate("web1", "kvm2", requested_by="tester")
    world.board.client.delete(world.board.path("boards", "kvm1", number))
    world.board.client.delete(world.board.path("instances", server))
    return ["web1", number, "no board"]


@safe
def never_posted(world: World) -> list[str]:
    server = world.add_server()
    number = world.client.migrate("web1", "kvm2", requested_by="tester")
    world.board.client.delete(world.board.path("boards", "kvm1", number))
    world.board.client.delete(world.board.path("instances", server))
    with world.database.transaction() as session:
        row = session.get(Migration, number)
        row.phase, row.updated_at = "posting", now() - datetime.timedelta(minutes=5)
    return ["web1", number, "never posted"]


@safe
def held(world: World) -> list[str]:
    number = recorded(world)
    data = json.dumps({"migration": number, "board": "kvm2"}).encode()
    world.board.client.create(world.board.path("instances", SOMEBODY), data)
    return [SOMEBODY, number]


@unsafe
def unreadable_place(world: World) -> list[str]:
    world.board.client.create(world.board.path("instances", SOMEBODY), b"nonsense")
    return [SOMEBODY, "zkCli.sh"]


@safe
def parked_notice(world: World) -> list[str]:
    number = recorded(world)
    world.board.client.create(world.board.path("parked", number), b"{}")
    return [number, "parked"]


@safe
def parked_notice_of_an_unknown_migration(world: World) -> list[str]:
    number = unknown()
    world.board.client.create(world.board.path("parked", number), b"{}")
    return [number, "parked"]


@unsafe
def no_parked_notice(world: World) -> list[str]:
    number = parked(world)[1]
    world.board.unpark(number)
    return [number, "ZooKeeper does not know", f"hostler migration retry {number}"]


@safe
def wish(world: World) -> list[str]:
    number = recorded(world)
    world.board.wish(number)
    return [number, "wish"]


@safe
def strange_board(world: World) -> list[str]:
    world.board.ensure("kvm9")
    return ["kvm9", "no record"]


@unsafe
def strange_board_with_jobs(world: World) -> list[str]:
    world.board.ensure("kvm9")
    world.board.client.create(world.board.path("boards", "kvm9", unknown()), b"{}")
    return ["kvm9", "jobs on it: 1"]


def journal(world: World) -> str:
    number = recorded(world)
    add(world, JournalEntry(migration_uuid=number, task="PowerOff", key="acpi", state="done"))
    return number
