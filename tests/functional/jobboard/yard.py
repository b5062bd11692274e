"""Two hosts in one process: real boards, real records, and steps that only say that they ran."""

from __future__ import annotations

import io
import itertools
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
from kazoo.client import KazooClient, TransactionRequest
from kazoo.exceptions import ConnectionLoss
from kazoo.retry import KazooRetry
from oslo_config import cfg
from taskflow.patterns import linear_flow

from benchmarks.control.noop import drivers
from hostler import conf as settings
from hostler import flows
from hostler.errors import Interrupted
from hostler.jobboard import posting
from hostler.jobboard.board import Board
from hostler.jobboard.client import Client
from hostler.jobboard.doctor import Doctor, Report
from hostler.jobboard.jobs import Claim
from hostler.jobboard.leg import End, MigrationLeg
from hostler.jobboard.posting import Ending
from hostler.jobboard.tether import Tether
from hostler.jobboard.worker import Worker
from hostler.jobboard.zookeeper import connect, disconnect
from hostler.records import hosts, moves
from hostler.records.database import Database
from hostler.records.models import AtomRow, Instance, Migration
from hostler.tasks.base import DEST, SOURCE, HostTask, Leg, Timeouts
from lab.process import wait_until

HOSTS = ("kvm1", "kvm2")
FLOW = "four_turns"


class StepFailed(Exception):
    """What a step of these tests raises."""


class Killed(BaseException):
    """The process is gone: nothing after this line of its code happens."""


# -- steps that say what they do --------------------------------------------------------------------------


@dataclass
class Script:
    """What the steps of a test have done, and what they shall do."""

    said: list[tuple[str, str, str]] = field(default_factory=list)  #: (execute or revert, step, host)
    of: list[tuple[str, str, str]] = field(default_factory=list)  #: (execute or revert, step, migration)
    failing: set[str] = field(default_factory=set)  #: steps whose execute raises
    undo_failing: set[str] = field(default_factory=set)  #: steps whose revert raises
    during: dict[str, Callable[[Leg], Any]] = field(default_factory=dict)  #: called within a step's execute

    def order(self, kind: str) -> list[str]:
        """Return the steps that did *kind*, in order."""
        return [step for did, step, _ in self.said if did == kind]


SCRIPT = Script()


class Say(HostTask):
    """Say that this step ran.

    Reverts by: saying so.
    """

    def __init__(self, name: str, where: str) -> None:
        super().__init__(name=name)
        self.where = where  # type: ignore[misc]

    def execute(self, leg: Leg) -> Any:
        """Do what the test wants."""
        SCRIPT.said.append(("execute", self.name, leg.host))
        SCRIPT.of.append(("execute", self.name, leg.migration.uuid))
        result = SCRIPT.during[self.name](leg) if self.name in SCRIPT.during else None
        if self.name in SCRIPT.failing:
            raise StepFailed(f"{self.name} was told to fail")
        return result

    def revert(self, leg: Leg, **_: Any) -> None:
        """Say so."""
        SCRIPT.said.append(("revert", self.name, leg.host))
        SCRIPT.of.append(("revert", self.name, leg.migration.uuid))
        if self.name in SCRIPT.undo_failing:
            raise StepFailed(f"the undo of {self.name} was told to fail")


#: Name and place of each step: four turns of two hosts.
STEPS = (
    ("look", SOURCE),
    ("claim", DEST),
    ("open", DEST),
    ("stop", SOURCE),
    ("send", SOURCE),
    ("verify", DEST),
)
PLACES = dict(STEPS)
HOST_OF = {SOURCE: "kvm1", DEST: "kvm2"}


def four_turns() -> linear_flow.Flow:
    """Pass between the hosts as a migration does, and change nothing."""
    return linear_flow.Flow(FLOW).add(*(Say(name, where) for name, where in STEPS))


@contextmanager
def told(**changes: Any) -> Iterator[Script]:
    """Let the steps follow a script of this test's own."""
    global SCRIPT
    SCRIPT = Script(**changes)
    flows.FLOWS[FLOW] = four_turns
    posting.ENDINGS[FLOW] = Ending(status="error", expected_task_state="resize_prep")
    try:
        yield SCRIPT
    finally:
        del flows.FLOWS[FLOW], posting.ENDINGS[FLOW]


# -- the hosts --------------------------------------------------------------------------------------------


