"""Whether units can be received here: parents, names, space. It only reads."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from pathlib import PurePosixPath

from hostler.drivers.files import disk, markers, space
from hostler.drivers.files.parts import part_name
from hostler.drivers.files.place import Place
from hostler.errors import DiskNotFound, ImageTransferError, InvalidDiskInfo
from hostler.objects import Unit, UnitKind


class Room:
    """One look at whether *units* of *instance* fit; those at the paths *here* lie here, and will be set aside.

    *kept*: directories that may go if their room is wanted.
    """

    def __init__(
        self,
        place: Place,
        instance: str,
        migration: str,
        digest: Callable[[str], str],
        here: Collection[str] = (),
        kept: Sequence[str] = (),
    ) -> None:
        self._place = place
        self._kept = kept
        self._instance = instance
        self._migration = migration
        self._digest = digest
        self._here = here

    def problems(self, units: Sequence[Unit]) -> list[str]:
        """Return sentences."""
        found: list[str] = []
        arriving = [unit for unit in units if unit.kind is not UnitKind.IN_PLACE]
        for parent in dict.fromkeys(str(PurePosixPath(unit.path).parent) for unit in arriving):
            found += self._parent_problems(parent)
        for unit in units:
            if unit.kind is UnitKind.IN_PLACE or unit.path in self._here:
                found += self._identity_problems(unit)
            else:
                found += self._name_problems(unit)
        return found + space.problems(self._place, missing(self._place, units), {}, self._kept)

    def _parent_problems(self, parent: str) -> list[str]:
        directory = self._place.at(parent)
        if not directory.exists():
            if not self._place.makeable(parent):
                return [f"there is no directory {parent}: make it or mount it"]
            directory = space.nearest(directory)
        if not directory.is_dir():
            return [f"{parent} is not a directory"]
        if os.statvfs(directory).f_flag & os.ST_RDONLY:
            return [f"the file system of {parent} is mounted read-only"]
        if not os.access(directory, os.W_OK | os.X_OK):
            return [f"{parent} is not writable for hostler"]
        return self._leftovers(parent)

    def _leftovers(self, parent: str) -> list[str]:
        """Part directories of an earlier migration of the same server."""
        own = part_name(self._instance, self._migration)
        found = []
        with os.scandir(space.nearest(self._place.at(parent))) as entries:
            names = sorted(entry.name for entry in entries)
        for name in names:
            migration = markers.migration_in(name)
            ours = name == own or name.startswith(own + ".")
            if migration and name.startswith(f"{self._instance}.{migration}.part") and not ours:
                found.append(
                    f"{parent}/{name} was left by migration {migration}: hostler migration show {migration}"
                )
        return found

    def _name_problems(self, unit: Unit) -> list[str]:
        final = disk.look(self._place.at(unit.path))
        if final is None:
            return []
        if unit.kind is UnitKind.OWN and final.st_ino == unit.inode:
            return [
                f"{unit.path} is here, and may be the source's own, although no token of the source is beside it"
            ]
        if unit.kind is UnitKind.OWN:
            return [f"there is a {unit.path} already: move it away if nobody needs it"]
        if not disk.is_file(final):
            return [f"{unit.path} is here, but is not a regular file"]
        return _other_contents(unit, self._digest, "on the source")

    def _identity_problems(self, unit: Unit) -> list[str]:
        """The directory is the source's: so must be what lies in it, and not something mounted over it here."""
        final = disk.look(self._place.at(unit.path))
        if final is None:
            return [f"{unit.path} is not here, although its directory is the source's"]
        fits = disk.is_directory(final) if unit.directory else disk.is_file(final)
        if not fits or final.st_ino != unit.inode:
            return [
                f"{unit.path} is not the source's here, although its directory is: see what is mounted there"
            ]
        return absent(self._place, [unit])


def missing(place: Place, units: Sequence[Unit]) -> list[Unit]:
    """Return all OWN units, and the SHARED ones that are not here."""
    return [
        unit
        for unit in units
        if unit.kind is UnitKind.OWN
        or (unit.kind is UnitKind.SHARED and disk.look(place.at(unit.path)) is None)
    ]


def absent(place: Place, units: Sequence[Unit]) -> list[str]:
    """Return, as sentences, which files of *units* are not at their final paths."""
    paths = [f"{unit.path}/{entry.name}".rstrip("/") for unit in units for entry in unit.files]
    return [f"{path} is not there" for path in paths if not disk.is_file(disk.look(place.at(path)))]


def changed(place: Place, units: Sequence[Unit], digest: Callable[[str], str]) -> list[str]:
    """Return, as sentences, which of *units* that stayed are not there, or SHARED and with other contents."""
    found = []
    for unit in units:
        if unit.kind is UnitKind.SHARED:
            found += absent(place, [unit]) or _other_contents(unit, digest, "when it was inspected")
        elif unit.kind is UnitKind.IN_PLACE:
            found += absent(place, [unit])
    return found


def other_contents(place: Place, units: Sequence[Unit], digest: Callable[[str], str]) -> list[str]:
    """Return, as sentences, which SHARED *units* that are here have other contents than on the source."""
    here = [unit for unit in units if unit.kind is UnitKind.SHARED and disk.look(place.at(unit.path))]
    return [problem for unit in here for problem in _other_contents(unit, digest, "on the source")]


def _other_contents(unit: Unit, digest: Callable[[str], str], than: str) -> list[str]:
    """Return, as a sentence, that the SHARED *unit*'s file here has other contents."""
    try:
        same = digest(unit.path) == unit.digest
    except (DiskNotFound, ImageTransferError, InvalidDiskInfo, OSError) as error:
        return [f"{unit.path} cannot be read: {error}"]
    return [] if same else [f"{unit.path} is here with other contents than {than}"]
