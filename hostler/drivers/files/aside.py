"""The source's side: set a unit aside, put it back, remove it.

A unit is known by its inode, as it was at the inspection. Not by its device number: that may be another one
after a reboot, and a unit that was set aside before must be put back after it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from hostler.drivers.files import disk, markers, rename, tree
from hostler.drivers.files.markers import Marker
from hostler.drivers.files.place import Place
from hostler.errors import DestinationDiskExists, DiskNotFound, ForeignObject, MigrationError
from hostler.objects import Unit, UnitKind


@dataclass(frozen=True)
class Names:
    """The names that a unit has in the course of a migration."""

    home: Path
    aside: Path
    removed: Path  #: while it is being removed: a name that is the migration's alone


class Aside:
    """Sets aside the OWN units of *place*. The others are never touched."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def path(self, unit: Unit, migration: str) -> str:
        """See :meth:`hostler.drivers.files.InstanceFiles.aside`."""
        if unit.kind is not UnitKind.OWN:
            return unit.path
        return unit.path + ("_resize" if unit.directory else f".{migration}_resize")

    def names(self, unit: Unit, migration: str) -> Names:
        """Return the paths of *unit*, as this process opens them."""
        home = self._place.at(unit.path)
        return Names(
            home=home,
            aside=self._place.at(self.path(unit, migration)),
            removed=home.with_name(f"{home.name}.{migration}_removed"),
        )

    def set_aside(self, unit: Unit, migration: str) -> None:
        """See :meth:`hostler.drivers.files.InstanceFiles.set_aside`."""
        if unit.kind is not UnitKind.OWN:
            return
        names = self.names(unit, migration)
        if rename.finish_half(names.home, names.aside):
            return
        if disk.look(names.aside) is not None:
            self._check_aside(unit, migration, names)
            rename.sync_names(names.home, names.aside)
            return
        self._check_home(unit, names)
        if unit.directory:
            self._check_contents(unit, names.home)
            self._mark(unit, migration, names.home)
        rename.rename(names.home, names.aside)

    def put_back(self, unit: Unit, migration: str) -> None:
        """See :meth:`hostler.drivers.files.InstanceFiles.put_back`."""
        if unit.kind is not UnitKind.OWN:
            return
        names = self.names(unit, migration)
        with disk.fresh(names.home.parent):
            if not rename.finish_half(names.aside, names.home):
                if self._is_aside(unit, migration, names):
                    if disk.look(names.home) is not None:
                        raise DestinationDiskExists(host=self._place.host, path=unit.path)
                    rename.rename(names.aside, names.home)
                self._check_home(unit, names)
            rename.sync_names(names.aside, names.home)
            if unit.directory:
                markers.clear(names.home, migration)

    def remove_aside(self, unit: Unit, migration: str) -> None:
        """See :meth:`hostler.drivers.files.InstanceFiles.remove_aside`."""
        if unit.kind is not UnitKind.OWN:
            return
        names = self.names(unit, migration)
        self._remove(names.removed, unit)
        if disk.look(names.aside) is None:
            return
        if not self._is_aside(unit, migration, names):
            self._foreign(names.aside)
        rename.rename(names.aside, names.removed)
        self._remove(names.removed, unit)
        if disk.look(names.removed) is not None or disk.look(names.aside) is not None:
            raise MigrationError(f"{self._place.host}: {names.removed} is still there after its removal")

    def problems(self, unit: Unit, migration: str, replaced: bool = False) -> list[str]:
        """Return, as sentences, why *unit* could not be put back whole; *replaced*: its name is taken by its copy."""
        if unit.kind is not UnitKind.OWN:
            return []
        names = self.names(unit, migration)
        aside = self.path(unit, migration)
        if not self._is_aside(unit, migration, names):
            return [f"{aside} is not there, or is not what was set aside"]
        if not replaced and disk.look(names.home) is not None:
            return [f"there is a {unit.path} again: move it away"]
        files = [(f"{aside}/{entry.name}", names.aside / entry.name) for entry in unit.files if entry.name]
        return [f"{path} is not there" for path, file in files if not disk.is_file(disk.look(file))]

    def _remove(self, path: Path, unit: Unit) -> None:
        if disk.look(path) is None:
            return
        if unit.directory:
            disk.remove_tree(path)
        else:
            disk.unlink(path)
            disk.sync_directory(path.parent)

    def _check_aside(self, unit: Unit, migration: str, names: Names) -> None:
        """The name is taken: by this unit, and by it alone, or refuse."""
        home = disk.look(names.home)
        if self._is_aside(unit, migration, names):
            if home is not None:
                self._foreign(names.home)
        elif home is not None:
            raise DestinationDiskExists(host=self._place.host, path=str(names.aside))
        else:
            self._foreign(names.aside)

    def _check_home(self, unit: Unit, names: Names) -> None:
        found = disk.look(names.home)
        if found is None:
            raise DiskNotFound(host=self._place.host, path=unit.path)
        kind_fits = disk.is_directory(found) if unit.directory else disk.is_file(found)
        if not kind_fits or found.st_ino != unit.inode:
            self._foreign(names.home)

    def _check_contents(self, unit: Unit, directory: Path) -> None:
        """What was not inspected would not be copied, and be lost when the source is cleared."""
        inspected = {entry.name for entry in unit.files}
        found = {entry.name for entry in tree.read(directory, unit.path).files}
        changes = [f"{name} is new" for name in sorted(found - inspected)]
        changes += [f"{name} is gone" for name in sorted(inspected - found)]
        if changes:
            changed = ", ".join(changes)
            raise MigrationError(
                f"{self._place.host}: {unit.path} has changed since it was inspected: {changed}"
            )

    def _is_aside(self, unit: Unit, migration: str, names: Names) -> bool:
        """Whether this unit was set aside by this migration."""
        found = disk.look(names.aside)
        if found is None or found.st_ino != unit.inode:
            return False
        if not unit.directory:
            return disk.is_file(found)
        marker = markers.read(names.aside)
        return disk.is_directory(found) and marker is not None and marker.migration == migration

    def _mark(self, unit: Unit, migration: str, directory: Path) -> None:
        marker = markers.read(directory)
        if marker is not None and marker.migration != migration:
            self._foreign(directory)
        markers.write(directory, Marker(migration=migration, what=f"{unit.path}, set aside"))

    def _foreign(self, path: Path) -> NoReturn:
        raise ForeignObject(what=str(path), host=self._place.host)