class Yard:
    """Records and boards of kvm1 and kvm2; the test itself is both workers, or starts real ones."""

    def __init__(
        self, directory: Path, zookeeper_hosts: str, database_url: str, **settings_of_all: Any
    ) -> None:
        self.directory = directory
        self.settings_of_all = settings_of_all
        self.zookeeper_hosts = zookeeper_hosts
        self.database_url = database_url
        self.root = f"/yard-{uuid.uuid4().hex[:8]}"
        # Longer than any busy machine keeps it from saying that it lives; the workers' own are short.
        self.conf = self.new_conf("kvm1", zookeeper__session_timeout=20.0)
        self.database = Database(database_url)
        self.database.upgrade()
        self.zookeeper = connect(self.conf)
        self.board = Board(self.zookeeper, self.root)
        self.board.ensure(*HOSTS)
        self.client = Client(self.conf)
        self.screen = io.StringIO()  #: what commands have said
        self.drivers = {host: drivers() for host in HOSTS}
        self._numbers = itertools.count(1)
        self._workers: list[tuple[Worker, threading.Thread]] = []
        with self.database.transaction() as session:
            for host in HOSTS:
                hosts.report(
                    session,
                    host,
                    address="127.0.0.1",
                    resources=self.drivers[host].hypervisor.resources(),
                    worker_version="0",
                    cpu_allocation_ratio=4.0,
                    ram_allocation_ratio=1.0,
                    disk_allocation_ratio=1.0,
                    reserved_host_memory_mb=0,
                )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        for worker, thread in self._workers:
            worker.stop()
            thread.join(30)
            assert not thread.is_alive(), f"the worker of {worker.host} does not end"
        self.client.close()
        disconnect(self.zookeeper)
        self.database.close()

    def new_client(self) -> Client:
        """Return one more asking side, with a connection of its own."""
        return Client(self.conf)

    def new_conf(self, host: str, **settings_of: Any) -> cfg.ConfigOpts:
        """Return a host's settings: short times, directories of this test."""
        conf = settings.load(["/dev/null"])
        conf.set_override("connection", self.database_url, "database")
        conf.set_override("hosts", [self.zookeeper_hosts], "zookeeper")
        conf.set_override("root", self.root, "zookeeper")
        conf.set_override("session_timeout", 2.0, "zookeeper")
        conf.set_override("host", host)
        conf.set_override("my_ip", "127.0.0.1")
        conf.set_override("state_path", str(self.directory / host / "state"))
        conf.set_override("run_path", str(self.directory / host / "run"))
        for name, value in (self.settings_of_all | settings_of).items():
            group, _, option = name.rpartition("__")
            conf.set_override(option, value, group or None)
        return conf

    # -- asking -------------------------------------------------------------------------------------------

    def add_server(self, name: str | None = None) -> str:
        """Make the record of a running server on kvm1; return its UUID."""
        name = name or f"web{next(self._numbers)}"
        server = Instance(
            uuid=str(uuid.uuid4()),
            name=name,
            host="kvm1",
            vm_state="active",
            power_state="running",
            vcpus=1,
            memory_mb=128,
        )
        with self.database.transaction() as session:
            session.add(server)
        return server.uuid

    def announce(self) -> None:
        """Say that both workers are alive, as the requests want."""
        for host in HOSTS:
            self.zookeeper.create(self.board.path("workers", host), b"{}", ephemeral=True)

    def ask(self, flow: str = FLOW) -> str:
        """Ask for a migration of a new server; return the migration's uuid."""
        server = self.add_server()
        if flow == "cold_migration":
            return self.client.migrate(server, "kvm2", requested_by="tester")
        real = Client._new

        def of_this_flow(instance: Instance, dest: str, kind: str, _flow: str, *rest: Any) -> Migration:
            return real(instance, dest, kind, flow, *rest)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Client, "_new", staticmethod(of_this_flow))
            patch.setattr(Client, "live_workers", lambda _: {host: {} for host in HOSTS})
            return self.client.migrate(server, "kvm2", requested_by="tester")

    # -- taking turns -------------------------------------------------------------------------------------

    def claim(self, host: str, migration: str) -> Claim:
        """Take the job; it must be there for the taking."""
        claim = self.board.claim(host, migration)
        assert claim is not None
        return claim

    def leg(self, claim: Claim, tether: Tether | None = None, board: Board | None = None) -> MigrationLeg:
        """Return the leg of a claim."""
        timeouts = Timeouts(shutdown_s=1, shutdown_retry_s=1, guest_start_s=1, copy_s=1)
        return MigrationLeg(
            claim,
            board or self.board,
            self.database,
            self.drivers[claim.host],
            timeouts,
            self.conf.state_path,
            tether or Tether(),
        )

    def turn(self, host: str, migration: str) -> End:
        """Let one host take its turn; what interrupts it gives the job back, and is raised."""
        claim = self.claim(host, migration)
        try:
            return self.leg(claim).run()
        except Interrupted:
            self.board.abandon(claim, counts=False)
            raise

    def run(self) -> list[tuple[str, End]]:
        """Let the hosts take turns until no board has a job."""
        ends = []
        while jobs := [(host, job) for host in HOSTS for job in self.board.jobs(host)]:
            for host, job in jobs:
                ends.append((host, self.turn(host, job)))
                assert len(ends) < 100, f"the turns do not end: {ends[-10:]}"
        return ends

    # -- real workers -------------------------------------------------------------------------------------

    def start_worker(self, host: str, **settings_of: Any) -> tuple[Worker, threading.Thread]:
        """Start a host's worker in a thread, and wait until it says that it is alive."""
        conf = self.new_conf(host, **settings_of)
        worker = Worker(conf, self.database, self.drivers[host])
        thread = threading.Thread(target=worker.run, name=f"worker-{host}")
        thread.start()
        self._workers.append((worker, thread))

        def alive() -> bool:
            assert thread.is_alive(), f"the worker of {host} ended at once"
            return host in self.board.workers()

        wait_until(alive, f"the worker of {host}", 20)
        return worker, thread

    def wait_for_end(self, migration: str, timeout_s: float = 30) -> Migration:
        """Wait until no flow of the migration is under way."""
        wait_until(
            lambda: self.migration(migration).phase in ("closed", "parked"),
            f"the end of {migration}",
            timeout_s,
        )
        return self.migration(migration)

    # -- looking ------------------------------------------------------------------------------------------

    def migration(self, uuid: str) -> Migration:
        """Return its record."""
        with self.database.reading() as session:
            return moves.get(session, uuid)

    def instance(self, migration: str) -> Instance:
        """Return the record of a migration's server."""
        row = self.migration(migration)
        with self.database.reading() as session:
            found = session.get(Instance, row.instance_uuid)
            assert found is not None
            return found

    def atoms(self, migration: str) -> dict[str, AtomRow]:
        """Return what is on record of each step of its flow."""
        with self.database.reading() as session:
            row = moves.get(session, migration)
            return {atom.name: atom for atom in moves.steps(session, row.flow_uuid)}

    def states(self, migration: str) -> dict[str, str | None]:
        """Return each step's state."""
        return {name: atom.state for name, atom in self.atoms(migration).items()}

    def acted_on(self, migration: str) -> list[str]:
        """Return what steps have said of this migration, each with what it did."""
        return [f"{kind} {step}" for kind, step, uuid in SCRIPT.of if uuid == migration]

    def ask_doctor(self) -> Report:
        """Let the doctor look at everything."""
        return Doctor(self.database, self.board, timeout_s=5).examine()

    def jobs(self) -> dict[str, list[str]]:
        """Return what is on the boards."""
        return {host: self.board.jobs(host) for host in HOSTS}


