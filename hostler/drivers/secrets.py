"""Secrets of libvirt: what it keeps of the passwords and keys that disks need. They do not travel with a server."""

from __future__ import annotations

from typing import Any

import libvirt

from hostler.objects import Secret

#: What a secret may be used for, as definitions call it.
USES = {
    "volume": libvirt.VIR_SECRET_USAGE_TYPE_VOLUME,
    "ceph": libvirt.VIR_SECRET_USAGE_TYPE_CEPH,
    "iscsi": libvirt.VIR_SECRET_USAGE_TYPE_ISCSI,
    "tls": libvirt.VIR_SECRET_USAGE_TYPE_TLS,
    "vtpm": libvirt.VIR_SECRET_USAGE_TYPE_VTPM,
}
_NOT_THERE = (libvirt.VIR_ERR_NO_SECRET, libvirt.VIR_ERR_INVALID_ARG)


def problem(connection: Any, secret: Secret) -> str:
    """Return, as a sentence with what to type, why no guest of *connection*'s could use *secret*, or nothing."""
    found = _find(connection, secret)
    if found is None:
        return f"libvirt has no secret {secret.name}; virsh secret-define makes one"
    try:
        found.value()
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_SECRET:
            uuid = found.UUIDString()
            return f"libvirt's secret {secret.name} has no value; virsh secret-set-value {uuid} --file FILE sets it"
        if (
            error.get_error_code() != libvirt.VIR_ERR_INVALID_SECRET
        ):  # that is a private one: QEMU alone gets it
            raise
    return ""


def value(connection: Any, secret: Secret) -> bytes | None:
    """Return the value of *secret*; None if it is not there, has none, or is private to libvirt."""
    found = _find(connection, secret)
    try:
        return bytes(found.value()) if found is not None else None
    except libvirt.libvirtError as error:
        if error.get_error_code() not in (libvirt.VIR_ERR_NO_SECRET, libvirt.VIR_ERR_INVALID_SECRET):
            raise
        return None


def _find(connection: Any, secret: Secret) -> Any:
    try:
        if secret.uuid:
            return connection.secretLookupByUUIDString(secret.uuid)
        return connection.secretLookupByUsage(USES.get(secret.kind, 0), secret.usage or "")
    except libvirt.libvirtError as error:
        if error.get_error_code() not in _NOT_THERE:
            raise
        return None
