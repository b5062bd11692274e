"""The lab itself: what the other acceptance tests take for granted."""

import time

import pytest

from lab import Guest, Host, Lab
from lab.disks import LAYERED, Disk
from lab.process import start_time, wait_until

pytestmark = pytest.mark.lab


def test_each_host_has_a_guest_that_the_other_does_not_know(kvm1: Host, kvm2: Host) -> None:
    first = Guest("first").create(kvm1).start(kvm1)
    second = Guest("second", layout="flat", disks=(LAYERED,)).create(kvm2).start(kvm2)

    assert first.boot_lines(kvm1)[0].startswith(f"MARKER={first.marker} BOOTS=1 DIRTY=no ")
    assert second.boot_lines(kvm2)[0].startswith(f"MARKER={second.marker} BOOTS=1 DIRTY=no ")
    assert (first.state(kvm2), second.state(kvm1)) == (None, None)


def test_the_power_button_shuts_a_guest_down_cleanly(kvm1: Host) -> None:
    guest = Guest("clean").create(kvm1).start(kvm1)

    guest.shut_down(kvm1)
    guest.start(kvm1)

    assert " BOOTS=2 DIRTY=no " in guest.boot_lines(kvm1)[-1]


def test_a_power_cut_spares_the_disks_and_only_autostarted_guests_come_back(kvm1: Host) -> None:
    comes_back = Guest("comes-back", autostart=True).create(kvm1).start(kvm1)
    stays_off = Guest("stays-off").create(kvm1).start(kvm1)

    kvm1.power_cut()
    assert not kvm1.is_on
    kvm1.power_on()

    assert " BOOTS=2 DIRTY=yes " in comes_back.wait_for_boot(kvm1, 2)
    assert stays_off.state(kvm1) == "shut off"


def test_a_cut_link_lets_nothing_through_until_it_is_mended(lab: Lab, kvm1: Host, kvm2: Host) -> None:
    kvm1.cut_link()
    assert not _reaches(kvm2, kvm1.address)
    assert not _reaches(kvm1, lab.zookeeper.address)

    kvm1.mend_link()
    wait_until(lambda: _reaches(kvm2, kvm1.address), "the other host")
    wait_until(lambda: _reaches(kvm1, lab.zookeeper.address), "ZooKeeper")


def test_a_slow_link_keeps_its_rate(kvm1: Host, kvm2: Host) -> None:
    fast = min(_seconds_for_2_mb(kvm1, kvm2) for _ in range(3))
    kvm1.slow_link("16mbit")
    slow = _seconds_for_2_mb(kvm1, kvm2)

    assert slow > max(fast, 0.7)


def test_a_command_in_a_host_dies_with_whoever_started_it(kvm1: Host) -> None:
    process = kvm1.popen(["sleep", "600"])
    pid = kvm1.pid_of(process)
    assert start_time(pid) is not None

    process.kill()
    process.communicate()

    wait_until(lambda: start_time(pid) is None, "the command to be gone")


def test_zookeeper_is_reached_from_hosts_and_machine_and_restarts_in_place(lab: Lab, kvm1: Host) -> None:
    assert _reaches(kvm1, lab.zookeeper.address)
    (server,) = lab.zookeeper.servers
    before = server.pid

    lab.zookeeper.kill()
    lab.zookeeper.start()

    assert server.pid not in (None, before)


def test_a_raw_sparse_disk_keeps_its_holes(kvm1: Host) -> None:
    guest = Guest("holes", disks=(Disk(), Disk(kind="sparse", format="raw", size_mib=4096, data_mib=8)))

    guest.create(kvm1)

    written = kvm1.path(guest.disk_path(1)).stat()
    assert (written.st_size, written.st_blocks * 512) == (4096 * 1024**2, 8 * 1024**2)


def _reaches(host: Host, address: str) -> bool:
    return host.run(["busybox", "ping", "-c", "1", "-W", "1", address], check=False).returncode == 0


def _seconds_for_2_mb(sender: Host, receiver: Host) -> float:
    sender.run(["truncate", "-s", "2M", "/root/payload"])
    server = sender.popen(["busybox", "httpd", "-f", "-p", f"{sender.address}:8080", "-h", "/root"])
    fetch = ["busybox", "wget", "-q", "-O", "/dev/null", f"http://{sender.address}:8080/payload"]
    small = [*fetch[:-1], f"http://{sender.address}:8080/none"]
    try:
        wait_until(lambda: "404" in receiver.run(small, check=False).stderr, "the server to answer")
        begun = time.monotonic()
        receiver.run(fetch)
        return time.monotonic() - begun
    finally:
        server.kill()
        server.communicate()
