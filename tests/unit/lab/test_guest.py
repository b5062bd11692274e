"""What a guest of the lab is made of."""

from pathlib import Path
from xml.etree import ElementTree as ET

from lab import Guest
from lab.disks import LAYERED, Disk
from lab.guest_kernel import Kernel

KERNEL = Kernel(Path("/cache/vmlinuz"), Path("/cache/initrd.gz"))


def xml(guest: Guest) -> ET.Element:
    guest.kernel = KERNEL
    return ET.fromstring(guest.xml())


def test_a_guest_in_a_directory_has_its_disks_below_its_uuid() -> None:
    guest = Guest("web1", uuid="11111111-2222-4333-8444-555555555555", disks=(Disk(), Disk(kind="empty")))

    assert [source.get("file") for source in xml(guest).iterfind(".//disk/source")] == [
        "/var/lib/libvirt/instances/11111111-2222-4333-8444-555555555555/disk",
        "/var/lib/libvirt/instances/11111111-2222-4333-8444-555555555555/disk.1",
    ]


def test_a_flat_guest_has_its_disks_among_the_others() -> None:
    guest = Guest("web1", layout="flat", disks=(LAYERED, Disk(kind="empty", format="raw")))

    assert [source.get("file") for source in xml(guest).iterfind(".//disk/source")] == [
        "/var/lib/libvirt/images/web1.qcow2",
        "/var/lib/libvirt/images/web1-1.raw",
    ]


def test_the_console_is_not_among_the_guests_files() -> None:
    guest = Guest("web1")

    log = xml(guest).find(".//serial/source")
    assert log is not None
    assert (log.get("path"), log.get("append")) == ("/var/log/libvirt/web1.console", "on")


def test_a_deaf_guest_is_told_so_on_its_kernels_command_line() -> None:
    assert "ignore_acpi" in str(xml(Guest("deaf", ignore_acpi=True)).findtext("os/cmdline"))
    assert "ignore_acpi" not in str(xml(Guest("hears")).findtext("os/cmdline"))


def test_a_guest_writes_its_journal_only_if_told() -> None:
    assert " journal" in str(xml(Guest("writes", journal=True)).findtext("os/cmdline"))
    assert "journal" not in str(xml(Guest("rests")).findtext("os/cmdline"))


def test_two_guests_of_one_name_have_different_markers() -> None:
    assert Guest("web1").marker != Guest("web1").marker
