"""Read libvirt's domain XML: which disks, ports and files a domain consists of.

The XML may have been written by the owner of the guest: it is data. No entity is expanded, no DTD accepted.
"""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree
from defusedxml import DefusedXmlException

from hostler import errors
from hostler.drivers.hypervisor import domain_disks, obstacles
from hostler.drivers.hypervisor.domain_disks import VolumeResolver
from hostler.objects import (
    PLUGGED,
    Domain,
    DomainSummary,
    Port,
    PowerState,
    Requirements,
)

#: The namespace of the element that marks what a migration made.
MARK_NAMESPACE = "https://hostler/xmlns/1"
MARK_TAG = f"{{{MARK_NAMESPACE}}}migration"

#: Nova's metadata, in whatever version (``.../1.0``, ``.../1.1``).
NOVA_NAMESPACE = "{http://openstack.org/xmlns/libvirt/nova/"
#: Letters of a project's name that the records have room for.
MAX_PROJECT = 255

#: Where libvirt keeps the state of emulated TPMs, one directory per domain UUID.
TPM_STATE_BASE = "/var/lib/libvirt/swtpm"

#: Where libvirt keeps UEFI variables that the XML names no file for: ``<name>_VARS.fd``.
NVRAM_BASE = "/var/lib/libvirt/qemu/nvram"

#: Bytes of each unit that libvirt knows.
UNITS = {
    "b": 1, "bytes": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "k": 2**10, "KiB": 2**10, "M": 2**20, "MiB": 2**20, "G": 2**30, "GiB": 2**30, "T": 2**40, "TiB": 2**40,
}  # fmt: skip


def parse(xml: str) -> Element:
    """Return the root element; XML that cannot be read is :class:`hostler.errors.MigrationError`."""
    try:
        root: Element = defusedxml.ElementTree.fromstring(xml, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError) as error:
        raise errors.MigrationError(f"the XML of the domain cannot be read: {error}") from error
    return root


def read_domain(xml: str, resolve_volume: VolumeResolver | None = None) -> Domain:
    """Return what *xml* says of a domain, with the obstacles that can be told from it.

    What XML does not say (power state, autostart, snapshots) has a neutral value, for the caller to replace.
    """
    root = parse(xml)
    kind = root.find("os/type")
    return Domain(
        uuid=root.findtext("uuid", ""),
        name=root.findtext("name", ""),
        xml=xml,
        power_state=PowerState.SHUTDOWN,
        persistent=True,
        autostart=False,
        vcpus=_vcpus(root),
        memory_mb=memory_mb(root),
        machine=kind.get("machine", "") if kind is not None else "",
        arch=kind.get("arch", "") if kind is not None else "",
        virt_type=root.get("type", ""),
        emulator=root.findtext("devices/emulator"),
        disks=list(domain_disks.disks(root, resolve_volume)),
        volumes=list(domain_disks.volumes(root)),
        ports=list(_ports(root)),
        nvram=_nvram(root),
        tpm_state=_tpm_state(root),
        firmware=_texts(root, "os/loader"),
        boot_files=_boot_files(root),
        obstacles=obstacles.of_domain(root, resolve_volume),
        migration=mark_of(root),
        project=project_of(root),
        requirements=requirements_of(root),
        root_disk=_root_disk(root),
    )


def read_summary(xml: str, power_state: PowerState, persistent: bool) -> DomainSummary:
    """Return the few facts that a list of domains shows."""
    root = parse(xml)
    return DomainSummary(
        uuid=root.findtext("uuid", ""),
        name=root.findtext("name", ""),
        power_state=power_state,
        vcpus=_vcpus(root),
        memory_mb=memory_mb(root),
        persistent=persistent,
        migration=mark_of(root),
        project=project_of(root),
        requirements=requirements_of(root),
    )


def requirements_of(root: Element) -> Requirements:
    """Return what the domain asks of a host, as far as hosts are told apart by it."""
    kind, (mode, model) = root.find("os/type"), _cpu(root)
    sources = (f"{port.kind}:{port.source}" for port in _ports(root) if port.kind in PLUGGED and port.source)
    return Requirements(
        arch=kind.get("arch", "") if kind is not None else "",
        virt_type=root.get("type", ""),
        machine=kind.get("machine", "") if kind is not None else "",
        cpu_mode=mode,
        cpu_model=model,
        sources=list(dict.fromkeys(sources)),
    )


def _cpu(root: Element) -> tuple[str | None, str | None]:
    """Return mode and named model; no model where less than all of it will do."""
    cpu = root.find("cpu")
    if cpu is None:
        return None, None
    mode, model = cpu.get("mode", "custom"), (cpu.findtext("model") or "").strip()
    if mode != "custom":
        return mode, None
    without = any(feature.get("policy") in ("disable", "forbid") for feature in cpu.findall("feature"))
    whole = bool(model) and cpu.get("check") != "none" and not without
    return (mode, model if whole else None) if model else (None, None)


