"""What in a domain's XML keeps it from being moved, whatever the destination: one sentence each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from xml.etree.ElementTree import Element

_QEMU = "{http://libvirt.org/schemas/domain/qemu/1.0}"


def of_domain(root: Element, resolve_volume: Callable[[str, str], str | None] | None = None) -> list[str]:
    """Return every obstacle that the XML shows."""
    found = [
        *_lifecycle(root),
        *(s for disk in root.findall("devices/disk") for s in _disk(disk, resolve_volume)),
        *(s for hostdev in root.findall("devices/hostdev") for s in _hostdev(hostdev)),
        *(s for interface in root.findall("devices/interface") for s in _interface(interface)),
        *_character_devices(root),
        *_other_devices(root),
        *_memory(root),
        *_firmware(root),
        *_qemu_namespace(root),
    ]
    return list(dict.fromkeys(found))


def disk_name(disk: Element) -> str:
    """Return the guest's name for a disk."""
    target = disk.find("target")
    return target.get("dev", "?") if target is not None else "?"


def _lifecycle(root: Element) -> Iterator[str]:
    action = root.findtext("on_poweroff", "destroy").strip()
    if action in ("restart", "rename-restart"):
        yield f"on_poweroff={action} would start the guest again"
    elif action != "destroy":
        yield f"on_poweroff={action} would keep the guest from ending"


def _disk(disk: Element, resolve: Callable[[str, str], str | None] | None) -> Iterator[str]:
    source = disk.find("source")
    if source is None or not source.attrib:
        return
    name = f"disk {disk_name(disk)}"
    yield from _disk_source(name, disk.get("type", ""), source, resolve)
    if disk.find("mirror") is not None:
        yield f"{name} is being mirrored: a block job is active"
    if disk.find("source/dataStore") is not None:
        yield f"{name} keeps its data in a second file: not supported"
    yield from _backing(disk, name)


def _disk_source(
    name: str, kind: str, source: Element, resolve: Callable[[str, str], str | None] | None
) -> Iterator[str]:
    if kind == "volume":
        pool, volume = source.get("pool", ""), source.get("volume", "")
        if resolve is None or resolve(pool, volume) is None:
            yield f"{name} is volume {volume!r} of pool {pool!r}, which is no file that this host knows"
    elif kind not in ("file", "block", "network"):
        yield f"{name} is of type {kind!r}: not supported"
    elif source.get("fdgroup"):
        yield f"{name} is a file that was handed to libvirt opened ({source.get('fdgroup')}): not supported"


def _backing(disk: Element, name: str) -> Iterator[str]:
    for store in disk.iter("backingStore"):
        if store.get("type", "file") != "file":
            yield f"{name} has a backing image of type {store.get('type')!r}: not supported"


def _hostdev(hostdev: Element) -> Iterator[str]:
    kind = hostdev.get("type", "unknown")
    source = hostdev.find("source")
    yield f"a {kind} device of the host is passed through ({_hostdev_name(kind, source)})"


def _hostdev_name(kind: str, source: Element | None) -> str:
    if source is None:
        return "unnamed"
    address = source.find("address")
    given = dict(address.attrib) if address is not None else {}
    if kind == "pci" and given:
        parts = [int(given.get(key, "0"), 0) for key in ("domain", "bus", "slot", "function")]
        return "{:04x}:{:02x}:{:02x}.{:x}".format(*parts)
    if kind == "mdev" and given:
        return given.get("uuid", "unnamed")
    vendor, product = source.find("vendor"), source.find("product")
    if vendor is not None and product is not None:
        return f"{vendor.get('id')}:{product.get('id')}"
    facts = given or {child.tag: " ".join(child.attrib.values()) or (child.text or "") for child in source}
    return " ".join(f"{key} {value}" for key, value in facts.items()).strip() or "unnamed"


_HOST_BOUND_PORTS = {
    "hostdev": "is a device of the host that is passed through",
    "vdpa": "is a vDPA device of the host",
    "vhostuser": "is served by another process of the host (vhost-user)",
}


def _interface(interface: Element) -> Iterator[str]:
    mac = interface.find("mac")
    name = f"interface {mac.get('address')}" if mac is not None else "an interface"
    if interface.get("type") in _HOST_BOUND_PORTS:
        yield f"{name} {_HOST_BOUND_PORTS[interface.get('type', '')]}"


def _character_devices(root: Element) -> Iterator[str]:
    for tag in ("serial", "parallel", "console", "channel", "rng/backend", "smartcard", "redirdev"):
        for device in root.findall(f"devices/{tag}[@type]"):
            source = device.find("source")
            path = source.get("path", "?") if source is not None else "?"
            if device.get("type") in ("dev", "pipe"):
                yield f"{tag.partition('/')[0]} {path} is a device of the host"
    for card in root.findall("devices/smartcard"):
        if card.get("mode", "").startswith("host"):
            yield "a smart card of the host is passed through"


def _other_devices(root: Element) -> Iterator[str]:
    for share in root.findall("devices/filesystem"):
        source, target = share.find("source"), share.find("target")
        where = " ".join(source.attrib.values()) if source is not None else "?"
        name = target.get("dir", "?") if target is not None else "?"
        yield f"the host's {where} is shared with the guest as {name}"
    for backend in root.findall("devices/tpm/backend"):
        if backend.get("type") in ("passthrough", "external"):
            yield f"the TPM is the host's ({backend.get('type')})"
    for device in root.findall("devices/input"):
        path = device.find("source")
        if path is not None and device.get("type") in ("passthrough", "evdev"):
            yield f"input device {path.get('evdev') or path.get('dev')} of the host is passed through"
    for lease in root.findall("devices/lease"):
        yield f"a lock manager's lease is held ({lease.findtext('key', '?')})"


def _memory(root: Element) -> Iterator[str]:
    for memory in root.findall("devices/memory"):
        path = memory.findtext("source/path")
        if path:
            yield f"{memory.get('model')} memory lies in the host's {path}"
    for shared in root.findall("devices/shmem"):
        yield f"memory {shared.get('name')!r} is shared with processes of the host (shmem)"
    for store in root.findall("devices/pstore"):
        yield f"crash storage lies in the host's {store.findtext('path', '?')}: not supported"


def _firmware(root: Element) -> Iterator[str]:
    nvram = root.find("os/nvram")
    if nvram is not None and nvram.get("type", "file") != "file":
        yield f"the UEFI variables lie on a {nvram.get('type')} device: not supported"
    for entry in root.findall("sysinfo/entry[@file]"):
        yield f"fw_cfg entry {entry.get('name')!r} is read from the host's {entry.get('file')}"


def _qemu_namespace(root: Element) -> Iterator[str]:
    for command in root.findall(f"{_QEMU}commandline"):
        words = [arg.get("value", "") for arg in command.findall(f"{_QEMU}arg")]
        words += [f"{env.get('name')}={env.get('value', '')}" for env in command.findall(f"{_QEMU}env")]
        if words:
            yield f"qemu:commandline may name files of the host ({' '.join(words)})"
