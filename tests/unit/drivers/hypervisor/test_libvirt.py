"""What only a real libvirt can show: races, reconnects, snapshots, UEFI variables, pools."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import libvirt
import pytest

from hostler import errors
from hostler.drivers import secrets
from hostler.drivers.hypervisor import domain_xml
from hostler.drivers.hypervisor.connection import Connection
from hostler.drivers.hypervisor.libvirt import LibvirtHypervisor
from hostler.objects import Placement, PowerState, Secret

from .conftest import World, disk_xml

pytestmark = pytest.mark.lab

QEMU = "/usr/bin/qemu-system-x86_64"


@pytest.fixture
def raw(real: World) -> Any:
    """A second connection: the administrator's virsh."""
    assert real.server is not None
    connection = libvirt.open(real.server.uri)
    yield connection
    connection.close()


def qcow2(world: World, name: str) -> Path:
    """Make an empty qcow2 image."""
    path = world.images / name
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(path), "8M"], check=True)
    return path


def test_internal_snapshots_survive_undefine_and_define(real: World, raw: Any) -> None:
    path = qcow2(real, "snap.qcow2")
    real.hypervisor.define(real.xml(disk_xml(path)))
    domain = raw.lookupByUUIDString(real.uuid)
    for name in ("zebra", "ant", "mole"):
        domain.snapshotCreateXML(f"<domainsnapshot><name>{name}</name></domainsnapshot>")
    domain.revertToSnapshot(domain.snapshotLookupByName("ant"))
    before = real.hypervisor.describe(real.uuid)
    assert [(each.name, each.current) for each in before.snapshots] == [
        ("zebra", False), ("ant", True), ("mole", False),
    ]  # fmt: skip
    assert before.obstacles == []
    real.hypervisor.undefine(real.uuid)
    listed = subprocess.run(
        ["qemu-img", "snapshot", "-l", str(path)], check=True, capture_output=True, text=True
    )
    assert all(name in listed.stdout for name in ("zebra", "ant", "mole"))
    for _ in range(2):
        real.hypervisor.define(before.xml, before.snapshots, before.autostart)
        assert real.hypervisor.describe(real.uuid) == before
    domain = raw.lookupByUUIDString(real.uuid)
    domain.revertToSnapshot(domain.snapshotLookupByName("mole"))


def test_a_guest_with_snapshots_becomes_persistent_while_it_is_paused(real: World, raw: Any) -> None:
    real.hypervisor.define(real.xml(disk_xml(qcow2(real, "snap2.qcow2"))))
    raw.lookupByUUIDString(real.uuid).snapshotCreateXML("<domainsnapshot><name>one</name></domainsnapshot>")
    domain = real.hypervisor.describe(real.uuid)
    real.hypervisor.undefine(real.uuid)
    xml = real.hypervisor.mark(domain.xml, real.migration)
    real.hypervisor.create_paused(xml)
    real.hypervisor.define(xml, domain.snapshots)
    after = real.hypervisor.describe(real.uuid)
    assert [(each.name, each.current) for each in after.snapshots] == [("one", True)]
    real.hypervisor.resume(real.uuid)
    assert real.hypervisor.power_state(real.uuid) is PowerState.RUNNING


def test_a_snapshot_of_a_smaller_guest_comes_along_and_can_be_gone_back_to(real: World, raw: Any) -> None:
    path = qcow2(real, "snap3.qcow2")
    real.hypervisor.define(real.xml(disk_xml(path)))
    raw.lookupByUUIDString(real.uuid).snapshotCreateXML("<domainsnapshot><name>one</name></domainsnapshot>")
    domain = real.hypervisor.describe(real.uuid)
    real.hypervisor.undefine(real.uuid)
    subprocess.run(["qemu-img", "resize", "-q", "-f", "qcow2", str(path), "64M"], check=True)
    xml = real.hypervisor.mark(real.hypervisor.resize(domain.xml, 2, 32), real.migration)
    real.hypervisor.create_paused(xml)
    real.hypervisor.define(xml, domain.snapshots)
    after = real.hypervisor.describe(real.uuid)
    assert (after.vcpus, after.memory_mb, [one.name for one in after.snapshots]) == (2, 32, ["one"])
    real.hypervisor.destroy(real.uuid)
    again = raw.lookupByUUIDString(real.uuid)
    again.revertToSnapshot(again.snapshotLookupByName("one"))
    assert real.hypervisor.describe(real.uuid).memory_mb == 16


