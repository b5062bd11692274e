"""Which CPUs and NUMA nodes a guest gets on another host, by capabilities as libvirt writes them for two sockets."""

from __future__ import annotations

import pytest

from hostler.drivers.hypervisor import domain_xml, pins, placing, topology
from hostler.errors import CPUPinningInvalid
from hostler.objects import Placement

#: 2 nodes of 4 cores with 2 threads each, 32 GiB each: CPU n and n + 8 are threads of one core.
CELL = """<cell id='{node}'>
  <memory unit='KiB'>33554432</memory>
  <pages unit='KiB' size='4'>8388608</pages><pages unit='KiB' size='2048'>0</pages>
  <distances><sibling id='0' value='10'/><sibling id='1' value='21'/></distances>
  <cpus num='8'>{cpus}</cpus>
</cell>"""
CPU = "<cpu id='{cpu}' socket_id='{node}' die_id='0' core_id='{core}' siblings='{core},{other}'/>"
GUEST = """<domain type='kvm'><name>web1</name><uuid>c7a5fdbd-edaf-9455-926a-d65c16db1809</uuid>
<memory unit='GiB'>{memory}</memory><vcpu placement='static'{vcpu}>{vcpus}</vcpu>
<cputune><shares>1024</shares>{tune}</cputune>{numatune}<os><type>hvm</type></os>{cpu}</domain>"""


def two_sockets(online: range = range(16)) -> topology.Topology:
    cells = ""
    for node in (0, 1):
        cores = range(node * 4, node * 4 + 4)
        numbers = [*cores, *(core + 8 for core in cores)]
        cpus = "".join(
            CPU.format(cpu=n, node=node, core=n % 8, other=n % 8 + 8)
            if n in online
            else f"<cpu id='{n}'/>"  # as libvirt writes one that is offline
            for n in numbers
        )
        cells += CELL.format(node=node, cpus=cpus)
    xml = f"<capabilities><host><topology><cells num='2'>{cells}</cells></topology></host></capabilities>"
    return topology.of_capabilities(xml, online)


ONE_SOCKET = topology.uniform(4, 16 << 10)


def guest(
    *cpus: str, memory: int = 4, numatune: str = "", cpu: str = "", vcpu: str = "", more: str = ""
) -> str:
    """A guest whose vCPUs are pinned to these CPUs."""
    tune = "".join(f"<vcpupin vcpu='{n}' cpuset='{mask}'/>" for n, mask in enumerate(cpus)) + more
    return GUEST.format(memory=memory, vcpus=len(cpus) or 2, tune=tune, numatune=numatune, cpu=cpu, vcpu=vcpu)


def place(xml: str, host: topology.Topology, *taken: int, node_mb: dict[str, int] | None = None) -> Placement:
    found = placing.place(xml, host, [Placement(list(taken), node_mb or {})], host="kvm2", server="web1")
    assert found is not None
    return found


def refused(xml: str, host: topology.Topology, *taken: int, node_mb: dict[str, int] | None = None) -> str:
    with pytest.raises(CPUPinningInvalid) as error:
        place(xml, host, *taken, node_mb=node_mb)
    assert (error.value.exit_code, error.value.hint) == (3, "hostler server migrate --dry-run web1")
    return str(error.value.reason)


def memory(nodes: str, mode: str = "strict", *cells: str) -> str:
    own = "".join(f"<memnode cellid='{n}' mode='{mode}' nodeset='{one}'/>" for n, one in enumerate(cells))
    return f"<numatune><memory mode='{mode}' nodeset='{nodes}'/>{own}</numatune>"


TWO_CELLS = """<cpu><topology sockets='2' cores='1' threads='2'/><numa>
  <cell id='0' cpus='0-1' memory='2' unit='GiB'/><cell id='1' cpus='2-3' memory='2' unit='GiB'/></numa></cpu>"""


def test_a_guest_that_names_nothing_is_left_alone() -> None:
    assert placing.place(guest(), ONE_SOCKET, [], host="kvm2", server="web1") is None
    assert pins.held(guest()) is None


