"""What is asked of, or done to, one libvirt domain; errors are libvirt's own, for the caller to translate."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import libvirt
import libvirt_qemu

from hostler import errors
from hostler.drivers.hypervisor import domain_xml
from hostler.objects import Domain, PowerState, Snapshot

#: Secrets (VNC passwords) belong to the definition. Not MIGRATABLE: that leaves devices out for old versions.
DEFINED = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE

#: libvirt that can undefine and keep the state of an emulated TPM.
KEEP_TPM_VERSION = 8_009_000

_PING = '{"execute": "guest-ping"}'
_NO_ANSWER = (libvirt.VIR_ERR_AGENT_UNRESPONSIVE, libvirt.VIR_ERR_AGENT_UNSYNCED)

_STATES = {
    libvirt.VIR_DOMAIN_PAUSED: PowerState.PAUSED,
    libvirt.VIR_DOMAIN_CRASHED: PowerState.PAUSED,  # preserved by on_crash: its process holds the images
    libvirt.VIR_DOMAIN_PMSUSPENDED: PowerState.SUSPENDED,
}


def find(connection: Any, uuid: str) -> Any:
    """Return the domain of that UUID, or None."""
    try:
        return connection.lookupByUUIDString(uuid)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None
        raise


def defined_xml(domain: Any) -> str:
    """Return the definition, complete; of a transient domain what it was created from."""
    return str(domain.XMLDesc(DEFINED))


def definitions(connection: Any) -> dict[str, list[str]]:
    """Return of each domain its definition and, if it runs, what it was started from."""
    found: dict[str, list[str]] = {}
    for domain in connection.listAllDomains(0):
        try:
            xmls = [domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)]
            if domain.isActive():
                xmls.append(domain.XMLDesc(0))
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:  # else it went away just now
                raise
        else:
            found[domain.UUIDString()] = xmls
    return found


def power_state(domain: Any) -> PowerState:
    """Return the power state: whatever is active has a process that holds the images, so never SHUTDOWN."""
    state, _ = domain.state()
    if state != libvirt.VIR_DOMAIN_SHUTOFF and domain.isActive():
        return _STATES.get(state, PowerState.RUNNING)
    return PowerState.SHUTDOWN


def busy(domain: Any) -> bool:
    """Tell whether a job is active on the domain, or a call holds its monitor."""
    if not domain.isActive():
        return False
    try:
        job, control = domain.jobInfo()[0], domain.controlInfo()[0]
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_OPERATION_INVALID:  # it ended just now
            return False
        raise
    return bool(job != libvirt.VIR_DOMAIN_JOB_NONE or control != libvirt.VIR_DOMAIN_CONTROL_OK)


def agent_answers(domain: Any, timeout_s: float) -> bool | None:
    """Ping the guest's agent; None where the running guest has no channel to one, or nobody listens to it."""
    if not domain.isActive() or not domain_xml.agent_is_connected(domain.XMLDesc(0)):
        return None
    try:
        libvirt_qemu.qemuAgentCommand(domain, _PING, max(1, round(timeout_s)), 0)
    except libvirt.libvirtError as error:
        if error.get_error_code() in _NO_ANSWER:
            return False
        raise
    return True


def snapshots(domain: Any) -> list[Snapshot]:
    """Return the metadata of all snapshots, parents first."""
    return [
        Snapshot(
            name=snapshot.getName(),
            xml=(xml := snapshot.getXMLDesc(libvirt.VIR_DOMAIN_SNAPSHOT_XML_SECURE)),
            current=bool(snapshot.isCurrent()),
            external=domain_xml.snapshot_is_external(xml),
        )
        for snapshot in domain.listAllSnapshots(libvirt.VIR_DOMAIN_SNAPSHOT_LIST_TOPOLOGICAL)
    ]


def define(connection: Any, xml: str, snapshots: Sequence[Snapshot], autostart: bool) -> None:
    """Define the domain, then its snapshots in the order given, the current one last."""
    domain = connection.defineXML(xml)
    flags = libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE
    for snapshot in snapshots:
        domain.snapshotCreateXML(snapshot.xml, flags)
    for snapshot in (each for each in snapshots if each.current):
        domain.snapshotCreateXML(snapshot.xml, flags | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_CURRENT)
    domain.setAutostart(int(autostart))


