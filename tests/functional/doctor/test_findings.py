"""Each thing that may be left behind is found, named with its host and a command; --fix removes what is safe."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import select

from hostler.cli.app import HostlerApp
from hostler.jobboard.doctor import Finding
from hostler.records.models import Binding
from tests.functional.doctor import planted
from tests.functional.doctor.conftest import Ward
from tests.functional.doctor.planted import SAFE, UNSAFE
from tests.support.world import INSTANCES, World

KINDS = [
    "kept",
    "part",
    "aside",
    "removal",
    "made",
    "mark",
    "proof",
    "state-migrations",
    "state-images",
    "receiver",
    "receiver-record",
    "left-mark",
    "unknown-mark",
    "abandoned-guest",
    "defined-twice",
    "elsewhere",
    "no-domain",
    "no-record",
    "autostart",
    "paused",
    "claim",
    "reservation",
    "binding",
    "task-state",
    "debt",
    "unknown-host",
    "parked",
    "stale-job",
    "unreadable-job",
    "no-job",
    "never-posted",
    "held",
    "unreadable-place",
    "parked-notice",
    "no-parked-notice",
    "wish",
    "strange-board",
]


def kind_of(name: str) -> str:
    """The longest kind that a plant's name begins with."""
    return max((kind for kind in KINDS if name.startswith(kind.replace("-", "_"))), key=len)


def the(ward: Ward, name: str) -> Finding:
    found = [one for one in ward.examine().findings if one.kind == kind_of(name)]
    assert len(found) == 1, ward.examine().findings
    return found[0]


def assert_says(finding: Finding, words: list[str]) -> None:
    said = f"{finding.host} {finding.text} {finding.command}"
    assert [word for word in words if word not in said] == [], said


@pytest.mark.parametrize("name", SAFE)
def test_what_is_proven_garbage_is_named_and_removed(world: World, ward: Ward, name: str) -> None:
    words = SAFE[name](world)
    found = the(ward, name)
    assert_says(found, words)
    assert found.safe
    assert found.command.startswith("hostler doctor --fix")
    assert ward.examine().exit_code == 5
    report = ward.fix()
    assert [one.kind for one in report.findings if one.mended] == [kind_of(name)]
    assert report.exit_code == 0, report
    assert ward.examine().findings == []


@pytest.mark.parametrize("name", UNSAFE)
def test_what_is_in_doubt_is_named_and_left(world: World, ward: Ward, name: str) -> None:
    words = UNSAFE[name](world)
    found = the(ward, name)
    assert_says(found, words)
    assert not found.safe
    before, jobs = world.look(), world.board.client.get_children(world.board.path("instances"))
    report = ward.fix()
    assert report.exit_code == 5
    assert found in report.findings
    assert world.look() == before
    assert world.board.client.get_children(world.board.path("instances")) == jobs


@pytest.mark.parametrize("name", SAFE | UNSAFE)
def test_what_it_tells_to_type_exists(world: World, ward: Ward, name: str) -> None:
    (SAFE | UNSAFE)[name](world)
    for finding in ward.examine().findings:
        host, _, words = finding.command.rpartition(": ")
        program, *arguments = shlex.split(words)
        assert host == (f"on {finding.host}" if host else "")
        if program == "hostler":
            parse(arguments)
        else:
            assert program in (
                "virsh",
                "rm",
                "mv",
                "ls",
                "lvs",
                "kill",
                "systemctl",
                "journalctl",
                "zkCli.sh",
            )


def parse(arguments: list[str]) -> None:
    entries = {
        one.name.replace("_", " "): one for one in importlib.metadata.entry_points(group="hostler.commands")
    }
    name = next(one for one in entries if " ".join(arguments).startswith(one))
    parser = entries[name].load()(HostlerApp(), None).get_parser(name)
    parser.parse_args(arguments[len(name.split()) :])


def test_every_kind_is_planted() -> None:
    assert {kind_of(name) for name in SAFE | UNSAFE} == set(KINDS)


def test_every_kind_is_in_the_manual() -> None:
    page = (Path(__file__).parents[3] / "docs" / "doctor.rst").read_text()
    others = {"allocation", "port-binding", "volume-attachment"}
    others |= {"journal", "lock", "never-packed", "receiver-process", "unseen"}
    assert set(re.findall(r"^``([a-z-]+)`` ", page, re.MULTILINE)) == set(KINDS) | others


def test_what_was_written_ahead_is_no_reason_to_worry(world: World, ward: Ward) -> None:
    number = planted.journal(world)
    found = ward.the("journal")
    assert (found.object, found.severity, found.safe) == (number, "info", True)
    assert ward.examine().exit_code == 0
    assert ward.fix().findings[0].mended
    assert ward.examine().findings == []


