"""``migration verify``: on request, the disks where they lie now are compared with what left.

Asked is the destination's worker, who has the manifests: until the migration is confirmed or undone. Once the guest
has run, its writes are newer than the manifests: that is refused, not reported as damage.
"""

from __future__ import annotations

import itertools
import os.path
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC

from sqlalchemy.orm import Session
from taskflow import states

from hostler import flows
from hostler.drivers.images.extents import BLOCK_BYTES
from hostler.errors import InstanceInvalidState, MigrationError, Refused, ServerUnreachable
from hostler.jobboard import lock
from hostler.jobboard.board import Board
from hostler.jobboard.details import StoredFlow, load_flow
from hostler.objects import Export, ImageDigest, Inventory, Record
from hostler.records import moves
from hostler.records.database import Database
from hostler.records.models import JournalEntry, Migration
from hostler.tasks.base import Drivers

#: How many blocks of a disk are named.
MOST_BLOCKS = 100


@dataclass(frozen=True)
class Block(Record):
    """A block that is not what left. Hashes are BLAKE3, hexadecimal; offset in bytes."""

    offset: int
    expected: str
    actual: str


@dataclass(frozen=True)
class Disk(Record):
    """What was found of one disk."""

    path: str
    size_bytes: int
    allocated_bytes: int
    differs: list[Block] = field(default_factory=list)  #: :data:`MOST_BLOCKS` at most


def ask(database: Database, board: Board, name: str, *, timeout_s: float) -> list[Disk]:
    """Let the destination's worker compare them, and return what it finds."""
    from hostler.jobboard.doctor.letters import Asking  # letters needs this module

    with database.reading() as session:
        row = moves.find(session, name)
        _refuse_stale(row, _flow(session, row))
    host, question = row.dest_compute, {"ask": "verify", "migration": row.uuid}
    answer = Asking(board, timeout_s).ask({host: question})[host]
    if "disks" in answer:
        return [Disk.from_dict(disk) for disk in answer["disks"]]
    if answer.get("dead"):
        hint = f"on {host}: systemctl start hostler-worker"
        raise ServerUnreachable(f"{host} has the disks, and no worker is alive there", hint=hint)
    if answer.get("refused"):
        raise Refused(str(answer["error"]), hint=f"hostler migration show {row.uuid}")
    raise MigrationError(f"{host}: {answer.get('error') or 'its worker is of another version'}")


def answer(database: Database, drivers: Drivers, run_path: str, migration: str) -> list[Disk]:
    """Compare the disks of a migration on this host, while no step works on its server."""
    with database.reading() as session:
        instance = moves.get(session, migration).instance_uuid
    with lock.held(run_path, f"instance-{instance}"):
        with database.reading() as session:
            row = moves.get(session, migration)
            flow = _flow(session, row)
            _refuse_stale(row, flow)
            arrived = list(_arrived(session, row, flow))
        _refuse_running(drivers, row)
        return [_compare(drivers, row, flow, *one) for one in arrived]


def _flow(session: Session, row: Migration) -> StoredFlow:
    return load_flow(session, moves.first_flow(session, row.uuid).uuid)


def _refuse_stale(row: Migration, flow: StoredFlow) -> None:
    """Refuse where there is nothing to compare yet, or any more, or not any longer."""
    if flow.row.name not in flows.MOVES:
        raise _refusal(row, "it moved no server")
    if row.phase == "closed" and row.status != "finished":
        raise _refusal(row, f"it is {row.status}, and its manifests are gone")
    if flow.atoms["CopyImages"].state != states.SUCCESS:
        raise _refusal(row, "its images have not all left yet, or go back")
    made = flow.atoms["FinishMigration"].state not in (states.PENDING, states.REVERTED)
    if made and flow.symbols()["was_running"]:
        raise _refusal(row, "the guest has run since, and what it has written is newer than the manifests")


def _refuse_running(drivers: Drivers, row: Migration) -> None:
    hypervisor = drivers.hypervisor
    if hypervisor.exists(row.instance_uuid) and hypervisor.power_state(row.instance_uuid).active:
        raise _refusal(row, "the guest runs, and what it writes is newer than the manifests")


def _refuse_written(drivers: Drivers, row: Migration, flow: StoredFlow, disk: Export) -> None:
    """A server that was off when it moved may have been started by hand, and be off again."""
    begun = flow.atoms["FinishMigration"].started_at
    written = drivers.verifier.written_at(disk)
    if begun and written and written > begun.replace(tzinfo=UTC):
        raise _refusal(
            row, f"{disk.part} was written to at {written:%Y-%m-%d %H:%M:%S} UTC, after it was verified"
        )


def _refusal(row: Migration, reason: str) -> InstanceInvalidState:
    return InstanceInvalidState(
        f"migration {row.uuid} of {row.instance_name!r} cannot be verified: {reason}",
        server=row.instance_name,
        state=row.phase,
        method="verify",
        allowed="between its copy and the guest's next start",
        hint=f"hostler migration show {row.uuid}",
    )


def _arrived(session: Session, row: Migration, flow: StoredFlow) -> Iterator[tuple[Export, ImageDigest, str]]:
    """Yield each export, what left of it, and where it is put."""
    entry = session.get(JournalEntry, (row.uuid, "OpenReceiver", "units"))
    if entry is None or "exports" not in entry.data:
        raise _refusal(row, "nothing is on record of what has arrived")
    units = Inventory.from_dict(flow.symbols()["inventory"]).units
    arriving = [unit for unit in units if unit.path in entry.data["paths"]]
    places = [
        os.path.join(unit.path, file.name) if file.name else unit.path  # noqa: PTH118
        for unit in arriving
        for file in unit.files
    ]
    digests = flow.result("CopyImages")
    for export, digest, place in zip(entry.data["exports"], digests, places, strict=True):
        yield Export.from_dict(export), ImageDigest.from_dict(digest), place


def _compare(
    drivers: Drivers, row: Migration, flow: StoredFlow, export: Export, left: ImageDigest, place: str
) -> Disk:
    """Compare one disk, in its part directory or in its place."""
    placed = flow.atoms["VerifyImages"].state == states.SUCCESS
    there = replace(export, part=place) if placed else export
    found = drivers.verifier.compare(row.uuid, there, left, lambda: None)
    differs = [
        Block(block.index * BLOCK_BYTES, block.expected.hex(), block.actual.hex())
        for block in itertools.islice(found, MOST_BLOCKS)
    ]
    if differs:
        _refuse_written(drivers, row, flow, there)
    return Disk(there.part, left.size_bytes, left.allocated_bytes, differs)
