"""What is read from a domain's XML, and what is changed in it."""

from __future__ import annotations

import dataclasses

import pytest

from hostler import errors
from hostler.drivers.hypervisor import domain_edit, domain_xml
from hostler.objects import PowerState, Requirements, Secret, Volume

from .conftest import disk_xml
from .conftest import domain_xml as make

UUID = "11111111-2222-4333-8444-555555555555"
MIGRATION = "99999999-2222-4333-8444-555555555555"

BOMB = (
    '<!DOCTYPE d [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]>'
    "<domain type='kvm'><name>&b;</name><metadata/></domain>"
)

OBSTACLES = [
    (
        "<disk type='nvme'><source type='pci' namespace='1'/><target dev='vdb'/></disk>",
        "disk vdb is of type 'nvme'",
    ),
    (
        "<disk type='vhostuser'><source type='unix' path='/x'/><target dev='vdb'/></disk>",
        "of type 'vhostuser'",
    ),
    ("<disk type='dir'><source dir='/x'/><target dev='vdb'/></disk>", "disk vdb is of type 'dir'"),
    ("<disk type='volume'><source pool='p' volume='v'/><target dev='vdb'/></disk>", "volume 'v' of pool 'p'"),
    (
        "<disk type='file'><source file='/a'/><target dev='vdb'/><backingStore type='block'/></disk>",
        "disk vdb has a backing image of type 'block'",
    ),
    (
        "<hostdev mode='subsystem' type='pci'><source>"
        "<address domain='0x0000' bus='0x06' slot='0x02' function='0x0'/></source></hostdev>",
        "a pci device of the host is passed through (0000:06:02.0)",
    ),
    (
        "<hostdev mode='subsystem' type='usb'><source>"
        "<vendor id='0x1234'/><product id='0xbeef'/></source></hostdev>",
        "a usb device of the host is passed through (0x1234:0xbeef)",
    ),
    (
        f"<hostdev mode='subsystem' type='mdev'><source><address uuid='{UUID}'/></source></hostdev>",
        f"a mdev device of the host is passed through ({UUID})",
    ),
    (
        "<hostdev mode='capabilities' type='misc'><source><char>/dev/input/event3</char></source></hostdev>",
        "(char /dev/input/event3)",
    ),
    (
        "<interface type='hostdev'><mac address='52:54:00:00:00:01'/></interface>",
        "interface 52:54:00:00:00:01 is a device of the host that is passed through",
    ),
    ("<interface type='vhostuser'><source type='unix' path='/x'/></interface>", "(vhost-user)"),
    (
        "<filesystem type='mount'><source dir='/srv'/><target dir='srv'/></filesystem>",
        "/srv is shared with the guest",
    ),
    ("<tpm><backend type='passthrough'><device path='/dev/tpm0'/></backend></tpm>", "the TPM is the host's"),
    ("<serial type='dev'><source path='/dev/ttyS0'/></serial>", "serial /dev/ttyS0 is a device of the host"),
    (
        "<console type='dev'><source path='/dev/ttyS1'/></console>",
        "console /dev/ttyS1 is a device of the host",
    ),
    ("<shmem name='ivs'><model type='ivshmem-plain'/></shmem>", "memory 'ivs' is shared"),
    ("<memory model='nvdimm'><source><path>/dev/dax0.0</path></source></memory>", "nvdimm memory lies in"),
    ("<input type='evdev'><source dev='/dev/input/event1'/></input>", "input device /dev/input/event1"),
    ("<lease><lockspace>s</lockspace><key>k</key></lease>", "lease is held (k)"),
    ("<smartcard mode='host'/>", "a smart card of the host"),
]


@pytest.mark.parametrize(("devices", "sentence"), OBSTACLES)
def test_each_thing_that_is_bound_to_its_host_is_named(devices: str, sentence: str) -> None:
    (found,) = domain_xml.read_domain(make("web1", UUID, devices)).obstacles
    assert sentence in found


@pytest.mark.parametrize(
    "devices",
    [
        "<serial type='pty'><target port='0'/></serial>",
        "<serial type='file'><source path='/var/log/x'/></serial>",
        "<channel type='unix'><source mode='bind' path='/x'/></channel>",
        "<disk type='file' device='cdrom'><target dev='hda'/></disk>",
        "<disk type='block' device='cdrom'><target dev='hda'/></disk>",
        "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>",
        "<redirdev bus='usb' type='spicevmc'/>",
        "<input type='tablet' bus='usb'/>",
        "<memory model='dimm'><target><size unit='MiB'>16</size></target></memory>",
    ],
)
def test_what_every_host_has_is_no_obstacle(devices: str) -> None:
    domain = domain_xml.read_domain(make("web1", UUID, devices))
    assert domain.obstacles == []
    assert domain.disks == []


