"""Rows made by hand, and a stand-in for the asking side."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hostler.flows.shape import Step
from hostler.records.database import Database
from hostler.records.models import AtomRow, Event, FlowRow, Host, Instance, Migration, Progress
from hostler.scheduling.scheduler import Candidate
from tests.unit.cli.sample_flows import cold_migration

START = datetime.datetime.fromisoformat("2026-03-01T12:00:00")
SERVER = "11111111-2222-4333-8444-555555555555"
MIGRATION = "abcd0000-2222-4333-8444-555555555555"
FLOW = "f1000000-2222-4333-8444-555555555555"


Networks = Mapping[str, str] | None


def _said(networks: Networks) -> list[str]:
    return [f"{there}={here}" for there, here in (networks or {}).items()]


@dataclass
class StandInClient:
    """Answers as the asking side would; what it was asked stands in *asked*."""

    database: Database
    workers: dict[str, dict[str, object]] = field(default_factory=dict)
    board: dict[str, list[str]] = field(default_factory=dict)
    asked: list[tuple[str | None, ...]] = field(default_factory=list)
    answer: str | BaseException = MIGRATION
    found: list[Candidate] = field(default_factory=list)
    on_wait: list[Callable[[], None]] = field(default_factory=list)

    def __enter__(self) -> StandInClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        pass

    def live_workers(self) -> dict[str, dict[str, object]]:
        return self.workers

    def queue(self) -> dict[str, list[str]]:
        return self.board

    def migrate(
        self, server: str, dest: str | None = None, *, networks: Networks = None, requested_by: str
    ) -> str:
        return self._ask("migrate", server, dest, *_said(networks))

    def candidates(
        self, server: str, flavor: str | None = None, networks: Networks = None
    ) -> list[Candidate]:
        self._ask("candidates", server, *([flavor] if flavor else []), *_said(networks))
        return self.found

    def resize(
        self, server: str, flavor: str, dest: str | None, *, networks: Networks = None, requested_by: str
    ) -> str:
        return self._ask("resize", server, flavor, str(dest), *_said(networks))

    def dry_run(
        self,
        server: str,
        dest: str | None,
        *,
        flavor: str | None = None,
        networks: Networks = None,
        requested_by: str,
    ) -> str:
        return self._ask("dry_run", server, str(dest), *([flavor] if flavor else []), *_said(networks))

    def confirm(self, server: str, *, requested_by: str) -> str:
        return self._ask("confirm", server)

    def revert_resize(self, server: str, *, requested_by: str, reason: str, drop_writes: bool = False) -> str:
        return self._ask("revert_resize", server, reason, str(drop_writes))

    def _ask(self, *words: str | None) -> str:
        self.asked.append(words)
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    def news(self, migration: str, hosts: Iterable[str]) -> StandInClient:
        return self

    def news_of_all(self) -> StandInClient:
        return self

    def wait(self, timeout_s: float) -> bool:
        assert self.on_wait, "the command waits for something that will not happen"
        self.on_wait.pop(0)()
        return True

    def is_worked_on(self, migration: str, hosts: Iterable[str]) -> bool:
        return True

    def waiting(self, host: str) -> list[str]:
        return self.board.get(host, [])


@dataclass
class World:
    """The records of two hosts, and the means to put a migration into any state."""

    database: Database
    client: StandInClient
    config: Path

    def add_host(self, name: str, **facts: Any) -> None:
        with self.database.transaction() as session:
            session.add(_host(name, **facts))

    def add_server(self, name: str = "web1", uuid: str = SERVER, host: str = "kvm1", **facts: Any) -> str:
        facts = {"vm_state": "active", "power_state": "running", "vcpus": 1, "memory_mb": 512} | facts
        with self.database.transaction() as session:
            session.add(Instance(uuid=uuid, name=name, host=host, **facts))
        return uuid

    def add_migration(
        self, uuid: str = MIGRATION, *, name: str = "web1", shape: Sequence[Step] | None = None, **facts: Any
    ) -> str:
        steps = cold_migration() if shape is None else shape
        flow = facts.pop("flow_uuid", FLOW)
        facts = _MIGRATION_FACTS | {"instance_name": name} | facts
        with self.database.transaction() as session:
            session.add(Migration(uuid=uuid, flow_uuid=flow, **facts))
            shapes = [step.to_dict() for step in steps]
            session.add(
                FlowRow(
                    uuid=flow,
                    migration_uuid=uuid,
                    name=facts["flow_name"],
                    meta={"shape": shapes},
                    created_at=facts["created_at"],
                )
            )
            session.flush()
            for position, step in enumerate(steps, 1):
                uuid_of_atom = atom_uuid(flow, position)
                session.add(
                    AtomRow(
                        uuid=uuid_of_atom, flow_uuid=flow, position=position, name=step.name,
                        state="PENDING", intention="EXECUTE",
                    )
                )  # fmt: skip
        return uuid

    def change(self, uuid: str = MIGRATION, **changes: Any) -> None:
        with self.database.transaction() as session:
            for name, value in changes.items():
                setattr(session.get_one(Migration, uuid), name, value)

    def change_server(self, **changes: Any) -> None:
        with self.database.transaction() as session:
            for name, value in changes.items():
                setattr(session.get_one(Instance, SERVER), name, value)

    def step(self, position: int, state: str, error: str | None = None, flow: str = FLOW) -> None:
        """Put a step into a state of TaskFlow's; each begins a second after the one before and takes two."""
        begun = START + datetime.timedelta(seconds=position)
        ended = begun + datetime.timedelta(seconds=2.1)
        with self.database.transaction() as session:
            atom = session.get_one(AtomRow, atom_uuid(flow, position))
            atom.state = state
            if state in ("REVERTING", "REVERTED", "REVERT_FAILURE"):
                atom.intention = "REVERT"
                atom.revert_started_at = START + datetime.timedelta(seconds=100 - position)
                atom.revert_finished_at = atom.revert_started_at + datetime.timedelta(seconds=0.5)
            else:
                atom.started_at, atom.finished_at = begun, None if state == "RUNNING" else ended
            if error is not None and state == "REVERT_FAILURE":
                atom.revert_failure = {"exception_str": error}
            elif error is not None:
                atom.failure = {"exception_str": error, "exc_type_names": ["Failed"]}

    def done(self, *positions: int) -> None:
        for position in positions:
            self.step(position, "SUCCESS")

    def copied(
        self, done: int, total: int = 4 << 30, path: str = "/var/lib/libvirt/images/web1.qcow2"
    ) -> None:
        with self.database.transaction() as session:
            key = {"migration_uuid": MIGRATION, "name": "0"}
            row = session.get(Progress, tuple(key.values())) or Progress(**key)
            row.path, row.done_bytes, row.total_bytes, row.rate_bytes_per_s = path, done, total, 512 << 20
            session.add(row)

    def event(self, kind: str, text: str, host: str = "kvm1", at_s: float = 0.0) -> None:
        with self.database.transaction() as session:
            at = START + datetime.timedelta(seconds=at_s)
            session.add(Event(migration_uuid=MIGRATION, at=at, host=host, kind=kind, text=text))

    def finish(self, outcome: str, **changes: Any) -> None:
        phase = "parked" if outcome == "parked" else "closed"
        self.change(
            phase=phase, outcome=outcome, finished_at=START + datetime.timedelta(seconds=38), **changes
        )


def atom_uuid(flow: str, position: int) -> str:
    """Return the UUID that the step at *position* of *flow* has here."""
    return f"{flow[:4]}{position:04d}{flow[8:]}"


_MIGRATION_FACTS: dict[str, Any] = {
    "instance_uuid": SERVER,
    "migration_type": "migration",
    "status": "migrating",
    "phase": "open",
    "source_compute": "kvm1",
    "dest_compute": "kvm2",
    "flow_name": "cold_migration",
    "request_id": "req-1",
    "requested_by": "root",
    "created_at": START,
    "updated_at": START,
}


def _host(name: str, **facts: Any) -> Host:
    facts = {
        "address": f"{name}.example.org", "vcpus": 8, "memory_mb": 16384, "local_disk_bytes": 1 << 40,
        "cpu_allocation_ratio": 2.0, "ram_allocation_ratio": 1.0, "disk_allocation_ratio": 1.0,
        "reserved_host_memory_mb": 384, "hypervisor_version": "9.0.0", "worker_version": "0.1.0",
    } | facts  # fmt: skip
    return Host(name=name, **facts)


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    code: int
    out: str
    err: str


Hostler = Callable[..., Ran]
