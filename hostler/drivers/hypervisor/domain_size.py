"""Give a domain's XML another number of vCPUs and another memory, and all that depends on them.

What follows from the new size by a rule is changed; what only its owner can decide is refused, with the reason:

* all memory is given at once (``currentMemory``), and all vCPUs are plugged in;
* of a CPU topology the cores follow, and if they cannot, the sockets;
* NUMA cells share both equally, as they did before;
* a vCPU that goes takes its pins along; one that comes is pinned as the others are, if they are all pinned alike, and
  has a CPU for itself if each of them has.

Which CPUs and NUMA nodes of a host that will be is chosen afterwards, by :mod:`.placing`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator
from xml.dom.minidom import Element

from hostler.drivers.hypervisor import domain_edit
from hostler.drivers.hypervisor.domain_edit import child, children
from hostler.drivers.hypervisor.domain_xml import UNITS, number_set
from hostler.errors import ResizeError

_KIB = 1024
_MIB = 1024 * _KIB
#: What the vCPUs of a topology are the product of.
_LEVELS = ("sockets", "dies", "clusters", "cores", "threads")


def resize(xml: str, vcpus: int, memory_mb: int) -> str:
    """Return *xml* with that size; every reason why it cannot be had, at once, is a ``ResizeError``."""
    document = domain_edit.parse(xml)
    domain = domain_edit.root(document)
    old_vcpus, old_bytes = int(_text(child(domain, "vcpu")) or "1"), _bytes(child(domain, "memory"))
    other_vcpus, other_memory = vcpus != old_vcpus, memory_mb * _MIB != old_bytes
    problems: list[str] = []
    if other_memory:
        problems += _memory(domain, memory_mb)
    if other_vcpus:
        problems += [*_vcpus(domain, vcpus), *_topology(domain, vcpus), *_tuning(domain, old_vcpus, vcpus)]
    if other_memory or other_vcpus:
        problems += _numa(domain, vcpus, memory_mb)
    if problems:
        raise ResizeError(what="its definition", reason="; ".join(problems), problems=problems)
    return domain_edit.write(document)


# -- memory -------------------------------------------------------------------------------------------------


def _memory(domain: Element, memory_mb: int) -> Iterator[str]:
    new = memory_mb * _MIB
    devices = child(domain, "devices")
    if devices is not None and children(devices, "memory"):
        yield "part of its memory is plugged in as devices"
    if (most := child(domain, "maxMemory")) is not None and _bytes(most) < new:
        yield f"{memory_mb} MiB are more than its maxMemory"
    yield from _limits(domain, memory_mb)
    for name in ("memory", "currentMemory"):
        if (element := child(domain, name)) is not None:
            _set_text(element, str(new // _KIB))
            element.setAttribute("unit", "KiB")


def _limits(domain: Element, memory_mb: int) -> Iterator[str]:
    tune = child(domain, "memtune")
    hard = child(tune, "hard_limit") if tune is not None else None
    if hard is not None and _bytes(hard) < memory_mb * _MIB:
        yield f"{memory_mb} MiB are more than its hard limit of memory (memtune)"
    backing = child(domain, "memoryBacking")
    pages = child(backing, "hugepages") if backing is not None else None
    for page in children(pages, "page") if pages is not None else []:
        size = int(page.getAttribute("size") or "0") * _unit(page)
        if size and memory_mb * _MIB % size:
            yield f"{memory_mb} MiB are no whole number of its huge pages of {size // _KIB} KiB"


# -- vCPUs --------------------------------------------------------------------------------------------------


def _vcpus(domain: Element, vcpus: int) -> Iterator[str]:
    element = child(domain, "vcpu")
    if element is None:
        yield "its definition does not say how many vCPUs it has"
        return
    _set_text(element, str(vcpus))
    if element.hasAttribute("current"):
        element.removeAttribute("current")
    for states in children(domain, "vcpus"):  # which of them are plugged in: all
        domain.removeChild(states)


def _topology(domain: Element, vcpus: int) -> Iterator[str]:
    cpu = child(domain, "cpu")
    topology = child(cpu, "topology") if cpu is not None else None
    if topology is None:
        return
    numbers = {name: int(topology.getAttribute(name) or "1") for name in _LEVELS}
    for name in ("cores", "sockets"):
        others = math.prod(number for level, number in numbers.items() if level != name)
        if vcpus % others == 0:
            topology.setAttribute(name, str(vcpus // others))
            return
    shape = ", ".join(f"{number} {name}" for name, number in numbers.items() if number > 1)
    yield f"its CPU topology ({shape}) cannot be made of {vcpus} vCPUs"


def _tuning(domain: Element, old: int, new: int) -> Iterator[str]:
    tune = child(domain, "cputune")
    if tune is None:
        return
    for name in ("vcpusched", "cachetune", "memorytune"):
        if any(
            max(number_set(each.getAttribute("vcpus")), default=-1) >= new for each in children(tune, name)
        ):
            yield f"its {name} names vCPUs that it will not have"
    yield from _pins(tune, old, new)


def _pins(tune: Element, old: int, new: int) -> Iterator[str]:
    pins = {int(pin.getAttribute("vcpu")): pin for pin in children(tune, "vcpupin")}
    if not pins:
        return
    for number, pin in pins.items():
        if number >= new:
            tune.removeChild(pin)
    if new <= old:
        return
    alike = {pin.getAttribute("cpuset") for pin in pins.values()}
    if len(pins) < old or (len(alike) > 1 and not _dedicated(alike, old)):
        yield f"its vCPUs are pinned each to other CPUs, and nothing says where {new - old} more belong"
        return
    before = pins[min(pins)]
    assert before.ownerDocument is not None
    others = itertools.count(_highest(tune) + 1) if _dedicated(alike, old) else itertools.repeat(*alike)
    for number, cpus in zip(range(old, new), others, strict=False):
        pin = before.ownerDocument.createElement("vcpupin")
        pin.setAttribute("vcpu", str(number))
        pin.setAttribute("cpuset", str(cpus))
        tune.insertBefore(pin, before)


def _dedicated(masks: Collection[str], vcpus: int) -> bool:
    """Whether each of so many vCPUs has one CPU, and each another."""
    cpus = [number_set(mask) for mask in masks]
    return all(len(one) == 1 for one in cpus) and len(set().union(*cpus)) == vcpus


def _highest(tune: Element) -> int:
    """Return the highest CPU that anything is pinned to: those above it are shared with nothing of the guest's."""
    pins = [pin for name in ("vcpupin", "emulatorpin", "iothreadpin") for pin in children(tune, name)]
    return max(max(number_set(pin.getAttribute("cpuset")), default=-1) for pin in pins)


