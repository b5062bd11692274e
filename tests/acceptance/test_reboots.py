"""Hosts, workers and servers die in the middle: one copy of the guest runs in the end, and never two."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lab import Guest, Host, Lab
from lab.disks import Disk
from tests.support.operator import (
    Asked,
    confirm,
    copying,
    data_digest,
    left_of,
    move,
    server,
    wait_known,
    wait_ready,
)

pytestmark = pytest.mark.lab

DATA = Disk(kind="sparse", format="raw", size_mib=64, data_mib=48)


@contextmanager
def under_way(kvm1: Host, kvm2: Host, guest: Guest, typed_on: Host) -> Iterator[tuple[Asked, str]]:
    """Start the guest, and its migration; give it in the middle of the copy, with the digest of its data."""
    guest.create(kvm1).start(kvm1)
    wait_known(kvm1, guest)
    data = data_digest(kvm1, guest.disk_path(1))
    with copying(kvm1, kvm2, guest.name, typed_on) as asked:
        yield asked, data


def test_a_source_that_reboots_in_the_middle_does_not_start_the_guest(kvm1: Host, kvm2: Host) -> None:
    guest = Guest("rebooted", disks=(Disk(), DATA), autostart=True)
    with under_way(kvm1, kvm2, guest, typed_on=kvm2) as (asked, data):
        kvm1.power_cut()
        kvm1.power_on()
        assert guest.state(kvm1) is None
        kvm1.slow_link(None)

        assert asked.end().code == 0
    assert " BOOTS=2 DIRTY=no " in guest.wait_for_boot(kvm2)
    assert (guest.boots(kvm1), guest.boots(kvm2)) == (1, 1)
    assert data_digest(kvm2, guest.disk_path(1)) == data
    assert confirm(kvm2, guest.name).code == 0
    assert left_of(kvm1, guest) == []


def test_a_destination_that_reboots_in_the_middle_takes_the_rest(kvm1: Host, kvm2: Host) -> None:
    guest = Guest("awaited", disks=(Disk(), DATA), autostart=True)
    with under_way(kvm1, kvm2, guest, typed_on=kvm1) as (asked, data):
        kvm2.power_cut()
        kvm2.power_on()
        assert guest.state(kvm2) is None
        kvm1.slow_link(None)

        assert asked.end().code == 0
    assert " BOOTS=2 DIRTY=no " in guest.wait_for_boot(kvm2)
    assert data_digest(kvm2, guest.disk_path(1)) == data


def test_workers_that_are_killed_in_the_middle_carry_on(kvm1: Host, kvm2: Host) -> None:
    guest = Guest("carried", disks=(Disk(), DATA))
    with under_way(kvm1, kvm2, guest, typed_on=kvm1) as (asked, data):
        for host in (kvm2, kvm1):
            host.kill_worker()
            host.start_worker()
        kvm1.slow_link(None)

        assert asked.end().code == 0
    assert " BOOTS=2 DIRTY=no " in guest.wait_for_boot(kvm2)
    assert data_digest(kvm2, guest.disk_path(1)) == data
    assert (guest.boots(kvm1), guest.state(kvm1)) == (1, None)


def test_a_worker_that_is_told_to_end_gives_the_job_back(kvm1: Host, kvm2: Host) -> None:
    guest = Guest("given-back", disks=(Disk(), DATA))
    with under_way(kvm1, kvm2, guest, typed_on=kvm1) as (asked, _):
        kvm2.stop_worker()
        kvm1.slow_link(None)
        asked.says("it is kvm2's turn to do ForgetProof since ")
        asked.says(": no worker is alive there")
        kvm2.start_worker()

        assert asked.end().code == 0
    assert " BOOTS=2 DIRTY=no " in guest.wait_for_boot(kvm2)


def test_zookeeper_that_dies_in_the_middle_is_waited_for(lab: Lab, kvm1: Host, kvm2: Host) -> None:
    guest = Guest("unboarded", disks=(Disk(), DATA))
    with under_way(kvm1, kvm2, guest, typed_on=kvm1) as (asked, data):
        lab.zookeeper.kill()
        lab.zookeeper.start()
        kvm1.slow_link(None)

        assert asked.end().code == 0
    assert " BOOTS=2 DIRTY=no " in guest.wait_for_boot(kvm2)
    assert data_digest(kvm2, guest.disk_path(1)) == data


def test_until_it_is_confirmed_the_worker_starts_the_guest_after_a_reboot(kvm1: Host, kvm2: Host) -> None:
    guest = Guest("held", autostart=True).create(kvm1).start(kvm1)
    wait_known(kvm1, guest)
    assert move(kvm1, guest.name, "kvm2").code == 0
    guest.wait_for_boot(kvm2)

    for host in (kvm1, kvm2):
        host.power_cut()
        host.power_on()

    assert " BOOTS=3 DIRTY=yes " in guest.wait_for_boot(kvm2, 2)
    assert guest.state(kvm1) is None
    wait_ready(kvm1, kvm2)
    wait_known(kvm2, guest)
    assert confirm(kvm1, guest.name).code == 0
    assert server(kvm1, guest.name) == ("kvm2", "active", None, "running")
    assert left_of(kvm1, guest) == []
