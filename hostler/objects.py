"""What the drivers say about the world, as plain records that travel through a flow as JSON.

No type of libvirt, kazoo or SQLAlchemy appears here. Sizes are in bytes unless the name says otherwise; paths are
absolute and as the domain names them.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
from dataclasses import dataclass, field
from typing import Any, Self, get_args, get_origin, get_type_hints

#: The two roles of a migration's hosts; the migration's record says who plays which.
SOURCE = "source"
DEST = "dest"

#: Kinds of interface whose source is something of the host.
PLUGGED = ("network", "bridge", "direct")


class PowerState(enum.StrEnum):
    """Nova's power states, as far as libvirt tells them apart."""

    NOSTATE = "pending"
    RUNNING = "running"
    PAUSED = "paused"
    SHUTDOWN = "shutdown"
    CRASHED = "crashed"
    SUSPENDED = "suspended"

    @property
    def active(self) -> bool:
        """Whether a QEMU process holds the images."""
        return self in (PowerState.RUNNING, PowerState.PAUSED, PowerState.SUSPENDED)


class Record:
    """Mixin: a dataclass that becomes JSON and comes back."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists, dicts, strings and numbers."""
        return dataclasses.asdict(self)  # type: ignore[call-overload, no-any-return]

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Build the record from :meth:`to_dict`'s result; unknown keys are a :class:`TypeError`."""
        hints: dict[str, Any] = _hints(cls)  # type: ignore[arg-type]
        return cls(**{key: _revive(hints.get(key, Any), value) for key, value in data.items()})


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls)


def _revive(hint: Any, value: Any) -> Any:
    if get_origin(hint) is list and value is not None:
        (inner,) = get_args(hint)
        return [_revive(inner, item) for item in value]
    if isinstance(hint, type) and issubclass(hint, Record) and isinstance(value, dict):
        return hint.from_dict(value)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return hint(value)
    for option in get_args(hint):
        if isinstance(option, type) and issubclass(option, Record) and isinstance(value, dict):
            return option.from_dict(value)
    return value


# -- what a hypervisor says -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Disk(Record):
    """One ``<disk>`` whose bytes lie in a file or on a block device of the host."""

    target: str  #: the guest's name for it: ``vda``
    path: str  #: ``<source file=...>`` or ``<source dev=...>``
    format: str  #: as declared in the domain, never probed: ``qcow2``, ``raw``
    device: str = "disk"  #: ``disk``, ``cdrom`` or ``floppy``
    readonly: bool = False
    shareable: bool = False
    backing: list[str] = field(default_factory=list)  #: ``<backingStore>`` as far as the domain declares it
    block: bool = False  #: *path* is a block device
    serial: str | None = None  #: as of :class:`Volume`
    keys: list[Secret] = field(default_factory=list)  #: of ``<encryption>``


@dataclass(frozen=True)
class Secret(Record):
    """What libvirt keeps of a password or key that a disk needs; its value never leaves the host."""

    kind: str  #: as libvirt calls its use: ``ceph``, ``iscsi``, ``volume``
    uuid: str | None = None
    usage: str | None = None  #: its name for that use, where the definition gives no UUID

    @property
    def name(self) -> str:
        """As the definition names it."""
        return self.uuid or self.usage or ""


@dataclass(frozen=True)
class Volume(Record):
    """One disk that is not the host's: ``<disk type='network'>``, or one that the host has connected.

    Nothing of it is copied.
    """

    target: str
    protocol: str  #: ``rbd``, ``iscsi``, ``nbd``, ``http``...; ``host``: the host has connected it
    name: str  #: export, image or IQN; or the path
    hosts: list[str] = field(default_factory=list)  #: ``address:port`` each
    secret_uuid: str | None = None  #: of *secret*, as the first version wrote it
    serial: str | None = (
        None  #: what the guest is told; of a volume of Cinder's it is the UUID, as Nova writes it
    )
    initiator: str | None = None  #: iSCSI's name of the guest, where the definition has one
    user: str | None = None  #: of ``<auth>``
    secret: Secret | None = None  #: of ``<auth>``
    keys: list[Secret] = field(default_factory=list)  #: of ``<encryption>``
    config: str | None = None  #: the file that says where its servers are, of ``<config file=...>``
    shared: bool = False  #: read-only or shareable: other guests may hold it, too
    path: str | None = None  #: where its host has connected it; None: QEMU opens it by itself

    @property
    def secrets(self) -> list[Secret]:
        """What libvirt must have of it."""
        own = self.secret or (Secret("", uuid=self.secret_uuid) if self.secret_uuid else None)
        return [*([own] if own else []), *self.keys]

    @classmethod
    def of(cls, disk: Disk) -> Volume:
        """Return a disk that its host has connected."""
        return cls(
            disk.target,
            "host",
            disk.path,
            serial=disk.serial,
            keys=disk.keys,
            shared=disk.shareable or disk.readonly,
            path=disk.path,
        )


