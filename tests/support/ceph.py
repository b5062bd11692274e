"""A private Ceph: one monitor and one OSD whose objects lie in memory, with keys, on loopback."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.sockets import free_port

#: Seconds for which it believes in a client that has died; 30 where nobody says otherwise.
WATCH_TIMEOUT_S = 5
SETTINGS = """
[global]
fsid = {fsid}
mon_host = v2:127.0.0.1:{v2}/0
mon_data = {directory}/mon
osd_data = {directory}/osd
osd_objectstore = memstore
memstore_device_bytes = 268435456
keyring = {directory}/keyring
run_dir = {directory}
log_file = {directory}/$name.log
pid_file =
admin_socket = {directory}/$name.asok
public_addr = 127.0.0.1
ms_bind_port_min = {osd_first}
ms_bind_port_max = {osd_last}
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_crush_chooseleaf_type = 0
osd_client_watch_timeout = {watch_timeout}
mon_allow_pool_size_one = true
mon_warn_on_pool_no_redundancy = false
"""
ROLES = {
    "mon.": {"mon": "allow *"},
    "client.admin": {"mon": "allow *", "osd": "allow *", "mgr": "allow *"},
    "osd.0": {"mon": "allow profile osd", "osd": "allow *"},
    # may write, and not break the lock of a client that has died: that is "osd blocklist" to Ceph's monitors
    "client.libvirt": {
        "mon": "allow r",
        "osd": "allow rwx pool=volumes, allow class-read object_prefix rbd_children",
    },
}


def is_here() -> bool:
    """Tell whether its programs are installed."""
    return all(
        shutil.which(name) for name in ("ceph", "ceph-mon", "ceph-osd", "ceph-authtool", "monmaptool", "rbd")
    )


@dataclass
class Ceph:
    """A cluster with one pool, ``volumes``."""

    directory: Path
    port: int

    @property
    def conf(self) -> Path:
        return self.directory / "ceph.conf"

    def run(self, *words: object) -> str:
        """Run one of Ceph's programs as its administrator."""
        program, *rest = map(str, words)
        command = [program, "--conf", str(self.conf), *rest]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def key(self, name: str) -> str:
        """Return the key of a user, as Ceph writes it."""
        return self.run("ceph-authtool", "--print-key", "--name", name, self.directory / "keyring").strip()


@contextmanager
def ceph(directory: Path) -> Iterator[Ceph]:
    """Give one; when this returns nothing of it is left."""
    made = Ceph(directory, free_port())
    (directory / "osd").mkdir(parents=True)
    osd = free_port()
    facts = {"fsid": uuid.uuid4(), "directory": directory, "watch_timeout": WATCH_TIMEOUT_S}
    made.conf.write_text(SETTINGS.format(v2=made.port, osd_first=osd, osd_last=osd + 50, **facts))
    keyring, running = directory / "keyring", list[subprocess.Popen[bytes]]()
    made.run("ceph-authtool", "--create-keyring", keyring)
    for name, caps in ROLES.items():
        words = [word for part, cap in caps.items() for word in ("--cap", part, cap)]
        made.run("ceph-authtool", keyring, "--gen-key", "--name", name, *words)
    try:
        monmap = directory / "monmap"
        made.run(
            "monmaptool",
            "--create",
            "--fsid",
            facts["fsid"],
            "--addv",
            "a",
            f"[v2:127.0.0.1:{made.port}]",
            monmap,
        )
        made.run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap, "--keyring", keyring)
        running.append(_start(made, "ceph-mon", "-i", "a"))
        number = uuid.uuid4()
        made.run("ceph", "--connect-timeout", "30", "osd", "new", number)
        made.run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", number)
        running.append(_start(made, "ceph-osd", "-i", "0"))
        _wait_for(lambda: json.loads(made.run("ceph", "osd", "stat", "--format", "json"))["num_up_osds"] == 1)
        made.run("ceph", "osd", "pool", "create", "volumes", "8")
        made.run("rbd", "pool", "init", "volumes")
        yield made
    finally:
        for process in reversed(running):
            process.kill()
            process.wait()


def _start(made: Ceph, program: str, *words: str) -> subprocess.Popen[bytes]:
    command = [program, "--conf", str(made.conf), "-f", *words]
    with (made.directory / f"{program}.out").open("wb") as told:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=told, stderr=told)


def _wait_for(seen: Any) -> None:
    deadline = time.monotonic() + 60
    while True:
        with suppress(AssertionError):
            if seen():
                return
        assert time.monotonic() < deadline
        time.sleep(0.2)
