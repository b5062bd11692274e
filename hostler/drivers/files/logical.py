"""Logical volumes: copied from one volume group into the one of the same name on another host.

On the source a volume is set aside, on the destination one arrives and is then given its name::

    GROUP/NAME                   ->  GROUP/NAME.<migration>_resize
    GROUP/NAME.<migration>.part  ->  GROUP/NAME

Each is known by its tag, ``hostler.<migration>``, and by LVM's UUID: that of the source's is in the record of the
inspection. What arrives is a linear volume, whatever it was.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from typing import NoReturn

from hostler.drivers.files.lvm import Found, Group, Lvm
from hostler.drivers.files.marked import Marked, MarkKind
from hostler.drivers.files.place import Place
from hostler.errors import DestinationDiskExists, DiskNotFound, ForeignObject, MigrationError
from hostler.objects import LogicalVolume, Unit

LOG = logging.getLogger(__name__)

_TAG = "hostler."
#: What device-mapper takes as a name, group and volume together: DM_NAME_LEN, without its zero byte.
_NAME_MAX = 127
_LONGEST = "00000000-0000-0000-0000-000000000000_resize."
_OURS = re.compile(r"(?P<home>.+)\.(?P<migration>[0-9a-f-]{36})(?P<suffix>_resize|\.part)")


class Logical:
    """The logical volumes of *place*."""

    def __init__(self, place: Place, lvm: Lvm) -> None:
        self._place = place
        self._lvm = lvm

    # -- inspection ---------------------------------------------------------------------------------------

    def at(self, path: str) -> Found | None:
        """Return the volume that has *path* for a name."""
        return next((one for one in self._lvm.volumes() if path in one.paths), None)

    def obstacles(self, path: str, found: Found) -> Iterator[str]:
        """Give, as sentences, why the volume at *path* cannot move."""
        if set(found.roles) & {"origin", "snapshot", "thinorigin", "thinsnapshot"}:
            yield f"{path} has a snapshot of LVM's, or is one: it would not move with it"
        if len(_mapped(found.volume, f"{found.volume.name}.{_LONGEST}")) > _NAME_MAX:
            yield f"the name of {path} is too long to be set aside"
        for migration in _migrations(found):
            yield f"{path} bears the mark of migration {migration}: it has not ended well"

    # -- source -------------------------------------------------------------------------------------------

    def aside(self, unit: Unit, migration: str) -> str:
        """See :meth:`hostler.drivers.files.InstanceFiles.aside`."""
        volume = volume_of(unit)
        return f"/dev/{volume.group}/{_aside(volume, migration)}"

    def set_aside(self, unit: Unit, migration: str) -> None:
        """Tag it, then rename it."""
        volume = volume_of(unit)
        found = self._source(unit)
        if found.volume.name == _aside(volume, migration):
            self._refuse_unmarked(found, migration)
            return
        if found.volume.name != volume.name:
            self._foreign(found)
        self._lvm.tag(found, _TAG + migration)
        self._lvm.rename(found, _aside(volume, migration))

    def put_back(self, unit: Unit, migration: str) -> None:
        """Rename it back; the tag goes last."""
        volume = volume_of(unit)
        found = self._source(unit)
        if found.volume.name == _aside(volume, migration):
            self._refuse_unmarked(found, migration)
            if self._named(volume, volume.name) is not None:
                raise DestinationDiskExists(host=self._place.host, path=unit.path)
            self._lvm.rename(found, volume.name)
            found = self._source(unit)
        if found.volume.name != volume.name:
            self._foreign(found)
        self._lvm.untag(found, _TAG + migration)

    def remove_aside(self, unit: Unit, migration: str) -> None:
        """Remove it, if it has its name of the migration and its tag."""
        volume = volume_of(unit)
        found = self._by_uuid(volume)
        if found is None:
            self._refuse_without_group(volume)
            return
        if found.volume.name != _aside(volume, migration):
            self._foreign(found)
        self._refuse_unmarked(found, migration)
        self._lvm.remove(found)
        if self._by_uuid(volume) is not None:
            raise MigrationError(f"{self._place.host}: {found.full_name} is still there after its removal")

    def way_back_problems(self, unit: Unit, migration: str, *, replaced: bool) -> Iterator[str]:
        """Give, as sentences, why it could not be put back; *replaced*: its copy has its name."""
        volume = volume_of(unit)
        found = self._by_uuid(volume)
        aside = self.aside(unit, migration)
        if found is None or found.volume.name != _aside(volume, migration):
            yield f"{aside} is not there, or is not what was set aside"
        elif migration not in _migrations(found):
            yield f"{aside} has lost its tag {_TAG}{migration}"
        if not replaced and self._named(volume, volume.name) is not None:
            yield f"there is a {unit.path} again: rename it"

    # -- destination --------------------------------------------------------------------------------------

    def problems(self, units: Sequence[Unit], *, same_host: bool) -> Iterator[str]:
        """Give, as sentences, why *units* cannot be received."""
        groups, needed = self._lvm.groups(), dict[str, int]()
        for unit in units:
            volume = volume_of(unit)
            group = groups.get(volume.group)
            if group is None:
                yield f"there is no volume group {volume.group} for {unit.path}: vgcreate {volume.group} DEVICE"
                continue
            needed[group.name] = needed.get(group.name, 0) + group.extents_of(unit.files[0].size_bytes)
            if same_host:
                continue
            if group.uuid == volume.group_uuid:
                yield f"volume group {volume.group} is the source's own: shared volume groups are not supported"
            elif self._named(volume, volume.name) is not None:
                yield f"there is a {unit.path} already: rename it if somebody needs it"
        yield from _space(groups, needed)

    def part(self, unit: Unit, migration: str) -> str:
        """See :meth:`hostler.drivers.files.InstanceFiles.part`."""
        volume = volume_of(unit)
        return f"/dev/{volume.group}/{_part(volume, migration)}"

    def make(self, unit: Unit, migration: str) -> None:
        """Make the volume that receives it; nothing if it is there, or has its final name already."""
        volume = volume_of(unit)
        if self._placed(unit, migration) is not None:
            return
        found = self._named(volume, _part(volume, migration))
        if found is not None:
            self._refuse_unmarked(found, migration)
            return
        self._lvm.create(volume.group, _part(volume, migration), unit.files[0].size_bytes, _TAG + migration)

    def remove(self, unit: Unit, migration: str) -> None:
        """Remove what was made, unless it has its final name."""
        volume = volume_of(unit)
        found = self._named(volume, _part(volume, migration))
        if found is None:
            return
        self._refuse_unmarked(found, migration)
        self._lvm.remove(found)
        if self._named(volume, _part(volume, migration)) is not None:
            raise MigrationError(f"{self._place.host}: {found.full_name} is still there after its removal")

    def settle(self, unit: Unit, migration: str) -> None:
        """Take the tag off."""
        if (found := self._placed(unit, migration)) is not None:
            self._lvm.untag(found, _TAG + migration)

    def place(self, unit: Unit, migration: str) -> None:
        """Give it its final name, which must be free."""
        volume = volume_of(unit)
        if self._placed(unit, migration) is not None:
            return
        found = self._named(volume, _part(volume, migration))
        if found is None:
            raise DiskNotFound(host=self._place.host, path=self.part(unit, migration))
        self._refuse_unmarked(found, migration)
        if self._named(volume, volume.name) is not None:
            raise DestinationDiskExists(host=self._place.host, path=unit.path)
        self._lvm.rename(found, volume.name)

    def unplace(self, unit: Unit, migration: str) -> None:
        """Take its final name from it, if it is ours."""
        volume = volume_of(unit)
        found = self._placed(unit, migration)
        if found is not None:
            self._lvm.rename(found, _part(volume, migration))
        elif self._named(volume, volume.name) and not self._named(volume, _part(volume, migration)):
            LOG.warning("%s is not what this migration placed; it was left as it is", unit.path)

    def stranger(self, unit: Unit, migration: str) -> str:
        """Return, as a sentence, that another volume has its name."""
        volume = volume_of(unit)
        if self._named(volume, volume.name) is None or self._placed(unit, migration) is not None:
            return ""
        return f"{unit.path} is not what migration {migration} has placed there: rename it if it is needed"

    def extend(self, path: str, size_bytes: int) -> None:
        """Make the volume at *path* at least so large."""
        if (found := self.at(path)) is not None:
            self._lvm.extend(found, size_bytes)

    # -- marks --------------------------------------------------------------------------------------------

    def marked(self) -> list[Marked]:
        """Return the volumes that carry a migration's tag."""
        volumes = self._lvm.volumes()
        names = {one.full_name for one in volumes}
        return [_mark(one, migration, names) for one in volumes for migration in _migrations(one)]

    def remove_marked(self, mark: Marked) -> None:
        """Remove the volume, or only its tag where it has a name of its own."""
        for one in self._lvm.volumes():
            if one.full_name == mark.volume and mark.migration in _migrations(one):
                if mark.kind is MarkKind.MARK:
                    self._lvm.untag(one, _TAG + mark.migration)
                else:
                    self._lvm.remove(one)

    # -- underneath ---------------------------------------------------------------------------------------

    def _named(self, volume: LogicalVolume, name: str) -> Found | None:
        wanted = f"{volume.group}/{name}"
        return next((one for one in self._lvm.volumes() if one.full_name == wanted), None)

    def _by_uuid(self, volume: LogicalVolume) -> Found | None:
        return next((one for one in self._lvm.volumes() if one.volume.uuid == volume.uuid), None)

    def _source(self, unit: Unit) -> Found:
        found = self._by_uuid(volume_of(unit))
        if found is None:
            raise DiskNotFound(host=self._place.host, path=unit.path)
        return found

    def _placed(self, unit: Unit, migration: str) -> Found | None:
        """Return what this migration has placed: on the source's own host the source's has the tag, too."""
        volume = volume_of(unit)
        found = self._named(volume, volume.name)
        ours = found is not None and migration in _migrations(found) and found.volume.uuid != volume.uuid
        return found if ours else None

    def _refuse_unmarked(self, found: Found, migration: str) -> None:
        if migration not in _migrations(found):
            self._foreign(found)

    def _refuse_without_group(self, volume: LogicalVolume) -> None:
        """A volume that is not seen is gone only if its group is seen."""
        if all(group.uuid != volume.group_uuid for group in self._lvm.groups().values()):
            raise MigrationError(f"{self._place.host}: volume group {volume.group} is not there")

    def _foreign(self, found: Found) -> NoReturn:
        raise ForeignObject(what=f"logical volume {found.full_name}", host=self._place.host)