def test_an_external_snapshot_and_a_checkpoint_are_obstacles(real: World, raw: Any) -> None:
    real.hypervisor.define(real.xml(disk_xml(qcow2(real, "ext.qcow2"))))
    domain = raw.lookupByUUIDString(real.uuid)
    domain.create()
    domain.checkpointCreateXML("<domaincheckpoint><name>mon</name></domaincheckpoint>")
    assert real.hypervisor.describe(real.uuid).obstacles == ["checkpoint 'mon' would be lost: remove it"]
    domain.destroy()
    with pytest.raises(errors.DomainChanged, match="checkpoint"):
        real.hypervisor.undefine(real.uuid)
    domain.checkpointLookupByName("mon").delete(libvirt.VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY)
    domain.create()
    domain.snapshotCreateXML(
        "<domainsnapshot><name>tue</name></domainsnapshot>", libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY
    )
    described = real.hypervisor.describe(real.uuid)
    assert described.obstacles == ["snapshot 'tue' is external: not supported"]
    assert described.snapshots[0].external


def test_a_managed_save_image_is_an_obstacle_and_is_never_removed(real: World, raw: Any) -> None:
    real.hypervisor.define(real.xml())
    domain = raw.lookupByUUIDString(real.uuid)
    domain.create()
    domain.managedSave()
    (sentence,) = real.hypervisor.describe(real.uuid).obstacles
    assert "managed save" in sentence
    with pytest.raises(errors.DomainChanged, match="managed save"):
        real.hypervisor.undefine(real.uuid)
    assert domain.hasManagedSaveImage(0)


def test_a_guest_started_while_it_is_undefined_keeps_its_definition(real: World, raw: Any) -> None:
    """libvirt undefines a running domain without complaint and leaves it running, transient."""

    class Raced(LibvirtHypervisor):
        def _refuse_active(self, domain: Any, uuid: str) -> None:
            super()._refuse_active(domain, uuid)
            raw.lookupByUUIDString(uuid).create()

    assert real.server is not None
    real.hypervisor.define(real.xml(), autostart=True)
    before = real.hypervisor.describe(real.uuid)
    raced = Raced(host="kvm1", connection=Connection(real.server.uri))
    with pytest.raises(errors.InstanceIsActive):
        raced.undefine(real.uuid)
    raced.close()
    real.hypervisor.destroy(real.uuid)
    assert real.hypervisor.describe(real.uuid) == before


def test_uefi_variables_stay_when_the_domain_goes(real: World) -> None:
    nvram = real.images / "web1_VARS.fd"
    nvram.write_bytes(b"variables")
    code = "/usr/share/OVMF/OVMF_CODE_4M.fd"
    os = (
        "<type arch='x86_64' machine='q35'>hvm</type>"
        f"<loader readonly='yes' type='pflash'>{code}</loader>"
        f"<nvram>{nvram}</nvram>"
    )
    real.hypervisor.define(real.xml(os=os))
    domain = real.hypervisor.describe(real.uuid)
    assert (domain.nvram, domain.firmware) == (str(nvram), [code])
    real.hypervisor.undefine(real.uuid)
    assert nvram.read_bytes() == b"variables"
    assert real.hypervisor.destination_problems(domain, {}) == []


