"""os-brick with a kernel that has iSCSI and NVMe-oF, against targets on loopback."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hostler.drivers.volumes.brick import BrickConnector
from hostler.drivers.volumes.connector import harmless
from hostler.errors import MigrationError
from hostler.objects import Volume
from lab.sockets import free_port

VOLUME = Volume("vdb", "host", "/dev/sdx", serial="33333333-3333-4333-8333-333333333333", path="/dev/sdx")
IQN, NQN = "iqn.2026-01.test:vol1", "nqn.2026-01.test:vol1"
SIZE = 64 << 20
PATTERN = b"written before it was let go" * 100
NVMET = Path("/sys/kernel/config/nvmet")


def has(*modules: str) -> bool:
    """Tell whether the kernel has these modules, or has them built in."""
    return all(
        subprocess.run(["modprobe", "-n", "-q", module], check=False).returncode == 0 for module in modules
    )


def run(*words: object) -> None:
    subprocess.run([*map(str, words)], check=True, capture_output=True, timeout=60)


@pytest.fixture
def host(tmp_path: Path) -> BrickConnector:
    return BrickConnector("kvm1", "127.0.0.1", str(tmp_path / "locks"), str(tmp_path / "mnt"))


@pytest.fixture
def iscsi(tmp_path: Path) -> Iterator[tuple[dict[str, Any], Path]]:
    """A target of tgt's, and the file behind it."""
    if not has("iscsi_tcp", "sd_mod"):
        pytest.skip("this kernel has no iSCSI (iscsi_tcp)")
    if not all(map(shutil.which, ("tgtd", "tgtadm", "iscsiadm", "iscsid"))):
        pytest.skip("tgt and open-iscsi are not installed")
    run("modprobe", "iscsi_tcp")
    port, lun = free_port(), tmp_path / "lun"
    with lun.open("wb") as file:
        file.truncate(SIZE)
    target = subprocess.Popen(["tgtd", "-f", "-C", "7", "--iscsi", f"portal=127.0.0.1:{port}"])
    initiator = subprocess.Popen(["iscsid", "-f"])
    admin = ("tgtadm", "-C", "7", "--lld", "iscsi", "--mode")
    try:
        for _ in range(100):
            if (
                subprocess.run([*admin, "sys", "--op", "show"], capture_output=True, check=False).returncode
                == 0
            ):
                break
            time.sleep(0.1)
        run(*admin, "target", "--op", "new", "--tid", "1", "-T", IQN)
        run(*admin, "logicalunit", "--op", "new", "--tid", "1", "--lun", "1", "-b", lun)
        run(*admin, "target", "--op", "bind", "--tid", "1", "-I", "ALL")
        where = {"target_portal": f"127.0.0.1:{port}", "target_iqn": IQN, "target_lun": 1}
        yield {"driver_volume_type": "iscsi", "volume_id": VOLUME.serial, **where}, lun
    finally:
        for process in (initiator, target):
            process.kill()
            process.wait()


@pytest.fixture
def nvme(tmp_path: Path) -> Iterator[tuple[dict[str, Any], Path]]:
    """A subsystem of the kernel's own target, and the file behind it."""
    if not has("nvmet_tcp", "nvme_tcp"):
        pytest.skip("this kernel has no NVMe-oF (nvme_tcp)")
    if shutil.which("nvme") is None:
        pytest.skip("nvme-cli is not installed")
    run("modprobe", "-a", "nvmet_tcp", "nvme_tcp")
    port, lun = free_port(), tmp_path / "lun"
    with lun.open("wb") as file:
        file.truncate(SIZE)
    system, listener = NVMET / "subsystems" / NQN, NVMET / "ports/4711"
    space, link = system / "namespaces/1", listener / "subsystems" / NQN
    made = (system, space, listener)
    for folder in made:
        folder.mkdir()
    facts = {"addr_trtype": "tcp", "addr_adrfam": "ipv4", "addr_traddr": "127.0.0.1", "addr_trsvcid": port}
    try:
        (system / "attr_allow_any_host").write_text("1")
        (space / "device_path").write_text(str(lun))
        (space / "enable").write_text("1")
        for name, fact in facts.items():
            (listener / name).write_text(str(fact))
        link.symlink_to(system)
        uuid = (space / "device_uuid").read_text().strip()
        where = {"target_nqn": NQN, "vol_uuid": uuid, "portals": [("127.0.0.1", port, "tcp")], "ns_id": 1}
        yield {"driver_volume_type": "nvmeof", "volume_id": VOLUME.serial, **where}, lun
    finally:
        link.unlink(missing_ok=True)
        for folder in reversed(made):
            folder.rmdir()


@pytest.mark.parametrize("kind", ["iscsi", "nvme"])
def test_what_was_written_is_there_when_the_host_has_let_go(
    host: BrickConnector, request: pytest.FixtureRequest, kind: str
) -> None:
    connection, lun = request.getfixturevalue(kind)
    path = host.connect(VOLUME, connection)
    assert host.connect(VOLUME, connection) == path, "connected once"
    device = os.open(path, os.O_WRONLY)
    try:
        os.write(device, PATTERN)
        with pytest.raises(MigrationError, match=f"still in use on kvm1 by process {os.getpid()}"):
            host.disconnect(VOLUME, harmless(connection), path)
    finally:
        os.close(device)
    for _ in range(2):
        host.disconnect(VOLUME, harmless(connection), path)
    assert not Path(path).exists()
    with lun.open("rb") as file:
        assert file.read(len(PATTERN)) == PATTERN
