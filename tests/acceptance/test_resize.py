"""Servers get another size, on another host and where they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from kazoo.client import KazooClient

from hostler.jobboard.board import Board
from lab import Guest, Host, Lab
from lab.disks import Disk
from lab.process import wait_until
from tests.support.operator import (
    BEGIN_RATE,
    CRAWL_RATE,
    Asked,
    confirm,
    data_digest,
    domain,
    hostler,
    left_of,
    server,
    told,
    wait_copying,
    wait_known,
    wait_ready,
)

pytestmark = pytest.mark.lab

SWAP_UUID = "5a5a5a5a-1111-4222-8333-444444444444"
DATA = Disk(kind="sparse", format="raw", size_mib=64, data_mib=48)
SWAP = Disk(kind="swap", format="raw", size_mib=8, suffix="swap", swap_uuid=SWAP_UUID)
EPHEMERAL = Disk(kind="empty", suffix="local")
#: Wait, and say each step.
PLAIN = ("--wait", "--format", "plain")
GIB = 1 << 30
SECTORS = GIB // 512
#: What the guest says of itself with the flavor ``larger``.
LARGER = {"CPUS": "2", "DISK_SECTORS": str(SECTORS), "SWAP": SWAP_UUID, "SWAP_KIB": str(16 * 1024 - 4)}


@pytest.fixture
def larger(kvm1: Host) -> str:
    """A flavor with more of everything."""
    if "larger" not in {row["Name"] for row in told(kvm1, "flavor", "list")}:
        sizes = ("--vcpus", "2", "--ram", "256", "--disk", "1", "--swap", "16")
        assert hostler(kvm1, "flavor", "create", "larger", *sizes).code == 0
    return "larger"


def resizing(host: Host, guest: Guest, flavor: str, *to: str) -> Asked:
    """Ask for a resize, to look at while it is under way."""
    words = ("--flavor", flavor, *to, *PLAIN)
    return Asked(host, "server", "resize", guest.name, *words)


def says(host: Host, guest: Guest, boot: int) -> dict[str, str]:
    """What the guest says of itself at its latest boot, which is its so-and-so-manieth on this host."""
    line = guest.wait_for_boot(host, boot)
    return dict(word.partition("=")[::2] for word in line.split())


def test_servers_come_up_with_their_new_size(kvm1: Host, kvm2: Host, larger: str) -> None:
    moved = Guest(
        "grown-there", disks=(Disk(backed=True, snapshot="before"), EPHEMERAL, DATA, SWAP), autostart=True
    )
    stayed = Guest("grown-here", layout="flat", disks=(Disk(format="raw"), DATA, SWAP), autostart=True)
    for guest in (moved, stayed):
        guest.create(kvm1)
    runs = [guest.start(kvm1, wait=False) for guest in (moved, stayed)]
    assert [says(kvm1, guest, 1)["SWAP_KIB"] for guest in runs] == [str(8 * 1024 - 4)] * 2
    wait_known(kvm1, moved, stayed)
    data = data_digest(kvm1, moved.disk_path(2)), data_digest(kvm1, stayed.disk_path(1))
    inode = kvm1.path(stayed.disk_path()).stat().st_ino

    asked = [resizing(kvm1, moved, larger, "--to", "kvm2"), resizing(kvm1, stayed, larger, "--to", "kvm1")]
    assert [one.end().code for one in asked] == [0, 0], [one.text for one in asked]

    there, here = says(kvm2, moved, 1), says(kvm1, stayed, 2)
    for said in (there, here):
        assert LARGER.items() <= said.items()
        assert (said["BOOTS"], said["DIRTY"]) == ("2", "no")
        assert int(said["MEMORY_KIB"]) > 200_000
    # a file system that begins with the raw disk grows with it; one in a qcow2 is the guest's to grow
    assert int(here["FILESYSTEM_KIB"]) > 900_000
    assert int(there["FILESYSTEM_KIB"]) < 65_536
    assert (data_digest(kvm2, moved.disk_path(2)), data_digest(kvm1, stayed.disk_path(1))) == data
    assert server(kvm1, moved.name) == ("kvm2", "resized", None, "running")
    assert server(kvm1, stayed.name) == ("kvm1", "resized", None, "running")
    assert told(kvm1, "server", "show", stayed.name)["flavor"] == "larger"
    assert hostler(kvm1, "flavor", "delete", "larger").code == 3
    # what it was can be had again until it is confirmed
    assert kvm1.path(stayed.disk_path()).stat().st_ino != inode
    asides = {path for path in left_of(kvm1, stayed) if "_resize" in path}
    assert inode in {kvm1.path(path).stat().st_ino for path in asides}

    assert [confirm(kvm1, guest.name).code for guest in (moved, stayed)] == [0, 0]

    assert left_of(kvm1, moved) == []
    assert not [path for path in left_of(kvm1, stayed) if "_resize" in path or "part" in path]
    assert domain(kvm1, stayed.uuid)["Autostart"] == "enable"
    assert server(kvm1, stayed.name) == ("kvm1", "active", None, "running")
    again = hostler(kvm1, "server", "resize", stayed.name, "--flavor", "larger", "--to", "kvm2")
    assert (again.code, "has flavor 'larger' already" in again.err) == (3, True)


@contextmanager
def _board(lab: Lab) -> Iterator[Board]:
    client = KazooClient(lab.zookeeper.hosts)
    client.start(30)
    try:
        yield Board(client, "/hostler")
    finally:
        client.stop()
        client.close()


def test_workers_that_die_in_the_middle_go_on(lab: Lab, kvm1: Host, kvm2: Host, larger: str) -> None:
    moved = Guest("goes-on-there", disks=(Disk(), DATA, SWAP))
    stayed = Guest("goes-on-here", disks=(Disk(format="raw"), DATA, SWAP))
    for guest in (moved, stayed):
        guest.create(kvm1).start(kvm1, wait=False)
    for guest in (moved, stayed):
        guest.wait_for_boot(kvm1)
    wait_known(kvm1, moved, stayed)
    data = [data_digest(kvm1, guest.disk_path(1)) for guest in (moved, stayed)]
    kvm1.slow_link(BEGIN_RATE)

    asked = [resizing(kvm2, moved, larger, "--to", "kvm2"), resizing(kvm2, stayed, larger, "--to", "kvm1")]
    asked[1].says("OpenReceiver done")
    kvm1.kill_worker()
    kvm1.start_worker()
    wait_copying(kvm2)
    kvm1.slow_link(CRAWL_RATE)
    for host in (kvm2, kvm1):
        host.kill_worker()
        host.start_worker()
    kvm1.slow_link(None)
    assert [one.end().code for one in asked] == [0, 0], [one.text for one in asked]

    there, here = says(kvm2, moved, 1), says(kvm1, stayed, 2)
    assert LARGER.items() <= there.items()
    assert LARGER.items() <= here.items()
    assert [there["BOOTS"], here["BOOTS"]] == ["2", "2"]
    assert [data_digest(kvm2, moved.disk_path(1)), data_digest(kvm1, stayed.disk_path(1))] == data

    wait_ready(kvm1, kvm2)
    # the source's worker hangs until the destination's has done its part and died, and dies behind its own
    pid, migration = str(kvm1.worker_pid), told(kvm2, "migration", "show", moved.name)["uuid"]
    kvm1.run(["kill", "-STOP", pid])
    confirming = [Asked(kvm2, "server", "confirm", guest.name, *PLAIN) for guest in (moved, stayed)]
    confirming[0].says("ProveGuest done")
    with _board(lab) as board:
        wait_until(lambda: migration in board.jobs("kvm1"), "kvm1's turn", 60)
    kvm2.kill_worker()
    kvm1.run(["kill", "-CONT", pid])
    confirming[0].says("DropSourceClaim done")
    kvm1.kill_worker()
    for host in (kvm1, kvm2):
        host.start_worker()
    assert [one.end().code for one in confirming] == [0, 0], [one.text for one in confirming]
    assert left_of(kvm1, moved) == []
    assert not [path for path in left_of(kvm1, stayed) if "_resize" in path]


def used_cores(host: Host, project: str) -> int:
    """What the project's servers and migrations have of its vCPUs, by what an operator is shown."""
    rows = {row["Resource"]: row for row in told(host, "quota", "show", project)}
    return int(rows["cores"]["Used"]) + int(rows["cores"]["Reserved"])


