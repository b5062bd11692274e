"""A host that cannot be looked at is a finding of its own, and nobody waits for it for long."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from hostler.drivers.files.marked import Marked, MarkKind
from hostler.errors import ServerUnreachable
from hostler.jobboard import lock
from hostler.jobboard.doctor import Doctor, Finding, Report
from hostler.jobboard.doctor.letters import Asking
from hostler.jobboard.doctor.mend_host import Hands
from hostler.jobboard.worker import Worker
from hostler.records.models import Migration
from lab.process import wait_until
from tests.functional.doctor import planted
from tests.functional.doctor.conftest import Ward
from tests.support import LONGER_THAN_A_TEST_S
from tests.support.world import World


def test_a_dead_worker_is_named_at_once_and_the_rest_is_looked_at(world: World, ward: Ward) -> None:
    planted.part(world)
    planted.aside_directory_of_a_confirmed_migration(world)
    ward.worker_dies("kvm2")
    report = Doctor(world.database, world.client.board, timeout_s=LONGER_THAN_A_TEST_S).examine()
    assert (report.exit_code, report.unseen, report.hosts) == (1, ["kvm2"], ["kvm1"])
    unseen, aside = report.findings
    assert unseen.text == "kvm2 cannot be looked at: no worker is alive"
    assert unseen.command == "on kvm2: systemctl start hostler-worker"
    assert (aside.host, aside.kind) == ("kvm1", "aside")


def test_a_worker_that_hangs_is_not_waited_for_for_ever(world: World) -> None:
    """Nobody serves the requests here, and both hosts are announced."""
    report = Doctor(world.database, world.client.board, timeout_s=0.5).examine()
    assert report.exit_code == 1
    assert {one.text for one in report.findings} == {
        f"{host} cannot be looked at: its worker did not answer within 0 s" for host in ("kvm1", "kvm2")
    }
    for host in world.hosts:
        assert world.board.client.get_children(world.board.path("doctor", host)) == []


def test_a_worker_that_dies_while_it_looks_is_a_dead_one(world: World) -> None:
    threading.Timer(0.5, lambda: world.board.client.delete(world.board.path("workers", "kvm2"))).start()
    report = Doctor(world.database, world.client.board, timeout_s=3).examine("kvm2")
    assert [one.text for one in report.findings] == ["kvm2 cannot be looked at: no worker is alive"]


def test_a_host_without_libvirt_says_so(world: World, ward: Ward) -> None:
    world.hosts["kvm2"].hypervisor.powered = False
    found = ward.the("unseen")
    assert found.host == "kvm2"
    assert "libvirt does not answer" in found.text


def test_more_than_a_node_takes_is_said(world: World, ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    many = [Marked(f"/x/{planted.unknown()}", MarkKind.PART, planted.unknown()) for _ in range(30_000)]
    monkeypatch.setattr(world.hosts["kvm2"].drivers.files, "marked", lambda *_: many)
    assert "more to tell than ZooKeeper takes" in ward.the("unseen").text


def test_an_answer_that_nobody_can_read_is_said(world: World) -> None:
    """Another version's worker, or somebody with a ZooKeeper shell."""
    path = world.board.path("doctor", "kvm2")
    world.board.client.ensure_path(path)
    ended = threading.Event()

    def meddle() -> None:
        while not ended.is_set():
            for request in world.board.client.get_children(path):
                world.board.client.set(f"{path}/{request}", b"nonsense")
            ended.wait(0.05)

    thread = threading.Thread(target=meddle)
    thread.start()
    try:
        report = Doctor(world.database, world.client.board, timeout_s=2).examine("kvm2")
    finally:
        ended.set()
        thread.join()
    assert [one.text for one in report.findings] == ["kvm2 cannot be looked at: its answer cannot be read"]


def test_zookeeper_away_is_an_error_and_no_finding(world: World, ward: Ward) -> None:
    board = world.client.board
    doctor = Doctor(world.database, board, timeout_s=1)
    board.client.stop()
    with pytest.raises(ServerUnreachable):
        doctor.examine()


# -- the real worker --------------------------------------------------------------------------------------


@contextmanager
def worker(world: World, host: str) -> Iterator[Worker]:
    """Run a host's worker in a thread."""
    world.board.client.delete(world.board.path("workers", host))
    one = world.hosts[host]
    conf = world.conf
    conf.set_override("host", host)
    conf.set_override("my_ip", one.address)
    conf.set_override("state_path", one.state_path)
    conf.set_override("run_path", str(one.root / "run/hostler"))
    made = Worker(conf, world.database, one.drivers)
    thread = threading.Thread(target=made.run)
    thread.start()
    try:
        wait_until(lambda: host in world.board.alive(), f"the worker of {host}", 20)
        yield made
    finally:
        made.stop()
        thread.join(30)


def test_a_worker_looks_at_its_host_and_mends_it(world: World) -> None:
    path = planted.part(world)[1]
    doctor = Doctor(world.database, world.client.board, timeout_s=LONGER_THAN_A_TEST_S)
    world.board.client.delete(world.board.path("workers", "kvm1"))
    with worker(world, "kvm2"):
        (found,) = doctor.examine("kvm2").findings
        assert found.object == path
        report = doctor.fix("kvm2")
        assert [(one.kind, one.mended) for one in report.findings] == [("part", True)]
        assert doctor.examine("kvm2").findings == []
    assert not world.hosts["kvm2"].at(path).exists()


def test_a_worker_that_starts_late_answers_what_was_asked_before(world: World) -> None:
    path = planted.part(world)[1]
    doctor = Doctor(world.database, world.client.board, timeout_s=20)
    reports: list[Report] = []
    asking = threading.Thread(target=lambda: reports.append(doctor.examine("kvm2")))
    asking.start()
    node = world.board.path("doctor", "kvm2")
    client = world.board.client
    wait_until(lambda: bool(client.exists(node) and client.get_children(node)), "a request")
    ward = Ward(world)
    asking.join(30)
    ward.end()
    assert [one.object for one in reports[0].findings] == [path]


# -- what a request cannot do -----------------------------------------------------------------------------


def test_a_forged_request_removes_nothing_that_is_in_doubt(world: World, ward: Ward) -> None:
    path = planted.aside_of_an_undone_migration(world)[1]
    found = ward.the("aside")
    question = {"ask": "mend", "keys": [found.key, "aside kvm1 /etc", "part kvm1 /"]}
    assert Asking(world.client.board, 10).ask({"kvm1": question}) == {"kvm1": {"left": {}}}
    assert world.hosts["kvm1"].at(path).exists()


def test_nothing_is_mended_while_a_step_works_on_the_server(world: World, ward: Ward) -> None:
    path = planted.part(world)[1]
    with lock.held(str(world.hosts["kvm2"].root / "run/hostler"), f"instance-{planted.SOMEBODY}"):
        report = ward.fix()
    assert "it was left: instance-" in report.findings[0].text
    assert world.hosts["kvm2"].at(path).exists()
    assert ward.fix().exit_code == 0


def test_a_migration_that_was_opened_again_meanwhile_keeps_its_files(
    world: World, ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the host's second look and the removal an operator lets the migration go on."""
    path = planted.part(world)[1]
    real = Hands.mend

    def reopened(hands: Hands, finding: Finding) -> None:
        with world.database.transaction() as session:
            session.get(Migration, finding.migration).phase = "open"
        real(hands, finding)

    monkeypatch.setattr(Hands, "mend", reopened)
    ward.fix()
    assert world.hosts["kvm2"].at(path).exists()