def volume_of(unit: Unit) -> LogicalVolume:
    """Return which volume *unit* is on the source."""
    assert unit.block is not None
    assert unit.block.volume is not None
    return unit.block.volume


def _aside(volume: LogicalVolume, migration: str) -> str:
    return f"{volume.name}.{migration}_resize"


def _part(volume: LogicalVolume, migration: str) -> str:
    return f"{volume.name}.{migration}.part"


def _mapped(volume: LogicalVolume, name: str) -> str:
    """Return what device-mapper calls a volume: each hyphen of a name is written twice."""
    return f"{volume.group.replace('-', '--')}-{name.replace('-', '--')}"


def _migrations(found: Found) -> list[str]:
    return [tag.removeprefix(_TAG) for tag in found.tags if tag.startswith(_TAG)]


def _mark(found: Found, migration: str, names: set[str]) -> Marked:
    path, group = found.paths[0], found.volume.group
    named = _OURS.fullmatch(found.volume.name)
    if named is None:
        return Marked(path, MarkKind.MARK, migration, volume=found.full_name)
    proven = named["migration"] == migration
    if named["suffix"] == ".part":
        return Marked(path, MarkKind.PART, migration, proven, volume=found.full_name)
    home = named["home"]
    return Marked(
        path,
        MarkKind.ASIDE,
        migration,
        proven,
        home=f"/dev/{group}/{home}",
        home_taken=f"{group}/{home}" in names,
        volume=found.full_name,
    )


def _space(groups: dict[str, Group], needed: dict[str, int]) -> Iterator[str]:
    for name, extents in needed.items():
        group = groups[name]
        if extents > group.free_extents:
            need, free = (
                f"{count * group.extent_bytes / 2**30:.2f} GiB" for count in (extents, group.free_extents)
            )
            yield f"not enough space in volume group {name}: {need} needed, {free} free"
