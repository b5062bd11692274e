"""What cannot be done is refused: one sentence, the next thing to type, and nothing is changed."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from lab import Guest, Host, Lab
from lab.disks import Disk
from tests.support.operator import (
    Asked,
    Said,
    differences,
    hostler,
    move,
    server,
    told,
    view,
    wait_known,
    wait_ready,
)

pytestmark = pytest.mark.lab

PASSED_THROUGH = """
<hostdev mode='subsystem' type='pci' managed='yes'>
<source><address domain='0' bus='0x7f' slot='0x05' function='0'/></source></hostdev>"""
#: A name that is resolved, and an address at which nobody answers.
SILENT = "10.255.255.1"


@contextmanager
def nothing_changes(*hosts: Host) -> Iterator[None]:
    """See that what is done within leaves the hosts as they were."""
    before = [view(host) for host in hosts]
    yield
    assert differences(before, [view(host) for host in hosts]) == []


def assert_refused(said: Said, words: str, hint: str, code: int = 3) -> None:
    """See one sentence with *words*, and what to type next."""
    assert (said.code, words in said.out + said.err, hint in said.hint) == (code, True, True), said
    assert "Traceback" not in said.err


def test_what_the_records_alone_can_tell_is_refused_at_once(kvm1: Host, kvm2: Host) -> None:
    guest, other = Guest("settled").create(kvm1), Guest("settled").create(kvm2)
    lonely = Guest("lonely").create(kvm1)
    wait_known(kvm1, guest, lonely)
    wait_known(kvm2, other)

    with nothing_changes(kvm1, kvm2):
        for name in ("nobody", "..", "-rf", "no such; one", "größe"):
            words = f"no server is called {name!r}"
            assert_refused(move(kvm1, name, "kvm2"), words, "try: hostler server list")
        assert_refused(move(kvm1, "lonely", "kvm9"), "no host is called 'kvm9'", "try: hostler host list")
        assert_refused(move(kvm1, "lonely", "kvm1"), "is on kvm1 already", "try: hostler host list")
        ambiguous = move(kvm1, "settled", "kvm2")
        assert_refused(ambiguous, "names 2 servers", "try: hostler server list; the UUID")
        assert guest.uuid in ambiguous.err and other.uuid in ambiguous.err
        assert_refused(
            hostler(kvm1, "server", "confirm", "lonely"),
            "cannot confirm it",
            "try: hostler server migrate lonely --to HOST",
        )
        assert hostler(kvm1, "server", "resize", "lonely").code == 2
        assert hostler(kvm1, "server", "migrate", "-rf", "--to", "kvm2").code == 2
        assert hostler(kvm1, "nonsense").code == 2


def test_a_destination_without_a_worker_is_refused(kvm1: Host, kvm2: Host) -> None:
    guest = Guest("unserved").create(kvm1)
    wait_known(kvm1, guest)

    kvm2.stop_worker()
    said = move(kvm1, guest.name, "kvm2")
    kvm2.start_worker()

    assert_refused(said, "no worker is alive on kvm2", "try: on kvm2: systemctl start hostler-worker")
    assert server(kvm1, guest.name) == ("kvm1", "stopped", None, "shutdown")
    wait_ready(kvm1, kvm2)


Change = Callable[[Host, Host, Guest], object]


def _taken_name(_kvm1: Host, kvm2: Host, guest: Guest) -> None:
    Guest(guest.name).create(kvm2)


def _taken_uuid(_kvm1: Host, kvm2: Host, guest: Guest) -> None:
    replace(guest, name="same-uuid", layout="flat").create(kvm2)


def _missing(kvm1: Host, _kvm2: Host, guest: Guest) -> None:
    kvm1.path(guest.disk_path()).unlink()


def _shared(kvm1: Host, _kvm2: Host, guest: Guest) -> None:
    second = replace(guest, name="sharer", uuid=new_uuid())
    xml = second.xml().replace(str(second.disk_path()), str(guest.disk_path()))
    kvm1.run(["virsh", "-q", "define", "/dev/stdin"], text_in=xml)


def _taken_path(_kvm1: Host, kvm2: Host, guest: Guest) -> None:
    kvm2.run(["mkdir", "-p", guest.directory])


def _machine(kvm1: Host, guest: Guest) -> None:
    """Let the definition name a machine that no QEMU here has, as one from a newer host would."""
    definition = kvm1.path(f"/etc/libvirt/qemu/{guest.name}.xml")
    text = definition.read_text()
    kvm1.power_cut()
    place = kvm1.directory / "etc/libvirt/qemu" / f"{guest.name}.xml"
    place.write_text(text.replace("machine='pc-i440fx-", "machine='pc-i440fx-9"))
    kvm1.power_on()
    wait_ready(kvm1)


LARGE = Disk(kind="sparse", format="raw", size_mib=64, data_mib=8)
#: What keeps a server from being moved, what makes it so, and what is said of it.
OBSTACLES: list[tuple[Guest, Change | None, str]] = [
    (Guest("bridged", bridge="br-lab9"), None, "no bridge br-lab9"),
    (Guest("passed", devices=(PASSED_THROUGH,)), None, "is passed through (0000:7f:05.0)"),
    (Guest("named"), _taken_name, "name 'named' is taken by domain"),
    (Guest("numbered"), _taken_uuid, "is taken by domain 'same-uuid'"),
    (Guest("placed"), _taken_path, "already: move it away if nobody needs it"),
    (Guest("lost"), _missing, "does not exist"),
    (Guest("shared"), _shared, "sharer"),
    (Guest("huge", disks=(Disk(), Disk(kind="empty", size_mib=1 << 20))), None, "not enough disk"),
    (Guest("hungry", memory_mib=1 << 20), None, "not enough memory"),
]


def test_what_a_host_sees_is_refused_and_a_dry_run_says_the_same(kvm1: Host, kvm2: Host) -> None:
    guests = [replace(one, uuid=new_uuid(), marker="").create(kvm1) for one, _, _ in OBSTACLES]
    for guest, (_, change, _) in zip(guests, OBSTACLES, strict=True):
        if change is not None:
            change(kvm1, kvm2, guest)
    wait_known(kvm1, *guests)

    with nothing_changes(kvm1, kvm2):
        command = ("server", "migrate", "--to", "kvm2")
        asked = [Asked(kvm1, *command, "--dry-run", guest.uuid) for guest in guests]
        dry = [one.end() for one in asked]
        asked = [Asked(kvm1, *command, "--wait", guest.uuid) for guest in guests]
        said = [one.end() for one in asked]

    for looked, told_so, (guest, _, words) in zip(dry, said, OBSTACLES, strict=True):
        assert_refused(told_so, words, "")
        assert told_so.hint, told_so
        assert (looked.code, words in looked.out) == (3, True), looked
        own, _, _ = told_so.hint.partition(": ")[2].partition("; then: ")
        assert f"    try: {own}\n" in looked.out, (own, looked)
        assert f"then: hostler server migrate --to kvm2 --dry-run {guest.name}" in looked.out, looked
        assert "it would be refused:" in looked.out
    rows = {row["UUID"]: row for row in told(kvm1, "server", "list")}
    assert {(rows[guest.uuid]["Host"], rows[guest.uuid]["Task"]) for guest in guests} == {("kvm1", None)}


def test_a_destination_without_room_is_refused(kvm1: Host, kvm2: Host) -> None:
    guest = Guest("large", disks=(Disk(), LARGE)).create(kvm1)
    kvm2.fill_disk("4M")
    wait_known(kvm1, guest)

    with nothing_changes(kvm1, kvm2):
        said = move(kvm1, guest.name, "kvm2")

    assert_refused(
        said,
        "not enough space in /var/lib/libvirt/instances",
        "next: hostler host show kvm2; then: hostler server migrate",
    )


def test_a_machine_that_the_destination_does_not_know_is_refused(kvm1: Host, kvm2: Host) -> None:
    guest = Guest("modern").create(kvm1)
    _machine(kvm1, guest)
    wait_known(kvm1, guest)

    with nothing_changes(kvm1, kvm2):
        said = move(kvm1, guest.name, "kvm2")

    assert_refused(said, "pc-i440fx-9", "next: hostler host show kvm2; then: hostler server migrate")


def test_a_dry_run_shows_the_plan_and_changes_nothing(kvm1: Host, kvm2: Host) -> None:
    guest = Guest("planned", disks=(Disk(), Disk(kind="empty"))).create(kvm1).start(kvm1)
    wait_known(kvm1, guest)

    with nothing_changes(kvm2):
        said = hostler(kvm1, "server", "migrate", "planned", "--to", "kvm2", "--dry-run")
        plan = hostler(
            kvm1, "server", "migrate", "planned", "--to", "kvm2", "--dry-run", "--format", "ndjson"
        )

    assert said.code == plan.code == 0
    assert "point of no return" in said.out
    assert f"  {guest.directory}" in said.out
    assert "nothing stands in the way of moving planned to kvm2" in said.out
    told_plan = json.loads(plan.out)
    assert (told_plan["source"], told_plan["dest"], told_plan["problems"]) == ("kvm1", "kvm2", [])
    assert guest.boots(kvm1) == 1
    assert server(kvm1, "planned") == ("kvm1", "active", None, "running")


def test_a_server_that_does_not_answer_is_named(lab: Lab, kvm1: Host) -> None:
    guest = Guest("waiting").create(kvm1)
    wait_known(kvm1, guest)
    away = _configuration(
        kvm1, "database", f"[database]\nconnection = postgresql://h:secret@{SILENT}/hostler\n"
    )
    gone = _configuration(kvm1, "file", "[database]\nconnection = sqlite:////nowhere/hostler.db\n")

    for path, words in ((away, SILENT), (gone, "/nowhere/hostler.db")):
        said = hostler(kvm1, "--config-file", path, "server", "migrate", "waiting", "--to", "kvm2")
        assert_refused(said, "the database does not answer at", "try: see that it runs", code=1)
        assert words in said.err and "secret" not in said.err

    lab.zookeeper.kill()
    said = hostler(kvm1, "server", "migrate", "waiting", "--to", "kvm2")
    listed = hostler(kvm1, "server", "list")
    lab.zookeeper.start()

    assert_refused(
        said, f"ZooKeeper does not answer at {lab.zookeeper.hosts}", "try: see that it runs", code=1
    )
    assert (listed.code, "waiting" in listed.out) == (0, True)
    wait_ready(*lab.hosts)
    assert move(kvm1, "waiting", "kvm2").code == 0


def test_half_a_configuration_is_refused(kvm1: Host) -> None:
    halves = {
        "[zookeeper]\nhosts = 10.0.0.1:2181\n": "[database] connection is not set",
        "[database]\nconnection = sqlite:////tmp/x.db\n": "[zookeeper] hosts is not set",
        "[DEFAULT]\nmy_ip = 10.0.0.1\n[database]\nconnection = nonsense\n[zookeeper]\nhosts = a:1\n": (
            "[database] connection"
        ),
        "nonsense\n": "half.conf",
    }
    for text, words in halves.items():
        kvm1.path("/root/half.conf").write_text(text)
        for command in (("server", "list"), ("worker",)):
            said = hostler(kvm1, "--config-file", "/root/half.conf", *command)
            assert (said.code, words in said.err, "Traceback" in said.err) == (3, True, False), said


def test_every_list_and_show_is_json_for_programs(kvm1: Host, kvm2: Host) -> None:
    guest = Guest("listed").create(kvm1)
    wait_known(kvm1, guest)
    assert move(kvm1, "listed", "kvm2").code == 0

    for words in (("server", "list"), ("host", "list"), ("migration", "list"), ("flow", "list")):
        assert told(kvm1, *words)
    assert told(kvm1, "server", "show", "listed")["uuid"] == guest.uuid
    assert told(kvm1, "host", "show", "kvm2")["worker"] == "up"
    shown = told(kvm1, "migration", "show", "listed")
    assert (shown["outcome"], shown["source"], shown["dest"]) == ("success", "kvm1", "kvm2")
    assert {step["state"] for step in shown["steps"]} == {"done"}
    assert shown["history"][0]["kind"] == "posted"
    for words in (("flow", "graph", "cold_migration"), ("migration", "graph", "listed")):
        assert json.loads(hostler(kvm1, *words, "--format", "json").out)
        assert "<svg" in hostler(kvm1, *words, "--format", "svg").out
    lines = hostler(kvm1, "migration", "watch", "listed", "--format", "ndjson").out.splitlines()
    assert json.loads(lines[-1])["outcome"] == "success"


def new_uuid() -> str:
    return str(uuid.uuid4())


def _configuration(host: Host, name: str, text: str) -> str:
    """Write a second settings file, as the host's own but for *text*; return its path."""
    path = f"/root/{name}.conf"
    own = host.path("/etc/hostler/hostler.conf").read_text()
    host.path(path).write_text(f"{own}\n{text}")
    return path
