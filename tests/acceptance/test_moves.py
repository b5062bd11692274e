"""Servers move, with all that they have."""

from __future__ import annotations

from typing import Literal

import pytest

from lab import Guest, Host
from lab.disks import LAYERED, SPARSE, Disk
from tests.support.operator import (
    Asked,
    allocated,
    claimed,
    confirm,
    data_digest,
    domain,
    left_of,
    move,
    moving,
    same_machine,
    server,
    sha256,
    told,
    wait_known,
)

pytestmark = pytest.mark.lab

EMPTY = Disk(kind="empty")
GIB = 1 << 30


@pytest.mark.parametrize("layout", ["dir", "flat"])
def test_a_server_arrives_with_all_that_it_has(
    kvm1: Host, kvm2: Host, layout: Literal["dir", "flat"]
) -> None:
    guest = Guest(
        f"whole-{layout}",
        layout=layout,
        disks=(LAYERED, EMPTY, SPARSE),
        autostart=True,
        note="written by a management tool",
    ).create(kvm1)
    take_snapshot(kvm1, guest, "kept")
    guest.start(kvm1)
    wait_known(kvm1, guest)
    before, carried = domain(kvm1, guest.uuid), (claimed(kvm1), claimed(kvm2))
    base = sha256(kvm1, guest.backing_path())
    data, taken = data_digest(kvm1, guest.disk_path(2)), allocated(kvm1, guest.disk_path(2))

    assert move(kvm1, guest.name, "kvm2").code == 0

    assert guest.wait_for_boot(kvm2).startswith(f"MARKER={guest.marker} BOOTS=2 DIRTY=no ")
    arrived = domain(kvm2, guest.uuid)
    assert same_machine(arrived["xml"], before["xml"])
    assert "written by a management tool" in arrived["xml"]
    assert arrived["snapshots"].split() == ["kept"]
    assert {"before", "kept"} <= snapshots_in(kvm2, guest)
    assert sha256(kvm2, guest.backing_path()) == base
    assert data_digest(kvm2, guest.disk_path(2)) == data
    assert kvm2.path(guest.disk_path(2)).stat().st_size == 20 * GIB
    assert abs(allocated(kvm2, guest.disk_path(2)) - taken) < 0.05 * GIB
    assert arrived["Autostart"] == "disable"
    assert server(kvm2, guest.name) == ("kvm2", "resized", None, "running")
    # the source keeps the files and the place until it is confirmed
    assert guest.state(kvm1) is None
    assert any("_resize" in path for path in left_of(kvm1, guest))
    assert (claimed(kvm1), claimed(kvm2)) == (less(carried[0], 1, 0, 0), less(carried[1], -1, -1, -128))

    assert confirm(kvm2, guest.name).code == 0

    settled = domain(kvm2, guest.uuid)
    assert settled["xml"] == before["xml"]
    assert settled["Autostart"] == "enable"
    assert left_of(kvm1, guest) == []
    assert server(kvm1, guest.name) == ("kvm2", "active", None, "running")
    assert (claimed(kvm1), claimed(kvm2)) == (less(carried[0], 1, 1, 128), less(carried[1], -1, -1, -128))
    assert not [path for path in left_of(kvm2, guest) if "part" in path or "manifest" in path]


def test_a_stopped_server_stays_stopped(kvm1: Host, kvm2: Host) -> None:
    guest = Guest("asleep", autostart=True).create(kvm1)
    wait_known(kvm1, guest)

    assert move(kvm1, guest.name, "kvm2").code == 0
    assert confirm(kvm1, guest.name).code == 0

    assert (guest.state(kvm1), guest.state(kvm2)) == (None, "shut off")
    assert kvm2.console(guest.name) == ""
    assert server(kvm1, guest.name) == ("kvm2", "stopped", None, "shutdown")
    assert domain(kvm2, guest.uuid)["Autostart"] == "enable"


def test_a_server_moves_there_and_back(kvm1: Host, kvm2: Host) -> None:
    guest = Guest("traveller", disks=(LAYERED,), autostart=True).create(kvm1).start(kvm1)
    wait_known(kvm1, guest)
    before = domain(kvm1, guest.uuid)

    for here, there in ((kvm1, kvm2), (kvm2, kvm1)):
        assert move(here, guest.name, there.name).code == 0
        assert confirm(here, guest.name).code == 0

    assert " BOOTS=3 DIRTY=no " in guest.wait_for_boot(kvm1, 2)
    returned = domain(kvm1, guest.uuid)
    assert same_machine(returned.pop("xml"), before.pop("xml"))
    assert returned == before
    assert guest.state(kvm2) is None