@dataclass(frozen=True)
class Port(Record):
    """One ``<interface>``."""

    mac: str
    kind: str  #: ``network``, ``bridge``, ``ethernet``, ``user``, ...
    source: str | None  #: name of the libvirt network or bridge; None where the kind has none
    model: str | None = None
    portgroup: str | None = None
    interface: str | None = None  #: what Open vSwitch, and so OVN, calls it: ``iface-id``


@dataclass(frozen=True)
class Snapshot(Record):
    """libvirt's metadata of an internal snapshot."""

    name: str
    xml: str
    current: bool = False
    external: bool = False


@dataclass(frozen=True)
class Requirements(Record):
    """What a server asks of a host, as far as hosts are told apart by it. Empty or None: it asks for nothing."""

    arch: str = ""
    virt_type: str = ""  #: ``kvm`` or ``qemu``
    machine: str = ""  #: as defined: ``pc-i440fx-7.2``
    cpu_mode: str | None = None  #: ``host-passthrough``, ``host-model``, ``custom``, ...
    cpu_model: str | None = None  #: the named model that the host must be able to give it whole
    sources: list[str] = field(default_factory=list)  #: what its interfaces are plugged into: ``bridge:br0``


@dataclass(frozen=True)
class Domain(Record):
    """A libvirt domain, as defined (its inactive configuration, with secrets)."""

    uuid: str
    name: str
    xml: str
    power_state: PowerState
    persistent: bool
    autostart: bool
    vcpus: int
    memory_mb: int
    machine: str  #: as declared: ``pc-i440fx-7.2``
    arch: str
    virt_type: str  #: ``kvm`` or ``qemu``
    emulator: str | None
    disks: list[Disk] = field(default_factory=list)
    volumes: list[Volume] = field(default_factory=list)
    ports: list[Port] = field(default_factory=list)
    #: parents first
    snapshots: list[Snapshot] = field(default_factory=list)
    nvram: str | None = None  #: path of the UEFI variables
    tpm_state: str | None = None  #: directory of the emulated TPM's state
    firmware: list[str] = field(default_factory=list)  #: read-only loaders that must exist on a host
    boot_files: list[str] = field(default_factory=list)  #: kernel, initrd, dtb of a direct boot
    #: sentences: what keeps this domain from being moved, whatever the destination
    obstacles: list[str] = field(default_factory=list)
    migration: str | None = None  #: the uuid in ``<hostler:migration>``: a domain that a migration made
    project: str | None = None  #: the uuid in Nova's ``<nova:owner>``
    requirements: Requirements = field(default_factory=Requirements)
    root_disk: str | None = None  #: target of the disk or volume that it boots from


@dataclass(frozen=True)
class DomainSummary(Record):
    """What adoption needs to know of a domain."""

    uuid: str
    name: str
    power_state: PowerState
    vcpus: int
    memory_mb: int
    persistent: bool
    migration: str | None = None  #: as in :class:`Domain`
    project: str | None = None  #: as in :class:`Domain`
    requirements: Requirements = field(default_factory=Requirements)


@dataclass(frozen=True)
class HostResources(Record):
    """What a host has in all."""

    vcpus: int
    memory_mb: int
    local_disk_bytes: int  #: size of the file system under ``instances_path``
    hypervisor_version: str


