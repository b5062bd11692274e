"""A definition of another size: what follows by a rule is changed, the rest is refused with its reason."""

from __future__ import annotations

import pytest

from hostler.drivers.hypervisor import domain_size, domain_xml
from hostler.drivers.hypervisor.pins import of_domain
from hostler.errors import ResizeError

DOMAIN = """<domain type='kvm'>
  <name>web1</name>
  <metadata><x:note xmlns:x='urn:test'>kept</x:note></metadata>
  {head}
  <memory unit='MiB'>1024</memory>
  <currentMemory unit='MiB'>512</currentMemory>
  <vcpu placement='static'>2</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  {more}
  <devices><!-- as it was -->{devices}</devices>
</domain>"""


def made(more: str = "", devices: str = "", head: str = "") -> str:
    return DOMAIN.format(more=more, devices=devices, head=head)


def resized(xml: str, vcpus: int = 4, memory_mb: int = 2048) -> str:
    return domain_size.resize(xml, vcpus, memory_mb)


def reason(xml: str, vcpus: int = 4, memory_mb: int = 2048) -> str:
    with pytest.raises(ResizeError) as refused:
        resized(xml, vcpus, memory_mb)
    return str(refused.value)


def test_memory_and_vcpus_are_given_whole_and_all_else_stays() -> None:
    before = made()
    after = resized(before)
    expected = before.replace("unit='MiB'>1024<", "unit='KiB'>2097152<")
    expected = expected.replace("unit='MiB'>512<", "unit='KiB'>2097152<").replace(">2</vcpu>", ">4</vcpu>")
    assert after.replace('"', "'").strip() == expected
    assert resized(after) == after
    read = domain_xml.read_domain(after)
    assert (read.vcpus, read.memory_mb) == (4, 2048)


def test_the_same_size_changes_nothing() -> None:
    odd = made(
        "<cpu><numa><cell id='0' cpus='0' memory='1' unit='MiB'/><cell id='1' cpus='1' memory='9'/></numa></cpu>"
    )
    assert resized(odd, 2, 1024).replace('"', "'").strip() == odd


def test_vcpus_that_were_not_plugged_in_are() -> None:
    xml = made().replace("<vcpu placement='static'>2", "<vcpu placement='static' current='1'>2")
    states = "<vcpus><vcpu id='0' enabled='yes'/><vcpu id='1' enabled='no'/></vcpus>"
    after = resized(xml.replace("<os>", f"{states}<os>"))
    assert "current=" not in after
    assert "<vcpus>" not in after


@pytest.mark.parametrize(
    ("topology", "vcpus", "becomes"),
    [
        ("sockets='1' dies='1' cores='2' threads='1'", 6, {"sockets": "1", "cores": "6", "threads": "1"}),
        ("sockets='1' dies='1' cores='1' threads='2'", 4, {"sockets": "1", "cores": "2", "threads": "2"}),
        ("sockets='2' dies='1' cores='1' threads='1'", 3, {"sockets": "3", "cores": "1", "threads": "1"}),
    ],
)
def test_a_topology_is_made_of_the_new_vcpus(topology: str, vcpus: int, becomes: dict[str, str]) -> None:
    after = domain_xml.parse(resized(made(f"<cpu><topology {topology}/></cpu>"), vcpus))
    found = after.find("cpu/topology")
    assert found is not None
    assert {name: found.get(name) for name in becomes} == becomes


def test_cells_share_equally_and_pins_of_a_kind_go_on() -> None:
    cells = "<cell id='0' cpus='0' memory='512' unit='MiB'/><cell id='1' cpus='1' memory='512' unit='MiB'/>"
    pins = "<vcpupin vcpu='0' cpuset='2-3'/><vcpupin vcpu='1' cpuset='2-3'/>"
    after = domain_xml.parse(resized(made(f"<cpu><numa>{cells}</numa></cpu><cputune>{pins}</cputune>")))
    found = [(cell.get("cpus"), cell.get("memory"), cell.get("unit")) for cell in after.iter("cell")]
    assert found == [("0-1", "1048576", "KiB"), ("2-3", "1048576", "KiB")]
    assert {pin.get("vcpu"): pin.get("cpuset") for pin in after.iter("vcpupin")} == dict.fromkeys(
        "0123", "2-3"
    )


