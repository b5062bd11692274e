"""What a flavor makes of a server: of its definition, of its disks, of what it takes of a host.

Which disk is which, in a server that Nova did not make, too:

* the root disk is the one that it boots from: the first in boot order, else the first of its definition; one that is
  a volume keeps its size, as Nova leaves a server that boots from a volume;
* ephemeral are Nova's ``disk.local`` and ``disk.ephN``; of several the last one takes what is new;
* swap is Nova's ``disk.swap``, else the first raw disk that begins with a swap area.

A flavor that says 0 of a disk leaves it as it is. Nothing shrinks but swap, which holds nothing while the guest is off.
"""

from __future__ import annotations

import dataclasses
import posixpath
import re
from collections.abc import Callable, Iterator, Sequence

from hostler.drivers.hypervisor import Hypervisor
from hostler.errors import ResizeError
from hostler.objects import (
    Disk,
    DiskChange,
    DiskRole,
    Domain,
    FileEntry,
    Flavor,
    Inventory,
    SwapArea,
    Unit,
    UnitKind,
)

GIB, MIB = 1 << 30, 1 << 20
#: Formats that ``qemu-img resize`` makes larger without a second thought.
RESIZABLE = ("raw", "qcow2")
_EPHEMERAL = re.compile(r"disk\.(local|eph\d+)")
_SWAP = "disk.swap"


def as_resized(hypervisor: Hypervisor, inventory: Inventory, flavor: Flavor | None) -> Inventory:
    """Return the server as it is to be; as it is where there is no *flavor*."""
    if flavor is None:
        return inventory
    xml = hypervisor.resize(inventory.domain.xml, flavor.vcpus, flavor.memory_mb)
    domain = dataclasses.replace(inventory.domain, xml=xml, vcpus=flavor.vcpus, memory_mb=flavor.memory_mb)
    changes = {change.path: change for change in inventory.changes}
    units = [_resized(unit, changes) for unit in inventory.units]
    return dataclasses.replace(inventory, domain=domain, units=units)


def definition_problems(hypervisor: Hypervisor, domain: Domain, flavor: Flavor) -> list[str]:
    """Return, as sentences, why the definition cannot be given that size."""
    try:
        hypervisor.resize(domain.xml, flavor.vcpus, flavor.memory_mb)
    except ResizeError as error:
        return [str(error)]
    return []


class Disks:
    """The disks of a server beside the sizes that *flavor* has for them."""

    def __init__(
        self,
        domain: Domain,
        units: Sequence[Unit],
        flavor: Flavor,
        swap_area: Callable[[Disk], SwapArea | None],
    ) -> None:
        self._flavor = flavor
        self._root = domain.root_disk
        self._swap_area = swap_area
        self._entries = {path: entry for unit in units for path, entry in _files(unit)}
        self._own = [disk for disk in domain.disks if disk.path in self._entries and _is_written(disk)]
        self.problems: list[str] = []

    def changes(self) -> list[DiskChange]:
        """Return what changes; what cannot be had is in *problems* then."""
        return [*self._root_change(), *self._ephemeral_change(), *self._swap_change()]

    def _root_change(self) -> Iterator[DiskChange]:
        for disk in self._own:
            if disk.target == self._root and self._flavor.root_gb:
                yield from self._grow(disk, DiskRole.ROOT, self._flavor.root_gb * GIB)

    def _ephemeral_change(self) -> Iterator[DiskChange]:
        disks, wanted = self._ephemeral(), self._flavor.ephemeral_gb * GIB
        if not wanted:
            return
        if not disks:
            problem = f"it has no ephemeral disk (disk.local, disk.ephN), the flavor has {_gib(wanted)}"
            self.problems.append(problem)
            return
        others = sum(self._size(disk) for disk in disks[:-1])
        yield from self._grow(disks[-1], DiskRole.EPHEMERAL, wanted - others)

    def _swap_change(self) -> Iterator[DiskChange]:
        wanted = self._flavor.swap_mb * MIB
        if not wanted:
            return
        disk, area = self._swap()
        if disk is None:
            self.problems.append(f"it has no swap disk, the flavor has {self._flavor.swap_mb} MiB of swap")
        elif area is None:
            self.problems.append(f"{disk.path} holds no swap area, and whatever it holds would be lost")
        elif disk.format not in RESIZABLE:
            self.problems.append(f"{disk.path} is of format {disk.format}, which is not resized")
        elif disk.block and self._size(disk) != wanted:
            self.problems.append(f"{disk.path} is a block device, and no swap area on one is resized")
        elif self._size(disk) != wanted:
            yield DiskChange(disk.path, disk.format, DiskRole.SWAP, self._size(disk), wanted, area)

    def _grow(self, disk: Disk, role: DiskRole, wanted: int) -> Iterator[DiskChange]:
        size = self._size(disk)
        if wanted < size:
            what = (
                f"the {role} disk {disk.path} has {_gib(size)}, more than the flavor's {_gib(max(wanted, 0))}"
            )
            self.problems.append(f"{what}: no disk shrinks")
        elif wanted > size and disk.format not in RESIZABLE:
            self.problems.append(f"{disk.path} is of format {disk.format}, which is not grown")
        elif wanted > size:
            yield DiskChange(disk.path, disk.format, role, size, wanted, block=disk.block)

    def _ephemeral(self) -> list[Disk]:
        return [
            disk
            for disk in self._own
            if disk.target != self._root and _EPHEMERAL.fullmatch(posixpath.basename(disk.path))
        ]

    def _swap(self) -> tuple[Disk | None, SwapArea | None]:
        ephemeral = self._ephemeral()
        others = [disk for disk in self._own if disk.target != self._root and disk not in ephemeral]
        for disk in others:
            if posixpath.basename(disk.path) == _SWAP:
                return disk, self._swap_area(disk)
        for disk in others:
            if disk.format == "raw" and (area := self._swap_area(disk)) is not None:
                return disk, area
        return None, None

    def _size(self, disk: Disk) -> int:
        return self._entries[disk.path].virtual_bytes


def _is_written(disk: Disk) -> bool:
    return disk.device == "disk" and not (disk.readonly or disk.shareable)


def _files(unit: Unit) -> Iterator[tuple[str, FileEntry]]:
    """Give each file that is the server's alone, by its path."""
    if unit.kind is UnitKind.OWN:
        for entry in unit.files:
            yield _path(unit, entry), entry


def _path(unit: Unit, entry: FileEntry) -> str:
    return f"{unit.path}/{entry.name}" if entry.name else unit.path


def _resized(unit: Unit, changes: dict[str, DiskChange]) -> Unit:
    files = [
        _entry(entry, changes[_path(unit, entry)]) if _path(unit, entry) in changes else entry
        for entry in unit.files
    ]
    return dataclasses.replace(unit, files=files)


def _entry(entry: FileEntry, change: DiskChange) -> FileEntry:
    """Return the file as it is to be; what is added is counted as if it were full."""
    added = max(change.new_bytes - change.old_bytes, 0)
    return dataclasses.replace(
        entry,
        virtual_bytes=change.new_bytes,
        size_bytes=change.new_bytes if change.format == "raw" else entry.size_bytes,
        allocated_bytes=entry.allocated_bytes + added,
    )


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / GIB:.4g} GiB"
