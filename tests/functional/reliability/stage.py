"""The world of the functional tests with a beginning that comes back, and with processes and hosts that die."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import os
import re
import shutil
import sqlite3
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from sqlalchemy import select

from hostler.drivers.files.markers import NAME as MARKER
from hostler.drivers.hypervisor.fake import FakeGuest
from hostler.drivers.images.fake import FakeReceiver, FakeSender, FakeVerifier
from hostler.drivers.notifications.fake import FakeCourier
from hostler.drivers.notifications.news import News
from hostler.errors import ReceiverUnavailable
from hostler.jobboard import debts, reboot
from hostler.jobboard.adoption import Adoption
from hostler.jobboard.leg import End
from hostler.jobboard.reconciler import Reconciler
from hostler.objects import Domain
from hostler.records.models import Instance, Migration, OutboxEntry
from hostler.tasks.base import Drivers, Timeouts
from tests.functional.reliability.inodes import follow, inodes_below
from tests.functional.reliability.points import OPERATOR, Points, Watched
from tests.support import world as worlds
from tests.support.world import FakeHost, World, files_of

#: Nothing here takes long; a wait that must run out shall not take long either.
TIMEOUTS = Timeouts(shutdown_s=0.02, shutdown_retry_s=0.01, guest_start_s=0.5, copy_s=2)
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_INODE = re.compile(r'(?<=": )\d+')
_TIME = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?(\+00:00)?")


@dataclass
class Beginning:
    """All of a world but its boards, which are empty: files, records, guests."""

    files: Path
    records: Path
    inodes: dict[str, int]
    guests: dict[str, dict[str, FakeGuest]]
    booted: dict[str, dict[str, int]]
    volumes: dict[str, set[str]]


class Pictured(World):
    """A world whose end can be compared with another's."""

    def latest(self) -> Migration | None:
        """The newest migration."""
        with self.database.reading() as session:
            return session.scalars(select(Migration).order_by(Migration.created_at.desc())).first()

    def look(self) -> dict[str, Any]:
        """Return all that a migration could change, but for the history."""
        return super().look() | {"storage": self._below(self.directory / "storage")}

    def look_at(self, name: str) -> dict[str, Any]:
        """Return one host's part of the world."""
        host = self.hosts[name]
        domains = (host.hypervisor.describe(one.uuid) for one in host.hypervisor.list_domains())
        return {
            "files": self._files(name),
            "domains": {domain.uuid: domain.to_dict() for domain in domains},
            "volumes": sorted(host.volumes.connected),
            "receivers": host.receiver.open_migrations(),
        }

    def picture(self) -> dict[str, str]:
        """The world's end, fact by fact, comparable with another run's: no times, no names by chance, no history."""
        row = self.latest()
        facts: dict[str, Any] = {f"records: {name}": found for name, found in self.look().items()}
        # How often a worker has died at it is what the sweep changes.
        facts["records: journal"] = [
            row for row in facts["records: journal"] if ("task", "claims") not in row
        ]
        for host in self.hosts:
            seen = facts.pop(f"records: {host}")
            facts |= {f"{host}: {name}": found for name, found in seen.items()}
        facts["records: wishes"] = self.board.wishes()
        with self.database.reading() as session:
            rows = session.scalars(select(OutboxEntry).order_by(OutboxEntry.id))
            facts["records: outbox"] = [row.message["event_type"] for row in rows]
        facts["records: migration"] = row and (
            row.flow_name, row.phase, row.status, row.outcome, row.error, row.hint, row.cancel_reason
        )  # fmt: skip
        server = self.server()
        return {name: told_apart(repr(found), server) for name, found in facts.items()}

    def boots(self) -> dict[str, int]:
        """How often the server's guest began to execute, by host."""
        server = self.server()
        return {host.name: host.hypervisor.booted.get(server, 0) for host in self.hosts.values()}

    def server(self) -> str:
        """The server's uuid."""
        with self.database.reading() as session:
            return session.scalars(select(Instance.uuid)).one()

    def _files(self, host: str) -> list[tuple[object, ...]]:
        """What lies on a host's disk: mode and contents; of what hostler keeps to itself only that it is there."""
        own = [one for part in ("root/var", "root/dev") for one in self._below(self.directory / host / part)]
        return own + [(path, mode, "") for path, mode, _ in self._below(self.directory / host / "private")]

    def _below(self, top: Path) -> list[tuple[object, ...]]:
        return [
            (
                str(path.relative_to(top)),
                oct(path.lstat().st_mode),
                self._contents(path) if path.is_file() else "",
            )
            for path in sorted(top.rglob("*"))
        ]

    def _contents(self, path: Path) -> str:
        data = path.read_bytes()
        return (
            data.decode()
            if path.name == MARKER or path.suffix == ".json"
            else hashlib.sha256(data).hexdigest()
        )