# -- ZooKeeper --------------------------------------------------------------------------------------------


def connected(zookeeper_hosts: str, timeout_s: float = 2.0) -> KazooClient:
    """Return a session of its own."""
    client = KazooClient(
        hosts=zookeeper_hosts,
        timeout=timeout_s,
        command_retry=KazooRetry(max_tries=-1, delay=0.05, max_delay=0.5, deadline=20.0),
    )
    client.start(timeout=10)
    return client


def ask_server(zookeeper_hosts: str, word: str) -> str:
    """Return a server's answer to one of its four-letter words."""
    address, port = zookeeper_hosts.split(":")
    with socket.create_connection((address, int(port)), timeout=5) as connection:
        connection.sendall(word.encode())
        return connection.makefile("rb").read().decode()


def zxid(zookeeper_hosts: str) -> int:
    """Return how many changes the server has made."""
    line = next(line for line in ask_server(zookeeper_hosts, "srvr").splitlines() if line.startswith("Zxid"))
    return int(line.split()[1], 16)


def packets(zookeeper_hosts: str) -> int:
    """Return how many packets the server has received."""
    line = next(
        line for line in ask_server(zookeeper_hosts, "srvr").splitlines() if line.startswith("Received")
    )
    return int(line.split()[1])


@contextmanager
def reply_lost(client: KazooClient, when: str) -> Iterator[None]:
    """Let the next change of this session lose its reply, *when* is ``before`` or ``after`` it was made."""
    real = TransactionRequest.commit
    lost: list[bool] = []

    def commit(self: TransactionRequest) -> Any:
        if self.client is not client or lost:
            return real(self)
        lost.append(True)
        if when == "after":
            real(self)
        raise ConnectionLoss

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransactionRequest, "commit", commit)
        yield
    assert lost, "nothing was committed"


def expire(client: KazooClient, zookeeper_hosts: str) -> None:
    """End a session as ZooKeeper would that has heard nothing of it; return when the client has a new one."""
    session, password = client.client_id
    rival = KazooClient(hosts=zookeeper_hosts, client_id=(session, password))
    rival.start(timeout=10)
    rival.stop()
    rival.close()
    wait_until(lambda: client.connected and client.client_id[0] != session, "a new session", 20)