def undefine_flags(connection: Any, domain: Domain) -> int:
    """Return how to undefine *domain* so that nothing but metadata is lost.

    Without MANAGED_SAVE libvirt refuses where there is such an image.
    """
    flags = libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA | libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM
    if keeps_tpm(connection):
        return int(flags | libvirt.VIR_DOMAIN_UNDEFINE_KEEP_TPM)
    if domain.tpm_state is not None:
        raise errors.DomainChanged(
            instance=domain.uuid, what="it has a TPM, whose state libvirt would remove"
        )
    return int(flags)


def nvram(domain: Any, read: Domain) -> str | None:
    """Return the file of the UEFI variables; None if the guest has none, or none yet."""
    path = domain_xml.unnamed_nvram(read)
    if path is None:
        return read.nvram
    if domain.isActive():
        return domain_xml.read_domain(domain.XMLDesc(0)).nvram
    return path if Path(path).exists() else None


def keeps_tpm(connection: Any) -> bool:
    """Tell whether libvirt can undefine a domain without removing the state of its TPM."""
    return bool(connection.getLibVersion() >= KEEP_TPM_VERSION)


def remove_mark(domain: Any) -> None:
    """Remove our mark from the definition and from the guest that runs, wherever it is."""
    flags = libvirt.VIR_DOMAIN_AFFECT_CONFIG if domain.isPersistent() else 0
    if domain.isActive():
        flags |= libvirt.VIR_DOMAIN_AFFECT_LIVE
    element = libvirt.VIR_DOMAIN_METADATA_ELEMENT
    for where in (libvirt.VIR_DOMAIN_AFFECT_CONFIG, libvirt.VIR_DOMAIN_AFFECT_LIVE):
        if flags & where:
            domain.setMetadata(element, None, "hostler", domain_xml.MARK_NAMESPACE, where)


def volume_path(connection: Any, pool: str, volume: str) -> str | None:
    """Return the file of a storage volume; None if it is not one, or not known."""
    try:
        found = connection.storagePoolLookupByName(pool).storageVolLookupByName(volume)
        return str(found.path()) if found.info()[0] == libvirt.VIR_STORAGE_VOL_FILE else None
    except libvirt.libvirtError as error:
        if error.get_error_code() in (
            libvirt.VIR_ERR_NO_STORAGE_POOL,
            libvirt.VIR_ERR_NO_STORAGE_VOL,
            libvirt.VIR_ERR_OPERATION_INVALID,  # the pool is not active
        ):
            return None
        raise


def refresh_pools(connection: Any, xml: str) -> None:
    """Let libvirt see files that arrived in its pools behind its back; a start would not find them."""
    pools = {s.get("pool", "") for s in domain_xml.parse(xml).findall("devices/disk[@type='volume']/source")}
    for name in sorted(pools):
        connection.storagePoolLookupByName(name).refresh(0)


def obstacles(connection: Any, domain: Any, read: Domain, snapshots: Sequence[Snapshot]) -> list[str]:
    """Return what keeps the domain from being moved and is not in its XML."""
    return [*_lifecycle(connection, domain, read), *_snapshots(domain, snapshots), *_jobs(domain, read)]


def _lifecycle(connection: Any, domain: Any, read: Domain) -> Iterator[str]:
    if not domain.isPersistent():
        yield "it is not persistently defined: a power-off would erase it"
    if domain.hasManagedSaveImage(0):
        yield "it has a managed save image, which would be lost: start it, or remove the image"
    if read.tpm_state is not None and not keeps_tpm(connection):
        yield "this host's libvirt cannot undefine it without removing the state of its TPM"


def _snapshots(domain: Any, snapshots: Sequence[Snapshot]) -> Iterator[str]:
    for snapshot in snapshots:
        if snapshot.external:
            yield f"snapshot {snapshot.name!r} is external: not supported"
    for checkpoint in domain.listAllCheckpoints(0):
        yield f"checkpoint {checkpoint.getName()!r} would be lost: remove it"


def _jobs(domain: Any, read: Domain) -> Iterator[str]:
    if not domain.isActive():
        return
    if domain.jobInfo()[0] != libvirt.VIR_DOMAIN_JOB_NONE:
        yield "a job is active on it (save, dump, migration or backup)"
    for target in [*(disk.target for disk in read.disks), *(volume.target for volume in read.volumes)]:
        with contextlib.suppress(libvirt.libvirtError):  # a disk of the definition that the guest has not now
            if domain.blockJobInfo(target, 0):
                yield f"a block job is active on disk {target}"