def test_firmware_chosen_by_libvirt_is_seen(real: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert real.server is not None
    nvram = real.server.home / "lib" / "qemu" / "nvram"
    real.hypervisor.define(
        real.xml(os="<type arch='x86_64' machine='q35'>hvm</type>").replace("<os>", "<os firmware='efi'>")
    )
    assert real.hypervisor.describe(real.uuid).nvram is None
    real.hypervisor.start(real.uuid)  # libvirt 9.0 chooses now, and says so in the live XML only
    assert real.hypervisor.describe(real.uuid).nvram == "/var/lib/libvirt/qemu/nvram/web1_VARS.fd"
    monkeypatch.setattr("hostler.drivers.hypervisor.domain_xml.NVRAM_BASE", str(nvram))
    real.hypervisor.destroy(real.uuid)
    domain = real.hypervisor.describe(real.uuid)
    assert domain.nvram == str(nvram / "web1_VARS.fd")
    real.hypervisor.undefine(real.uuid)
    assert (nvram / "web1_VARS.fd").exists()
    assert real.hypervisor.destination_problems(domain, {}) == []
    real.hypervisor.define(domain.xml)
    assert real.hypervisor.describe(real.uuid) == domain


def test_the_state_of_a_tpm_stays_when_the_domain_goes(real: World) -> None:
    assert real.server is not None
    real.hypervisor.define(real.xml("<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>"))
    domain = real.hypervisor.describe(real.uuid)
    assert domain.tpm_state == f"/var/lib/libvirt/swtpm/{real.uuid}"
    state = real.server.home / "lib" / "swtpm" / real.uuid / "tpm2"
    state.mkdir(parents=True)
    (state / "tpm2-00.permall").write_bytes(b"secrets")
    real.hypervisor.undefine(real.uuid)
    assert (state / "tpm2-00.permall").read_bytes() == b"secrets"
    assert real.hypervisor.destination_problems(domain, {}) == []


def test_a_volume_of_a_pool_is_a_file_that_may_arrive_behind_libvirts_back(real: World, raw: Any) -> None:
    folder = real.images / "pool"
    folder.mkdir(exist_ok=True)
    pool = raw.storagePoolCreateXML(
        f"<pool type='dir'><name>p1</name><target><path>{folder}</path></target></pool>"
    )
    disk = "<disk type='volume'><source pool='p1' volume='a.qcow2'/><target dev='vdb' bus='virtio'/></disk>"
    xml = real.xml(disk, mark=real.migration)
    real.hypervisor.define(xml)
    (sentence,) = real.hypervisor.describe(real.uuid).obstacles
    assert sentence == "disk vdb is volume 'a.qcow2' of pool 'p1', which is no file that this host knows"
    real.hypervisor.undefine(real.uuid)
    subprocess.run(["qemu-img", "create", "-q", str(folder / "a.qcow2"), "1M"], check=True)
    real.hypervisor.create_paused(xml)
    assert [each.path for each in real.hypervisor.describe(real.uuid).disks] == [str(folder / "a.qcow2")]
    real.hypervisor.destroy(real.uuid)
    pool.destroy()


def test_a_job_of_somebody_keeps_the_domain_busy(real: World, raw: Any) -> None:
    assert real.server is not None
    real.hypervisor.define(real.xml(disk_xml(qcow2(real, "busy.qcow2"))))
    real.hypervisor.start(real.uuid)
    assert not real.hypervisor.busy(real.uuid)
    domain = raw.lookupByUUIDString(real.uuid)
    socket = real.server.home / "backup.sock"
    domain.backupBegin(
        f"<domainbackup mode='pull'><server transport='unix' socket='{socket}'/></domainbackup>", None
    )
    assert real.hypervisor.busy(real.uuid)
    assert any("a job is active" in each for each in real.hypervisor.describe(real.uuid).obstacles)
    domain.abortJob()
    deadline = time.monotonic() + 10
    while real.hypervisor.busy(real.uuid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not real.hypervisor.busy(real.uuid)
    assert real.hypervisor.describe(real.uuid).obstacles == []


def test_a_block_job_is_an_obstacle(real: World, raw: Any) -> None:
    path = qcow2(real, "copied.qcow2")
    subprocess.run(["qemu-io", "-c", "write 0 4M", str(path)], check=True, stdout=subprocess.DEVNULL)
    real.hypervisor.define(real.xml(disk_xml(path)))
    domain = raw.lookupByUUIDString(real.uuid)
    domain.create()
    copy = f"<disk type='file'><source file='{real.images}/copy.qcow2'/><driver type='qcow2'/></disk>"
    domain.blockCopy("vda", copy, {"bandwidth": 1}, libvirt.VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB)
    assert real.hypervisor.describe(real.uuid).obstacles == ["a block job is active on disk vda"]


def test_a_cpu_that_the_host_has_not_is_a_problem(real: World) -> None:
    cpu = (
        "<cpu mode='custom' match='exact' check='full'><model fallback='forbid'>Skylake-Server</model></cpu>"
    )
    for mode, wrong in (
        (cpu, "CPU model Skylake-Server asks for features that this host has not: "),
        (cpu.replace("full", "none"), ""),
        (cpu.replace("Skylake-Server", "Conroe"), ""),
        ("<cpu mode='host-model'/>", ""),
        ("<cpu mode='maximum'/>", ""),
    ):
        real.hypervisor.define(real.xml().replace("<features>", f"{mode}<features>"))
        domain = real.hypervisor.describe(real.uuid)
        real.hypervisor.undefine(real.uuid)
        problems = "".join(real.hypervisor.destination_problems(domain, {}))
        assert problems.startswith(wrong), mode
        assert bool(problems) == bool(wrong), problems


def test_cpus_nodes_and_huge_pages_that_the_host_has_not_are_problems(real: World) -> None:
    placement = """<vcpu cpuset='0,901'>1</vcpu>
      <memoryBacking><hugepages><page size='64' unit='TiB'/></hugepages></memoryBacking>"""
    domain = domain_xml.read_domain(real.xml().replace("<vcpu>1</vcpu>", placement))
    assert real.hypervisor.destination_problems(domain, {}) == [
        "the host has no huge pages of 68719476736 KiB"
    ]
    with pytest.raises(errors.CPUPinningInvalid, match="no CPU 901, to which vcpu is pinned"):
        real.hypervisor.place(domain)
    spread = "<vcpu>1</vcpu><numatune><memory mode='strict' nodeset='0,77'/></numatune>"
    domain = domain_xml.read_domain(real.xml().replace("<vcpu>1</vcpu>", spread))
    with pytest.raises(errors.CPUPinningInvalid, match="spread over 2 NUMA nodes, and the host has 1"):
        real.hypervisor.place(domain)


def test_a_pinned_guest_gets_a_cpu_that_no_other_has_and_starts_there(real: World) -> None:
    pinned = """<vcpu>1</vcpu><cputune><vcpupin vcpu='0' cpuset='{}'/><emulatorpin cpuset='{}'/></cputune>
      <numatune><memory mode='strict' nodeset='{}'/></numatune>"""
    there = real.xml().replace("<vcpu>1</vcpu>", pinned.format(0, 0, 0))
    real.hypervisor.create_paused(real.hypervisor.mark(there, real.migration))
    arriving = domain_xml.read_domain(
        real.xml(uuid=str(uuid.uuid4()), name="web2").replace("<vcpu>1</vcpu>", pinned.format(0, 0, 5))
    )
    found = real.hypervisor.place(arriving)
    assert found is not None
    assert found.cpus == [1]
    assert (found.vcpus, found.emulator, found.nodes) == ({"0": "1"}, "1", "0")
    real.hypervisor.define(real.hypervisor.pin(arriving.xml, found))
    real.hypervisor.start(arriving.uuid)
    assert real.hypervisor.held(real.hypervisor.describe(arriving.uuid).xml) == Placement(
        cpus=[1], node_mb={"0": 16}
    )
    # a guest's own CPUs are not in its own way
    assert real.hypervisor.place(real.hypervisor.describe(arriving.uuid)) == found


def test_a_definition_of_another_size_is_one_that_libvirt_takes(real: World, raw: Any) -> None:
    more = """<cpu><topology sockets='1' cores='2' threads='1'/>
      <numa><cell id='0' cpus='0' memory='8' unit='MiB'/><cell id='1' cpus='1' memory='8' unit='MiB'/></numa></cpu>
      <cputune><vcpupin vcpu='0' cpuset='0'/><vcpupin vcpu='1' cpuset='0'/></cputune>"""
    xml = real.xml().replace("<vcpu>1</vcpu>", "<vcpu current='1'>2</vcpu>").replace("<os>", f"{more}<os>")
    real.hypervisor.define(xml)
    taken = real.hypervisor.describe(real.uuid)
    real.hypervisor.undefine(real.uuid)
    real.hypervisor.define(real.hypervisor.resize(taken.xml, 4, 64))
    resized = real.hypervisor.describe(real.uuid)
    assert (resized.vcpus, resized.memory_mb) == (4, 64)
    info = raw.lookupByUUIDString(real.uuid).info()
    assert (info[1], info[2], info[3]) == (64 << 10, 64 << 10, 4)
    for words in (
        "cores='4'",
        "cpus='0-1' memory='32768'",
        "cpus='2-3' memory='32768'",
        "vcpu='3' cpuset='0'",
    ):
        assert words in resized.xml


def test_missing_secrets_and_emulators_are_problems(real: World) -> None:
    key = str(uuid.uuid4())
    disk = (
        "<disk type='file'><driver name='qemu' type='qcow2'/><source file='/i/a'>"
        f"<encryption format='luks'><secret type='passphrase' uuid='{key}'/></encryption></source>"
        "<target dev='vda'/></disk>"
    )
    real.hypervisor.define(real.xml(disk))
    domain = real.hypervisor.describe(real.uuid)
    real.hypervisor.undefine(real.uuid)
    problems = real.hypervisor.destination_problems(domain, {})
    assert problems == [f"disk vda: libvirt has no secret {key}; virsh secret-define makes one"]
    problems = real.hypervisor.destination_problems(dataclasses.replace(domain, emulator="/opt/qemu"), {})
    assert problems[-1] == "there is no emulator /opt/qemu"


@pytest.mark.parametrize("private", ["no", "yes"])
def test_libvirt_tells_a_secret_that_has_a_value_from_one_that_has_none(raw: Any, private: str) -> None:
    use = Secret("ceph", usage="client.tests secret")
    assert "has no secret client.tests secret" in secrets.problem(raw, use)
    kept = raw.secretDefineXML(
        f"<secret ephemeral='yes' private='{private}'><usage type='ceph'><name>{use.usage}</name></usage></secret>"
    )
    try:
        by_uuid = Secret("ceph", kept.UUIDString())
        if private == "no":
            assert "has no value; virsh secret-set-value" in secrets.problem(raw, by_uuid)
        kept.setValue(b"hush")
        assert secrets.problem(raw, use) == secrets.problem(raw, by_uuid) == ""
        assert secrets.value(raw, use) == (b"hush" if private == "no" else None)
    finally:
        kept.undefine()
    assert "has no secret" in secrets.problem(raw, by_uuid)


def test_networks_and_bridges_are_named(real: World, raw: Any) -> None:
    assert isinstance(real.hypervisor, LibvirtHypervisor)
    network = raw.networkDefineXML("<network><name>isolated</name><bridge name='virbr9'/></network>")
    assert real.hypervisor.network_names() == {"isolated": False}
    network.undefine()
    assert real.hypervisor.bridge_exists("lo")
    assert not real.hypervisor.bridge_exists("no-such-bridge")
    assert not real.hypervisor.bridge_exists("../net/lo")


def test_a_libvirtd_that_comes_back_is_found_again(real: World) -> None:
    assert real.server is not None
    again, changed = threading.Event(), threading.Event()
    real.hypervisor.define(real.xml())
    real.hypervisor.start(real.uuid)
    real.hypervisor.listen(lambda uuid: (changed if uuid else again).set())
    assert again.wait(10)
    again.clear()
    real.server.hold()
    with pytest.raises(errors.ServerUnreachable, match="libvirt does not answer at qemu"):
        real.hypervisor.exists(real.uuid)
    assert real.hypervisor.qemu_pids(real.uuid)
    real.server.release()
    assert again.wait(15)
    assert real.hypervisor.power_state(real.uuid) is PowerState.RUNNING
    # libvirtd 9.0 may not tell of a guest that ends while it is reconnecting to it: waiters look anyway
    real.hypervisor.destroy(real.uuid)
    assert real.hypervisor.wait_until_off(real.uuid, 10)
    changed.clear()
    real.hypervisor.undefine(real.uuid)
    assert changed.wait(10)


def test_a_libvirtd_that_hangs_keeps_nobody_for_ever(real: World) -> None:
    assert real.server is not None
    real.hypervisor.define(real.xml())
    real.server.signal_libvirtd(signal.SIGSTOP)
    try:
        # the open connection is given up by its keepalives, the new one by our own patience
        for _ in range(2):
            with pytest.raises(errors.ServerUnreachable):
                real.hypervisor.describe(real.uuid)
    finally:
        real.server.signal_libvirtd(signal.SIGCONT)
    assert real.hypervisor.exists(real.uuid)