# -- both ---------------------------------------------------------------------------------------------------


def _numa(domain: Element, vcpus: int, memory_mb: int) -> Iterator[str]:
    cpu = child(domain, "cpu")
    numa = child(cpu, "numa") if cpu is not None else None
    cells = children(numa, "cell") if numa is not None else []
    if not cells:
        return
    sizes = {int(cell.getAttribute("memory") or "0") * _unit(cell) for cell in cells}
    shares = {len(number_set(cell.getAttribute("cpus"))) for cell in cells}
    if len(sizes) > 1 or len(shares) > 1:
        yield "its NUMA cells differ from each other: nothing says what each of them gets"
        return
    if vcpus % len(cells) or memory_mb % len(cells):
        yield f"{vcpus} vCPUs and {memory_mb} MiB cannot be shared equally by its {len(cells)} NUMA cells"
        return
    share = vcpus // len(cells)
    for place, cell in enumerate(cells):
        if shares != {share}:
            cell.setAttribute("cpus", f"{place * share}-{(place + 1) * share - 1}")
        cell.setAttribute("memory", str(memory_mb // len(cells) * _KIB))
        cell.setAttribute("unit", "KiB")


def _bytes(element: Element | None) -> int:
    return int(_text(element) or "0") * _unit(element) if element is not None else 0


def _unit(element: Element) -> int:
    """Return how many bytes a unit of *element* has; libvirt means KiB where it names none."""
    return UNITS[element.getAttribute("unit") or "KiB"]


def _text(element: Element | None) -> str:
    if element is None:
        return ""
    return "".join(node.data for node in element.childNodes if node.nodeType == node.TEXT_NODE).strip()


def _set_text(element: Element, text: str) -> None:
    for node in list(element.childNodes):
        element.removeChild(node)
    assert element.ownerDocument is not None
    element.appendChild(element.ownerDocument.createTextNode(text))
