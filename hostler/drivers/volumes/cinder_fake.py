"""A Cinder in memory, for tests: attachments, and its habit of believing in what was never connected."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from hostler.drivers.failures import Failures
from hostler.drivers.volumes.attachments import Attachment, BlockVolume
from hostler.errors import CloudServiceRefused, ServerUnreachable


@dataclass
class Stored:
    """A volume, and to which hosts its storage is open."""

    volume: BlockVolume
    protocol: str
    open_to: set[str]


class FakeVolumeService(Failures):
    """The :class:`~hostler.drivers.volumes.attachments.VolumeService` of a Cinder that is not there."""

    def __init__(self) -> None:
        super().__init__()
        self.volumes: dict[str, Stored] = {}
        self.refused: set[str] = set()  #: hosts to which its storage opens nothing

    def add_volume(self, protocol: str = "rbd", **facts: Any) -> str:
        """Make a volume; *facts*: of :class:`BlockVolume`."""
        made = BlockVolume(str(uuid.uuid4()), "available", **facts)
        self.volumes[made.id] = Stored(made, protocol, set())
        return made.id

    def attach(self, volume: str, server: str, host: str, device: str | None = None) -> str:
        """Attach it, as Nova does."""
        self.reserve(volume, server, None)
        made = self.volumes[volume].volume.attachments[-1].id
        self.connect(made, {"host": host, "mountpoint": device})
        self.complete(made)
        return made

    def lose_next(self, call: str, error: BaseException) -> None:
        """Let the next such change be made, and raise *error* then."""
        self.fail_next(f"{call} done", error)

    def volume(self, uuid: str) -> BlockVolume | None:
        """Return it; where it is attached is told of what is complete."""
        self._meet("volume")
        if (found := self.volumes.get(uuid)) is None:
            return None
        told = [
            one if one.status == "attached" else replace(one, host=None, device=None)
            for one in found.volume.attachments
        ]
        return replace(found.volume, attachments=told)

    def attachments_of(self, server: str) -> list[Attachment]:
        """Return them."""
        self._meet("attachments_of")
        every = (one for stored in self.volumes.values() for one in stored.volume.attachments)
        return [replace(one, host=None, device=None) for one in every if one.server == server]

    def reserve(self, uuid: str, server: str, mode: str | None) -> None:
        """Make an empty attachment, if it is nobody's, or the server's already, or for several."""
        self._meet("reserve")
        stored = self._stored(uuid)
        volume = stored.volume
        if volume.status != "available" and not (
            volume.status in ("in-use", "reserved") and (volume.of(server) or volume.multiattach)
        ):
            raise _refusal(f"400: Invalid volume: status must be available, but is {volume.status}")
        made = Attachment(new_id(), uuid, server, "reserved", mode)
        status = "reserved" if volume.status == "available" else volume.status
        stored.volume = replace(volume, status=status, attachments=[*volume.attachments, made])
        self._meet("reserve done")

    def connect(self, attachment: str, connector: Mapping[str, Any]) -> None:
        """Open it to a host, unless another attachment has one."""
        self._meet("connect")
        stored, host = self._of(attachment), connector["host"]
        others = stored.volume.attachments
        several = stored.volume.multiattach
        if not several and len(others) > 1 and any(one.connection for one in others):
            raise _refusal("409: Resource conflict: duplicate connectors detected")
        if host in self.refused:
            raise ServerUnreachable(what="Cinder", where="memory", reason=f"500: host {host} is refused")
        stored.open_to.add(host)
        mode = next(one.mode for one in others if one.id == attachment) or "rw"
        facts = {"host": host, "device": connector["mountpoint"], "connection": _connection(stored, host)}
        volume_status = "in-use" if several and _status(list(others)) == "in-use" else "attaching"
        self._change(stored, attachment, volume_status, status="attaching", mode=mode, **facts)
        self._meet("connect done")

    def complete(self, attachment: str) -> None:
        """Say that it is used, whatever it is."""
        self._meet("complete")
        self._change(self._of(attachment), attachment, "in-use", status="attached")
        self._meet("complete done")

    def drop(self, attachment: str) -> None:
        """Drop it, and close the volume to its host."""
        self._meet("drop")
        for stored in self.volumes.values():
            for one in stored.volume.attachments:
                if one.id == attachment:
                    left = [other for other in stored.volume.attachments if other.id != attachment]
                    if one.host not in {other.host for other in left}:
                        stored.open_to.discard(one.host or "")
                    stored.volume = replace(stored.volume, status=_status(left), attachments=left)
        self._meet("drop done")

    def _stored(self, uuid: str) -> Stored:
        if uuid not in self.volumes:
            raise _refusal(f"404: Volume {uuid} could not be found.")
        return self.volumes[uuid]

    def _of(self, attachment: str) -> Stored:
        for stored in self.volumes.values():
            if any(one.id == attachment for one in stored.volume.attachments):
                return stored
        raise _refusal(f"404: Volume attachment {attachment} could not be found")

    @staticmethod
    def _change(stored: Stored, attachment: str, volume_status: str, **facts: Any) -> None:
        changed = [
            replace(one, **facts) if one.id == attachment else one for one in stored.volume.attachments
        ]
        stored.volume = replace(stored.volume, status=volume_status, attachments=changed)


def new_id() -> str:
    """Return a UUID."""
    return str(uuid.uuid4())


def _refusal(reason: str) -> CloudServiceRefused:
    return CloudServiceRefused(service="Cinder", reason=reason)


def _status(attachments: list[Attachment]) -> str:
    """Return what a volume is by what it has left."""
    states = {one.status for one in attachments}
    if not states:
        return "available"
    return "in-use" if "attached" in states else ("attaching" if "attaching" in states else "reserved")


def _connection(stored: Stored, host: str) -> dict[str, Any]:
    name, kind = f"volume-{stored.volume.id}", {"driver_volume_type": stored.protocol}
    if stored.protocol == "iscsi":
        target = {"target_iqn": f"iqn.2010-10.org.openstack:{name}", "target_lun": 1 if host == "kvm1" else 2}
        return {**kind, **target, "target_portal": "10.0.0.2:3260"}
    if stored.protocol == "local":
        return {**kind, "device_path": f"/dev/{name}", "keyring_of_host": "hush"}
    return {**kind, "name": f"volumes/{name}", "hosts": ["10.0.0.1"], "ports": ["6789"]}
