"""What on a host's file systems carries a migration's mark: found and, piece by piece, removed.

It is looked for where servers' files lie: under *instances_path*, among the UEFI variables and the TPM states,
beside every disk of a domain, and wherever else the caller knows that a migration has been.
"""

from __future__ import annotations

import enum
import os
import posixpath
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hostler.drivers.files import disk, markers, rename
from hostler.drivers.files.chain import Chains
from hostler.drivers.files.markers import Marker
from hostler.drivers.files.place import Place
from hostler.drivers.files.uses import Uses
from hostler.errors import ForeignObject, MigrationError
from hostler.objects import Domain, Record

_ASIDE, _REMOVED, _MADE = "_resize", "_removed", ".made"


class MarkKind(enum.StrEnum):
    """What a marked path is."""

    KEPT = "kept"  #: a part directory that an undo has left for the next attempt
    PART = "part"  #: a part directory, also one that is being made or removed
    ASIDE = "aside"  #: a file or directory that was set aside on the source
    REMOVAL = "removal"  #: one that was set aside, and is being removed
    MADE = "made"  #: the note that a directory was made for a migration
    MARK = "mark"  #: a marker, or the draft of one, in a directory that has its own name
    PROOF = "proof"  #: a file by which one host shows the other that both have its directory


@dataclass(frozen=True)
class Marked(Record):
    """One path with our mark."""

    path: str
    kind: MarkKind
    migration: str  #: ``unknown`` where a marker cannot be read
    proven: bool = True  #: what lies there is what the name says, and its marker agrees
    home: str = ""  #: ASIDE: where it belongs
    home_taken: bool = False  #: ASIDE: something lies there
    placed: list[str] = field(default_factory=list)  #: PART: what it placed, as far as it is there still
    volume: str = ""  #: it is this logical volume, ``GROUP/NAME``


