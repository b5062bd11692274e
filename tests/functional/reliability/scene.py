"""Two hosts whose workers are processes: they are frozen, woken, cut off, and followed by others."""

from __future__ import annotations

import json
import multiprocessing
import re
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from kazoo.client import KazooClient
from sqlalchemy import text

from hostler.errors import InstanceNotFound
from lab.process import LabError, wait_until
from tests.functional.reliability.hands import ADDRESSES, PASSES, Errand, Stop, host_of, work
from tests.functional.reliability.stage import Pictured, copy_records, copy_tree, told_apart
from tests.support.kept import Ledger
from tests.support.world import FakeHost

#: Settings with which nothing takes long. Sessions are ended by the tests: on a busy machine short ones end by chance.
QUICK = {
    "zookeeper__session_timeout": 30.0,
    "zookeeper__relist_interval": 1.0,
    "zookeeper__reconcile_interval": 1.0,
    "database__connect_timeout": 4,
    "shutdown_timeout": 1,
    "shutdown_retry_interval": 1,
    "guest_start_timeout": 2,
    "dead_host_timeout": 3600.0,
    "max_attempts": 10,
}
PATIENCE_S = 60.0
#: Writes of these are a leg's, and need a fence.
FENCED = ("atoms", "journal", "claims", "bindings", "receivers", "progress", "debts")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.functional.reliability.hands"])
#: A start looks at all that were started, also at one that is just being started or closed.
_changing = threading.Lock()


@dataclass
class Beginning:
    """Where a scene begins: files, guests and records, without any board."""

    files: Path
    records: Path


@dataclass(frozen=True)
class Books:
    """What was counted in a world."""

    done: Counter[str]  #: everything that really happened, but for notifications
    refused: int  #: writes that the fence refused
    late: list[str]  #: writes of a leg that were accepted behind a later claim, or without a fence
    misdeeds: list[str]