@pytest.mark.parametrize("action", ["restart", "rename-restart", "preserve"])
def test_a_guest_that_would_not_stay_off_is_refused(action: str) -> None:
    xml = make("web1", UUID).replace("<devices>", f"<on_poweroff>{action}</on_poweroff><devices>")
    (sentence,) = domain_xml.read_domain(xml).obstacles
    assert sentence.startswith(f"on_poweroff={action} would ")


def test_arguments_for_qemu_are_named() -> None:
    command = (
        "<qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>"
        "<qemu:arg value='-fw_cfg'/><qemu:arg value='name=a,file=/x'/><qemu:env name='A' value='1'/>"
        "</qemu:commandline></domain>"
    )
    (sentence,) = domain_xml.read_domain(make("web1", UUID).replace("</domain>", command)).obstacles
    assert sentence == "qemu:commandline may name files of the host (-fw_cfg name=a,file=/x A=1)"


def test_disks_are_read_as_declared() -> None:
    devices = (
        "<disk type='file'><driver type='qcow2'/><source file='/i/a'/><target dev='vda'/><shareable/>"
        "<backingStore type='file'><format type='qcow2'/><source file='/i/b'/>"
        "<backingStore type='file'><source file='/i/c'/><backingStore/></backingStore></backingStore></disk>"
        "<disk type='file' device='cdrom'><source file='/i/x.iso'/><target dev='hda'/></disk>"
        "<disk type='volume'><source pool='p' volume='v'/><target dev='vdb'/></disk>"
        "<disk type='block'><source dev='/dev/vg/lv'/><target dev='vdc'/></disk>"
    )
    disks = domain_xml.read_domain(
        make("web1", UUID, devices), lambda pool, volume: f"/{pool}/{volume}"
    ).disks
    first, iso, volume, device = disks
    assert (first.path, first.format, first.backing, first.shareable) == (
        "/i/a",
        "qcow2",
        ["/i/b", "/i/c"],
        True,
    )
    assert (iso.path, iso.format, iso.device, iso.readonly) == ("/i/x.iso", "raw", "cdrom", True)
    assert (volume.target, volume.path) == ("vdb", "/p/v")
    assert (device.path, device.block, volume.block) == ("/dev/vg/lv", True, False)


def test_network_disks_are_volumes() -> None:
    devices = (
        f"<disk type='network'><auth username='u'><secret type='ceph' uuid='{UUID}'/></auth>"
        "<source protocol='rbd' name='pool/image'><host name='10.0.0.1' port='6789'/>"
        "<host name='m2'/></source>"
        "<target dev='vdc'/></disk>"
    )
    (volume,) = domain_xml.read_domain(make("web1", UUID, devices)).volumes
    assert (volume.target, volume.protocol, volume.name) == ("vdc", "rbd", "pool/image")
    assert volume.hosts == ["10.0.0.1:6789", "m2"]
    assert volume.secrets == [Secret("ceph", UUID)]
    assert not volume.shared


def test_a_network_disk_says_whose_it_is_what_it_needs_and_where_its_servers_are() -> None:
    devices = (
        "<disk type='network'><driver name='qemu' type='raw'/>"
        "<source protocol='rbd' name='pool/image'><host name='fd00::1' port='6789'/><host name='[fd00::2]' port='1'/>"
        "<config file='/etc/ceph/two.conf'/>"
        "<auth username='u'><secret type='ceph' usage='pool key'/></auth>"
        f"<encryption format='luks'><secret type='passphrase' uuid='{UUID}'/></encryption></source>"
        "<target dev='vdc'/><shareable/></disk>"
        "<disk type='network' device='cdrom'><source protocol='nbd' name=''><host transport='unix' socket='/s'/>"
        "</source><target dev='sda'/><readonly/></disk>"
    )
    first, second = domain_xml.read_domain(make("web1", UUID, devices)).volumes
    assert (first.user, first.config, first.shared) == ("u", "/etc/ceph/two.conf", True)
    assert first.secrets == [Secret("ceph", usage="pool key"), Secret("volume", UUID)]
    assert first.hosts == ["[fd00::1]:6789", "[fd00::2]:1"]
    assert (second.hosts, second.secrets, second.shared) == (["/s"], [], True)


