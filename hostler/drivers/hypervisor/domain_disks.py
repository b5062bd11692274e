"""Read the disks of libvirt's domain XML: those of the host, and those that QEMU opens by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from xml.etree.ElementTree import Element

from hostler.drivers.hypervisor import obstacles
from hostler.objects import Disk, Secret, Volume

#: Resolves (pool, volume) to the path of a regular file; None if that is not what it is.
VolumeResolver = Callable[[str, str], str | None]


def disks(root: Element, resolve: VolumeResolver | None) -> Iterator[Disk]:
    """Return the disks whose bytes lie in a file or on a block device of the host."""
    for disk in root.findall("devices/disk"):
        path = disk_path(disk, resolve)
        driver = disk.find("driver")
        if path is not None:
            yield Disk(
                target=obstacles.disk_name(disk),
                path=path,
                format=driver.get("type", "raw") if driver is not None else "raw",
                device=disk.get("device", "disk"),
                readonly=disk.find("readonly") is not None or disk.get("device") == "cdrom",
                shareable=disk.find("shareable") is not None,
                backing=list(_backing(disk)),
                block=disk.get("type") == "block",
                serial=_serial(disk),
                keys=keys_of(disk),
            )


def disk_path(disk: Element, resolve: VolumeResolver | None) -> str | None:
    """Return the file or block device that holds the bytes of a ``<disk>``; None if none does."""
    source = disk.find("source")
    if source is None:
        return None
    if disk.get("type") == "file":
        return source.get("file") or None
    if disk.get("type") == "block":
        return source.get("dev") or None
    if disk.get("type") == "volume" and resolve is not None:
        return resolve(source.get("pool", ""), source.get("volume", ""))
    return None


def _backing(disk: Element) -> Iterator[str]:
    store = disk.find("backingStore")
    while store is not None:
        source = store.find("source")
        if source is not None and source.get("file"):
            yield source.get("file", "")
        store = store.find("backingStore")


def volumes(root: Element) -> Iterator[Volume]:
    """Return the network disks."""
    for disk in root.findall("devices/disk[@type='network']"):
        source = disk.find("source")
        if source is None:
            continue
        auth, initiator, config = disk.find(".//auth"), source.find("initiator/iqn"), source.find("config")
        secret = next(secrets_of(auth), None) if auth is not None else None
        yield Volume(
            target=obstacles.disk_name(disk),
            protocol=source.get("protocol", ""),
            name=source.get("name", ""),
            hosts=[_address(host) for host in source.findall("host")],
            secret_uuid=secret.uuid if secret is not None else None,
            serial=_serial(disk),
            initiator=initiator.get("name") if initiator is not None else None,
            user=auth.get("username") if auth is not None else None,
            secret=secret,
            keys=keys_of(disk),
            config=config.get("file") if config is not None else None,
            shared=disk.find("readonly") is not None or disk.find("shareable") is not None,
        )


def keys_of(disk: Element) -> list[Secret]:
    """Return the secrets of libvirt without which an encrypted ``<disk>`` cannot be read."""
    return [key for store in disk.iter("encryption") for key in secrets_of(store)]


def secrets_of(holder: Element) -> Iterator[Secret]:
    """Return the secrets of libvirt that an ``<auth>`` or ``<encryption>`` names."""
    for secret in holder.findall("secret"):
        kind = secret.get("type", "")
        yield Secret("volume" if kind == "passphrase" else kind, secret.get("uuid"), secret.get("usage"))


def _serial(disk: Element) -> str | None:
    return (disk.findtext("serial") or "").strip() or None


def _address(host: Element) -> str:
    if host.get("socket"):
        return host.get("socket", "")
    name, port = host.get("name", ""), host.get("port", "")
    if port and ":" in name and not name.startswith("["):
        name = f"[{name}]"
    return f"{name}:{port}" if port else name
