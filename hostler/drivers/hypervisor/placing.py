"""Where on a host a guest goes whose definition names CPUs or NUMA nodes: Nova's ``numa_fit_instance_to_host``.

* What was apart stays apart, and what was together stays together: each NUMA node that is named becomes one of this
  host's, and no two of them the same; its cells' dedicated vCPUs and bound memory come from there.
* A dedicated vCPU gets a CPU that no other guest has for itself, the one that it had if that is free. Threads of a core
  stay threads of a core where whole cores are free.
* A floating mask is kept, and refused if the host has not those CPUs. Where its nodes become others, it becomes all
  CPUs of those. Emulator and I/O threads follow the vCPUs whose CPUs they share, and keep to themselves where they did.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence

from hostler.drivers.hypervisor import pins as pinning
from hostler.drivers.hypervisor.pins import Cell, Pins, listed
from hostler.drivers.hypervisor.topology import Core, Topology
from hostler.errors import CPUPinningInvalid
from hostler.objects import Placement

#: Ways to spread a guest over the host's nodes that are looked at.
MOST_WAYS = 5000


class Unfit(Exception):
    """It does not fit so; the sentence says what is missing."""


def place(
    xml: str, topology: Topology, others: Iterable[Placement], *, host: str, server: str
) -> Placement | None:
    """Return what *xml* is to name on this host beside *others*; None if it names nothing.

    :class:`~hostler.errors.CPUPinningInvalid` if there is no way.
    """
    pins = pinning.of_domain(xml)
    if not pins.any:
        return None
    reason = ""
    search = _Search(pins, topology, list(others))
    for nodes in itertools.islice(_ways(pins.all_nodes, topology), MOST_WAYS):
        try:
            return search.on(nodes)
        except Unfit as error:
            reason = reason or str(error)
    if not reason:
        have = len(topology.nodes)
        reason = f"it is spread over {len(pins.all_nodes)} NUMA nodes, and the host has {have}"
    raise CPUPinningInvalid(host=host, server=server, reason=reason)


def _ways(named: Sequence[int], topology: Topology) -> Iterator[dict[int, int]]:
    """Give each way to make the nodes that are named nodes of this host: as they are first."""
    there = [node.number for node in topology.nodes]
    same = dict(zip(named, named, strict=True))
    if set(named) <= set(there):
        yield same
    for chosen in itertools.permutations(there, len(named)):
        if (way := dict(zip(named, chosen, strict=True))) != same:
            yield way


class _Search:
    """One guest beside the others of a host."""

    def __init__(self, pins: Pins, topology: Topology, others: Sequence[Placement]) -> None:
        self._pins, self._topology = pins, topology
        self._cpus = topology.cpus
        self._old = pins.dedicated
        taken = {cpu for other in others for cpu in other.cpus}
        self._free = set(self._cpus) - taken - self._apart()
        self._memory = {node.number: node.memory_mb for node in topology.nodes}
        for other in others:
            for node, size in other.node_mb.items():
                if int(node) in self._memory:
                    self._memory[int(node)] -= size

    def on(self, nodes: Mapping[int, int]) -> Placement:
        """Return the placement on these nodes; :class:`Unfit` if it does not fit."""
        pins, moved = self._pins, any(old != new for old, new in nodes.items())
        cells = [self._moved(cell, nodes) for cell in pins.cells]
        self._see_memory(cells)
        chosen = self._dedicated(cells)
        to_new = {old: chosen[vcpu] for vcpu, old in self._old.items()}
        masks = {vcpu: {cpu} for vcpu, cpu in chosen.items()}
        for vcpu, mask in pins.masks.items():
            if vcpu not in masks:
                masks[vcpu] = self._floating(mask, f"vCPU {vcpu}", self._nodes_of(vcpu, cells), moved)
        all_nodes = frozenset(nodes.values())
        default = self._shared(pins.default, "vcpu", to_new, all_nodes if moved else frozenset())
        emulator = self._shared(pins.emulator, "emulatorpin", to_new)
        threads = {name: self._shared(mask, "iothreadpin", to_new) for name, mask in pins.iothreads.items()}
        whole = {nodes[node] for node in pins.nodes} if pins.nodes else None
        return Placement(
            cpus=sorted(chosen.values()),
            node_mb=pinning.node_mb(cells),
            vcpus={str(vcpu): listed(mask) for vcpu, mask in sorted(masks.items())},
            emulator=emulator,
            iothreads={name: mask for name, mask in threads.items() if mask is not None},
            default=default,
            nodes=listed(whole) if whole else None,
            cells={str(cell.number): listed(cell.nodes) for cell in cells if cell.number is not None},
        )

    @staticmethod
    def _moved(cell: Cell, nodes: Mapping[int, int]) -> Cell:
        there = frozenset(nodes[node] for node in cell.nodes)
        return Cell(cell.number, cell.vcpus, cell.memory_mb, there, cell.bound)

    def _see_memory(self, cells: Iterable[Cell]) -> None:
        for node, need in pinning.node_mb(cells).items():
            if need > (free := max(self._memory[int(node)], 0)):
                raise Unfit(
                    f"{need} MiB of memory on NUMA node {node} needed, {free} MiB not promised to others"
                )

    # -- vCPUs with a CPU of their own --------------------------------------------------------------------

    def _dedicated(self, cells: Sequence[Cell]) -> dict[int, int]:
        """Return a CPU for each of them: first for those that may not go just anywhere."""
        free, chosen = set(self._free), dict[int, int]()
        groups = [(cell, sorted(cell.vcpus & self._old.keys())) for cell in cells]
        groups.append((Cell(None, frozenset(), 0), sorted(self._old.keys() - _all_vcpus(cells))))
        for cell, vcpus in sorted(groups, key=lambda group: (not group[0].nodes, -len(group[1]))):
            if vcpus:
                cpus = self._cpus_for(cell, vcpus, free)
                chosen |= dict(zip(vcpus, cpus, strict=True))
                free -= set(cpus)
        return chosen

    def _cpus_for(self, cell: Cell, vcpus: Sequence[int], free: set[int]) -> list[int]:
        near = free & self._topology.numbers(cell.nodes) if cell.nodes else free
        had = [self._old[vcpu] for vcpu in vcpus]
        if set(had) <= near:
            return had
        places = [near] if cell.nodes else [*self._each_node(free), free]
        for place in places:
            if len(place) >= len(vcpus):
                return self._pick(place, len(vcpus))
        where = f" on NUMA node {listed(cell.nodes)}" if cell.nodes else ""
        raise Unfit(f"{len(vcpus)} CPUs of its own{where} needed, {len(near)} not pinned by others")

    def _each_node(self, free: set[int]) -> list[set[int]]:
        return [free & self._topology.numbers({node.number}) for node in self._topology.nodes]

    def _pick(self, place: set[int], count: int) -> list[int]:
        """Return whole cores for a guest that sees threads, if there are enough; else a core for each vCPU first.

        Of those, what others have left of a core comes before a core that nobody uses.
        """
        cores: dict[Core, list[int]] = {}
        for number in sorted(place):
            cores.setdefault(self._cpus[number].core, []).append(number)
        threads = self._pins.threads
        whole = [core[:threads] for core in cores.values() if len(core) >= threads]
        if threads > 1 and len(whole) * threads >= count:
            return [number for core in whole for number in core][:count]
        ranks = itertools.zip_longest(*sorted(cores.values(), key=len))
        return [number for rank in ranks for number in rank if number is not None][:count]

    # -- whatever shares CPUs -----------------------------------------------------------------------------

    def _apart(self) -> set[int]:
        """Return the CPUs of emulator and I/O threads that share none with the dedicated vCPUs, and never shall."""
        had = set(self._old.values())
        masks = [self._pins.emulator, *self._pins.iothreads.values()]
        return {cpu for mask in masks if mask and had and not mask & had for cpu in mask}

    def _shared(
        self,
        mask: frozenset[int] | None,
        what: str,
        to_new: Mapping[int, int],
        nodes: frozenset[int] = frozenset(),
    ) -> str | None:
        if mask is None:
            return None
        if mask & to_new.keys():
            return listed({to_new.get(cpu, cpu) for cpu in mask} & (self._cpus.keys() | set(to_new.values())))
        return listed(self._floating(mask, what, nodes, bool(nodes)))

    def _floating(self, mask: frozenset[int], what: str, nodes: frozenset[int], moved: bool) -> set[int]:
        if moved and nodes:
            return self._topology.numbers(nodes)
        if missing := mask - self._cpus.keys():
            raise Unfit(f"the host has no CPU {listed(missing)}, to which {what} is pinned")
        return set(mask)

    @staticmethod
    def _nodes_of(vcpu: int, cells: Sequence[Cell]) -> frozenset[int]:
        return next((cell.nodes for cell in cells if vcpu in cell.vcpus), frozenset())


def _all_vcpus(cells: Sequence[Cell]) -> frozenset[int]:
    return frozenset().union(*(cell.vcpus for cell in cells))