@pytest.mark.parametrize("emulator", ["<emulatorpin cpuset='1,5'/>", ""])
def test_where_each_has_a_cpu_for_itself_so_has_one_that_comes(emulator: str) -> None:
    pins = f"<vcpupin vcpu='0' cpuset='1'/><vcpupin vcpu='1' cpuset='2'/>{emulator}"
    after = resized(made(f"<cputune>{pins}</cputune>"))
    found = of_domain(after)
    assert found.dedicated.keys() == {0, 1, 2, 3}
    assert (found.dedicated[0], found.dedicated[1]) == (1, 2)
    assert not {found.dedicated[2], found.dedicated[3]} & (found.emulator or set())


def test_a_single_vcpu_with_its_own_cpu_shares_it_with_none_that_comes() -> None:
    xml = made("<cputune><vcpupin vcpu='0' cpuset='7'/></cputune>").replace(">2</vcpu>", ">1</vcpu>")
    assert of_domain(resized(xml, vcpus=2)).dedicated.keys() == {0, 1}


def test_the_pins_of_vcpus_that_go_go_along() -> None:
    pins = "<vcpupin vcpu='0' cpuset='2'/><vcpupin vcpu='1' cpuset='3'/>"
    after = domain_xml.parse(resized(made(f"<cputune>{pins}</cputune>"), vcpus=1))
    assert [pin.attrib for pin in after.iter("vcpupin")] == [{"vcpu": "0", "cpuset": "2"}]


@pytest.mark.parametrize(
    ("more", "devices", "words"),
    [
        (
            "<cpu><topology sockets='1' cores='1' threads='2'/></cpu>",
            "",
            "(2 threads) cannot be made of 5 vCPUs",
        ),
        ("<cpu><numa><cell cpus='0'/><cell cpus='1'/></numa></cpu>", "", "cannot be shared equally by its 2"),
        ("<cpu><numa><cell cpus='0'/><cell cpus='1-2'/></numa></cpu>", "", "NUMA cells differ"),
        ("<cputune><vcpupin vcpu='0' cpuset='1'/></cputune>", "", "where 3 more belong"),
        (
            "<cputune><vcpupin vcpu='0' cpuset='1-2'/><vcpupin vcpu='1' cpuset='2-3'/></cputune>",
            "",
            "pinned each to other CPUs",
        ),
        ("<memtune><hard_limit unit='GiB'>1</hard_limit></memtune>", "", "hard limit"),
        ("<maxMemory slots='4' unit='GiB'>1</maxMemory>", "", "more than its maxMemory"),
        (
            "<memoryBacking><hugepages><page size='1' unit='GiB'/></hugepages></memoryBacking>",
            "",
            "huge pages of 1048576 KiB",
        ),
        ("", "<memory model='dimm'/>", "plugged in as devices"),
    ],
)
def test_what_only_its_owner_can_decide_is_refused(more: str, devices: str, words: str) -> None:
    assert words in reason(made(more, devices), vcpus=5, memory_mb=2049)


def test_settings_of_vcpus_that_go_are_refused() -> None:
    sched = "<cputune><vcpusched vcpus='0-1' scheduler='fifo' priority='1'/></cputune>"
    assert "vcpusched names vCPUs" in reason(made(sched), vcpus=1)
    assert "vcpusched" in resized(made(sched), vcpus=3)


@pytest.mark.parametrize(
    ("text", "numbers"), [("0-3,^2,8", {0, 1, 3, 8}), ("", set()), ("5", {5}), (" 1 , 2 ", {1, 2})]
)
def test_sets_of_numbers_are_read_as_libvirt_writes_them(text: str, numbers: set[int]) -> None:
    assert domain_xml.number_set(text) == numbers


def _disk(target: str, order: int | None = None, device: str = "disk", kind: str = "file") -> str:
    boot = "" if order is None else f"<boot order='{order}'/>"
    source = "file='/a'" if kind == "file" else "protocol='rbd' name='p/i'"
    return f"<disk type='{kind}' device='{device}'><source {source}/><target dev='{target}'/>{boot}</disk>"


@pytest.mark.parametrize(
    ("disks", "root"),
    [
        (_disk("vda") + _disk("vdb"), "vda"),
        (_disk("vda", 2) + _disk("vdb", 1), "vdb"),
        (_disk("vda") + _disk("vdb", 9), "vdb"),
        (_disk("sda", 1, "cdrom") + _disk("vdb") + _disk("vdc"), "vdb"),
        (_disk("vda", kind="network") + _disk("vdb"), "vda"),
        ("", None),
    ],
)
def test_the_root_disk_is_the_first_in_boot_order_or_the_first(disks: str, root: str | None) -> None:
    assert domain_xml.read_domain(made(devices=disks)).root_disk == root
