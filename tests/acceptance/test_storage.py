"""Servers whose storage is more than image files: block devices, a config drive, firmware, a volume to boot from."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab import Guest, Host
from lab.disks import Disk, make_disk
from lab.process import wait_until
from tests.support.operator import (
    changed,
    confirm,
    domain,
    hostler,
    left_of,
    move,
    server,
    sha256,
    told,
    view,
    wait_known,
    wait_ready,
)

pytestmark = pytest.mark.lab

#: One kernel numbers the loop devices of both hosts: each host has another one under this name.
DEVICE = "/run/devices/data"
MIB = 1 << 20


def test_a_server_moves_with_its_devices_its_config_drive_and_its_firmware(
    kvm1: Host, kvm2: Host, tmp_path: Path
) -> None:
    swap = str(uuid.uuid4())  # the guest tells of a swap area whether it sees the device that it is on
    guest = with_everything("everything")
    with device(kvm1, tmp_path, 64), device(kvm2, tmp_path, 65, old=b"\xa5"):
        kvm1.run(["mkswap", "-q", "-U", swap, DEVICE])
        write_config_drive(kvm1, guest)
        guest.create(kvm1).start(kvm1).shut_down(kvm1)
        wait_known(kvm1, guest)
        carried, before = furniture(kvm1, guest), (view(kvm1), view(kvm2))
        refused = move(kvm1, guest.name, "kvm2")
        assert (refused.code, f"{DEVICE} is not given over" in refused.out + refused.err) == (3, True)
        assert kvm2.path(DEVICE).read_bytes() == b"\xa5" * (65 * MIB)

        give_over(kvm2)
        assert move(kvm1, guest.name, "kvm2").code == 0
        assert furniture(kvm2, guest) == carried
        # a device does not tell whether it was written to
        back = ("server", "revert", guest.name, "--reason", "slow", "--wait")
        assert hostler(kvm1, *back, "--drop-writes").code == 0
        assert changed(before, (view(kvm1), view(kvm2))) == []
        assert furniture(kvm1, guest) == carried

        assert move(kvm1, guest.name, "kvm2").code == 0
        assert confirm(kvm1, guest.name).code == 0
        assert furniture(kvm2, guest) == carried
        assert "device='cdrom'" in domain(kvm2, guest.uuid)["xml"]
        assert left_of(kvm1, guest) == []
        with kvm1.path(DEVICE).open("rb") as source, kvm2.path(DEVICE).open("rb") as dest:
            assert source.read() == dest.read(64 * MIB)
            assert dest.read() == b"\xa5" * MIB
        said = [event["text"] for event in told(kvm1, "migration", "show", guest.name)["history"]]
        assert f"{DEVICE} on kvm1 is free; what was on it still is" in said
        guest.start(kvm2)
        (line,) = guest.boot_lines(kvm2)
        assert " BOOTS=2 DIRTY=no " in line
        assert f" SWAP={swap} SWAP_KIB={64 * 1024 - 4}" in line


def test_a_server_that_boots_from_a_volume_moves_and_comes_back(kvm1: Host, kvm2: Host) -> None:
    guest = Guest("diskless", disks=(), devices=(network_disk(kvm1),))
    # never started, its firmware has no state: what the destination makes of it goes with it
    fresh = Guest("fresh", memory_mib=256, uefi=True, tpm=True).create(kvm1)
    with volume(kvm1, guest.marker):
        guest.create(kvm1).start(kvm1)
        wait_known(kvm1, guest, fresh)
        before = view(kvm1), view(kvm2)
        for one in (guest, fresh):
            assert move(kvm1, one.name, "kvm2").code == 0
        assert f"MARKER={guest.marker} BOOTS=2 DIRTY=no " in guest.wait_for_boot(kvm2)
        assert left_of(kvm2, guest) == []
        for one in (guest, fresh):
            back = ("server", "revert", one.name, "--reason", "slow", "--drop-writes", "--wait")
            assert hostler(kvm2, *back).code == 0
        # what it wrote there is on the volume, which is no copy
        assert " BOOTS=3 DIRTY=no " in guest.wait_for_boot(kvm1, 2)
        assert server(kvm1, guest.name) == ("kvm1", "active", None, "running")
        assert changed(before, (view(kvm1), view(kvm2))) == []


# -- what they have ----------------------------------------------------------------------------------------


def with_everything(name: str) -> Guest:
    """A guest with UEFI, a TPM, a block device, and a config drive as Nova makes it."""
    guest = Guest(name, memory_mib=256, uefi=True, tpm=True)
    drive = f"""<disk type='file' device='cdrom'><driver name='qemu' type='raw'/>
        <source file='{guest.directory}/disk.config'/><target dev='sda' bus='sata'/><readonly/></disk>"""
    guest.devices = (block_disk("vdb"), drive)
    return guest


def block_disk(target: str) -> str:
    return f"""<disk type='block' device='disk'><driver name='qemu' type='raw' cache='none'/>
        <source dev='{DEVICE}'/><target dev='{target}' bus='virtio'/></disk>"""


def network_disk(host: Host) -> str:
    return f"""<disk type='network' device='disk'><driver name='qemu' type='raw'/>
        <source protocol='nbd' name='root'><host name='{host.address}' port='10809'/></source>
        <target dev='vda' bus='virtio'/></disk>"""


def write_config_drive(host: Host, guest: Guest) -> None:
    """Make the config drive and disk.info, which Nova keeps beside the disks."""
    directory = host.path(guest.directory)
    directory.mkdir(parents=True)
    (directory / "disk.config").write_bytes(b"\x01CD001 config-2".ljust(MIB, b"\0"))
    formats = {f"{guest.directory}/disk": "qcow2", f"{guest.directory}/disk.config": "raw"}
    (directory / "disk.info").write_text(json.dumps(formats))


def furniture(host: Host, guest: Guest) -> dict[str, str]:
    """What a server has beside its disks: config drive, disk.info, UEFI variables, TPM state."""
    paths = [f"{guest.directory}/disk.config", f"{guest.directory}/disk.info"]
    paths.append(f"/var/lib/libvirt/qemu/nvram/{guest.name}_VARS.fd")
    paths.append(f"/var/lib/libvirt/swtpm/{guest.uuid}/tpm2/tpm2-00.permall")
    return {path: sha256(host, path) for path in paths}


@contextmanager
def device(host: Host, directory: Path, size_mib: int, old: bytes = b"\0") -> Iterator[None]:
    """Give the host a block device that is full of *old*."""
    image = directory / f"{host.name}.img"
    image.write_bytes(old * (size_mib * MIB))
    loop = subprocess.run(["losetup", "-f", "--show", image], capture_output=True, text=True, check=True)
    number = Path(loop.stdout.strip()).stat().st_rdev
    host.run(["mkdir", "-p", "/run/devices"])
    host.run(["mknod", DEVICE, "b", str(number >> 8), str(number & 0xFF)])
    try:
        yield
    finally:
        host.configure()
        host.remove_guests()
        host.run(["rm", DEVICE])
        subprocess.run(["losetup", "-d", loop.stdout.strip()], check=True)


def give_over(host: Host) -> None:
    """Let arriving servers overwrite the host's device: from the next start of its worker on."""
    host.configure("[files]\nblock_devices = /run/devices/*\n")
    host.stop_worker()
    host.start_worker()
    wait_ready(host)


@contextmanager
def volume(host: Host, marker: str) -> Iterator[None]:
    """Serve a disk that boots over the network; its file is none of a server's."""
    image = Path("/var/log/libvirt/volume.img")
    make_disk(host, Disk(format="raw"), image, image, marker)
    with host.popen(
        ["nbdkit", "--foreground", "-i", host.address, "-e", "root", "file", str(image)]
    ) as server:
        try:
            wait_until(lambda: _answers(host), "the volume's server")
            yield
        finally:
            server.kill()
            host.path(image).unlink()


def _answers(host: Host) -> bool:
    return host.run(["nbdinfo", "--size", f"nbd://{host.address}/root"], check=False).returncode == 0
