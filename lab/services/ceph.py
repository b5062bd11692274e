"""A private Ceph: one monitor, one OSD on a file, one pool for images.

QEMU opens the images by itself (librbd, Debian's package qemu-block-extra); the kernel has no part in it.
"""

import json
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab.process import Daemon, wait_until
from lab.services.service import Server
from lab.sockets import free_port

POOL = "rbd"
SETTINGS = """
[global]
fsid = {fsid}
mon_host = [v2:{address}:{port},v1:{address}:{old_port}]
public_addr = {address}
cluster_addr = {address}
ms_bind_port_min = 20000
ms_bind_port_max = 31999
auth_cluster_required = {auth}
auth_service_required = {auth}
auth_client_required = {auth}
keyring = {directory}/keyring
auth_allow_insecure_global_id_reclaim = false
run_dir = {directory}
crash_dir = {directory}
admin_socket = {directory}/$name.$pid.asok
log_file =
mon_cluster_log_file =
log_to_stderr = true
err_to_stderr = true
debug_rocksdb = 0/0
debug_bluestore = 0/0
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_crush_chooseleaf_type = 0
osd_client_watch_timeout = {watch_timeout_s}
osd_objectstore = bluestore
bluestore_block_size = {size}
[mon]
mon_data = {directory}/monitor
mon_allow_pool_size_one = true
mon_warn_on_pool_no_redundancy = false
mon_data_avail_warn = 1
[osd]
osd_data = {directory}/osd
"""
#: Of the OSD's file, which has holes.
SIZE_BYTES = 4 << 30
#: What a user may do, by the kind of Ceph's daemons: ``{"mon": "allow r", "osd": "allow rwx pool=volumes"}``.
Capabilities = Mapping[str, str]
#: Who must be known where keys are asked for.
OWN_USERS: Mapping[str, Capabilities] = {
    "mon.": {"mon": "allow *"},
    "osd.0": {"mon": "allow profile osd", "osd": "allow *"},
    "client.admin": {"mon": "allow *", "osd": "allow *", "mgr": "allow *"},
}


