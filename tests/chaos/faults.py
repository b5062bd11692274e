"""The faults. Each strikes and is healed; what it can do only to what is there it says: moot if nothing was."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable
from typing import ClassVar

from lab import Guest, Host, Lab
from lab.process import wait_until
from tests.chaos.journal import Journal
from tests.chaos.office import Office
from tests.chaos.plan import Strike
from tests.chaos.yard import Keeper, records_of

#: Two faults of a round may come to ZooKeeper or the database at once: one starts or kills a server at a time.
_at_the_servers = threading.Lock()


class Scene:
    """Where a fault strikes: the lab and, of the move that it is aimed at, the server and its two hosts."""

    def __init__(
        self, lab: Lab, keeper: Keeper, office: Office, journal: Journal, source: Host, dest: Host
    ) -> None:
        self.lab = lab
        self.keeper = keeper
        self.office = office
        self.journal = journal
        self.guest: Guest = journal.guest
        self.source = source
        self.dest = dest


class Fault:
    """`strike` returns what it did in a few words, or None if there was nothing to strike."""

    name: ClassVar[str]

    def __init__(self, scene: Scene, strike: Strike) -> None:
        self.scene = scene
        self.plan = strike
        self.host = scene.source if strike.role == "source" else scene.dest

    def strike(self) -> str | None:
        """Do it."""
        raise NotImplementedError

    def heal(self) -> None:
        """Undo it; nothing if it heals by itself."""

    def settle(self) -> None:
        """Put right what an operator has done; when all is quiet, and again when every server is where it stays."""


class WorkerKilled(Fault):
    """kill -9."""

    name = "worker-killed"

    def strike(self) -> str | None:
        self.scene.keeper.hold(self.host)
        with self.scene.keeper.power_of(self.host):
            if not self.host.is_on or self.host.worker_pid is None:
                return None
            self.host.kill_worker()
        return self.host.name

    def heal(self) -> None:
        self.scene.keeper.let_go(self.host)


class WorkerHung(Fault):
    """Stopped, and let go on when it may have lost everything."""

    name = "worker-hung"
    _pid: int | None = None

    def strike(self) -> str | None:
        with self.scene.keeper.power_of(self.host):
            if not self.host.is_on or (pid := self.host.worker_pid) is None:
                return None
            self.host.run(["kill", "-STOP", str(pid)], check=False)
            self._pid = pid
        return self.host.name

    def heal(self) -> None:
        with self.scene.keeper.power_of(self.host):
            if self.host.is_on and self._pid is not None and self.host.worker_pid == self._pid:
                self.host.run(["kill", "-CONT", str(self._pid)], check=False)


class PowerCut(Fault):
    """Every process of the host dies at once; it boots when it is healed."""

    name = "power-cut"

    def strike(self) -> str | None:
        with self.scene.keeper.power_of(self.host):
            if not self.host.is_on:
                return None
            self.host.power_cut()
        return self.host.name

    def heal(self) -> None:
        with self.scene.keeper.power_of(self.host):
            self.host.power_on()


class Reboot(PowerCut):
    """Off and on again at once: libvirt starts what has autostart before any worker runs."""

    name = "reboot"

    def strike(self) -> str | None:
        with self.scene.keeper.power_of(self.host):
            struck = super().strike()
            self.host.power_on()
        return struck


class LinkCut(Fault):
    """The host reaches nobody, and goes on."""

    name = "link-cut"

    def strike(self) -> str | None:
        with self.scene.keeper.power_of(self.host):
            self.host.cut_link()
        return self.host.name

    def heal(self) -> None:
        with self.scene.keeper.power_of(self.host):
            self.host.mend_link()


class ZooKeeperKilled(Fault):
    """kill -9 of all three."""

    name = "zookeeper-killed"

    def strike(self) -> str | None:
        with _at_the_servers:
            self.scene.lab.zookeeper.kill()
        return "all three"

    def heal(self) -> None:
        with _at_the_servers:
            self.scene.lab.zookeeper.start()


class LeaderKilled(ZooKeeperKilled):
    """kill -9 of the one that the others follow."""

    name = "leader-killed"

    def strike(self) -> str | None:
        with _at_the_servers:
            leader = self.scene.lab.zookeeper.leader
            if leader is None:
                return None
            leader.kill()
        return leader.hosts


class DatabaseStopped(Fault):
    """PostgreSQL's fast shutdown: every connection is cut."""

    name = "database-stopped"

    def strike(self) -> str | None:
        server = records_of(self.scene.lab)
        with _at_the_servers:
            if server.pid is None:
                return None
            server.stop()
        return "fast shutdown"

    def heal(self) -> None:
        with _at_the_servers:
            records_of(self.scene.lab).start()


class DatabaseKilled(DatabaseStopped):
    """PostgreSQL ends as in a crash, and recovers at its next start."""

    name = "database-killed"

    def strike(self) -> str | None:
        server = records_of(self.scene.lab)
        with _at_the_servers:
            if server.pid is None:
                return None
            server.kill()
        return "crash"


class ReceiverKilled(Fault):
    """kill -9 of what takes the images."""

    name = "receiver-killed"

    def strike(self) -> str | None:
        with self.scene.keeper.power_of(self.scene.dest):
            if not self.scene.dest.is_on:
                return None
            killed = self.scene.dest.run(["pkill", "-KILL", "-x", "nbdkit"], check=False).returncode == 0
        return self.scene.dest.name if killed else None


