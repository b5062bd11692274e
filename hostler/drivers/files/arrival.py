"""The destination's side: put what has arrived into its final place, and take it out again."""

from __future__ import annotations

import dataclasses
import filecmp
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hostler.drivers.files import disk, markers, rename, shared
from hostler.drivers.files.markers import Marker
from hostler.drivers.files.parts import Parts
from hostler.drivers.files.place import Place, as_destination
from hostler.errors import DestinationDiskExists, DiskNotFound, ForeignObject
from hostler.objects import Unit, UnitKind

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Spot:
    """Where one unit arrives and where it belongs."""

    directory: Path  #: the part directory
    marker: Marker
    part: Path
    final: Path

    @property
    def recorded(self) -> int | None:
        """The inode that was, or was about to be, placed."""
        return self.marker.placed.get(self.final.name)


class Arrival:
    """Places and takes back units on *place*; *in_use* says whether a server there uses a shared file."""

    def __init__(self, place: Place, parts: Parts, in_use: Callable[[str], bool]) -> None:
        self._place = place
        self._parts = parts
        self._in_use = in_use

    def place(self, unit: Unit, instance: str, migration: str) -> None:
        """See :meth:`hostler.drivers.files.InstanceFiles.place`."""
        with as_destination(self._place):
            spot = self._spot(unit, instance, migration)
            if spot is None:
                directory = self._parts.directory(unit, instance, migration)
                if disk.look(directory) is not None:
                    raise ForeignObject(what=str(directory), host=self._place.host)
                raise DiskNotFound(host=self._place.host, path=str(directory))
            if unit.kind is UnitKind.SHARED:
                with shared.locked(self._place.at(self._place.lock_path)):
                    self._place_shared(unit, spot)
            else:
                self._place_own(unit, spot)

    def unplace(self, unit: Unit, instance: str, migration: str) -> None:
        """See :meth:`hostler.drivers.files.InstanceFiles.unplace`."""
        with as_destination(self._place):
            spot = self._spot(unit, instance, migration)
            if spot is None or spot.recorded is None:
                return
            if unit.kind is UnitKind.SHARED:
                with shared.locked(self._place.at(self._place.lock_path)):
                    if not shared.relied_on(spot.final, migration) and not self._in_use(unit.path):
                        self._take_back(spot)
            else:
                self._take_back(spot)

    def stranger(self, unit: Unit, instance: str, migration: str) -> str:
        """Return, as a sentence, that what is in *unit*'s place is not the migration's; nothing if it is."""
        final = disk.look(self._place.at(unit.path))
        spot = self._spot(unit, instance, migration)
        if final is None or (spot is not None and spot.recorded == final.st_ino):
            return ""
        return f"{unit.path} is not what migration {migration} has placed there: move it away if it is needed"

    def written(self, unit: Unit, instance: str, migration: str) -> list[str]:
        """Return the paths of *unit*'s images whose times are later than the record of their placing."""
        spot = self._spot(unit, instance, migration)
        if spot is None:
            return []
        placed_at = (spot.directory / markers.NAME).lstat().st_mtime_ns
        # A guest that is only created has its TPM and its UEFI variables written to.
        images = [entry for entry in unit.files if entry.virtual_bytes]
        files = {
            f"{unit.path}/{entry.name}".rstrip("/"): disk.look(spot.final / entry.name) for entry in images
        }
        return [path for path, found in files.items() if found is not None and found.st_mtime_ns > placed_at]

    def _spot(self, unit: Unit, instance: str, migration: str) -> Spot | None:
        marker = self._parts.marker(unit, instance, migration)
        if marker is None:
            return None
        directory = self._parts.directory(unit, instance, migration)
        final = self._place.at(unit.path)
        return Spot(directory=directory, marker=marker, part=directory / final.name, final=final)

    # -- there --------------------------------------------------------------------------------------------

    def _place_own(self, unit: Unit, spot: Spot) -> None:
        if self._is_placed(spot):
            return
        with disk.fresh(spot.final.parent):
            taken = disk.look(spot.final) is not None
        if taken:
            raise DestinationDiskExists(host=self._place.host, path=unit.path)
        if not self._was_placed(spot):
            self._check_complete(unit, spot)
            _seal(unit, spot.part)
            inode = spot.part.lstat().st_ino
            placed = {**spot.marker.placed, spot.final.name: inode}
            markers.write(spot.directory, dataclasses.replace(spot.marker, placed=placed))
        rename.rename(spot.part, spot.final)

    def _place_shared(self, unit: Unit, spot: Spot) -> None:
        """Place it, unless the same contents are there by now: then rely on those and drop ours."""
        if disk.look(spot.final) is None or self._is_placed(spot):
            self._place_own(unit, spot)
            return
        arrived = disk.look(spot.part) is not None
        relied = spot.final.name in spot.marker.relies
        if arrived and not filecmp.cmp(spot.part, spot.final, shallow=False):
            raise DestinationDiskExists(host=self._place.host, path=unit.path)
        if not arrived and not relied:
            raise DestinationDiskExists(host=self._place.host, path=unit.path)
        if not relied:
            relies = [*spot.marker.relies, spot.final.name]
            markers.write(spot.directory, dataclasses.replace(spot.marker, relies=relies))
        disk.unlink(spot.part)

    def _is_placed(self, spot: Spot) -> bool:
        """Whether ours is in its final place; completes a rename that was cut short."""
        final = disk.look(spot.final)
        if final is None or final.st_ino != spot.recorded:
            return False
        if rename.finish_half(spot.part, spot.final):
            return True
        if disk.look(spot.part) is not None:
            return False
        rename.sync_names(spot.part, spot.final)
        return True

    @staticmethod
    def _was_placed(spot: Spot) -> bool:
        """Whether what is in the part directory was sealed, and is as it was taken out of its final place."""
        part = disk.look(spot.part)
        return part is not None and part.st_ino == spot.recorded

    def _check_complete(self, unit: Unit, spot: Spot) -> None:
        fits = disk.is_directory if unit.directory else disk.is_file
        if not fits(disk.look(spot.part)):
            raise DiskNotFound(host=self._place.host, path=str(spot.part))
        for entry in unit.files:
            file = spot.part / entry.name if entry.name else spot.part
            if not disk.is_file(disk.look(file)):
                raise DiskNotFound(host=self._place.host, path=str(file))

    # -- back ---------------------------------------------------------------------------------------------

    def _take_back(self, spot: Spot) -> None:
        if rename.finish_half(spot.final, spot.part):
            return
        final = disk.look(spot.final)
        if final is None or final.st_ino != spot.recorded:
            if final is not None and disk.look(spot.part) is None:
                LOG.warning("%s is not what this migration placed; it was left as it is", spot.final)
            return
        rename.rename(spot.final, spot.part)


def _seal(unit: Unit, part: Path) -> None:
    """Drop what the unit does not list; mode, owner and fsync for all that it does, innermost first."""
    if unit.directory:
        _drop_strangers(unit, part)
    for entry in unit.files:
        file = part / entry.name if entry.name else part
        disk.seal(file, directory=False, mode=entry.mode, uid=entry.uid, gid=entry.gid)
    if not unit.directory:
        return
    for below in reversed(unit.subdirectories):
        # A record has no mode for a subdirectory: it takes after the unit.
        disk.seal(part / below, directory=True, mode=unit.mode, uid=unit.uid, gid=unit.gid)
    disk.seal(part, directory=True, mode=unit.mode, uid=unit.uid, gid=unit.gid)


def _drop_strangers(unit: Unit, part: Path) -> None:
    """Remove what arrived beside the unit's files: notes of the receiver's, say."""
    files = {entry.name for entry in unit.files}
    for top, directories, names in os.walk(part):
        below = Path(top).relative_to(part)
        for name in names:
            if str(below / name) not in files:
                disk.unlink(Path(top) / name)
        for name in directories:
            if (Path(top) / name).is_symlink():
                disk.unlink(Path(top) / name)
