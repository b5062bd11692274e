"""Two hosts or more in one process: fake guests on real files, real records, real boards, and the real flow."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select

from hostler import conf as settings
from hostler import flows
from hostler.drivers.claims.records import RecordsClaims
from hostler.drivers.files.local import LocalFiles
from hostler.drivers.files.lvm_fake import FakeLvm
from hostler.drivers.hypervisor.fake import FakeHypervisor, under
from hostler.drivers.images.fake import FakeReceiver, FakeSender, FakeVerifier
from hostler.drivers.notifications.fake import FakeNotifications
from hostler.drivers.notifications.news import News
from hostler.drivers.ports.libvirt import LibvirtPorts
from hostler.drivers.volumes.fake import FakeVolumes
from hostler.errors import Interrupted
from hostler.jobboard import debts
from hostler.jobboard.adoption import Adoption
from hostler.jobboard.assembly import is_used
from hostler.jobboard.board import Board
from hostler.jobboard.client import Client
from hostler.jobboard.leg import End, MigrationLeg
from hostler.jobboard.report import HostReport
from hostler.jobboard.takeover import take_over
from hostler.jobboard.tether import Tether
from hostler.jobboard.zookeeper import connect, disconnect
from hostler.records import flavors
from hostler.records.database import Database
from hostler.records.models import (
    Base,
    Binding,
    Claim,
    Debt,
    HeldPlacement,
    Instance,
    JournalEntry,
    Migration,
    Receiver,
    Reservation,
)
from hostler.scheduling.scheduler import Scheduler
from hostler.tasks.base import Drivers, HostTask, Timeouts
from hostler.tracing.tracer import Tracer, Untraced

INSTANCES = "/var/lib/libvirt/instances"
POOL = "/var/lib/libvirt/images"
SWAP_UUID = "5a5a5a5a-1111-4222-8333-444444444444"
PORT_MAC = "52:54:00:00:00:01"

TIMEOUTS = Timeouts(shutdown_s=0.5, shutdown_retry_s=0.1, guest_start_s=1, copy_s=1)

DOMAIN = """
<domain type='qemu'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  <metadata><note xmlns='urn:test'>kept</note></metadata>
  <memory unit='MiB'>64</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <devices>
    {disks}
    <disk type='network'><driver name='qemu' type='raw'/>
      <source protocol='nbd' name='data'><host name='10.0.0.9' port='10809'/></source>
      <target dev='vdx' bus='virtio'/></disk>
    <interface type='bridge'><mac address='{mac}'/><source bridge='br0'/><model type='virtio'/></interface>
  </devices>
