"""Whatever fails on the way: the server runs again where it ran, and nothing of it is left elsewhere."""

from __future__ import annotations

import pytest

from lab import Guest, Host, Lab
from lab.disks import Disk
from lab.process import wait_until
from tests.support.operator import (
    HostView,
    copying,
    differences,
    hostler,
    kill,
    left_of,
    move,
    moving,
    server,
    sql,
    told,
    view,
    wait_known,
    wait_ready,
)

pytestmark = pytest.mark.lab

DATA = Disk(kind="sparse", format="raw", size_mib=64, data_mib=48)
OTHER_PORT = """
<parallel type='tcp'><source mode='bind' host='127.0.0.1' service='4711'/><protocol type='raw'/>
<target port='0'/></parallel>"""


class World:
    """A server that runs on kvm1, and all that was there before it was asked to move."""

    def __init__(self, kvm1: Host, kvm2: Host, guest: Guest) -> None:
        self.kvm1, self.kvm2, self.guest = kvm1, kvm2, guest
        guest.create(kvm1).start(kvm1)
        wait_known(kvm1, guest)
        self.before = self.look()

    def look(self) -> tuple[HostView, HostView, tuple[str, str, str | None, str]]:
        """What of both hosts and the records must be the same afterwards."""
        here = view(self.kvm1, self.guest.disk_path())
        return here, view(self.kvm2), server(self.kvm1, self.guest.name)

    def is_as_before(self, boots: int) -> None:
        """See that nothing is left of the attempt, and the guest up for the so-and-so-manieth time."""
        self.guest.wait_for_boot(self.kvm1, boots)
        assert self.guest.boots(self.kvm1) == boots
        assert differences(self.before, self.look()) == []
        assert self.kvm2.console(self.guest.name) == ""
        assert left_of(self.kvm2, self.guest) == []


def test_a_guest_deaf_to_the_power_button_has_its_plug_pulled(kvm1: Host, kvm2: Host) -> None:
    guest = Guest("deaf", ignore_acpi=True).create(kvm1).start(kvm1)
    wait_known(kvm1, guest)

    assert move(kvm1, guest.name, "kvm2").code == 0

    assert " BOOTS=2 DIRTY=yes " in guest.wait_for_boot(kvm2)


def test_a_guest_whose_qemu_hangs_has_its_plug_pulled(kvm1: Host, kvm2: Host) -> None:
    guest = Guest("hung").create(kvm1).start(kvm1)
    wait_known(kvm1, guest)
    kvm1.run(["kill", "-STOP", kvm1.path(f"/run/libvirt/qemu/{guest.name}.pid").read_text().strip()])

    assert move(kvm1, guest.name, "kvm2").code == 0

    assert " BOOTS=2 DIRTY=yes " in guest.wait_for_boot(kvm2)


def test_a_server_that_cannot_be_powered_off_goes_on(kvm1: Host, kvm2: Host) -> None:
    world = World(kvm1, kvm2, Guest("stays-on", autostart=True))
    folder = "/etc/libvirt/qemu/autostart"
    kvm1.run(["mount", "--bind", folder, folder])
    kvm1.run(["mount", "-o", "remount,bind,ro", folder])
    try:
        said = move(kvm1, world.guest.name, "kvm2")
    finally:
        kvm1.run(["umount", folder])

    assert (said.code, "PowerOff failed" in said.out) == (4, True), said
    world.is_as_before(boots=1)


def test_a_server_that_is_changed_while_it_shuts_down_stays(kvm1: Host, kvm2: Host) -> None:
    world = World(kvm1, kvm2, Guest("changed", ignore_acpi=True, autostart=True))

    with moving(kvm1, world.guest.name, "kvm2") as asked:
        asked.says("PowerOff running")
        kvm1.virsh("desc", world.guest.name, "--config", "somebody was here")
        world.before[0].domains[world.guest.uuid]["xml"] = kvm1.virsh(
            "dumpxml", "--inactive", world.guest.uuid
        )
        said = asked.end()

    assert (said.code, "its definition is another one" in said.out) == (4, True), said
    world.is_as_before(boots=2)


def test_a_destination_whose_disk_fills_up_is_left_empty(kvm1: Host, kvm2: Host) -> None:
    world = World(kvm1, kvm2, Guest("too-much", disks=(Disk(), DATA), autostart=True))

    with copying(kvm1, kvm2, world.guest.name) as asked:
        kvm2.fill_disk("2M")
        kvm1.slow_link(None)
        said = asked.end()
    kvm2.free_disk()

    assert (said.code, "no space left on the destination" in said.out) == (4, True), said
    world.is_as_before(boots=2)


def test_a_receiver_that_is_killed_ends_the_copy_unless_it_comes_back(kvm1: Host, kvm2: Host) -> None:
    world = World(kvm1, kvm2, Guest("unheard", disks=(Disk(), DATA)))

    with copying(kvm1, kvm2, world.guest.name) as asked:
        kill(kvm2, "nbdkit")
        said = asked.end()
    assert (said.code, "no connection to the receiver" in said.out) == (4, True), said
    world.is_as_before(boots=2)

    with copying(kvm1, kvm2, world.guest.name) as asked:
        kill(kvm2, "nbdkit")
        kvm2.kill_worker()
        kvm2.start_worker()
        kvm1.slow_link(None)
        said = asked.end()
    assert said.code == 0, said
    assert " BOOTS=3 DIRTY=no " in world.guest.wait_for_boot(kvm2)


