"""Could this host run a domain? Asked of libvirt before anything is changed; the answers are sentences."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, tostring

import libvirt

from hostler.drivers import secrets
from hostler.drivers.hypervisor import domain_xml, obstacles
from hostler.drivers.hypervisor.domain_disks import keys_of
from hostler.objects import Domain, Secret

#: What a domain may ask for (element, attribute), and the enum of the host's capabilities that offers it.
_ENUMS = {
    ("devices/graphics", "type"): ("graphics", "type"),
    ("devices/video/model", "type"): ("video", "modelType"),
    ("devices/disk/target", "bus"): ("disk", "bus"),
    ("devices/tpm", "model"): ("tpm", "model"),
    ("devices/tpm/backend", "type"): ("tpm", "backendModel"),
}


def problems(connection: Any, domain: Domain, same_host: bool = False) -> list[str]:
    """Return why the host of *connection* could not run *domain*; empty if it can."""
    root = domain_xml.parse(domain.xml)
    found = [
        *(() if same_host else _taken(connection, domain)),
        *_files(domain),
        *_secrets(connection, root),
        *_pools(connection, root),
        # on its own host the guest may hold those that it needs
        *(() if same_host else _huge_pages(connection, domain, root)),
    ]
    if domain.emulator and not os.access(domain.emulator, os.X_OK):
        return [*found, f"there is no emulator {domain.emulator}"]
    try:
        answer = connection.getDomainCapabilities(
            domain.emulator, domain.arch or None, domain.machine or None, domain.virt_type or None
        )
    except libvirt.libvirtError as error:
        return [*found, f"machine {domain.machine} ({domain.arch}, {domain.virt_type}) cannot run: {error}"]
    capabilities = domain_xml.parse(answer)
    found += [*_capacity(domain, capabilities), *_firmware(root, capabilities), *_devices(root, capabilities)]
    return [*found, *_cpu(connection, domain, root, capabilities)]


def _taken(connection: Any, domain: Domain) -> Iterator[str]:
    for existing in connection.listAllDomains(0):
        if existing.UUIDString() == domain.uuid:
            yield f"UUID {domain.uuid} is taken by domain {existing.name()!r}"
        elif existing.name() == domain.name:
            yield f"name {domain.name!r} is taken by domain {existing.UUIDString()}"


def _files(domain: Domain) -> Iterator[str]:
    for path in domain.firmware:
        if not Path(path).exists():
            yield f"there is no firmware {path}"


def _secrets(connection: Any, root: Element) -> Iterator[str]:
    """A disk's key or password is libvirt's, and does not travel. Of network disks their driver tells."""
    for disk in root.findall("devices/disk"):
        if disk.get("type") != "network":
            for secret in dict.fromkeys(keys_of(disk)):
                if reason := secrets.problem(connection, secret):
                    yield f"disk {obstacles.disk_name(disk)}: {reason}"
    for store in root.findall("devices/tpm/backend/encryption[@secret]"):
        if reason := secrets.problem(connection, Secret("vtpm", uuid=store.get("secret"))):
            yield f"the TPM: {reason}"


def _pools(connection: Any, root: Element) -> Iterator[str]:
    active = {pool.name() for pool in connection.listAllStoragePools(0) if pool.isActive()}
    for source in root.findall("devices/disk[@type='volume']/source"):
        if source.get("pool") not in active:
            yield f"there is no active storage pool {source.get('pool')!r}"


def _nodes(connection: Any) -> set[int]:
    capabilities = domain_xml.parse(connection.getCapabilities())
    return {int(cell.get("id", "0")) for cell in capabilities.findall("host/topology/cells/cell")}


def _huge_pages(connection: Any, domain: Domain, root: Element) -> Iterator[str]:
    """Memory that is made of huge pages must lie ready; of several sizes QEMU alone can tell."""
    pages = root.findall("memoryBacking/hugepages/page")
    if len(pages) != 1:
        return
    size = int(pages[0].get("size", "0")) * domain_xml.UNITS[pages[0].get("unit", "KiB")]
    what = f"huge pages of {size >> 10} KiB"
    try:
        free = connection.getFreePages([size >> 10], min(_nodes(connection)), len(_nodes(connection)))
    except (libvirt.libvirtError, OverflowError):
        yield f"the host has no {what}"
        return
    there = sum(count for node in free.values() for count in node.values())
    need = (domain.memory_mb << 20) // size
    if there < need:
        yield f"not enough {what}: {need} needed, {there} free"


def _capacity(domain: Domain, capabilities: Element) -> Iterator[str]:
    vcpu = capabilities.find("vcpu")
    if vcpu is not None and domain.vcpus > int(vcpu.get("max", domain.vcpus)):
        yield f"{domain.vcpus} vCPUs are too many: {domain.machine} takes {vcpu.get('max')}"


def _firmware(root: Element, capabilities: Element) -> Iterator[str]:
    os_element, loader = root.find("os"), root.find("os/loader")
    wanted = os_element.get("firmware") if os_element is not None else None
    if wanted == "efi" and wanted not in _values(capabilities, "os", "firmware"):
        yield "there is no UEFI firmware for this machine type"
    kinds = _values(capabilities, "os/loader", "type")
    if loader is not None and loader.get("type", "rom") not in kinds:
        yield f"firmware of type {loader.get('type')} is not supported"
    secure = _values(capabilities, "os/loader", "secure")
    if loader is not None and loader.get("secure") == "yes" and wanted == "efi" and "yes" not in secure:
        yield "there is no UEFI firmware with Secure Boot"


def _devices(root: Element, capabilities: Element) -> Iterator[str]:
    for (path, attribute), (device, enum) in _ENUMS.items():
        support = capabilities.find(f"devices/{device}")
        if support is None or (
            support.get("supported") == "yes" and support.find(f"enum[@name='{enum}']") is None
        ):
            continue  # an older libvirt does not tell
        wanted = {element.get(attribute) for element in root.findall(path)}
        for value in sorted(filter(None, wanted - _values(capabilities, f"devices/{device}", enum))):
            yield f"{device} of {attribute} {value!r} is not supported by this host's QEMU or libvirt"


def _values(capabilities: Element, path: str, enum: str) -> set[str | None]:
    return {value.text for value in capabilities.findall(f"{path}/enum[@name='{enum}']/value")}


def _cpu(connection: Any, domain: Domain, root: Element, capabilities: Element) -> Iterator[str]:
    cpu = root.find("cpu")
    if cpu is None:
        return
    mode = cpu.get("mode", "custom")
    offered = capabilities.find(f"cpu/mode[@name='{mode}']")
    if offered is not None and offered.get("supported") == "no":
        yield f"CPU mode {mode!r} is not supported for {domain.virt_type} guests"
    elif mode == "custom" and cpu.find("model") is not None and cpu.get("check") != "none":
        # check='none' starts on any host, whatever is missing
        yield from _cpu_model(connection, domain, cpu)


def _cpu_model(connection: Any, domain: Domain, cpu: Element) -> Iterator[str]:
    model = (cpu.findtext("model") or "").strip()
    try:
        connection.compareHypervisorCPU(
            domain.emulator,
            domain.arch or None,
            domain.machine or None,
            domain.virt_type or None,
            tostring(cpu, encoding="unicode"),
            libvirt.VIR_CONNECT_COMPARE_CPU_FAIL_INCOMPATIBLE,
        )
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_CPU_INCOMPATIBLE:
            missing = str(error).rpartition("required features: ")[2]
            yield f"CPU model {model} asks for features that this host has not: {missing}"
        elif error.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:
            yield f"CPU model {model} cannot be provided: {error}"