</domain>
"""

DISK = """<disk type='file' device='disk'><driver name='qemu' type='{format}'/>
      <source file='{path}'/><target dev='vd{letter}' bus='virtio'/></disk>"""

BLOCK_DISK = """<disk type='block' device='disk'><driver name='qemu' type='raw'/>
      <source dev='{path}'/><target dev='vd{letter}' bus='virtio'/></disk>"""
VOLUME, DEVICE = "/dev/vg-0/web1", "/dev/disk/by-id/web1"


@dataclass
class FakeHost:
    """One host: its disk, its guests, its drivers."""

    name: str
    address: str
    root: Path
    hypervisor: FakeHypervisor
    receiver: FakeReceiver
    sender: FakeSender
    volumes: Any
    notifications: Any
    drivers: Drivers
    state_path: str

    def at(self, path: str) -> Path:
        """Where a path of this host really lies."""
        return under(self.root, path)

    def tree(self) -> dict[str, tuple[object, ...]]:
        """What lies on its disk: mode and contents; not ``/run``, which holds locks and ends with the host."""
        return tree(self.root / "var")


class World:
    """Some hosts, and who moves what between them."""

    def __init__(
        self,
        directory: Path,
        zookeeper_hosts: str,
        database_url: str,
        hosts: int = 2,
        *,
        shared: bool = False,
    ) -> None:
        self.directory = directory
        self.conf = settings.load(["/dev/null"])
        self.conf.set_override("connection", database_url, "database")
        self.conf.set_override("hosts", zookeeper_hosts.split(","), "zookeeper")
        self.conf.set_override("root", f"/test-{uuid.uuid4().hex[:8]}", "zookeeper")
        self.database = Database(database_url)
        self.database.upgrade()
        self.board = Board(connect(self.conf), self.conf.zookeeper.root)
        self.client = Client(self.conf)
        self.hosts = {f"kvm{n}": self._host(f"kvm{n}", f"10.0.0.{n}") for n in range(1, hosts + 1)}
        if shared:
            share(directory, "kvm1", "kvm2")
        self.scheduler = Scheduler.from_conf(self.conf)
        self.dead: set[str] = set()
        self.timeouts = TIMEOUTS
        self.tracers: dict[str, Tracer] = {}
        self.tether = Tether()
        self.board.ensure(*self.hosts)
        for host in self.hosts.values():
            self.report(host.name)
            self.board.client.create(self.board.path("workers", host.name), b"{}", ephemeral=True)

    def close(self) -> None:
        self.client.close()
        disconnect(self.board.client)
        self.database.close()

    # -- servers ------------------------------------------------------------------------------------------

    def add_server(
        self,
        name: str = "web1",
        *,
        layout: str = "dir",
        running: bool = True,
        sized: bool = False,
        firmware: bool = False,
        pinned: bool = False,
    ) -> str:
        """Make a server on kvm1 with a root disk over a base image, and a raw disk with holes.

        *layout*: in a directory of its own, ``flat`` in a pool, or ``block``: with block devices, too, for which files
        stand (:mod:`tests.support.stand_ins`). *sized*: with an ephemeral disk and swap, too, and with flavors that it
        may be resized to. *firmware*: it has UEFI and a TPM, and no state of either yet.
        *pinned*: it has a CPU, and memory of a NUMA node, for itself.
        """
        host, number = self.hosts["kvm1"], str(uuid.uuid4())
        directory = f"{INSTANCES}/{number}" if layout in ("dir", "block") else POOL
        root_disk, data_disk = f"{directory}/{name}.qcow2", f"{directory}/{name}-data.raw"
        base = f"{POOL}/base.raw"
        for path in (root_disk, base):
            host.at(path).parent.mkdir(parents=True, exist_ok=True)
        host.at(base).write_bytes(b"base" * 5000)
        command = ["qemu-img", "create", "-q", "-u", "-f", "qcow2", "-b", base, "-F", "raw"]
        subprocess.run([*command, str(host.at(root_disk)), "8M"], check=True)
        with host.at(data_disk).open("wb") as file:
            file.truncate(12 << 20)
            os.pwrite(file.fileno(), os.urandom(100_000), 5 << 20)
        disks = DISK.format(format="qcow2", path=root_disk, letter="a")
        disks += DISK.format(format="raw", path=data_disk, letter="b")
        if sized:
            disks += self._add_sized(host, directory)
        if layout == "block":
            disks += self._add_blocks(host)
        xml = DOMAIN.format(name=name, uuid=number, disks=disks, mac=PORT_MAC)
        if firmware:
            nvram = f"<nvram>/var/lib/libvirt/qemu/nvram/{name}_VARS.fd</nvram></os>"
            tpm = "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm></devices>"
            xml = xml.replace("</os>", nvram).replace("</devices>", tpm)
        if pinned:
            pins = "<cputune><vcpupin vcpu='0' cpuset='0'/></cputune>"
            memory = "<numatune><memory mode='strict' nodeset='0'/></numatune>"
            xml = xml.replace("</vcpu>", f"</vcpu>{pins}{memory}")
        host.hypervisor.define(xml, autostart=True)
        if running:
            host.hypervisor.start(number)
            host.volumes.connected.add("data")
        Adoption(self.database, host.hypervisor, host.name).run()
        return number

    def _add_blocks(self, home: FakeHost) -> str:
        """Give each host a volume group and a device full of old data, and the server one of both on its host."""
        for host in self.hosts.values():
            FakeLvm(host.root).add_group("vg-0", 9)
            host.at(DEVICE).parent.mkdir(parents=True)
            host.at(DEVICE).write_bytes(b"\xa5" * (5 << 20))
        FakeLvm(home.root).create("vg-0", "web1", 6 << 20, "nova")
        for path, size in ((VOLUME, 8 << 20), (DEVICE, 5 << 20)):
            home.at(path).write_bytes(bytes(1 << 20) + path.encode() + bytes(size - (1 << 20) - len(path)))
        disks = (
            BLOCK_DISK.format(path=path, letter=letter) for path, letter in ((VOLUME, "e"), (DEVICE, "f"))
        )
        return "".join(disks)

    def _add_sized(self, host: FakeHost, directory: str) -> str:
        ephemeral, swap = f"{directory}/disk.local", f"{directory}/disk.swap"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(host.at(ephemeral)), "4M"], check=True)
        with host.at(swap).open("wb") as file:
            file.truncate(1 << 20)
        subprocess.run(["mkswap", "-q", "-U", SWAP_UUID, "-L", "swap", str(host.at(swap))], check=True)
        with self.database.transaction() as session:
            flavors.create(session, "large", vcpus=4, memory_mb=256, root_gb=1, ephemeral_gb=1, swap_mb=2)
            flavors.create(session, "small", vcpus=1, memory_mb=32)
        return DISK.format(format="qcow2", path=ephemeral, letter="c") + DISK.format(
            format="raw", path=swap, letter="d"
        )

    # -- migrating ----------------------------------------------------------------------------------------

    def migrate(self, server: str, dest: str | None = "kvm2") -> Migration:
        """Ask for a migration and carry it through; return its record."""
        number = self.client.migrate(server, dest, requested_by="tester")
        self.run()
        return self.migration(number)

    def resize(self, server: str, flavor: str, dest: str | None = None) -> Migration:
        """Ask for a resize and carry it through; return its record."""
        number = self.client.resize(server, flavor, dest, requested_by="tester")
        self.run()
        return self.migration(number)

    def run(self) -> list[tuple[str, End]]:
        """Let the hosts take turns until no board has a job that can be had."""
        ends = []
        while jobs := [(host, job) for host in self.alive() for job in self.board.jobs(host)]:
            for host, job in jobs:
                ends.append((host, self.leg(host, job)))
        return ends

    def alive(self) -> list[str]:
        """The hosts that work; they take over what they may from those that are dead."""
        alive = [host for host in self.hosts if host not in self.dead]
        for host in alive:
            take_over(self.database, self.board, host, self.dead)
        return alive

    def cut_power(self, host: str) -> None:
        """End a host at once: guests, receivers, whatever had not been written to a disk."""
        self.dead.add(host)
        one = self.hosts[host]
        one.hypervisor.power_cut()
        for migration in one.receiver.open_migrations():
            one.receiver.kill(migration)

    def power_on(self, host: str) -> None:
        """Bring a host back; its worker pays its debts before it takes any job."""
        self.dead.discard(host)
        one = self.hosts[host]
        one.hypervisor.power_on()
        run_path = str(self.directory / host / "run")
        tracer = self.tracers.get(host, Untraced())
        payer = debts.Payer(self.database, host, one.drivers, TIMEOUTS, one.state_path, run_path, tracer)
        assert not payer.pay()
        one.receiver.restore()
        Adoption(self.database, one.hypervisor, host).run()

    def leg(self, host: str, migration: str) -> End:
        """Let one host take its turn; an interruption gives the job back, as a worker would, and is raised."""
        claim = self.board.claim(host, migration)
        assert claim is not None
        one = self.hosts[host]
        self.tether = Tether()
        leg = MigrationLeg(
            claim,
            self.board,
            self.database,
            one.drivers,
            self.timeouts,
            one.state_path,
            self.tether,
            self.dead.__contains__,
            self.scheduler,
            tracer=self.tracers.get(host),
        )
        try:
            return leg.run()
        except Interrupted:
            self.board.abandon(claim, counts=False)
            raise

    def migration(self, number: str) -> Migration:
        with self.database.reading() as session:
            found = session.get(Migration, number)
            assert found is not None
            return found

    def instance(self, number: str) -> Instance:
        with self.database.reading() as session:
            found = session.get(Instance, number)
            assert found is not None
            return found

    # -- looking ------------------------------------------------------------------------------------------

    def look(self) -> dict[str, Any]:
        """Return all that a migration could change, but for the history."""
        state: dict[str, Any] = {name: self.look_at(name) for name in self.hosts}
        state["storage"] = tree(self.directory / "storage")
        with self.database.reading() as session:
            for model in (Claim, HeldPlacement, Reservation, Binding, Receiver, JournalEntry, Debt):
                state[model.__tablename__] = sorted(map(_columns, session.scalars(select(model))))
            instances = session.scalars(select(Instance))
            state["instances"] = {
                one.uuid: (
                    *(one.host, one.vm_state, one.task_state, one.power_state),
                    *(one.vcpus, one.memory_mb, one.flavor_id),
                )
                for one in instances
            }
        state["parked"] = self.board.all_parked()
        state["held"] = self.board.held_instances()
        state["boards"] = {host: self.board.jobs(host) for host in self.hosts}
        return state

    def look_at(self, name: str) -> dict[str, Any]:
        """Return one host's part of it."""
        host = self.hosts[name]
        domains = (host.hypervisor.describe(one.uuid) for one in host.hypervisor.list_domains())
        return {
            "files": host.tree(),
            "domains": {domain.uuid: domain.to_dict() for domain in domains},
            "volumes": sorted(host.volumes.connected),
            "receivers": host.receiver.open_migrations(),
        }

    # -- underneath ---------------------------------------------------------------------------------------

    def _host(self, name: str, address: str) -> FakeHost:
        root = self.directory / name / "root"
        return fake_host(
            self.directory,
            name,
            address,
            FakeHypervisor(name, root=root),
            FakeVolumes(name),
            FakeNotifications(),
        )

    def report(self, name: str) -> None:
        """Let the host's worker tell of it, as at its start."""
        host, conf = self.hosts[name], settings.load(["/dev/null"])
        for option, value in {"host": name, "my_ip": host.address, "reserved_host_memory_mb": 0}.items():
            conf.set_override(option, value)
        HostReport(conf, self.database, host.drivers).renew()