class Scene(Pictured):
    """A world whose workers are processes."""

    def __init__(
        self, directory: Path, zookeeper_hosts: str, database_url: str, beginning: Beginning | None = None
    ) -> None:
        """Begin with nothing, or where *beginning* left off; a database that is no file is that of it already."""
        self.ledger = Ledger(directory / "world" / "ledger")
        self.zookeeper_hosts = zookeeper_hosts
        self.database_url = database_url
        self.workers: list[BaseProcess] = []
        if beginning is not None:
            copy_tree(beginning.files, directory / "world")
            if database_url.startswith("sqlite"):
                copy_records(beginning.records, Path(database_url.removeprefix("sqlite:///")))
        super().__init__(directory / "world", zookeeper_hosts, database_url)
        if beginning is None:
            self._make_audit()

    def begin(self, *, moved: bool) -> None:
        """Leave the hosts to their workers, the server being *moved* and unconfirmed, or not."""
        if moved:
            assert self.migrate("web1").outcome == "success"
            self.ledger.path.unlink()
        for host in self.hosts:
            self.board.client.delete(self.board.path("workers", host))

    def close(self) -> None:
        """End everything."""
        for worker in self.workers:
            worker.kill()
            worker.join(30)
            with _changing:
                worker.close()
        super().close()

    def save(self, directory: Path) -> Beginning:
        """Keep the world as it is now."""
        saved = Beginning(directory / "files", directory / "records.db")
        copy_tree(self.directory, saved.files)
        if self.database_url.startswith("sqlite"):
            copy_records(Path(self.database_url.removeprefix("sqlite:///")), saved.records)
        return saved

    # -- workers ------------------------------------------------------------------------------------------

    def start(
        self,
        host: str,
        stop: Stop | None = None,
        *,
        refused: bool = False,
        noting: bool = False,
        **settings: Any,
    ) -> BaseProcess:
        """Start a host's worker, and wait until it is there."""
        home = self.directory / host
        known = {
            "database__connection": self.database_url,
            "zookeeper__hosts": [self.zookeeper_hosts],
            "zookeeper__root": self.board.root,
            "host": host,
            "my_ip": ADDRESSES[host],
            "state_path": str(home / "root/var/lib/hostler"),
            "run_path": str(home / "run"),
        }
        errand = Errand(self.directory, host, self.log, known | QUICK | settings, stop, refused, noting)
        worker = _context.Process(target=work, args=(errand,))
        with _changing:
            worker.start()
        self.workers.append(worker)
        self.wait(lambda: str(worker.pid) in str(self.board.workers().get(host, "")), f"the worker of {host}")
        return worker

    @property
    def log(self) -> Path:
        """What the workers say."""
        return self.directory.parent / "log"

    def wait(self, condition: Callable[[], bool], what: str, timeout_s: float = PATIENCE_S) -> None:
        """Wait; tell what the workers said if it is in vain."""
        try:
            wait_until(condition, what, timeout_s, pause_s=0.05)
        except LabError as error:
            said = self.log.read_text()[-6000:] if self.log.exists() else ""
            raise AssertionError(f"{error}\n{said}") from None

    def wait_frozen(self, worker: BaseProcess) -> None:
        """Wait until the worker stands still as a whole."""

        def frozen() -> bool:
            stat = Path(f"/proc/{worker.pid}/stat").read_text()
            return stat.rpartition(")")[2].split()[0] == "T"

        self.wait(frozen, "the standstill")

    def expire(self, host: str) -> None:
        """Let ZooKeeper give up the worker of *host*, as it does with one of which it has heard nothing for long."""
        number, password = json.loads((self.directory / f"{host}.session").read_text())
        rival = KazooClient(hosts=self.zookeeper_hosts, client_id=(number, bytes.fromhex(password)))
        rival.start(timeout=PATIENCE_S)
        rival.stop()
        rival.close()
        self.wait(lambda: host not in self.board.alive(), f"the end of the session of {host}")

    def wait_over(self) -> None:
        """Wait until no flow is under way."""

        def over() -> bool:
            row = self.latest()
            return row is not None and row.phase in ("closed", "parked")

        self.wait(over, "the migration's end")

    def wait_for(self, facts: dict[str, str]) -> None:
        """Wait until the world is as these facts say."""
        found: dict[str, str] = {}

        def same() -> bool:
            try:
                found.update(self.picture())
            except (FileNotFoundError, InstanceNotFound):  # it went while it was looked at
                return False
            return all(found[name] == fact for name, fact in facts.items())

        try:
            wait_until(same, "the end", 20, pause_s=0.2)
        except LabError:
            wrong = [
                f"{name}:\n  {facts[name]}\n  {found[name]}" for name in facts if found[name] != facts[name]
            ]
            raise AssertionError("\n".join(wrong) + f"\n{self.log.read_text()[-6000:]}") from None

    def wait_left(self) -> None:
        """Wait until the step in which a worker stood still is over there, however it ended."""
        self.wait((self.directory / "left").exists, "the end of the step")

    # -- the books ----------------------------------------------------------------------------------------

    def books(self) -> Books:
        """Return what was counted; *late* and *misdeeds* should be empty."""
        entries = self.ledger.entries()
        said = [f"{entry.host}: {entry.what}" for entry in entries]
        done = Counter(told_apart(one, self.server()) for one in said if _counts(one))
        with self.database.reading() as session:
            rows = list(session.execute(text("SELECT pid, what, epoch FROM audit ORDER BY id")))
        done += Counter(f"records: {what}" for _, what, _ in rows if what == "insert claims")
        highest, late = 0, []
        for pid, what, epoch in rows:
            if epoch is not None and epoch < highest:
                late.append(f"process {pid}: {what} at epoch {epoch}, behind {highest}")
            if epoch is None and what.split()[1] in FENCED:
                late.append(f"process {pid}: {what} without a fence")
            highest = max(highest, epoch or 0)
        refused = sum(entry.what == "refused by the fence" for entry in entries)
        return Books(done, refused, late, [one for one in said if "MISDEED" in one])

    # -- underneath ---------------------------------------------------------------------------------------

    def _host(self, name: str, address: str) -> FakeHost:
        return host_of(self.directory, name, self.ledger)

    def _make_audit(self) -> None:
        key = "INTEGER PRIMARY KEY" if self.database_url.startswith("sqlite") else "SERIAL PRIMARY KEY"
        with self.database.transaction() as session:
            session.execute(text(f"CREATE TABLE audit (id {key}, pid INTEGER, what TEXT, epoch BIGINT)"))


def _counts(said: str) -> bool:
    return not any(word in said for word in ("notify ", "refused by", "MISDEED", PASSES))
