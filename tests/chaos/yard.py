"""The lab of the chaos: two hosts, three ZooKeepers, a PostgreSQL, workers that come back as systemd's would."""

from __future__ import annotations

import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from lab import Guest, Host, Lab
from lab.disks import Disk
from lab.guest_kernel import Kernel, build_kernel
from lab.postgres import PostgreSQL
from lab.process import LabError

#: Short waits, since what they wait for often does not come; each of them passes in some round.
SETTINGS = """
[DEFAULT]
cpu_allocation_ratio = 64
shutdown_timeout = 8
shutdown_retry_interval = 2
guest_start_timeout = 30
max_concurrent_migrations = 6
dead_host_timeout = 12

[database]
connect_timeout = 5

[zookeeper]
session_timeout = 5
relist_interval = 5
reconcile_interval = 5
posting_timeout = 15

[images]
timeout = 12
keep_copies = 120
"""
#: Of the cable of each host: a copy takes a second or two.
RATE = "100mbit"
BOOT = Path("/var/lib/libvirt/boot")
DATA = Disk(kind="sparse", format="raw", size_mib=24, data_mib=12)
#: Between two looks at whether the workers run.
PAUSE_S = 1.0


def guests(kernel: Kernel) -> list[Guest]:
    """The servers, each another kind: half of them start by themselves when their host boots."""
    return [
        Guest("alder", journal=True, kernel=kernel, autostart=True),
        Guest("birch", journal=True, kernel=kernel, disks=(Disk(format="raw"), DATA)),
        Guest("larch", journal=True, kernel=kernel, disks=(Disk(format="raw"),)),
        Guest("maple", journal=True, kernel=kernel, disks=(Disk(backed=True), DATA), autostart=True),
        Guest("cedar", journal=True, kernel=kernel, layout="flat", autostart=True),
        Guest("daphne", journal=True, kernel=kernel, layout="flat", disks=(Disk(), DATA)),
    ]


def lab_in(directory: Path) -> Lab:
    """The lab, not up yet."""
    return Lab(
        directory, disk_size="20G", settings=SETTINGS, zookeepers=3, postgresql=True, movable_clocks=True
    )


def records_of(lab: Lab) -> PostgreSQL:
    """The lab's database server."""
    server = lab.postgresql
    assert server is not None
    return server


class Keeper:
    """Starts a worker that has ended, as systemd would, unless a fault holds it down."""

    def __init__(self, hosts: list[Host]) -> None:
        self._hosts = hosts
        self._held: Counter[str] = Counter()
        self._locks = {host.name: threading.RLock() for host in hosts}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="keeper", daemon=True)

    @contextmanager
    def power_of(self, host: Host) -> Iterator[None]:
        """Let nobody else switch this host or its worker meanwhile."""
        with self._locks[host.name]:
            yield

    def hold(self, host: Host) -> None:
        """Let the worker stay down."""
        with self._locks[host.name]:
            self._held[host.name] += 1

    def let_go(self, host: Host) -> None:
        """Undo `hold`."""
        with self._locks[host.name]:
            self._held[host.name] -= 1

    def _keep(self) -> None:
        while not self._ended.wait(PAUSE_S):
            for host in self._hosts:
                with self._locks[host.name]:
                    if host.is_on and not self._held[host.name] and host.worker_pid is None:
                        _start_worker(host)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()


def _start_worker(host: Host) -> None:
    try:
        host.start_worker()
    except LabError as error:  # looked at again in a second
        print(f"keeper: {error}", flush=True)


def give_kernel(host: Host) -> Kernel:
    """Put what guests boot from on the host's own disk, as on a host that shares nothing with another."""
    common = build_kernel()
    host.path(BOOT).mkdir(exist_ok=True)
    for file in (common.vmlinuz, common.initrd):
        shutil.copyfile(file, host.path(BOOT / file.name))
    return Kernel(BOOT / common.vmlinuz.name, BOOT / common.initrd.name)