def test_capabilities_say_what_is_there_and_online() -> None:
    host = two_sockets(range(12))
    assert [sorted(cpu.number for cpu in node.cpus) for node in host.nodes] == [
        [0, 1, 2, 3, 8, 9, 10, 11],
        [4, 5, 6, 7],
    ]
    assert [node.memory_mb for node in host.nodes] == [32 << 10] * 2
    assert host.cpus[0].core == host.cpus[8].core != host.cpus[1].core


def test_cpus_that_are_free_there_are_kept() -> None:
    found = place(guest("2", "3"), ONE_SOCKET, 0, 1)
    assert (found.cpus, found.vcpus) == ([2, 3], {"0": "2", "1": "3"})


def test_cpus_of_others_are_never_shared() -> None:
    assert place(guest("0", "1"), ONE_SOCKET, 1, 2).cpus == [0, 3]
    assert refused(guest("0", "1"), ONE_SOCKET, 1, 2, 3) == (
        "2 CPUs of its own needed, 1 not pinned by others"
    )


def test_cpus_that_are_not_there_become_others() -> None:
    assert place(guest("40", "41"), ONE_SOCKET).cpus == [0, 1]


def test_a_guest_stays_on_one_node_where_one_has_room_for_it() -> None:
    assert place(guest("0", "1", "2"), two_sockets(), 0, 1, 2, 8, 9, 10).cpus == [4, 5, 6]
    # it is not bound to any: two nodes will do where one is not enough
    taken = (0, 1, 2, 8, 9, 10, 4, 5, 6, 12, 13, 14)
    assert place(guest("0", "1", "2"), two_sockets(), *taken).cpus == [3, 7, 11]


def test_cells_go_to_nodes_of_their_own_with_their_memory() -> None:
    xml = guest("0", "8", "4", "12", cpu=TWO_CELLS, numatune=memory("0-1", "strict", "0", "1"))
    found = place(xml, two_sockets(), 0, node_mb={"0": 1024})
    # CPU 0 is another's: a whole core of the same node, and the other cell as it was
    assert found.vcpus == {"0": "1", "1": "9", "2": "4", "3": "12"}
    assert (found.cells, found.nodes, found.node_mb) == ({"0": "0", "1": "1"}, "0-1", {"0": 2048, "1": 2048})


def test_cells_change_places_where_the_nodes_have_not_the_same_room() -> None:
    cpu = TWO_CELLS.replace("memory='2'", "memory='20'", 1)
    xml = guest("0", "8", "4", "12", memory=22, cpu=cpu, numatune=memory("0-1", "strict", "0", "1"))
    found = place(xml, two_sockets(), node_mb={"0": 16 << 10})
    assert (found.cells, found.node_mb) == ({"0": "1", "1": "0"}, {"1": 20480, "0": 2048})
    assert found.vcpus == {"0": "4", "1": "12", "2": "0", "3": "8"}
    assert refused(xml, two_sockets(), node_mb={"0": 16 << 10, "1": 16 << 10}) == (
        "20480 MiB of memory on NUMA node 0 needed, 16384 MiB not promised to others"
    )


def test_what_was_apart_is_not_put_together() -> None:
    xml = guest("0", "8", "4", "12", cpu=TWO_CELLS, numatune=memory("0-1", "strict", "0", "1"))
    assert refused(xml, ONE_SOCKET) == "it is spread over 2 NUMA nodes, and the host has 1"
    together = guest("0", "8", "1", "9", cpu=TWO_CELLS, numatune=memory("7", "strict", "7", "7"))
    assert place(together, ONE_SOCKET).cells == {"0": "0", "1": "0"}


def test_a_bound_guest_is_not_split() -> None:
    xml = guest("0", "1", "2", numatune=memory("0"))
    assert place(xml, two_sockets(), 0, 1, 2, 8, 9, 10).nodes == "1"
    taken = (0, 1, 2, 8, 9, 10, 4, 5, 6, 12, 13, 14)
    assert refused(xml, two_sockets(), *taken) == (
        "3 CPUs of its own on NUMA node 0 needed, 2 not pinned by others"
    )


def test_memory_that_is_only_preferred_need_not_be_there() -> None:
    xml = guest("0", numatune=memory("0", "preferred"), memory=64)
    assert place(xml, two_sockets()).node_mb == {}
    assert "65536 MiB of memory" in refused(guest("0", numatune=memory("0"), memory=64), two_sockets())


