"""The image files on their way: the receiver on the destination, the copy, the proof of what arrived."""

from __future__ import annotations

import math
import os.path
import time
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import delete, update
from sqlalchemy.orm import Session

from hostler.drivers.images.pace import Pace
from hostler.errors import MigrationError
from hostler.objects import (
    CopyProgress,
    Export,
    FileEntry,
    Identity,
    ImageDigest,
    ReceiverAddress,
    Unit,
    UnitKind,
)
from hostler.records import hosts, moves, rates
from hostler.records.models import Progress, Receiver, now
from hostler.tasks.base import DEST, SOURCE, HostTask, Leg
from hostler.tasks.domain import refuse_active
from hostler.tasks.receiving import begin_receiving, take_up
from hostler.tasks.shared_storage import moving_units
from hostler.tasks.space import release_space, reserve_space

#: Seconds between two writes of a migration's progress.
PROGRESS_INTERVAL_S = 2.0
#: Seconds between two looks at how fast it may be.
RATE_INTERVAL_S = 0.5

MIB = 1 << 20


class OpenReceiver(HostTask):
    """Make the part directories on the destination and start what takes the images.

    Nothing of what stays in place is among them.

    An older copy of the server becomes the beginning of the new one.

    Reverts by: ending the receiver, seeing it gone, and removing only what was made here; what has arrived of the
    images is kept for a while, where the settings say so.
    """

    elsewhere = True
    where = DEST
    default_provides = "arriving"

    def execute(self, leg: Leg, inventory: dict[str, Any]) -> list[str]:
        """Return the paths of the units that will arrive; shared ones that are here already do not."""
        units = moving_units(leg, inventory)
        journal = self.journal(leg)
        journal.intend("units")
        begun = begin_receiving(leg, units)
        entry = journal.get("units")
        known = entry.data.get("paths") if entry else None
        paths: list[str] = known or [unit.path for unit in begun]
        arriving = [unit for unit in units if unit.path in paths]
        if not known:
            take_up(leg, arriving)
        reserve_space(leg, arriving)
        exports = list(exports_of(leg, arriving))
        if exports:
            leg.drivers.receiver.take_stock(leg.migration.uuid, exports, leg.checkpoint)
            address = leg.drivers.receiver.open(leg.migration.uuid, exports, *_peer(leg))
            with leg.records.transaction() as session:
                session.merge(
                    Receiver(migration_uuid=leg.migration.uuid, host=leg.host, address=address.to_dict())
                )
        journal.done("units", paths=paths, exports=[export.to_dict() for export in exports])
        return paths

    def revert(self, leg: Leg, inventory: dict[str, Any], **_: Any) -> None:
        """End the receiver and remove the part directories; nothing if neither was made."""
        journal = self.journal(leg)
        close_receiver(leg)
        leg.drivers.receiver.forget(leg.migration.uuid)
        if journal.get("units"):
            units = moving_units(leg, inventory)
            facts = (leg.migration.instance, leg.migration.uuid)
            if not leg.migration.same_host:
                leg.drivers.files.keep_parts(units, *facts)
            leg.drivers.files.remove_parts(units, *facts)
            journal.undone("units")


class CopyImages(HostTask):
    """Send the image files to the destination: as files with holes, never probed, never converted.

    Reverts by: nothing on the source; the sending ended with the step, and the receiver's undo removes the bytes.
    """

    elsewhere = True
    where = SOURCE
    default_provides = "digests"

    def execute(self, leg: Leg) -> list[dict[str, Any]]:
        """Return what left, file by file; the receiver has all of it on stable storage."""
        refuse_active(leg)
        with leg.records.transaction() as session:
            receiver = session.get(Receiver, leg.migration.uuid)
            if receiver is None:
                return []
            receiver.sending = True
        address = ReceiverAddress.from_dict(receiver.address)
        writer, allowance = ProgressWriter(leg), Allowance(leg)

        def note(progress: CopyProgress) -> None:
            allowance.look()
            writer.note(progress)

        digests = leg.drivers.sender.send(address, note, leg.checkpoint, leg.timeouts.copy_s, allowance.pace)
        self._mend(leg, address, digests, allowance)
        writer.write(over=True)
        writer.tell_saved()
        refuse_active(leg)
        return [digest.to_dict() for digest in digests]

    @staticmethod
    def _mend(leg: Leg, address: ReceiverAddress, left: list[ImageDigest], allowance: Allowance) -> None:
        """Let the destination read its disk, and send what differs again, while its receiver is there."""

        def go_on() -> None:
            leg.checkpoint()
            allowance.look()

        mended = leg.drivers.sender.mend(address, left, go_on, leg.timeouts.copy_s, allowance.pace)
        if mended:
            with leg.records.transaction() as session:
                leg.records.note(session, "mended", f"{mended} blocks had arrived damaged: sent again")

    def revert(self, leg: Leg, **_: Any) -> None:
        """Forget how far the copy was."""
        with leg.records.transaction() as session:
            moves.forget_progress(session, leg.migration.uuid)