class Marks:
    """The marked paths of *place*."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def find(self, domains: Sequence[Domain], more: Iterable[str] = ()) -> list[Marked]:
        """Return all marked paths. *more*: further directories to look in. It only reads."""
        found: dict[str, Marked] = {}
        for parent in dict.fromkeys([*self._bases(), *_directories(domains), *more]):
            for one in self._in(parent):
                found.setdefault(str(self._place.at(one.path).resolve()), one)
        return sorted(found.values(), key=lambda one: one.path)

    def remove(self, mark: Marked, domains: Sequence[Domain]) -> None:
        """Remove it and see it gone; nothing if it is. What has changed, or is used, is left and refused."""
        path = self._place.at(mark.path)
        if mark.kind is MarkKind.MARK:
            markers.clear(path, mark.migration)
            return
        if disk.look(path) is None:
            return
        if self._read(mark.path) != mark or not mark.proven:
            raise ForeignObject(what=mark.path, host=self._place.host)
        self._refuse_used(mark, domains)
        if mark.kind is MarkKind.MADE:
            self._unmake(path)
        else:
            self._remove(path, mark)

    # -- finding ------------------------------------------------------------------------------------------

    def _bases(self) -> Iterator[str]:
        for base in (self._place.instances_path, self._place.nvram_path, self._place.tpm_path):
            yield base
            yield from (f"{base}/{name}" for name, below in self._entries(base) if below)

    def _in(self, parent: str) -> Iterator[Marked]:
        for name, _ in self._entries(parent):
            if (draft := markers.migration_of_draft(name)) is not None:
                yield Marked(parent, MarkKind.MARK, draft)
            elif (found := self._read(posixpath.join(parent, name))) is not None:
                yield found

    def _entries(self, parent: str) -> list[tuple[str, bool]]:
        """Return names and whether each is a directory; nothing of what is not there."""
        try:
            with os.scandir(self._place.at(parent)) as entries:
                return sorted((one.name, one.is_dir(follow_symlinks=False)) for one in entries)
        except (FileNotFoundError, NotADirectoryError):
            return []

    def _read(self, path: str) -> Marked | None:
        """Return what *path* is to us; None if it carries no mark."""
        local, name = self._place.at(path), posixpath.basename(path)
        status = disk.look(local)
        directory = disk.is_directory(status)
        if (shown := markers.migration_of_token(name)) is not None:
            return Marked(path, MarkKind.PROOF, shown, proven=disk.is_file(status))
        marker = markers.read(local) if directory else None
        named = markers.migration_in(name)
        plain = directory or disk.is_file(status)
        if named is None:
            return self._by_marker(path, marker) if marker else None
        if name.endswith(_ASIDE):
            return self._aside(path, f".{named}{_ASIDE}", named, proven=plain and not directory)
        if name.endswith(_REMOVED):
            return Marked(path, MarkKind.REMOVAL, named, proven=plain)
        if name.endswith(_MADE):
            return Marked(path, MarkKind.MADE, named, proven=disk.is_file(status))
        whole = name.endswith((".part", ".kept"))
        agrees = marker is not None and marker.migration == named if whole else True
        return Marked(
            path,
            MarkKind.KEPT if name.endswith((".kept", ".kept.old")) else MarkKind.PART,
            named,
            directory and agrees,
            placed=self._placed(path, marker) if name.endswith(".part") else [],
        )

    def _by_marker(self, path: str, marker: Marker) -> Marked:
        proven = marker is not markers.UNREADABLE
        if path.endswith(_ASIDE):
            return self._aside(path, _ASIDE, marker.migration, proven)
        return Marked(path, MarkKind.MARK, marker.migration, proven)

    def _aside(self, path: str, suffix: str, migration: str, proven: bool) -> Marked:
        home = path.removesuffix(suffix)
        taken = disk.look(self._place.at(home)) is not None
        return Marked(path, MarkKind.ASIDE, migration, proven, home=home, home_taken=taken)

    def _placed(self, path: str, marker: Marker | None) -> list[str]:
        found = []
        for name, inode in (marker.placed if marker else {}).items():
            final = posixpath.join(posixpath.dirname(path), name)
            status = disk.look(self._place.at(final))
            if status is not None and status.st_ino == inode:
                found.append(final)
        return found

    # -- removing -----------------------------------------------------------------------------------------

    def _refuse_used(self, mark: Marked, domains: Sequence[Domain]) -> None:
        uses = Uses(self._place, domains, Chains(self._place.at))
        servers = sorted({use.server for use in [*uses.of(mark.path), *uses.within(mark.path)]})
        if servers:
            raise MigrationError(f"{mark.path} is used by {', '.join(servers)}")

    def _remove(self, path: Path, mark: Marked) -> None:
        if disk.is_directory(disk.look(path)):
            removed = self._as_removal(path, mark)
            disk.remove_tree(removed)  # of an earlier removal that was cut short
            if removed != path:
                rename.rename(path, removed)
                disk.remove_tree(removed)
        else:
            disk.unlink(path)
            disk.sync_directory(path.parent)

    @staticmethod
    def _as_removal(path: Path, mark: Marked) -> Path:
        """Return a name under which a removal that is cut short is known as one."""
        if mark.kind is MarkKind.ASIDE:
            return path.with_name(f"{path.name.removesuffix(_ASIDE)}.{mark.migration}{_REMOVED}")
        if path.name.endswith((".part", ".kept")):
            return path.with_name(f"{path.name}.old")
        return path

    @staticmethod
    def _unmake(record: Path) -> None:
        name = markers.made_directory(record.name)
        if name is not None:
            disk.remove_empty(record.with_name(name))
            disk.sync_directory(record.parent)
        disk.unlink(record)
        disk.sync_directory(record.parent)


def _directories(domains: Sequence[Domain]) -> Iterator[str]:
    for domain in domains:
        # The names that LVM makes of its volumes are links, and tell nothing: their tags do.
        paths = [path for one in domain.disks if not one.block for path in (one.path, *one.backing)]
        for path in [*paths, domain.nvram, domain.tpm_state]:
            if path is not None and path.startswith("/"):
                yield posixpath.dirname(path)