class LibvirtdKilled(Fault):
    """kill -9; its guests run on, and it comes back at once."""

    name = "libvirtd-killed"

    def strike(self) -> str | None:
        with self.scene.keeper.power_of(self.host):
            if not self.host.is_on:
                return None
            self.host.kill_libvirtd()
        return self.host.name


class DiskFull(Fault):
    """Nothing is left where the images lie. QEMU pauses a guest that cannot write; the operator resumes it."""

    name = "disk-full"

    def strike(self) -> str | None:
        with self.scene.keeper.power_of(self.host):
            if not self.host.is_on:
                return None
            self.host.fill_disk("2M")
        return self.host.name

    def heal(self) -> None:
        with self.scene.keeper.power_of(self.host):
            if self.host.is_on:
                self.host.free_disk()
                resume_all(self.host)

    def settle(self) -> None:
        self.host.free_disk()
        resume_all(self.host)


class ClockJump(Fault):
    """The worker's wall clock jumps, and jumps back."""

    name = "clock-jump"

    def strike(self) -> str | None:
        return self._move(self.plan.jump_s)

    def heal(self) -> None:
        self._move(0)

    def _move(self, seconds: int) -> str | None:
        with self.scene.keeper.power_of(self.host):
            if not self.host.is_on:
                return None
            self.host.move_clock(seconds)
        return f"{self.host.name} {seconds:+d}s"


class VirshStart(Fault):
    """An operator starts the server, wherever it may be on its way."""

    name = "virsh-start"

    def strike(self) -> str | None:
        return virsh(self.host, self.scene.keeper, "start", self.scene.guest.uuid)


class VirshUndefine(Fault):
    """An operator undefines the server; having seen what that does, defines it again where its record has it."""

    name = "virsh-undefine"
    _xml = ""

    def strike(self) -> str | None:
        uuid = self.scene.guest.uuid
        with self.scene.keeper.power_of(self.host):
            if self.host.is_on:
                self._xml = self.host.run(["virsh", "-q", "dumpxml", "--inactive", uuid], check=False).stdout
        return virsh(self.host, self.scene.keeper, "undefine", uuid)

    def settle(self) -> None:
        uuid, guest = self.scene.guest.uuid, self.scene.guest
        record = self.scene.office.told("server", "show", uuid)
        host = self.scene.lab.host(record["host"])
        known = host.run(["virsh", "-q", "dominfo", uuid], check=False).stdout
        if record["task_state"] is None and "Persistent:     yes" not in known:
            xml = host.virsh("dumpxml", "--inactive", uuid) if known else self._xml
            host.run(["virsh", "-q", "define", "/dev/stdin"], text_in=xml or guest.xml())
        if record["task_state"] is None and record["vm_state"] != "resized" and guest.autostart:
            host.virsh("autostart", uuid)


class Cancelled(Fault):
    """An operator cancels the migration."""

    name = "cancel"

    def strike(self) -> str | None:
        refused = self.scene.office.cancel(self.scene.guest.uuid)
        return "accepted" if refused is None else None


class Recovered(PowerCut):
    """The destination dies, and an operator gives it up: what the server wrote there is dropped, and only here."""

    name = "recover"

    def __init__(self, scene: Scene, strike: Strike) -> None:
        super().__init__(scene, strike)
        self.host = scene.dest

    def strike(self) -> str | None:
        if super().strike() is None:
            return None
        wait_until(
            lambda: not self.scene.office.is_up(self.host), f"the end of {self.host.name}'s session", 60, 0.5
        )
        words = ["--host-is-down", self.host.name, "--drop-writes", "--reason", "chaos"]
        uuid = self.scene.guest.uuid
        said = self.scene.office.insist("migration", "recover", uuid, *words)
        if said.code != 0:
            return f"{self.host.name} cut; recover refused: {said.ending[1].splitlines()[0]}"
        self.scene.journal.drop(self.scene.dest, self.scene.source)
        return f"{self.host.name} cut and given up"


FAULTS: dict[str, Callable[[Scene, Strike], Fault]] = {
    fault.name: fault
    for fault in (
        WorkerKilled,
        WorkerHung,
        PowerCut,
        Reboot,
        LinkCut,
        ZooKeeperKilled,
        LeaderKilled,
        DatabaseStopped,
        DatabaseKilled,
        ReceiverKilled,
        LibvirtdKilled,
        DiskFull,
        ClockJump,
        VirshStart,
        VirshUndefine,
        Cancelled,
        Recovered,
    )
}


def virsh(host: Host, keeper: Keeper, verb: str, uuid: str) -> str | None:
    """Type it; None if libvirt refused."""
    with keeper.power_of(host):
        if not host.is_on:
            return None
        done = host.run(["virsh", "-q", verb, uuid], check=False)
    return f"on {host.name}" if done.returncode == 0 else None


def resume_all(host: Host) -> None:
    """Resume what QEMU paused because it could not write."""
    deadline = time.monotonic() + 10
    for uuid in host.virsh("list", "--uuid", "--state-paused").split():
        while "I/O error" in host.run(["virsh", "-q", "domstate", "--reason", uuid], check=False).stdout:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(["virsh", "resume", uuid], 10)
            host.run(["virsh", "-q", "resume", uuid], check=False)