def test_a_copy_that_is_cancelled_stops_at_once_and_leaves_nothing_there(kvm1: Host, kvm2: Host) -> None:
    world = World(kvm1, kvm2, Guest("unwanted", disks=(Disk(), DATA), autostart=True))

    # at this rate a block takes longer than the whole way back
    with copying(kvm1, kvm2, world.guest.name) as asked:
        cancelled = hostler(kvm2, "migration", "cancel", "unwanted", "--reason", "wrong host", "--wait")
        said = asked.end()

    assert (cancelled.code, said.code) == (4, 4), (cancelled, said)
    assert "it was cancelled: wrong host" in said.out
    world.is_as_before(boots=2)
    row = next(row for row in told(kvm1, "migration", "list") if row["Server"] == "unwanted")
    assert row["Status"] == "cancelled"


def test_a_link_that_is_cut_for_good_brings_the_server_back(kvm1: Host, kvm2: Host) -> None:
    world = World(kvm1, kvm2, Guest("cut-off", disks=(Disk(), DATA), autostart=True))

    with copying(kvm1, kvm2, world.guest.name) as asked:
        kvm2.cut_link()
        # the guest does not wait for the destination's undo
        world.guest.wait_for_boot(kvm1, 2)
        kvm2.mend_link()
        said = asked.end()

    assert (said.code, "no connection to the receiver" in said.out) == (4, True), said
    wait_until(lambda: left_of(kvm2, world.guest) == [], "the undo on kvm2", 60, pause_s=0.2)
    wait_ready(kvm1, kvm2)
    world.is_as_before(boots=2)


def test_a_link_that_is_mended_lets_the_copy_go_on(kvm1: Host, kvm2: Host) -> None:
    world = World(kvm1, kvm2, Guest("patient", disks=(Disk(), DATA)))

    with copying(kvm1, kvm2, world.guest.name) as asked:
        kvm2.cut_link()
        wait_until(lambda: worker(kvm1, "kvm2") == "down", "the end of kvm2's session", pause_s=0.2)
        kvm2.mend_link()
        kvm1.slow_link(None)
        assert asked.end().code == 0

    assert " BOOTS=2 DIRTY=no " in world.guest.wait_for_boot(kvm2)


def test_a_guest_that_cannot_be_created_there_goes_back(kvm1: Host, kvm2: Host) -> None:
    world = World(kvm1, kvm2, Guest("clash", devices=(OTHER_PORT,), autostart=True))
    other = kvm2.popen(["busybox", "httpd", "-f", "-p", "127.0.0.1:4711"])
    try:
        wait_until(lambda: ":4711" in kvm2.run(["ss", "-ltn"]).stdout, "the other program")
        said = move(kvm1, world.guest.name, "kvm2")
    finally:
        other.kill()
        other.communicate()

    assert (said.code, "FinishMigration failed" in said.out) == (4, True), said
    world.is_as_before(boots=2)


@pytest.mark.parametrize(
    ("meddling", "words"),
    [
        ("UPDATE migrations SET cancel_reason = 'not now' WHERE instance_uuid = '{uuid}'", "not now"),
        (
            "UPDATE instances SET vm_state = 'error', task_state = 'deleting' WHERE uuid = '{uuid}'",
            "deleting",
        ),
    ],
    ids=["cancelled", "deleting"],
)
def test_a_hand_over_that_is_refused_never_lets_the_guest_run_there(
    lab: Lab, kvm1: Host, kvm2: Host, meddling: str, words: str
) -> None:
    world = World(kvm1, kvm2, Guest(f"refused-{words.split()[0]}", autostart=True))
    # in one transaction with the record that the guest was created: right before the hand-over
    when = "AFTER UPDATE OF state ON atoms WHEN NEW.name = 'FinishMigration' AND NEW.state = 'SUCCESS'"
    sql(lab, f"CREATE TRIGGER meddle {when} BEGIN {meddling.format(uuid=world.guest.uuid)}; END")
    try:
        said = move(kvm1, world.guest.name, "kvm2")
    finally:
        sql(lab, "DROP TRIGGER meddle")

    assert (said.code, words in said.out) == (4, True), said
    world.guest.wait_for_boot(kvm1, 2)
    if "deleting" in meddling:  # what somebody else has written stays
        assert server(kvm1, world.guest.name)[1:3] == ("error", "deleting")
        sql(
            lab,
            f"UPDATE instances SET vm_state = 'active', task_state = NULL WHERE uuid = '{world.guest.uuid}'",
        )
    world.is_as_before(boots=2)


def worker(host: Host, name: str) -> str:
    """What *host* is told of the worker of *name*."""
    return next(str(row["Worker"]) for row in told(host, "host", "list") if row["Name"] == name)