def test_threads_of_a_core_stay_threads_of_a_core() -> None:
    threads = "<cpu><topology sockets='1' cores='2' threads='2'/></cpu>"
    assert place(guest("0", "8", "1", "9", cpu=threads), two_sockets(), 0, 9).vcpus == {
        "0": "2", "1": "10", "2": "3", "3": "11",
    }  # fmt: skip
    # a guest that sees no threads gets what is left of cores first, so that others find whole ones
    assert place(guest("0", "8"), two_sockets(), 0, 9).cpus == [1, 8]


def test_a_floating_mask_is_kept_if_its_cpus_are_there() -> None:
    assert place(guest("0-1", "0-1"), ONE_SOCKET, 0, 1).vcpus == {"0": "0-1", "1": "0-1"}
    assert place(guest("0-1", "0-1"), ONE_SOCKET).cpus == []
    assert refused(guest("0-7", "0-7"), ONE_SOCKET) == "the host has no CPU 4-7, to which vCPU 0 is pinned"
    assert refused(guest(vcpu=" cpuset='0,9'"), ONE_SOCKET) == (
        "the host has no CPU 9, to which vcpu is pinned"
    )


def test_a_floating_mask_follows_its_node() -> None:
    xml = guest("4-7,12-15", "4-7,12-15", vcpu=" cpuset='4-7,12-15'", numatune=memory("1"))
    found = place(xml, ONE_SOCKET)
    assert (found.vcpus, found.default, found.nodes) == ({"0": "0-3", "1": "0-3"}, "0-3", "0")
    kept = place(xml, two_sockets())
    assert (kept.vcpus["0"], kept.default) == ("4-7,12-15", "4-7,12-15")


def test_one_vcpu_may_have_a_cpu_for_itself_and_another_share() -> None:
    found = place(guest("0", "2-3"), ONE_SOCKET, 0)
    assert (found.cpus, found.vcpus) == ([1], {"0": "1", "1": "2-3"})


def test_two_vcpus_of_one_cpu_have_none_for_themselves() -> None:
    assert place(guest("0", "0"), ONE_SOCKET, 0).vcpus == {"0": "0", "1": "0"}


def test_emulator_and_io_threads_follow_the_vcpus_that_they_share_with() -> None:
    more = "<emulatorpin cpuset='0-1'/><iothreadpin iothread='1' cpuset='1'/>"
    found = place(guest("0", "1", more=more, vcpu=" cpuset='0-1'"), ONE_SOCKET, 0, 1)
    assert (found.cpus, found.emulator, found.iothreads, found.default) == ([2, 3], "2-3", {"1": "3"}, "2-3")


def test_an_emulator_that_kept_to_itself_still_does() -> None:
    found = place(guest("1", "2", more="<emulatorpin cpuset='0'/>"), ONE_SOCKET, 1)
    assert (found.cpus, found.emulator) == ([2, 3], "0")
    assert refused(guest("1", "2", more="<emulatorpin cpuset='0'/>"), ONE_SOCKET, 1, 2) == (
        "2 CPUs of its own needed, 1 not pinned by others"
    )


def test_what_is_written_is_read_again_and_the_rest_stays() -> None:
    more = "<emulatorpin cpuset='0-1,8-9'/><iothreadpin iothread='1' cpuset='8'/>"
    more += "<vcpusched vcpus='0' scheduler='fifo'/>"
    xml = guest("0", "8", "1", "9", cpu=TWO_CELLS, numatune=memory("0", "strict", "0", "0"), more=more)
    found = place(xml, two_sockets(), *range(4), *range(8, 12))
    written = pins.write(xml, found)
    assert place(written, two_sockets()) == found
    assert pins.held(written) == Placement(cpus=[4, 5, 12, 13], node_mb={"1": 4096})
    for part in ("<shares>1024</shares>", 'scheduler="fifo"', 'cores="1"'):
        assert part in written
    # as it was, it is written back from the old definition, which nobody has touched
    assert pins.held(xml) == Placement(cpus=[0, 1, 8, 9], node_mb={"0": 4096})
    assert domain_xml.read_domain(written).vcpus == 4


def test_numbers_are_written_as_libvirt_writes_them() -> None:
    for numbers in ([0], [0, 1, 2, 3, 8], [1, 3, 5], []):
        assert domain_xml.number_set(pins.listed(numbers)) == set(numbers)