class Stage(Pictured):
    """Three hosts whose processes may die: what they had in memory is gone, what they had done is not."""

    def __init__(self, base: Path, zookeeper_hosts: str, points: Points) -> None:
        self.points = points
        self.base = base
        (base / "world").mkdir()
        super().__init__(base / "world", zookeeper_hosts, f"sqlite:///{base}/records.db", hosts=3)
        self.misdeeds: list[str] = []
        for host in self.hosts.values():
            # A listener to whom nothing is delivered: what it would be told stays in the outbox.
            news = News({"fake": host.notifications, "courier": FakeCourier()})
            host.drivers = dataclasses.replace(host.drivers, notifications=news)
            host.hypervisor.on_boot = lambda domain, name=host.name: self._began(name, domain)
            self._new_process(host)
            self.conf_run(host).mkdir(parents=True)
            (self.conf_run(host) / reboot.STAMP).touch()

    # -- beginnings ---------------------------------------------------------------------------------------

    def save(self, name: str) -> Beginning:
        """Keep the world as it is now, when nobody has anything to do."""
        assert not any(self.board.jobs(board) for board in self.board.hosts())
        assert not self.board.all_parked()
        saved = Beginning(
            self.base / f"{name}-files",
            self.base / f"{name}-records.db",
            inodes_below(self.directory),
            {host.name: copy.deepcopy(host.hypervisor.guests) for host in self.hosts.values()},
            {host.name: dict(host.hypervisor.booted) for host in self.hosts.values()},
            {host.name: set(host.volumes.connected) for host in self.hosts.values()},
        )
        copy_tree(self.directory, saved.files)
        copy_records(self.base / "records.db", saved.records)
        return saved

    def load(self, saved: Beginning) -> None:
        """Bring a kept world back."""
        shutil.rmtree(self.directory)
        copy_tree(saved.files, self.directory)
        copy_records(saved.records, self.base / "records.db")
        follow(self.directory, self.base / "records.db", saved.inodes)
        for host in self.hosts.values():
            host.hypervisor.guests = copy.deepcopy(saved.guests[host.name])
            host.hypervisor.booted = dict(saved.booted[host.name])
            host.hypervisor.powered = True
            host.hypervisor.calls.clear()
            host.volumes.connected = set(saved.volumes[host.name])
            host.notifications.sent.clear()
            self._new_process(host)
        self.misdeeds.clear()
        self.dead.clear()
        self._clear_boards()

    # -- carrying on --------------------------------------------------------------------------------------

    def leg(self, host: str, migration: str) -> End:
        """Let one host take its turn; it is the one that would die."""
        self.points.acting = host
        try:
            with mock.patch.object(worlds, "TIMEOUTS", TIMEOUTS):
                return super().leg(host, migration)
        finally:
            self.points.acting = OPERATOR

    def recover(self, died: str, *, power_cut: bool) -> None:
        """A process has died, its host's power was perhaps cut: what is left starts again, as a worker would."""
        self._end_session()
        if died == OPERATOR:
            return
        host = self.hosts[died]
        if power_cut:
            self.cut_power(died)
            shutil.rmtree(self.directory / died / "private/run")
            shutil.rmtree(self.conf_run(host))
        self._new_process(host)
        if power_cut:
            self.dead.discard(died)
            host.hypervisor.power_on()
        run_path = str(self.conf_run(host))
        assert not debts.Payer(self.database, died, host.drivers, TIMEOUTS, host.state_path, run_path).pay()
        with suppress(ReceiverUnavailable):  # a worker says so and goes on: its copy waits, or closes it
            host.drivers.receiver.restore()
        reboot.restart_unconfirmed(self.database, host.hypervisor, died, str(self.conf_run(host)))
        Adoption(self.database, host.hypervisor, died).run()

    def look_around(self) -> None:
        """What every worker does each minute."""
        Reconciler(self.database, self.board, 0.0).run()
        for host in self.hosts.values():
            Adoption(self.database, host.hypervisor, host.name).run()

    # -- looking ------------------------------------------------------------------------------------------

    def fingerprint(self) -> int:
        """Return a number that stays the same as long as nothing changes that a dead process leaves behind."""
        files = [
            (path, status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns)
            for path, status in ((str(path), path.lstat()) for path in self.directory.rglob("*"))
        ]
        guests = [
            repr((host.hypervisor.guests, sorted(host.volumes.connected))) for host in self.hosts.values()
        ]
        records = sqlite3.connect(self.base / "records.db", timeout=10)
        try:
            rows = list(records.iterdump())
        finally:
            records.close()
        return hash((tuple(sorted(files)), *guests, *rows, *self._nodes(self.board.root)))

    def _nodes(self, path: str) -> list[tuple[str, bytes]]:
        client = self.board.client
        found = [(path, client.get(path)[0])]
        for name in client.get_children(path):
            found += self._nodes(f"{path}/{name}")
        return found

    # -- underneath ---------------------------------------------------------------------------------------

    def conf_run(self, host: FakeHost) -> Path:
        """The host's ``run_path``: empty after a reboot."""
        return self.directory / host.name / "run"

    def _new_process(self, host: FakeHost) -> None:
        """Give a host drivers that remember nothing; its guests and receivers go on without them."""
        private, network = self.directory / host.name / "private", self.directory / "network"
        host.receiver = FakeReceiver(
            private / "state", private / "run", host.address, (21000, 21010), network=network, root=host.root
        )
        host.sender = FakeSender(network=network, address=host.address, root=host.root)
        fresh = {
            "files": files_of(host.name, host.root, host.hypervisor, host.state_path),
            "receiver": host.receiver,
            "sender": host.sender,
            "verifier": FakeVerifier(private / "state", host.root),
        }
        raw = {field.name: getattr(host.drivers, field.name) for field in dataclasses.fields(Drivers)}
        raw = {name: vars(driver).get("_driver", driver) for name, driver in raw.items()} | fresh
        watched = {name: Watched(driver, self.points, name) for name, driver in raw.items()}
        host.drivers = Drivers(**watched)  # type: ignore[arg-type]

    def _end_session(self) -> None:
        """What ZooKeeper does when a dead process' session ends."""
        client = self.board.client
        for board in self.board.hosts():
            for job in self.board.jobs(board):
                for sign in client.get_children(self.board.path("boards", board, job)):
                    client.delete(self.board.path("boards", board, job, sign))

    def _clear_boards(self) -> None:
        client = self.board.client
        for folder in ("instances", "parked", "wishes", *(f"boards/{host}" for host in self.hosts)):
            for name in client.get_children(self.board.path(folder)):
                client.delete(self.board.path(folder, name), recursive=True)

    def _began(self, name: str, domain: Domain) -> None:
        """A guest begins to execute: the records must have it here, and nobody else may execute it."""
        with self.database.reading() as session:
            row = session.get(Instance, domain.uuid)
        if row is not None and row.host != name:
            self.misdeeds.append(f"the guest began on {name}, and the records have it on {row.host}")
        for other in self.hosts.values():
            guest = other.hypervisor.guests.get(domain.uuid)
            if other.name != name and guest is not None and guest.executing:
                self.misdeeds.append(f"the guest began on {name} while it executed on {other.name}")


def copy_records(source: Path, target: Path) -> None:
    there, here = sqlite3.connect(source, timeout=10), sqlite3.connect(target, timeout=10)
    try:
        there.backup(here)
    finally:
        there.close()
        here.close()


def copy_tree(source: Path, target: Path) -> None:
    shutil.copytree(source, target, symlinks=True, copy_function=_copy_with_holes)


def _copy_with_holes(source: str, target: str) -> None:
    with Path(source).open("rb") as old, Path(target).open("wb") as new:
        end, position = os.fstat(old.fileno()).st_size, 0
        new.truncate(end)
        while position < end:
            try:
                position = os.lseek(old.fileno(), position, os.SEEK_DATA)
            except OSError:
                break
            hole = os.lseek(old.fileno(), position, os.SEEK_HOLE)
            os.pwrite(new.fileno(), os.pread(old.fileno(), hole - position, position), position)
            position = hole
    shutil.copystat(source, target)


def told_apart(text: str, server: str) -> str:
    """Return *text* with what differs from run to run replaced."""
    text = _UUID.sub(lambda found: "<server>" if found[0] == server else "<migration>", text)
    return _INODE.sub("<number>", _TIME.sub("<time>", text))