def fake_host(
    directory: Path, name: str, address: str, hypervisor: FakeHypervisor, volumes: Any, notifications: Any
) -> FakeHost:
    """Return a host whose files lie under *directory*, with these of its drivers."""
    home = directory / name
    root, private = home / "root", home / "private"
    states = ("/var/lib/libvirt/qemu/nvram", "/var/lib/libvirt/swtpm")
    for path in (INSTANCES, POOL, *states, "/var/lib/hostler/migrations"):
        under(root, path).mkdir(parents=True, exist_ok=True)
    hypervisor.bridges.add("br0")
    network = directory / "network"
    receiver = FakeReceiver(
        private / "state", private / "run", address, (21000, 21010), network=network, root=root
    )
    sender = FakeSender(network=network, address=address, root=root)
    state_path = str(root / "var/lib/hostler")
    drivers = Drivers(
        hypervisor=hypervisor,
        files=files_of(name, root, hypervisor, state_path),
        receiver=receiver,
        sender=sender,
        verifier=FakeVerifier(private / "state", root),
        volumes=volumes,
        ports=LibvirtPorts(
            hypervisor.network_names, hypervisor.bridge_exists, {}, name, lambda: hypervisor.bridges
        ),
        claims=RecordsClaims(),
        notifications=News({"fake": notifications}),
    )
    return FakeHost(
        name, address, root, hypervisor, receiver, sender, volumes, notifications, drivers, state_path
    )


