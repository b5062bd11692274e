"""A real guest: boots in seconds, says on its console who it is, heeds the power button."""

import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree as ET

from lab.disks import Disk, make_disk
from lab.guest_kernel import Kernel, build_kernel
from lab.host import Host
from lab.process import wait_until

INSTANCES = Path("/var/lib/libvirt/instances")
IMAGES = Path("/var/lib/libvirt/images")
READY = "GUEST: READY"
NOTE = "urn:hostler:lab"


@dataclass
class Guest:
    """What a guest shall be. `create` makes it on a host; the other calls ask the host where it is now."""

    name: str
    uuid: str = field(default_factory=lambda: str(uuid.uuid4()))
    memory_mib: int = 128
    vcpus: int = 1
    disks: tuple[Disk, ...] = (Disk(),)
    #: dir: `<uuid>/` below instances_path, as Nova keeps them. flat: as virt-install does.
    layout: Literal["dir", "flat"] = "dir"
    autostart: bool = False
    #: Let the guest write a journal of its own writes to its disk, and say on the console which are there for good.
    journal: bool = False
    #: Make the guest deaf to the power button, so that a shutdown runs into its timeout.
    ignore_acpi: bool = False
    #: UEFI firmware, with its variables in a file of the guest's own; it needs 256 MiB of memory.
    uefi: bool = False
    #: A virtual TPM, whose state libvirt keeps.
    tpm: bool = False
    #: Kept in libvirt's metadata, as management tools do.
    note: str = ""
    bridge: str = "br0"
    #: More devices, as libvirt's XML.
    devices: tuple[str, ...] = ()
    #: Written to the boot disk, shown at every boot.
    marker: str = ""
    #: What it boots from, where every host that it comes to has it; None: what all labs share.
    kernel: Kernel | None = None

    def __post_init__(self) -> None:
        self.marker = self.marker or f"{self.name}-{self.uuid[:8]}"

    @property
    def directory(self) -> Path:
        """Where the guest's disks lie on its host."""
        return INSTANCES / self.uuid if self.layout == "dir" else IMAGES

    def disk_path(self, number: int = 0) -> Path:
        """The file of a disk, on the guest's host."""
        if self.layout == "dir":
            return self.directory / ("disk" if number == 0 else f"disk.{self.disks[number].suffix or number}")
        suffix = "" if number == 0 else f"-{number}"
        return self.directory / f"{self.name}{suffix}.{self.disks[number].format}"

    def backing_path(self, number: int = 0) -> Path:
        """Where a backed disk's backing file lies; it is the host's, not the guest's."""
        name = f"{uuid.uuid5(uuid.NAMESPACE_DNS, self.marker).hex}-{number}"
        return INSTANCES / "_base" / name if self.layout == "dir" else IMAGES / f"base-{name}.qcow2"

    def create(self, host: Host) -> "Guest":
        """Make the disks and define the domain; it stays off."""
        for number, disk in enumerate(self.disks):
            make_disk(host, disk, self.disk_path(number), self.backing_path(number), self.marker)
        host.run(["virsh", "-q", "define", "/dev/stdin"], text_in=self.xml())
        if self.autostart:
            host.virsh("autostart", f"--domain={self.name}")
        return self

    def start(self, host: Host, wait: bool = True) -> "Guest":
        """Start the guest; returns when it is up."""
        boots = self.boots(host)
        host.virsh("start", f"--domain={self.name}")
        if wait:
            self.wait_for_boot(host, boots + 1)
        return self

    def shut_down(self, host: Host, timeout_s: float = 60) -> None:
        """Press the power button and wait for the guest to be off."""
        host.virsh("shutdown", f"--domain={self.name}")
        wait_until(
            lambda: self.state(host) == "shut off", f"{self.name} to shut down", timeout_s, pause_s=0.1
        )

    def state(self, host: Host) -> str | None:
        """As virsh names it; None where no such domain is known."""
        done = host.run(["virsh", "-q", "domstate", self.uuid], check=False)
        return done.stdout.strip() if done.returncode == 0 else None

    def boots(self, host: Host) -> int:
        """How often it got up on this host."""
        return host.console(self.name).count(READY)

    def boot_lines(self, host: Host) -> list[str]:
        """What it said of itself at each boot on this host: ``MARKER=... BOOTS=1 DIRTY=no ...``."""
        lines = host.console(self.name).splitlines()
        return [line.partition("GUEST: ")[2].strip() for line in lines if "GUEST: MARKER=" in line]

    def wait_for_boot(self, host: Host, number: int = 1, timeout_s: float = 120) -> str:
        """Wait until it got up *number* times on this host; returns the last boot's line."""
        what = f"boot {number} of {self.name} on {host.name}"
        wait_until(lambda: self.boots(host) >= number, what, timeout_s, pause_s=0.1)
        return self.boot_lines(host)[-1]

    def xml(self) -> str:
        """The domain as libvirt takes it. Of type qemu: the machine may have no virtualization."""
        domain = ET.Element("domain", type="qemu")
        _add(domain, "name", self.name)
        _add(domain, "uuid", self.uuid)
        if self.note:
            _add(_add(domain, "metadata"), f"{{{NOTE}}}note", self.note)
        _add(domain, "memory", str(self.memory_mib), unit="MiB")
        _add(domain, "vcpu", str(self.vcpus))
        domain.append(self._os(self.kernel or build_kernel()))
        _add(_add(domain, "features"), "acpi")
        for event, action in (("poweroff", "destroy"), ("reboot", "restart"), ("crash", "destroy")):
            _add(domain, f"on_{event}", action)
        domain.append(self._devices())
        ET.indent(domain)
        return ET.tostring(domain, encoding="unicode")

    def _os(self, kernel: Kernel) -> ET.Element:
        system = ET.Element("os", {"firmware": "efi"} if self.uefi else {})
        _add(system, "type", "hvm", arch="x86_64", machine="q35" if self.uefi else "pc")
        if self.uefi:
            # Secure boot would refuse the kernel that is handed in from outside.
            firmware = _add(system, "firmware")
            _add(firmware, "feature", enabled="no", name="secure-boot")
        _add(system, "kernel", str(kernel.vmlinuz))
        _add(system, "initrd", str(kernel.initrd))
        flags = {"ignore_acpi": self.ignore_acpi, "journal": self.journal}
        extra = "".join(f" {name}" for name, wanted in flags.items() if wanted)
        # Without the last one a guest of a busy machine may take its timer, which comes late, for a broken one.
        _add(system, "cmdline", f"console=ttyS0 quiet panic=-1 nokaslr no_timer_check{extra}")
        return system

    def _devices(self) -> ET.Element:
        devices = ET.Element("devices")
        _add(devices, "emulator", "/usr/bin/qemu-system-x86_64")
        for number, disk in enumerate(self.disks):
            device = _add(devices, "disk", type="file", device="disk")
            _add(device, "driver", name="qemu", type=disk.format, cache="none", discard="unmap")
            _add(device, "source", file=str(self.disk_path(number)))
            _add(device, "target", dev=f"vd{'abcdefgh'[number]}", bus="virtio")
        interface = _add(devices, "interface", type="bridge")
        _add(interface, "source", bridge=self.bridge)
        _add(interface, "model", type="virtio")
        serial = _add(devices, "serial", type="file")
        # Not among the guest's files: what it said on a host shall stay readable there.
        _add(serial, "source", path=f"/var/log/libvirt/{self.name}.console", append="on")
        if self.tpm:
            _add(_add(devices, "tpm", model="tpm-crb"), "backend", type="emulator", version="2.0")
        _add(devices, "memballoon", model="none")
        devices.extend(ET.fromstring(device) for device in self.devices)
        return devices


def _add(parent: ET.Element, tag: str, text: str | None = None, **attributes: str) -> ET.Element:
    element = ET.SubElement(parent, tag, attributes)
    element.text = text
    return element
