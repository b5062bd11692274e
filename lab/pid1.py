"""The first process of a host: mounts what is the host's own, starts libvirtd and the worker, reaps.

Run by /usr/bin/python3 in fresh namespaces, as ``pid1.py SPECIFICATION`` (see `lab.host`). Imports nothing of
the lab: the host may not see the checkout before the mounts are made. SIGUSR1 asks it to start the worker.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

LIBVIRT_SOCKET = Path("/run/libvirt/libvirt-sock")
WORKER_ENABLED = Path("/etc/hostler/worker-enabled")
WORKER_PID = Path("/run/hostler-worker.pid")
#: How often the first process has looked whether a worker is to be started: how `Host.start_worker` knows.
WORKER_LOOKS = Path("/run/hostler-worker.looks")
WORKER_LOG = Path("/var/log/hostler/worker.log")
#: As the worker's unit has it.
WORKER_UMASK = 0o077
#: Until a libvirtd that has ended is started again, as by systemd.
RESTART_S = 0.1


@dataclass(frozen=True)
class Specification:
    """What a host is made of."""

    hostname: str
    #: With the length of the prefix: 10.77.0.1/24.
    address: str
    #: Hardware address of its bridge.
    hardware_address: str
    #: Folder of the host's own, and where it is mounted.
    binds: Sequence[tuple[str, str]]
    #: Folders of the machine that the host must see although a bind covers their parents.
    kept: Sequence[str]
    #: A file system image that is mounted on /var/lib/libvirt, or none.
    disk: str | None
    environment: Mapping[str, str]
    #: What starts the worker.
    worker: Sequence[str]


def main() -> None:
    specification = Specification(**json.loads(Path(sys.argv[1]).read_text()))
    # Blocked signals stay pending until waited for, so none is lost between two rounds of the loop.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, signal.SIGUSR1, signal.SIGTERM})
    socket.sethostname(specification.hostname)
    mount_all(specification)
    join_network(specification.address, specification.hardware_address)
    Host(specification.environment, specification.worker).live()


def call(*argv: str) -> None:
    """Run a command of the start; the host does not come up without it."""
    subprocess.run(argv, check=True, preexec_fn=unblock_signals)


def unblock_signals() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def mount_all(specification: Specification) -> None:
    """Cover the machine's folders with the host's own ones."""
    # sysfs shows the network of who mounted it, and libvirt looks for bridges there.
    call("mount", "-t", "sysfs", "sysfs", "/sys")
    call("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    call("mount", "-t", "tmpfs", "-o", "mode=1777", "tmpfs", "/dev/shm")
    for own, place in specification.binds:
        keep_below(Path(own), Path(place), specification.kept)
        call("mount", "--rbind", own, place)
    if specification.disk is not None:
        call("mount", "-o", "loop", specification.disk, "/var/lib/libvirt")
    # On a terminal, virsh would start the agent of a polkit that no host has, and complain.
    if Path("/usr/bin/pkttyagent").exists():
        call("mount", "--bind", "/dev/null", "/usr/bin/pkttyagent")
    for folder in ("/run/libvirt", "/run/lock", "/var/lib/libvirt/images", "/var/lib/libvirt/instances"):
        Path(folder).mkdir(parents=True, exist_ok=True)


def keep_below(own: Path, place: Path, kept: Sequence[str]) -> None:
    """Mount into *own* each kept folder that would vanish when *own* covers *place*."""
    for folder in map(Path, kept):
        if folder.is_relative_to(place):
            inside = own / folder.relative_to(place)
            inside.mkdir(parents=True, exist_ok=True)
            call("mount", "--rbind", str(folder), str(inside))


def join_network(address: str, hardware_address: str) -> None:
    """Wait for the cable, then make the bridge that the host and its guests share."""
    deadline = time.monotonic() + 20
    while not Path("/sys/class/net/eth0").exists():
        if time.monotonic() > deadline:
            raise TimeoutError("no eth0")
        time.sleep(0.01)
    call("ip", "link", "set", "lo", "up")
    call("ip", "link", "add", "br0", "address", hardware_address, "type", "bridge")
    call("ip", "addr", "add", address, "dev", "br0")
    call("ip", "link", "set", "eth0", "master", "br0", "up")
    call("ip", "link", "set", "br0", "up")


class Host:
    """The life of the host: its two services and the orphans."""

    def __init__(self, environment: Mapping[str, str], worker: Sequence[str]) -> None:
        self._environment = environment
        self._command = list(worker)
        self._worker: int | None = None
        self._libvirtd: int | None = None

    def live(self) -> None:
        """Start what belongs to a boot, then reap for ever."""
        self._start_libvirtd()
        worker_is_due, looks = True, 0
        while True:
            if worker_is_due and LIBVIRT_SOCKET.exists():
                self._start_worker()
                worker_is_due = False
                looks += 1
                WORKER_LOOKS.write_text(str(looks))
            got = signal.sigtimedwait(
                {signal.SIGCHLD, signal.SIGUSR1, signal.SIGTERM}, 0.05 if worker_is_due else 3600
            )
            if got and got.si_signo == signal.SIGTERM:
                return
            worker_is_due |= bool(got and got.si_signo == signal.SIGUSR1)
            self._reap()

    def _start_libvirtd(self) -> None:
        libvirtd = ["/usr/sbin/libvirtd", "-f", "/etc/libvirt/libvirtd.conf"]
        self._libvirtd = self._spawn(libvirtd, "/var/log/libvirt/stderr.log")

    def _start_worker(self) -> None:
        """Start the worker iff it is enabled and does not run; nothing restarts it when it ends."""
        if self._worker is not None or not WORKER_ENABLED.exists():
            return
        before = os.umask(WORKER_UMASK)
        try:
            self._worker = self._spawn(self._command, str(WORKER_LOG))
        except FileNotFoundError:
            WORKER_LOG.write_text(f"pid1: no program {self._command[0]!r} on PATH\n")
            return
        finally:
            os.umask(before)
        WORKER_PID.write_text(str(self._worker))

    def _spawn(self, argv: list[str], log: str) -> int:
        append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        return os.posix_spawnp(
            find(argv[0], self._environment["PATH"]),
            argv,
            self._environment,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, log, append, 0o644),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
            setsigmask=[],
        )

    def _reap(self) -> None:
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._libvirtd:
                time.sleep(RESTART_S)
                self._start_libvirtd()
            if pid == self._worker:
                self._worker = None
                WORKER_PID.unlink(missing_ok=True)


def find(program: str, path: str) -> str:
    """The program's place, as the host's PATH has it."""
    if program.startswith("/"):
        return program
    for folder in path.split(":"):
        candidate = Path(folder, program)
        if os.access(candidate, os.X_OK):
            return str(candidate)
    raise FileNotFoundError(program)


if __name__ == "__main__":
    main()
