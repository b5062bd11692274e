"""A hypervisor to try the contract on: the fake one, or libvirt with real (diskless, idle) guests."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libvirt
import pytest

from hostler.drivers.hypervisor import Hypervisor
from hostler.drivers.hypervisor.connection import Connection
from hostler.drivers.hypervisor.fake import FakeHypervisor, under
from hostler.drivers.hypervisor.libvirt import LibvirtHypervisor

from .private_libvirtd import PrivateLibvirtd

DOMAIN = """\
<domain type='qemu'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  {metadata}
  <memory unit='MiB'>16</memory>
  <vcpu>1</vcpu>
  <os>{os}</os>
  <features><acpi/></features>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    {devices}
    <memballoon model='none'/>
  </devices>
</domain>
"""

PLAIN_OS = "<type arch='x86_64' machine='pc-i440fx-7.2'>hvm</type>"


def domain_xml(
    name: str,
    uuid: str,
    devices: str = "",
    metadata: str = "",
    os: str = PLAIN_OS,
) -> str:
    """Return a small domain's XML."""
    return DOMAIN.format(name=name, uuid=uuid, devices=devices, metadata=metadata, os=os)


def disk_xml(path: object, target: str = "vda", kind: str = "qcow2") -> str:
    """Return a disk of a file."""
    return (
        f"<disk type='file'><driver name='qemu' type='{kind}'/><source file='{path}'/>"
        f"<target dev='{target}' bus='virtio'/></disk>"
    )


class World:
    """One host, its hypervisor, and a server called web1."""

    def __init__(self, hypervisor: Any, images: Path, *, root: Path | None, server: PrivateLibvirtd | None):
        self.hypervisor: Hypervisor = hypervisor
        self.images = images
        self.root = root
        self.server = server
        self.uuid = str(uuid.uuid4())
        self.migration = str(uuid.uuid4())

    def xml(self, devices: str = "", *, mark: str | None = None, **more: str) -> str:
        """Return web1's XML."""
        return self.hypervisor.mark(
            domain_xml(**{"name": "web1", "uuid": self.uuid, "devices": devices, **more}), mark
        )

    def image(self, name: str) -> Path:
        """Return the path, as a domain names it, of an empty raw image that is there."""
        path = self.images / name
        real = path if self.root is None else under(self.root, str(path))
        real.parent.mkdir(parents=True, exist_ok=True)
        real.write_bytes(bytes(2**20))
        return path


@pytest.fixture(scope="session")
def libvirtd() -> Iterator[PrivateLibvirtd]:
    server = PrivateLibvirtd()
    yield server
    server.close()


@pytest.fixture
def real(libvirtd: PrivateLibvirtd) -> Iterator[World]:
    """libvirt itself."""
    libvirtd.release()
    connection = Connection(libvirtd.uri, keepalive_s=1, open_timeout_s=5)
    hypervisor = LibvirtHypervisor(instances_path=str(libvirtd.home), host="kvm1", connection=connection)
    yield World(hypervisor, libvirtd.home / "images", root=None, server=libvirtd)
    libvirtd.release()
    clean(libvirtd.uri)
    hypervisor.close()


def clean(uri: str) -> None:
    """End and forget every domain."""
    connection = libvirt.open(uri)
    for domain in connection.listAllDomains(0):
        persistent = domain.isPersistent()
        if domain.isActive():
            domain.destroy()
        if persistent:
            domain.undefineFlags(
                libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
                | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
                | libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
                | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
            )
    connection.close()


@pytest.fixture(params=["fake", pytest.param("libvirt", marks=pytest.mark.lab)])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    """The fake, then libvirt itself."""
    if request.param == "libvirt":
        found: World = request.getfixturevalue("real")
        return found
    hypervisor = FakeHypervisor("kvm1", root=tmp_path)
    fake = World(hypervisor, Path("/images"), root=tmp_path, server=None)
    hypervisor.ignore_acpi.add(fake.uuid)  # like a guest that has only a BIOS
    hypervisor.machines = {"pc-i440fx-7.2"}
    return fake