def test_ports_say_where_they_are_plugged_in() -> None:
    devices = (
        "<interface type='network'><mac address='52:54:00:00:00:01'/><source network='lan' portgroup='g'/>"
        "<model type='virtio'/></interface>"
        "<interface type='bridge'><mac address='52:54:00:00:00:02'/><source bridge='br0'/>"
        "<virtualport type='openvswitch'><parameters interfaceid='p1' profileid='x'/></virtualport></interface>"
        "<interface type='direct'><mac address='52:54:00:00:00:03'/><source dev='eth0'/></interface>"
        "<interface type='user'><mac address='52:54:00:00:00:04'/></interface>"
    )
    ports = domain_xml.read_domain(make("web1", UUID, devices)).ports
    assert [(port.kind, port.source) for port in ports] == [
        ("network", "lan"), ("bridge", "br0"), ("direct", "eth0"), ("user", None),
    ]  # fmt: skip
    assert [port.interface for port in ports] == [None, "p1", None, None]
    assert (ports[0].mac, ports[0].model, ports[0].portgroup) == ("52:54:00:00:00:01", "virtio", "g")


def test_files_of_firmware_and_direct_boot_are_listed() -> None:
    os = (
        "<type arch='x86_64' machine='q35'>hvm</type><loader type='pflash'>/fw/CODE.fd</loader>"
        "<nvram>/fw/VARS.fd</nvram><kernel>/b/k</kernel><initrd>/b/i</initrd><dtb>/b/d</dtb>"
        "<acpi><table type='slic'>/b/slic</table></acpi>"
    )
    domain = domain_xml.read_domain(make("web1", UUID, os=os))
    assert (domain.firmware, domain.nvram) == (["/fw/CODE.fd"], "/fw/VARS.fd")
    assert domain.boot_files == ["/b/k", "/b/i", "/b/d", "/b/slic"]


def test_only_an_emulated_tpm_has_a_state_to_carry() -> None:
    emulated = make("web1", UUID, "<tpm><backend type='emulator'/></tpm>")
    assert domain_xml.read_domain(emulated).tpm_state == f"/var/lib/libvirt/swtpm/{UUID}"
    assert domain_xml.read_domain(make("web1", UUID)).tpm_state is None


@pytest.mark.parametrize(
    ("text", "memory_mb"),
    [
        ("<memory>1048576</memory>", 1024),
        ("<memory unit='GiB'>2</memory>", 2048),
        ("<memory unit='b'>1</memory>", 1),
    ],
)
def test_memory_is_counted_in_whole_mebibytes(text: str, memory_mb: int) -> None:
    xml = make("web1", UUID).replace("<memory unit='MiB'>16</memory>", text)
    assert domain_xml.read_domain(xml).memory_mb == memory_mb


@pytest.mark.parametrize(
    "hostile", [BOMB, "<domain", "", "<!DOCTYPE d SYSTEM 'file:///etc/passwd'><domain/>"]
)
def test_hostile_xml_is_refused_and_nothing_is_expanded(hostile: str) -> None:
    for read in (domain_xml.read_domain, lambda xml: domain_edit.mark(xml, None)):
        with pytest.raises(errors.MigrationError, match="cannot be read"):
            read(hostile)


NOVA = """<nova:instance xmlns:nova='http://openstack.org/xmlns/libvirt/nova/{version}'>
  <nova:owner><nova:user uuid='u1'>admin</nova:user><nova:project uuid='{project}'>demo</nova:project></nova:owner>
</nova:instance>"""


@pytest.mark.parametrize(
    ("metadata", "project"),
    [
        (NOVA.format(version="1.1", project="7f3a"), "7f3a"),
        (NOVA.format(version="1.0", project=" 7f3a "), "7f3a"),
        (NOVA.format(version="1.1", project=""), None),
        (NOVA.format(version="1.1", project="x" * 256), None),
        (NOVA.format(version="1.1", project="7f3a").replace("openstack.org", "example.org"), None),
        ("", None),
    ],
)
def test_the_project_is_the_one_that_nova_has_written(metadata: str, project: str | None) -> None:
    xml = make("web1", UUID, metadata=f"<metadata>{metadata}</metadata>")
    assert domain_xml.read_domain(xml).project == project
    assert domain_xml.read_summary(xml, PowerState.RUNNING, True).project == project


def test_our_mark_comes_and_goes_and_the_rest_stays_as_it_was() -> None:
    metadata = (
        "<title>a &amp; b</title><metadata><!-- theirs --><nova:instance xmlns:nova='http://openstack.org/x'>"
        "<nova:flavor name='m1'/></nova:instance></metadata>"
    )
    xml = make("web1", UUID, metadata=metadata)
    marked = domain_edit.mark(xml, MIGRATION)
    assert domain_xml.read_domain(marked).migration == MIGRATION
    for kept in ("<nova:flavor", "xmlns:nova=", "<!-- theirs -->", "a &amp; b"):
        assert kept in marked
    again = domain_edit.mark(marked, UUID)
    assert domain_xml.read_domain(again).migration == UUID
    assert again.count("hostler:migration") == 2
    assert domain_edit.mark(again, None) == domain_edit.mark(xml, None)


