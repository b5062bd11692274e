"""Which CPUs and NUMA nodes of a host a definition names, and naming others.

A vCPU that is pinned to one CPU, which no other vCPU of the guest is pinned to, has it for itself: it is *dedicated*.
All other masks float: whoever is pinned so shares those CPUs with others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from xml.dom import minidom
from xml.etree.ElementTree import Element

from hostler.drivers.hypervisor import domain_edit, domain_xml
from hostler.drivers.hypervisor.domain_edit import child, children
from hostler.objects import Placement

#: Modes of memory that must lie on the nodes that are named.
_BINDING = ("strict", "restrictive")


@dataclass(frozen=True)
class Cell:
    """A NUMA cell of the guest; of a guest without any, all of it."""

    number: int | None  #: None: all of the guest
    vcpus: frozenset[int]
    memory_mb: int
    nodes: frozenset[int] = frozenset()  #: of the host, that its memory is given by; empty: by any
    bound: bool = False  #: it must have all its memory there


@dataclass(frozen=True)
class Pins:
    """What a definition names of its host."""

    masks: dict[int, frozenset[int]]  #: CPUs of each vCPU that is pinned
    cells: tuple[Cell, ...]
    threads: int  #: of a core, as the guest sees it
    emulator: frozenset[int] | None = None
    default: frozenset[int] | None = None  #: of what is not pinned
    nodes: frozenset[int] | None = None  #: of ``<numatune><memory>``
    iothreads: dict[str, frozenset[int]] = field(default_factory=dict)

    @property
    def dedicated(self) -> dict[int, int]:
        """The CPU of each vCPU that has one for itself."""
        single = {vcpu: next(iter(mask)) for vcpu, mask in self.masks.items() if len(mask) == 1}
        return single if len(set(single.values())) == len(single) else {}

    @property
    def any(self) -> bool:
        """Whether it names anything at all."""
        masks = (self.masks, self.iothreads, self.emulator, self.default, self.nodes)
        return any(masks) or any(cell.nodes for cell in self.cells)

    @property
    def all_nodes(self) -> list[int]:
        """The NUMA nodes that are named."""
        return sorted(frozenset().union(*(cell.nodes for cell in self.cells), self.nodes or ()))


def of_domain(xml: str) -> Pins:
    """Return what *xml* names."""
    root = domain_xml.parse(xml)
    vcpu, topology = root.find("vcpu"), root.find("cpu/topology")
    memory = root.find("numatune/memory")
    tune = root.find("cputune")
    return Pins(
        masks={int(pin.get("vcpu", "0")): _mask(pin) or frozenset() for pin in _each(tune, "vcpupin")},
        cells=tuple(_cells(root, memory)),
        threads=int(topology.get("threads", "1")) if topology is not None else 1,
        emulator=next((_mask(pin) for pin in _each(tune, "emulatorpin")), None),
        default=_mask(vcpu) if vcpu is not None else None,
        nodes=_nodes(memory),
        iothreads={pin.get("iothread", ""): _mask(pin) or frozenset() for pin in _each(tune, "iothreadpin")},
    )


def held(xml: str) -> Placement | None:
    """Return what a guest so defined takes of its host for itself; None if nothing."""
    pins = of_domain(xml)
    found = Placement(cpus=sorted(pins.dedicated.values()), node_mb=node_mb(pins.cells))
    return found if found.cpus or found.node_mb else None


def all_held(
    definitions: Mapping[str, Iterable[str]], on_their_way: Mapping[str, Placement], *, but: str
) -> list[Placement]:
    """Return what each server takes of a host, by its definitions there and by what it holds: nothing counts twice.

    Both are by the servers' UUIDs; *but* is the one that is left out.
    """
    found = dict(on_their_way)
    for uuid, xmls in definitions.items():
        for one in filter(None, map(held, xmls)):
            found[uuid] = one.beside(found[uuid]) if uuid in found else one
    return [one for uuid, one in found.items() if uuid != but]


def node_mb(cells: Iterable[Cell]) -> dict[str, int]:
    """Return the memory that is bound to each node, in MiB; of several nodes each gives its share."""
    found: dict[str, int] = {}
    for cell in cells:
        for node in cell.nodes if cell.bound else ():
            share = -(-cell.memory_mb // len(cell.nodes))
            found[str(node)] = found.get(str(node), 0) + share
    return found


def write(xml: str, placement: Placement) -> str:
    """Return *xml* with the CPUs and nodes of *placement*; what it does not speak of stays."""
    document = domain_edit.parse(xml)
    domain = domain_edit.root(document)
    tune, memory = child(domain, "cputune"), child(domain, "numatune")
    for pin in children(tune, "vcpupin") if tune is not None else ():
        _set(pin, "cpuset", placement.vcpus.get(pin.getAttribute("vcpu")))
    for pin in children(tune, "emulatorpin") if tune is not None else ():
        _set(pin, "cpuset", placement.emulator)
    for pin in children(tune, "iothreadpin") if tune is not None else ():
        _set(pin, "cpuset", placement.iothreads.get(pin.getAttribute("iothread")))
    for vcpu in children(domain, "vcpu"):
        _set(vcpu, "cpuset", placement.default)
    for whole in children(memory, "memory") if memory is not None else ():
        _set(whole, "nodeset", placement.nodes)
    for part in children(memory, "memnode") if memory is not None else ():
        _set(part, "nodeset", placement.cells.get(part.getAttribute("cellid")))
    return domain_edit.write(document)


def listed(numbers: Iterable[int]) -> str:
    """Return numbers as libvirt writes a set of them: ``0-3,8``."""
    spans: list[list[int]] = []
    for number in sorted(numbers):
        if spans and spans[-1][1] == number - 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ",".join(str(first) if first == final else f"{first}-{final}" for first, final in spans)


def _set(element: minidom.Element, name: str, value: str | None) -> None:
    if value is not None:
        element.setAttribute(name, value)


def _each(tune: Element | None, tag: str) -> Iterator[Element]:
    yield from tune.findall(tag) if tune is not None else ()


def _mask(element: Element) -> frozenset[int] | None:
    text = element.get("cpuset")
    return frozenset(domain_xml.number_set(text)) if text else None


def _nodes(element: Element | None) -> frozenset[int] | None:
    text = element.get("nodeset") if element is not None else None
    return frozenset(domain_xml.number_set(text)) if text else None


def _cells(root: Element, memory: Element | None) -> Iterator[Cell]:
    whole = _nodes(memory) or frozenset()
    binds = memory is not None and memory.get("mode", "strict") in _BINDING
    own = {int(one.get("cellid", "0")): one for one in root.findall("numatune/memnode")}
    cells = root.findall("cpu/numa/cell")
    for place, cell in enumerate(cells):
        number = int(cell.get("id", place))
        vcpus = frozenset(domain_xml.number_set(cell.get("cpus", "")))
        size = int(cell.get("memory", "0")) * domain_xml.UNITS[cell.get("unit", "KiB")] >> 20
        one = own.get(number)
        bound = one.get("mode", "strict") in _BINDING if one is not None else binds
        yield Cell(number, vcpus, size, _nodes(one) or whole, bound)
    if not cells:
        vcpus = frozenset(range(int((root.findtext("vcpu") or "1").strip())))
        yield Cell(None, vcpus, domain_xml.memory_mb(root), whole, binds)
