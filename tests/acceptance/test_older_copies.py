"""What was sent once is not sent again: a server that went back, and is moved once more."""

from __future__ import annotations

import pytest

from lab import Guest, Host
from lab.disks import Disk
from tests.support.operator import found_by_the_doctor, hostler, left_of, move, server, wait_known, wait_ready

pytestmark = pytest.mark.lab

MIB = 1 << 20
DATA = Disk(kind="sparse", format="raw", size_mib=64, data_mib=48)


def test_a_server_that_went_back_and_is_moved_again_sends_what_differs(kvm1: Host, kvm2: Host) -> None:
    kvm2.configure("[images]\nkeep_copies = 3600")
    restart(kvm2)
    of_others = found_by_the_doctor(kvm1)
    try:
        guest = Guest("again", disks=(Disk(), DATA)).create(kvm1)
        guest.start(kvm1)
        wait_known(kvm1, guest)
        first = bytes_of_the_move(kvm1, kvm2, guest)
        guest.wait_for_boot(kvm2)
        wish = ("server", "revert", guest.name, "--reason", "slow", "--drop-writes", "--wait")
        assert hostler(kvm1, *wish).code == 0
        guest.wait_for_boot(kvm1, 2)
        left = left_of(kvm2, guest)
        assert left
        assert all(".kept" in path for path in left), left
        assert found_by_the_doctor(kvm1) <= of_others

        second = bytes_of_the_move(kvm1, kvm2, guest)

        assert first > 48 * MIB > 8 * MIB > second
        assert " DIRTY=no " in guest.wait_for_boot(kvm2, 2)
        assert server(kvm1, guest.name) == ("kvm2", "resized", None, "running")
        assert hostler(kvm1, "server", "confirm", guest.name, "--wait").code == 0
        assert not [path for path in left_of(kvm2, guest) if ".kept" in path or ".part" in path]
    finally:
        kvm2.configure()
        restart(kvm2)


def restart(host: Host) -> None:
    """Have the worker read its settings."""
    host.stop_worker()
    host.start_worker()
    wait_ready(host)


def bytes_of_the_move(kvm1: Host, kvm2: Host, guest: Guest) -> int:
    """Move *guest* to kvm2; return how many bytes came over its link meanwhile."""
    before = received(kvm2)
    assert move(kvm1, guest.name, "kvm2").code == 0
    return received(kvm2) - before


def received(host: Host) -> int:
    """Bytes that have come over the host's link."""
    return int(host.run(["cat", "/sys/class/net/eth0/statistics/rx_bytes"]).stdout)
