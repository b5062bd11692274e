"""os-brick: with files as it is, and what needs a kernel's iSCSI, NVMe-oF or NFS up to the commands it gives.

The answers are those that open-iscsi 2.1, nvme-cli 2 and util-linux give; ``tests/cloud/test_brick.py`` has the kernel.
"""

from __future__ import annotations

import glob
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from oslo_concurrency import processutils

from hostler.drivers.volumes import brick
from hostler.drivers.volumes.brick import BrickConnector
from hostler.drivers.volumes.brick_fake import FakeConnector
from hostler.drivers.volumes.connector import Connector, harmless, unspoken
from hostler.errors import MigrationError, VolumeUnreachable
from hostler.objects import Volume

pytest.importorskip("os_brick")

UUID = "33333333-3333-4333-8333-333333333333"
VOLUME = Volume("vdb", "host", "/dev/sdx", serial=UUID, path="/dev/sdx")
PORTAL, IQN = "10.0.0.2:3260", f"iqn.2010-10.org.openstack:volume-{UUID}"
ISCSI = {
    "driver_volume_type": "iscsi",
    "target_portal": PORTAL,
    "target_iqn": IQN,
    "target_lun": 1,
    "auth_method": "CHAP",
    "auth_username": "bob",
    "auth_password": "hush-hush",
    "volume_id": UUID,
}
NODE = ("iscsiadm", "-m", "node", "-T", IQN, "-p", PORTAL)


@dataclass
class Commands:
    """What is run instead of commands: each is remembered, and answered by the first rule whose words it has."""

    rules: list[tuple[str, str | Exception]] = field(default_factory=list)
    given: list[tuple[str, ...]] = field(default_factory=list)
    after: Callable[[tuple[str, ...]], None] = lambda _: None

    def __call__(self, *words: Any, **_: Any) -> tuple[str, str]:
        command = tuple(map(str, words))
        self.given.append(command)
        told: str | Exception = next((told for words, told in self.rules if words in " ".join(command)), "")
        if isinstance(told, Exception):
            raise told
        self.after(command)
        return told, ""

    def answer(self, words: str, told: str | Exception) -> None:
        self.rules.insert(0, (words, told))


def failure(code: int, said: str, command: str = "blockdev --flushbufs /dev/sdx") -> Exception:
    return processutils.ProcessExecutionError(stderr=said, exit_code=code, cmd=command)


def make(tmp_path: Path, execute: Any = None, **facts: Any) -> BrickConnector:
    return BrickConnector(
        "kvm1", "10.0.0.11", str(tmp_path / "locks"), str(tmp_path / "mnt"), execute=execute, **facts
    )


# -- as it is ---------------------------------------------------------------------------------------------


@pytest.fixture(params=["brick", "fake"])
def connector(request: pytest.FixtureRequest, tmp_path: Path) -> Connector:
    """The real one, which finds a volume at a path; and the fake, which makes up one."""
    return make(tmp_path) if request.param == "brick" else FakeConnector("kvm1")


def test_a_volume_is_connected_at_a_path_and_let_go_of_as_often_as_one_likes(
    connector: Connector, tmp_path: Path
) -> None:
    file = tmp_path / "volume"
    file.write_bytes(b"kept")
    connection = {"driver_volume_type": "local", "device_path": str(file)}
    assert connector.problem("local") == ""
    paths = {connector.connect(VOLUME, connection) for _ in range(2)}
    assert len(paths) == 1
    for _ in range(2):
        connector.disconnect(VOLUME, connection, *paths)
    connector.disconnect(VOLUME, connection, "")
    assert file.read_bytes() == b"kept"


def test_a_volume_that_is_not_where_it_is_said_to_be_is_not_connected(tmp_path: Path) -> None:
    connection = {"driver_volume_type": "local", "device_path": str(tmp_path / "none")}
    with pytest.raises(VolumeUnreachable, match=r"vdb \(host:/dev/sdx\) .* from kvm1: .*No such file"):
        make(tmp_path).connect(VOLUME, connection)