@dataclass(frozen=True)
class GuestKind(Record):
    """One kind of guest that a host can run."""

    arch: str
    virt_type: str  #: ``kvm`` or ``qemu``
    machines: list[str] = field(default_factory=list)  #: names and aliases
    cpu_modes: list[str] = field(default_factory=list)  #: empty: not known
    unusable_cpus: list[str] = field(
        default_factory=list
    )  #: named models that the host's CPU is not enough for


@dataclass(frozen=True)
class HostCapabilities(Record):
    """What a host's worker says of it, so that one can be chosen without asking it."""

    guests: list[GuestKind] = field(default_factory=list)
    #: what an arriving server's interfaces can be plugged into, by the names that they ask for: ``bridge:br0``
    sources: list[str] = field(default_factory=list)
    certificate: str = ""  #: what it shows as a source of images, in PEM; empty where nobody asks for one


@dataclass(frozen=True)
class Identity(Record):
    """Who a source is, as far as it has to prove that."""

    name: str = ""  #: the host's
    certificate: str = ""  #: what its worker has put on record, in PEM


@dataclass(frozen=True)
class Placement(Record):
    """Which CPUs and NUMA nodes of a host a definition names. Sets are as libvirt writes them: ``0-3,8``."""

    cpus: list[int] = field(default_factory=list)  #: those that its vCPUs have for themselves
    node_mb: dict[str, int] = field(default_factory=dict)  #: memory bound to each node, in MiB
    vcpus: dict[str, str] = field(default_factory=dict)  #: CPUs of each vCPU that is pinned
    emulator: str | None = None
    iothreads: dict[str, str] = field(default_factory=dict)
    default: str | None = None  #: CPUs of what is not pinned
    nodes: str | None = None  #: of ``<numatune><memory>``
    cells: dict[str, str] = field(default_factory=dict)  #: nodes of each NUMA cell of the guest

    def beside(self, other: Placement) -> Placement:
        """Return this, taking for itself what *other* takes, too."""
        nodes = self.node_mb.keys() | other.node_mb.keys()
        most = {node: max(self.node_mb.get(node, 0), other.node_mb.get(node, 0)) for node in sorted(nodes)}
        return dataclasses.replace(self, cpus=sorted({*self.cpus, *other.cpus}), node_mb=most)


# -- what moves -------------------------------------------------------------------------------------------


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


# -- what a resize changes --------------------------------------------------------------------------------


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


# -- the copy ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Export(Record):
    """One file or block device that a receiver takes. The source reads *source*, the destination holds *part*."""

    name: str  #: the NBD export's name: a number as text
    source: str  #: absolute path on the source after it was set aside
    part: str  #: absolute path in a part directory of the destination
    size_bytes: int  #: what the part file is made to hold at most; cut to the true size by the verification
    exact: bool  #: the source must have exactly this size (raw disks); else at most
    block: bool = False  #: both are block devices; the destination's may be larger, and is never made or cut


@dataclass(frozen=True)
class ReceiverAddress(Record):
    """Where and with which key the source sends."""

    host: str  #: address the receiver listens on
    port: int
    username: str  #: TLS-PSK identity: the migration's uuid
    #: TLS-PSK, hexadecimal; or the X.509 certificate of the copy, in PEM; never logged; empty: no encryption
    key: str = field(repr=False)
    exports: list[Export] = field(default_factory=list)

    @property
    def certified(self) -> bool:
        """Whether both ends show certificates."""
        return self.key.startswith("-----BEGIN CERTIFICATE")


@dataclass(frozen=True)
class CopyProgress(Record):
    """How far one export is. ``total_bytes`` counts allocated bytes, not the virtual size."""

    name: str
    path: str
    done_bytes: int
    total_bytes: int
    rate_bytes_per_s: float
    sent_bytes: int = 0  #: what this attempt has put on the wire, without what the destination had
    saved_bytes: int = 0  #: how much more that would have been, had nothing been packed


@dataclass(frozen=True)
class ImageDigest(Record):
    """What left: the true size of a file and the digest over its block manifest."""

    path: str
    size_bytes: int
    allocated_bytes: int
    digest: str  #: BLAKE3, hexadecimal, of the file's whole contents' block digests: see the manifest