def test_an_aside_copy_that_a_server_uses_is_left(world: World, ward: Ward) -> None:
    path = planted.aside_directory_of_a_confirmed_migration(world)[1]
    server = world.add_server(running=False)
    hypervisor = world.hosts["kvm1"].hypervisor
    guest = hypervisor.guests[server]
    guest.xml = guest.xml.replace(f"{INSTANCES}/{server}/web1-data.raw", f"{path}/disk")
    report = ward.fix()
    (found,) = report.findings
    assert "is used by web1" in found.text
    assert report.exit_code == 5
    assert world.hosts["kvm1"].at(f"{path}/disk").read_bytes() == b"bytes"


def test_an_aside_copy_that_has_changed_hands_is_left(world: World, ward: Ward) -> None:
    """Between the look and the removal somebody else's directory has taken the name."""
    path = planted.aside_directory_of_a_confirmed_migration(world)[1]
    files = world.hosts["kvm1"].drivers.files
    (mark,) = files.marked([])
    world.hosts["kvm1"].at(path).rename(world.hosts["kvm1"].at(f"{INSTANCES}/elsewhere"))
    planted.directory(world, "kvm1", path)
    with pytest.raises(Exception, match="does not belong"):
        files.remove_marked(mark, [])
    assert world.hosts["kvm1"].at(f"{path}/disk").exists()


def test_a_mended_binding_is_where_its_server_is(world: World, ward: Ward) -> None:
    planted.binding(world)
    ward.fix()
    with world.database.reading() as session:
        (left,) = session.scalars(select(Binding))
    assert (left.host, left.active, left.migration_uuid) == ("kvm1", True, None)


def test_a_job_that_was_put_back_is_carried_out(world: World, ward: Ward) -> None:
    number = planted.no_job(world)[1]
    ward.fix()
    world.run()
    assert world.migration(number).outcome == "success"


def test_an_attempt_that_follows_another_is_posted_and_not_given_up(world: World, ward: Ward) -> None:
    number = planted.never_posted(world)[1]
    with world.database.transaction() as session:
        row = session.get_one(planted.Migration, number)
        row.retry_of, row.updated_at = "the attempt before", row.created_at - datetime.timedelta(minutes=5)
    ward.the("never-posted")
    ward.fix()
    world.run()
    assert world.migration(number).outcome == "success"


def test_a_lock_without_a_worker_is_named(world: World, ward: Ward) -> None:
    world.add_server()
    number = world.client.migrate("web1", "kvm2", requested_by="tester")
    claim = world.board.claim("kvm1", number)
    assert claim is not None
    ward.worker_dies("kvm1")
    found = ward.the("lock")
    assert (found.host, found.object) == ("kvm1", number)
    assert found.command == "on kvm1: systemctl start hostler-worker"


@pytest.mark.parametrize("known", [True, False])
def test_a_process_that_takes_images_for_nobody_is_ended_if_it_is_ours(
    world: World, ward: Ward, known: bool
) -> None:
    number = planted.recorded(world) if known else planted.unknown()
    offered = world.hosts["kvm2"].root / "run/hostler/images" / number / "exports"
    sleeping = "import time; print('up', flush=True); time.sleep(60)"
    with subprocess.Popen(
        [sys.executable, "-c", sleeping, "--tls=off", f"dir={offered}"], stdout=subprocess.PIPE
    ) as one:
        assert one.stdout is not None
        one.stdout.readline()
        found = ward.the("receiver-process")
        assert (found.host, found.object, found.safe) == ("kvm2", str(one.pid), known)
        assert found.command == ("hostler doctor --fix --host kvm2" if known else f"on kvm2: kill {one.pid}")
        ward.fix()
        assert (one.poll() is None) is not known
        if one.poll() is None:
            os.kill(one.pid, 15)


def test_what_packed_images_need_is_named_where_it_is_missing(
    world: World, ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world.hosts["kvm2"].receiver, "never_packed", lambda: "No module named 'zstandard'")
    found = ward.the("never-packed")
    assert (found.host, found.severity, found.safe) == ("kvm2", "info", False)
    assert found.text == "images arrive as they are, never packed: No module named 'zstandard'"
    assert found.command == "on kvm2: apt-get install nbdkit-plugin-python python3-zstandard"
    assert ward.examine().exit_code == 0


def test_what_is_left_where_a_server_was_alone_in_its_pool_is_found(world: World, ward: Ward) -> None:
    """No domain is left there: the migration's own record says where it was."""
    world.add_server(layout="pool")
    world.migrate("web1")
    with world.database.transaction() as session:
        session.query(planted.Migration).update({"status": "error"})
    assert {one.kind for one in ward.examine("kvm1").findings} >= {"aside"}