class Ceph(Server):
    """One cluster; its images stay through `kill` and `start`. `port` is the monitor's, for messages of version 2."""

    name = "ceph"
    needs = ("ceph-mon", "ceph")

    def __init__(
        self,
        directory: Path,
        address: str = "",
        users: Mapping[str, Capabilities] | None = None,
        watch_timeout_s: int = 30,
    ) -> None:
        """*users*: who may come with a key; None: nobody is asked who he is.

        *watch_timeout_s*: how long it believes in a client that has died.
        """
        super().__init__(directory, address)
        self._users = users
        self._watch_timeout_s = watch_timeout_s
        #: The monitor's for messages of version 1.
        self.old_port = int(self._recorded("old-port") or free_port(self.address))
        self._osd = Daemon(directory / "osd.json")

    def start(self, timeout_s: float = 120) -> None:
        """Start the monitor, and the OSD once that answers; return when there is the pool."""
        if self.pid is not None and self._osd.pid is not None:
            return
        self.kill()
        super().start(timeout_s)
        self._start_osd()
        wait_until(
            self._has_osd, f"the OSD of {self.name}: see {self.directory}/osd.log", timeout_s, pause_s=0.2
        )
        self.add_pool(POOL)

    @property
    def url(self) -> str:
        """Where the images are, as QEMU writes it but for the image's name."""
        return f"rbd:{POOL}:conf={self.conf}"

    @property
    def conf(self) -> Path:
        """The settings, for clients too."""
        return self.directory / "ceph.conf"

    def key(self, user: str) -> str:
        """The key of a user, as Ceph writes it: base64."""
        keyring = self.directory / "keyring"
        return self._run("ceph-authtool", "--print-key", "--name", user, keyring).strip()

    def add_pool(self, name: str) -> None:
        """Make a pool for images, unless there is one of that name."""
        if name not in self.ask("osd", "pool", "ls"):
            self.ask("osd", "pool", "create", name, "8")
            self.ask("osd", "pool", "application", "enable", name, "rbd")

    def add_image(self, name: str, size_mib: int = 64, pool: str = POOL) -> str:
        """Make an image of zeros; return where QEMU finds it."""
        self.rbd("create", "--size", f"{size_mib}M", f"{pool}/{name}")
        return self.uri(name, pool)

    def uri(self, name: str, pool: str = POOL) -> str:
        """Where QEMU finds an image."""
        return f"rbd:{pool}/{name}:conf={self.conf}"

    def disk(self, name: str, device: str, pool: str = POOL, serial: str = "") -> str:
        """Libvirt's XML of a disk that opens an image; *device*: ``vdb``. *serial*: its number, if it has one."""
        return (
            "<disk type='network' device='disk'><driver name='qemu' type='raw' cache='none'/>"
            f"<source protocol='rbd' name='{pool}/{name}'>"
            f"<host name='{self.address}' port='{self.port}'/></source>"
            f"<target dev='{device}' bus='virtio'/>{f'<serial>{serial}</serial>' if serial else ''}</disk>"
        )

    def connected(self, name: str, pool: str = POOL) -> list[str]:
        """The addresses of those who have an image open."""
        told = json.loads(self.rbd("status", "--format=json", f"{pool}/{name}"))
        return [_host(one["address"]) for one in told["watchers"]]

    def locked(self, name: str, pool: str = POOL) -> list[str]:
        """The addresses of those who have locked an image."""
        told = json.loads(self.rbd("lock", "ls", "--format=json", f"{pool}/{name}"))
        return [_host(one["address"]) for one in told]

    def rbd(self, *words: str) -> str:
        """What Ceph's own client for images says to these words."""
        return self._run("rbd", "-c", self.conf, *words)

    def ask(self, *words: str) -> Any:
        """What the monitor says to these words, as JSON; None if nothing."""
        told = self._run("ceph", "-c", self.conf, "--connect-timeout", "10", "-f", "json", *words)
        return json.loads(told) if told.strip() else None

    def _prepare(self) -> None:
        (self.directory / "old-port").write_text(str(self.old_port))
        facts = {"fsid": self._fsid, "directory": self.directory, "size": SIZE_BYTES}
        facts |= {
            "auth": "none" if self._users is None else "cephx",
            "watch_timeout_s": self._watch_timeout_s,
        }
        ports = {"address": self.address, "port": self.port, "old_port": self.old_port}
        self.conf.write_text(SETTINGS.format(**facts, **ports))
        if not (self.directory / "monitor-made").exists():
            self._make_monitor()
            (self.directory / "monitor-made").touch()

    def _make_monitor(self) -> None:
        home, monmap, keyring = (self.directory / part for part in ("monitor", "monmap", "keyring"))
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir()
        self._run("ceph-authtool", "--create-keyring", keyring)
        for name, capabilities in ({} if self._users is None else {**OWN_USERS, **self._users}).items():
            words = [word for daemon, what in capabilities.items() for word in ("--cap", daemon, what)]
            self._run("ceph-authtool", keyring, "--gen-key", "--name", name, *words)
        where = f"[v2:{self.address}:{self.port},v1:{self.address}:{self.old_port}]"
        self._run("monmaptool", "--create", "--clobber", "--fsid", self._fsid, "--addv", "a", where, monmap)
        made: list[str | Path] = ["--mkfs", "--monmap", monmap, "--keyring", keyring]
        self._run("ceph-mon", "-c", self.conf, "-i", "a", *made)

    def _command(self) -> tuple[list[str | Path], Mapping[str, object]]:
        return ["ceph-mon", "-f", "-c", self.conf, "-i", "a"], {}

    def _greeting(self) -> Mapping[str, object]:
        return {"quorum": quorum} if (quorum := self.ask("quorum_status")["quorum"]) else {}

    def _start_osd(self) -> None:
        home, identity = self.directory / "osd", str(uuid.uuid5(uuid.UUID(self._fsid), "osd"))
        self.ask("osd", "new", identity)  # asking twice is asking once
        if not (self.directory / "osd-made").exists():
            shutil.rmtree(home, ignore_errors=True)
            home.mkdir()
            self._run("ceph-osd", "-c", self.conf, "-i", "0", "--mkfs", "--osd-uuid", identity)
            (self.directory / "osd-made").touch()
        command: list[str | Path] = ["ceph-osd", "-f", "-c", self.conf, "-i", "0"]
        self._osd.start([*self._alone(), *command], self.directory / "osd.log")

    def _has_osd(self) -> bool:
        """Tell whether the OSD that was just started has joined: what the monitor knows may be of one before."""
        if self._osd.pid is None:
            raise self._ended("the OSD", self.directory / "osd.log")
        found = [one for one in self.ask("osd", "dump")["osds"] if one["up"]]
        return any(one["public_addr"].partition("/")[2] == str(self._osd.pid) for one in found)

    def kill(self) -> None:
        """End the OSD, and then the monitor, to which it says goodbye."""
        self._osd.end()
        self._daemon.end()

    @property
    def _fsid(self) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_URL, str(self.directory)))


def _host(address: str) -> str:
    """Return the address of the host alone: without port, and without the number that makes a client unique."""
    return address.partition(":")[0]