def test_a_volume_that_a_process_has_open_is_not_let_go_of(tmp_path: Path) -> None:
    file = tmp_path / "volume"
    file.touch()
    connection = {"driver_volume_type": "local", "device_path": str(file)}
    waiting = "import sys; file = open(sys.argv[1]); print(flush=True); input()"
    holder = subprocess.Popen(
        [sys.executable, "-c", waiting, file], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    with pytest.raises(MigrationError, match=f"is still in use on kvm1 by process {holder.pid}"):
        make(tmp_path).disconnect(VOLUME, connection, str(file))
    holder.communicate(b"\n")
    make(tmp_path).disconnect(VOLUME, connection, str(file))


def test_what_is_missing_is_said_with_what_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(brick, "_SYSTEM", str(tmp_path))
    problems = {
        kind: make(tmp_path).problem(kind) for kind in ("iscsi", "nvmeof", "nfs", "rbd", "local", "vmdk")
    }
    assert [text.rpartition(": ")[2] for text in problems.values()] == [
        "apt install open-iscsi",
        "apt install nvme-cli",
        "apt install nfs-common",
        "apt install ceph-common",
        "",
        "not supported yet",
    ]


def test_a_host_without_os_brick_is_refused_with_what_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(brick.importlib.util, "find_spec", lambda _: None)
    for host in (make(tmp_path), make(tmp_path, enforced=True)):
        assert host.problem("local") == "os-brick is not installed: pip install 'hostler[openstack]'"
    with pytest.raises(VolumeUnreachable, match="os-brick is not installed"):
        make(tmp_path).connect(VOLUME, {"driver_volume_type": "local", "device_path": "/dev/null"})


def test_a_host_that_must_have_multipathd_and_has_not_is_refused(tmp_path: Path) -> None:
    commands = Commands([("multipathd show status", failure(1, "", "multipathd show status"))])
    host = make(tmp_path, commands, multipath=True, enforced=True)
    assert "multipathd does not run on kvm1" in host.problem("iscsi")
    assert host.problem("nfs") == ""
    commands.rules.clear()
    assert host.problem("iscsi") == ""


def test_secrets_are_neither_written_down_nor_said() -> None:
    assert "auth_password" not in harmless(ISCSI)
    assert harmless(ISCSI)["target_iqn"] == IQN
    assert unspoken("login of bob with hush-hush failed", ISCSI) == "login of bob with *** failed"


# -- iSCSI ------------------------------------------------------------------------------------------------


@dataclass
class Sysfs:
    """The one LUN in it."""

    there: bool = True

    def glob(self, pattern: str, *given: Any, real: Any = glob.glob, **facts: Any) -> list[str]:
        if pattern.startswith("/sys/class/scsi_host/host*/device/session1/"):
            device = "/sys/class/scsi_host/host0/device/session1/target0:0:0/0:0:0:1/block/null"
            return [device] if self.there else []
        found: list[str] = real(pattern, *given, **facts)
        return found

    def exists(self, path: Any, real: Any = os.path.exists) -> bool:
        return self.there if path == "/sys/block/null/device/delete" else bool(real(path))

    def remove(self, *_: Any) -> None:
        self.there = False


@pytest.fixture
def iscsi(monkeypatch: pytest.MonkeyPatch) -> Iterator[Commands]:
    """A kernel that shows a LUN as a device once the host has logged in, until it is removed; it is /dev/null."""
    from os_brick.initiator import linuxscsi
    from os_brick.initiator.connectors import iscsi as connector

    commands = Commands([("-m session", ""), ("multipathd", failure(1, "", "multipathd"))])
    session = f"tcp: [1] {PORTAL},1 {IQN} (non-flash)"

    def happen(command: tuple[str, ...]) -> None:
        if "--login" in command:
            commands.answer("-m session", session)
            commands.answer("iscsiadm -m node", f"{PORTAL},1 {IQN}")
            commands.answer(" ".join(NODE), "")
        elif "--logout" in command:
            commands.answer("-m session", "")

    commands.after = happen
    sysfs = Sysfs()
    scsi = linuxscsi.LinuxSCSI
    monkeypatch.setattr(brick, "_is_there", lambda _: sysfs.there)
    monkeypatch.setattr(connector.glob, "glob", sysfs.glob)
    monkeypatch.setattr(linuxscsi.os.path, "exists", sysfs.exists)
    monkeypatch.setattr(scsi, "get_hctl", lambda *_: ("0", "0", "0", "1"))
    monkeypatch.setattr(scsi, "device_name_by_hctl", lambda *_: "null")
    monkeypatch.setattr(scsi, "get_sysfs_wwn", lambda *_: "36000")
    monkeypatch.setattr(scsi, "wait_for_volumes_removal", sysfs.remove)
    monkeypatch.setattr(scsi, "is_multipath_running", staticmethod(lambda **_: False))
    yield commands


def attached(tmp_path: Path, commands: Commands) -> BrickConnector:
    made = make(tmp_path, commands, proc=tmp_path)  # everybody has /dev/null open
    assert made.connect(VOLUME, ISCSI) == "/dev/null"
    return made


def test_iscsi_logs_in_and_looks_for_the_lun_that_it_was_told(tmp_path: Path, iscsi: Commands) -> None:
    attached(tmp_path, iscsi)
    changes = [one for one in iscsi.given if "update" in one or "--login" in one or one[0] == "tee"]
    assert changes == [
        (*NODE, "--op", "update", "-n", "node.session.scan", "-v", "manual"),
        (*NODE, "--op", "update", "-n", "node.session.auth.authmethod", "-v", "CHAP"),
        (*NODE, "--op", "update", "-n", "node.session.auth.username", "-v", "bob"),
        (*NODE, "--op", "update", "-n", "node.session.auth.password", "-v", "hush-hush"),
        (*NODE, "--login"),
        (*NODE, "--op", "update", "-n", "node.startup", "-v", "automatic"),
        ("tee", "-a", "/sys/class/scsi_host/host0/scan"),
    ]
    iscsi.given.clear()
    attached(tmp_path, iscsi)
    assert not [one for one in iscsi.given if "--login" in one], "it is logged in"


def test_iscsi_flushes_then_removes_the_device_then_logs_out(tmp_path: Path, iscsi: Commands) -> None:
    host = attached(tmp_path, iscsi)
    iscsi.given.clear()
    host.disconnect(VOLUME, harmless(ISCSI), "/dev/null")
    changes = [
        one for one in iscsi.given if one[0] in ("blockdev", "tee") or one[-1] in ("--logout", "delete")
    ]
    assert changes == [
        ("blockdev", "--flushbufs", "/dev/null"),
        ("tee", "-a", "/sys/block/null/device/delete"),
        (*NODE, "--logout"),
        (*NODE, "--op", "delete"),
    ]
    iscsi.given.clear()
    host.disconnect(VOLUME, harmless(ISCSI), "/dev/null")
    assert not [one for one in iscsi.given if one[0] in ("blockdev", "tee")], "it is gone already"


def test_a_flush_that_fails_leaves_the_device_and_the_session(tmp_path: Path, iscsi: Commands) -> None:
    host = attached(tmp_path, iscsi)
    iscsi.given.clear()
    iscsi.answer("blockdev --flushbufs", failure(1, "blockdev: ioctl error on BLKFLSBUF: Input/output error"))
    with pytest.raises(MigrationError, match=r"stays connected on kvm1, .*: blockdev: .*Input/output error"):
        host.disconnect(VOLUME, harmless(ISCSI), "/dev/null")
    assert not [one for one in iscsi.given if one[0] == "tee" or "--logout" in one]


def test_a_device_that_os_brick_leaves_is_not_taken_for_gone(tmp_path: Path, iscsi: Commands) -> None:
    """It finds no session of the target in what iscsiadm says, and so has nothing to do."""
    host = attached(tmp_path, iscsi)
    iscsi.answer("-m session", "")
    with pytest.raises(MigrationError, match="/dev/null is there still, and os-brick does not say why"):
        host.disconnect(VOLUME, harmless(ISCSI), "/dev/null")


def test_a_login_that_fails_is_told_without_the_password(
    tmp_path: Path, iscsi: Commands, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from os_brick import utils

    monkeypatch.setattr(utils.time, "sleep", lambda _: None)
    command = " ".join((*NODE, "--op", "update", "-n", "node.session.auth.password", "-v", "hush-hush"))
    iscsi.answer("auth.password", failure(6, "iscsiadm: Could not set hush-hush", command))
    with pytest.raises(VolumeUnreachable) as failed:
        make(tmp_path, iscsi).connect(VOLUME, ISCSI)
    assert "hush" not in f"{failed.value}{failed.value.__cause__}"
    assert not [one for one in iscsi.given if "--login" in one]


# -- NFS --------------------------------------------------------------------------------------------------

EXPORT = "10.0.0.3:/volumes"
NFS = {"driver_volume_type": "nfs", "export": EXPORT, "name": f"volume-{UUID}", "options": "-o nfsvers=4.2"}


def test_nfs_is_mounted_where_nova_mounts_it_and_stays_mounted_for_others(tmp_path: Path) -> None:
    commands, mounted = Commands(), tmp_path / "mnt" / hashlib.md5(EXPORT.encode()).hexdigest()

    def happen(command: tuple[str, ...]) -> None:
        if command[0] == "mount":
            mounted.mkdir(parents=True)
            (mounted / NFS["name"]).touch()

    commands.after = happen
    host = make(tmp_path, commands)
    assert host.connect(VOLUME, NFS) == f"{mounted}/{NFS['name']}"
    assert commands.given[0] == ("mkdir", "-p", str(mounted))
    (mount,) = [one for one in commands.given if one[0] == "mount"]
    assert mount[:3] == ("mount", "-t", "nfs")
    assert mount[-4:] == ("-o", "nfsvers=4.2", EXPORT, str(mounted))
    commands.given.clear()
    host.disconnect(VOLUME, NFS, f"{mounted}/{NFS['name']}")
    assert commands.given == []


def test_a_mount_that_fails_is_told_by_its_last_words(tmp_path: Path) -> None:
    commands = Commands([("mount -t nfs", failure(32, "mount.nfs: Connection refused", "mount"))])
    with pytest.raises(VolumeUnreachable, match=r"from kvm1: .*NFS mount failed.*Connection refused"):
        make(tmp_path, commands).connect(VOLUME, NFS)


# -- RBD by the kernel ------------------------------------------------------------------------------------

RBD = {
    "driver_volume_type": "rbd",
    "name": f"volumes/volume-{UUID}",
    "hosts": ["10.0.0.1"],
    "ports": ["6789"],
    "auth_username": "cinder",
    "cluster_name": "ceph",
}


def test_rbd_is_mapped_by_the_kernel_and_unmapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from os_brick.initiator.connectors import rbd

    device = tmp_path / "rbd0"
    device.touch()
    monkeypatch.setattr(rbd.RBDConnector, "get_rbd_device_name", staticmethod(lambda *_: str(device)))
    shown = f'[{{"id":"0","pool":"volumes","namespace":"","name":"volume-{UUID}","snap":"-","device":"/dev/rbd0"}}]'
    commands = Commands([("rbd showmapped", shown)])
    host = make(tmp_path, commands)
    assert host.connect(VOLUME, RBD) == str(device)
    mapped = (
        "rbd",
        "map",
        f"volume-{UUID}",
        "--pool",
        "volumes",
        "--id",
        "cinder",
        "--mon_host",
        "10.0.0.1:6789",
    )
    assert mapped in commands.given
    commands.after = lambda command: device.unlink() if "unmap" in command else None
    host.disconnect(VOLUME, RBD, str(device))
    assert commands.given[-1][:3] == ("rbd", "unmap", "/dev/rbd0")
    commands.answer(
        "rbd unmap", failure(16, "rbd: sysfs write failed\nrbd: unmap failed: (16) Device busy", "rbd unmap")
    )
    with pytest.raises(MigrationError, match=r"stays connected on kvm1, .*: rbd: rbd: unmap failed: .*busy"):
        host.disconnect(VOLUME, RBD, str(device))


# -- NVMe-oF ----------------------------------------------------------------------------------------------

NQN = f"nqn.2014-08.org.nvmexpress:uuid:{UUID}"
NVME = {
    "driver_volume_type": "nvmeof",
    "target_nqn": NQN,
    "vol_uuid": UUID,
    "portals": [("10.0.0.4", "4420", "tcp")],
    "ns_id": 1,
}


def test_nvme_of_connects_to_the_subsystem_flushes_and_stays_if_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from os_brick.initiator.connectors import nvmeof

    device = tmp_path / "nvme0n1"
    monkeypatch.setattr(nvmeof.Target, "find_device", lambda _: str(device))
    monkeypatch.setattr(
        nvmeof.NVMeOFConnector, "get_volume_paths", lambda *_: [str(device)] if device.exists() else []
    )
    monkeypatch.setattr(nvmeof.Target, "set_portals_controllers", lambda _: None)
    commands = Commands()
    commands.after = lambda command: device.touch() if command[:2] == ("nvme", "connect") else None
    host = make(tmp_path, commands)
    assert host.connect(VOLUME, NVME) == str(device)
    (connect,) = [one for one in commands.given if one[:2] == ("nvme", "connect")]
    assert connect[2:10] == ("-a", "10.0.0.4", "-s", "4420", "-t", "tcp", "-n", NQN)
    commands.answer("blockdev --flushbufs", failure(1, "blockdev: Input/output error"))
    with pytest.raises(MigrationError, match="stays connected on kvm1"):
        host.disconnect(VOLUME, NVME, str(device))
    commands.rules.clear()
    host.disconnect(VOLUME, NVME, str(device))
    assert ("blockdev", "--flushbufs", str(device)) in commands.given
