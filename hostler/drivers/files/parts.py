"""Part directories: where the units of a migration arrive, beside their final places.

A part directory gets its name only when its marker is in it, and loses it before it is emptied, so a
directory under that name is always marked; the names in between carry the migration's uuid, too.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath

from hostler.drivers.files import disk, markers, rename, shared
from hostler.drivers.files.markers import Marker
from hostler.drivers.files.place import Place, as_destination
from hostler.errors import DestinationUnusable, ForeignObject, MigrationError, SharedFileArriving
from hostler.objects import Unit, UnitKind

#: What libvirt gives to the directories that we may make in its stead.
_MADE_MODE = 0o711


class Parts:
    """The part directories on *place*."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def path(self, unit: Unit, instance: str, migration: str) -> str:
        """See :meth:`hostler.drivers.files.InstanceFiles.part`."""
        home = PurePosixPath(unit.path)
        return str(home.with_name(part_name(instance, migration)) / home.name)

    def directory(self, unit: Unit, instance: str, migration: str) -> Path:
        """Return the part directory of *unit*."""
        return self._place.at(_parent(unit)) / part_name(instance, migration)

    def marker(self, unit: Unit, instance: str, migration: str) -> Marker | None:
        """Return the marker of the part directory of *unit*, if that is ours."""
        directory = self.directory(unit, instance, migration)
        found = markers.read(directory) if disk.is_directory(disk.look(directory)) else None
        ours = found is not None and (found.migration, found.instance) == (migration, instance)
        return found if ours else None

    def made(self, parent: str, migration: str) -> bool:
        """Whether *parent*, or a directory that it lies in, was made for *migration*."""
        records = (self._record(one, migration) for one in _from_above(parent))
        return any(disk.look(record) is not None for record in records)

    def make(
        self, units: Sequence[Unit], instance: str, migration: str, over: Collection[str] = ()
    ) -> list[Unit]:
        """See :meth:`hostler.drivers.files.InstanceFiles.make_parts`; return the SHARED units that must be received."""
        with as_destination(self._place):
            units = [unit for unit in units if unit.kind is not UnitKind.IN_PLACE]
            for unit in _one_a_parent(units):
                self._make_parent(_parent(unit), migration)
                self._make_directory(unit, instance, migration)
            with shared.locked(self._place.at(self._place.lock_path)):
                absent = self._share(units, instance, migration, over)
            for unit in units:
                self._make_unit(unit, instance, migration)
        return absent

    def remove(self, units: Sequence[Unit], instance: str, migration: str) -> None:
        """See :meth:`hostler.drivers.files.InstanceFiles.remove_parts`."""
        with as_destination(self._place):
            for unit in _one_a_parent(units):
                if disk.look(self._place.at(_parent(unit))) is not None:
                    self._remove_directory(unit, instance, migration)
            for unit in _one_a_parent(units):
                self._unmake_parent(_parent(unit), migration)

    # -- the part directory -------------------------------------------------------------------------------

    def _make_directory(self, unit: Unit, instance: str, migration: str) -> None:
        directory = self.directory(unit, instance, migration)
        if disk.look(directory) is not None:
            if self.marker(unit, instance, migration) is None:
                raise ForeignObject(what=str(directory), host=self._place.host)
            return
        draft = _with_suffix(directory, ".new")
        disk.make_directory(draft)
        what = f"receives files of server {instance}"
        markers.write(draft, Marker(migration=migration, what=what, instance=instance))
        rename.rename(draft, directory)

    def _share(
        self, units: Sequence[Unit], instance: str, migration: str, over: Collection[str]
    ) -> list[Unit]:
        """Note which SHARED units are used as they were found here, and that the others are received; return those."""
        absent = []
        for unit in units:
            if unit.kind is UnitKind.SHARED:
                if disk.look(self._place.at(unit.path)) is None:
                    absent.append(unit)
                else:
                    self._rely(unit, instance, migration)
        new = [unit for unit in absent if not self._receives(unit, instance, migration)]
        for unit in new:
            other = shared.receiver_of(self._place.at(unit.path), migration, over)
            if other is not None:
                raise SharedFileArriving(path=unit.path, host=self._place.host, migration=other)
        for unit in new:
            self._receive(unit, instance, migration)
        return absent

    def _rely(self, unit: Unit, instance: str, migration: str) -> None:
        """Note that *unit* is used as it was found here."""
        marker = self.marker(unit, instance, migration)
        name = PurePosixPath(unit.path).name
        if marker is None or name in marker.placed or name in marker.relies:
            return
        marker.relies.append(name)
        markers.write(self.directory(unit, instance, migration), marker)

    def _receives(self, unit: Unit, instance: str, migration: str) -> bool:
        marker = self.marker(unit, instance, migration)
        return marker is not None and PurePosixPath(unit.path).name in marker.receives

    def _receive(self, unit: Unit, instance: str, migration: str) -> None:
        """Note that *unit* is received, for others, too."""
        marker = self.marker(unit, instance, migration)
        if marker is not None:
            marker.receives.append(PurePosixPath(unit.path).name)
            markers.write(self.directory(unit, instance, migration), marker)

    def _make_unit(self, unit: Unit, instance: str, migration: str) -> None:
        marker = self.marker(unit, instance, migration)
        name = PurePosixPath(unit.path).name
        if not unit.directory or (marker is not None and self._is_placed(unit, marker)):
            return
        part = self.directory(unit, instance, migration) / name
        for directory in [part, *(part / below for below in unit.subdirectories)]:
            disk.make_directory(directory)

    def _is_placed(self, unit: Unit, marker: Marker) -> bool:
        found = disk.look(self._place.at(unit.path))
        return found is not None and marker.placed.get(PurePosixPath(unit.path).name) == found.st_ino

    def _remove_directory(self, unit: Unit, instance: str, migration: str) -> None:
        directory = self.directory(unit, instance, migration)
        removed, draft = _with_suffix(directory, ".old"), _with_suffix(directory, ".new")
        for leftover in (removed, draft):
            if disk.look(leftover) is not None:
                disk.remove_tree(leftover)
        if disk.look(directory) is None:
            return
        if self.marker(unit, instance, migration) is None:
            raise ForeignObject(what=str(directory), host=self._place.host)
        rename.rename(directory, removed)
        disk.remove_tree(removed)
        if disk.look(removed) is not None or disk.look(directory) is not None:
            raise MigrationError(f"{self._place.host}: {directory} is still there after its removal")

    # -- its parent ---------------------------------------------------------------------------------------
    # What we make is recorded beside it, not in it: it can be removed in one step, and the record after it.

    def _make_parent(self, path: str, migration: str) -> None:
        missing = [
            one
            for one in _from_above(path)
            if self._place.makeable(one) and not self._was_here(one, migration)
        ]
        for one in missing:
            directory, record = self._place.at(one), self._record(one, migration)
            if disk.look(record) is None:
                disk.write_file(record, "")
                disk.sync_directory(record.parent)
            disk.make_directory(directory, _MADE_MODE)
            disk.sync_directory(directory.parent)
        if not self._place.at(path).is_dir():
            reason = "there is no such directory: make it or mount it"
            raise DestinationUnusable(host=self._place.host, path=path, reason=reason)

    def _unmake_parent(self, path: str, migration: str) -> None:
        for one in reversed(_from_above(path)):
            record = self._record(one, migration)
            if disk.look(record) is not None:
                disk.remove_empty(self._place.at(one))
                disk.sync_directory(record.parent)
                disk.unlink(record)
                disk.sync_directory(record.parent)

    def _was_here(self, path: str, migration: str) -> bool:
        return self._place.at(path).is_dir() and disk.look(self._record(path, migration)) is None

    def _record(self, path: str, migration: str) -> Path:
        directory = self._place.at(path)
        return directory.with_name(f"{directory.name}.{migration}.made")


def part_name(instance: str, migration: str) -> str:
    """Return the name of the part directories of *migration*."""
    return f"{instance}.{migration}.part"


def _with_suffix(directory: Path, suffix: str) -> Path:
    return directory.with_name(directory.name + suffix)


def _parent(unit: Unit) -> str:
    return str(PurePosixPath(unit.path).parent)


def _one_a_parent(units: Sequence[Unit]) -> list[Unit]:
    """Return one unit for each directory in which units lie."""
    return list({_parent(unit): unit for unit in units}.values())


def _from_above(path: str) -> list[str]:
    """Return *path* and the directories that it lies in, outermost first, without the root."""
    own = PurePosixPath(path)
    return [str(one) for one in [*reversed(own.parents), own] if one.name]
