"""What is known of a host, and what of it a server has for itself."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from hostler.objects.record import Record

#: The two roles of a migration's hosts; the migration's record says who plays which.
SOURCE = "source"
DEST = "dest"


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
    #: it heeds what a request says of networks' names; a worker of an older version would pass over that
    maps_networks: bool = False


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