def test_a_disk_that_a_host_has_connected_is_opened_where_that_host_has_it() -> None:
    devices = "".join(
        f"<disk type='{kind}'><driver type='raw'/><source {attribute}='/here/{target}' index='1'/>"
        f"<target dev='{target}'/><serial>{UUID}</serial></disk>"
        for kind, attribute, target in (
            ("block", "dev", "vdb"),
            ("file", "file", "vdc"),
            ("block", "dev", "vdd"),
        )
    )
    disks = domain_xml.read_domain(make("web1", UUID, devices)).disks
    there = {
        disk.target: dataclasses.replace(Volume.of(disk), path=f"/there/{disk.target}") for disk in disks[:2]
    }
    moved = domain_xml.read_domain(domain_edit.relocate(make("web1", UUID, devices), {}, there)).disks
    assert [disk.path for disk in moved] == ["/there/vdb", "/there/vdc", "/here/vdd"]
    assert [disk.serial for disk in moved] == [UUID] * 3


def test_metadata_of_our_own_making_goes_with_the_mark() -> None:
    xml = make("web1", UUID)
    marked = domain_edit.mark(xml, MIGRATION)
    assert domain_xml.read_domain(marked).migration == MIGRATION
    assert "metadata" not in domain_edit.mark(marked, None)


def test_ports_are_plugged_elsewhere() -> None:
    devices = (
        "<interface type='network'><source network='a'/></interface>"
        "<interface type='network'><source network='b'/></interface>"
        "<interface type='bridge'><source bridge='a'/></interface>"
        "<interface type='user'/>"
    )
    moved = domain_edit.relocate(
        make("web1", UUID, devices), {"network:a": "network:c", "bridge:a": "network:d"}
    )
    ports = domain_xml.read_domain(moved).ports
    assert [(port.kind, port.source) for port in ports] == [
        ("network", "c"), ("network", "b"), ("network", "d"), ("user", None),
    ]  # fmt: skip


def test_ports_are_plugged_elsewhere_in_a_snapshot_too() -> None:
    inner = make("web1", UUID, "<interface type='network'><source network='a'/></interface>")
    snapshot = f"<domainsnapshot><name>s</name>{inner}</domainsnapshot>"
    assert 'network="c"' in domain_edit.relocate(snapshot, {"network:a": "network:c"})


def test_external_snapshots_are_told_from_internal_ones() -> None:
    disks = "<disks><disk name='vda' snapshot='{}'/></disks>"
    template = f"<domainsnapshot><memory snapshot='{{}}'/>{disks}</domainsnapshot>"
    assert not domain_xml.snapshot_is_external(template.format("internal", "internal"))
    assert not domain_xml.snapshot_is_external(template.format("no", "no"))
    assert domain_xml.snapshot_is_external(template.format("no", "external"))
    assert domain_xml.snapshot_is_external(template.format("external", "internal"))


def test_a_disk_of_a_plain_file_is_no_obstacle() -> None:
    assert domain_xml.read_domain(make("web1", UUID, disk_xml("/i/a"))).obstacles == []


@pytest.mark.parametrize(
    ("cpu", "mode", "model"),
    [
        ("", None, None),
        ("<cpu><topology sockets='1' cores='2' threads='1'/></cpu>", None, None),
        ("<cpu mode='host-passthrough'/>", "host-passthrough", None),
        ("<cpu mode='host-model'><model>Nehalem</model></cpu>", "host-model", None),
        ("<cpu match='exact' check='partial'><model> Nehalem </model></cpu>", "custom", "Nehalem"),
        ("<cpu check='none'><model>Nehalem</model></cpu>", "custom", None),
        ("<cpu><model>Nehalem</model><feature policy='disable' name='aes'/></cpu>", "custom", None),
    ],
)
def test_what_a_domain_asks_of_a_host(cpu: str, mode: str | None, model: str | None) -> None:
    xml = f"""<domain type='kvm'><name>a</name><os><type arch='x86_64' machine='q35'>hvm</type></os>{cpu}
      <devices>
        <interface type='bridge'><source bridge='br0'/></interface>
        <interface type='bridge'><source bridge='br0'/></interface>
        <interface type='network'><source network='lab'/></interface>
        <interface type='user'/>
      </devices></domain>"""
    wanted = Requirements("x86_64", "kvm", "q35", mode, model, ["bridge:br0", "network:lab"])
    assert domain_xml.read_domain(xml).requirements == wanted
    assert domain_xml.read_summary(xml, PowerState.SHUTDOWN, True).requirements == wanted
