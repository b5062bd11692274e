"""The CPUs and NUMA nodes of a host, as libvirt's capabilities tell of them."""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from hostler.drivers.hypervisor import domain_xml

#: A physical core: socket, die and core, as the host numbers them.
Core = tuple[str, str, str]


@dataclass(frozen=True)
class Cpu:
    """One that the host can run a thread on."""

    number: int
    core: Core


@dataclass(frozen=True)
class Node:
    """A NUMA node: CPUs, and the memory next to them."""

    number: int
    cpus: tuple[Cpu, ...]
    memory_mb: int


@dataclass(frozen=True)
class Topology:
    """All nodes of a host. A host without NUMA has one."""

    nodes: tuple[Node, ...]

    @property
    def cpus(self) -> dict[int, Cpu]:
        """The CPUs by their numbers."""
        return {cpu.number: cpu for node in self.nodes for cpu in node.cpus}

    def numbers(self, nodes: Container[int]) -> set[int]:
        """Return the CPUs of these nodes."""
        return {cpu.number for node in self.nodes if node.number in nodes for cpu in node.cpus}


def of_capabilities(xml: str, online: Iterable[int]) -> Topology:
    """Return what capabilities say of the CPUs that are *online*."""
    cells = domain_xml.parse(xml).findall("host/topology/cells/cell")
    usable = set(online)
    return Topology(tuple(_node(cell, usable) for cell in cells))


def uniform(cpus: int, memory_mb: int) -> Topology:
    """Return a host of one node whose CPUs are all cores of their own."""
    found = tuple(Cpu(number, ("0", "0", str(number))) for number in range(cpus))
    return Topology((Node(0, found, memory_mb),))


def _node(cell: Element, usable: set[int]) -> Node:
    memory = cell.find("memory")
    in_bytes = 0
    if memory is not None:
        in_bytes = int((memory.text or "0").strip()) * domain_xml.UNITS[memory.get("unit", "KiB")]
    cpus = (_cpu(cpu) for cpu in cell.findall("cpus/cpu"))
    return Node(int(cell.get("id", "0")), tuple(cpu for cpu in cpus if cpu.number in usable), in_bytes >> 20)


def _cpu(cpu: Element) -> Cpu:
    # one that was offline when libvirt looked has no core: it is its own
    number = cpu.get("id", "0")
    return Cpu(
        int(number), (cpu.get("socket_id", "?"), cpu.get("die_id", "0"), cpu.get("core_id", f"cpu{number}"))
    )
