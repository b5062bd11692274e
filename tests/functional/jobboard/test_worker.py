"""Workers at work: in threads, as processes that are killed, and over a ZooKeeper that goes and comes back."""

from __future__ import annotations

import json
import logging
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from kazoo.exceptions import OperationTimeoutError

from hostler.errors import Refused, ServerUnreachable
from hostler.jobboard.board import Posting
from hostler.jobboard.reconciler import Reconciler
from hostler.jobboard.worker import Worker
from hostler.records import fence
from hostler.tasks.base import Leg
from lab.process import wait_until
from lab.zookeeper import ZooKeeper
from tests.functional.jobboard.yard import HOST_OF, PLACES, STEPS, Yard, connected, expire, told

NAMES = [name for name, _ in STEPS]


@pytest.fixture(autouse=True)
def _said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


class Gate:
    """Holds steps until it is opened, and counts how many it holds."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self._lock = threading.Lock()
        self.inside = 0
        self.most = 0

    def __call__(self, leg: Leg) -> None:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        while not self._open.wait(0.02):
            leg.checkpoint()
        with self._lock:
            self.inside -= 1

    def open(self) -> None:
        self._open.set()


# -- threads ----------------------------------------------------------------------------------------------


def test_workers_pass_a_migration_on_without_polling(
    any_yard: Yard, caplog: pytest.LogCaptureFixture
) -> None:
    # Nobody looks at a board by itself for 30 s; the watches alone carry the migration through.
    with told() as script:
        for host in ("kvm1", "kvm2"):
            any_yard.start_worker(host, zookeeper__relist_interval=30.0)
        migration = any_yard.ask()
        row = any_yard.wait_for_end(migration, 15)
        assert row.outcome == "success"
        assert script.said == [("execute", name, HOST_OF[PLACES[name]]) for name in NAMES]
        wait_until(lambda: any_yard.board.held_instances() == [], "the last consumption", 10)
    server = row.instance_name
    for sentence in (
        "worker of kvm1 is ready",
        f"{server}: look",
        f"{server}: kvm2 goes on with claim",
        f"{server}: kvm1 goes on with stop",
        "ended: success",
    ):
        assert sentence in caplog.text


def test_an_idle_worker_asks_zookeeper_nothing(yard: Yard) -> None:
    asked = threading.Event()
    with told():
        worker, _ = yard.start_worker("kvm1")
        migration = yard.ask()
        wait_until(lambda: yard.jobs()["kvm2"] == [migration], "the hand-over", 10)
        client = worker._board.client
        real = client._call

        def call(*arguments: Any) -> Any:
            asked.set()
            return real(*arguments)

        wait_until(lambda: not worker._legs, "the leg's end", 10)
        # Its last look at the board may still be under way.
        wait_until(lambda: not _asks(client, call, asked, 0.2), "silence", 10)
        assert not _asks(client, call, asked, 1.5)


def _asks(client: Any, call: Any, asked: threading.Event, seconds: float) -> bool:
    asked.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client, "_call", call)
        return asked.wait(seconds)


def test_a_worker_does_no_more_at_once_than_it_is_allowed(yard: Yard) -> None:
    gate = Gate()
    with told(during={"look": gate}):
        yard.start_worker("kvm1", max_concurrent_migrations=2)
        migrations = [yard.ask() for _ in range(5)]
        wait_until(lambda: gate.inside == 2, "two at work", 10)
        gate.open()
        wait_until(lambda: yard.jobs()["kvm2"] == sorted(migrations), "all handed over", 20)
        assert gate.most == 2


def test_a_worker_that_stops_gives_its_job_back_and_its_successor_goes_on(yard: Yard) -> None:
    gate = Gate()
    with told(during={"send": gate}) as script:
        yard.start_worker("kvm2")
        worker, thread = yard.start_worker("kvm1")
        migration = yard.ask()
        wait_until(lambda: gate.inside == 1, "the step", 10)
        worker.stop()
        gate.open()
        thread.join(20)
        assert not thread.is_alive()
        assert "kvm1" not in yard.board.workers()
        yard.start_worker("kvm1")
        assert yard.wait_for_end(migration).outcome == "success"
        assert script.order("execute") == NAMES
        assert script.order("revert") == []


def test_a_second_worker_of_a_host_is_refused(yard: Yard) -> None:
    yard.start_worker("kvm1")
    with pytest.raises(Refused, match="runs already"):
        Worker(yard.new_conf("kvm1"), yard.database, yard.drivers["kvm1"]).run()


def test_another_machine_of_the_same_name_is_refused(yard: Yard, tmp_path: Path) -> None:
    yard.start_worker("kvm1", zookeeper__session_timeout=1.0)
    conf = yard.new_conf("kvm1", run_path=str(tmp_path / "other"), zookeeper__session_timeout=1.0)
    with pytest.raises(Refused, match="another machine works as kvm1"):
        Worker(conf, yard.database, yard.drivers["kvm1"]).run()
    assert "kvm1" in yard.board.workers()


def test_a_worker_waits_for_the_session_of_the_one_before_it(
    yard: Yard, zookeeper_hosts: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = connected(zookeeper_hosts)
    before.create(yard.board.path("workers", "kvm1"), b"{}", ephemeral=True)
    with told():
        yard.start_worker("kvm1")
        migration = yard.ask()
        sentence = "waiting for the session of this host's earlier worker to end"
        wait_until(lambda: sentence in caplog.text, "the wait", 10)
        assert yard.jobs()["kvm1"] == [migration]
        before.stop()
        before.close()
        wait_until(lambda: yard.jobs()["kvm2"] == [migration], "the hand-over", 10)


def test_a_job_that_cannot_be_read_is_looked_at_now_and_then(
    yard: Yard, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims = []
    real = type(yard.board).claim
    monkeypatch.setattr(
        type(yard.board), "claim", lambda self, host, job: claims.append(job) or real(self, host, job)
    )
    with told():
        yard.start_worker("kvm1")
        yard.start_worker("kvm2")
        yard.zookeeper.create(yard.board.path("boards", "kvm1", "by-hand"), b"{}")
        wait_until(lambda: "by-hand" in claims, "a look", 10)
        assert yard.wait_for_end(yard.ask()).outcome == "success"
    assert claims.count("by-hand") <= 2
    assert "was not written by this version of hostler; tried again in 1 s" in caplog.text
    assert yard.jobs()["kvm1"] == ["by-hand"]


def test_a_server_that_does_not_answer_is_asked_again_and_nothing_is_undone(
    yard: Yard, caplog: pytest.LogCaptureFixture
) -> None:
    calls = []

    def unreachable_once(_leg: Leg) -> None:
        calls.append(1)
        if len(calls) == 1:
            raise ServerUnreachable(what="libvirt", where="qemu:///system", reason="connection refused")

    with told(during={"look": unreachable_once}) as script:
        yard.start_worker("kvm1")
        yard.start_worker("kvm2")
        assert yard.wait_for_end(yard.ask()).outcome == "success"
        assert script.order("revert") == []
    assert "libvirt does not answer at qemu:///system: connection refused; tried again in 1 s" in caplog.text


def test_a_session_that_expires_in_a_step_hands_the_step_to_the_next_claim(
    yard: Yard, zookeeper_hosts: str
) -> None:
    gate = Gate()
    with told(during={"send": gate}) as script:
        worker, _ = yard.start_worker("kvm1")
        yard.start_worker("kvm2")
        migration = yard.ask()
        wait_until(lambda: gate.inside == 1, "the step", 10)
        expire(worker._board.client, zookeeper_hosts)
        gate.open()
        assert yard.wait_for_end(migration).outcome == "success"
        assert script.order("revert") == []
        assert script.order("execute").count("send") == 2
        wait_until(lambda: "kvm1" in yard.board.workers(), "the worker's new announcement", 10)


def test_a_job_whose_giving_back_failed_is_taken_again(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    real = type(yard.board).hand_over
    fails = [True]

    def no_answer(*_arguments: Any, **_keywords: Any) -> None:
        raise OperationTimeoutError

    def hand_over(self: Any, claim: Any, host: str) -> None:
        if fails:
            fails.clear()
            no_answer()
        real(self, claim, host)

    monkeypatch.setattr(type(yard.board), "hand_over", hand_over)
    monkeypatch.setattr(type(yard.board), "abandon", no_answer)
    with told() as script:
        yard.start_worker("kvm1")
        yard.start_worker("kvm2")
        assert yard.wait_for_end(yard.ask()).outcome == "success"
        assert script.order("execute") == NAMES
        monkeypatch.undo()


# -- processes --------------------------------------------------------------------------------------------


class Process:
    """A worker as a process."""

    def __init__(self, yard: Yard, host: str, slow: list[str]) -> None:
        self.log = yard.directory / f"{host}.log"
        facts = {
            "directory": str(yard.directory),
            "slow": slow,
            "settings": {
                "database__connection": yard.database_url,
                "zookeeper__hosts": [yard.zookeeper_hosts],
                "zookeeper__root": yard.root,
                "zookeeper__session_timeout": 2.0,
                "host": host,
                "my_ip": "127.0.0.1",
                "state_path": str(yard.directory / host / "state"),
                "run_path": str(yard.directory / host / "run"),
            },
        }
        command = [sys.executable, "-m", "tests.functional.jobboard.runner", json.dumps(facts)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def ready(self, times: int = 1) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        return self.log.read_text().count("is ready") >= times

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)


@contextmanager
def processes() -> Iterator[list[Process]]:
    """Collect processes, and see the end of them."""
    running: list[Process] = []
    try:
        yield running
    finally:
        for one in running:
            one.process.kill()
            one.process.wait(30)


def test_sigterm_ends_a_worker_after_its_step_and_the_next_goes_on(yard: Yard) -> None:
    began, go = yard.directory / "stop.began", yard.directory / "stop.go"
    with told(), processes() as running:
        running += [Process(yard, host, ["stop"]) for host in ("kvm1", "kvm2")]
        wait_until(lambda: all(one.ready() for one in running), "the workers", 30)
        migration = yard.ask()
        wait_until(began.exists, "the step", 20)
        running[0].process.send_signal(signal.SIGTERM)
        go.touch()
        assert running[0].process.wait(30) == 0, running[0].log.read_text()
        assert "kvm1" not in yard.board.workers()
        assert "worker of kvm1 has ended" in running[0].log.read_text()
        assert yard.states(migration)["stop"] == "SUCCESS"
        running.append(Process(yard, "kvm1", []))
        wait_until(lambda: running[2].ready(times=2), "the successor", 30)
        assert yard.wait_for_end(migration).outcome == "success"
        assert len(began.read_text().split()) == 1, "the step was not repeated"
        for one in running[1:]:
            assert one.end(signal.SIGTERM) == 0, one.log.read_text()


def test_a_worker_killed_in_a_step_is_waited_for_and_its_step_carried_out_again(yard: Yard) -> None:
    began, go = yard.directory / "send.began", yard.directory / "send.go"
    with told(), processes() as running:
        running += [Process(yard, host, ["send"]) for host in ("kvm1", "kvm2")]
        wait_until(lambda: all(one.ready() for one in running), "the workers", 30)
        migration = yard.ask()
        wait_until(began.exists, "the step", 20)
        running[0].end(signal.SIGKILL)
        go.touch()
        running.append(Process(yard, "kvm1", ["send"]))
        wait_until(lambda: running[2].ready(times=2), "the successor", 30)
        assert yard.wait_for_end(migration).outcome == "success"
        assert len(set(began.read_text().split())) == 2, "both processes began the step"
        for one in running[1:]:
            assert one.end(signal.SIGTERM) == 0, one.log.read_text()


# -- a ZooKeeper that goes and comes back -----------------------------------------------------------------


@pytest.fixture
def own_zookeeper(tmp_path: Path) -> Iterator[ZooKeeper]:
    with ZooKeeper(tmp_path / "zookeeper") as server:
        yield server


@pytest.fixture
def mortal_yard(tmp_path: Path, own_zookeeper: ZooKeeper) -> Iterator[Yard]:
    """Two hosts whose ZooKeeper the test may kill."""
    with Yard(tmp_path, own_zookeeper.hosts, f"sqlite:///{tmp_path}/records.db") as made:
        yield made


@pytest.mark.parametrize("wiped", [False, True], ids=["restarted", "wiped"])
def test_a_migration_survives_a_zookeeper_that_is(
    mortal_yard: Yard, own_zookeeper: ZooKeeper, wiped: bool
) -> None:
    yard, gate = mortal_yard, Gate()
    with told(during={"send": gate}) as script:
        for host in ("kvm1", "kvm2"):
            yard.start_worker(host)
        migration = yard.ask()
        wait_until(lambda: gate.inside == 1, "the step", 10)
        claimed = yard.board.posting("kvm1", migration)
        assert claimed is not None
        own_zookeeper.kill()
        gate.open()
        if wiped:
            shutil.rmtree(own_zookeeper.directory / "data")
            yard.zookeeper.last_zxid = 0  # as the workers will; this client's own session is a long one
        own_zookeeper.start()
        row = yard.wait_for_end(migration, 40)
        assert row.outcome == "success"
        assert script.order("revert") == []
        assert script.order("execute")[-2:] == ["send", "verify"]
        with yard.database.reading() as session:
            assert fence.current_epoch(session, migration) > claimed.epoch
        wait_until(
            lambda: set(yard.zookeeper.retry(yard.board.workers)) == {"kvm1", "kvm2"},
            "both announcements",
            20,
        )


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "at work"])
def test_a_worker_ends_although_zookeeper_does_not_answer(
    mortal_yard: Yard, own_zookeeper: ZooKeeper, busy: bool, caplog: pytest.LogCaptureFixture
) -> None:
    yard, gate = mortal_yard, Gate()
    with told(during={"look": gate}):
        worker, thread = yard.start_worker("kvm1", graceful_shutdown_timeout=2)
        if busy:
            yard.ask()
            wait_until(lambda: gate.inside == 1, "the step", 10)
        own_zookeeper.kill()
        wait_until(lambda: not worker._board.client.connected, "silence", 10)
        worker.stop()
        gate.open()
        thread.join(20)
        assert not thread.is_alive()
        own_zookeeper.start()
    assert "ZooKeeper does not answer: the worker ends without it" in caplog.text


def test_a_lost_job_is_posted_again_above_every_epoch(yard: Yard) -> None:
    with told() as script:
        migration = yard.ask()
        yard.turn("kvm1", migration)
        yard.turn("kvm2", migration)
        yard.zookeeper.delete(yard.board.path("instances"), recursive=True)
        yard.zookeeper.delete(yard.board.path("boards"), recursive=True)
        mended = Reconciler(yard.database, yard.board, posting_timeout_s=30).run()
        assert mended == [f"the job of migration {migration} was gone and is on kvm1's board again"]
        posting = yard.board.posting("kvm1", migration)
        assert posting is not None
        assert posting.epoch == 2
        assert Reconciler(yard.database, yard.board, posting_timeout_s=30).run() == []
        yard.run()
        assert script.order("execute") == NAMES


def test_a_server_held_for_a_migration_that_is_over_is_let_go(yard: Yard) -> None:
    with told():
        migration = yard.ask()
        yard.run()
    row = yard.migration(migration)
    assert yard.board.post("kvm1", Posting(migration, row.instance_uuid, row.flow_name, row.flow_uuid))
    yard.zookeeper.delete(yard.board.path("boards", "kvm1", migration))
    (sentence,) = Reconciler(yard.database, yard.board, posting_timeout_s=30).run()
    assert "let go" in sentence
    assert yard.board.held_instances() == []