def test_what_was_resized_goes_back_whichever_worker_dies(kvm1: Host, kvm2: Host, larger: str) -> None:
    # deaf to the power button, one takes seconds to stop: time enough to kill who stops it
    moved = Guest("back-from-there", disks=(Disk(), DATA, SWAP), ignore_acpi=True)
    stayed = Guest("back-to-itself", disks=(Disk(format="raw"), DATA, SWAP))
    for guest in (moved, stayed):
        guest.create(kvm1).start(kvm1, wait=False)
    for guest in (moved, stayed):
        guest.wait_for_boot(kvm1)
    wait_known(kvm1, moved, stayed)
    for guest in (moved, stayed):
        assert hostler(kvm1, "server", "set", "--project", "shop", guest.name).code == 0
    assert hostler(kvm1, "quota", "set", "shop", "--cores", "3").code == 0
    data = [data_digest(kvm1, guest.disk_path(1)) for guest in (moved, stayed)]

    assert resizing(kvm1, moved, larger, "--to", "kvm2").end().code == 0
    assert used_cores(kvm2, "shop") == 3
    refused = hostler(kvm2, "server", "resize", stayed.name, "--flavor", larger, "--to", "kvm1")
    assert (refused.code, refused.hint) == (3, "try: hostler quota show shop")
    assert used_cores(kvm2, "shop") == 3
    assert hostler(kvm1, "quota", "set", "shop", "--cores", "4").code == 0
    assert resizing(kvm2, stayed, larger, "--to", "kvm1").end().code == 0
    assert used_cores(kvm2, "shop") == 4
    assert says(kvm2, moved, 1)["CPUS"] == says(kvm1, stayed, 2)["CPUS"] == "2"

    back = [
        Asked(host, "server", "revert", guest.name, "--reason", "too large", "--drop-writes", *PLAIN)
        for host, guest in ((kvm1, moved), (kvm2, stayed))
    ]
    back[0].says("StopGuest running")
    kvm2.kill_worker()
    kvm2.start_worker()
    back[0].says("HandBack done")
    kvm1.kill_worker()
    kvm1.start_worker()
    assert [one.end().code for one in back] == [0, 0], [one.text for one in back]

    for number, boot, guest in ((0, 2, moved), (1, 3, stayed)):
        said = says(kvm1, guest, boot)
        assert (said["CPUS"], said["SWAP"], said["SWAP_KIB"]) == ("1", SWAP_UUID, str(8 * 1024 - 4))
        # what it wrote after the hand-over is gone
        assert said["BOOTS"] == "2"
        assert data_digest(kvm1, guest.disk_path(1)) == data[number]
    wait_ready(kvm1, kvm2)
    assert left_of(kvm2, moved) == []
    assert not [path for path in left_of(kvm1, stayed) if "_resize" in path or "part" in path]
    assert used_cores(kvm2, "shop") == 2

    # once more, to stay: nothing of the way back was in the way
    assert resizing(kvm1, moved, larger, "--to", "kvm2").end().code == 0
    assert LARGER.items() <= says(kvm2, moved, 1).items()
    assert confirm(kvm1, moved.name).code == 0
    assert used_cores(kvm2, "shop") == 3
