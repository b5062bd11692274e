"""What of a server moves, and what a resize makes of it."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from hostler.objects.domain import Domain
from hostler.objects.record import Record


class UnitKind(enum.StrEnum):
    """Why a unit moves, and what may become of it on the source."""

    OWN = "own"  #: this server's alone: set aside, copied, removed by confirm
    SHARED = (
        "shared"  #: backing files, ISO images, kernels: copied where missing, never removed, never set aside
    )
    #: on storage that both hosts have, as they have proven: whoever has the server uses it there; never in a record
    IN_PLACE = "in_place"


@dataclass(frozen=True)
class FileEntry(Record):
    """One regular file of a unit."""

    name: str  #: relative to the unit's path; empty where the unit is the file itself
    size_bytes: int
    allocated_bytes: int
    mode: int  #: permission bits
    uid: int
    gid: int
    may_grow: bool = False  #: an image format that grows while the guest runs (not raw)
    virtual_bytes: int = 0  #: the size that the guest sees; 0 where it is no image


@dataclass(frozen=True)
class LogicalVolume(Record):
    """One of LVM's logical volumes."""

    group: str  #: name of its volume group
    group_uuid: str
    name: str
    uuid: str


@dataclass(frozen=True)
class Block(Record):
    """What is known of a unit that is a block device."""

    volume: LogicalVolume | None = (
        None  #: None: LVM does not manage it, and each host has one of that path already
    )


@dataclass(frozen=True)
class Unit(Record):
    """A path that moves as a whole: a file, a directory with all that is in it, or a block device."""

    path: str
    kind: UnitKind
    directory: bool
    files: list[FileEntry] = field(default_factory=list)
    subdirectories: list[str] = field(default_factory=list)  #: relative, parents first
    device: int = 0  #: st_dev and st_ino at inspection, to tell the path from another of that name
    inode: int = 0
    mode: int = 0o755  #: of the directory; unused for a file
    uid: int = 0
    gid: int = 0
    digest: str | None = None  #: SHARED only: BLAKE3 of the file's whole contents
    block: Block | None = None  #: it is a block device

    @property
    def size_bytes(self) -> int:
        """Bytes that lie on the disk, holes not counted."""
        return sum(entry.allocated_bytes for entry in self.files)

    @property
    def logical(self) -> bool:
        """Whether it is a logical volume, which may be renamed and removed."""
        return self.block is not None and self.block.volume is not None

    @property
    def given(self) -> bool:
        """Whether it is a block device that both hosts have anyway: it keeps its name, and is never removed."""
        return self.block is not None and self.block.volume is None


@dataclass(frozen=True)
class Flavor(Record):
    """A size of server. 0 of a disk says nothing of it: the server keeps what it has."""

    vcpus: int
    memory_mb: int
    root_gb: int = 0  #: GiB, as Nova has it
    ephemeral_gb: int = 0  #: GiB, of all ephemeral disks together
    swap_mb: int = 0  #: MiB
    id: str | None = None  #: None: what a server has that was never given a named flavor
    name: str | None = None


class DiskRole(enum.StrEnum):
    """Which of a flavor's sizes is a disk's."""

    ROOT = "root"
    EPHEMERAL = "ephemeral"
    SWAP = "swap"


@dataclass(frozen=True)
class SwapArea(Record):
    """What a guest knows a swap disk by."""

    uuid: str
    label: str  #: each character is a byte (Latin-1); empty: none
    page_bytes: int


@dataclass(frozen=True)
class DiskChange(Record):
    """What a resize makes of one disk. Sizes are those that the guest sees."""

    path: str
    format: str  #: as declared in the domain
    role: DiskRole
    old_bytes: int
    new_bytes: int
    swap: SwapArea | None = None  #: of a SWAP disk: what is kept of it
    block: bool = False  #: *path* is a block device


@dataclass(frozen=True)
class Inventory(Record):
    """Everything of a server that a migration has to carry: InspectInstance's result."""

    domain: Domain
    units: list[Unit] = field(default_factory=list)
    changes: list[DiskChange] = field(default_factory=list)  #: what a resize makes of its disks

    @property
    def size_bytes(self) -> int:
        """Bytes to copy, holes not counted."""
        return sum(unit.size_bytes for unit in self.units)
