"""Block devices that LVM does not manage: the destination has one of the same path, given over by its operator.

Nothing is renamed and nothing is removed. The source's device is left as it is and is free after the confirmation;
the destination's is overwritten, so a setting must name it. Whose it is meanwhile is noted under the state path.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hostler.drivers import devices
from hostler.drivers.files import disk, shared
from hostler.drivers.files.marked import Marked, MarkKind
from hostler.drivers.files.place import Place
from hostler.errors import DestinationUnusable, DiskNotFound, ForeignObject
from hostler.objects import Record, Unit

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Note(Record):
    """Which migration has a device of this host."""

    path: str
    migration: str
    instance: str


class Given:
    """The block devices of *place*.

    *allowed*: paths, or patterns of paths, of those that arriving servers may overwrite. *in_use* says whether a
    server of the host uses a device, whatever it calls it.
    """

    def __init__(self, place: Place, allowed: Sequence[str], in_use: Callable[[str], bool]) -> None:
        self._place = place
        self._allowed = allowed
        self._in_use = in_use

    # -- source -------------------------------------------------------------------------------------------

    def check(self, unit: Unit) -> None:
        """See that the device is there, as large as it was."""
        found = devices.look(self._place.at(unit.path))
        if found is None:
            raise DiskNotFound(host=self._place.host, path=unit.path)
        if found.size_bytes != unit.files[0].size_bytes:
            raise ForeignObject(what=f"{unit.path}, which has another size now", host=self._place.host)

    def let_go(self, unit: Unit) -> None:
        """Say that it is free; what is on it stays."""
        LOG.info("%s is free: its server has moved away; what was on it still is", unit.path)

    def way_back_problems(self, unit: Unit) -> Iterator[str]:
        """Give, as sentences, why the server could not have it back."""
        found = devices.look(self._place.at(unit.path))
        if found is None:
            yield f"{unit.path} is not there, or is no block device any more"
        elif found.size_bytes != unit.files[0].size_bytes:
            yield f"{unit.path} has {found.size_bytes} bytes, it had {unit.files[0].size_bytes}"
        elif (note := self._taken(found.identity)) is not None:
            yield f"{unit.path} was overwritten for migration {note.migration}"

    # -- destination --------------------------------------------------------------------------------------

    def problems(self, unit: Unit, migration: str, *, same_host: bool) -> list[str]:
        """Return, as sentences, why *unit* cannot be received."""
        path, need = unit.path, unit.files[0].size_bytes
        if same_host:
            return [
                f"{path} is a block device that it cannot have twice on one host: choose another (--to HOST)"
            ]
        found = devices.look(self._place.at(path))
        if found is None:
            return [f"there is no block device {path}: make one of at least {need} bytes known by that name"]
        problems = []
        if found.size_bytes < need:
            problems.append(f"{path} has {found.size_bytes} bytes, {need} are needed")
        if not any(fnmatch.fnmatchcase(path, pattern) for pattern in self._allowed):
            problems.append(
                f"{path} is not given over to arriving servers, which overwrite it: if nobody needs what is on it, "
                f"add it to block_devices in [files] of this host's /etc/hostler/hostler.conf and restart its worker"
            )
        return problems + self._users(path, found, migration)

    def make(self, unit: Unit, instance: str, migration: str) -> None:
        """Take the device for the migration; what speaks against it is looked at once more."""
        if self._is_ours(unit, migration):
            return
        with shared.locked(self._place.at(self._place.lock_path)):
            if problems := self.problems(unit, migration, same_host=False):
                raise DestinationUnusable(host=self._place.host, path=unit.path, reason="; ".join(problems))
            record = self._record(unit.path)
            record.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            note = Note(unit.path, migration, instance)
            draft = _draft(record, migration)
            disk.write_file(draft, json.dumps(note.to_dict()) + "\n")
            disk.replace(draft, record)
            disk.sync_directory(record.parent)

    def forget(self, unit: Unit, migration: str) -> None:
        """Drop the note, if it is the migration's."""
        record = self._record(unit.path)
        with shared.locked(self._place.at(self._place.lock_path)):
            disk.unlink(_draft(record, migration))
            if self._is_ours(unit, migration):
                self._drop(record)
            disk.remove_empty(record.parent)

    def refuse_stranger(self, unit: Unit, migration: str) -> None:
        """See that the migration has the device still."""
        if not self._is_ours(unit, migration):
            raise ForeignObject(what=unit.path, host=self._place.host)
        found = devices.look(self._place.at(unit.path))
        if found is None or found.size_bytes < unit.files[0].size_bytes:
            raise DiskNotFound(host=self._place.host, path=unit.path)

    def stranger(self, unit: Unit, migration: str) -> str:
        """Return, as a sentence, that the device is not the migration's."""
        if self._is_ours(unit, migration):
            return ""
        return f"{unit.path} is not noted as that of migration {migration}"

    # -- marks --------------------------------------------------------------------------------------------

    def marked(self) -> list[Marked]:
        """Return the notes."""
        return [
            Marked(str(Path("/", record.relative_to(self._place.root))), MarkKind.MADE, note.migration)
            for record, note in self._notes()
        ]

    def is_note(self, path: str) -> bool:
        """Whether *path* is that of a note."""
        return path.startswith(f"{self._place.devices_path}/")

    def remove_marked(self, mark: Marked) -> None:
        """Drop a note."""
        self._drop(self._place.at(mark.path))

    # -- underneath ---------------------------------------------------------------------------------------

    def _users(self, path: str, found: devices.Device, migration: str) -> list[str]:
        note = self._taken(found.identity)
        if note is not None and note.migration != migration:
            return [f"{path} is taken by migration {note.migration}: hostler migration show {note.migration}"]
        if self._in_use(path):
            return [f"{path} is used by a server of this host, or needed by one that may come back"]
        if devices.is_held(self._place.at(path)):
            return [f"{path} is in use on this host: it is mounted, or part of another device"]
        return []

    def _record(self, path: str) -> Path:
        name = hashlib.sha256(path.encode()).hexdigest()[:32]
        return self._place.at(self._place.devices_path) / f"{name}.json"

    def _notes(self) -> Iterator[tuple[Path, Note]]:
        for record in sorted(self._place.at(self._place.devices_path).glob("*.json")):
            yield record, Note.from_dict(json.loads(record.read_text(encoding="utf-8")))

    def _taken(self, identity: devices.Identity) -> Note | None:
        for _, note in self._notes():
            found = devices.look(self._place.at(note.path))
            if found is not None and found.identity == identity:
                return note
        return None

    def _is_ours(self, unit: Unit, migration: str) -> bool:
        return any(note.path == unit.path and note.migration == migration for _, note in self._notes())

    @staticmethod
    def _drop(record: Path) -> None:
        disk.unlink(record)
        disk.sync_directory(record.parent)


def _draft(record: Path, migration: str) -> Path:
    return record.with_name(f"{record.name}.{migration}.new")