class VerifyImages(HostTask):
    """End the receiver, read what lies on the destination's disk, and put it into place.

    Reverts by: moving it back into the part directories.
    """

    elsewhere = True
    where = DEST

    def execute(
        self, leg: Leg, inventory: dict[str, Any], arriving: list[str], digests: list[dict[str, Any]]
    ) -> None:
        """Compare each file with what left; a block that differs is :class:`~hostler.errors.ImageMismatch`."""
        close_receiver(leg)
        journal = self.journal(leg)
        if not journal.get("verified"):
            self._verify(leg, digests)
            journal.done("verified")
        for number, unit in enumerate(_arriving(leg, inventory, arriving)):
            journal.intend(str(number), path=unit.path)
            leg.drivers.files.place(unit, leg.migration.instance, leg.migration.uuid)
            journal.done(str(number))

    def revert(self, leg: Leg, inventory: dict[str, Any], arriving: list[str], **_: Any) -> None:
        """Move back what was placed, the last unit first."""
        journal = self.journal(leg)
        for number, unit in reversed(list(enumerate(_arriving(leg, inventory, arriving)))):
            if journal.get(str(number)):
                leg.drivers.files.unplace(unit, leg.migration.instance, leg.migration.uuid)
                journal.undone(str(number))
        journal.undone("verified")

    @staticmethod
    def _verify(leg: Leg, digests: list[dict[str, Any]]) -> None:
        entry = leg.records.journal("OpenReceiver").get("units")
        exports = [Export.from_dict(data) for data in entry.data["exports"]] if entry else []
        if len(exports) != len(digests):
            raise MigrationError(f"{len(digests)} files left, and {len(exports)} were to arrive")
        for export, digest in zip(exports, digests, strict=True):
            expected = ImageDigest.from_dict(digest)
            leg.drivers.verifier.verify(leg.migration.uuid, export, expected, leg.checkpoint)


class ProgressWriter:
    """Writes how far the copy is, now and then, all files in one transaction."""

    def __init__(self, leg: Leg, clock: Callable[[], float] = time.monotonic) -> None:
        self._leg = leg
        self._clock = clock
        self._due = clock()
        self._latest: dict[str, CopyProgress] = {}

    def note(self, progress: CopyProgress) -> None:
        """Take the state of one file; write if the last write is long enough ago."""
        self._latest[progress.name] = progress
        if self._clock() >= self._due:
            self.write()

    def write(self, *, over: bool = False) -> None:
        """Write all that is known; once the copy is *over*, leave its part of the budgets to others."""
        self._due = self._clock() + PROGRESS_INTERVAL_S
        migration = self._leg.migration.uuid
        with self._leg.records.transaction() as session:
            for progress in self._latest.values():
                session.merge(_progress_row(self._leg, progress))
            if over:
                session.execute(
                    update(Receiver).where(Receiver.migration_uuid == migration).values(sending=False)
                )

    def tell_saved(self) -> None:
        """Have ``migration show`` tell what packing was good for."""
        sent = sum(progress.sent_bytes for progress in self._latest.values())
        saved = sum(progress.saved_bytes for progress in self._latest.values())
        if saved:
            said = f"{(sent + saved) // MIB} MiB of its images crossed the link as {sent // MIB} MiB"
            with self._leg.records.transaction() as session:
                self._leg.records.note(session, "packed", said)


class Allowance:
    """How fast the copy may be, as the records have it now."""

    def __init__(self, leg: Leg, clock: Callable[[], float] = time.monotonic) -> None:
        self._leg = leg
        self._clock = clock
        self._due = -math.inf
        self.pace = Pace(0)
        self.look()

    def look(self) -> None:
        """Look what it is, if the last look is long enough ago."""
        if self._clock() < self._due:
            return
        self._due = self._clock() + RATE_INTERVAL_S
        with self._leg.records.reading() as session:
            self.pace.set(rates.share(session, self._leg.migration.uuid))


def close_receiver(leg: Leg) -> None:
    """End the receiver, see it gone, and forget its key here and in the records, and what it was promised."""
    leg.drivers.receiver.close(leg.migration.uuid)
    release_space(leg)
    with leg.records.transaction() as session:
        forget_receiver(session, leg.migration.uuid)


def forget_receiver(session: Session, migration: str) -> None:
    """Remove the receiver's address and key from the records."""
    session.execute(delete(Receiver).where(Receiver.migration_uuid == migration))


def exports_of(leg: Leg, arriving: Sequence[Unit]) -> list[Export]:
    """Return one export for each file of the arriving units, numbered in order."""
    files = leg.drivers.files
    exports: list[Export] = []
    for unit in arriving:
        source = files.aside(unit, leg.migration.uuid) if unit.kind is UnitKind.OWN else unit.path
        part = files.part(unit, leg.migration.instance, leg.migration.uuid)
        for entry in unit.files:
            exports.append(
                Export(
                    name=str(len(exports)),
                    source=os.path.join(source, entry.name) if entry.name else source,  # noqa: PTH118
                    part=os.path.join(part, entry.name) if entry.name else part,  # noqa: PTH118
                    size_bytes=_bound(entry),
                    exact=not entry.may_grow,
                    block=unit.block is not None,
                )
            )
    return exports


def _bound(entry: FileEntry) -> int:
    """Return what a file can grow to until the guest is off: its image may be written once more in full."""
    if not entry.may_grow:
        return entry.size_bytes
    grown = entry.size_bytes + entry.virtual_bytes + entry.virtual_bytes // 64 + 64 * MIB
    return -(-grown // MIB) * MIB


def _arriving(leg: Leg, inventory: dict[str, Any], arriving: list[str]) -> list[Unit]:
    return [unit for unit in moving_units(leg, inventory) if unit.path in arriving]


def _peer(leg: Leg) -> tuple[str, Identity]:
    """Return the source's address, and who it is by its record."""
    with leg.records.transaction() as session:
        host = hosts.get(session, leg.migration.source)
        shown = (host.capabilities or {}).get("certificate", "")
        return host.address, Identity(host.name, shown)


def _progress_row(leg: Leg, progress: CopyProgress) -> Progress:
    return Progress(
        migration_uuid=leg.migration.uuid,
        name=progress.name,
        path=progress.path,
        done_bytes=progress.done_bytes,
        total_bytes=progress.total_bytes,
        rate_bytes_per_s=int(progress.rate_bytes_per_s),
        updated_at=now(),
    )