def tree(top: Path) -> dict[str, tuple[object, ...]]:
    """What lies under *top*: mode and contents."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(top.rglob("*")):
        contents = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[str(path.relative_to(top.parent))] = (oct(path.lstat().st_mode), contents)
    return found


def share(directory: Path, *names: str) -> None:
    """Let hosts without servers have libvirt's directory in common, as if a file server had it."""
    storage = directory / "storage"
    for name in names:
        own = directory / name / "root/var/lib/libvirt"
        if storage.exists():
            shutil.rmtree(own)
        else:
            own.rename(storage)
        own.symlink_to("../../../../storage")


def files_of(name: str, root: Path, hypervisor: FakeHypervisor, state_path: str) -> LocalFiles:
    """Return the driver of a host's files; as a worker's it keeps what servers use, and set-aside ones need."""
    files = LocalFiles(
        INSTANCES,
        str(root),
        host=name,
        in_use=lambda path: is_used(files, hypervisor, state_path, path),
        block_devices=["/dev/disk/by-id/*"],
        lvm=FakeLvm(root),
    )
    return files


def step(flow: str, name: str) -> HostTask:
    """Return the step itself: every leg of this process runs that object."""
    return next(task for task in flows.make(flow) if task.name == name)


@contextmanager
def failing(
    task: HostTask,
    error: BaseException,
    *,
    when: str,
    method: str = "execute",
    also: Callable[[], object] = lambda: None,
) -> Iterator[None]:
    """Let *task* do *also* and raise *error* once, *when* is ``before`` or ``after`` its effect."""
    real = getattr(task, method)
    calls = 0

    def broken(**arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1 and when == "before":
            also()
            raise error
        result = real(**arguments)
        if calls == 1 and when == "after":
            also()
            raise error
        return result

    setattr(task, method, broken)
    try:
        yield
    finally:
        delattr(task, method)


@contextmanager
def wished(world: World, number: str, task: HostTask) -> Iterator[None]:
    """Let an operator cancel a migration just when *task* begins."""
    real = task.execute

    def execute(**arguments: Any) -> Any:
        world.client.cancel(number, requested_by="alice", reason="changed my mind")
        world.tether.cancel()
        return real(**arguments)

    setattr(task, "execute", execute)  # noqa: B010 - mypy minds the other way
    try:
        yield
    finally:
        delattr(task, "execute")


def _columns(row: Base) -> tuple[tuple[str, str], ...]:
    return tuple((column.name, str(getattr(row, column.name))) for column in row.__table__.columns)