def number_set(text: str) -> set[int]:
    """Read libvirt's set of numbers: ``0-3,^2,8``."""
    found: set[int] = set()
    for part in filter(None, (one.strip() for one in text.split(","))):
        first, _, final = part.lstrip("^").partition("-")
        numbers = set(range(int(first), int(final or first) + 1))
        found = found - numbers if part.startswith("^") else found | numbers
    return found


def mark_of(root: Element) -> str | None:
    """Return the uuid in ``<hostler:migration>``, or None."""
    return (root.findtext(f"metadata/{MARK_TAG}") or "").strip() or None


def project_of(root: Element) -> str | None:
    """Return the uuid of the project that Nova has written into the metadata, or None."""
    for project in root.findall("metadata/{*}instance/{*}owner/{*}project"):
        uuid = project.get("uuid", "").strip()
        if project.tag.startswith(NOVA_NAMESPACE) and 0 < len(uuid) <= MAX_PROJECT:
            return uuid
    return None


def agent_is_connected(xml: str) -> bool:
    """Tell whether somebody in the guest whose running definition this is listens to the QEMU agent's channel."""
    targets = parse(xml).findall("devices/channel/target[@name='org.qemu.guest_agent.0']")
    return any(target.get("state") == "connected" for target in targets)


def snapshot_is_external(xml: str) -> bool:
    """Tell whether a snapshot keeps its memory or a disk in a file of its own."""
    root = parse(xml)
    parts = [root.find("memory"), *root.findall("disks/disk")]
    return any(part is not None and part.get("snapshot") == "external" for part in parts)


def _vcpus(root: Element) -> int:
    return int(root.findtext("vcpu", "1").strip())


def memory_mb(root: Element) -> int:
    """Return the guest's memory, in MiB."""
    memory = root.find("memory")
    if memory is None:
        return 0
    in_bytes = int((memory.text or "0").strip()) * UNITS[memory.get("unit", "KiB")]
    return -(-in_bytes // 2**20)


def _root_disk(root: Element) -> str | None:
    """Return the disk that is booted from: the first in boot order, else the first that there is."""
    disks = [disk for disk in root.findall("devices/disk") if disk.get("device", "disk") in ("disk", "lun")]
    ordered = [disk for disk in disks if disk.find("boot[@order]") is not None]
    first = min(ordered, key=_boot_order) if ordered else next(iter(disks), None)
    return obstacles.disk_name(first) if first is not None else None


def _boot_order(disk: Element) -> int:
    boot = disk.find("boot")
    return int(boot.get("order", "0")) if boot is not None else 0


def _ports(root: Element) -> Iterator[Port]:
    for interface in root.findall("devices/interface"):
        kind = interface.get("type", "")
        source, mac, model = (interface.find(tag) for tag in ("source", "mac", "model"))
        yield Port(
            mac=mac.get("address", "") if mac is not None else "",
            kind=kind,
            source=source.get(source_attribute(kind)) if source is not None else None,
            model=model.get("type") if model is not None else None,
            portgroup=source.get("portgroup") if source is not None else None,
            interface=_interface_id(interface),
        )


def _interface_id(interface: Element) -> str | None:
    """Return what Open vSwitch calls an interface; None for any other switch."""
    parameters = interface.find("virtualport[@type='openvswitch']/parameters")
    return parameters.get("interfaceid") if parameters is not None else None


def source_attribute(kind: str) -> str:
    """Return which attribute of an interface's ``<source>`` names what it is plugged into."""
    return {"network": "network", "bridge": "bridge", "direct": "dev", "internal": "name"}.get(kind, "dev")


def _nvram(root: Element) -> str | None:
    nvram = root.find("os/nvram")
    if nvram is None:
        return None
    source = nvram.find("source")
    if source is not None:
        return source.get("file")
    return (nvram.text or "").strip() or None


def unnamed_nvram(domain: Domain) -> str | None:
    """Return the file of UEFI variables that libvirt uses where the definition names none.

    With ``<os firmware='efi'>`` libvirt before 9.2 chooses at each start, and tells in the live XML only.
    """
    os = parse(domain.xml).find("os")
    if domain.nvram is not None or os is None or os.get("firmware") != "efi" or os.find("loader") is not None:
        return None
    return f"{NVRAM_BASE}/{domain.name}_VARS.fd"


def state_paths(domain: Domain) -> list[str]:
    """Return where libvirt makes UEFI variables and TPM state that are not there when a guest is created."""
    return [path for path in (domain.nvram or unnamed_nvram(domain), domain.tpm_state) if path]


def _tpm_state(root: Element) -> str | None:
    backend = root.find("devices/tpm/backend[@type='emulator']")
    if backend is None:
        return None
    source = backend.find("source")
    if source is not None and source.get("path"):
        return source.get("path")
    return f"{TPM_STATE_BASE}/{root.findtext('uuid', '')}"


def _boot_files(root: Element) -> list[str]:
    files = [path for tag in ("kernel", "initrd", "dtb", "acpi/table") for path in _texts(root, f"os/{tag}")]
    files += [rom.get("file", "") for rom in root.findall("devices/*/rom[@file]")]
    return list(dict.fromkeys(path for path in files if path))


def _texts(root: Element, path: str) -> list[str]:
    return [element.text.strip() for element in root.findall(path) if element.text and element.text.strip()]
