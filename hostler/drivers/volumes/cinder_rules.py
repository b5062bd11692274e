"""Which volumes of Cinder's go along with their servers, and what QEMU opens of them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from hostler.drivers.volumes.attachments import Attachment, BlockVolume
from hostler.errors import HostlerError, VolumeNotMovable
from hostler.objects import Disk, Volume

#: Kinds of connection that QEMU opens by itself.
OPENED = ("rbd", "iscsi")

#: How QEMU calls itself to an iSCSI target, unless the definition has another name.
INITIATOR = "iqn.2008-11.org.linux-kvm"
#: How attachments are asked for on the command line.
CLIENT = "openstack --os-volume-api-version 3.27 volume attachment"

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def is_cinders(disk: Volume | Disk) -> bool:
    """Tell whether its serial number may be a volume's UUID."""
    return bool(disk.serial and _UUID.fullmatch(disk.serial))


def reasons(found: BlockVolume, instance: str, volume: Volume) -> dict[str, bool]:
    """Return what keeps a volume from being moved, and whether it holds."""
    mine, others = found.of(instance), {one.server or "no server" for one in found.attachments} - {instance}
    return {
        f"it is attached to {', '.join(sorted(others))}": bool(others) and not found.multiattach,
        "it is encrypted, and the definition has no <encryption> with a secret of libvirt: who has the host decrypt it"
        " has the key elsewhere": found.encrypted and not volume.keys,
        f"its status is {found.status!r}": found.status != "in-use",
        f"{len(mine)} attachments are the server's, where there should be one that is complete": (
            [one.status for one in mine] != ["attached"]
        ),
    }


def unusable(volume: Volume, own: Attachment) -> str:
    """Return why QEMU cannot open what Cinder says of an attachment, or nothing.

    What hosts connect is theirs to judge.
    """
    kind = own.connection.get("driver_volume_type")
    if not own.connection:
        return f"attachment {own.id} is {own.status}, and Cinder does not say how it is reached"
    if volume.path is not None:
        return ""
    if kind not in OPENED:
        return f"the definition lets QEMU open it by {volume.protocol}, and Cinder connects it to hosts by {kind}"
    if kind != volume.protocol:
        return f"the definition opens it by {volume.protocol}, and Cinder connects it by {kind}"
    if kind == "iscsi" and own.connection.get("auth_method"):
        return "its target wants a password of each host (CHAP): not supported yet"
    return ""


def opened(own: Attachment) -> tuple[str, list[str]]:
    """Return name and servers of what QEMU opens."""
    facts = own.connection
    if facts.get("driver_volume_type") == "iscsi":
        return f"{facts.get('target_iqn')}/{facts.get('target_lun')}", [str(facts.get("target_portal"))]
    return str(facts.get("name")), []


def reached(volume: Volume, there: Mapping[str, Any]) -> Volume:
    """Return *volume* as a host has it, whose journal says *there*: a path, or name and servers of what QEMU opens."""
    if "path" in there:
        return dataclasses.replace(volume, name=there["path"], path=there["path"])
    return dataclasses.replace(volume, name=there["name"], hosts=there["hosts"])


def qemus_connector(volume: Volume, instance: str, host: str, address: str, device: str) -> dict[str, Any]:
    """Return what Cinder's drivers ask of a host, as os-brick would say it of one whose QEMU opens the volume."""
    return {
        "host": host,
        "ip": address,
        "platform": "x86_64",
        "os_type": "linux",
        "multipath": False,
        "initiator": volume.initiator or f"{INITIATOR}:{instance}",
        "mountpoint": device,
    }


def unmovable(disk: Volume | Disk, host: str, reason: str, hint: str | None = None) -> HostlerError:
    """Return the refusal to move it to *host*; *hint*: what to type, if not to look at the volume."""
    facts = {"hint": hint} if hint else {}
    return VolumeNotMovable(volume=disk.serial, target=disk.target, host=host, reason=reason, **facts)