def test_ten_servers_asked_for_at_once_all_arrive(kvm1: Host, kvm2: Host) -> None:
    away = [Guest(f"east-{number}").create(kvm1) for number in range(5)]
    home = [Guest(f"west-{number}").create(kvm2) for number in range(5)]
    runs = [away[0].start(kvm1), home[0].start(kvm2)]
    wait_known(kvm1, *away)
    wait_known(kvm2, *home)

    asked = [moving(kvm1, guest.name, "kvm2") for guest in away]
    asked += [moving(kvm1, guest.name, "kvm1") for guest in home]
    assert [one.end().code for one in asked] == [0] * 10

    assert (
        {guest.state(kvm2) for guest in away[1:]} == {guest.state(kvm1) for guest in home[1:]} == {"shut off"}
    )
    assert " BOOTS=2 DIRTY=no " in runs[0].wait_for_boot(kvm2)
    assert " BOOTS=2 DIRTY=no " in runs[1].wait_for_boot(kvm1)
    assert [guest.state(kvm1) for guest in away] == [guest.state(kvm2) for guest in home] == [None] * 5
    confirmed = [Asked(kvm1, "server", "confirm", "--wait", guest.name) for guest in (*away, *home)]
    assert [one.end().code for one in confirmed] == [0] * 10
    assert [path for guest in away for path in left_of(kvm1, guest)] == []
    assert [path for guest in home for path in left_of(kvm2, guest)] == []
    moved = told(kvm1, "migration", "list", "--state", "confirmed")
    assert {guest.name for guest in (*away, *home)} <= {row["Server"] for row in moved}


def test_of_two_who_ask_for_one_server_one_is_refused(kvm1: Host, kvm2: Host) -> None:
    guest = Guest("wanted").create(kvm1).start(kvm1)
    wait_known(kvm1, guest)

    both = [moving(host, guest.name, "kvm2") for host in (kvm1, kvm2)]
    ends = sorted((one.end() for one in both), key=lambda said: said.code)

    assert [said.code for said in ends] == [0, 3]
    assert ends[1].hint.startswith("try: hostler migration watch ")
    assert " BOOTS=2 DIRTY=no " in guest.wait_for_boot(kvm2)


def test_a_server_may_have_any_name_that_libvirt_allows(kvm1: Host, kvm2: Host) -> None:
    names = ("with space", 'it\'s "quoted" $(x)', "größe-東京", "..a", "-rf", "a;b|c&d", "%s{0}")
    guests = [Guest(name, marker=f"m{n}").create(kvm1) for n, name in enumerate(names)]
    flat = Guest("..flat it's -東京", layout="flat", marker="flat").create(kvm1)
    wait_known(kvm1, *guests, flat)

    for verb in (("migrate", "--to", "kvm2"), ("confirm",)):
        asked = [Asked(kvm1, "server", *verb, "--wait", "--", one.name) for one in (*guests, flat)]
        assert [one.end().ending[0] for one in asked] == [0] * len(asked)

    for one in (*guests, flat):
        assert (one.state(kvm1), one.state(kvm2)) == (None, "shut off")
        assert kvm2.path(one.disk_path()).is_file()
    assert [path for one in guests for path in left_of(kvm1, one) if one.uuid in path] == []


def less(carried: tuple[int, ...], *by: int) -> tuple[int, ...]:
    """What a host carries when servers, vCPUs and MiB are taken off: earlier tests may have left some."""
    return tuple(one - other for one, other in zip(carried, by, strict=True))


def snapshots_in(host: Host, guest: Guest) -> set[str]:
    """The names of the snapshots in the boot disk's image."""
    listed = host.run(["qemu-img", "snapshot", "-U", "-l", guest.disk_path()]).stdout.splitlines()
    return {line.split()[1] for line in listed[2:]}


def take_snapshot(host: Host, guest: Guest, name: str) -> None:
    """Take an internal snapshot while the raw disk is not plugged in: libvirt takes none with one."""
    raw = str(guest.disk_path(2))
    host.virsh("detach-disk", guest.name, "vdc", "--config")
    host.virsh("snapshot-create-as", guest.name, name)
    options = ("--driver", "qemu", "--subdriver", "raw", "--cache", "none", "--targetbus", "virtio")
    host.virsh("attach-disk", guest.name, raw, "vdc", "--config", *options)
