"""Units that are block devices: logical volumes, and devices that both hosts have anyway."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hostler.drivers import devices
from hostler.drivers.files.given import Given
from hostler.drivers.files.logical import Logical
from hostler.drivers.files.lvm import Lvm
from hostler.drivers.files.marked import Marked
from hostler.drivers.files.place import Place
from hostler.errors import ResizeError
from hostler.objects import Block, Disk, DiskChange, FileEntry, Unit, UnitKind


class Blocks:
    """The calls of :class:`hostler.drivers.files.InstanceFiles`, for these units alone."""

    def __init__(self, place: Place, lvm: Lvm, allowed: Sequence[str], in_use: Callable[[str], bool]) -> None:
        self._place = place
        self._logical = Logical(place, lvm)
        self._given = Given(place, allowed, in_use)

    def survey(self, one: Disk) -> tuple[Unit | None, list[str]]:
        """Return the unit of a disk, and, as sentences, what keeps it from being moved."""
        path = one.path
        if one.readonly or one.shareable or one.device != "disk":
            return None, [
                f"{path} is a block device attached as {_manner(one)}: detach it (virsh detach-disk)"
            ]
        problems = []
        if one.format != "raw":
            problems.append(
                f"{path} is a block device that holds an image of format {one.format}: not supported"
            )
        device = devices.look(self._place.at(path))
        if device is None:
            return None, [*problems, f"{path} does not exist, or is no block device"]
        found = self._logical.at(path)
        if found is not None:
            problems += self._logical.obstacles(path, found)
        return _unit(path, device, Block(found.volume if found else None)), problems

    def problems(self, units: Sequence[Unit], migration: str, *, same_host: bool) -> list[str]:
        """Return why *units* cannot be received here."""
        logical = [unit for unit in units if unit.logical]
        problems = list(self._logical.problems(logical, same_host=same_host)) if logical else []
        for unit in units:
            if not unit.logical:
                problems += self._given.problems(unit, migration, same_host=same_host)
        return problems

    # -- source -------------------------------------------------------------------------------------------

    def aside(self, unit: Unit, migration: str) -> str:
        """Return where it is read from."""
        return self._logical.aside(unit, migration) if unit.logical else unit.path

    def set_aside(self, unit: Unit, migration: str) -> None:
        """Rename a volume; a device has but one name."""
        if unit.logical:
            self._logical.set_aside(unit, migration)
        else:
            self._given.check(unit)

    def put_back(self, unit: Unit, migration: str) -> None:
        """Undo that."""
        if unit.logical:
            self._logical.put_back(unit, migration)
        else:
            self._given.check(unit)

    def way_back_problems(self, unit: Unit, migration: str, *, same_host: bool) -> list[str]:
        """Return why it could not be put back whole."""
        if unit.logical:
            return list(self._logical.way_back_problems(unit, migration, replaced=same_host))
        return list(self._given.way_back_problems(unit))

    def remove_aside(self, unit: Unit, migration: str) -> None:
        """Remove a volume; a device stays as it is."""
        if unit.logical:
            self._logical.remove_aside(unit, migration)
        else:
            self._given.let_go(unit)

    # -- destination --------------------------------------------------------------------------------------

    def part(self, unit: Unit, migration: str) -> str:
        """Return where it arrives."""
        return self._logical.part(unit, migration) if unit.logical else unit.path

    def make(self, unit: Unit, instance: str, migration: str) -> None:
        """Make the volume, or take the device, that it arrives on."""
        if unit.logical:
            self._logical.make(unit, migration)
        else:
            self._given.make(unit, instance, migration)

    def remove(self, unit: Unit, migration: str) -> None:
        """Undo that."""
        if unit.logical:
            self._logical.remove(unit, migration)
        else:
            self._given.forget(unit, migration)

    def settle(self, unit: Unit, migration: str) -> None:
        """Forget whose it was."""
        if unit.logical:
            self._logical.settle(unit, migration)
        else:
            self._given.forget(unit, migration)

    def place(self, unit: Unit, migration: str) -> None:
        """Give a volume its name; a device has it."""
        if unit.logical:
            self._logical.place(unit, migration)
        else:
            self._given.refuse_stranger(unit, migration)

    def unplace(self, unit: Unit, migration: str) -> None:
        """Undo that."""
        if unit.logical:
            self._logical.unplace(unit, migration)

    def stranger(self, unit: Unit, migration: str) -> str:
        """Return that what has its name is not the migration's."""
        side = self._logical if unit.logical else self._given
        return side.stranger(unit, migration)

    def absent(self, unit: Unit) -> list[str]:
        """Return that it is not there, or too small."""
        found = devices.look(self._place.at(unit.path))
        if found is None or found.size_bytes < unit.files[0].size_bytes:
            return [f"{unit.path} is not there, or is smaller than it was"]
        return []

    def resize(self, change: DiskChange) -> None:
        """See that a device is as large as it is to be; a volume is made so."""
        self._logical.extend(change.path, change.new_bytes)
        found = devices.look(self._place.at(change.path))
        if found is None or found.size_bytes < change.new_bytes:
            size = "missing" if found is None else f"of {found.size_bytes} bytes"
            raise ResizeError(what=change.path, reason=f"the device is {size}, {change.new_bytes} are wanted")

    # -- marks --------------------------------------------------------------------------------------------

    def marked(self) -> list[Marked]:
        """Return what carries a migration's mark."""
        return [*self._logical.marked(), *self._given.marked()]

    def remove_marked(self, mark: Marked) -> bool:
        """Remove it, if it is of a block device."""
        if mark.volume:
            self._logical.remove_marked(mark)
        elif self._given.is_note(mark.path):
            self._given.remove_marked(mark)
        else:
            return False
        return True


def _manner(one: Disk) -> str:
    if one.device != "disk":
        return f"a {one.device}"
    return "read-only" if one.readonly else "shareable"


def _unit(path: str, device: devices.Device, block: Block) -> Unit:
    size = device.size_bytes
    entry = FileEntry("", size, size, device.mode, device.uid, device.gid, virtual_bytes=size)
    return Unit(path=path, kind=UnitKind.OWN, directory=False, files=[entry], block=block)
