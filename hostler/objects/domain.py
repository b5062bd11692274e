"""What a hypervisor says of a domain."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from hostler.objects.record import Record

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
